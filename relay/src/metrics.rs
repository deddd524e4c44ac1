//! Prometheus metrics: names, help texts, and the counters `relay_record_calls` reports to the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::db::contract::{Applied, CallCounts};
use crate::hubspot::error::FailureClass;

/// Seconds: from a loopback answer to a call that runs into the time limit.
const CALL_SECONDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds: from one quick page to a claim's whole lease.
const DELIVERY_SECONDS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    op: &'static str,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabels {
    op: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    operation: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone)]
struct CallHistogram;

impl MetricConstructor<Histogram> for CallHistogram {
    fn new_metric(&self) -> Histogram {
        Histogram::new(CALL_SECONDS)
    }
}

/// All metrics of one relay. Cheap to clone; each relay of a process has its own.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    requests: Family<CallLabels, Counter>,
    request_seconds: Family<OpLabels, Histogram, CallHistogram>,
    rate_limited: Counter,
    claims: Counter,
    writes: Family<WriteLabels, Counter>,
    delivered: Counter,
    delivery_seconds: Histogram,
    webhook_requests: Family<ResultLabels, Counter>,
    webhook_events: Counter,
    signature_failures: Counter,
    applied: Family<ResultLabels, Counter>,
    waiting_events: Gauge,
    database_failures: Counter,
    state: Family<StateLabels, Gauge<i64, AtomicI64>>,
    since: SinceReport,
}

/// Counts since the last report to the database.
#[derive(Default)]
struct SinceReport {
    requests: AtomicU64,
    rate_limited: AtomicU64,
    failed: AtomicU64,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh set, all at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("hubspot_relay");
        let requests = Family::default();
        registry.register(
            "requests",
            "Calls to HubSpot by operation and class (ok or the kind of failure)",
            requests.clone(),
        );
        let request_seconds = Family::new_with_constructor(CallHistogram);
        registry.register_with_unit(
            "request_duration",
            "Time from sending a call to HubSpot to its answer",
            Unit::Seconds,
            request_seconds.clone(),
        );
        let rate_limited = Counter::default();
        registry.register("rate_limited", "Answers 429 from HubSpot", rate_limited.clone());
        let claims = Counter::default();
        registry.register("claims", "Records claimed from the outbox", claims.clone());
        let writes = Family::default();
        registry.register("writes", "Record writes by operation and outcome", writes.clone());
        let delivered = Counter::default();
        registry.register(
            "records_delivered",
            "Record writes HubSpot acknowledged",
            delivered.clone(),
        );
        let delivery_seconds = Histogram::new(DELIVERY_SECONDS);
        registry.register_with_unit(
            "delivery_duration",
            "Time from claiming a page of records to recording its outcomes",
            Unit::Seconds,
            delivery_seconds.clone(),
        );
        let webhook_requests = Family::default();
        registry.register(
            "webhook_requests",
            "Webhook requests by result",
            webhook_requests.clone(),
        );
        let webhook_events = Counter::default();
        registry.register(
            "webhook_events",
            "Webhook events received with a good signature",
            webhook_events.clone(),
        );
        let signature_failures = Counter::default();
        registry.register(
            "webhook_signature_failures",
            "Webhook requests refused for their signature",
            signature_failures.clone(),
        );
        let applied = Family::default();
        registry.register("apply", "Stored events handled, by result", applied.clone());
        let waiting_events = Gauge::default();
        registry.register(
            "apply_waiting",
            "Stored events that wait for the outcome of a write",
            waiting_events.clone(),
        );
        let database_failures = Counter::default();
        registry.register(
            "database_failures",
            "Database calls that failed",
            database_failures.clone(),
        );
        let version = BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
        };
        registry.register("build", "The relay's version", Info::new(version));
        let state = Family::<StateLabels, Gauge<i64, AtomicI64>>::default();
        registry.register(
            "state",
            "1 while it holds: armed, paused, auth_failed, circuit_open, database_up, webhooks_expected",
            state.clone(),
        );
        for name in [
            "armed",
            "paused",
            "auth_failed",
            "circuit_open",
            "database_up",
            "webhooks_expected",
        ] {
            state.get_or_create(&StateLabels { state: name }).set(0);
        }
        let inner = Inner {
            registry,
            requests,
            request_seconds,
            rate_limited,
            claims,
            writes,
            delivered,
            delivery_seconds,
            webhook_requests,
            webhook_events,
            signature_failures,
            applied,
            waiting_events,
            database_failures,
            state,
            since: SinceReport::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// This relay's own part of what Prometheus scrapes, without an end mark.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.inner.registry);
        text
    }

    /// Counts a call to HubSpot; `class` is none for an answer.
    pub fn request(&self, op: &'static str, class: Option<FailureClass>, time: Duration) {
        let labels = CallLabels {
            op,
            class: class.map_or("ok", FailureClass::kind),
        };
        self.inner.requests.get_or_create(&labels).inc();
        self.inner
            .request_seconds
            .get_or_create(&OpLabels { op })
            .observe(time.as_secs_f64());
        self.inner.since.requests.fetch_add(1, Ordering::Relaxed);
        if class.is_some() {
            self.inner.since.failed.fetch_add(1, Ordering::Relaxed);
        }
        if class == Some(FailureClass::RateLimit) {
            self.inner.rate_limited.inc();
            self.inner.since.rate_limited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts claimed records.
    pub fn claimed(&self, records: usize) {
        self.inner.claims.inc_by(records as u64);
    }

    /// Counts one record write's outcome.
    pub fn write(&self, operation: &str, outcome: &'static str) {
        self.inner
            .writes
            .get_or_create(&WriteLabels {
                operation: operation.to_owned(),
                outcome,
            })
            .inc();
        if outcome == "ok" {
            self.inner.delivered.inc();
        }
    }

    /// Notes how long a page took from claim to recorded outcome.
    pub fn delivery(&self, time: Duration) {
        self.inner.delivery_seconds.observe(time.as_secs_f64());
    }

    /// Counts a webhook request; the words are the answer's body.
    pub fn webhook(&self, result: &'static str, events: usize) {
        self.inner
            .webhook_requests
            .get_or_create(&ResultLabels { result })
            .inc();
        self.inner.webhook_events.inc_by(events as u64);
        if matches!(result, "signature" | "stale_signature") {
            self.inner.signature_failures.inc();
        }
    }

    /// Counts what an apply call did.
    pub fn applied(&self, result: &Applied) {
        for (name, count) in [
            ("applied", result.applied),
            ("skipped", result.skipped),
            ("failed", result.failed),
        ] {
            self.inner
                .applied
                .get_or_create(&ResultLabels { result: name })
                .inc_by(count);
        }
        self.inner
            .waiting_events
            .set(i64::try_from(result.waiting).unwrap_or(i64::MAX));
    }

    /// Counts a failed database call.
    pub fn database_failed(&self) {
        self.inner.database_failures.inc();
    }

    /// Sets one of the state gauges.
    pub fn state(&self, name: &'static str, holds: bool) {
        self.inner
            .state
            .get_or_create(&StateLabels { state: name })
            .set(i64::from(holds));
    }

    /// Takes the counts since the last take, for the database's own metrics.
    pub fn take_calls(&self) -> CallCounts {
        let since = &self.inner.since;
        CallCounts {
            requests: since.requests.swap(0, Ordering::Relaxed),
            rate_limited: since.rate_limited.swap(0, Ordering::Relaxed),
            failed: since.failed.swap(0, Ordering::Relaxed),
        }
    }

    /// Gives counts back that could not be reported.
    pub fn return_calls(&self, counts: CallCounts) {
        let since = &self.inner.since;
        since.requests.fetch_add(counts.requests, Ordering::Relaxed);
        since.rate_limited.fetch_add(counts.rate_limited, Ordering::Relaxed);
        since.failed.fetch_add(counts.failed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_documented_names() {
        let metrics = Metrics::new();
        metrics.request("batch_read", None, Duration::from_millis(20));
        metrics.request("batch_update", Some(FailureClass::RateLimit), Duration::from_millis(20));
        metrics.write("update", "ok");
        metrics.webhook("signature", 0);
        metrics.applied(&Applied {
            applied: 2,
            ..Applied::default()
        });
        metrics.delivery(Duration::from_millis(300));
        let text = metrics.render();
        for line in [
            "hubspot_relay_requests_total{op=\"batch_read\",class=\"ok\"} 1",
            "hubspot_relay_rate_limited_total 1",
            "hubspot_relay_claims_total 0",
            "hubspot_relay_writes_total{operation=\"update\",outcome=\"ok\"} 1",
            "hubspot_relay_records_delivered_total 1",
            "hubspot_relay_webhook_events_total 0",
            "hubspot_relay_webhook_signature_failures_total 1",
            "hubspot_relay_apply_total{result=\"applied\"} 2",
            "hubspot_relay_delivery_duration_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
        assert_eq!(
            metrics.take_calls(),
            CallCounts {
                requests: 2,
                rate_limited: 1,
                failed: 1
            }
        );
        assert_eq!(metrics.take_calls(), CallCounts::default());
    }
}
