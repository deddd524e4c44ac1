//! Records whose changes were shed (`capture/shed.rs`): their rows are read again and compared with what is recorded.

use crate::book::read_rows;
use crate::catalog::{Catalog, Mapping};
use crate::mapping::{look, scan};
use crate::spi;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// Marks taken in one go.
const PAGE: i64 = 1_000;

/// Marks of transactions that have not ended are locked by these, and left.
const TAKE: &str = r#"
WITH taken AS (
  DELETE FROM hubspot.capture_shed s WHERE s.ctid = ANY (ARRAY(
    SELECT x.ctid FROM hubspot.capture_shed x LIMIT ($1::json->>'max')::int FOR UPDATE SKIP LOCKED))
  RETURNING s.mapping_id, s.entity_key, s.since)
SELECT json_agg(x)::text FROM (SELECT mapping_id, entity_key AS key, min(since) AS since FROM taken GROUP BY 1, 2) x"#;

const PUT_BACK: &str = r#"
INSERT INTO hubspot.capture_shed (mapping_id, entity_key, since)
SELECT v.mapping_id, v.key, v.since FROM json_to_recordset($1::json) AS v (mapping_id int, key text, since timestamptz)"#;

#[derive(Deserialize)]
struct Mark {
    mapping_id: i32,
    key: String,
    since: Json,
}

/// Queues what differs between marked rows and what is recorded of them, behind everything that was captured; gives how
/// many marks were taken away. The caller holds the relay's lock and has taken over what was captured.
///
/// A row is locked while it is compared: a change of it made later is then captured later, too. A row that somebody else
/// has locked keeps its mark.
pub fn take() -> i64 {
    let marks: Vec<Mark> = spi::rows(TAKE, &json!({"max": PAGE}))
        .into_iter()
        .filter_map(|mark| serde_json::from_value(mark).ok())
        .collect();
    if marks.is_empty() {
        return 0;
    }
    let mut taken = marks.len();
    let mut by_mapping: BTreeMap<i32, Vec<Mark>> = BTreeMap::new();
    for mark in marks {
        by_mapping.entry(mark.mapping_id).or_default().push(mark);
    }
    let catalog = Catalog::load();
    for (id, marks) in by_mapping {
        // Of a mapping that is gone nothing is sent.
        if let Some(mapping) = catalog.mappings.get(&id) {
            let busy = compare(mapping, &marks);
            taken -= busy.len();
            if !busy.is_empty() {
                spi::run(PUT_BACK, &Json::Array(busy));
            }
        }
    }
    i64::try_from(taken).unwrap_or(i64::MAX)
}

/// Queues a mapping's changes; gives the marks to put back.
fn compare(mapping: &Mapping, marks: &[Mark]) -> Vec<Json> {
    let fields = scan::captured_fields(mapping);
    let keys: Vec<&str> = marks.iter().map(|mark| mark.key.as_str()).collect();
    let rows = read_rows(mapping, &keys, &fields, true);
    let absent: Vec<&str> = keys.iter().copied().filter(|key| !rows.contains_key(*key)).collect();
    let locked = read_rows(mapping, &absent, &[], false);
    let page: Vec<scan::Row> = rows
        .into_iter()
        .map(|(key, texts)| scan::Row {
            key,
            at: Json::Null,
            texts: fields
                .iter()
                .map(|f| (f.field.clone(), json!(texts.get(&f.id).and_then(Option::as_ref))))
                .collect::<Map<_, _>>(),
        })
        .collect();
    let gone: Vec<&str> = absent
        .iter()
        .copied()
        .filter(|key| !locked.contains_key(*key))
        .collect();
    let since: BTreeMap<&str, &Json> = marks.iter().map(|mark| (mark.key.as_str(), &mark.since)).collect();
    let mut queued = look::changed(mapping, &fields, &page);
    queued.extend(
        look::known_among(mapping, &gone)
            .into_iter()
            .map(|key| json!({"op": "D", "key": key})),
    );
    for change in &mut queued {
        // A row that was not known was inserted meanwhile: it was not there before the mapping.
        if change["op"] == "F" {
            change["op"] = json!("I");
        }
        change["at"] = change["key"]
            .as_str()
            .and_then(|key| since.get(key))
            .map_or(Json::Null, |at| (*at).clone());
    }
    scan::store(mapping.id, &queued, "past the capture limit");
    marks
        .iter()
        .filter(|mark| locked.contains_key(&mark.key))
        .map(|mark| json!({"mapping_id": mapping.id, "key": mark.key, "since": mark.since}))
        .collect()
}
