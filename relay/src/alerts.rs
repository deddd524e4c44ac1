//! Alerts for set-ups without Prometheus: the database judges, NOTIFY `hubspot_alert` tells whoever listens, and the log has
//! each change at error level with a stable event name.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::db::monitoring::{AlertChange, OwnSight};
use crate::db::pool::Db;
use crate::status::Status;
use crate::telemetry::event;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(60);
/// The same while the database is away.
const IMPATIENT: Duration = Duration::from_secs(5);

/// Runs until `stop`. A refused token is told at once, everything else within a minute.
pub(crate) async fn run(db: Db, relay_id: String, status: Status, webhooks_expected: bool, stop: CancellationToken) {
    let mut changes = status.subscribe();
    while !stop.is_cancelled() {
        let seen = changes.borrow_and_update().clone();
        let mut wait = IMPATIENT;
        if seen.database_up {
            let own = OwnSight {
                auth_failed: seen.auth_failed,
                webhooks_expected,
            };
            match db.alerts(&relay_id, own).await {
                Ok(changed) => {
                    changed.iter().for_each(tell);
                    wait = LOOK;
                }
                Err(error) => {
                    tracing::warn!(event = event::DATABASE_FAILED, function = "relay_alerts", %error, "alerts cannot be judged");
                }
            }
        }
        let differs = |now: &crate::status::Snapshot| {
            now.auth_failed != seen.auth_failed || (now.database_up && !seen.database_up)
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = changes.wait_for(differs) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn tell(change: &AlertChange) {
    let AlertChange {
        alert,
        severity,
        state,
        detail,
    } = change;
    if state == "raised" {
        tracing::error!(
            event = event::ALERT_RAISED,
            alert,
            severity,
            detail,
            "an alert was raised: see relay/deploy/RUNBOOK.md"
        );
    } else {
        tracing::error!(event = event::ALERT_CLEARED, alert, severity, "an alert has ended");
    }
}
