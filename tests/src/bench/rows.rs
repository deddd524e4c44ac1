//! The row path: what capture adds to an application's small transactions.

use std::collections::BTreeMap;

use anyhow::Result;

use super::figures::{Table, with_spread};
use super::fixture::{Fixture, WAYS, check_captured};
use super::pgbench::{self, Load};
use super::server::wal_flushes;
use super::stats::{median, paired};
use super::{Bench, thousands};

/// What an application that writes its own outbox sends along; the bytes are those that this product captures. Old
/// values come from the row that the application has read before.
const CHANGES: &str =
    r#"{"current_balance":["123456.78","876543.21"],"company_name":["Company 12345678","Company 87654321"]}"#;

/// One way's runs, a figure per round.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// Transactions per second.
    pub tps: Vec<f64>,
    /// The server's CPU time per transaction, microseconds.
    pub cpu_us: Vec<f64>,
    /// Transactions per WAL flush.
    pub per_flush: Vec<f64>,
}

/// What the application does in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Changes two mapped columns.
    Mapped,
    /// Changes a column that is not mapped.
    Unmapped,
}

/// The script of a way.
pub fn script(way: &str, update: Update, rows: u64) -> String {
    let set = match update {
        Update::Mapped => "current_balance = :v::numeric / 100, company_name = 'Company ' || :v::text",
        Update::Unmapped => "notes = 'note ' || :v::text",
    };
    let change = format!("UPDATE customers_{way} SET {set} WHERE id = :id");
    let insert = format!("INSERT INTO outbox_{way} (mapping_id, op, entity_key, changes, db_user, application_name)");
    let work = match way {
        "pipelined" => format!(
            "\\startpipeline\n{change};\n{insert} VALUES (1, 'U', :id, :changes, :user, 'pgbench');\n\\endpipeline\n"
        ),
        "same_statement" => {
            format!(
                "WITH changed AS ({change} RETURNING id) {insert} SELECT 1, 'U', id::text, :changes, :user, 'pgbench' FROM changed;\n"
            )
        }
        _ => format!("{change};\n"),
    };
    format!("\\set id random(1, {rows})\n\\set v random(10000000, 99999999)\n{work}")
}

/// The load of a way.
pub fn load(way: &str, update: Update, rows: u64, clients: u32, seconds: u64, seed: u64) -> Load {
    let explicit = matches!(way, "pipelined" | "same_statement");
    Load {
        script: script(way, update, rows),
        variables: if explicit {
            vec![("changes", CHANGES.to_owned()), ("user", "10".to_owned())]
        } else {
            Vec::new()
        },
        clients,
        seconds,
        seed,
    }
}

/// Runs the ways in turns; the first run of each is thrown away.
pub async fn take_turns(
    bench: &Bench,
    fixture: &Fixture,
    ways: &[&'static str],
    update: Update,
    clients: u32,
) -> Result<BTreeMap<&'static str, Runs>> {
    let mut runs: BTreeMap<&'static str, Runs> = BTreeMap::new();
    for round in 0..=bench.settings.rounds {
        for turn in 0..ways.len() {
            // Another one first in every round: what one run leaves behind must not always meet the same next one.
            let way = ways[(turn + round as usize) % ways.len()];
            fixture.reset(way).await?;
            let warm_up = round == 0;
            let seconds = if warm_up {
                bench.settings.seconds.min(2)
            } else {
                bench.settings.seconds
            };
            // Of a run of its own: the values of an earlier one, set again, would change nothing and not be captured.
            let seed = u64::from(round) * 10_000 + u64::from(clients);
            let load = load(way, update, fixture.rows, clients, seconds, seed);
            let (flushes, cpu) = (wal_flushes(&fixture.sql).await?, bench.server.cpu()?);
            let outcome = pgbench::run(&bench.server, &fixture.database, &load)?;
            let (cpu, flushes) = (
                bench.server.cpu()?.saturating_sub(cpu),
                wal_flushes(&fixture.sql).await? - flushes,
            );
            if update == Update::Mapped {
                check_captured(way, outcome.transactions, fixture.captured(way).await?)?;
            }
            if warm_up {
                continue;
            }
            let done = outcome.transactions as f64;
            let run = runs.entry(way).or_default();
            run.tps.push(outcome.tps);
            run.cpu_us.push(cpu.as_secs_f64() * 1e6 / done);
            run.per_flush.push(done / flushes.max(1) as f64);
        }
        bench.progress(&format!(
            "{clients} clients, round {round} of {}",
            bench.settings.rounds
        ));
    }
    Ok(runs)
}

fn ratio<'a>(
    runs: &'a BTreeMap<&'static str, Runs>,
    way: &str,
    other: &str,
    of: fn(&'a Runs) -> &'a [f64],
) -> Vec<f64> {
    match (runs.get(way), runs.get(other)) {
        (Some(way), Some(other)) => paired(of(way), of(other)),
        _ => Vec::new(),
    }
}

/// The section `rows`.
///
/// # Errors
///
/// When a run fails.
pub async fn run(bench: &mut Bench) -> Result<()> {
    println!(
        "== rows: UPDATE of two mapped columns of a random row, durable commits, a relay alive and busy (it holds its lock and drains nothing meanwhile)"
    );
    let ways: Vec<&'static str> = WAYS.into_iter().filter(|way| bench.wants_way(way)).collect();
    let fixture = Fixture::build(&bench.server, "rows", bench.settings.rows, &ways).await?;
    let _relay = fixture.busy_relay().await?;
    let mut table = Table::new(&[
        "way",
        "clients",
        "TPS",
        "× none",
        "CPU µs",
        "CPU × none",
        "commits per flush",
    ]);
    for &clients in &bench.settings.clients.clone() {
        let runs = take_turns(bench, &fixture, &ways, Update::Mapped, clients).await?;
        for way in &ways {
            let Some(run) = runs.get(way) else { continue };
            let tps = ratio(&runs, way, "none", |r| &r.tps);
            let cpu = ratio(&runs, way, "none", |r| &r.cpu_us);
            table.row(vec![
                label(way).to_owned(),
                clients.to_string(),
                median(&run.tps).map_or_else(String::new, thousands),
                with_spread(&tps, 3),
                with_spread(&run.cpu_us, 1),
                with_spread(&cpu, 2),
                with_spread(&run.per_flush, 1),
            ]);
            let figures = &mut bench.figures;
            figures.set(format!("row_path_{way}_tps_{clients}"), median(&run.tps));
            figures.set(format!("row_path_{way}_cpu_us_{clients}"), median(&run.cpu_us));
            if *way != "none" {
                let name = if *way == "ours" {
                    "row_path".to_owned()
                } else {
                    format!("row_path_{way}")
                };
                figures.set(format!("{name}_vs_none_{clients}"), median(&tps));
                figures.set(format!("{name}_cpu_vs_none_{clients}"), median(&cpu));
            }
        }
        for (other, name) in [
            ("pipelined", "explicit_insert"),
            ("same_statement", "explicit_same_statement"),
            ("plpgsql", "plpgsql"),
            ("hstore", "hstore"),
        ] {
            let tps = ratio(&runs, "ours", other, |r| &r.tps);
            bench.figures.set(format!("row_path_vs_{name}_{clients}"), median(&tps));
        }
    }
    println!("{table}");
    Ok(())
}

/// A way's name for people.
pub fn label(way: &str) -> &str {
    match way {
        "none" => "no capture",
        "ours" => "hubspot_sync",
        "pipelined" => "application's insert, pipelined",
        "same_statement" => "application's insert, same statement",
        "plpgsql" => "PL/pgSQL jsonb difference",
        "hstore" => "hstore difference log",
        "transition" => "PL/pgSQL statement trigger, transition tables",
        "floor" => "floor: statement + bare INSERT … SELECT",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_insert_is_one_transaction() {
        let script = script("pipelined", Update::Mapped, 10);
        let (update, insert) = (script.find("UPDATE").unwrap(), script.find("INSERT").unwrap());
        assert!(script.find("\\startpipeline").unwrap() < update && update < insert);
        assert!(insert < script.find("\\endpipeline").unwrap());
        assert!(load("ours", Update::Mapped, 10, 1, 1, 1).variables.is_empty());
    }
}
