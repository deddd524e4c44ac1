//! Looking at all rows of a mapping for what was not captured: rows that were there before the mapping, and what changed
//! while nothing was captured (a disabled mapping, a trigger switched off, replica role, values rewritten by DDL).
//!
//! Set-based: a page of rows is read by one statement and compared with what is recorded of them, which another one reads.
//! What differs goes where captured changes wait:
//!
//! | row | record | queued as |
//! | --- | --- | --- |
//! | there | not known | `F`, a first sync |
//! | there | deleted here | `I`: it is met anew |
//! | there | known, some field differs | `U` with these fields, edited now: when is not known |
//! | not there | known | `D` |
//!
//! The relay's calls write rows and their records in one transaction, under one lock; whoever looks at rows that have
//! records holds that lock too, so a row and its record are always of one moment.

use super::first_sync::filled;
use super::scan::{self, PAGE, Row, Scan};
use crate::book::read_rows;
use crate::catalog::{Catalog, Field, Mapping};
use crate::{convert, relay, spi};
use hubspot_sync_core::value::Value;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Pages of one call of `hubspot.relay_look_again`, so that other calls are not kept waiting for long.
const PAGES_PER_CALL: usize = 10;

/// What is recorded of a row.
#[derive(Deserialize)]
struct Known {
    key: String,
    status: String,
    /// The fields' values by field id.
    values: Option<HashMap<i32, Value>>,
}

const KNOWN: &str = r#"
SELECT json_agg(x.known)::text FROM (SELECT json_build_object('key', l.entity_key, 'status', l.status,
  'values', (SELECT json_object_agg(s.field_id, s.row_value) FROM hubspot.sync_state s WHERE s.link_id = l.id)) AS known
FROM hubspot.link l WHERE l.mapping_id = ($1::json->>'id')::int
  AND l.entity_key IN (SELECT json_array_elements_text($1::json->'keys'))
UNION ALL SELECT json_build_object('key', k, 'status', 'forgotten', 'values', NULL)
FROM json_array_elements_text($1::json->'keys') k
JOIN hubspot.forgotten f ON f.ignoring AND f.key_digest = sha256(convert_to(k, 'UTF8'))
JOIN hubspot.object_mapping m ON m.entity_type = f.entity_type AND m.id = ($1::json->>'id')::int) x"#;

const LINKS: &str = r#"
SELECT json_agg(json_build_array(x.id, x.entity_key))::text FROM (SELECT l.id, l.entity_key FROM hubspot.link l
  WHERE l.mapping_id = ($1::json->>'id')::int AND l.status <> 'deleted_here' AND l.id > ($1::json->>'after')::bigint
  ORDER BY l.id LIMIT ($1::json->>'max')::int) x"#;

/// Compares every row; gives how many were queued. The caller holds the relay's lock when the mapping has records.
pub fn whole(mapping: &Mapping) -> usize {
    let fields = scan::captured_fields(mapping);
    let mut scan = Scan::after(mapping, &fields, Json::Null);
    let mut total = 0;
    while !scan.finished {
        total += compare(mapping, &fields, &scan.page());
    }
    total + vanished(mapping)
}

/// Whether anything is recorded of the mapping's rows.
pub fn has_records(mapping_id: i32) -> bool {
    spi::call_text(
        "SELECT 'yes' FROM hubspot.link WHERE mapping_id = ($1::json->>'id')::int LIMIT 1",
        &json!({"id": mapping_id}),
    )
    .is_some()
}

/// Goes on with the mappings whose `look_from` asks for it, a stretch of each table; gives how many rows were queued.
pub fn continue_all() -> i64 {
    let wanted = "SELECT json_agg(json_build_array(id, look_from))::text FROM hubspot.object_mapping
                  WHERE enabled AND look_from IS NOT NULL AND $1::text IS NOT NULL";
    if spi::rows(wanted, &json!({})).is_empty() {
        return 0;
    }
    relay::one_at_a_time();
    relay::absorb_all();
    let catalog = Catalog::load();
    let mut total = 0;
    for row in spi::rows(wanted, &json!({})) {
        let id = row[0].as_i64().and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
        let Some(mapping) = catalog.mappings.get(&id) else {
            continue;
        };
        let fields = scan::captured_fields(mapping);
        let mut scan = Scan::after(mapping, &fields, row[1].clone());
        for _ in 0..PAGES_PER_CALL {
            total += compare(mapping, &fields, &scan.page());
        }
        let next = if scan.finished { Json::Null } else { scan.last };
        // Somebody who asked anew meanwhile is not forgotten.
        spi::run(
            "UPDATE hubspot.object_mapping SET look_from = nullif($1::jsonb->'next', 'null')
             WHERE id = ($1::jsonb->>'id')::int AND look_from = $1::jsonb->'was'",
            &json!({"id": id, "next": next, "was": row[1]}),
        );
    }
    i64::try_from(total).unwrap_or(i64::MAX)
}

/// Queues the rows of a page that differ from what is recorded.
fn compare(mapping: &Mapping, fields: &[Rc<Field>], page: &[Row]) -> usize {
    let (queued, first) = compared(mapping, fields, page);
    scan::store(
        mapping.id,
        &queued,
        if first { "first sync" } else { "found without capture" },
    );
    queued.len()
}

/// The rows of a page that differ from what is recorded, but for those with a captured change that waits, as [`scan::store`]
/// takes them. The caller holds the relay's lock and has taken over what was captured.
pub fn differences(mapping: &Mapping, fields: &[Rc<Field>], page: &[Row]) -> Vec<Json> {
    without_captured(mapping.id, compared(mapping, fields, page).0)
}

/// The rows of a page that differ from what is recorded. The caller holds the relay's lock, has taken over what was captured,
/// and has locked the rows.
pub fn changed(mapping: &Mapping, fields: &[Rc<Field>], page: &[Row]) -> Vec<Json> {
    compared(mapping, fields, page).0
}

/// Those of these keys that are recorded and not yet known to be deleted.
pub fn known_among(mapping: &Mapping, keys: &[&str]) -> Vec<String> {
    if keys.is_empty() {
        return Vec::new();
    }
    spi::rows(
        r#"SELECT json_agg(l.entity_key)::text FROM hubspot.link l WHERE l.mapping_id = ($1::json->>'id')::int AND l.status <> 'deleted_here'
           AND l.entity_key IN (SELECT json_array_elements_text($1::json->'keys'))"#,
        &json!({"id": mapping.id, "keys": keys}),
    )
    .iter()
    .filter_map(|key| key.as_str().map(str::to_owned))
    .collect()
}

/// The rows of a page that differ from what is recorded, and whether none of the page's rows was known. What was captured and
/// waits is no reason to leave a row out: other fields of it may have changed while nothing was captured.
fn compared(mapping: &Mapping, fields: &[Rc<Field>], page: &[Row]) -> (Vec<Json>, bool) {
    let keys: Vec<&str> = page.iter().map(|row| row.key.as_str()).collect();
    if keys.is_empty() {
        return (Vec::new(), false);
    }
    let known: HashMap<String, Known> = spi::rows(KNOWN, &json!({"id": mapping.id, "keys": keys}))
        .into_iter()
        .filter_map(|row| serde_json::from_value::<Known>(row).ok())
        .map(|known| (known.key.clone(), known))
        .collect();
    let queued: Vec<Json> = page
        .iter()
        .filter_map(|row| match known.get(&row.key) {
            None => Some(json!({"op": "F", "key": row.key, "changes": filled(&row.texts), "at": row.at})),
            // The application may keep the row of a record that was forgotten: nothing is taken of it.
            Some(known) if known.status == "forgotten" => None,
            Some(known) if known.status == "deleted_here" => {
                Some(json!({"op": "I", "key": row.key, "changes": filled(&row.texts), "at": null}))
            }
            Some(known) => {
                let changes = differing(fields, row, known);
                (!changes.is_empty()).then(|| json!({"op": "U", "key": row.key, "changes": changes, "at": null}))
            }
        })
        .collect();
    (queued, known.is_empty())
}

/// Leaves out the rows that have a captured change waiting: it was committed after what was captured was taken over.
fn without_captured(mapping_id: i32, queued: Vec<Json>) -> Vec<Json> {
    if queued.is_empty() {
        return queued;
    }
    let keys: Vec<&Json> = queued.iter().map(|change| &change["key"]).collect();
    let waiting: HashSet<String> = spi::rows(
        r#"SELECT json_agg(DISTINCT k)::text FROM hubspot.capture c CROSS JOIN LATERAL (VALUES (c.entity_key), (c.old_key)) AS v (k)
           WHERE c.mapping_id = ($1::json->>'id')::int AND k IN (SELECT json_array_elements_text($1::json->'keys'))"#,
        &json!({"id": mapping_id, "keys": keys}),
    )
    .iter()
    .filter_map(|key| key.as_str().map(str::to_owned))
    .collect();
    let mut queued = queued;
    queued.retain(|change| change["key"].as_str().is_none_or(|key| !waiting.contains(key)));
    queued
}

fn differing(fields: &[Rc<Field>], row: &Row, known: &Known) -> Map<String, Json> {
    let mut changes = Map::new();
    for field in fields {
        let text = row.texts.get(&field.field).and_then(Json::as_str);
        let now = convert::from_warp(field, text);
        let before = known.values.as_ref().and_then(|values| values.get(&field.id));
        let same = before.map_or(now.is_null(), |before| *before == now);
        if !same {
            let before = before.and_then(Value::as_deref);
            changes.insert(field.field.clone(), json!([before, text]));
        }
    }
    changes
}

/// Queues the deletion of records whose rows are gone.
pub fn vanished(mapping: &Mapping) -> usize {
    let (mut after, mut total) = (Some(0), 0);
    while let Some(from) = after {
        let (gone, next) = vanished_page(mapping, from);
        total += gone.len();
        scan::store(mapping.id, &gone, "found without capture");
        after = next;
    }
    total
}

/// The deletions of gone rows among a page of records after the link `after`, but for those captured, and where the next page
/// begins, if there is one.
pub fn vanished_after(mapping: &Mapping, after: i64) -> (Vec<Json>, Option<i64>) {
    let (gone, next) = vanished_page(mapping, after);
    (without_captured(mapping.id, gone), next)
}

fn vanished_page(mapping: &Mapping, after: i64) -> (Vec<Json>, Option<i64>) {
    let links = spi::rows(LINKS, &json!({"id": mapping.id, "after": after, "max": PAGE}));
    let Some(last) = links.last().and_then(|link| link[0].as_i64()) else {
        return (Vec::new(), None);
    };
    let keys: Vec<&str> = links.iter().filter_map(|link| link[1].as_str()).collect();
    let there = read_rows(mapping, &keys, &[], false);
    let gone: Vec<Json> = keys
        .iter()
        .filter(|key| !there.contains_key(**key))
        .map(|key| json!({"op": "D", "key": key}))
        .collect();
    (gone, Some(last))
}
