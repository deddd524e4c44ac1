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
            } => match self.probe_once(&object_type).await {
                Some(true) => self.close_circuit(),
                Some(false) => self.open_circuit(probes.saturating_add(1), &object_type),
                None => self.open_circuit(probes, &object_type),
            },
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

    /// A secret was rotated: a refused token is looked at again at once.
    pub fn hurry(&self) {
        if let State::Refused { next, .. } = &mut *self.state() {
            *next = Instant::now();
        }
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
        let Some(alive) = self.probe_once(object_type).await else {
            // No verdict: the benefit of the doubt is the record's, but the circuit stays as it is.
            return true;
        };
        *last = Some((Instant::now(), !alive));
        if !alive {
            self.open_circuit(1, object_type);
        }
        !alive
    }

    /// Whether HubSpot answers with anything but an outage; none when the probe found no room in the rate limit.
    async fn probe_once(&self, object_type: &str) -> Option<bool> {
        match self
            .shared
            .client
            .probe(object_type, Instant::now() + PROBE_SLOT_WAIT)
            .await
        {
            Ok(()) => Some(true),
            Err(CallError::NotSent { .. }) => None,
            Err(CallError::Failed(failure)) => Some(!failure.class.hints_at_outage()),
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use axum::http::StatusCode;

    use super::*;
    use crate::hubspot::error::{RatePolicy, classify};
    use crate::metrics::Metrics;

    /// A HubSpot that answers every call with one status.
    async fn gate(status: &Arc<AtomicU16>) -> (Gate, Status) {
        let status = Arc::clone(status);
        let answer = move || {
            let status = status.load(Ordering::Relaxed);
            async move { (StatusCode::from_u16(status).unwrap(), axum::Json(serde_json::json!({}))) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = axum::serve(listener, axum::Router::new().fallback(answer));
        tokio::spawn(async move { server.await });
        let text = format!(
            "[database]\nurl='postgres://x@h/d'\n[hubspot]\naccess_token='t'\nbase_url='http://{address}'\n\
             [retry]\ninitial_delay='20ms'\nmax_delay='20ms'\n"
        );
        let config = crate::Config::from_toml(&text).unwrap();
        let metrics = Metrics::new();
        let known = Status::new(metrics.clone());
        let client = Client::new(&config.hubspot, metrics).unwrap();
        (Gate::new(client, config.retry, known.clone()), known)
    }

    fn failure(status: u16) -> Failure {
        Failure {
            operation: "batch_update",
            class: classify(status),
            status: Some(status),
            retry_after: None,
            policy: RatePolicy::Unknown,
            message: String::new(),
            body: None,
        }
    }

    #[tokio::test]
    async fn an_outage_opens_the_circuit_and_spends_no_try() {
        let hubspot = Arc::new(AtomicU16::new(503));
        let (gate, status) = gate(&hubspot).await;
        assert!(!gate.judge(&failure(503), "companies").await);
        assert!(gate.blocked().is_some() && status.snapshot().circuit_open);
        gate.probe().await;
        assert!(gate.blocked().is_some());
        hubspot.store(200, Ordering::Relaxed);
        gate.probe().await;
        assert!(gate.blocked().is_none() && !status.snapshot().circuit_open);
    }

    #[tokio::test]
    async fn a_request_hubspot_chokes_on_spends_its_try() {
        let (gate, status) = gate(&Arc::new(AtomicU16::new(200))).await;
        assert!(gate.judge(&failure(500), "companies").await);
        assert!(gate.blocked().is_none() && !status.snapshot().circuit_open);
    }

    #[tokio::test]
    async fn a_refused_token_closes_the_gate_until_it_is_accepted() {
        let hubspot = Arc::new(AtomicU16::new(401));
        let (gate, status) = gate(&hubspot).await;
        assert!(!gate.judge(&failure(401), "companies").await);
        assert!(gate.blocked().is_some_and(|wait| wait > Duration::from_secs(29)));
        gate.probe().await;
        assert!(status.snapshot().auth_failed);
        hubspot.store(200, Ordering::Relaxed);
        gate.probe().await;
        assert!(gate.blocked().is_none() && !status.snapshot().auth_failed);
    }
}
