//! Carries slots between the rate limiter and the database, which lends them to all relays.
//!
//! One report at a time: while slots are held or wanted, every tenth of a second to every second, and at once when a call
//! waits for a slot this relay does not have. An idle relay holds nothing and says nothing. A relay that dies keeps its
//! slots until its lease and the longest call are over and what it sent has left HubSpot's window.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db::pool::Db;
use crate::hubspot::client::Client;
use crate::hubspot::quota::{RateLimiter, Report, WINDOW};
use crate::metrics::Metrics;
use crate::telemetry::event;

/// How long lent slots may be used without another report.
const LEASE: Duration = Duration::from_secs(3);
/// Local use ends this much before, for the time a request takes to leave.
const SAFETY: Duration = Duration::from_millis(200);
/// Least time between two reports.
const GAP: Duration = Duration::from_millis(15);
/// Wait after a report that failed.
const DB_WAIT: Duration = Duration::from_millis(500);

/// Runs until `stop`; then gives everything back.
pub(crate) async fn run(db: Db, client: Client, relay_id: String, metrics: Metrics, stop: CancellationToken) {
    let limiter = client.limiter().clone();
    let drain = client.timeout() + WINDOW + Duration::from_secs(1);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = limiter.wanted(), if !failing => {}
            () = tokio::time::sleep(if failing { DB_WAIT } else { limiter.report_due() }) => {}
        }
        let Some(report) = limiter.report(false) else {
            failing = false;
            continue;
        };
        failing = !send(&db, &limiter, &relay_id, drain, &report).await;
        if failing {
            metrics.database_failed();
        }
        tokio::time::sleep(GAP).await;
    }
    if let Some(report) = limiter.report(true) {
        send(&db, &limiter, &relay_id, drain, &report).await;
    }
}

async fn send(db: &Db, limiter: &RateLimiter, relay_id: &str, drain: Duration, report: &Report) -> bool {
    let asked_at = Instant::now();
    match db.quota(relay_id, LEASE, drain, report).await {
        Ok(grant) => {
            limiter.grant(&grant, asked_at, LEASE - SAFETY);
            true
        }
        Err(error) => {
            limiter.not_reported(report);
            tracing::warn!(
                event = event::DATABASE_FAILED,
                function = "relay_quota",
                %error,
                "no slots of HubSpot's limit can be had from the database"
            );
            false
        }
    }
}
