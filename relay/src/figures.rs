//! The database's figures as Prometheus reads them: asked for at scrape time, so that a drained queue shows 0.
//!
//! Every relay on a database shows the same figures: rules take the `max` over relays, not the sum. When the database does
//! not answer in time, its figures are missing from the answer and `hubspot_relay_state{state="database_up"}` tells why.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;

use crate::db::monitoring::{Figures, Histogram};
use crate::db::pool::Db;
use crate::telemetry::event;

/// Longest wait for the database: below Prometheus' own time limit of ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Figures this young are shown again.
const SHORTEST_AGE: Duration = Duration::from_secs(2);
/// Figures are asked for again after this many times what asking took, so that scrapes never load the database by more
/// than a twentieth, however large the backlog is.
const REST: u32 = 20;

type Number = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Quantile {
    quantile: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EntityType {
    entity_type: String,
}

/// A histogram that was counted elsewhere.
#[derive(Debug)]
struct Counted(Histogram);

impl EncodeMetric for Counted {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Histogram {
            bounds,
            counts,
            seconds,
        } = &self.0;
        let ends = bounds.iter().copied().chain(std::iter::once(f64::INFINITY));
        let buckets: Vec<(f64, u64)> = ends.zip(counts.iter().copied()).collect();
        encoder.encode_histogram::<NoLabelSet>(*seconds, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Asks for the figures and keeps them for a moment. Clones share them.
#[derive(Clone)]
pub struct FigureSource {
    db: Db,
    last: Arc<Mutex<Option<Shown>>>,
}

struct Shown {
    until: Instant,
    text: String,
}

impl std::fmt::Debug for FigureSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FigureSource")
    }
}

impl FigureSource {
    /// Nothing is asked before the first scrape.
    pub fn new(db: Db) -> Self {
        Self {
            db,
            last: Arc::default(),
        }
    }

    /// The figures as text for Prometheus, without an end mark; empty when the database does not answer.
    pub async fn render(&self) -> String {
        // Scrapes that come meanwhile wait for this one's answer.
        let mut last = self.last.lock().await;
        let asked = Instant::now();
        if let Some(shown) = last.as_ref().filter(|shown| asked < shown.until) {
            return shown.text.clone();
        }
        match tokio::time::timeout(PATIENCE, self.db.figures()).await {
            Ok(Ok(figures)) => {
                let text = exposition(&figures);
                *last = Some(Shown {
                    until: Instant::now() + (asked.elapsed() * REST).max(SHORTEST_AGE),
                    text: text.clone(),
                });
                text
            }
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::debug!(event = event::DATABASE_FAILED, function = "relay_figures", %error, "no figures");
                }
                *last = None;
                String::new()
            }
        }
    }
}

/// The figures in the exposition format. What is not known is left out.
fn exposition(figures: &Figures) -> String {
    let mut registry = Registry::with_prefix("hubspot_sync");
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let number = Number::default();
            number.set(value);
            registry.register(name, help, number);
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let whole = |value: Option<i64>| value.map(|n| n as f64);
    gauge(
        "queue_depth",
        "Changes that wait for delivery; at most 1000000 captured and as many queued are counted",
        whole(Some(figures.queue_depth)),
    );
    gauge(
        "oldest_change_seconds",
        "Age of the oldest change that could have been delivered; 0 when nothing waits",
        Some(figures.oldest_change_seconds),
    );
    gauge(
        "conflicts_open",
        "Conflicts that wait for a person",
        whole(Some(figures.conflicts_open)),
    );
    gauge(
        "failures_open",
        "Failed syncs that wait for a person",
        whole(Some(figures.failures_open)),
    );
    gauge(
        "webhook_events_pending",
        "Stored webhook events that are not applied yet",
        whole(Some(figures.webhook_events_pending)),
    );
    gauge(
        "webhook_events_waiting",
        "Stored webhook events that wait for the outcome of a write",
        whole(Some(figures.webhook_events_waiting)),
    );
    gauge(
        "webhook_silence_seconds",
        "Time since HubSpot acknowledged a write that no webhook has followed; 0 when all is well",
        Some(figures.webhook_silence_seconds),
    );
    gauge(
        "last_webhook_timestamp_seconds",
        "When the newest webhook event was received; missing when none is known",
        figures.last_webhook_at,
    );
    gauge(
        "links",
        "Records linked to a HubSpot record",
        whole(Some(figures.links)),
    );
    gauge(
        "relays_alive",
        "Relays whose heartbeat is younger than 15 seconds",
        whole(Some(figures.relays_alive)),
    );
    gauge(
        "quota_used",
        "Calls to HubSpot of the account's day, other apps' included as far as known",
        whole(figures.quota_used),
    );
    gauge(
        "quota_left",
        "Calls that are left of the day's limit; missing when no limit is known",
        whole(figures.quota_left),
    );
    gauge(
        "quota_limit",
        "The day's limit of calls; missing when none is known",
        whole(figures.quota_limit),
    );
    gauge(
        "quota_forecast",
        "Calls of the whole day at the present rate",
        whole(figures.quota_forecast),
    );
    gauge(
        "clock_offset_seconds",
        "HubSpot's clock minus the database's; missing until measured",
        figures.clock_offset_seconds,
    );
    gauge(
        "clock_uncertainty_seconds",
        "How far the clock offset may be off",
        figures.clock_uncertainty_seconds,
    );
    gauge(
        "brakes_on",
        "Mappings whose brake has stopped what goes to HubSpot: hubspot.release lets them go on",
        whole(Some(figures.brakes_on)),
    );
    gauge(
        "mapping_problems",
        "Rows of hubspot.mapping_problems: things that keep changes from being captured",
        whole(Some(figures.mapping_problems)),
    );
    gauge(
        "alerts_active",
        "Rows of hubspot.alerts: alerts that the database itself sees",
        whole(Some(figures.alerts)),
    );
    for (name, help, value) in [
        (
            "conflicts",
            "Conflicts ever found, resolved ones included",
            figures.conflicts_total,
        ),
        ("failures", "Failed syncs ever recorded", figures.failures_total),
    ] {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    if let Some(latency) = figures.latency {
        let family = Family::<Quantile, Number>::default();
        for (quantile, value) in [("0.5", latency.p50), ("0.95", latency.p95), ("1", latency.worst)] {
            family.get_or_create(&Quantile { quantile }).set(value);
        }
        let help = "From the edit of a row to HubSpot's acknowledgement, of the last five minutes' deliveries";
        registry.register("latency_seconds", help, family);
    }
    if let Some(delivery) = &figures.delivery {
        registry.register(
            "delivery_seconds",
            "From the edit of a row to HubSpot's acknowledgement, of all deliveries since the extension was installed",
            Counted(delivery.clone()),
        );
    }
    let (ages, targets) = (
        Family::<EntityType, Number>::default(),
        Family::<EntityType, Number>::default(),
    );
    for mapping in &figures.mappings {
        let label = EntityType {
            entity_type: mapping.entity_type.clone(),
        };
        ages.get_or_create(&label).set(mapping.oldest_change_seconds);
        if let Some(target) = whole(mapping.target_seconds) {
            targets.get_or_create(&label).set(target);
        }
    }
    registry.register(
        "mapping_oldest_change_seconds",
        "Age of a mapping's oldest change that could have been delivered",
        ages,
    );
    registry.register(
        "mapping_freshness_target_seconds",
        "The mapping's freshness_target_seconds",
        targets,
    );
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode_registry(&mut text, &registry);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_is_known_and_leaves_out_the_rest() {
        let figures: Figures = serde_json::from_value(serde_json::json!({
            "queue_depth": 7, "conflicts_total": 3, "quota_limit": null, "clock_offset_seconds": -0.25,
            "latency": {"0.5": 0.5, "0.95": 2.0, "1": 3.5},
            "delivery": {"bounds": [0.5, 1.0], "counts": [4, 2, 1], "seconds": 9.5},
            "mappings": [{"entity_type": "customer", "oldest_change_seconds": 1.5, "target_seconds": 60},
                         {"entity_type": "deal", "oldest_change_seconds": 0, "target_seconds": null}]}))
        .unwrap();
        let text = exposition(&figures);
        for line in [
            "hubspot_sync_queue_depth 7.0",
            "hubspot_sync_conflicts_total 3",
            "hubspot_sync_clock_offset_seconds -0.25",
            "hubspot_sync_latency_seconds{quantile=\"0.95\"} 2.0",
            "# TYPE hubspot_sync_delivery_seconds histogram",
            "hubspot_sync_delivery_seconds_bucket{le=\"0.5\"} 4",
            "hubspot_sync_delivery_seconds_bucket{le=\"1.0\"} 6",
            "hubspot_sync_delivery_seconds_bucket{le=\"+Inf\"} 7",
            "hubspot_sync_delivery_seconds_count 7",
            "hubspot_sync_delivery_seconds_sum 9.5",
            "hubspot_sync_mapping_oldest_change_seconds{entity_type=\"deal\"} 0.0",
            "hubspot_sync_mapping_freshness_target_seconds{entity_type=\"customer\"} 60.0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
        for name in [
            "quota_limit",
            "last_webhook",
            "freshness_target_seconds{entity_type=\"deal\"}",
            "# EOF",
        ] {
            assert!(!text.contains(name), "{name} is in\n{text}");
        }
    }
}
