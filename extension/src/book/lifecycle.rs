//! What a deletion or a merge of a whole record asks for, as it is stored with the link.

use super::{Book, Record};
use crate::catalog::{Clock, Field};
use crate::spi;
use hubspot_sync_core::field::{Against, Deleted, Deletion};
use serde_json::json;
use std::rc::Rc;

/// `link.lifecycle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// HubSpot says that the record was deleted: a look tells whether it is gone or was merged into another.
    Heard,
    /// The record became another one by a merge: both sides are to be compared.
    Merged,
    /// The row was deleted, and HubSpot's record is to be archived.
    Archive,
    /// The archive was asked for; its outcome is not known.
    Archiving,
    /// HubSpot's record is archived.
    Archived,
    /// HubSpot would not archive it.
    Refused,
    /// A person has to say what becomes of the deletion.
    Held,
}

impl Lifecycle {
    const LABELS: [(Lifecycle, &str); 7] = [
        (Lifecycle::Heard, "heard"),
        (Lifecycle::Merged, "merged"),
        (Lifecycle::Archive, "archive"),
        (Lifecycle::Archiving, "archiving"),
        (Lifecycle::Archived, "archived"),
        (Lifecycle::Refused, "refused"),
        (Lifecycle::Held, "held"),
    ];

    /// As it is stored.
    pub fn label(self) -> &'static str {
        Self::LABELS
            .iter()
            .find(|(l, _)| *l == self)
            .map_or("", |(_, label)| label)
    }

    /// From what is stored.
    pub fn parse(label: &str) -> Option<Lifecycle> {
        Self::LABELS.iter().find(|(_, l)| *l == label).map(|(l, _)| *l)
    }
}

impl Record {
    /// Whether the row is gone.
    pub fn row_is_gone(&self) -> bool {
        self.status == "deleted_here"
    }

    /// Sets what a deletion or a merge still asks for.
    pub fn set_lifecycle(&mut self, lifecycle: Option<Lifecycle>) {
        if self.lifecycle == Some(Lifecycle::Held) && lifecycle != Some(Lifecycle::Held) {
            settle_conflicts(self.link_id, None, "agreement", "the deletion is no question any more");
        }
        self.lifecycle = lifecycle;
        self.touch_link();
    }

    /// The row lives and HubSpot's record is gone: it is matched or created again, under another id.
    pub fn start_anew(&mut self, clock: Clock, now: i64, why: &str) {
        self.gone_id = self.hubspot_id.take().or_else(|| self.gone_id.take());
        self.status = "new".into();
        self.contacted = false;
        self.id_written = false;
        self.message = None;
        self.set_lifecycle(None);
        self.log(None, "SYNC", "met_anew", json!({"detail": why}));
        for field in self.known_fields() {
            self.event(&field, clock, now, |state, policy, out| state.met_anew(policy, out));
        }
    }

    /// The fields that have a state.
    pub fn known_fields(&mut self) -> Vec<Rc<Field>> {
        self.load_rest();
        self.fields.values().map(|e| Rc::clone(&e.field)).collect()
    }

    /// Weighs a deletion against the edits of the other side, and puts these on record.
    pub fn judge_deletion(
        &mut self,
        deleted: Deleted,
        against: &[(Rc<Field>, Against)],
        clock: Clock,
        now: i64,
    ) -> Deletion {
        let verdict = against.iter().map(|(_, a)| a.opinion).max().unwrap_or(Deletion::Stands);
        self.put_on_record(deleted, against, verdict, clock, now);
        verdict
    }

    /// Records edits against a deletion whose end is known.
    pub fn put_on_record(
        &mut self,
        deleted: Deleted,
        against: &[(Rc<Field>, Against)],
        verdict: Deletion,
        clock: Clock,
        now: i64,
    ) {
        for (field, edit) in against {
            self.event(field, clock, now, |state, _, out| {
                state.deletion_judged(deleted, edit, verdict, out)
            });
        }
    }
}

/// Ends the open conflicts about a record's deletion. `winner`: `WARP`, `HUBSPOT`, or none when nobody had to decide.
pub fn settle_conflicts(link_id: i64, winner: Option<&str>, by: &str, reason: &str) {
    spi::run(
        r#"UPDATE hubspot.conflicts SET status = 'resolved', winner = $1::json->>'winner', resolved_by = $1::json->>'by',
             reason = $1::json->>'reason', resolved_at = clock_timestamp()
           WHERE link_id = ($1::json->>'link')::bigint AND kind = 'DELETE_UPDATE' AND status = 'open'"#,
        &json!({"link": link_id, "winner": winner, "by": by, "reason": reason}),
    );
}

impl Book {
    /// Gives up the HubSpot id of records whose rows are gone, because a living row has that record now.
    pub fn yield_id(&mut self, mapping_id: i32, hubspot_id: &str) {
        for record in self
            .records
            .values_mut()
            .filter(|r| r.row_is_gone() && r.mapping.id == mapping_id && r.hubspot_id.as_deref() == Some(hubspot_id))
        {
            record.hubspot_id = None;
            record.set_lifecycle(None);
        }
    }
}
