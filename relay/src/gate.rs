//! Whether HubSpot can be worked with at all: the circuit breaker, and the stop after a refused token.
//!
//! A call that met a time-out, a broken connection or a 5xx is followed at once by a probe, the cheapest read of the same
//! object type. If the probe fails too, it is an outage: the circuit opens, records are handed back without a try being
//! counted, and single probes, further and further apart, find out when HubSpot is back. If the probe succeeds, the
//! trouble is with the request: its try counts, so that a record HubSpot always chokes on ends in `failed_syncs` instead
//! of keeping the circuit open for everyone.
//!
//! A 401 or 403 stops claiming at once; every 30 seconds the token file is read again and one probe sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Retry;
use crate::hubspot::client::{CallError, Client};
use crate::hubspot::error::{Failure, FailureClass};
use crate::retry;
use crate::status::Status;
use crate::telemetry::event;

/// Time between two probes of a refused token.
const AUTH_PROBE: Duration = Duration::from_secs(30);
/// A probe this fresh answers for the next failure too.
const PROBE_FRESH: Duration = Duration::from_millis(500);
/// A probe must not wait long for a slot of the rate limit.
const PROBE_SLOT_WAIT: Duration = Duration::from_secs(3);

/// The gate. Clones share one state.
#[derive(Debug, Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    retry: Retry,
    status: Status,
    state: Mutex<State>,
    /// One probe at a time; holds when the last one was and whether HubSpot was out.
    probing: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

#[derive(Debug, Clone)]
enum State {
    Open,
    Outage {
        probes: u32,
        next: Instant,
        object_type: String,
    },
    Refused {
        next: Instant,
        object_type: String,
    },
}

impl Gate {
    /// An open gate.
    pub fn new(client: Client, retry: Retry, status: Status) -> Self {
        let shared = Shared {
            client,
            retry,
            status,
            state: Mutex::new(State::Open),
            probing: tokio::sync::Mutex::new(None),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// How long nothing may be sent: zero when the gate is open, or closed and due for a probe.
    /// None when the gate is open.
    pub fn blocked(&self) -> Option<Duration> {
        match &*self.state() {
            State::Open => None,
            State::Outage { next, .. } | State::Refused { next, .. } => {
                Some(next.saturating_duration_since(Instant::now()))
            }
        }
    }

    /// Judges a failure. Returns whether the records' try is to be counted.
    pub async fn judge(&self, failure: &Failure, object_type: &str) -> bool {
        match failure.class {
            FailureClass::Auth => {
                self.refuse(failure, object_type);
                false
            }
            // Limits and moves are the account's matter, not the record's.
            FailureClass::RateLimit | FailureClass::Migrating => false,
            FailureClass::Timeout | FailureClass::Unreachable | FailureClass::Network | FailureClass::Server => {
                !self.is_outage(object_type).await
            }
            FailureClass::Locked | FailureClass::Invalid | FailureClass::NotFound | FailureClass::Conflict => true,
        }
    }

    /// Sends the probe that is due and opens the gate if HubSpot is back.
    pub async fn probe(&self) {
        let state = self.state().clone();
        match state {
            State::Open => {}
            State::Outage {
                probes, object_type, ..
            } => {
                if self.probe_once(&object_type).await {
                    self.close_circuit();
                } else {
                    self.open_circuit(probes.saturating_add(1), &object_type);
                }
            }
            State::Refused { object_type, .. } => {
                self.shared.client.reload_token();
                let deadline = Instant::now() + PROBE_SLOT_WAIT;
                match self.shared.client.probe(&object_type, deadline).await {
                    Err(CallError::Failed(failure)) if failure.class == FailureClass::Auth => {
                        self.refuse(&failure, &object_type);
                    }
                    // No verdict on the token.
                    Err(CallError::NotSent { .. }) => self.postpone(),
                    Err(CallError::Failed(failure)) if failure.class.hints_at_outage() => self.postpone(),
                    Ok(()) | Err(CallError::Failed(_)) => {
                        *self.state() = State::Open;
                        self.shared.status.update(|status| status.auth_failed = false);
                        tracing::info!(event = event::AUTH_RESTORED, "HubSpot accepts the token again");
                    }
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, failure: &Failure, object_type: &str) {
        *self.state() = State::Refused {
            next: Instant::now() + AUTH_PROBE,
            object_type: object_type.to_owned(),
        };
        self.shared.status.update(|status| status.auth_failed = true);
        tracing::error!(
            event = event::AUTH_FAILED,
            operation = failure.operation,
            status = failure.status,
            object_type,
            category = failure.body.as_ref().and_then(|body| body.category.as_deref()),
            "HubSpot refuses the token or a scope: nothing is sent until it accepts; check the token and the app's scopes"
        );
    }

    fn postpone(&self) {
        if let State::Refused { next, .. } = &mut *self.state() {
            *next = Instant::now() + AUTH_PROBE;
        }
    }

    /// Whether HubSpot is out, by a probe unless one has just been made.
    async fn is_outage(&self, object_type: &str) -> bool {
        let mut last = self.shared.probing.lock().await;
        if matches!(&*self.state(), State::Outage { .. }) {
            return true;
        }
        if let Some((at, out)) = *last
            && at.elapsed() < PROBE_FRESH
        {
            return out;
        }
        let out = !self.probe_once(object_type).await;
        *last = Some((Instant::now(), out));
        if out {
            self.open_circuit(1, object_type);
        }
        out
    }

    /// Whether HubSpot answers with anything but an outage.
    async fn probe_once(&self, object_type: &str) -> bool {
        match self
            .shared
            .client
            .probe(object_type, Instant::now() + PROBE_SLOT_WAIT)
            .await
        {
            Ok(()) => true,
            Err(CallError::NotSent { .. }) => false,
            Err(CallError::Failed(failure)) => !failure.class.hints_at_outage(),
        }
    }

    fn open_circuit(&self, probes: u32, object_type: &str) {
        let wait = retry::delay(&self.shared.retry, probes, rand::random());
        let mut state = self.state();
        if matches!(&*state, State::Refused { .. }) {
            return;
        }
        *state = State::Outage {
            probes,
            next: Instant::now() + wait,
            object_type: object_type.to_owned(),
        };
        drop(state);
        let before = self.shared.status.update(|status| status.circuit_open = true);
        if !before.circuit_open {
            tracing::error!(
                event = event::CIRCUIT_OPENED,
                object_type,
                "HubSpot is out: only probes are sent"
            );
        }
    }

    fn close_circuit(&self) {
        *self.state() = State::Open;
        self.shared.status.update(|status| status.circuit_open = false);
        tracing::info!(event = event::CIRCUIT_CLOSED, "HubSpot is back");
    }
}
