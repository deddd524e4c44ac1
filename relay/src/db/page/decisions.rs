//! Conflicts, failures, and what people decide about them.

use serde::{Deserialize, Serialize};

use super::Instant;

/// A conflict.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Conflict {
    /// Its id.
    pub id: i64,
    /// The record's type.
    pub entity_type: String,
    /// The record's key.
    pub entity_key: String,
    /// The field.
    pub field: String,
    /// `BOTH_MODIFIED` or `INITIAL_MISMATCH`.
    pub kind: String,
    /// The row's value.
    pub warp_value: Option<String>,
    /// When it was edited.
    pub warp_changed_at: Instant,
    /// By whom.
    pub warp_changed_by: Option<String>,
    /// HubSpot's value.
    pub hubspot_value: Option<String>,
    /// When it was edited.
    pub hubspot_changed_at: Instant,
    /// By whom.
    pub hubspot_changed_by: Option<String>,
    /// What both sides last agreed on.
    pub base_value: Option<String>,
    /// The policy.
    pub strategy: String,
    /// `open` or `resolved`.
    pub status: String,
    /// Who won.
    pub winner: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Who decided.
    pub resolved_by: Option<String>,
    /// When.
    pub resolved_at: Instant,
    /// When it was found.
    pub detected_at: Instant,
    /// The record's id at HubSpot.
    pub hubspot_id: Option<String>,
    /// The property.
    pub hubspot_property: Option<String>,
    /// Values the field allows.
    pub enum_values: Option<Vec<String>>,
    /// Stands for what is shown here.
    pub fingerprint: String,
    /// A person's decision that can be taken back.
    #[serde(default)]
    pub undoable: Option<bool>,
}

/// What a decision in bulk would be about.
#[derive(Debug, Clone, Deserialize)]
pub struct Preview {
    /// How many match.
    pub total: i64,
    /// Those that one decision takes, as `id:fingerprint`.
    pub chosen: Vec<String>,
    /// How many of which field.
    pub groups: Vec<Group>,
    /// The first of them.
    pub rows: Vec<Conflict>,
}

/// A count by field.
#[derive(Debug, Clone, Deserialize)]
pub struct Group {
    /// The type.
    pub entity_type: String,
    /// The field.
    pub field: String,
    /// How many.
    pub n: i64,
}

/// A failed sync.
#[derive(Debug, Clone, Deserialize)]
pub struct Failure {
    /// Its id.
    pub id: i64,
    /// When it failed last.
    pub failed_at: Instant,
    /// The record's type.
    pub entity_type: String,
    /// The record's key.
    pub entity_key: String,
    /// The field; none: the whole record.
    pub field: Option<String>,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// The property.
    pub hubspot_property: Option<String>,
    /// The class.
    pub kind: String,
    /// HTTP status.
    pub http_status: Option<i32>,
    /// HubSpot's message, or the table's.
    pub message: String,
    /// The value.
    pub value: Option<String>,
    /// How often it failed.
    pub attempts: i32,
    /// `open`, `retried` or `resolved`.
    pub status: String,
    /// When it ended.
    pub ended_at: Instant,
    /// The record's id at HubSpot.
    #[serde(default)]
    pub hubspot_id: Option<String>,
    /// Values the field allows.
    #[serde(default)]
    pub enum_values: Option<Vec<String>>,
}

/// What trying failures again would be about.
#[derive(Debug, Clone, Deserialize)]
pub struct RetryPreview {
    /// How many match; 100001 for more than 100,000.
    pub total: i64,
    /// Ids of those that would be tried.
    pub chosen: Vec<i64>,
    /// Of how many records they are.
    pub records: i64,
    /// By field and kind.
    pub groups: Vec<RetryGroup>,
    /// The first of them.
    pub rows: Vec<RetryLine>,
}

/// Failures of one field and kind.
#[derive(Debug, Clone, Deserialize)]
pub struct RetryGroup {
    /// The type.
    pub entity_type: String,
    /// The field; none: the whole record.
    pub field: Option<String>,
    /// The class.
    pub kind: String,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// How many.
    pub n: i64,
}

/// A failure as it would be tried.
#[derive(Debug, Clone, Deserialize)]
pub struct RetryLine {
    /// What failed.
    #[serde(flatten)]
    pub failure: Failure,
    /// What the row holds now.
    pub value_now: Option<String>,
    /// Why it is expected to be refused again.
    pub expected: Option<String>,
}

/// What came of a decision.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Decided {
    /// Ids it was done to.
    pub done: Vec<i64>,
    /// Ids that were left as they were.
    pub refused: Vec<Refusal>,
    /// The entry of the log.
    pub log_id: Option<i64>,
}

/// One that was left as it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refusal {
    /// Its id.
    pub id: i64,
    /// Why.
    pub message: String,
    /// The mend.
    pub hint: Option<String>,
}

/// An entry of the page's log.
#[derive(Debug, Clone, Deserialize)]
pub struct Action {
    /// Its id.
    pub id: i64,
    /// When.
    pub at: Instant,
    /// Who.
    pub actor: String,
    /// As which role.
    pub role: String,
    /// `resolve`, `undo`, `retry`, `compare` or `cancel`.
    pub action: String,
    /// Who won.
    pub winner: Option<String>,
    /// To how many.
    pub done: i64,
    /// How many were left.
    pub refused: i64,
    /// The first subjects.
    pub first: Vec<i64>,
}

impl Decided {
    pub(super) fn add(&mut self, more: Self) {
        self.done.extend(more.done);
        self.refused.extend(more.refused);
        self.log_id = more.log_id.or(self.log_id);
    }
}
