//! Webhooks: the queue, its faults, the hold switch and the signed delivery.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::config::{ClearedForm, SimConfig, WebhookConfig};
use super::events::{Event, Formatter};
use super::signature;

/// What goes wrong with webhooks, each by its probability from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookFaults {
    /// The event is lost.
    pub drop: f64,
    /// The event comes twice.
    pub double: f64,
    /// The event takes a random place in the queue.
    pub reorder: f64,
    /// The event comes late.
    pub delay: f64,
    /// How late at most, in milliseconds.
    pub delay_ms: u64,
}

/// One delivery that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// When it began, in milliseconds since 1970 by the simulator's clock.
    pub at_ms: i64,
    /// Status of the answer; 0 for none.
    pub status: u16,
    /// Events it carried.
    pub events: usize,
}

#[derive(Debug)]
struct Queued {
    event: Value,
    attempt: u32,
    due: Instant,
    /// Goes out although webhooks are held.
    pass: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) url: Option<String>,
    pub(crate) secret: String,
    pub(crate) held: bool,
    pub(crate) faults: WebhookFaults,
    pub(crate) formatter: Formatter,
    pub(crate) clock: Clock,
    /// The latest events, dropped ones included.
    pub(crate) emitted: VecDeque<Value>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) given_up: usize,
    queue: VecDeque<Queued>,
    in_flight: usize,
    rng: StdRng,
}

/// The webhook side of the account.
#[derive(Debug)]
pub(crate) struct Webhooks {
    state: Mutex<State>,
    wake: Notify,
    config: WebhookConfig,
    client: reqwest::Client,
}

impl Webhooks {
    pub(crate) fn new(config: &SimConfig) -> anyhow::Result<Self> {
        // Fails when a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(config.webhooks.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let state = State {
            url: config.webhook_url.clone(),
            secret: config.client_secret.clone(),
            held: false,
            faults: WebhookFaults::default(),
            formatter: Formatter::new(config.portal_id, config.app_id),
            clock: Clock::new(config.clock_offset_ms),
            emitted: VecDeque::new(),
            deliveries: Vec::new(),
            given_up: 0,
            queue: VecDeque::new(),
            in_flight: 0,
            rng: StdRng::seed_from_u64(config.seed ^ 0xeb),
        };
        Ok(Webhooks {
            state: Mutex::new(state),
            wake: Notify::new(),
            config: config.webhooks.clone(),
            client,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues events.
    pub(crate) fn enqueue(&self, events: Vec<Event>, cleared: ClearedForm) {
        if events.is_empty() {
            return;
        }
        let due = Instant::now() + self.config.batch_window;
        let mut state = self.lock();
        for event in events {
            if let Some(event) = state.formatter.format(&event, cleared) {
                if state.emitted.len() >= self.config.max_kept_events {
                    state.emitted.pop_front();
                }
                state.emitted.push_back(event.clone());
                state.push(event, due);
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Queues an event that a test made up.
    pub(crate) fn inject(&self, event: Value) {
        let item = Queued {
            event,
            attempt: 0,
            due: Instant::now(),
            pass: true,
        };
        self.lock().queue.push_back(item);
        self.wake.notify_one();
    }

    /// Stops or resumes delivery.
    pub(crate) fn hold(&self, held: bool) {
        self.lock().held = held;
        self.wake.notify_one();
    }

    /// Looks at the queue again after a change of settings.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Events that wait.
    pub(crate) fn waiting(&self) -> Vec<Value> {
        self.lock().queue.iter().map(|item| item.event.clone()).collect()
    }

    /// Lets selected events out although webhooks are held; answers with their number.
    pub(crate) fn let_out(&self, mut wanted: impl FnMut(&Value) -> bool) -> usize {
        let mut state = self.lock();
        let chosen = state.queue.iter_mut().filter(|item| wanted(&item.event));
        let count = chosen.map(|item| item.pass = true).count();
        drop(state);
        self.wake.notify_one();
        count
    }

    /// Loses selected events; answers with their number.
    pub(crate) fn discard(&self, mut wanted: impl FnMut(&Value) -> bool) -> usize {
        let mut state = self.lock();
        let before = state.queue.len();
        state.queue.retain(|item| !wanted(&item.event));
        before - state.queue.len()
    }

    /// Waits until nothing is queued or in flight, held events left out.
    pub(crate) async fn flush(&self) {
        while !self.lock().is_idle() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Delivers until stopped.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let (batch, pause) = self.lock().next(&self.config);
            if batch.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            } else {
                tokio::spawn(Arc::clone(&self).deliver(batch));
            }
        }
    }

    async fn deliver(self: Arc<Self>, batch: Vec<Queued>) {
        let bodies: Vec<Value> = batch
            .iter()
            .map(|item| {
                let mut event = item.event.clone();
                event["attemptNumber"] = json!(item.attempt);
                event
            })
            .collect();
        let (url, secret, at_ms) = {
            let state = self.lock();
            (
                state.url.clone().unwrap_or_default(),
                state.secret.clone(),
                state.clock.now(),
            )
        };
        let body = serde_json::to_vec(&bodies).unwrap_or_default();
        let stamp = at_ms.to_string();
        let answer = self
            .client
            .post(&url)
            .header("content-type", "application/json")
            .header(
                "user-agent",
                "HubSpot Connect 2.0 (http://dev.hubspot.com/) (namespace: webhooks-nio-http-client)",
            )
            .header("x-hubspot-signature", signature::v1(&secret, &body))
            .header("x-hubspot-signature-version", "v1")
            .header(
                "x-hubspot-signature-v3",
                signature::v3(&secret, "POST", &url, &body, &stamp),
            )
            .header("x-hubspot-request-timestamp", &stamp)
            .body(body)
            .send()
            .await;
        let status = answer.map_or(0, |answer| answer.status().as_u16());
        let mut state = self.lock();
        state.in_flight -= 1;
        state.deliveries.push(Delivery {
            at_ms,
            status,
            events: batch.len(),
        });
        if !(200..300).contains(&status) {
            let due = Instant::now() + self.config.retry_delay;
            for item in batch {
                if item.attempt + 1 < self.config.max_attempts {
                    state.queue.push_back(Queued {
                        attempt: item.attempt + 1,
                        due,
                        ..item
                    });
                } else {
                    state.given_up += 1;
                }
            }
        }
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.random_bool(probability.min(1.0))
    }

    /// Puts an event into the queue, subject to the faults.
    fn push(&mut self, event: Value, due: Instant) {
        let faults = self.faults;
        if self.url.is_none() || self.chance(faults.drop) {
            return;
        }
        let copies = if self.chance(faults.double) { 2 } else { 1 };
        for _ in 0..copies {
            let late = if self.chance(faults.delay) {
                self.rng.random_range(0..=faults.delay_ms)
            } else {
                0
            };
            let due = due + Duration::from_millis(late);
            let item = Queued {
                event: event.clone(),
                attempt: 0,
                due,
                pass: false,
            };
            if self.chance(faults.reorder) {
                let at = self.rng.random_range(0..=self.queue.len());
                self.queue.insert(at, item);
            } else {
                self.queue.push_back(item);
            }
        }
    }

    fn may_go(&self, item: &Queued) -> bool {
        !self.held || item.pass
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && !self.queue.iter().any(|item| self.may_go(item))
    }

    /// The next request's events, or none and how long to wait for more.
    fn next(&mut self, config: &WebhookConfig) -> (Vec<Queued>, Duration) {
        let idle = Duration::from_secs(3600);
        if self.in_flight >= config.max_concurrent {
            return (Vec::new(), idle);
        }
        if self.url.is_none() {
            self.queue.clear();
            return (Vec::new(), idle);
        }
        let now = Instant::now();
        let (mut batch, mut kept) = (Vec::new(), Vec::new());
        let mut pause = idle;
        while batch.len() < config.max_batch {
            let Some(item) = self.queue.pop_front() else { break };
            let free = self.may_go(&item);
            if free && item.due <= now {
                batch.push(item);
            } else {
                if free {
                    pause = pause.min(item.due.saturating_duration_since(now));
                }
                kept.push(item);
            }
        }
        for item in kept.into_iter().rev() {
            self.queue.push_front(item);
        }
        if !batch.is_empty() {
            self.in_flight += 1;
        }
        (batch, pause)
    }
}
