//! Every two calls at once: while the first one's transaction is open, the second either gets on or waits for it. It neither
//! fails nor meets a deadlock, and who waits for whom is what the documentation says.

use super::calls::CALLS;
use super::{Picture, pid, prepared, quiet_cluster, state_of};
use anyhow::{Result, ensure};
use hubspot_sync_tests::cluster::connect;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// What an application does to rows.
const ROWS: [&str; 5] = ["INSERT", "INSERT of many", "UPDATE", "UPDATE of the key", "DELETE"];

/// Calls that decide about fields, by the relay and by people: one at a time.
const DECIDING: [&str; 12] = [
    "forget",
    "relay_apply",
    "relay_claim",
    "relay_complete",
    "relay_decide",
    "relay_give_back",
    "relay_maintain",
    "relay_release",
    "relay_retry",
    "resolve_conflict",
    "retry_failed",
    "undo_resolution",
];

/// Whether the open transaction of a backend holds anything that another one could wait for.
async fn holds(sql: &Client, backend: i32) -> Result<bool> {
    let held = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND granted AND (locktype IN ('advisory', 'transactionid')
      OR (locktype = 'relation' AND mode NOT IN ('AccessShareLock')))";
    Ok(sql.query_one(held, &[&backend]).await?.get::<_, i64>(0) > 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_two_calls_at_once_get_on_or_wait() -> Result<()> {
    let cluster = quiet_cluster("")?;
    let url = prepared(&cluster, "pairs").await?;
    let (first, second, other) = (connect(&url).await?, connect(&url).await?, connect(&url).await?);
    // Whoever would wait at all waits for a transaction that stays open: how long makes no difference.
    second.batch_execute("SET lock_timeout = '1ms'").await?;
    let picture = Picture::new(&other).await?;
    let before = picture.take(&other).await?;
    let backend = pid(&first).await?;
    let mut waits: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut tried = 0;
    for (one, statement) in CALLS {
        first.batch_execute("BEGIN").await?;
        first.batch_execute(statement).await?;
        // Two calls that only look cannot be in each other's way.
        if holds(&other, backend).await? {
            let waiting = waits.entry(one).or_default();
            for (two, statement) in CALLS {
                second.batch_execute("BEGIN").await?;
                let state = state_of(&second.batch_execute(statement).await);
                second.batch_execute("ROLLBACK").await?;
                match state {
                    None => {}
                    Some(SqlState::LOCK_NOT_AVAILABLE) => {
                        waiting.insert(*two);
                    }
                    Some(state) => anyhow::bail!("{two} while {one} is open: {}", state.code()),
                }
                tried += 1;
            }
        }
        first.batch_execute("ROLLBACK").await?;
    }
    let after = picture.take(&other).await?;
    ensure!(before == after, "something was left: {after:?}");
    for (one, waiting) in &waits {
        println!("{one}: {}", waiting.iter().copied().collect::<Vec<_>>().join(", "));
    }
    println!("{tried} pairs of {} calls that hold something", waits.len());

    let waits_for = |two: &str, one: &str| waits.get(one).is_some_and(|waiting| waiting.contains(two));
    for row in ROWS {
        for (call, _) in CALLS.iter().filter(|(call, _)| call.starts_with("relay_")) {
            ensure!(!waits_for(call, row), "{call} waits for an application's {row}");
            // What it writes into rows is theirs until it commits.
            let writes_rows = *call == "relay_apply";
            ensure!(
                writes_rows || !waits_for(row, call),
                "an application's {row} waits for {call}"
            );
        }
    }
    for one in DECIDING {
        for two in DECIDING {
            ensure!(waits_for(two, one), "{two} does not wait for {one}");
        }
    }
    for (call, _) in CALLS.iter().filter(|(call, _)| !waits.contains_key(call)) {
        let before: Vec<_> = waits.iter().filter(|(_, waiting)| waiting.contains(call)).collect();
        ensure!(before.is_empty(), "{call} only looks, and waits for {before:?}");
    }
    Ok(())
}
