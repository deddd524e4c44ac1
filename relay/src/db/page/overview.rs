//! The overview, and what every screen shows around itself.

use serde::Deserialize;

use super::Instant;

/// Whether the relay may work, and what waits for a person.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Chrome {
    /// Why relays may not work.
    pub reason: Option<String>,
    /// An operator paused it.
    pub paused: bool,
    /// Which role did.
    pub paused_by: Option<String>,
    /// Relays seen in the last 15 seconds.
    pub relays_alive: i64,
    /// Open conflicts, 1000 for that many or more.
    pub conflicts: i64,
    /// Open failures, likewise.
    pub failures: i64,
    /// Mapped types.
    pub types: Vec<EntityType>,
}

/// A mapped type.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct EntityType {
    /// Its name.
    pub name: String,
    /// Its fields.
    pub fields: Vec<String>,
}

/// The overview.
#[derive(Debug, Clone, Deserialize)]
pub struct Overview {
    /// As `hubspot.status()`.
    pub status: Status,
    /// As `hubspot.quota`.
    pub quota: Option<Quota>,
    /// Relays, the one seen last first.
    pub relays: Vec<Relay>,
    /// Latency by field.
    pub latency: Vec<Latency>,
    /// Figures over time.
    pub history: Vec<Point>,
}

/// What the overview shows of `hubspot.status()`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The portal.
    pub portal_id: Option<i64>,
    /// Changes that wait.
    pub queue_depth: i64,
    /// Since when.
    pub oldest_waiting_seconds: Option<i64>,
    /// Open conflicts.
    pub conflicts_open: i64,
    /// Open failures.
    pub failed_open: i64,
    /// Events that wait.
    pub webhook_events_pending: i64,
    /// Linked records.
    pub links: i64,
    /// The last webhook.
    pub last_webhook_at: Instant,
    /// What is wrong.
    pub warnings: Option<Vec<String>>,
}

/// What the overview shows of `hubspot.quota`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// The limit.
    pub calls_per_day: Option<i64>,
    /// Calls used.
    pub used: i64,
    /// Of those, for live changes.
    pub live: i64,
    /// For first loads.
    pub backfill: i64,
    /// For comparisons.
    pub reconcile: i64,
    /// By other apps.
    pub used_elsewhere: i64,
    /// Left of the limit.
    pub calls_left: Option<i64>,
    /// For the whole day.
    pub forecast: Option<i64>,
}

/// A relay.
#[derive(Debug, Clone, Deserialize)]
pub struct Relay {
    /// Its name.
    pub relay_id: String,
    /// Its version.
    pub version: String,
    /// Since when.
    pub started_at: Instant,
    /// Its last heartbeat.
    pub last_seen_at: Instant,
    /// Calls to HubSpot.
    pub requests: i64,
    /// Answers 429.
    pub rate_limited: i64,
    /// Calls that failed.
    pub failed: i64,
    /// Seen in the last 15 seconds.
    pub alive: bool,
}

/// Latency of a field.
#[derive(Debug, Clone, Deserialize)]
pub struct Latency {
    /// The type.
    pub entity_type: String,
    /// The field.
    pub field: String,
    /// Deliveries.
    pub delivered: i64,
    /// Seconds, the half of them.
    pub p50_seconds: f64,
    /// Seconds, 95 of 100.
    pub p95_seconds: f64,
    /// Seconds, the slowest.
    pub worst_seconds: f64,
}

/// Figures of a span of time.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Point {
    /// Its begin.
    pub at: Instant,
    /// Highest number of waiting changes.
    pub queue_depth: Option<f64>,
    /// Highest 95th percentile, seconds.
    pub latency_p95_seconds: Option<f64>,
    /// Deliveries.
    pub delivered: Option<f64>,
    /// Conflicts found.
    pub conflicts: Option<f64>,
    /// Failures.
    pub failures: Option<f64>,
}
