//! Completing: what HubSpot answered to a write, or that it did not.

use super::decide::held_claims;
use super::{archive, collision, now_us, parse};
use crate::book::{Book, Fields, Lifecycle, Queue, Record};
use crate::catalog::{Catalog, Clock, Field};
use crate::{convert, spi};
use hubspot_sync_core::field::{EditEnd, Effect};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::rc::Rc;

/// What became of a write, see the contract.
#[derive(Deserialize)]
pub struct Answer {
    claim: String,
    token: i64,
    pub outcome: String,
    pub hubspot_id: Option<String>,
    #[serde(default)]
    created: bool,
    #[serde(default)]
    updated_at_ms: i64,
    #[serde(default)]
    sent_at_ms: i64,
    #[serde(default)]
    answered_at_ms: i64,
    #[serde(default)]
    properties: Map<String, Json>,
    pub kind: Option<String>,
    property: Option<String>,
    pub message: Option<String>,
    pub http_status: Option<i64>,
    #[serde(default)]
    pub unknown: bool,
    #[serde(default)]
    pub delay_ms: i64,
    #[serde(default = "yes")]
    pub spent: bool,
}

fn yes() -> bool {
    true
}

/// See the contract.
pub fn complete(relay_id: &str, results: &Json) -> Json {
    let answers: Vec<Answer> = parse("results", results);
    let claims: Vec<(i64, i64)> = answers
        .iter()
        .filter_map(|a| Some((a.claim.parse().ok()?, a.token)))
        .collect();
    let ids: Vec<i64> = claims.iter().map(|c| c.0).collect();
    super::one_at_a_time();
    let mut book = Book::open_for(Catalog::load(), &ids, &Fields::AtWork(&[]), now_us());
    let held = held_claims(relay_id, &claims);
    // An answer whose claim was taken over by another relay says nothing that this relay may store: the newer claim
    // finds out from HubSpot's history what became of the write.
    book.records.retain(|id, _| held.contains(id));
    let (clock, now) = (book.catalog.clock, book.now);
    let news: Vec<Json> = answers
        .iter()
        .filter(|a| a.outcome == "ok")
        .filter_map(|a| {
            let record = book.records.get(&a.claim.parse().ok()?)?;
            let id = a.hubspot_id.as_ref()?;
            record.hubspot_id.is_none().then(|| collision::found(record, id))
        })
        .collect();
    let taken = collision::taken(&news);
    let (mut completed, mut stale) = (0, 0);
    for answer in &answers {
        let Some(record) = answer.claim.parse().ok().and_then(|id: i64| book.records.get_mut(&id)) else {
            stale += 1;
            continue;
        };
        completed += 1;
        if record.row_is_gone() || record.lifecycle == Some(Lifecycle::Archiving) {
            archive::complete(record, answer, clock, now);
            continue;
        }
        match answer.outcome.as_str() {
            "ok" if taken.contains(&record.link_id) => landed_elsewhere(record, answer, clock, now),
            "ok" => landed(record, answer, clock, now),
            "retry" => retry(record, answer, clock, now),
            "missing" => missing(record, clock, now),
            _ => refused(record, answer, clock, now),
        }
    }
    measure_clock(&answers);
    book.write_ids();
    book.flush();
    json!({"completed": completed, "stale": stale})
}

fn in_flight(record: &Record) -> Vec<Rc<Field>> {
    record
        .fields
        .values()
        .filter(|e| e.state.in_flight.is_some())
        .map(|e| e.field.clone())
        .collect()
}

fn landed(record: &mut Record, answer: &Answer, clock: Clock, now: i64) {
    let at = answer.updated_at_ms * 1000;
    for field in in_flight(record) {
        let Some(flight) = record.entry(&field).state.in_flight.clone() else {
            continue;
        };
        let returned = answer.properties.get(&field.hubspot_property);
        // What HubSpot returned is what it holds; a form we cannot read back counts as what was sent.
        let value = match returned {
            Some(text) => convert::from_hubspot(&field, text.as_str()).unwrap_or_else(|_| flight.value.clone()),
            None => flight.value.clone(),
        };
        let text = match returned {
            Some(text) => text.as_str().map(str::to_owned),
            None if field.sensitive => flight.value.as_deref().map(str::to_owned),
            None => convert::to_hubspot(&field, &flight.value).ok(),
        };
        record.event(&field, clock, now, |state, policy, out| {
            state.complete(policy, &flight.value, &value, at, flight.generation, out);
        });
        record.entry(&field).note_remote(text.clone(), at, now);
        record.log(
            Some(&field),
            "SYNC",
            "delivered",
            json!({"warp_value": flight.value.as_deref(), "hubspot_value": text, "edited_us": at}),
        );
    }
    if record.hubspot_id.is_none()
        && let Some(id) = &answer.hubspot_id
    {
        record.hubspot_id = Some(id.clone());
        record.status = "linked".into();
        record.touch_link();
        record.write_id_back = true;
        let action = if answer.created { "created" } else { "linked" };
        record.log(None, "SYNC", action, json!({"hubspot_value": id}));
    }
    if !record.contacted && answer.created {
        record.contacted = true;
        record.touch_link();
        let fields: Vec<Rc<Field>> = record.fields.values().map(|e| e.field.clone()).collect();
        for field in fields {
            record.event(&field, clock, now, |state, _, out| state.created_empty(out));
        }
    }
    record.queue = Queue::Finish;
}

/// The upsert met a record that belongs to another row: nothing of it counts as this row's.
fn landed_elsewhere(record: &mut Record, answer: &Answer, clock: Clock, now: i64) {
    for field in in_flight(record) {
        record.event(&field, clock, now, |state, _, out| state.forget_in_flight(out));
    }
    collision::park(record, answer.hubspot_id.as_deref().unwrap_or_default());
    record.queue = Queue::Finish;
}

fn retry(record: &mut Record, answer: &Answer, clock: Clock, now: i64) {
    let said = said(record, answer);
    if !answer.unknown {
        for field in in_flight(record) {
            record.event(&field, clock, now, |state, _, out| state.forget_in_flight(out));
        }
    }
    record.queue = Queue::Retry {
        delay_ms: answer.delay_ms.max(0),
        spent: answer.spent,
    };
    record.log(
        None,
        "SYNC",
        "retry",
        json!({"detail": said.or_else(|| answer.kind.clone())}),
    );
}

/// HubSpot's words. They may quote what was sent: not where that includes sensitive values.
fn said(record: &Record, answer: &Answer) -> Option<String> {
    let message = answer.message.clone()?;
    let quotes = record
        .fields
        .values()
        .any(|e| e.field.sensitive && e.state.in_flight.is_some());
    Some(match quotes {
        true => "HubSpot's words are withheld: sensitive values were sent".to_owned(),
        false => message,
    })
}

fn missing(record: &mut Record, clock: Clock, now: i64) {
    for field in in_flight(record) {
        record.event(&field, clock, now, |state, _, out| state.forget_in_flight(out));
    }
    record.gone_missing();
    record.queue = Queue::Finish;
}

/// Refused for good, or retries used up. With a property only its field is parked, and the others are sent again.
fn refused(record: &mut Record, answer: &Answer, clock: Clock, now: i64) {
    let kind = answer.kind.as_deref().unwrap_or("invalid");
    let message = said(record, answer).unwrap_or_else(|| "HubSpot gave no reason".to_owned());
    let message = message.as_str();
    let culprit = answer
        .property
        .as_deref()
        .and_then(|p| record.mapping.by_property(p))
        .cloned();
    let flying = in_flight(record);
    if flying.is_empty() {
        record.fail(
            None,
            "outbound",
            kind,
            message,
            json!({"http_status": answer.http_status}),
        );
        record.status = if record.hubspot_id.is_some() {
            "linked".into()
        } else {
            "parked".into()
        };
        record.touch_link();
    }
    let named = culprit.as_ref().is_some_and(|c| flying.iter().any(|f| f.id == c.id));
    for field in flying {
        let Some(flight) = record.entry(&field).state.in_flight.clone() else {
            continue;
        };
        if named && culprit.as_ref().is_some_and(|c| c.id != field.id) {
            record.event(&field, clock, now, |state, _, out| state.forget_in_flight(out));
            continue;
        }
        record.event(&field, clock, now, |state, _, out| {
            if answer.unknown {
                // The write stays in flight: the next claim finds out from the history whether it landed after all.
                state.parked = true;
                if let Some(edit) = state.pending_edit {
                    out.push(Effect::EditEnded {
                        edit,
                        end: EditEnd::Failed,
                    });
                }
            } else {
                state.refuse(flight.generation, out);
            }
        });
        record.fail(
            Some(&field),
            "outbound",
            kind,
            message,
            json!({"http_status": answer.http_status, "value": flight.value.as_deref()}),
        );
    }
    if record.hubspot_id.is_none() && !named {
        // Nothing of the record could be created.
        record.status = "parked".into();
        record.message = Some(message.to_owned());
        record.touch_link();
    }
    record.queue = Queue::Finish;
}

/// HubSpot's clock against the database's, from our own writes: `updatedAt` lies between sending and answer, so the middle
/// is off by half the round trip at most. A difference smaller than that proves nothing and counts as none.
fn measure_clock(answers: &[Answer]) {
    let newest = answers
        .iter()
        .filter(|a| a.outcome == "ok" && a.updated_at_ms > 0 && a.sent_at_ms > 0 && a.answered_at_ms >= a.sent_at_ms)
        .max_by_key(|a| a.answered_at_ms);
    let Some(answer) = newest else { return };
    let round_trip_us = (answer.answered_at_ms - answer.sent_at_ms) * 1000;
    // One millisecond more: HubSpot's instants are that coarse.
    let uncertainty = round_trip_us / 2 + 1000;
    let difference = (answer.updated_at_ms - answer.sent_at_ms) * 1000 - round_trip_us / 2;
    let offset = if difference.abs() <= uncertainty { 0 } else { difference };
    // The best measurement of the last ten minutes counts: one slow answer must not blur what a quick one showed.
    spi::run(
        r#"UPDATE hubspot.binding SET clock_offset_us = ($1::json->>'o')::bigint, clock_uncertainty_us = ($1::json->>'u')::bigint,
             clock_measured_at = clock_timestamp()
           WHERE clock_measured_at IS NULL OR clock_measured_at < clock_timestamp() - interval '10 minutes'
             OR ($1::json->>'u')::bigint <= clock_uncertainty_us
             OR abs(($1::json->>'o')::bigint - clock_offset_us) > ($1::json->>'u')::bigint + clock_uncertainty_us"#,
        &json!({"o": offset, "u": uncertainty}),
    );
}
