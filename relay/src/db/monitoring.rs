//! The extension's figures and alerts, and what it is told of HubSpot's properties.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Json;

use super::error::DbError;
use super::pool::Db;
use crate::hubspot::model::PropertyDefinition;

/// Answer to `relay_figures`: the database's part of what Prometheus is shown. A figure that is not known is none.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Captured changes and queued records; counting stops at a million each.
    pub queue_depth: i64,
    /// Age of the oldest change that HubSpot does not have and could have.
    pub oldest_change_seconds: f64,
    /// Conflicts that wait for a person.
    pub conflicts_open: i64,
    /// Conflicts ever found.
    pub conflicts_total: u64,
    /// Failures that wait for a person.
    pub failures_open: i64,
    /// Failures ever recorded.
    pub failures_total: u64,
    /// Stored events that are not applied yet.
    pub webhook_events_pending: i64,
    /// Stored events that wait for the outcome of a write.
    pub webhook_events_waiting: i64,
    /// Time since an acknowledged write that no event followed.
    pub webhook_silence_seconds: f64,
    /// Unix time of the newest event.
    pub last_webhook_at: Option<f64>,
    /// Linked records.
    pub links: i64,
    /// Relays with a heartbeat.
    pub relays_alive: i64,
    /// Calls of the day.
    pub quota_used: Option<i64>,
    /// Calls left of the day.
    pub quota_left: Option<i64>,
    /// The day's limit.
    pub quota_limit: Option<i64>,
    /// Calls of the whole day at the present rate.
    pub quota_forecast: Option<i64>,
    /// HubSpot's clock minus the database's.
    pub clock_offset_seconds: Option<f64>,
    /// How far that may be off.
    pub clock_uncertainty_seconds: Option<f64>,
    /// Mappings whose brake is on.
    pub brakes_on: i64,
    /// Rows of `hubspot.mapping_problems`.
    pub mapping_problems: i64,
    /// Rows of `hubspot.alerts`.
    pub alerts: i64,
    /// Recent deliveries.
    pub latency: Option<Latency>,
    /// All deliveries.
    pub delivery: Option<Histogram>,
    /// By mapping.
    pub mappings: Vec<MappingFigures>,
}

/// How long recent deliveries took, from the edit of the row to HubSpot's acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Latency {
    /// The median.
    #[serde(rename = "0.5")]
    pub p50: f64,
    /// 95 of 100 were faster.
    #[serde(rename = "0.95")]
    pub p95: f64,
    /// The slowest.
    #[serde(rename = "1")]
    pub worst: f64,
}

/// How long deliveries took, since the extension was installed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Histogram {
    /// Upper bounds of the buckets in seconds, rising.
    pub bounds: Vec<f64>,
    /// How many in each bucket, and one more: beyond the last bound.
    pub counts: Vec<u64>,
    /// Their sum in seconds.
    pub seconds: f64,
}

/// Figures of one mapping.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MappingFigures {
    /// Its name.
    pub entity_type: String,
    /// Age of its oldest change; 0 when nothing waits.
    pub oldest_change_seconds: f64,
    /// What its option `freshness_target_seconds` says.
    #[serde(default)]
    pub target_seconds: Option<i64>,
}

/// What a relay sees that the database does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OwnSight {
    /// HubSpot refuses the token.
    pub auth_failed: bool,
    /// This relay can verify webhooks, so they are expected.
    pub webhooks_expected: bool,
}

/// An alert that began or ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AlertChange {
    /// Its name, as in `relay/deploy/alerts.yml`.
    pub alert: String,
    /// `warning` or `critical`.
    pub severity: String,
    /// `raised` or `cleared`.
    pub state: String,
    /// What was measured, and the limit.
    pub detail: String,
}

impl Db {
    /// The database's figures.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn figures(&self) -> Result<Figures, DbError> {
        self.call("relay_figures", "select hubspot.relay_figures()", &[]).await
    }

    /// Remembers HubSpot's definitions of an object type, for `hubspot.plan` and `hubspot.check_mapping`; gives their number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remember_properties(
        &self,
        object_type: &str,
        definitions: &[PropertyDefinition],
    ) -> Result<i64, DbError> {
        let sql = "select to_jsonb(hubspot.relay_properties($1::text, $2::jsonb))";
        self.call("relay_properties", sql, &[&object_type, &Json(definitions)])
            .await
    }

    /// Brings the alerts up to date; gives those that changed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn alerts(&self, relay_id: &str, own: OwnSight) -> Result<Vec<AlertChange>, DbError> {
        let sql = "select hubspot.relay_alerts($1::text, $2::jsonb)";
        self.call("relay_alerts", sql, &[&relay_id, &Json(own)]).await
    }
}
