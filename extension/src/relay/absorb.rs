//! Taking over captured changes: from the append-only log into the fields' states and the ledger.
//!
//! One call at a time takes over, in the order in which the changes of each row were made ([`backlog`] reads them so). A
//! change that commits late is simply taken over late: nobody else has changed its row meanwhile.

use super::rekey::rekey;
use crate::book::{Book, Fields, Lifecycle, Queue, Record};
use crate::catalog::{Catalog, Clock, Mapping};
use crate::privacy::Ignored;
use crate::relay::backlog::{self, Change};
use crate::{convert, spi};
use hubspot_sync_core::mapping::Direction;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Captured rows taken over in one go; with the rest of the last row's block.
pub const PAGE: i64 = 5_000;

/// Links for these keys, made where they are missing.
const LINKS: &str = r#"
WITH v AS (SELECT DISTINCT mapping_id, key FROM json_to_recordset($1::json) AS v (mapping_id int, key text)),
made AS (INSERT INTO hubspot.link (mapping_id, entity_key) SELECT mapping_id, key FROM v ORDER BY 1, 2
  ON CONFLICT (mapping_id, entity_key) DO NOTHING RETURNING id, mapping_id, entity_key)
SELECT json_agg(json_build_array(x.id, x.mapping_id, x.entity_key))::text FROM (
  SELECT id, mapping_id, entity_key FROM made
  UNION ALL SELECT l.id, l.mapping_id, l.entity_key FROM v JOIN hubspot.link l ON l.mapping_id = v.mapping_id AND l.entity_key = v.key) x"#;

/// Takes over `max` captured rows and those behind them in the same block; gives how many there were. Fewer than `max`: none
/// is left, not even marked records whose changes were shed.
pub fn absorb(max: i64) -> i64 {
    spi::run(
        "SELECT pg_advisory_xact_lock(1213418579, 12) WHERE $1::text IS NOT NULL",
        &json!({}),
    );
    let changes = backlog::take(max);
    let count = changes.len() as i64;
    let keys = changes
        .iter()
        .flat_map(|c| [&c.key, &c.old_key].map(|k| (c.mapping_id, k)));
    let mut ignored = Ignored::among(keys.filter_map(|(mapping, key)| Some((mapping, key.as_deref()?))));
    // A key change and a truncate rename and end links: what came before them must be settled first.
    let mut page = Vec::new();
    // Every partition of a truncated table says so.
    let mut truncated = BTreeSet::new();
    for change in changes {
        let (key, old_key) = (change.key.as_deref(), change.old_key.as_deref());
        if ignored.drops(change.mapping_id, &change.op, key, old_key, change.at_us) {
            continue;
        }
        if change.op != "T" {
            truncated.remove(&change.mapping_id);
        }
        match change.op.as_str() {
            "K" => {
                settle(std::mem::take(&mut page));
                if let (Some(old), Some(new)) = (&change.old_key, &change.key) {
                    rekey(change.mapping_id, old, new, change.at_us, (&change.actor, &change.app));
                }
                page.push(change);
            }
            "T" => {
                settle(std::mem::take(&mut page));
                if truncated.insert(change.mapping_id) {
                    truncate(change.mapping_id);
                }
            }
            _ => page.push(change),
        }
    }
    settle(page);
    // Marked records come after everything that was captured; what they give is captured behind it.
    if count < max && super::shed::take() > 0 {
        return max;
    }
    count
}

/// A truncated table: every record of the mapping is a deleted one. With partitions or children one of them may be meant:
/// then the records without a row are queued as deleted.
fn truncate(mapping_id: i32) {
    let tables = spi::call_text(
        "SELECT count(*)::text FROM hubspot.mapped_tables WHERE mapping_id = ($1::json->>'m')::int",
        &json!({"m": mapping_id}),
    );
    if tables.is_some_and(|n| n != "1") {
        if let Some(mapping) = Catalog::load().mappings.get(&mapping_id) {
            crate::mapping::look::vanished(mapping);
        }
        return;
    }
    let ids: Vec<i64> = spi::rows(
        "SELECT json_agg(id)::text FROM hubspot.link WHERE mapping_id = ($1::json->>'m')::int AND status <> 'deleted_here'",
        &json!({"m": mapping_id}),
    )
    .iter()
    .filter_map(Json::as_i64)
    .collect();
    let now = super::now_us();
    let mut catalog = Catalog::load();
    if let Some(mapping) = catalog.mappings.get(&mapping_id)
        && super::brake::count_truncated(mapping, &ids, now)
    {
        catalog = Catalog::load();
    }
    let mut book = Book::open(catalog, &ids, now);
    for record in book.records.values_mut() {
        deleted(record, "truncate", now);
    }
    book.flush();
}

fn settle(changes: Vec<Change>) {
    if changes.is_empty() {
        return;
    }
    let mut catalog = Catalog::load();
    let wanted: Vec<Json> = changes
        .iter()
        .filter(|c| catalog.mappings.contains_key(&c.mapping_id))
        .filter_map(|c| {
            c.key
                .as_ref()
                .map(|key| json!({"mapping_id": c.mapping_id, "key": key}))
        })
        .collect();
    let mut links: HashMap<(i32, String), i64> = HashMap::new();
    for row in spi::rows(LINKS, &Json::Array(wanted)) {
        if let (Some(id), Some(mapping), Some(key)) = (row[0].as_i64(), row[1].as_i64(), row[2].as_str()) {
            links.insert((mapping as i32, key.to_owned()), id);
        }
    }
    if super::brake::count(&catalog, &changes, &links) {
        catalog = Catalog::load();
    }
    let mut ids: Vec<i64> = links.values().copied().collect();
    ids.sort_unstable();
    let edits = changes
        .iter()
        .filter_map(|c| c.changes.as_ref())
        .map(Map::len)
        .sum::<usize>();
    let mut ledger = ledger_ids(edits);
    let now = super::now_us();
    let mut book = match changed_fields(&changes, &catalog) {
        Some(fields) => Book::open_for(catalog, &ids, &Fields::AtWork(&fields), now),
        None => Book::open(catalog, &ids, now),
    };
    let (clock, now) = (book.catalog.clock, book.now);
    for change in &changes {
        let Some(key) = &change.key else { continue };
        let Some(record) = links
            .get(&(change.mapping_id, key.clone()))
            .and_then(|id| book.records.get_mut(id))
        else {
            continue;
        };
        if change.op == "D" {
            deleted(record, change.actor.as_deref().unwrap_or(""), change.at_us);
            continue;
        }
        if record.row_is_gone() || (record.status == "parked" && record.hubspot_id.is_none()) {
            came_back(record, clock, now);
        }
        // A first load does not keep edits that somebody waits for.
        record.background |= change.op == "F";
        let mapping = record.mapping.clone();
        if matches!(change.op.as_str(), "I" | "F") {
            know_all_fields(record, &mapping, change.at_us);
        }
        let emptied = if matches!(change.op.as_str(), "I" | "F") {
            emptied(record, change.changes.as_ref())
        } else {
            Map::new()
        };
        for (name, pair) in change.changes.iter().flatten().chain(&emptied) {
            let Some(field) = mapping.field(name).cloned() else {
                continue;
            };
            if field.sync_direction == Direction::None {
                continue;
            }
            let value = convert::from_warp(&field, pair[1].as_str());
            let before = convert::from_warp(&field, pair[0].as_str());
            let edit = ledger.pop().or_else(|| ledger_ids(1).pop());
            record.log(
                Some(&field),
                "WARP",
                "edit",
                json!({"id": edit, "warp_value": value.as_deref(), "edited_us": change.at_us, "actor": change.actor,
                       "application_name": change.app, "detail": match change.op.as_str() { "I" => "insert", "F" => "first sync", _ => "update" }}),
            );
            let known = record.fields.contains_key(&field.id);
            record.event(&field, clock, now, |state, policy, out| {
                if !known {
                    // First heard of through an update: what the row held before is where it starts.
                    *state = hubspot_sync_core::field::FieldState::new(before, 0);
                }
                state.local_edit(policy, value, change.at_us, edit, out);
            });
            let entry = record.entry(&field);
            entry.loaded_row = entry.state.row.clone();
        }
    }
    book.flush();
}

/// The fields that these changes are about; none when one of them is about a whole row.
fn changed_fields(changes: &[Change], catalog: &Catalog) -> Option<Vec<i64>> {
    let mut ids = BTreeSet::new();
    for change in changes {
        if !matches!(change.op.as_str(), "U" | "K") {
            return None;
        }
        let Some(mapping) = catalog.mappings.get(&change.mapping_id) else {
            continue;
        };
        let names = change.changes.iter().flat_map(Map::keys);
        ids.extend(names.filter_map(|name| mapping.field(name)).map(|f| i64::from(f.id)));
    }
    Some(ids.into_iter().collect())
}

/// A new row's fields all have a state, also those that are null and therefore not among the changes.
fn know_all_fields(record: &mut Record, mapping: &Mapping, at_us: i64) {
    for field in mapping.fields.iter().filter(|f| f.sync_direction != Direction::None) {
        let entry = record.entry(field);
        if entry.state.edited_at == 0 {
            entry.state.edited_at = at_us;
        }
    }
}

/// A row that came back under a known key tells of its filled fields only: those it used to fill and does not any more.
fn emptied(record: &Record, filled: Option<&Map<String, Json>>) -> Map<String, Json> {
    record
        .fields
        .values()
        .filter(|e| !e.state.row.is_null() && filled.is_none_or(|f| !f.contains_key(&e.field.field)))
        .map(|e| (e.field.field.clone(), json!([e.state.row.as_deref(), null])))
        .collect()
}

/// The key came back, or what kept the record from being found may have been mended: it is met anew. An archive that is not
/// under way yet is not asked for any more; one that is done needs another record.
fn came_back(record: &mut Record, clock: Clock, now: i64) {
    if record.lifecycle == Some(Lifecycle::Archived) {
        record.start_anew(clock, now, "the row came back after its record was archived");
        return;
    }
    record.status = if record.hubspot_id.is_some() {
        "linked".into()
    } else {
        "new".into()
    };
    record.contacted = false;
    record.message = None;
    if record.lifecycle != Some(Lifecycle::Archiving) {
        record.set_lifecycle(None);
    }
    record.touch_link();
}

/// The row was deleted: nothing of it is sent any more, and the waiting edits end. Its record is archived when the mapping
/// says so, and both sides were compared once: what nobody here ever knew is not ours to delete.
fn deleted(record: &mut Record, actor: &str, at_us: i64) {
    record.log(None, "WARP", "deleted", json!({"actor": actor, "edited_us": at_us}));
    let flying = record.fields.values().any(|e| e.state.in_flight.is_some());
    let known = record.contacted || record.fields.values().any(|e| e.state.base.is_some());
    let archives = record.mapping.on_local_delete == "archive";
    let creating = archives && record.status == "new" && flying;
    let next = match record.status.as_str() {
        "deleted_here" => record.lifecycle,
        "deleted_there" | "missing" => Some(Lifecycle::Archived),
        _ if record.lifecycle == Some(Lifecycle::Archiving) => record.lifecycle,
        "linked" if archives && known => Some(Lifecycle::Archive),
        _ if creating => Some(Lifecycle::Archive),
        _ => None,
    };
    record.status = "deleted_here".into();
    record.message = None;
    record.deleted_at = at_us;
    record.set_lifecycle(next);
    for field in record.known_fields() {
        record.event(&field, Clock::default(), 0, |state, _, out| state.abandon(out));
    }
    // A claim under way goes on: its answer may tell which record is to be archived.
    record.queue = if record.needs_delivery() {
        Queue::Offer
    } else {
        Queue::Finish
    };
}

/// Ids for ledger entries, ascending when popped.
fn ledger_ids(count: usize) -> Vec<i64> {
    if count == 0 {
        return Vec::new();
    }
    let mut ids: BTreeMap<i64, ()> = BTreeMap::new();
    for id in spi::rows(
        "SELECT json_agg(nextval(s.sequence))::text FROM (SELECT pg_get_serial_sequence('hubspot.sync_log', 'id')::regclass AS sequence) s,
           generate_series(1, ($1::json->>'n')::int)",
        &json!({"n": count}),
    ) {
        if let Some(id) = id.as_i64() {
            ids.insert(id, ());
        }
    }
    ids.into_keys().rev().collect()
}
