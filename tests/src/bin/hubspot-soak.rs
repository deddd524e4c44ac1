//! `hubspot-soak`: edits both sides under faults and checks every field, seed after seed.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hubspot_sync_tests::soak::{self, Settings};

/// Edits records on both sides while requests, webhooks and the relay fail, then checks every field and the ledger.
/// Ends with 1 when anything is not as it must be.
#[derive(Debug, Parser)]
#[command(name = "hubspot-soak", version)]
struct Arguments {
    /// Seconds of edits per seed; settling comes on top.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seeds, run one after the other.
    #[arg(long = "seed", default_values_t = [1, 2, 3, 4, 5])]
    seeds: Vec<u64>,
    /// Records.
    #[arg(long, default_value_t = 300)]
    records: usize,
    /// Leave lost webhooks lost. Fields then diverge, because only a reconciliation can find out.
    #[arg(long)]
    drop_for_good: bool,
    /// No faults.
    #[arg(long)]
    calm: bool,
    /// Two relays, and a database that is restarted and crashed.
    #[arg(long, conflicts_with = "calm")]
    chaos: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let given = Arguments::parse();
    let mut failed = Vec::new();
    let (mut met, mut unmet) = (BTreeSet::new(), BTreeSet::new());
    for seed in &given.seeds {
        let report = soak::run(&Settings {
            duration: Duration::from_secs(given.seconds),
            seed: *seed,
            records: given.records,
            drop_for_good: given.drop_for_good,
            calm: given.calm,
            chaos: given.chaos,
        })
        .await?;
        println!("{report}");
        if !report.passed() {
            failed.push(*seed);
        }
        met.extend(report.faults.into_iter().map(|(what, _)| what));
        unmet.extend(report.unmet);
    }
    // One that another seed's requests met is proven all the same.
    let never: Vec<&String> = unmet.difference(&met).collect();
    if !never.is_empty() {
        println!("soak failed: no request met these faults: {never:?}");
        return Ok(ExitCode::FAILURE);
    }
    if failed.is_empty() {
        println!("soak passed: {} seeds", given.seeds.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("soak failed: seeds {failed:?}");
    Ok(ExitCode::FAILURE)
}
