//! Telling the database: what was read, for a decision, and how claims ended.
//!
//! A call that the database refuses (a fault in one record's data, a constraint, a bug) is cut in halves until the culprit
//! is alone, so that it does not hold up its neighbours; the culprit's claim is given back at once, with a growing delay,
//! instead of lasting until its lease ends. So are the claims of a call that got no answer. What became of a write whose
//! outcome could not be recorded is looked up by the next claim.

use std::time::Duration;

use tokio::time::Instant;

use super::round::Attempts;
use super::{Context, LEASE};
use crate::db::contract::{Decided, GivenBack, Observation, Outcome};
use crate::db::error::DbError;
use crate::retry;
use crate::telemetry::event;

/// How long outcomes are tried to be recorded while the database is away. The lease is over by then.
const COMPLETE_FOR: Duration = Duration::from_secs(60);
/// Wait between two tries.
const WAIT: Duration = Duration::from_millis(500);
/// Refusals of one round after which no culprit is looked for any more: it is not about single records then.
const REFUSALS: usize = 24;

/// Claims that are named with their fence.
trait Claimed {
    fn claim(&self) -> (&str, i64);
}

impl Claimed for Observation {
    fn claim(&self) -> (&str, i64) {
        (&self.claim, self.token)
    }
}

impl Claimed for Outcome {
    fn claim(&self) -> (&str, i64) {
        (&self.claim, self.token)
    }
}

/// Lets the extension decide; claims that could not be decided are given back.
pub(super) async fn decide(context: &Context, observations: &[Observation], attempts: &Attempts) -> Decided {
    let mut decided = Decided::default();
    let mut waiting = vec![observations];
    let mut refusals = 0;
    while let Some(part) = waiting.pop() {
        if part.is_empty() {
            continue;
        }
        match ask(context, part).await {
            Ok(more) => {
                decided.reads.extend(more.reads);
                decided.writes.extend(more.writes);
                decided.settled.extend(more.settled);
            }
            Err(error) => {
                context.metrics.database_failed();
                refusals += 1;
                if let Some((first, second)) = cut(part, &error, refusals) {
                    waiting.extend([second, first]);
                    continue;
                }
                tracing::error!(
                    event = event::DATABASE_FAILED,
                    function = "relay_decide",
                    records = part.len(),
                    %error,
                    "deciding failed: the claims are given back"
                );
                give_back(context, part, attempts, !error.is_retryable()).await;
            }
        }
    }
    decided
}

async fn ask(context: &Context, observations: &[Observation]) -> Result<Decided, DbError> {
    let mut tries = 0;
    loop {
        match context.db.decide(&context.relay_id, observations).await {
            // A serialization failure or deadlock rolled everything back; deciding again is safe.
            Err(error @ DbError::Postgres(_)) if error.is_retryable() && tries < 3 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            answer => return answer,
        }
    }
}

/// Records outcomes, holding on to them for a while when the database is away.
pub(super) async fn complete(context: &Context, outcomes: Vec<Outcome>, attempts: &Attempts) {
    if outcomes.is_empty() {
        return;
    }
    let started = Instant::now();
    let mut waiting = vec![outcomes.as_slice()];
    let mut refusals = 0;
    while let Some(part) = waiting.pop() {
        if part.is_empty() {
            continue;
        }
        match context.db.complete(&context.relay_id, part).await {
            Ok(_) => {}
            Err(error) if error.is_retryable() && started.elapsed() < COMPLETE_FOR => {
                context.metrics.database_failed();
                tracing::warn!(event = event::DATABASE_FAILED, function = "relay_complete", %error, "trying again");
                tokio::time::sleep(WAIT).await;
                waiting.push(part);
            }
            Err(error) => {
                context.metrics.database_failed();
                refusals += 1;
                if let Some((first, second)) = cut(part, &error, refusals) {
                    waiting.extend([second, first]);
                    continue;
                }
                tracing::error!(
                    event = event::OUTCOMES_LOST,
                    records = part.len(),
                    %error,
                    "outcomes could not be recorded; their records are read again"
                );
                give_back(context, part, attempts, !error.is_retryable()).await;
            }
        }
    }
    context.wake_apply.notify_one();
}

/// Two halves of a refused call, when one of its records may be the culprit.
fn cut<'a, T>(part: &'a [T], error: &DbError, refusals: usize) -> Option<(&'a [T], &'a [T])> {
    (part.len() > 1 && refusals <= REFUSALS && !error.is_retryable()).then(|| part.split_at(part.len().div_ceil(2)))
}

/// Gives claims back, for as long as they can still be held.
async fn give_back<T: Claimed>(context: &Context, part: &[T], attempts: &Attempts, spent: bool) {
    let claims: Vec<GivenBack> = part
        .iter()
        .map(|one| {
            let (claim, token) = one.claim();
            let delay = retry::delay(&context.retry, attempts.of(claim), rand::random());
            GivenBack {
                claim: claim.to_owned(),
                token,
                delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            }
        })
        .collect();
    let started = Instant::now();
    while started.elapsed() < LEASE && !context.stop.is_cancelled() {
        match context.db.give_back(&context.relay_id, &claims, spent).await {
            Ok(_) => return,
            Err(error) if error.is_retryable() => tokio::time::sleep(WAIT).await,
            Err(error) => {
                tracing::error!(event = event::DATABASE_FAILED, function = "relay_give_back", %error, "leases will expire");
                return;
            }
        }
    }
}
