//! When runs begin: full ones by a cron expression in a named time zone, incremental ones and polls at even intervals.
//!
//! Every relay says when a time has come; the database lets the first one ask for the runs. A time that passed while no relay
//! ran is made up for as soon as one runs again, once.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{Config, PollMode};
use crate::deliver::Context;
use crate::telemetry::event;

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(500);

/// The times of this relay's settings.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    full: Option<(Cron, TimeZone)>,
    incremental: Duration,
    poll: Duration,
}

/// Reads a cron expression of five fields.
pub(crate) fn cron(expression: &str) -> Option<Cron> {
    Cron::from_str(expression).ok()
}

impl Schedule {
    /// The times the settings name; they are checked there.
    pub(crate) fn new(config: &Config) -> Self {
        let schedule = &config.schedule;
        let full = match (cron(&schedule.reconcile), TimeZone::get(&schedule.time_zone)) {
            (Some(cron), Ok(zone)) => Some((cron, zone)),
            _ => None,
        };
        let poll = match config.poll.mode {
            PollMode::Search => config.poll.interval(),
            PollMode::Off | PollMode::Journal => Duration::ZERO,
        };
        Self {
            full,
            incremental: schedule.incremental,
            poll,
        }
    }

    /// The newest time of each kind that has come, in milliseconds since 1970.
    fn slots(&self, now: Timestamp) -> BTreeMap<&'static str, i64> {
        let mut slots = BTreeMap::new();
        if let Some((cron, zone)) = &self.full
            && let Ok(last) = cron.find_previous_occurrence(&now.to_zoned(zone.clone()), true)
        {
            slots.insert("full", last.timestamp().as_millisecond());
        }
        for (kind, interval) in [("incremental", self.incremental), ("poll", self.poll)] {
            let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
            if interval > 0 {
                slots.insert(kind, now.as_millisecond().div_euclid(interval) * interval);
            }
        }
        slots
    }
}

/// Runs until the context's `stop`.
pub(crate) async fn run(schedule: Schedule, context: Arc<Context>) {
    let mut told: BTreeMap<&'static str, i64> = BTreeMap::new();
    while !context.stop.is_cancelled() {
        if context.status.snapshot().may_claim() {
            for (kind, slot) in schedule.slots(Timestamp::now()) {
                if told.get(kind) != Some(&slot) && tell(&context, kind, slot).await {
                    told.insert(kind, slot);
                }
            }
        }
        tokio::select! {
            () = context.stop.cancelled() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn tell(context: &Context, kind: &'static str, slot: i64) -> bool {
    match context.db.reconcile_schedule(kind, slot).await {
        Ok(0) => true,
        Ok(runs) => {
            tracing::debug!(event = event::RECONCILIATION, kind, runs, "the schedule asked for runs");
            true
        }
        Err(error) => {
            context.metrics.database_failed();
            tracing::warn!(event = event::DATABASE_FAILED, function = "relay_reconcile_schedule", %error, "no schedule");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(more: &str) -> Schedule {
        let text = format!("[database]\nurl='postgres://x@h/d'\n[hubspot]\naccess_token='t'\n{more}");
        Schedule::new(&Config::from_toml(&text).unwrap())
    }

    fn full(schedule: &Schedule, now: &str) -> String {
        let slot = schedule.slots(now.parse().unwrap())["full"];
        Timestamp::from_millisecond(slot).unwrap().to_string()
    }

    #[test]
    fn two_in_the_morning_is_the_named_zones() {
        let utc = schedule("");
        assert_eq!(full(&utc, "2026-11-24T01:59:59Z"), "2026-11-23T02:00:00Z");
        assert_eq!(full(&utc, "2026-11-24T02:00:00Z"), "2026-11-24T02:00:00Z");
        let zurich = schedule("[schedule]\ntime_zone='Europe/Zurich'\n");
        assert_eq!(full(&zurich, "2026-07-24T12:00:00Z"), "2026-07-24T00:00:00Z");
        assert_eq!(full(&zurich, "2026-11-24T12:00:00Z"), "2026-11-24T01:00:00Z");
        // On the day the clocks go forward there is no two o'clock: the night is not left out.
        assert_eq!(full(&zurich, "2026-03-29T12:00:00Z"), "2026-03-29T01:00:00Z");
    }

    #[test]
    fn intervals_are_even_and_may_be_off() {
        let slots = schedule("").slots("2026-11-24T12:34:56Z".parse().unwrap());
        let at = Timestamp::from_millisecond(slots["incremental"]).unwrap();
        assert_eq!(at.to_string(), "2026-11-24T12:30:00Z");
        assert!(!slots.contains_key("poll"));
        let off = schedule("[schedule]\nincremental='0s'\nreconcile='off'\n[poll]\nmode='search'\ninterval='1m'\n");
        let slots = off.slots("2026-11-24T12:34:56Z".parse().unwrap());
        assert_eq!(slots.keys().copied().collect::<Vec<_>>(), ["poll"]);
    }
}
