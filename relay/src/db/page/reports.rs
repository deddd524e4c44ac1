//! Reconciliation runs and their reports.

use serde::Deserialize;

use super::Instant;

/// A reconciliation run.
#[derive(Debug, Clone, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: i64,
    /// The type.
    pub entity_type: String,
    /// `full`, `incremental` or `poll`.
    pub kind: String,
    /// Differences were only reported.
    pub dry_run: bool,
    /// How far it is.
    pub status: String,
    /// When it began.
    #[serde(default)]
    pub started_at: Instant,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Instant,
    /// Why it ended so.
    #[serde(default)]
    pub message: Option<String>,
    /// Findings.
    pub discrepancies: i64,
    /// Who asked for it.
    pub requested_by: String,
    /// When.
    pub requested_at: Instant,
    /// Rows compared.
    pub rows_read: i64,
    /// Records compared.
    pub records: i64,
    /// Calls to HubSpot.
    pub api_calls: i64,
    /// How far it is, while it is not finished.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// Summed up.
    #[serde(default)]
    pub report: Vec<ReportLine>,
    /// A page of findings.
    #[serde(default)]
    pub found: Vec<Finding>,
}

/// How far a run is.
#[derive(Debug, Clone, Deserialize)]
pub struct Progress {
    /// Records that were compared.
    pub done: i64,
    /// Records there are.
    pub total: i64,
    /// The share of them.
    pub percent: Option<f64>,
    /// Time that is left, where it can be said.
    pub estimated_seconds_left: Option<i64>,
    /// The relay that drives it.
    pub claimed_by: Option<String>,
}

/// What came of asking for a run, or for its end.
#[derive(Debug, Clone, Deserialize)]
pub struct Asked {
    /// The run.
    pub run: Option<i64>,
    /// Why there is none.
    pub message: Option<String>,
    /// The mend.
    pub hint: Option<String>,
}

/// A line of a run's report.
#[derive(Debug, Clone, Deserialize)]
pub struct ReportLine {
    /// What differed.
    pub kind: String,
    /// In which field.
    pub field: Option<String>,
    /// What was done.
    pub action: String,
    /// How often.
    pub discrepancies: i64,
    /// An example.
    pub example_key: Option<String>,
}

/// A finding of a run.
#[derive(Debug, Clone, Deserialize)]
pub struct Finding {
    /// Its id.
    pub id: i64,
    /// The type.
    pub entity_type: String,
    /// The key.
    pub entity_key: Option<String>,
    /// HubSpot's id.
    pub hubspot_id: Option<String>,
    /// The field.
    pub field: Option<String>,
    /// What differed.
    pub kind: String,
    /// The row's value.
    pub warp_value: Option<String>,
    /// HubSpot's value.
    pub hubspot_value: Option<String>,
    /// What was done.
    pub action: String,
}
