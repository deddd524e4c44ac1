//! What an event causes besides the new state: rows to write, conflicts to record, ends of edits, log lines.

use crate::value::Value;

/// Why two values were found to disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConflictKind {
    /// Both sides were edited since they last agreed.
    BothModified,
    /// The two sides never agreed and hold different values.
    InitialMismatch,
    /// One side deleted the record, the other edited the field.
    DeleteUpdate,
}

impl ConflictKind {
    /// The label stored in `conflicts.kind`.
    pub fn label(self) -> &'static str {
        match self {
            ConflictKind::BothModified => "BOTH_MODIFIED",
            ConflictKind::InitialMismatch => "INITIAL_MISMATCH",
            ConflictKind::DeleteUpdate => "DELETE_UPDATE",
        }
    }
}

/// Who won.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Winner {
    /// The row's value.
    Warp,
    /// HubSpot's value.
    Hubspot,
    /// A third value, given by a person.
    Value,
}

impl Winner {
    /// The label stored in `conflicts.winner`.
    pub fn label(self) -> &'static str {
        match self {
            Winner::Warp => "WARP",
            Winner::Hubspot => "HUBSPOT",
            Winner::Value => "VALUE",
        }
    }
}

/// How a captured local edit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EditEnd {
    /// HubSpot holds the value and said so.
    Delivered,
    /// A later edit of the same field took its place before it was delivered.
    Superseded,
    /// It lost a conflict; the conflict row keeps the value.
    Lost,
    /// HubSpot refused it; `failed_syncs` keeps the reason.
    Failed,
    /// The field's direction does not send it.
    Skipped,
    /// It changed nothing that was not known already.
    Unchanged,
}

impl EditEnd {
    /// The label stored in `sync_log.outcome`.
    pub fn label(self) -> &'static str {
        match self {
            EditEnd::Delivered => "delivered",
            EditEnd::Superseded => "superseded",
            EditEnd::Lost => "lost_conflict",
            EditEnd::Failed => "failed",
            EditEnd::Skipped => "skipped",
            EditEnd::Unchanged => "unchanged",
        }
    }
}

/// Something worth a line in the log that changes nothing outside the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// A foreign version that was taken into account before: doubled or late.
    Stale,
    /// Our own write coming back.
    Echo,
    /// A write of ours was found to have landed after something newer: the newer value is sent again.
    LateWrite,
    /// HubSpot changed a property that this mapping does not take from it; reconciliation will overwrite it.
    SkippedByDirection,
    /// A foreign edit that was already buried by our newer write, and lost.
    Buried,
    /// Nothing had to be written: HubSpot holds the value already.
    AlreadyEqual,
    /// HubSpot's later edit of the value that was being set back to it.
    RepairOvertaken,
}

impl Note {
    /// The label stored in `sync_log.action`.
    pub fn label(self) -> &'static str {
        match self {
            Note::Stale => "stale",
            Note::Echo => "echo",
            Note::LateWrite => "late_write",
            Note::SkippedByDirection => "skipped_by_direction",
            Note::Buried => "buried",
            Note::AlreadyEqual => "already_equal",
            Note::RepairOvertaken => "repair_overtaken",
        }
    }
}

/// One thing to do or to record; the order of effects is the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The row must be given this value, which was edited in HubSpot at `at` (or by a person resolving a conflict).
    WriteRow {
        /// The value.
        value: Value,
        /// Its edit time.
        at: i64,
    },
    /// The ledger entry of a local edit has its end.
    EditEnded {
        /// The ledger entry.
        edit: i64,
        /// How it ended.
        end: EditEnd,
    },
    /// A conflict was found; without a winner it is open.
    Conflict {
        /// Its kind.
        kind: ConflictKind,
        /// The row's side.
        warp_value: Value,
        /// When the row's side was edited.
        warp_at: i64,
        /// HubSpot's side.
        hubspot_value: Value,
        /// When HubSpot's side was edited.
        hubspot_at: i64,
        /// What both sides last agreed on.
        base: Option<Value>,
        /// Who won; `None`: waits for a person.
        winner: Option<Winner>,
    },
    /// An open conflict has new facts: a later edit of either side.
    ConflictUpdated {
        /// The row's side.
        warp_value: Value,
        /// When the row's side was edited.
        warp_at: i64,
        /// HubSpot's side.
        hubspot_value: Value,
        /// When HubSpot's side was edited.
        hubspot_at: i64,
    },
    /// An open conflict needs nobody any more: both sides hold the same value again.
    ConflictSettled,
    /// A log line.
    Noted {
        /// What happened.
        note: Note,
        /// HubSpot's value concerned.
        value: Value,
        /// HubSpot's instant.
        at: i64,
    },
}
