//! One round: read what HubSpot holds, let the extension decide, write, record the outcomes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::outcome::{not_started, ok_count};
use super::{Context, LEASE, read, record, write};
use crate::db::contract::{Claim, Operation, Outcome, ReadKind, Write};
use crate::telemetry::event;

/// Reads and decisions before a round gives a claim up: values, then history, with room for a merge.
const PASSES: usize = 5;

/// When a round's lease ends, and by when a request must have left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    /// The last moment for a request to leave: its time limit ends with the lease.
    pub(crate) send_by: Instant,
}

/// Delivers `claims`, taken at or after `claimed_at`.
pub(super) async fn run(context: &Arc<Context>, claims: Vec<Claim>, claimed_at: Instant) {
    // The lease began when the database answered, which is later than `claimed_at`: the cautious end.
    let lease = Lease {
        send_by: claimed_at + LEASE - context.client.timeout(),
    };
    let records = claims.len();
    let (archives, mut pending): (Vec<_>, Vec<_>) = claims.into_iter().partition(is_archive);
    let mut attempts = Attempts::default();
    attempts.note(&archives);
    attempts.note(&pending);
    let mut writes: Vec<Write> = archives.into_iter().map(archive).collect();
    // What needed no look is decided already; it waits for the others, so that they share batches.
    for claim in &mut pending {
        writes.extend(claim.write.take());
    }
    let decided: HashSet<String> = writes.iter().map(|write| write.claim.clone()).collect();
    pending.retain(|claim| !decided.contains(&claim.claim));
    for _ in 0..PASSES {
        if pending.is_empty() || context.stop.is_cancelled() {
            break;
        }
        for claim in &mut pending {
            claim.attempt = attempts.of(&claim.claim);
        }
        let (observations, failed) = read::all(context, pending, lease).await;
        complete(context, failed, &attempts).await;
        let decided = record::decide(context, &observations, &attempts).await;
        writes.extend(decided.writes);
        pending = decided.reads;
    }
    let outcomes = write::all(context, writes, &attempts, lease).await;
    let delivered = ok_count(&outcomes);
    complete(context, outcomes, &attempts).await;
    context.metrics.delivery(claimed_at.elapsed());
    tracing::debug!(
        event = event::DELIVERED,
        records,
        delivered,
        "a round of records is done"
    );
}

fn is_archive(claim: &Claim) -> bool {
    claim.operation == "archive" && claim.read == ReadKind::None
}

/// An archive needs no decision: it is sent as claimed.
fn archive(claim: Claim) -> Write {
    Write {
        claim: claim.claim,
        token: claim.token,
        object_type: claim.object_type,
        operation: Operation::Archive,
        hubspot_id: claim.hubspot_id,
        id_property: None,
        id_value: None,
        properties: serde_json::Map::new(),
    }
}

/// The number of the try of each claim, as claimed: neither writes nor claims that need another read carry it.
#[derive(Debug, Default)]
pub(super) struct Attempts(std::collections::HashMap<String, u32>);

impl Attempts {
    fn note(&mut self, claims: &[Claim]) {
        self.0
            .extend(claims.iter().map(|claim| (claim.claim.clone(), claim.attempt)));
    }

    /// 1 for the first try.
    pub(super) fn of(&self, claim: &str) -> u32 {
        self.0.get(claim).copied().unwrap_or(1)
    }
}

async fn complete(context: &Context, outcomes: Vec<Outcome>, attempts: &Attempts) {
    warn_of_losses(&outcomes);
    record::complete(context, outcomes, attempts).await;
}

fn warn_of_losses(outcomes: &[Outcome]) {
    let ended = |word: &str| outcomes.iter().filter(|outcome| outcome.end.as_str() == word).count();
    let (refused, exhausted) = (ended("refused"), ended("exhausted"));
    if refused > 0 {
        tracing::warn!(
            event = event::RECORDS_REFUSED,
            records = refused,
            "HubSpot refused records: see failed_syncs"
        );
    }
    if exhausted > 0 {
        tracing::error!(
            event = event::RECORDS_EXHAUSTED,
            records = exhausted,
            "retries are used up: see failed_syncs"
        );
    }
}

/// The outcome of a claim for which nothing was sent.
pub(super) fn unsent(claim: &str, token: i64, wait: Duration) -> Outcome {
    Outcome {
        claim: claim.to_owned(),
        token,
        end: not_started(wait),
    }
}
