//! The outbound loop: wake, claim, deliver rounds of records concurrently, sleep.
//!
//! A round is one `relay_claim` and everything that follows from it (`round.rs`). The loop only decides when to claim:
//! not while the database is disarmed or paused, HubSpot is out or refuses us, or a pause of the rate limit is on,
//! because a claim is a lease that runs. Killed at any point it leaves leases that expire; the extension then has the
//! record read again, history included, before anything is sent.

pub(crate) mod batch;
mod outcome;
pub(crate) mod read;
mod record;
pub(crate) mod round;
mod write;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Retry;
use crate::db::contract::Claimed;
use crate::db::error::DbError;
use crate::db::listener::{LINGER, Listener};
use crate::db::pool::Db;
use crate::gate::Gate;
use crate::hubspot::client::Client;
use crate::hubspot::quota::WINDOW;
use crate::liveness::{Liveness, Part};
use crate::metrics::Metrics;
use crate::status::Status;
use crate::telemetry::event;

/// How long a claim lasts: a read, a decision and a write with room to spare.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// Most records per claim: four full batches.
const CLAIM_RECORDS: usize = 400;
/// Rounds at a time. HubSpot's rate limit, not this, bounds the throughput; more would only let leases run out.
const ROUNDS: usize = 3;
/// Batches of one round in flight at a time: HubSpot answers 423 to more writers on one object type.
pub(crate) const BATCHES: usize = 4;
/// Longest sleep: a lost NOTIFY costs no more than this.
const POLL: Duration = Duration::from_secs(1);
/// Shortest sleep: the extension may know of work it cannot hand out at this moment.
const SHORT: Duration = Duration::from_millis(10);
/// Records below which a claim counts as a trickle.
const FULL: usize = batch::BATCH;
/// Wait after a database failure.
const DB_WAIT: Duration = Duration::from_secs(1);

/// What delivery needs. Shared by all rounds.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) relay_id: String,
    pub(crate) db: Db,
    pub(crate) client: Client,
    pub(crate) gate: Gate,
    pub(crate) retry: Retry,
    pub(crate) cache_ttl: Duration,
    /// Records from which on a first load reads an export; 0: never.
    pub(crate) export_from: u64,
    /// Our app at HubSpot, if known.
    pub(crate) app_id: Option<i64>,
    pub(crate) metrics: Metrics,
    pub(crate) status: Status,
    pub(crate) liveness: Liveness,
    /// Set when no new read or write may start.
    pub(crate) stop: CancellationToken,
    /// Wakes the applier: events may have waited for an outcome.
    pub(crate) wake_apply: Arc<Notify>,
}

/// Runs until the context's `stop`, then waits for the rounds in flight.
pub(crate) async fn run(context: Arc<Context>, listener: Listener, wake: Arc<Notify>) {
    let mut rounds = JoinSet::new();
    let mut trickle = Trickle::default();
    // The time of the last look, once the lock that keeps commits from waking us was given back.
    let mut last_look = None;
    while !context.stop.is_cancelled() {
        context.liveness.turned(Part::Delivery);
        reap(&mut rounds);
        let sleep = match step(&context, &listener, &mut rounds, &mut trickle, &mut last_look).await {
            Next::Again => continue,
            Next::Sleep(time) => time,
        };
        tokio::select! {
            () = context.stop.cancelled() => {}
            () = wake.notified() => {}
            Some(ended) = rounds.join_next(), if !rounds.is_empty() => note(ended),
            () = tokio::time::sleep(sleep) => {}
        }
    }
    while let Some(ended) = rounds.join_next().await {
        note(ended);
    }
    listener.asleep().await;
}

/// How much may be under way at a time.
#[derive(Debug, PartialEq, Eq)]
struct Share {
    rounds: usize,
    records: usize,
}

impl Share {
    /// What can be sent within a lease under this rate limit: a batch takes up to four requests (values, history twice,
    /// write), and twenty seconds hold twice the limit. More would only let leases run out before the write.
    fn of(limit: usize) -> Self {
        let batches = (limit / 2).max(1);
        let records = (batches * batch::BATCH).min(CLAIM_RECORDS);
        Self {
            rounds: (batches * batch::BATCH / records).clamp(1, ROUNDS),
            records,
        }
    }
}

/// Keeps changes that come one by one from costing a call each.
///
/// The first is sent at once. After a claim that fills no batch the next one waits as long as one call of this relay's
/// share of the limit lasts: what comes meanwhile goes out together, and a trickle alone never uses up the limit.
#[derive(Debug, Default)]
struct Trickle {
    until: Option<Instant>,
}

impl Trickle {
    fn note(&mut self, records: usize, share: usize, now: Instant) {
        let calls = u32::try_from(share.max(1)).unwrap_or(u32::MAX);
        self.until = (records < FULL).then(|| now + WINDOW / calls);
    }

    fn wait(&mut self, now: Instant) -> Option<Duration> {
        let wait = self.until?.saturating_duration_since(now);
        if wait.is_zero() {
            self.until = None;
        }
        (!wait.is_zero()).then_some(wait)
    }
}

enum Next {
    Again,
    Sleep(Duration),
}

async fn step(
    context: &Arc<Context>,
    listener: &Listener,
    rounds: &mut JoinSet<()>,
    trickle: &mut Trickle,
    last_look: &mut Option<Instant>,
) -> Next {
    if !context.status.snapshot().may_claim() {
        listener.asleep().await;
        return Next::Sleep(POLL);
    }
    match context.gate.blocked() {
        None => {}
        Some(Duration::ZERO) => {
            tokio::select! {
                () = context.gate.probe() => {}
                () = context.stop.cancelled() => {}
            }
            return Next::Again;
        }
        Some(wait) => {
            // Nothing is claimed before the next probe: a NOTIFY would only wake us in vain, so the lock stays as it is.
            return Next::Sleep(wait.min(POLL));
        }
    }
    let paused = context.client.limiter().paused_for();
    if !paused.is_zero() {
        return Next::Sleep(paused.min(POLL));
    }
    let share = Share::of(context.client.limiter().share());
    if rounds.len() >= share.rounds {
        return Next::Sleep(POLL);
    }
    let started = Instant::now();
    if let Some(wait) = trickle.wait(started) {
        return Next::Sleep(wait);
    }
    match claim(context, share.records).await {
        Ok(claimed) if claimed.claims.is_empty() => {
            if listener.asleep().await {
                // What was committed while we were awake woke nobody: look once more, and when no session relies on it.
                *last_look = Some(Instant::now() + LINGER);
                return Next::Again;
            }
            if let Some(at) = *last_look {
                if started < at {
                    return Next::Sleep(at - started);
                }
                *last_look = None;
            }
            if claimed.more {
                return Next::Sleep(SHORT);
            }
            let due = claimed
                .next_due_ms
                .and_then(|ms| u64::try_from(ms).ok())
                .map(Duration::from_millis);
            // Never spin, should the extension call something due that cannot be claimed.
            Next::Sleep(due.unwrap_or(POLL).clamp(SHORT, POLL))
        }
        Ok(claimed) => {
            trickle.note(claimed.claims.len(), context.client.limiter().share(), started);
            let delivered = Arc::clone(context);
            rounds.spawn(async move { round::run(&delivered, claimed.claims, started).await });
            // After the round's start: the records must not wait for this.
            listener.awake().await;
            Next::Again
        }
        Err(error) => {
            context.metrics.database_failed();
            tracing::warn!(event = event::DATABASE_FAILED, function = "relay_claim", %error, "claiming failed");
            Next::Sleep(DB_WAIT)
        }
    }
}

async fn claim(context: &Context, records: usize) -> Result<Claimed, DbError> {
    let records = i32::try_from(records).unwrap_or(i32::MAX);
    let claimed = context
        .db
        .claim(&context.relay_id, records, LEASE, context.cache_ttl)
        .await?;
    context.metrics.claimed(claimed.claims.len());
    Ok(claimed)
}

fn reap(rounds: &mut JoinSet<()>) {
    while let Some(ended) = rounds.try_join_next() {
        note(ended);
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        // The leases of its records expire and they are delivered by a later round.
        tracing::error!(event = event::TASK_FAILED, task = "round", %error, "a round of records ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_waits_for_company() {
        let (mut trickle, now) = (Trickle::default(), Instant::now());
        assert_eq!(trickle.wait(now), None);
        trickle.note(3, 100, now);
        assert_eq!(trickle.wait(now), Some(Duration::from_millis(100)));
        assert_eq!(trickle.wait(now + Duration::from_millis(101)), None);
        trickle.note(FULL, 100, now);
        assert_eq!(trickle.wait(now), None);
    }

    #[test]
    fn a_small_limit_takes_a_small_share() {
        assert_eq!(
            Share::of(100),
            Share {
                rounds: 3,
                records: 400
            }
        );
        assert_eq!(
            Share::of(16),
            Share {
                rounds: 2,
                records: 400
            }
        );
        assert_eq!(
            Share::of(5),
            Share {
                rounds: 1,
                records: 200
            }
        );
        assert_eq!(
            Share::of(1),
            Share {
                rounds: 1,
                records: 100
            }
        );
    }
}
