//! HubSpot's side: records that no row is linked to.

use super::Listed;
use super::run::{Finding, Run};
use crate::book::{Book, Queue};
use crate::catalog::{Catalog, Mapping};
use crate::relay::{now_us, one_at_a_time};
use crate::{convert, spi};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

const LINKED: &str = r#"
SELECT json_agg(l.hubspot_id)::text FROM hubspot.link l WHERE l.mapping_id = ($1::json->>'mapping')::int
  AND l.hubspot_id IN (SELECT json_array_elements_text($1::json->'ids'))"#;

/// Rows without a HubSpot id whose match value is one of these.
const UNLINKED: &str = r#"
SELECT json_agg(json_build_object('link', l.id, 'key', l.entity_key, 'status', l.status, 'value', s.row_value))::text
FROM hubspot.link l JOIN hubspot.sync_state s ON s.link_id = l.id AND s.field_id = ($1::json->>'field')::int
WHERE l.mapping_id = ($1::json->>'mapping')::int AND l.hubspot_id IS NULL AND l.status IN ('new', 'parked')
  AND s.row_value IN (SELECT json_array_elements_text($1::json->'values'))"#;

/// What the relay is to list.
pub fn request(mapping: &Mapping, after: Option<String>) -> Json {
    let properties: Vec<&String> = mapping.match_property.iter().collect();
    json!({"object_type": mapping.hubspot_object, "after": after, "properties": properties})
}

/// Finds the records among `listed` that no row is linked to.
pub fn take(run: &mut Run, mapping: &Rc<Mapping>, listed: &[Listed]) {
    let ids: Vec<&str> = listed.iter().map(|l| l.hubspot_id.as_str()).collect();
    let linked: BTreeSet<String> = spi::rows(LINKED, &json!({"mapping": mapping.id, "ids": ids}))
        .iter()
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect();
    let strangers: Vec<&Listed> = listed.iter().filter(|l| !linked.contains(&l.hubspot_id)).collect();
    let rows = matching_rows(mapping, &strangers);
    let mut again = Vec::new();
    for stranger in strangers {
        let mut finding = Finding {
            hubspot_id: Some(stranger.hubspot_id.clone()),
            kind: "missing_here",
            action: "reported",
            ..Finding::default()
        };
        if let Some(row) = match_value(mapping, stranger).and_then(|value| rows.get(&value)) {
            finding.entity_key = row["key"].as_str().map(str::to_owned);
            finding.kind = "unlinked";
            finding.action = "compared_again";
            again.extend(row["link"].as_i64());
        }
        run.find(finding);
    }
    if !run.dry_run && !again.is_empty() {
        meet_again(&again);
    }
}

/// The record's match value as the rows hold it.
fn match_value(mapping: &Mapping, listed: &Listed) -> Option<String> {
    let field = mapping.match_field.as_deref().and_then(|name| mapping.field(name))?;
    let text = listed.properties.get(mapping.match_property.as_ref()?)?.as_str();
    let value = convert::from_hubspot(field, text).ok()?;
    value.as_deref().map(str::to_owned)
}

fn matching_rows(mapping: &Mapping, strangers: &[&Listed]) -> BTreeMap<String, Json> {
    let Some(field) = mapping.match_field.as_deref().and_then(|name| mapping.field(name)) else {
        return BTreeMap::new();
    };
    let values: Vec<String> = strangers.iter().filter_map(|l| match_value(mapping, l)).collect();
    if values.is_empty() {
        return BTreeMap::new();
    }
    spi::rows(
        UNLINKED,
        &json!({"mapping": mapping.id, "field": field.id, "values": values}),
    )
    .into_iter()
    .filter_map(|row| Some((row["value"].as_str()?.to_owned(), row)))
    .collect()
}

/// Rows that were parked because HubSpot had no record for them: it has one now.
fn meet_again(links: &[i64]) {
    one_at_a_time();
    let mut book = Book::open(Catalog::load(), links, now_us());
    for record in book
        .records
        .values_mut()
        .filter(|r| r.status == "parked" && r.hubspot_id.is_none())
    {
        record.status = "new".into();
        record.message = None;
        record.touch_link();
        record.queue = Queue::Offer;
    }
    book.flush();
}
