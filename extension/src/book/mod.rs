//! One call's worth of records in memory: loaded by one statement, changed by the core, written back by one statement
//! per table.
//!
//! Everything an event causes stays with its record until [`Book::write_rows`] and [`Book::flush`]; a record whose row is
//! locked or was changed meanwhile is dropped whole, as if the event had not been offered, and is offered again.

mod flush;
mod lifecycle;
mod load;
mod policy;
mod rows;

pub use lifecycle::{Lifecycle, settle_conflicts};
pub use load::Fields;
pub use rows::{Written, read_rows, recapture, text_expression};

use crate::catalog::{Catalog, Clock, Field, Mapping};
use crate::sensitive;
use hubspot_sync_core::field::{Effect, FieldState, Policy};
use hubspot_sync_core::mapping::Strategy;
use hubspot_sync_core::value::Value;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A field's state with what is stored beside it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The mapping's field.
    pub field: Rc<Field>,
    /// The machine's state.
    pub state: FieldState,
    /// The row's value as it was when loaded: what a write to the row expects to find.
    pub loaded_row: Value,
    /// Generation at the newest claim.
    pub claim_generation: Option<i64>,
    /// The open conflict.
    pub conflict_id: Option<i64>,
    /// What HubSpot was last known to hold, in its own form.
    pub hubspot_value: Option<String>,
    /// Since when.
    pub hubspot_changed_at: i64,
    /// When that was learnt, on the database's clock.
    pub hubspot_read_at: i64,
    /// When both sides last agreed, on the database's clock.
    pub synced_at: i64,
    /// Who won last.
    pub winner: Option<String>,
    /// Why it is parked.
    pub message: Option<String>,
    changed: bool,
    /// It was loaded, not made: it has a row.
    stored: bool,
}

impl Entry {
    /// Notes the generation at which a claim was made.
    pub fn note_claim(&mut self) {
        self.claim_generation = Some(self.state.generation);
        self.changed = true;
    }

    /// Notes what HubSpot holds: its own text, since when, and when that was learnt.
    pub fn note_remote(&mut self, text: Option<String>, changed_at: i64, read_at: i64) {
        if changed_at >= self.hubspot_changed_at || changed_at == 0 {
            self.hubspot_value = text.filter(|t| !t.is_empty());
            if self.field.sensitive && self.hubspot_value.is_some() {
                self.hubspot_value = Some("hidden".to_owned());
            }
            self.hubspot_changed_at = self.hubspot_changed_at.max(changed_at);
        }
        self.hubspot_read_at = self.hubspot_read_at.max(read_at);
        self.changed = true;
    }
}

/// What to do with a record's place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Add it when it needs delivery; leave an existing entry alone.
    Offer,
    /// This call holds its claim and gives it back: remove it, or keep it when something is left to deliver.
    Finish,
    /// Give the claim back and try again in that many milliseconds; `spent`: the attempt counts.
    Retry {
        /// From now.
        delay_ms: i64,
        /// Whether the attempt counts.
        spent: bool,
    },
    /// Keep the claim: a write is on its way.
    Keep,
    /// Take it out until the brake is released.
    Hold,
}

/// One record.
#[derive(Debug)]
pub struct Record {
    /// `link.id`.
    pub link_id: i64,
    /// Its mapping.
    pub mapping: Rc<Mapping>,
    /// The row's key.
    pub key: String,
    /// The HubSpot record.
    pub hubspot_id: Option<String>,
    /// `link.status`.
    pub status: String,
    /// Both sides were compared once.
    pub contacted: bool,
    /// Why it is parked.
    pub message: Option<String>,
    /// Its fields by `field_mapping.id`; not all of them when it was opened for those at work.
    pub fields: BTreeMap<i32, Entry>,
    /// No state was left out.
    whole: bool,
    /// What becomes of its place in the queue.
    pub queue: Queue,
    /// Nobody waits for it: it is delivered behind what somebody waits for.
    pub background: bool,
    /// The HubSpot id must be written into the row's tracking field.
    pub write_id_back: bool,
    /// Who made HubSpot's versions that are shown to the machine, by field and instant.
    pub authors: BTreeMap<(i32, i64), String>,
    /// The row holds the HubSpot id, or has no field for it.
    pub id_written: bool,
    /// What a deletion or a merge still asks for.
    pub lifecycle: Option<Lifecycle>,
    /// When the row or the record was deleted, on the clock of its side.
    pub deleted_at: i64,
    /// HubSpot's instant of the newest deletion, restore or merge taken into account.
    pub life_at: i64,
    /// The HubSpot record this row had before, or had archived.
    pub gone_id: Option<String>,
    /// The row is to be deleted.
    pub delete_row: bool,
    link_changed: bool,
    logs: Vec<Json>,
    ends: Vec<Json>,
    conflicts: Vec<Json>,
    failures: Vec<Json>,
    row_writes: BTreeMap<i32, Value>,
}

impl Record {
    /// Marks the link's columns as changed.
    pub fn touch_link(&mut self) {
        self.link_changed = true;
    }

    /// Whether a relay has something to do with it.
    pub fn needs_delivery(&self) -> bool {
        match self.status.as_str() {
            "new" => true,
            "linked" => {
                !self.contacted
                    || self.lifecycle == Some(Lifecycle::Heard)
                    || self.fields.values().any(|e| e.state.needs_delivery())
            }
            "deleted_here" => matches!(self.lifecycle, Some(Lifecycle::Archive | Lifecycle::Archiving)),
            _ => false,
        }
    }

    /// Adds a line to the log about a field, or the record when `field` is none.
    pub fn log(&mut self, field: Option<&Field>, side: &str, action: &str, more: Json) {
        let mut line = json!({
            "entity_type": self.mapping.entity_type, "entity_key": self.key,
            "field": field.map(|f| f.field.as_str()), "side": side, "action": action,
        });
        merge(&mut line, more);
        if let Some(field) = field {
            sensitive::mask(field, self.link_id, &mut line, &["warp_value", "hubspot_value"]);
        }
        self.logs.push(line);
    }

    /// Records a value that could not be brought over.
    pub fn fail(&mut self, field: Option<&Rc<Field>>, direction: &str, kind: &str, message: &str, more: Json) {
        let mut line = json!({
            "link_id": self.link_id, "field_id": field.map(|f| f.id),
            "entity_type": self.mapping.entity_type, "entity_key": self.key,
            "field": field.map(|f| f.field.as_str()), "hubspot_property": field.map(|f| f.hubspot_property.as_str()),
            "direction": direction, "kind": kind, "message": message,
        });
        merge(&mut line, more);
        if let Some(field) = field {
            sensitive::mask(field, self.link_id, &mut line, &["value"]);
        }
        self.failures.push(line);
        self.log(field.map(|f| f.as_ref()), "SYNC", "failed", json!({"detail": message}));
        match field {
            Some(f) => {
                if !self.fields.contains_key(&f.id) {
                    self.load_rest();
                }
                if let Some(entry) = self.fields.get_mut(&f.id) {
                    entry.message = Some(message.to_owned());
                    entry.changed = true;
                }
            }
            None => {
                self.message = Some(message.to_owned());
                self.link_changed = true;
            }
        }
    }

    /// Nothing is to be written into the row any more.
    pub fn row_writes_forgotten(&mut self) {
        self.row_writes.clear();
        self.write_id_back = false;
    }

    /// HubSpot does not know the record any more: on record, until it is restored or retried.
    pub fn gone_missing(&mut self) {
        if self.lifecycle == Some(Lifecycle::Heard) {
            // It was heard of as deleted: what follows from that is decided by the look it waits for.
            return;
        }
        self.status = "missing".into();
        self.touch_link();
        self.log(None, "HUBSPOT", "missing", json!({}));
        self.fail(
            None,
            "outbound",
            "missing",
            "HubSpot does not know this record any more",
            json!({}),
        );
    }

    /// The state of a field, made when it is not known yet.
    pub fn entry(&mut self, field: &Rc<Field>) -> &mut Entry {
        if !self.whole && !self.fields.contains_key(&field.id) {
            self.load_rest();
        }
        self.fields.entry(field.id).or_insert_with(|| Entry {
            field: Rc::clone(field),
            state: FieldState::new(Value::NULL, 0),
            loaded_row: Value::NULL,
            claim_generation: None,
            conflict_id: None,
            hubspot_value: None,
            hubspot_changed_at: 0,
            hubspot_read_at: 0,
            synced_at: 0,
            winner: None,
            message: None,
            changed: true,
            stored: false,
        })
    }

    /// Runs an event of the machine on a field and takes its effects into the record.
    pub fn event<R>(
        &mut self,
        field: &Rc<Field>,
        clock: Clock,
        now: i64,
        act: impl FnOnce(&mut FieldState, &Policy, &mut Vec<Effect>) -> R,
    ) -> R {
        let policy = field.policy(clock);
        let mut effects = Vec::new();
        let entry = self.entry(field);
        entry.changed = true;
        let edit = entry
            .state
            .pending_edit
            .or_else(|| entry.state.in_flight.as_ref().and_then(|f| f.edit));
        let result = act(&mut entry.state, &policy, &mut effects);
        let opened = effects
            .iter()
            .any(|e| matches!(e, Effect::Conflict { winner: None, .. }));
        for effect in effects {
            self.take(field, effect, edit, clock, now);
        }
        let entry = self.entry(field);
        if entry.state.held.is_none() {
            entry.conflict_id = None;
        }
        if opened && field.policy_call.is_some() {
            policy::decide(self, field, clock, now);
        }
        result
    }

    fn take(&mut self, field: &Rc<Field>, effect: Effect, edit: Option<i64>, clock: Clock, now: i64) {
        match effect {
            Effect::WriteRow { value, at } => {
                self.log(
                    Some(field),
                    "HUBSPOT",
                    "inbound",
                    json!({"warp_value": value.as_deref(), "edited_us": at, "detail": "written to the row"}),
                );
                self.row_writes.insert(field.id, value);
                self.entry(field).synced_at = now;
            }
            Effect::EditEnded { edit, end } => {
                if end == hubspot_sync_core::field::EditEnd::Delivered {
                    self.entry(field).synced_at = now;
                    self.entry(field).message = None;
                }
                self.ends.push(json!({"id": edit, "outcome": end.label()}));
            }
            Effect::Conflict {
                kind,
                warp_value,
                warp_at,
                hubspot_value,
                hubspot_at,
                base,
                winner,
            } => {
                let strategy = field.conflict_resolution.map(|s| s.to_string());
                let author = self.authors.get(&(field.id, hubspot_at)).cloned();
                let tie = clock_tie(field, clock, warp_at, hubspot_at);
                let reason = reason(field, winner.map(|w| w.label()), tie);
                self.entry(field).winner = winner.map(|w| w.label().to_owned());
                self.dispute(
                    field,
                    json!({
                        "what": "new", "field_id": field.id, "field": field.field, "kind": kind.label(),
                        "warp_value": warp_value.as_deref(), "warp_us": warp_at,
                        "warp_edit": edit, "hubspot_value": hubspot_value.as_deref(), "hubspot_us": hubspot_at,
                        "hubspot_by": author, "base_value": base.as_ref().and_then(Value::as_deref),
                        "strategy": strategy, "winner": winner.map(|w| w.label()), "reason": reason,
                    }),
                );
                self.log(
                    Some(field),
                    "SYNC",
                    "conflict",
                    json!({"warp_value": warp_value.as_deref(), "hubspot_value": hubspot_value.as_deref(),
                           "edited_us": hubspot_at, "detail": reason}),
                );
            }
            Effect::ConflictUpdated {
                warp_value,
                warp_at,
                hubspot_value,
                hubspot_at,
            } => {
                self.dispute(field, json!({
                    "what": "update", "field_id": field.id, "id": self.open_conflict(field.id), "warp_value": warp_value.as_deref(), "warp_us": warp_at,
                    "hubspot_value": hubspot_value.as_deref(), "hubspot_us": hubspot_at,
                }));
            }
            Effect::ConflictSettled => {
                self.conflicts.push(json!({
                    "what": "resolve", "field_id": field.id, "id": self.open_conflict(field.id), "winner": null, "resolved_by": "agreement",
                    "reason": "both sides came to hold the same value",
                }));
            }
            Effect::Noted { note, value, at } => {
                self.log(
                    Some(field),
                    "HUBSPOT",
                    note.label(),
                    json!({"hubspot_value": value.as_deref(), "edited_us": at}),
                );
            }
        }
    }

    /// Adds a conflict, or news of one.
    fn dispute(&mut self, field: &Field, mut conflict: Json) {
        let values = ["warp_value", "hubspot_value", "base_value"];
        sensitive::mask(field, self.link_id, &mut conflict, &values);
        self.conflicts.push(conflict);
    }

    /// The fields whose states this call has changed.
    pub fn changed_entries(&self) -> impl Iterator<Item = &Entry> {
        self.fields.values().filter(|e| e.changed)
    }

    fn open_conflict(&self, field_id: i32) -> Option<i64> {
        self.fields.get(&field_id).and_then(|e| e.conflict_id)
    }

    /// Notes, after the event that resolved a conflict, how the field stands: an undo is possible while it stands so.
    pub fn note_resolution(&mut self, field: &Rc<Field>) {
        let generation = self.entry(field).state.generation;
        if let Some(last) = self
            .conflicts
            .iter_mut()
            .rev()
            .find(|c| c["what"] == "resolve" && c["field_id"] == field.id)
        {
            last["resolved_generation"] = json!(generation);
        }
    }

    /// Records that a conflict is open again.
    pub fn reopened(&mut self, field: &Rc<Field>, conflict_id: i64, by: &str) {
        self.conflicts
            .push(json!({"what": "reopen", "field_id": field.id, "id": conflict_id}));
        let entry = self.entry(field);
        entry.conflict_id = Some(conflict_id);
        entry.winner = None;
        self.log(Some(field), "SYNC", "reopened", json!({"actor": by}));
    }

    /// Records that an open conflict was resolved; to be called before the event that resolves it.
    pub fn resolved(&mut self, field: &Rc<Field>, winner: &str, by: &str) {
        self.conflicts.push(json!({
            "what": "resolve", "field_id": field.id, "id": self.open_conflict(field.id), "winner": winner, "resolved_by": by, "reason": format!("decided by {by}"),
        }));
        self.entry(field).winner = Some(winner.to_owned());
        self.log(Some(field), "SYNC", "resolved", json!({"actor": by, "detail": winner}));
    }
}

/// Whether a LATEST_WINS conflict was a tie: the edits are closer than the clocks can be compared.
fn clock_tie(field: &Field, clock: Clock, warp_at: i64, hubspot_at: i64) -> bool {
    field.conflict_resolution == Some(Strategy::LatestWins) && field.policy(clock).is_tie(warp_at, hubspot_at)
}

/// Why a conflict ended as it did, in the strategy's words.
fn reason(field: &Field, winner: Option<&str>, tie: bool) -> String {
    match (winner, field.conflict_resolution) {
        (Some(w), Some(Strategy::LatestWins)) if tie => format!("{w} (tie: closer than the clocks can be compared)"),
        (Some(w), Some(Strategy::LatestWins)) => format!("{w} (latest)"),
        (Some(w), Some(s)) => format!("{w} ({s})"),
        _ => "MANUAL_REVIEW".to_owned(),
    }
}

/// Adds the members of `more` to `line`.
fn merge(line: &mut Json, more: Json) {
    if let (Json::Object(into), Json::Object(from)) = (line, more) {
        into.extend(from);
    }
}

/// The records of one call.
pub struct Book {
    /// The mappings.
    pub catalog: Catalog,
    /// By `link.id`.
    pub records: BTreeMap<i64, Record>,
    /// The database's clock at the start of the call, microseconds.
    pub now: i64,
}

impl Book {
    /// Writes HubSpot ids into rows. Unlike a value, an id that cannot be written now takes nothing back: it is tried again
    /// by [`crate::relay`]'s maintenance.
    pub fn write_ids(&mut self) {
        rows::write_rows(self);
    }

    /// Writes HubSpot's values into the rows, and drops the records whose rows could not be written: as if what was
    /// offered to them had not been.
    pub fn write_rows(&mut self) -> Written {
        let written = rows::write_rows(self);
        for id in written.busy.iter().chain(written.refused.keys()) {
            self.records.remove(id);
        }
        written
    }
}
