//! The path of a change that nobody maps.

use anyhow::Result;

use super::figures::{Table, with_spread};
use super::fixture::Fixture;
use super::rows::{Update, label, take_turns};
use super::stats::{median, paired};
use super::{Bench, thousands};

/// The section `unmapped`.
///
/// # Errors
///
/// When a run fails.
pub async fn run(bench: &mut Bench) -> Result<()> {
    println!("== unmapped: UPDATE of a column that is not mapped, of a random row");
    let ways = ["none", "ours", "plpgsql", "hstore"]
        .into_iter()
        .filter(|way| bench.wants_way(way));
    let ways: Vec<&'static str> = ways.collect();
    let fixture = Fixture::build(&bench.server, "unmapped", bench.settings.rows, &ways).await?;
    let _relay = fixture.busy_relay().await?;
    let mut table = Table::new(&["way", "clients", "TPS", "× none", "CPU µs", "CPU × none"]);
    let clients: Vec<u32> = bench
        .settings
        .clients
        .iter()
        .copied()
        .filter(|c| [1, 8].contains(c))
        .collect();
    for clients in clients {
        let runs = take_turns(bench, &fixture, &ways, Update::Unmapped, clients).await?;
        let Some(none) = runs.get("none") else { continue };
        for (way, run) in &runs {
            let (tps, cpu) = (paired(&run.tps, &none.tps), paired(&run.cpu_us, &none.cpu_us));
            table.row(vec![
                label(way).to_owned(),
                clients.to_string(),
                median(&run.tps).map_or_else(String::new, thousands),
                with_spread(&tps, 3),
                with_spread(&run.cpu_us, 1),
                with_spread(&cpu, 2),
            ]);
            if *way != "none" {
                let name = if *way == "ours" {
                    "unmapped".to_owned()
                } else {
                    format!("unmapped_{way}")
                };
                bench.figures.set(format!("{name}_vs_none_{clients}"), median(&tps));
                bench.figures.set(format!("{name}_cpu_vs_none_{clients}"), median(&cpu));
            }
        }
    }
    println!("{table}");
    Ok(())
}
