//! Linked records: what HubSpot holds against what is recorded of the rows.
//!
//! First without locks: most records are equal and are not touched at all. What differs is looked at once more under the
//! lock that all changes of states take, and set right there. What changed since the page was handed out, has something on
//! its way or an event that waits to be applied is left alone: it takes care of itself.

use super::run::{Finding, Run};
use crate::book::{Book, Entry, Record, Written, read_rows};
use crate::catalog::{Catalog, Clock, Field, Mapping};
use crate::relay::decide::{Observation, remember};
use crate::relay::{absorb_all, collision, now_us, one_at_a_time, refused_by_table};
use crate::{convert, sensitive, spi};
use hubspot_sync_core::field::{Comparison, FieldState, Found, Version};
use hubspot_sync_core::mapping::Direction;
use hubspot_sync_core::value::Value;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Records of a page: four full batch reads.
const PAGE: i64 = 400;
/// HubSpot may deny knowing a record for a moment after it was created.
const YOUNG_SECONDS: i64 = 60;

const AFTER: &str = r#"
SELECT json_agg(json_build_array(x.id, x.entity_key, x.status))::text FROM (SELECT l.id, l.entity_key, l.status FROM hubspot.link l
  WHERE l.mapping_id = ($1::json->>'mapping')::int AND l.id > ($1::json->>'after')::bigint
    AND (l.hubspot_id IS NOT NULL AND l.status IN ('linked', 'missing', 'deleted_there') OR l.status = 'parked')
  ORDER BY l.id LIMIT ($1::json->>'max')::int) x"#;

const IDS: &str = r#"
SELECT json_agg(json_build_array(l.id, l.hubspot_id) ORDER BY l.id)::text FROM hubspot.link l
WHERE l.id IN (SELECT e::bigint FROM json_array_elements_text($1::json) e) AND l.hubspot_id IS NOT NULL"#;

/// Of these records, those with an event that waits to be applied.
pub const BUSY: &str = r#"
SELECT json_agg(l.id)::text FROM hubspot.link l JOIN hubspot.object_mapping m ON m.id = l.mapping_id
WHERE l.id IN (SELECT e::bigint FROM json_array_elements_text($1::json) e)
  AND EXISTS (SELECT 1 FROM hubspot.webhook_events e WHERE e.hubspot_object = m.hubspot_object AND e.hubspot_id = l.hubspot_id
              AND e.status IN ('pending', 'waiting'))"#;

const YOUNG: &str = r#"
SELECT json_agg(l.id)::text FROM hubspot.link l WHERE l.id IN (SELECT e::bigint FROM json_array_elements_text($1::json->'ids') e)
  AND coalesce(l.linked_at, l.created_at) > clock_timestamp() - ($1::json->>'seconds')::int * interval '1 second'"#;

/// The next page's records. Parked rows among them are reported at once: there is nothing to read of them.
pub fn after(run: &mut Run, mapping: &Mapping, mut after: i64) -> Vec<i64> {
    loop {
        let rows = spi::rows(AFTER, &json!({"mapping": mapping.id, "after": after, "max": PAGE}));
        let Some(last) = rows.last().and_then(|row| row[0].as_i64()) else {
            return Vec::new();
        };
        let (parked, ids): (Vec<&Json>, Vec<&Json>) = rows.iter().partition(|row| row[2] == "parked");
        for row in parked {
            run.find(Finding {
                entity_key: row[1].as_str().map(str::to_owned),
                kind: "unlinked",
                action: "waits_for_person",
                ..Finding::default()
            });
        }
        let ids: Vec<i64> = ids.iter().filter_map(|row| row[0].as_i64()).collect();
        if !ids.is_empty() {
            return ids;
        }
        after = last;
    }
}

/// These records as the relay reads them.
pub fn claims(mapping: &Mapping, ids: &[i64], read: &str) -> Vec<Json> {
    let properties: Vec<&String> = mapping
        .fields
        .iter()
        .filter(|f| f.sync_direction != Direction::None)
        .map(|f| &f.hubspot_property)
        .collect();
    spi::rows(IDS, &json!(ids))
        .iter()
        .map(|row| {
            json!({"claim": row[0].to_string(), "token": 0, "attempt": 1, "object_type": mapping.hubspot_object,
                   "operation": "sync", "hubspot_id": row[1], "match": null, "read": read, "properties": properties})
        })
        .collect()
}

/// What to do about a record after a first look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Fine,
    History,
    Settle,
}

/// Compares what was read and sets right what differs; gives the records whose history has to be read first.
pub fn compare(run: &mut Run, seen: &[Observation]) -> Vec<i64> {
    let by_link: BTreeMap<i64, &Observation> = seen.iter().filter_map(|o| Some((o.claim.parse().ok()?, o))).collect();
    let ids: Vec<i64> = by_link.keys().copied().collect();
    let book = Book::peek(Catalog::load(), &ids, now_us());
    let busy = among(BUSY, &json!(ids));
    let (mut settle, mut history) = (BTreeMap::new(), Vec::new());
    for (id, record) in book.records.iter().filter(|(id, _)| !busy.contains(id)) {
        let Some(observation) = by_link.get(id) else { continue };
        match look(run, record, observation) {
            Look::Fine => {}
            Look::History => history.push(*id),
            Look::Settle => {
                settle.insert(*id, *observation);
            }
        }
    }
    if !settle.is_empty() {
        set_right(run, &settle);
    }
    history
}

/// The records that differ from what is recorded of them, or were not shown whole.
pub fn differing(run: &Run, seen: &[Observation]) -> Vec<i64> {
    let ids: Vec<i64> = seen.iter().filter_map(|o| o.claim.parse().ok()).collect();
    let book = Book::peek(Catalog::load(), &ids, now_us());
    let busy = among(BUSY, &json!(ids));
    seen.iter()
        .filter_map(|o| Some((o.claim.parse().ok()?, o)))
        .filter(|(id, _)| !busy.contains(id))
        .filter(|(id, o)| {
            let record = book.records.get(id);
            record.is_some_and(|record| o.properties.is_empty() || look(run, record, o) != Look::Fine)
        })
        .map(|(id, _)| id)
        .collect()
}

/// The ids that a statement gives.
pub fn among(sql: &str, arg: &Json) -> BTreeSet<i64> {
    spi::rows(sql, arg).iter().filter_map(Json::as_i64).collect()
}

fn look(run: &Run, record: &Record, seen: &Observation) -> Look {
    match (seen.found, record.status.as_str()) {
        // A deletion or a merge that was heard of takes its own way.
        _ if record.lifecycle.is_some() => Look::Fine,
        (Some(false), "linked") if record.contacted => Look::Settle,
        (Some(true), "missing" | "deleted_there") => Look::Settle,
        (Some(true), "linked") if record.contacted => {
            if seen.hubspot_id != record.hubspot_id {
                return Look::Settle;
            }
            let mut worst = Look::Fine;
            for field in synced(&record.mapping) {
                let Some(entry) = record.fields.get(&field.id) else {
                    continue;
                };
                match judge(run, entry, seen) {
                    None | Some((_, Comparison::Equal | Comparison::UnderWay)) => {}
                    Some((_, Comparison::Unclear)) if seen.versions.is_none() => return Look::History,
                    Some(_) => worst = Look::Settle,
                }
            }
            worst
        }
        _ => Look::Fine,
    }
}

/// The fields that flow in some direction.
pub fn synced(mapping: &Mapping) -> impl Iterator<Item = &Rc<Field>> {
    mapping.fields.iter().filter(|f| f.sync_direction != Direction::None)
}

/// Whether a field has not moved since the page was handed out.
pub fn is_quiet(run: &Run, entry: &Entry) -> bool {
    entry.synced_at <= run.page_us && entry.hubspot_read_at <= run.page_us && entry.state.edited_at <= run.page_us
}

/// HubSpot's value in the row's form (none: this field cannot hold it) and how it compares; none when the field was not
/// read or has moved since.
fn judge(run: &Run, entry: &Entry, seen: &Observation) -> Option<(Option<Value>, Comparison)> {
    let text = seen.properties.get(&entry.field.hubspot_property)?;
    let state = &entry.state;
    if !is_quiet(run, entry) {
        return None;
    }
    let value = convert::from_hubspot(&entry.field, text.as_str()).ok();
    let comparison = state.compare(&entry.field.policy(Clock::default()), value.as_ref(), run.written_since);
    Some((value, comparison))
}

/// Looks at these records again, with nobody else at work on them, and sets right what differs.
fn set_right(run: &mut Run, seen: &BTreeMap<i64, &Observation>) {
    one_at_a_time();
    absorb_all();
    let ids: Vec<i64> = seen.keys().copied().collect();
    let mut book = Book::open(Catalog::load(), &ids, now_us());
    let busy = among(BUSY, &json!(ids));
    let young = among(YOUNG, &json!({"ids": ids, "seconds": YOUNG_SECONDS}));
    let (clock, now) = (book.catalog.clock, book.now);
    let merged: Vec<Json> = book
        .records
        .values()
        .filter_map(|record| {
            let id = seen.get(&record.link_id)?.hubspot_id.as_ref()?;
            (record.hubspot_id.as_ref() != Some(id)).then(|| collision::found(record, id))
        })
        .collect();
    let taken = collision::taken(&merged);
    let mut findings: Vec<(i64, Finding)> = Vec::new();
    for (id, observation) in seen {
        let Some(record) = book.records.get_mut(id) else {
            continue;
        };
        if busy.contains(id) || look(run, record, observation) != Look::Settle {
            continue;
        }
        let found = match (observation.found, record.status.as_str()) {
            (Some(false), _) if young.contains(id) => continue,
            (Some(false), _) => vec![missing(record)],
            // A row that followed its record is not there any more.
            (_, "missing" | "deleted_there") if !has_row(record) => continue,
            (_, "missing" | "deleted_there") => vec![back(record)],
            _ if observation.hubspot_id != record.hubspot_id => vec![survivor(record, observation, taken.contains(id))],
            _ => fields(run, record, observation, clock, now),
        };
        findings.extend(found.into_iter().map(|finding| (*id, finding)));
    }
    let written = if run.dry_run {
        Written::default()
    } else {
        book.write_rows()
    };
    for (id, mut finding) in findings {
        if written.busy.contains(&id) {
            finding.action = "row_busy";
        } else if let Some(reason) = written.refused.get(&id) {
            if finding.action == "row_updated"
                && let Some(name) = &finding.field
            {
                refuse(
                    &book.catalog,
                    &run.entity_type,
                    id,
                    name,
                    finding.hubspot_value.clone(),
                    reason,
                );
            }
            finding.action = "row_refused";
        }
        run.find(finding);
    }
    if !run.dry_run {
        book.flush();
    }
}

fn refuse(catalog: &Catalog, entity_type: &str, link: i64, field: &str, value: Option<String>, reason: &str) {
    let property = catalog
        .mappings
        .values()
        .find(|m| m.entity_type == entity_type)
        .and_then(|m| m.field(field))
        .map(|f| f.hubspot_property.clone());
    refused_by_table(link, property.as_deref(), value, 0, reason);
}

fn finding(record: &Record) -> Finding {
    Finding {
        entity_key: Some(record.key.clone()),
        hubspot_id: record.hubspot_id.clone(),
        ..Finding::default()
    }
}

fn missing(record: &mut Record) -> Finding {
    let found = finding(record);
    record.gone_missing();
    Finding {
        kind: "missing_there",
        action: "marked_missing",
        ..found
    }
}

fn has_row(record: &Record) -> bool {
    !read_rows(&record.mapping, &[&record.key], &[], false).is_empty()
}

/// HubSpot knows a record again that was missing or deleted: both sides are compared anew.
fn back(record: &mut Record) -> Finding {
    record.status = "linked".into();
    record.contacted = false;
    record.message = None;
    record.set_lifecycle(None);
    record.log(
        None,
        "HUBSPOT",
        "restored",
        json!({"detail": "found by reconciliation"}),
    );
    Finding {
        kind: "unlinked",
        action: "compared_again",
        ..finding(record)
    }
}

/// HubSpot merged the record into another.
fn survivor(record: &mut Record, seen: &Observation, taken: bool) -> Finding {
    let before = finding(record);
    let id = seen.hubspot_id.clone().unwrap_or_default();
    let mut found = Finding {
        kind: "found_only_by_reconciling",
        action: "compared_again",
        hubspot_value: Some(id.clone()),
        ..before
    };
    if taken {
        record.hubspot_id = None;
        collision::park(record, &id);
        found.action = "waits_for_person";
        return found;
    }
    record.log(
        None,
        "HUBSPOT",
        "merged",
        json!({"hubspot_value": id, "detail": "found by reconciliation"}),
    );
    record.follow_to(&id);
    found
}

fn fields(run: &Run, record: &mut Record, seen: &Observation, clock: Clock, now: i64) -> Vec<Finding> {
    // Before what was read is noted: whether a field moved since is told by when it was last read.
    let judged: BTreeMap<i32, (Option<Value>, Comparison)> = record
        .fields
        .iter()
        .filter_map(|(id, entry)| Some((*id, judge(run, entry, seen)?)))
        .collect();
    let versions = remember(record, seen);
    let mut findings = Vec::new();
    for field in synced(&record.mapping.clone()) {
        let Some((value, comparison)) = judged.get(&field.id) else {
            continue;
        };
        let history = versions.get(&field.id);
        let before = record.entry(field).state.clone();
        let found = match comparison {
            Comparison::Equal | Comparison::UnderWay => continue,
            Comparison::Waits => Found::Waits,
            Comparison::DriftedThere | Comparison::DriftedHere => {
                let value = value.clone().unwrap_or(Value::NULL);
                record.event(field, clock, now, |state, policy, out| {
                    state.undo_drift(policy, &value, out);
                });
                Found::Drift
            }
            Comparison::Unclear if value.is_none() && field.sync_direction.receives() => {
                let message = "HubSpot holds a value that this field cannot hold";
                let text = seen.properties.get(&field.hubspot_property).and_then(Json::as_str);
                record.fail(Some(field), "inbound", "invalid", message, json!({"value": text}));
                Found::Waits
            }
            Comparison::Unclear => match history {
                Some(history) if !too_new(run, clock, history) => {
                    record.event(field, clock, now, |state, policy, out| {
                        state.reconcile(policy, history, out)
                    })
                }
                _ => continue,
            },
        };
        let kind = match found {
            Found::Nothing => continue,
            Found::Missed => "found_only_by_reconciling",
            Found::Drift => "one_way_drift",
            Found::Differs | Found::Waits => "value_differs",
        };
        let text = seen.properties.get(&field.hubspot_property).and_then(Json::as_str);
        findings.push(Finding {
            field: Some(field.field.clone()),
            kind,
            warp_value: sensitive::shown(field, record.link_id, before.row.as_deref()),
            hubspot_value: sensitive::shown(field, record.link_id, value.as_ref().map_or(text, Value::as_deref)),
            action: action(&before, &record.entry(field).state),
            ..finding(record)
        });
    }
    findings
}

/// A version that is younger than the run, or than an incremental run's window, may have its webhook still on its way. A poll
/// stands in for webhooks.
fn too_new(run: &Run, clock: Clock, history: &[Version]) -> bool {
    let told = match run.kind.as_str() {
        "full" => run.started_us + clock.offset + clock.uncertainty,
        "incremental" => run.window_to_us,
        _ => return false,
    };
    history.iter().any(|v| v.at > told)
}

/// What came of it, told by the state before and after.
fn action(before: &FieldState, after: &FieldState) -> &'static str {
    if after.held.is_some() && before.held.is_none() {
        "conflict_opened"
    } else if after.held.is_some() || after.parked {
        "waits_for_person"
    } else if after.dirty && !before.dirty {
        "sent_to_hubspot"
    } else if after.row != before.row {
        "row_updated"
    } else if after.dirty {
        "sent_to_hubspot"
    } else {
        "reported"
    }
}
