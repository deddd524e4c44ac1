//! Applying stored webhook events: the extension decides, this loop only calls.
//!
//! Woken by the webhook intake and after every recorded outcome (events may have waited for it), and once a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::db::pool::Db;
use crate::metrics::Metrics;
use crate::status::Status;
use crate::telemetry::event;

/// Events per call: a short transaction.
const EVENTS: i32 = 500;
const POLL: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Runs until `stop`.
pub(crate) async fn run(db: Db, status: Status, metrics: Metrics, wake: Arc<Notify>, stop: CancellationToken) {
    let mut wait = POLL;
    while !stop.is_cancelled() {
        wait = if status.snapshot().may_work() {
            match drain(&db, &metrics, &stop).await {
                Ok(()) => POLL,
                Err(()) => (wait * 2).min(LONGEST_WAIT),
            }
        } else {
            POLL
        };
        tokio::select! {
            () = stop.cancelled() => {}
            // After a failure the timer decides: a flood of webhooks must not turn into a flood of failing calls.
            () = wake.notified(), if wait == POLL => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn drain(db: &Db, metrics: &Metrics, stop: &CancellationToken) -> Result<(), ()> {
    loop {
        match db.apply(EVENTS).await {
            Ok(result) => {
                metrics.applied(&result);
                let handled = result.applied + result.skipped + result.failed;
                if handled > 0 {
                    tracing::debug!(
                        event = event::APPLIED,
                        applied = result.applied,
                        skipped = result.skipped,
                        failed = result.failed,
                        waiting = result.waiting,
                        "stored events are applied"
                    );
                }
                // A call that did nothing and still says "more" must not spin.
                if !result.more || handled == 0 || stop.is_cancelled() {
                    return Ok(());
                }
            }
            Err(error) => {
                metrics.database_failed();
                tracing::warn!(event = event::DATABASE_FAILED, function = "relay_apply", %error, "applying failed");
                return Err(());
            }
        }
    }
}
