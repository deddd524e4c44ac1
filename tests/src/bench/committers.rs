//! Many sessions that commit at once: whether the wake-up serialises them.
//!
//! A plain NOTIFY in every transaction holds one lock of the whole cluster from before its commit until after it, and so
//! ends group commit: commits per WAL flush fall to one. The compared ways all capture; they differ in who is woken:
//!
//! | way | |
//! | --- | --- |
//! | `no_notify` | somebody else holds the right to notify all the time: this capture, and never a notification |
//! | `busy` | a relay is alive and busy: it holds its lock, as while it drains |
//! | `idle` | a relay that does as the contract says: it sleeps, is woken, looks, sleeps again |
//! | `nobody` | no relay runs at all |
//! | `every` | `NOTIFY` in every transaction, by a trigger of one's own beside |

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::Bench;
use super::figures::{Table, with_spread};
use super::fixture::{Fixture, check_captured};
use super::pgbench;
use super::rows::{Runs, Update, load};
use super::server::wal_flushes;
use super::stats::{median, paired};
use super::thousands;
use super::wakeup;
use crate::cluster::connect;

const WAYS: [&str; 5] = ["no_notify", "busy", "idle", "nobody", "every"];

/// As many sessions as the issue of commit locks shows with.
const CLIENTS: [u32; 4] = [1, 8, 32, 64];

/// The section `committers`.
///
/// # Errors
///
/// When a run fails.
pub async fn run(bench: &mut Bench) -> Result<()> {
    println!("== committers: UPDATE of two mapped columns of a random row, durable commits; who is woken");
    let fixture = Fixture::build(&bench.server, "committers", bench.settings.rows, &["ours", "notify"]).await?;
    let mut table = Table::new(&[
        "way",
        "clients",
        "TPS",
        "× never notifies",
        "commits per flush",
        "× never notifies",
    ]);
    for clients in CLIENTS {
        // The figure that matters is at 32: the others tell whether it is one of a trend.
        let rounds = if clients == 32 {
            bench.settings.rounds
        } else {
            bench.settings.rounds.min(3)
        };
        let mut runs: BTreeMap<&'static str, Runs> = BTreeMap::new();
        for round in 0..=rounds {
            for turn in 0..WAYS.len() {
                let way = WAYS[(turn + round as usize) % WAYS.len()];
                let run = one(bench, &fixture, way, clients, round).await?;
                if round > 0 {
                    let all = runs.entry(way).or_default();
                    all.tps.push(run.0);
                    all.per_flush.push(run.1);
                }
            }
            bench.progress(&format!("{clients} clients, round {round} of {rounds}"));
        }
        let Some(base) = runs.get("no_notify") else { continue };
        for way in WAYS {
            let Some(run) = runs.get(way) else { continue };
            let (tps, per_flush) = (paired(&run.tps, &base.tps), paired(&run.per_flush, &base.per_flush));
            table.row(vec![
                label(way).to_owned(),
                clients.to_string(),
                median(&run.tps).map_or_else(String::new, thousands),
                with_spread(&tps, 3),
                with_spread(&run.per_flush, 1),
                with_spread(&per_flush, 2),
            ]);
            let name = if way == "busy" || way == "idle" {
                format!("{way}_relay")
            } else {
                way.to_owned()
            };
            let figures = &mut bench.figures;
            figures.set(format!("committers_{name}_tps_{clients}"), median(&run.tps));
            figures.set(
                format!("committers_{name}_commits_per_flush_{clients}"),
                median(&run.per_flush),
            );
            if way != "no_notify" {
                figures.set(format!("committers_{name}_vs_no_notify_{clients}"), median(&tps));
                figures.set(
                    format!("committers_{name}_commits_per_flush_vs_no_notify_{clients}"),
                    median(&per_flush),
                );
            }
        }
    }
    println!("{table}");
    Ok(())
}

fn label(way: &str) -> &str {
    match way {
        "no_notify" => "hubspot_sync, never notifies",
        "busy" => "hubspot_sync, relay busy",
        "idle" => "hubspot_sync, relay sleeps and is woken",
        "nobody" => "hubspot_sync, no relay",
        "every" => "hubspot_sync and NOTIFY in every transaction",
        other => other,
    }
}

/// Transactions per second and commits per flush.
async fn one(bench: &Bench, fixture: &Fixture, way: &'static str, clients: u32, round: u32) -> Result<(f64, f64)> {
    let table = if way == "every" { "notify" } else { "ours" };
    fixture.reset(table).await?;
    let stop = CancellationToken::new();
    // Kept until the run ends.
    let mut held: Option<Client> = None;
    let mut relay = None;
    match way {
        "no_notify" => {
            let session = connect(&fixture.url).await?;
            session.batch_execute("SELECT pg_advisory_lock(1213418579, 2)").await?;
            held = Some(session);
        }
        "busy" | "every" => held = Some(fixture.busy_relay().await?),
        // It looks and takes nothing over, so that the ways differ in the wake-up alone.
        "idle" => relay = Some(wakeup::idle_relay(&fixture.url, stop.clone()).await?),
        _ => {}
    }
    let seconds = if round == 0 {
        bench.settings.seconds.min(2)
    } else {
        bench.settings.seconds
    };
    // Of a run of its own: most ways share a table, and a value set again changes nothing.
    let number = WAYS.iter().position(|w| *w == way).unwrap_or(0) as u64;
    let seed = u64::from(round) * 10_000 + number * 1_000 + u64::from(clients);
    let load = load(table, Update::Mapped, fixture.rows, clients, seconds, seed);
    let flushes = wal_flushes(&fixture.sql).await?;
    let outcome = pgbench::run(&bench.server, &fixture.database, &load)?;
    let flushes = wal_flushes(&fixture.sql).await? - flushes;
    stop.cancel();
    if let Some(relay) = relay {
        relay.await.map_err(|e| anyhow!("the idle relay: {e}"))??;
    }
    drop(held);
    check_captured(way, outcome.transactions, fixture.captured("ours").await?)?;
    Ok((outcome.tps, outcome.transactions as f64 / flushes.max(1) as f64))
}
