//! Events about whole records: deletion, restore, merge; and what a person decides about a deletion.

use super::apply::{Event, Verdict};
use super::archive;
use crate::book::{Book, Lifecycle, Queue, Record, settle_conflicts};
use crate::catalog::Clock;
use crate::error::{invalid, raise};
use crate::spi;
use hubspot_sync_core::field::{Deleted, Deletion, Source, Winner};
use pgrx::prelude::*;
use serde_json::json;

/// HubSpot says that a record was deleted. It may have been merged into another: what is alive is looked up before
/// anything follows from it. The event of our own archive may come before its answer.
pub fn deletion(record: &mut Record, event: &Event, clock: Clock, now: i64) -> Verdict {
    if event.at_us <= record.life_at {
        return ("skipped", Some("older than what is known of the record".into()));
    }
    let ours =
        record.lifecycle == Some(Lifecycle::Archiving) || (event.archived_by_us && event.source() == Source::Own);
    match record.status.as_str() {
        "deleted_here" => {
            record.life_at = event.at_us;
            if record.lifecycle == Some(Lifecycle::Archived) {
                record.touch_link();
                return ("applied", Some("the echo of our archive".into()));
            }
            archive::archived(
                record,
                clock,
                now,
                if ours {
                    "the echo of our archive"
                } else {
                    "deleted in HubSpot"
                },
            );
        }
        "linked" | "missing" if ours => {
            record.life_at = event.at_us;
            record.log(
                None,
                "HUBSPOT",
                "deleted",
                json!({"edited_us": event.at_us, "detail": "by our own archive"}),
            );
            record.start_anew(clock, now, "the row came back after its record was archived");
        }
        "linked" | "missing" => {
            record.life_at = event.at_us;
            record.deleted_at = event.at_us;
            record.status = "linked".into();
            record.message = None;
            record.set_lifecycle(Some(Lifecycle::Heard));
            record.queue = Queue::Offer;
        }
        other => return ("skipped", Some(format!("the record is {other}"))),
    }
    ("applied", None)
}

/// HubSpot does not have the record any more, and said so.
pub fn gone(record: &mut Record, clock: Clock, now: i64) {
    record.log(None, "HUBSPOT", "deleted", json!({"edited_us": record.deleted_at}));
    match record.mapping.on_hubspot_delete.as_str() {
        "recreate" => return record.start_anew(clock, now, "on_hubspot_delete recreate"),
        "delete" => {}
        _ => {
            record.status = "deleted_there".into();
            record.set_lifecycle(None);
            record.message = Some("the record was deleted in HubSpot".into());
            return;
        }
    }
    let deleted = Deleted::Record(record.deleted_at);
    let against: Vec<_> = record
        .fields
        .values()
        .filter_map(|e| {
            let edit = e
                .state
                .against_record_deletion(&e.field.policy(clock), record.deleted_at)?;
            Some((e.field.clone(), edit))
        })
        .collect();
    match record.judge_deletion(deleted, &against, clock, now) {
        Deletion::Stands => delete_row(record, clock, now),
        Deletion::Yields => record.start_anew(clock, now, "an edit of the row outweighs the deletion in HubSpot"),
        Deletion::Waits => {
            record.status = "deleted_there".into();
            record.message = Some("deleted in HubSpot, edited here: a person has to say what holds".into());
            record.set_lifecycle(Some(Lifecycle::Held));
        }
    }
}

/// The row follows its record.
fn delete_row(record: &mut Record, clock: Clock, now: i64) {
    record.status = "deleted_there".into();
    record.message = None;
    record.set_lifecycle(None);
    for field in record.known_fields() {
        record.event(&field, clock, now, |state, _, out| state.abandon(out));
    }
    record.row_writes_forgotten();
    record.delete_row = true;
}

/// HubSpot erased a person's record. It is no matter of policies: the row goes where the mapping says that rows follow their
/// records, and what is kept of the record here is scrubbed after this call's changes are stored.
pub fn privacy_deletion(record: &mut Record, clock: Clock, now: i64) -> Verdict {
    if record.mapping.on_hubspot_delete == "delete" && !record.row_is_gone() {
        delete_row(record, clock, now);
    }
    ("applied", Some("forgotten".into()))
}

/// A record lives again.
pub fn restore(record: &mut Record, event: &Event) -> Verdict {
    if event.at_us <= record.life_at {
        return ("skipped", Some("older than what is known of the record".into()));
    }
    record.life_at = event.at_us;
    record.touch_link();
    match record.status.as_str() {
        "deleted_there" | "missing" => {
            record.status = "linked".into();
            record.contacted = false;
            record.message = None;
            record.set_lifecycle(None);
        }
        "deleted_here" => {
            let reason = "the record was restored in HubSpot";
            settle_conflicts(record.link_id, Some("HUBSPOT"), "restore", reason);
            record.gone_id = None;
            record.set_lifecycle(None);
        }
        _ if record.lifecycle == Some(Lifecycle::Heard) => record.set_lifecycle(None),
        _ => return ("applied", None),
    }
    record.log(None, "HUBSPOT", "restored", json!({"edited_us": event.at_us}));
    ("applied", None)
}

/// HubSpot merged records into one: the link of the record that was chosen as the primary one follows to the surviving id,
/// whatever was heard before, and its fields are compared. Another row of the mapping whose record went into it is parked:
/// a person has to say which row is the one. Nothing is deleted.
pub fn merge(book: &mut Book, event: &Event) -> Verdict {
    let primary = event.text("primaryObjectId");
    let Some(survivor) = event.text("newObjectId").or_else(|| primary.clone()) else {
        return ("failed", Some("the event names no surviving record".into()));
    };
    let merged: Vec<String> = event.texts("mergedObjectIds");
    let links: Vec<i64> = event.links.iter().flatten().copied().collect();
    let mut mappings: Vec<i32> = links
        .iter()
        .filter_map(|l| book.records.get(l))
        .map(|r| r.mapping.id)
        .collect();
    mappings.sort_unstable();
    mappings.dedup();
    let mut verdict: Verdict = ("applied", None);
    for mapping in mappings {
        let of_mapping = |book: &Book| -> Vec<i64> {
            let known = links.iter().filter_map(|l| book.records.get(l));
            known
                .filter(|r| r.mapping.id == mapping && !r.row_is_gone())
                .map(|r| r.link_id)
                .collect()
        };
        let holds = |book: &Book, id: &Option<String>| {
            let rows = of_mapping(book);
            rows.into_iter()
                .find(|l| id.is_some() && book.records.get(l).is_some_and(|r| r.hubspot_id == *id))
        };
        // Who has the record that was kept; else who followed to the survivor before; else the one row there is.
        let keeper = holds(book, &primary)
            .or_else(|| holds(book, &Some(survivor.clone())))
            .or_else(|| of_mapping(book).into_iter().next());
        let Some(keeper) = keeper else {
            verdict = ("skipped", Some("the row is deleted".into()));
            continue;
        };
        for other in of_mapping(book).into_iter().filter(|l| *l != keeper) {
            if let Some(record) = book.records.get_mut(&other) {
                park_loser(record, &survivor, &merged);
                verdict = (
                    "applied",
                    Some("two rows' records were merged: one row is parked".into()),
                );
            }
        }
        book.yield_id(mapping, &survivor);
        if let Some(record) = book.records.get_mut(&keeper) {
            follow(record, &survivor, &primary, &merged, event.at_us);
        }
    }
    verdict
}

/// The row whose record went into that of another row.
fn park_loser(record: &mut Record, survivor: &str, merged: &[String]) {
    if record.hubspot_id.as_deref() == Some(survivor) {
        // It had followed to the survivor before the event told which row that belongs to. The index on ids is checked
        // row by row: the id must be free before the other link takes it.
        record.hubspot_id = record.gone_id.clone().or_else(|| merged.first().cloned());
        spi::run(
            "UPDATE hubspot.link SET hubspot_id = NULL, status = 'parked' WHERE id = ($1::json->>'id')::bigint",
            &json!({"id": record.link_id}),
        );
    }
    record.status = "parked".into();
    record.set_lifecycle(None);
    let message = "HubSpot merged this row's record into that of another row: delete one of the rows and call \
                   hubspot.retry_failed(), or separate the records in HubSpot";
    record.fail(None, "inbound", "unlinked", message, json!({"value": survivor}));
}

/// The link of a merged record follows to the surviving id.
fn follow(record: &mut Record, survivor: &str, primary: &Option<String>, merged: &[String], at_us: i64) {
    let of_this_merge =
        |id: &Option<String>| id.is_some() && (id == primary || id.as_ref().is_some_and(|i| merged.contains(i)));
    let was_there = record.hubspot_id.as_deref() == Some(survivor);
    record.life_at = record.life_at.max(at_us);
    record.touch_link();
    if was_there && record.status == "linked" && of_this_merge(&record.gone_id) {
        // A read had found the survivor before its event came.
        return;
    }
    record.log(
        None,
        "HUBSPOT",
        "merged",
        json!({"hubspot_value": survivor, "edited_us": at_us}),
    );
    record.follow_to(survivor);
}

impl Record {
    /// The record became another one by a merge: its fields are to be compared with that.
    pub fn follow_to(&mut self, survivor: &str) {
        if self.hubspot_id.as_deref() != Some(survivor) {
            self.gone_id = self.hubspot_id.replace(survivor.to_owned());
            self.write_id_back = true;
        }
        self.status = "linked".into();
        self.message = None;
        self.contacted = false;
        self.set_lifecycle(Some(Lifecycle::Merged));
    }
}

/// A person decides what becomes of a deletion that stands against an edit.
pub fn resolve(record: &mut Record, winner: Winner, by: &str, clock: Clock, now: i64) {
    if winner == Winner::Value {
        invalid(
            "winner VALUE does not fit a conflict of kind DELETE_UPDATE".into(),
            "say WARP or HUBSPOT: one side deleted the record, the other edited it",
        );
    }
    let held = record.lifecycle == Some(Lifecycle::Held);
    if record.row_is_gone() && !held && winner == Winner::Hubspot {
        raise(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the record is archived, and HubSpot has no call that restores it".into(),
            "restore it in HubSpot within 90 days: the conflict then ends by itself; or say WARP",
        );
    }
    record.log(None, "SYNC", "resolved", json!({"actor": by, "detail": winner.label()}));
    settle_conflicts(record.link_id, Some(winner.label()), by, &format!("decided by {by}"));
    if !held {
        return;
    }
    match (record.row_is_gone(), winner) {
        (true, Winner::Warp) => record.set_lifecycle(Some(Lifecycle::Archive)),
        (true, _) => record.set_lifecycle(None),
        (false, Winner::Warp) => record.start_anew(clock, now, "a person let the row stay"),
        (false, _) => delete_row(record, clock, now),
    }
    record.queue = Queue::Offer;
}
