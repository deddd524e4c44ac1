//! Statements that touch many rows: one UPDATE of a whole table, one COPY into an empty one.
//!
//! The floor of any outbox is the same statement without capture and then, in the same transaction, a bare
//! `INSERT … SELECT` of the outbox rows: rows exactly as captured, ready in a table beside, into a table with the columns
//! and the indexes of `hubspot.capture`.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::Bench;
use super::figures::{Table, with_spread};
use super::fixture::Fixture;
use super::rows::label;
use super::stats::{median, paired};

/// The compared ways: `floor` needs what `ours` captured.
const BULK_WAYS: [&str; 6] = ["none", "floor", "ours", "transition", "plpgsql", "hstore"];

/// The columns that COPY brings.
const COLUMNS: &str = "ban, current_balance, prepaid_balance, status, tier, credit_limit, payment_terms, company_name, \
    legal_name, contact, address, external_ids, notes";

/// A statement over many rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Statement {
    Update,
    Copy,
}

impl Statement {
    fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Copy => "copy",
        }
    }

    /// `round` makes every row's values differ from those before.
    fn sql(self, way: &str, round: u32, file: &str) -> String {
        match self {
            Self::Update => format!(
                "UPDATE customers_{way} SET current_balance = current_balance + 1, company_name = 'Company {round} of ' || id"
            ),
            Self::Copy => format!("COPY customers_{way} ({COLUMNS}) FROM '{file}'"),
        }
    }
}

/// The section `bulk`.
///
/// # Errors
///
/// When a run fails, or a way did not capture every row.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let ways: Vec<&'static str> = BULK_WAYS
        .into_iter()
        .filter(|way| bench.wants_way(way))
        .filter(|way| *way != "floor" || bench.wants_way("ours"))
        .collect();
    let rows = bench.settings.sizes.bulk;
    println!(
        "== bulk: one UPDATE of {rows} rows, one COPY of {rows} rows; the floor is the statement without capture and a bare INSERT … SELECT of the captured rows"
    );
    let fixture = Fixture::build(&bench.server, "bulk", rows, &ways).await?;
    let _relay = fixture.busy_relay().await?;
    let file = bench.server.cluster().data_dir().join("customers.copy");
    let file = file.display().to_string();
    fixture
        .run(&format!("COPY (SELECT {COLUMNS} FROM customers_none) TO '{file}'"))
        .await?;
    let mut table = Table::new(&["statement", "way", "seconds", "× floor", "× none"]);
    for statement in [Statement::Update, Statement::Copy] {
        let seconds = take_turns(bench, &fixture, &ways, statement, &file).await?;
        let name = statement.name();
        for way in &ways {
            let Some(run) = seconds.get(way) else { continue };
            let against = |other| seconds.get(other).map_or_else(Vec::new, |other| paired(run, other));
            let (floor, none) = (against("floor"), against("none"));
            table.row(vec![
                name.to_uppercase(),
                label(way).to_owned(),
                with_spread(run, 2),
                with_spread(&floor, 2),
                with_spread(&none, 2),
            ]);
            let figures = &mut bench.figures;
            let prefix = if *way == "ours" {
                format!("bulk_{name}")
            } else {
                format!("bulk_{name}_{way}")
            };
            figures.set(format!("{prefix}_seconds"), median(run));
            figures.set(format!("{prefix}_time_vs_none"), median(&none));
            figures.set(format!("{prefix}_time_vs_floor"), median(&floor));
            if *way == "ours" {
                for other in ["transition", "plpgsql", "hstore"] {
                    figures.set(format!("{prefix}_time_vs_{other}"), median(&against(other)));
                }
            }
        }
    }
    println!("{table}");
    Ok(())
}

async fn take_turns(
    bench: &Bench,
    fixture: &Fixture,
    ways: &[&'static str],
    statement: Statement,
    file: &str,
) -> Result<BTreeMap<&'static str, Vec<f64>>> {
    let mut seconds: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    // Round 0 warms up, and what ours captures in it is what the floor writes. That is why ours has its turn first there.
    for round in 0..=bench.settings.rounds {
        let mut order = ways.to_vec();
        if round == 0 {
            order.sort_by_key(|way| *way != "ours");
        } else {
            order.rotate_left(round as usize % ways.len());
        }
        for way in order {
            prepare(fixture, way, statement).await?;
            let mut sql = format!("BEGIN; {};", statement.sql(way, round, file));
            if way == "floor" {
                sql.push_str(FLOOR);
            }
            sql.push_str("COMMIT;");
            let begun = Instant::now();
            fixture.run(&sql).await?;
            let took = begun.elapsed().as_secs_f64();
            let captured = fixture.captured(way).await?;
            ensure!(
                way == "none" || u64::try_from(captured)? == fixture.rows,
                "{way} captured {captured} of {} rows",
                fixture.rows
            );
            if round == 0 && way == "ours" {
                fixture.run(READY).await?;
                fixture.run("VACUUM ANALYZE ready_rows").await?;
            }
            if round > 0 {
                seconds.entry(way).or_default().push(took);
            }
        }
        bench.progress(&format!(
            "{}, round {round} of {}",
            statement.name(),
            bench.settings.rounds
        ));
    }
    Ok(seconds)
}

/// What ours captured, kept beside, and a table as it is captured into.
const READY: &str = "
DROP TABLE IF EXISTS ready_rows, outbox_floor;
CREATE TABLE ready_rows AS SELECT * FROM hubspot.capture ORDER BY ctid;
CREATE TABLE outbox_floor (LIKE hubspot.capture INCLUDING STORAGE INCLUDING INDEXES)";

/// The rows as they are, positions included: an outbox that numbers its rows pays for that besides.
const FLOOR: &str = "INSERT INTO outbox_floor SELECT * FROM ready_rows;";

async fn prepare(fixture: &Fixture, way: &str, statement: Statement) -> Result<()> {
    if statement == Statement::Copy {
        fixture.run(&format!("TRUNCATE customers_{way}")).await?;
    }
    fixture.reset(way).await
}
