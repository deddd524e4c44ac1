//! A deleted row whose HubSpot record is to be archived (`on_local_delete` archive).
//!
//! HubSpot is looked at before: where it holds something else than is known, the history tells whether somebody edited the
//! record meanwhile, and the policies of these fields say whether the deletion stands. There is no conditional archive, so an
//! edit between the look and the archive is found afterwards, by its event.

use super::claim::document;
use super::complete::Answer;
use super::decide::{Next, Observation, remember};
use crate::book::{Lifecycle, Queue, Record};
use crate::catalog::{Clock, Field};
use crate::convert;
use hubspot_sync_core::field::{Against, Deleted, Deletion, Read, Version};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The fields whose edits in HubSpot count against a deletion.
fn receiving(record: &Record) -> Vec<Rc<Field>> {
    let fields = record.mapping.fields.iter();
    fields.filter(|f| f.sync_direction.receives()).cloned().collect()
}

/// The claim of a record to be archived. Where HubSpot's edits do not count, nothing is looked up: it is sent as claimed.
pub fn claim(record: &mut Record, token: i64, attempt: i64) -> Json {
    let fields = receiving(record);
    let looks = record.hubspot_id.is_none() || !fields.is_empty();
    let read = if looks { Read::Value } else { Read::Nothing };
    let mut claim = document(record, token, read);
    claim["attempt"] = json!(attempt);
    claim["properties"] = properties(&fields);
    if !looks {
        claim["operation"] = json!("archive");
        send(record);
    }
    claim
}

fn properties(fields: &[Rc<Field>]) -> Json {
    fields.iter().map(|f| json!(f.hubspot_property)).collect()
}

/// From here on the archive may have landed.
fn send(record: &mut Record) {
    record.gone_id = record.hubspot_id.clone();
    record.set_lifecycle(Some(Lifecycle::Archiving));
    record.log(None, "SYNC", "sent", json!({"detail": "archive"}));
}

/// What the relay saw of a record to be archived.
pub fn decide(record: &mut Record, seen: &Observation, clock: Clock, now: i64) -> Next {
    if seen.found == Some(false) {
        archived(record, clock, now, "HubSpot has no such record any more");
        return Next::Settled;
    }
    if let (Some(found), Some(own)) = (&seen.hubspot_id, &record.hubspot_id)
        && found != own
    {
        // Archiving it would delete what belongs to somebody else.
        keep(record, "HubSpot merged the record into another: it is not archived");
        return Next::Settled;
    }
    if record.hubspot_id.is_none() {
        keep(record, "the record belongs to another row");
        return Next::Settled;
    }
    let fields = receiving(record);
    if fields
        .iter()
        .any(|f| !seen.properties.contains_key(&f.hubspot_property))
    {
        // Read for another purpose, before the row was deleted.
        return Next::Read(Read::Value);
    }
    if seen.versions.is_none() && fields.iter().any(|f| is_news(record, f, seen)) {
        return Next::Read(Read::History);
    }
    let versions = remember(record, seen);
    let against = against(record, &fields, &versions, clock);
    match record.judge_deletion(Deleted::Row(record.deleted_at), &against, clock, now) {
        Deletion::Stands => {
            send(record);
            Next::Write(json!({
                "claim": record.link_id.to_string(), "token": seen.token, "object_type": record.mapping.hubspot_object,
                "operation": "archive", "hubspot_id": record.hubspot_id, "id_property": null, "id_value": null,
                "properties": {},
            }))
        }
        Deletion::Yields => {
            keep(record, "an edit in HubSpot outweighs the row's deletion");
            Next::Settled
        }
        Deletion::Waits => {
            record.set_lifecycle(Some(Lifecycle::Held));
            Next::Settled
        }
    }
}

/// A claim for another look before an archive.
pub fn look_again(record: &Record, token: i64, read: Read) -> Json {
    let mut claim = document(record, token, read);
    claim["properties"] = properties(&receiving(record));
    claim
}

/// Whether HubSpot holds something that nobody here knows.
fn is_news(record: &mut Record, field: &Rc<Field>, seen: &Observation) -> bool {
    let Some(text) = seen.properties.get(&field.hubspot_property) else {
        return false;
    };
    match convert::from_hubspot(field, text.as_str()) {
        Ok(value) => !record.entry(field).state.is_known(&value),
        Err(_) => true,
    }
}

fn against(
    record: &mut Record,
    fields: &[Rc<Field>],
    versions: &BTreeMap<i32, Vec<Version>>,
    clock: Clock,
) -> Vec<(Rc<Field>, Against)> {
    let deleted_at = record.deleted_at;
    let mut found = Vec::new();
    for field in fields {
        let history = versions.get(&field.id).map_or(&[][..], Vec::as_slice);
        let state = &record.entry(field).state;
        if let Some(edit) = state.against_row_deletion(&field.policy(clock), deleted_at, history) {
            found.push((Rc::clone(field), edit));
        }
    }
    found
}

fn keep(record: &mut Record, why: &str) {
    record.set_lifecycle(None);
    record.log(None, "SYNC", "kept", json!({"detail": why}));
}

/// HubSpot's record is archived. A row that came back meanwhile needs another one.
pub fn archived(record: &mut Record, clock: Clock, now: i64, how: &str) {
    record.log(
        None,
        "SYNC",
        "archived",
        json!({"hubspot_value": record.hubspot_id, "detail": how}),
    );
    if record.row_is_gone() {
        record.gone_id = record.hubspot_id.clone();
        record.message = None;
        record.set_lifecycle(Some(Lifecycle::Archived));
    } else {
        record.start_anew(clock, now, "the row came back after its record was archived");
    }
}

/// HubSpot's answer about a record whose row is gone, or whose archive was under way when the row came back.
pub fn complete(record: &mut Record, answer: &Answer, clock: Clock, now: i64) {
    record.queue = Queue::Finish;
    let sent = record.lifecycle == Some(Lifecycle::Archiving);
    match answer.outcome.as_str() {
        "ok" | "missing" if sent => archived(record, clock, now, "acknowledged by HubSpot"),
        "ok" if record.lifecycle == Some(Lifecycle::Archive) && record.hubspot_id.is_none() => {
            // The row was deleted while its record was being created.
            record.hubspot_id = answer.hubspot_id.clone();
            record.touch_link();
            record.log(None, "SYNC", "created", json!({"hubspot_value": answer.hubspot_id}));
        }
        "retry" if record.needs_delivery() => {
            if sent && !answer.unknown {
                record.set_lifecycle(record.row_is_gone().then_some(Lifecycle::Archive));
            }
            record.queue = Queue::Retry {
                delay_ms: answer.delay_ms.max(0),
                spent: answer.spent,
            };
            let reason = answer.message.as_deref().or(answer.kind.as_deref());
            record.log(None, "SYNC", "retry", json!({"detail": reason}));
        }
        "refused" | "exhausted" if sent && record.row_is_gone() => {
            record.set_lifecycle(Some(Lifecycle::Refused));
            record.fail(
                None,
                "outbound",
                answer.kind.as_deref().unwrap_or("invalid"),
                answer.message.as_deref().unwrap_or("HubSpot gave no reason"),
                json!({"http_status": answer.http_status}),
            );
        }
        "missing" if record.lifecycle == Some(Lifecycle::Archive) => {
            archived(record, clock, now, "HubSpot has no such record any more")
        }
        "refused" | "exhausted" if record.hubspot_id.is_none() || sent => record.set_lifecycle(None),
        _ => {}
    }
}

/// An edit in HubSpot of a record whose row is gone. Gives what the event is marked with.
pub fn edited(
    record: &mut Record,
    field: &Rc<Field>,
    version: &Version,
    clock: Clock,
    now: i64,
) -> (&'static str, Option<String>) {
    let versions = BTreeMap::from([(field.id, vec![version.clone()])]);
    let deleted = Deleted::Row(record.deleted_at);
    let edits = against(record, std::slice::from_ref(field), &versions, clock);
    let (status, detail) = match record.lifecycle {
        None | Some(Lifecycle::Refused) => ("skipped", "the row is deleted, the record is kept"),
        Some(Lifecycle::Archiving) => ("waiting", "until the outcome of the archive is known"),
        _ if edits.is_empty() => ("skipped", "the row is deleted, and this is no news"),
        Some(Lifecycle::Archived) => {
            let opinion = edits.iter().map(|(_, e)| e.opinion).max().unwrap_or(Deletion::Stands);
            // HubSpot has no call that restores a record: where the edit should have won, a person is asked to.
            let verdict = if opinion == Deletion::Stands {
                opinion
            } else {
                Deletion::Waits
            };
            record.put_on_record(deleted, &edits, verdict, clock, now);
            ("applied", "the record was archived over this edit")
        }
        _ => {
            match record.judge_deletion(deleted, &edits, clock, now) {
                Deletion::Stands => {}
                Deletion::Yields => keep(record, "an edit in HubSpot outweighs the row's deletion"),
                Deletion::Waits => record.set_lifecycle(Some(Lifecycle::Held)),
            }
            ("applied", "weighed against the row's deletion")
        }
    };
    (status, Some(detail.to_owned()))
}
