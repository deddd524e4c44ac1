//! Claiming a hundred records, with many that wait, behind many that cannot be claimed yet, and after many were delivered
//! without a vacuum since.
//!
//! Everything is measured as a relay sees it: one call of `hubspot.relay_claim` in a transaction of its own, the records'
//! states loaded and the claims described.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::backlog::{Backlog, Waits};
use super::figures::{Table, with_spread};
use super::stats::{median, paired};
use super::{Bench, thousands};

/// Records of one claim.
const RECORDS: i32 = 100;
/// Claims of one round; the round's figure is their median.
const CLAIMS: u64 = 10;
/// Records that wait in the database everything is compared with.
const FEW: u64 = 10_000;

/// The section `claims`.
///
/// # Errors
///
/// When a run fails or a claim is short.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let sizes = bench.settings.sizes;
    println!(
        "== claims: hubspot.relay_claim of {RECORDS} records; {FEW} or {} can be claimed; behind {} that are leased or delayed; after {} were drained, no vacuum since",
        sizes.waiting, sizes.held, sizes.drained
    );
    let mut backlogs: Vec<(&'static str, Backlog)> = Vec::new();
    for name in ["few", "leased", "delayed", "drained", "many"] {
        let begun = Instant::now();
        let mut backlog = Backlog::empty(&bench.server, name).await?;
        match name {
            "leased" => backlog.add(sizes.held, Waits::Leased).await?,
            "delayed" => backlog.add(sizes.held, Waits::Delayed).await?,
            "drained" => {
                backlog.add(sizes.drained, Waits::Due).await?;
                backlog.settle().await?;
                backlog.drain().await?;
                backlog.drain_captured(sizes.drained).await?;
            }
            "many" => backlog.add(sizes.waiting - FEW, Waits::Due).await?,
            _ => {}
        }
        backlog.add(FEW, due(name)).await?;
        if name != "drained" {
            backlog.settle().await?;
        }
        bench.progress(&format!("{name}: made in {} s", begun.elapsed().as_secs()));
        backlogs.push((name, backlog));
    }
    let times = take_turns(bench, &mut backlogs).await?;
    let mut table = Table::new(&["database", "ms per claim", "× few"]);
    let few = times.get("few").cloned().unwrap_or_default();
    for (name, _) in &backlogs {
        let Some(run) = times.get(name) else { continue };
        let ratio = paired(run, &few);
        table.row(vec![label(name, bench), with_spread(run, 2), with_spread(&ratio, 2)]);
        bench.figures.set(format!("claim_{name}_ms"), median(run));
    }
    let ratio = |name: &str| times.get(name).and_then(|run| median(&paired(run, &few)));
    let (leased, delayed) = (ratio("leased"), ratio("delayed"));
    let figures = &mut bench.figures;
    figures.set("claim_latency_10m_vs_10k", ratio("many"));
    figures.set("claim_waiting_records", Some(sizes.waiting as f64));
    figures.set("claim_behind_500k_leased_vs_0", leased);
    figures.set("claim_behind_500k_delayed_vs_0", delayed);
    // The worse of the two.
    figures.set("claim_behind_500k_vs_0", leased.zip(delayed).map(|(l, d)| l.max(d)));
    figures.set("claim_after_drain_vs_fresh", ratio("drained"));
    println!("{table}");
    Ok(())
}

/// How the records that are claimed wait: behind delayed ones they are batch records, which come after all of these.
fn due(name: &str) -> Waits {
    if name == "delayed" { Waits::DueBatch } else { Waits::Due }
}

fn label(name: &str, bench: &Bench) -> String {
    let count = |n: u64| thousands(n as f64);
    let sizes = bench.settings.sizes;
    match name {
        "few" => format!("{} waiting", count(FEW)),
        "many" => format!("{} waiting", count(sizes.waiting)),
        "leased" => format!("{} waiting behind {} leased", count(FEW), count(sizes.held)),
        "delayed" => format!("{} waiting behind {} delayed", count(FEW), count(sizes.held)),
        _ => format!("{} waiting after {} drained", count(FEW), count(sizes.drained)),
    }
}

/// Milliseconds per claim, a figure per round.
async fn take_turns(
    bench: &Bench,
    backlogs: &mut [(&'static str, Backlog)],
) -> Result<BTreeMap<&'static str, Vec<f64>>> {
    let mut times: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    let databases = backlogs.len();
    for round in 0..=bench.settings.rounds {
        for turn in 0..databases {
            let (name, backlog) = &mut backlogs[(turn + round as usize) % databases];
            let mut claims = Vec::new();
            for _ in 0..CLAIMS {
                let begun = Instant::now();
                let claimed = backlog.claim(RECORDS).await?;
                claims.push(begun.elapsed().as_secs_f64() * 1000.0);
                ensure!(
                    claimed == RECORDS as usize,
                    "{name}: {claimed} of {RECORDS} records were claimed"
                );
            }
            backlog.forget_claimed().await?;
            backlog.add(CLAIMS * RECORDS as u64, due(name)).await?;
            if round > 0 {
                times.entry(*name).or_default().extend(median(&claims));
            }
        }
        bench.progress(&format!("round {round} of {}", bench.settings.rounds));
    }
    Ok(times)
}
