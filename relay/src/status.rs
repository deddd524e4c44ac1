//! What the relay knows about its surroundings: shared by supervisor, delivery, intake and health pages.

use tokio::sync::watch;

use crate::metrics::Metrics;

/// A look at the surroundings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The last heartbeat reached the database.
    pub database_up: bool,
    /// The extension's schema is of a version this relay works with.
    pub schema_known: bool,
    /// The database is armed for this portal.
    pub armed: bool,
    /// An operator paused it.
    pub paused: bool,
    /// Why not armed, or paused, or not yet known.
    pub reason: Option<String>,
    /// HubSpot refuses the token or a scope.
    pub auth_failed: bool,
    /// HubSpot is out.
    pub circuit_open: bool,
    /// The token is known to belong to the portal, or nobody can say.
    pub portal_checked: bool,
}

impl Snapshot {
    /// Whether functions of the extension may be called that change anything but storing events.
    pub fn may_work(&self) -> bool {
        self.database_up && self.schema_known
    }

    /// Whether records may be claimed.
    pub fn may_claim(&self) -> bool {
        self.database_up && self.armed && !self.paused && self.portal_checked
    }

    /// Whether the relay does its work, for `/readyz`.
    pub fn is_ready(&self) -> bool {
        self.database_up && self.armed && !self.auth_failed
    }
}

/// The shared state. Clones share it.
#[derive(Debug, Clone)]
pub struct Status {
    sender: watch::Sender<Snapshot>,
    metrics: Metrics,
}

impl Status {
    /// Nothing known yet.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            sender: watch::Sender::new(Snapshot::default()),
            metrics,
        }
    }

    /// As of now.
    pub fn snapshot(&self) -> Snapshot {
        self.sender.borrow().clone()
    }

    /// To wait for changes.
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.sender.subscribe()
    }

    /// Changes it; returns what it was before.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) -> Snapshot {
        let before = self.snapshot();
        self.sender.send_if_modified(|snapshot| {
            let old = snapshot.clone();
            change(snapshot);
            *snapshot != old
        });
        let now = self.snapshot();
        self.metrics.state("database_up", now.database_up);
        self.metrics.state("armed", now.armed);
        self.metrics.state("paused", now.paused);
        self.metrics.state("auth_failed", now.auth_failed);
        self.metrics.state("circuit_open", now.circuit_open);
        before
    }
}
