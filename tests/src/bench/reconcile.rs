//! What comparing both sides costs: `make bench-reconcile`, figures in `target/bench/relay.json`.
//!
//! | figure | meaning |
//! | --- | --- |
//! | `reconciled_records_per_s` | linked records compared per second of a whole run (rows, records, HubSpot's list), without a rate limit |
//! | `reconcile_calls_per_1000` | HubSpot calls per 1,000 records, of which 10 list HubSpot's records |
//! | `reconcile_memory_200k_vs_10k` | the relay's peak memory over that at 10,000 records |
//! | `reconcile_backend_memory_200k_vs_10k` | the same of the relay's largest PostgreSQL backend, without shared memory |
//!
//! The relay is a process of its own, started anew for each run: this program again, with a settings file.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::figures::{Figures, Table, with_spread};
use super::stats::median;
use super::{Bench, thousands};
use crate::simulator::Op;
use crate::world::World;

/// Records of the small and of the large run.
const SMALL: usize = 10_000;
const LARGE: usize = 200_000;
/// Longest wait for a run.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// One run.
struct Run {
    records_per_s: f64,
    calls: f64,
    relay_kib: f64,
    backend_kib: f64,
}

/// The section `reconcile`.
///
/// # Errors
///
/// When a run fails or does not end.
pub async fn run(bench: &Bench) -> Result<()> {
    println!("== reconcile: both sides compared without a rate limit");
    let mut small = Vec::new();
    let world = populated(bench, "reconcile_small", SMALL).await?;
    for _ in 0..bench.settings.rounds {
        small.push(compare(bench, &world, SMALL).await?);
    }
    world.sim.stop().await;
    let world = populated(bench, "reconcile_large", LARGE).await?;
    let large = compare(bench, &world, LARGE).await?;
    world.sim.stop().await;

    let column = |of: fn(&Run) -> f64| -> Vec<f64> { small.iter().map(of).collect() };
    let (relay, backend) = (column(|r| r.relay_kib), column(|r| r.backend_kib));
    let over = |large: f64, small: &[f64]| median(small).map(|small| large / small);
    let mut figures = Figures::default();
    let mut table = Table::new(&["figure", "10,000 records", "200,000 records"]);
    let mut line = |name: &str, small: &[f64], large: f64, digits: usize| {
        table.row(vec![
            name.to_owned(),
            with_spread(small, digits),
            format!("{large:.digits$}"),
        ]);
    };
    line(
        "records per second",
        &column(|r| r.records_per_s),
        large.records_per_s,
        0,
    );
    line("HubSpot calls per 1,000 records", &column(|r| r.calls), large.calls, 1);
    line("relay's peak memory, KiB", &relay, large.relay_kib, 0);
    line("backend's peak memory, KiB", &backend, large.backend_kib, 0);
    println!("{table}");
    figures.set("reconciled_records_per_s", median(&column(|r| r.records_per_s)));
    figures.set("reconciled_records_per_s_200k", Some(large.records_per_s));
    figures.set("reconcile_calls_per_1000", Some(large.calls));
    figures.set("reconcile_memory_200k_vs_10k", over(large.relay_kib, &relay));
    figures.set(
        "reconcile_backend_memory_200k_vs_10k",
        over(large.backend_kib, &backend),
    );
    let out = bench.settings.out.with_file_name("relay.json");
    figures.merge_into(&out)?;
    println!("figures: {}", out.display());
    Ok(())
}

/// A world in which so many customers are linked and equal on both sides. They are put there directly: how they would come
/// to be is not what is measured.
async fn populated(bench: &Bench, name: &str, records: usize) -> Result<World> {
    let world = World::on(bench.server.cluster(), name, |_| ()).await?;
    world.sim.set_rate_limit(0);
    for n in 1..=records {
        let (ban, company) = (format!("R-{n}"), format!("Company {n}"));
        world.person_creates(&[("name", &company), ("warp_ban", &ban), ("warp_status", "ACTIVE")])?;
    }
    let ids: Vec<String> = world.sim.records("companies").into_iter().map(|c| c.id).collect();
    world
        .sql
        .batch_execute(&format!(
            "SET session_replication_role = replica;
             INSERT INTO customers (ban, company_name, status, contact, address)
             SELECT 'R-' || n, 'Company ' || n, 'ACTIVE', '{{}}', '{{}}' FROM generate_series(1, {records}) n;
             RESET session_replication_role"
        ))
        .await?;
    world
        .sql
        .execute(
            "INSERT INTO hubspot.link (mapping_id, entity_key, hubspot_id, status, contacted, id_written, linked_at)
             SELECT m.id, v.n::text, v.id, 'linked', true, true, now() - interval '1 day'
             FROM hubspot.object_mapping m, unnest($1::text[]) WITH ORDINALITY AS v (id, n)",
            &[&ids],
        )
        .await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO hubspot.sync_state (link_id, field_id, row_value, edited_at, origin, generation, dirty, agreed, base_value,
               seen_at, own_at, flying, given_up, held, parked, formed, hubspot_value)
             SELECT l.id, f.id, v.value, 1, 'w', 1, false, true, v.value, 0, 0, false, false, false, false, false, v.value
             FROM hubspot.link l JOIN customers c ON c.id = l.entity_key::bigint
             JOIN hubspot.field_mapping f ON f.mapping_id = l.mapping_id AND f.sync_direction <> 'NONE'
             CROSS JOIN LATERAL (SELECT CASE f.field WHEN 'ban' THEN c.ban WHEN 'company_name' THEN c.company_name
                                        WHEN 'status' THEN c.status END) AS v (value);
             VACUUM ANALYZE",
        )
        .await?;
    Ok(world)
}

async fn compare(bench: &Bench, world: &World, records: usize) -> Result<Run> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("relay.toml");
    let text = world.config_toml(&world.url, "");
    let text = text.replace("[hubspot]\n", "[hubspot]\nrequests_per_10s = 10000\n");
    std::fs::File::create(&file)?.write_all(text.as_bytes())?;
    world.sim.clear_log();
    let mut relay = Process::start(&file)?;
    let row = world
        .sql
        .query_one("SELECT hubspot.reconcile('customer', true)", &[])
        .await?;
    let run: i64 = row.get(0);
    let begun = Instant::now();
    let mut backend = 0;
    let end = "SELECT status, records, discrepancies, extract(epoch FROM finished_at - started_at)::float8
               FROM hubspot.reconciliation_runs WHERE id = $1";
    let (seconds, compared) = loop {
        ensure!(begun.elapsed() < PATIENCE, "the run does not end");
        ensure!(relay.runs()?, "the relay ended");
        backend = backend.max(largest_backend(world).await?);
        let row = world.sql.query_one(end, &[&run]).await?;
        if row.get::<_, String>(0) == "finished" {
            ensure!(row.get::<_, i64>(2) == 0, "equal sides were called different");
            break (row.get::<_, f64>(3), row.get::<_, i64>(1));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    ensure!(
        compared == i64::try_from(records)?,
        "{compared} of {records} records were compared"
    );
    let peak = relay.peak_kib()?;
    let calls = world.sim.count(Op::BatchRead) + world.sim.count(Op::List);
    let rate = records as f64 / seconds;
    bench.progress(&format!(
        "{} records: {} per second, relay {} KiB, backend {} KiB",
        thousands(records as f64),
        thousands(rate),
        thousands(peak as f64),
        thousands(backend as f64)
    ));
    Ok(Run {
        records_per_s: rate,
        calls: calls as f64 * 1000.0 / records as f64,
        relay_kib: peak as f64,
        backend_kib: backend as f64,
    })
}

/// Memory of its own of the relay's largest backend, in KiB.
async fn largest_backend(world: &World) -> Result<u64> {
    let rows = world
        .sql
        .query(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'hubspot-relay' AND datname = current_database()",
            &[],
        )
        .await?;
    let pids: BTreeSet<i32> = rows.iter().map(|r| r.get(0)).collect();
    // One that has ended meanwhile has no memory.
    Ok(pids
        .iter()
        .filter_map(|pid| status_kib(*pid as u32, "RssAnon:"))
        .max()
        .unwrap_or(0))
}

fn status_kib(pid: u32, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A relay in a process of its own; it ends with this value.
struct Process(Child);

impl Process {
    fn start(settings: &Path) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg("--relay")
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("the relay's process")?;
        Ok(Self(child))
    }

    fn runs(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    fn peak_kib(&self) -> Result<u64> {
        status_kib(self.0.id(), "VmHWM:").context("the relay's peak memory")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It keeps no state that matters.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the process of `Process::start` does.
///
/// # Errors
///
/// Wrong settings, or a relay that ends.
pub async fn relay(settings: &Path) -> Result<()> {
    let config = hubspot_relay::Config::load(settings)?;
    hubspot_relay::run(config, tokio_util::sync::CancellationToken::new()).await?;
    Ok(())
}
