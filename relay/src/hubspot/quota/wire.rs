//! What relay and database tell each other about slots and the day. `extension/RELAY_CONTRACT.md` describes it.

use serde::{Deserialize, Serialize};

/// What a relay holds, needs and has used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rises with each report: one that arrives late is ignored.
    pub seq: u64,
    /// The windows this relay takes part in.
    pub budgets: Vec<BudgetReport>,
    /// Calls to count, and what HubSpot says of the day.
    pub day: DayReport,
}

/// One window's part of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetReport {
    /// `general` or `search`.
    pub budget: &'static str,
    /// Length of the window.
    pub window_ms: u64,
    /// The limit this relay knows of.
    pub limit: u64,
    /// Slots held, those given back left out.
    pub held: u64,
    /// Slots needed for live calls.
    pub live: u64,
    /// Slots needed for the others.
    pub background: u64,
    /// Slots given back: in how many milliseconds they are free, and how many.
    pub give: Vec<(u64, u64)>,
}

/// The day's part of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DayReport {
    /// Calls since the last report.
    pub calls: Calls,
    /// The limit of the day, configured or named by HubSpot.
    pub limit: Option<u64>,
    /// What HubSpot says is left of it.
    pub left: Option<u64>,
    /// The account's time zone, when known.
    pub zone: Option<String>,
}

/// Counts by purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    /// Live calls.
    pub live: u64,
    /// Backfill's.
    pub backfill: u64,
    /// Reconciliation's.
    pub reconcile: u64,
}

/// What the database answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Grant {
    /// By window.
    pub budgets: Vec<BudgetGrant>,
    /// The day; none when it has no limit.
    pub day: Option<DayGrant>,
}

/// One window's part of a grant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct BudgetGrant {
    /// `general` or `search`.
    pub budget: String,
    /// The database knows nothing of the slots this relay holds: they are void.
    pub reset: bool,
    /// The limit over all relays.
    pub limit: u64,
    /// Most slots this relay should hold.
    pub target: u64,
    /// Relays that take part.
    pub relays: u64,
    /// More slots are needed than there are.
    pub contended: bool,
    /// New slots: in how many milliseconds they are free, and how many.
    pub grant: Vec<(u64, u64)>,
}

/// The day's part of a grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DayGrant {
    /// The limit of the day.
    pub limit: u64,
    /// Calls made since it began, other apps' included as far as HubSpot tells.
    pub used: u64,
    /// Milliseconds until the next day.
    pub ends_in_ms: u64,
    /// Calls this relay may make until it reports again.
    pub allow: Allowance,
}

/// Calls that may be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Allowance {
    /// In all.
    pub total: u64,
    /// Of those, for backfill.
    pub backfill: u64,
    /// Of those, for reconciliation.
    pub reconcile: u64,
}
