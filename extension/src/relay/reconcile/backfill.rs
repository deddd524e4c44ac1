//! A backfill's pages: one side's values brought over to the other.

use super::linked::{BUSY, among, is_quiet, synced};
use super::run::Run;
use crate::book::{Book, Record};
use crate::catalog::{Catalog, Clock, Field};
use crate::convert;
use crate::relay::decide::{Observation, remember};
use crate::relay::{absorb_all, now_us, one_at_a_time, refused_by_table};
use hubspot_sync_core::field::{Backfill, FieldState, Version};
use hubspot_sync_core::value::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Brings over what was read; gives the records whose history has to be read first.
pub fn compare(run: &mut Run, seen: &[Observation]) -> Vec<i64> {
    let by_link: BTreeMap<i64, &Observation> = seen.iter().filter_map(|o| Some((o.claim.parse().ok()?, o))).collect();
    let ids: Vec<i64> = by_link.keys().copied().collect();
    let mut book = Book::peek(Catalog::load(), &ids, now_us());
    let busy = among(BUSY, &json!(ids));
    let (mut settle, mut history) = (BTreeMap::new(), Vec::new());
    for (id, record) in book.records.iter_mut().filter(|(id, _)| !busy.contains(id)) {
        let Some(observation) = by_link.get(id).filter(|o| fits(record, o)) else {
            continue;
        };
        let outcomes: Vec<Backfill> = synced(&record.mapping.clone())
            .filter_map(|field| {
                let mut state = record
                    .fields
                    .get(&field.id)
                    .map_or_else(unknown, |entry| entry.state.clone());
                let quiet = record.fields.get(&field.id).is_none_or(|entry| is_quiet(run, entry));
                quiet.then(|| bring(run, &mut state, field, observation, None))
            })
            .collect();
        if outcomes.contains(&Backfill::NeedsHistory) && observation.versions.is_none() {
            history.push(*id);
        } else if outcomes.iter().any(|o| *o != Backfill::Nothing) {
            settle.insert(*id, *observation);
        }
    }
    if !settle.is_empty() {
        bring_over(run, &settle);
    }
    history
}

/// A field that is not known of a record yet: its row was empty.
fn unknown() -> FieldState {
    FieldState::new(Value::NULL, 0)
}

fn fits(record: &Record, seen: &Observation) -> bool {
    seen.found == Some(true) && record.status == "linked" && record.contacted && record.hubspot_id == seen.hubspot_id
}

/// Tries a field on a copy of its state.
fn bring(
    run: &Run,
    state: &mut FieldState,
    field: &Rc<Field>,
    seen: &Observation,
    history: Option<&[Version]>,
) -> Backfill {
    let Some(text) = seen.properties.get(&field.hubspot_property) else {
        return Backfill::Nothing;
    };
    let value = convert::from_hubspot(field, text.as_str());
    let policy = field.policy(Clock::default());
    match value {
        value if run.to_hubspot() => state.backfill_hubspot(&policy, value.as_ref().ok()),
        Ok(value) => state.backfill_row(&policy, &value, history, &mut Vec::new()),
        // HubSpot's value has no form here: reconciliation reports it.
        Err(_) => Backfill::Nothing,
    }
}

fn bring_over(run: &mut Run, seen: &BTreeMap<i64, &Observation>) {
    one_at_a_time();
    absorb_all();
    let ids: Vec<i64> = seen.keys().copied().collect();
    let mut book = Book::open(Catalog::load(), &ids, now_us());
    let busy = among(BUSY, &json!(ids));
    let (clock, now) = (book.catalog.clock, book.now);
    let mut done: BTreeMap<i64, i64> = BTreeMap::new();
    for (id, observation) in seen {
        let Some(record) = book
            .records
            .get_mut(id)
            .filter(|r| !busy.contains(id) && fits(r, observation))
        else {
            continue;
        };
        // Behind whatever somebody waits for.
        record.background = true;
        let quiet: Vec<Rc<Field>> = synced(&record.mapping.clone())
            .filter(|field| record.fields.get(&field.id).is_none_or(|entry| is_quiet(run, entry)))
            .cloned()
            .collect();
        let versions = remember(record, observation);
        for field in quiet {
            let Some(text) = observation.properties.get(&field.hubspot_property) else {
                continue;
            };
            let value = convert::from_hubspot(&field, text.as_str()).ok();
            let history = versions.get(&field.id).map(Vec::as_slice);
            let outcome = record.event(&field, clock, now, |state, policy, out| {
                match (&value, run.to_hubspot()) {
                    (value, true) => state.backfill_hubspot(policy, value.as_ref()),
                    (Some(value), false) => state.backfill_row(policy, value, history, out),
                    (None, false) => Backfill::Nothing,
                }
            });
            if outcome == Backfill::Done {
                *done.entry(*id).or_default() += 1;
            }
        }
    }
    let written = book.write_rows();
    for (id, fields) in done {
        let what = match (
            run.to_hubspot(),
            written.busy.contains(&id),
            written.refused.contains_key(&id),
        ) {
            (_, true, _) => "row_busy",
            (_, _, true) => "row_refused",
            (true, ..) => "sent_to_hubspot",
            (false, ..) => "row_updated",
        };
        run.count(what, fields);
    }
    book.flush();
    for (link, reason) in &written.refused {
        refused_by_table(*link, None, None, 0, reason);
    }
}
