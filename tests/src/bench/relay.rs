//! What the relay does for its calls: `make bench-relay`, figures in `target/bench/relay.json`.
//!
//! | figure | meaning |
//! | --- | --- |
//! | `calls_per_1000_warm`, `calls_per_1000_cold` | HubSpot calls per 1,000 records changed in one transaction, with HubSpot's values known and unknown |
//! | `quota_used_share`, `max_calls_in_10s_over_limit` | share of the ten-second limit used at saturation, and the fullest ten seconds over the limit; the worst of one, two and three relays |
//! | `idle_commit_to_request_p50_ms`, `_p99_ms` | from a commit to the request's arrival at HubSpot, nothing else going on |
//! | `outbound_records_per_s` | records changed by one statement until HubSpot has acknowledged all, without a rate limit |
//! | `webhook_events_acked_per_s`, `webhook_events_applied_per_s` | webhook events, by hundreds, until they are answered 200 and until they are in the rows |

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::figures::{Figures, Table, with_spread};
use super::stats::{median, percentile};
use super::{Bench, thousands};
use crate::simulator::Op;
use crate::world::World;

/// What is measured, in this order: the saturated limit takes longest.
pub const PARTS: [&str; 5] = ["calls", "latency", "outbound", "webhooks", "quota"];
/// Records of the counts of calls.
const BURST: usize = 1_000;
/// Requests in ten seconds that saturation is measured with.
const LIMIT: usize = 20;
/// Single edits of which the latency is measured.
const EDITS: usize = 60;
/// Records of the throughput.
const RECORDS: usize = 10_000;
/// Webhook events, several of each record.
const EVENTS: usize = 20_000;
/// Longest wait for a run.
const PATIENCE: Duration = Duration::from_secs(300);
/// As fast as HubSpot answers.
const NO_LIMIT: &str = "requests_per_10s = 10000\n";

/// The section `relay`.
///
/// # Errors
///
/// When a run fails or does not end.
pub async fn run(bench: &Bench) -> Result<()> {
    println!("== relay: calls, limit, latency and throughput against the simulator");
    let mut table = Table::new(&["figure", "median (spread)"]);
    let mut found = Figures::default();
    let out = bench.settings.out.with_file_name("relay.json");
    for part in PARTS.iter().filter(|part| bench.settings.wants_part(part)) {
        let begun = Instant::now();
        let figures = match *part {
            "calls" => calls(bench).await?,
            "latency" => latency(bench).await?,
            "outbound" => outbound(bench).await?,
            "webhooks" => webhooks(bench).await?,
            _ => quota(bench).await?,
        };
        bench.progress(&format!("{part} took {:.0} s", begun.elapsed().as_secs_f64()));
        for (name, values) in figures {
            let digits = if values.iter().any(|v| *v >= 100.0) { 0 } else { 3 };
            table.row(vec![name.clone(), with_spread(&values, digits)]);
            found.set(name, median(&values));
        }
        found.merge_into(&out)?;
    }
    println!("{table}");
    println!("figures: {}", out.display());
    Ok(())
}

/// Figures by name, a value for each round.
type Rounds = Vec<(String, Vec<f64>)>;

/// A relay's settings with these lines in `[hubspot]`.
fn settings(world: &World, hubspot: &str, more: &str) -> Result<hubspot_relay::Config> {
    let text = world.config_toml(&world.url, more);
    let text = text.replace("[hubspot]\n", &format!("[hubspot]\n{hubspot}"));
    Ok(hubspot_relay::Config::from_toml(&text)?)
}

/// A world with so many customers, known to HubSpot, and a relay without a limit that gets no echoes.
async fn linked(bench: &Bench, name: &str, records: usize) -> Result<World> {
    let mut world = World::on(bench.server.cluster(), name, |_| ()).await?;
    world.sim.set_rate_limit(0);
    world
        .sql
        .batch_execute(&format!(
            "INSERT INTO customers (ban, company_name, status, contact, address)
             SELECT 'R-' || n, 'Company ' || n, 'ACTIVE', '{{}}', '{{}}' FROM generate_series(1, {records}) n"
        ))
        .await?;
    let relay = World::run_config(settings(&world, NO_LIMIT, "")?).await?;
    world.adopt_relay(relay);
    world.sim.set_webhook_url(None);
    drained(&world).await?;
    Ok(world)
}

/// Waits until nothing waits to be sent.
async fn drained(world: &World) -> Result<()> {
    let begun = Instant::now();
    while world.count("FROM (SELECT 1 FROM hubspot.capture LIMIT 1) c").await? > 0
        || world.count("FROM (SELECT 1 FROM hubspot.queue LIMIT 1) q").await? > 0
    {
        ensure!(
            begun.elapsed() < PATIENCE,
            "records still wait\n{}",
            world.picture().await?
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn stop(mut world: World) -> Result<()> {
    world.take_relay().context("the relay")?.stop().await;
    world.sim.stop().await;
    Ok(())
}

async fn calls(bench: &Bench) -> Result<Rounds> {
    let mut world = linked(bench, "relay_calls", BURST).await?;
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    for (ttl, counts) in [("5m", &mut warm), ("0s", &mut cold)] {
        world.take_relay().context("the relay")?.stop().await;
        let relay = World::run_config(settings(&world, NO_LIMIT, &format!("[cache]\nttl = \"{ttl}\"\n"))?).await?;
        world.adopt_relay(relay);
        world.sim.set_webhook_url(None);
        drained(&world).await?;
        // The first round also has the calls that a relay makes once, when it starts.
        for round in 0..=bench.settings.rounds {
            world.sim.clear_log();
            world
                .sql
                .batch_execute(&format!(
                    "UPDATE customers SET company_name = '{ttl} {round} ' || id, status = 'TRIAL'"
                ))
                .await?;
            drained(&world).await?;
            if round > 0 {
                counts.push(world.sim.count(Op::Any) as f64 * 1000.0 / BURST as f64);
            }
        }
    }
    stop(world).await?;
    Ok(vec![
        ("calls_per_1000_warm".into(), warm),
        ("calls_per_1000_cold".into(), cold),
    ])
}

async fn latency(bench: &Bench) -> Result<Rounds> {
    let world = linked(bench, "relay_latency", 10).await?;
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for round in 0..bench.settings.rounds {
        let mut took = Vec::new();
        for edit in 0..EDITS {
            tokio::time::sleep(Duration::from_millis(150 + (edit as u64 * 37) % 100)).await;
            world.sim.clear_log();
            world
                .sql
                .batch_execute(&format!(
                    "UPDATE customers SET company_name = 'Edit {round} {edit}' WHERE id = {}",
                    1 + edit % 10
                ))
                .await?;
            let committed = Instant::now();
            // The simulator enters a request before it reads its body.
            while world.sim.count(Op::BatchUpdate) == 0 {
                ensure!(committed.elapsed() < PATIENCE, "an edit was not sent");
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            took.push(committed.elapsed().as_secs_f64() * 1000.0);
        }
        p50.extend(percentile(&took, 0.5));
        p99.extend(percentile(&took, 0.99));
    }
    stop(world).await?;
    Ok(vec![
        ("idle_commit_to_request_p50_ms".into(), p50),
        ("idle_commit_to_request_p99_ms".into(), p99),
    ])
}

async fn outbound(bench: &Bench) -> Result<Rounds> {
    let world = linked(bench, "relay_outbound", RECORDS).await?;
    let mut rates = Vec::new();
    for round in 0..=bench.settings.rounds {
        world.sql.batch_execute("VACUUM").await?;
        let begun = Instant::now();
        world
            .sql
            .batch_execute(&format!("UPDATE customers SET company_name = 'Round {round} ' || id"))
            .await?;
        drained(&world).await?;
        let rate = RECORDS as f64 / begun.elapsed().as_secs_f64();
        bench.progress(&format!("{} records per second outbound", thousands(rate)));
        // The first round warms up.
        if round > 0 {
            rates.push(rate);
        }
    }
    let behind = world
        .count("FROM hubspot.field_state WHERE status <> 'in_sync'")
        .await?;
    ensure!(behind == 0, "{behind} fields are not in sync");
    stop(world).await?;
    Ok(vec![("outbound_records_per_s".into(), rates)])
}

async fn webhooks(bench: &Bench) -> Result<Rounds> {
    let world = linked(bench, "relay_webhooks", 2_000).await?;
    let ids: Vec<String> = world.sim.records("companies").into_iter().map(|c| c.id).collect();
    let url = world.relay().context("the relay")?.webhook_url.clone();
    let (mut acked, mut applied) = (Vec::new(), Vec::new());
    for round in 0..=bench.settings.rounds {
        world.sql.batch_execute("TRUNCATE hubspot.webhook_events").await?;
        world.sql.batch_execute("VACUUM").await?;
        world.sim.set_webhook_url(Some(&url));
        world.sim.hold_webhooks();
        for event in 0..EVENTS {
            world.person_sets(&ids[event % ids.len()], "name", &format!("Event {round} {event}"))?;
        }
        let begun = Instant::now();
        world.sim.release_webhooks();
        let stored = format!("FROM (SELECT 1 FROM hubspot.webhook_events LIMIT {EVENTS}) e");
        while world.count(&stored).await? < i64::try_from(EVENTS)? {
            ensure!(begun.elapsed() < PATIENCE, "events are not stored");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.sim.flush().await;
        let ack = EVENTS as f64 / begun.elapsed().as_secs_f64();
        while world
            .count("FROM (SELECT 1 FROM hubspot.webhook_events WHERE status IN ('pending', 'waiting') LIMIT 1) e")
            .await?
            > 0
        {
            ensure!(begun.elapsed() < PATIENCE, "events are not applied");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let apply = EVENTS as f64 / begun.elapsed().as_secs_f64();
        bench.progress(&format!(
            "{} webhook events per second acknowledged, {} applied",
            thousands(ack),
            thousands(apply)
        ));
        if round > 0 {
            acked.push(ack);
            applied.push(apply);
        }
        world.sim.set_webhook_url(None);
    }
    stop(world).await?;
    Ok(vec![
        ("webhook_events_acked_per_s".into(), acked),
        ("webhook_events_applied_per_s".into(), applied),
    ])
}

async fn quota(bench: &Bench) -> Result<Rounds> {
    let mut rounds: Rounds = Vec::new();
    let (mut least, mut most) = (Vec::new(), Vec::new());
    for relays in 1..=3 {
        let (mut used, mut over) = (Vec::new(), Vec::new());
        for round in 0..bench.settings.rounds {
            let (share, fullest) = saturated(bench, &format!("relay_quota_{relays}_{round}"), relays).await?;
            bench.progress(&format!(
                "{relays} relays: {share:.3} of the limit used, at most {fullest:.2} of it in ten seconds"
            ));
            used.push(share);
            over.push(fullest);
        }
        least.extend(median(&used));
        most.extend(over.iter().copied().max_by(f64::total_cmp));
        rounds.push((format!("quota_used_share_{relays}"), used));
        rounds.push((format!("max_calls_in_10s_over_limit_{relays}"), over));
    }
    rounds.push((
        "quota_used_share".into(),
        least.into_iter().min_by(f64::total_cmp).into_iter().collect(),
    ));
    rounds.push((
        "max_calls_in_10s_over_limit".into(),
        most.into_iter().max_by(f64::total_cmp).into_iter().collect(),
    ));
    Ok(rounds)
}

/// More work than the limit lets through: the share of it used once it is full, and the fullest ten seconds over it.
async fn saturated(bench: &Bench, name: &str, relays: usize) -> Result<(f64, f64)> {
    let world = World::on(bench.server.cluster(), name, |_| ()).await?;
    world.sim.set_rate_limit(0);
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status, contact, address)
             SELECT 'Q-' || n, 'Company ' || n, 'ACTIVE', '{}', '{}' FROM generate_series(1, 9000) n",
        )
        .await?;
    let mut running = Vec::new();
    for _ in 0..relays {
        running.push(World::run_config(settings(&world, &format!("requests_per_10s = {LIMIT}\n"), "")?).await?);
    }
    let begun = Instant::now();
    while world.sim.count(Op::Any) < 3 * LIMIT {
        ensure!(begun.elapsed() < PATIENCE, "the limit is not used");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let fullest = world.sim.max_in_window(10_000);
    ensure!(
        world.count("FROM hubspot.outbox").await? > 0,
        "the limit was not what held it up"
    );
    for relay in running {
        relay.stop().await;
    }
    // From the moment when the window is full: two windows' worth of calls, and the time they took.
    let mut arrived: Vec<u64> = world.sim.requests().iter().map(|request| request.at_us).collect();
    arrived.sort_unstable();
    let took_us = arrived[3 * LIMIT - 1] - arrived[LIMIT - 1];
    world.sim.stop().await;
    Ok((20_000_000.0 / took_us as f64, fullest as f64 / LIMIT as f64))
}
