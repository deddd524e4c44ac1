//! Records that HubSpot says were modified in a window of time: how a run finds what webhooks did not tell, without reading
//! everything.
//!
//! HubSpot's search shows the first 10,000 results only, and more records than that may share one instant. So the window
//! stands still while the run lasts, and the pages go through it in order of the records' ids. Its index lags, so windows
//! overlap, and what it shows is only taken to say which records have to be read: a record that equals what is recorded
//! is left alone.

use super::Listed;
use super::linked;
use super::run::Run;
use crate::catalog::Mapping;
use crate::relay::decide::Observation;
use crate::spi;
use hubspot_sync_core::mapping::Direction;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::rc::Rc;

const LINKS: &str = r#"
SELECT json_agg(json_build_array(l.id, l.hubspot_id))::text FROM hubspot.link l WHERE l.mapping_id = ($1::json->>'mapping')::int
  AND l.hubspot_id IN (SELECT json_array_elements_text($1::json->'ids')) AND l.status IN ('linked', 'missing', 'deleted_there')"#;

/// What the relay is to search.
pub fn request(run: &Run, mapping: &Mapping, after: &str) -> Json {
    // Contacts alone have the older name.
    let modified = match mapping.hubspot_object.as_str() {
        "contacts" | "0-1" => "lastmodifieddate",
        _ => "hs_lastmodifieddate",
    };
    let properties: Vec<&String> = mapping
        .fields
        .iter()
        .filter(|f| f.sync_direction != Direction::None)
        .map(|f| &f.hubspot_property)
        .collect();
    json!({"object_type": mapping.hubspot_object, "modified_property": modified, "from_ms": run.window_from_us / 1000,
           "to_ms": run.window_to_us / 1000, "after": after, "properties": properties})
}

/// The records among `listed` that have to be read.
pub fn compare(run: &Run, mapping: &Rc<Mapping>, listed: &[Listed]) -> Vec<i64> {
    let ids: Vec<&str> = listed.iter().map(|l| l.hubspot_id.as_str()).collect();
    let links: BTreeMap<String, i64> = spi::rows(LINKS, &json!({"mapping": mapping.id, "ids": ids}))
        .iter()
        .filter_map(|row| Some((row[1].as_str()?.to_owned(), row[0].as_i64()?)))
        .collect();
    let seen: Vec<Observation> = listed
        .iter()
        .filter_map(|l| {
            Some(Observation {
                claim: links.get(&l.hubspot_id)?.to_string(),
                token: 0,
                found: Some(true),
                hubspot_id: Some(l.hubspot_id.clone()),
                read_at_ms: 0,
                updated_at_ms: None,
                properties: l.properties.clone(),
                versions: None,
            })
        })
        .collect();
    linked::differing(run, &seen)
}
