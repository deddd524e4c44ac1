//! The day's limit: a share of it granted by the database, or counted in this process alone.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Purpose;
use super::wire::{Allowance, Calls, DayGrant, DayReport};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A used-up day is looked at again this often: the limit may have been raised.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What may be used of the day.
#[derive(Debug)]
pub(super) struct Day {
    limit: Option<u64>,
    /// HubSpot's own words, which include other apps.
    seen: Option<(u64, u64)>,
    zone: Option<String>,
    /// Calls not reported yet.
    calls: Calls,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Requests per hour of the last 24 hours of this process.
    Local(VecDeque<(Instant, u64)>),
    Shared(Option<Granted>),
}

/// What the database granted, and until when that stands.
#[derive(Debug, Clone, Copy)]
struct Granted {
    allow: Allowance,
    until: Instant,
}

impl Day {
    pub(super) fn local(limit: Option<u64>) -> Self {
        Self::new(limit, Source::Local(VecDeque::new()))
    }

    pub(super) fn shared(limit: Option<u64>) -> Self {
        Self::new(limit, Source::Shared(None))
    }

    fn new(limit: Option<u64>, source: Source) -> Self {
        Self {
            limit,
            seen: None,
            zone: None,
            calls: Calls::default(),
            source,
        }
    }

    pub(super) fn note(&mut self, limit: u64, left: u64) {
        self.seen = Some((limit, left));
    }

    pub(super) fn set_zone(&mut self, zone: &str) {
        self.zone = Some(zone.to_owned());
    }

    pub(super) fn count(&mut self, purpose: Purpose, now: Instant) {
        *count_of(&mut self.calls, purpose) += 1;
        match &mut self.source {
            Source::Local(hours) => match hours.back_mut() {
                Some((start, count)) if now.saturating_duration_since(*start) < HOUR => *count += 1,
                _ => hours.push_back((now, 1)),
            },
            Source::Shared(Some(granted)) => {
                let allow = &mut granted.allow;
                allow.total = allow.total.saturating_sub(1);
                match purpose {
                    Purpose::Live => {}
                    Purpose::Backfill => allow.backfill = allow.backfill.saturating_sub(1),
                    Purpose::Reconcile => allow.reconcile = allow.reconcile.saturating_sub(1),
                }
            }
            Source::Shared(None) => {}
        }
    }

    /// When a call of this purpose may be sent again; none when it may now.
    pub(super) fn blocked_until(&mut self, purpose: Purpose, now: Instant) -> Option<Instant> {
        match &mut self.source {
            Source::Local(hours) => {
                let per_day = self.limit?;
                while hours
                    .front()
                    .is_some_and(|(start, _)| now.saturating_duration_since(*start) >= DAY + HOUR)
                {
                    hours.pop_front();
                }
                let used: u64 = hours.iter().map(|(_, count)| count).sum();
                let oldest = hours.front().filter(|_| used >= per_day)?;
                Some(oldest.0 + DAY + HOUR)
            }
            Source::Shared(granted) => {
                if granted.is_some_and(|granted| granted.until <= now) {
                    *granted = None;
                }
                let granted = (*granted)?;
                let left = match purpose {
                    Purpose::Live => granted.allow.total,
                    Purpose::Backfill => granted.allow.backfill.min(granted.allow.total),
                    Purpose::Reconcile => granted.allow.reconcile.min(granted.allow.total),
                };
                (left == 0).then_some(granted.until)
            }
        }
    }

    /// Whether little is left of what was granted.
    pub(super) fn asks(&self) -> bool {
        matches!(&self.source, Source::Shared(Some(granted)) if granted.allow.total < 10) && self.has_news()
    }

    pub(super) fn has_news(&self) -> bool {
        matches!(self.source, Source::Shared(_)) && self.calls != Calls::default()
    }

    pub(super) fn report(&mut self) -> DayReport {
        DayReport {
            calls: std::mem::take(&mut self.calls),
            limit: self.limit.or(self.seen.map(|(limit, _)| limit)),
            left: self.seen.map(|(_, left)| left),
            zone: self.zone.clone(),
        }
    }

    pub(super) fn not_reported(&mut self, calls: &Calls) {
        for purpose in Purpose::ALL {
            *count_of(&mut self.calls, purpose) += *count_of(&mut calls.clone(), purpose);
        }
    }

    /// Takes a grant. Calls made since its report was written are subtracted: the database does not know them yet.
    pub(super) fn grant(&mut self, grant: Option<&DayGrant>, now: Instant) {
        let Source::Shared(granted) = &mut self.source else {
            return;
        };
        *granted = grant.map(|day| {
            let since = &self.calls;
            let made = since.live + since.backfill + since.reconcile;
            let allow = Allowance {
                total: day.allow.total.saturating_sub(made),
                backfill: day.allow.backfill.saturating_sub(since.backfill),
                reconcile: day.allow.reconcile.saturating_sub(since.reconcile),
            };
            let ends_in = Duration::from_millis(day.ends_in_ms);
            Granted {
                allow,
                until: now + ends_in.min(LOOK_AGAIN),
            }
        });
    }
}

fn count_of(calls: &mut Calls, purpose: Purpose) -> &mut u64 {
    match purpose {
        Purpose::Live => &mut calls.live,
        Purpose::Backfill => &mut calls.backfill,
        Purpose::Reconcile => &mut calls.reconcile,
    }
}
