//! What systemd is told: ready, stopping, and that the relay's loops still turn. Silent when it is not systemd that started us.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::liveness::Liveness;
use crate::status::{Snapshot, Status};

/// Between two looks at the status when no watchdog wants to be fed.
const UNHURRIED: Duration = Duration::from_secs(10);

/// The relay has bound its listeners.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// A stop was asked for.
pub(crate) fn stopping() {
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing what is in flight"),
    ]);
}

/// Feeds the watchdog while every loop turns, and tells the status, until `stop`.
pub(crate) async fn run(status: Status, liveness: Liveness, stop: CancellationToken) {
    let period = sd_notify::watchdog_enabled().map_or(UNHURRIED, |limit| limit / 3);
    loop {
        let stuck = liveness.stuck();
        match stuck.first() {
            // No more food: systemd ends the process and starts another.
            Some((part, age)) => tracing::error!(
                event = crate::telemetry::event::TASK_FAILED,
                task = part,
                seconds = age.as_secs(),
                "a loop stands still: the watchdog is not fed any more"
            ),
            None => notify(&[NotifyState::Watchdog, NotifyState::Status(summary(&status.snapshot()))]),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
    }
}

/// What `systemctl status` shows.
fn summary(snapshot: &Snapshot) -> &'static str {
    match snapshot {
        Snapshot { database_up: false, .. } => "the database cannot be worked with",
        Snapshot { auth_failed: true, .. } => "HubSpot refuses the token or a scope",
        Snapshot { armed: false, .. } => "the database is not armed for this portal",
        Snapshot { paused: true, .. } => "paused",
        Snapshot { circuit_open: true, .. } => "HubSpot is out",
        _ => "working",
    }
}

fn notify(states: &[NotifyState]) {
    // Nobody to tell, or systemd away: the relay works all the same.
    let _ = sd_notify::notify(states);
}
