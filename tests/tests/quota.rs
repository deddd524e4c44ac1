//! HubSpot's limit is kept in any ten seconds, and used, however many relays share it; the day is counted.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;

/// Small, so that few records saturate it.
const LIMIT: usize = 20;

/// Makes more work than the limit lets through, for `relays` relays; the simulator counts what arrives.
async fn saturate(name: &str, relays: usize) -> Result<()> {
    let world = World::without_relay(name, |_| ()).await?;
    world.sim.set_rate_limit(0);
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status, contact, address)
             SELECT 'Q-' || n, 'Company ' || n, 'ACTIVE', '{}', '{}' FROM generate_series(1, 9000) n",
        )
        .await?;
    let settings = format!("[hubspot]\nrequests_per_10s = {LIMIT}\n");
    let mut running = Vec::new();
    for _ in 0..relays {
        let text = world.config_toml(&world.url, "").replace("[hubspot]\n", &settings);
        running.push(World::run_config(hubspot_relay::Config::from_toml(&text)?).await?);
    }
    let begun = Instant::now();
    while world.sim.count(Op::Any) < 3 * LIMIT {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let sent = world.sim.count(Op::Any);
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(60),
            "only {sent} calls in a minute"
        );
    }
    let most = world.sim.max_in_window(10_000);
    let waiting = world.count("FROM hubspot.outbox").await?;
    for relay in running {
        relay.stop().await;
    }
    // From the moment when the window is full: two windows' worth of calls, and the time they took.
    let mut arrived: Vec<u64> = world.sim.requests().iter().map(|request| request.at_us).collect();
    arrived.sort_unstable();
    let took_us = arrived[3 * LIMIT - 1] - arrived[LIMIT - 1];
    let used = 20_000_000.0 / took_us as f64;
    eprintln!("{relays} relays: {used:.3} of the limit used, at most {most} calls in ten seconds");
    assert!(waiting > 0, "the limit was not what held it up");
    assert!(most <= LIMIT, "{most} calls within ten seconds, allowed are {LIMIT}");
    // How much of it is used is a matter of speed: `make bench-relay` measures that.
    let in_ledger: i64 = world
        .sql
        .query_one("SELECT sum(calls)::bigint FROM hubspot.quota_usage", &[])
        .await?
        .get(0);
    assert_eq!(
        usize::try_from(in_ledger)?,
        world.sim.count(Op::Any),
        "the ledger's calls"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_relay_keeps_and_uses_the_limit() -> Result<()> {
    saturate("quota_one", 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_share_the_limit() -> Result<()> {
    saturate("quota_two", 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_relays_share_the_limit() -> Result<()> {
    saturate("quota_three", 3).await
}

/// What a crashed relay held is not used before its lease and its longest call are over, and then it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_relays_slots_expire_safely() -> Result<()> {
    let world = World::without_relay("quota_crash", |_| ()).await?;
    world.sim.set_rate_limit(0);
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status, contact, address)
             SELECT 'Q-' || n, 'Company ' || n, 'ACTIVE', '{}', '{}' FROM generate_series(1, 3000) n",
        )
        .await?;
    let settings = format!("[hubspot]\nrequests_per_10s = {LIMIT}\n");
    let text = world.config_toml(&world.url, "").replace("[hubspot]\n", &settings);
    let first = World::run_config(hubspot_relay::Config::from_toml(&text)?).await?;
    let begun = Instant::now();
    while world.sim.count(Op::Any) < LIMIT {
        tokio::time::sleep(Duration::from_millis(5)).await;
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "the limit was not reached");
    }
    first.crash().await;
    world.age_leases().await?;
    let second = World::run_config(hubspot_relay::Config::from_toml(&text)?).await?;
    let begun = Instant::now();
    while world.sim.count(Op::Any) < 2 * LIMIT {
        tokio::time::sleep(Duration::from_millis(20)).await;
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(30), "the slots did not come back");
    }
    second.stop().await;
    let most = world.sim.max_in_window(10_000);
    assert!(most <= LIMIT, "{most} calls within ten seconds, allowed are {LIMIT}");
    Ok(())
}

/// The day's limit ends the day's calls; SQL shows how much was used and what is left.
#[tokio::test(flavor = "multi_thread")]
async fn the_days_limit_is_kept_and_shown() -> Result<()> {
    let mut world = World::without_relay("quota_day", |_| ()).await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status, contact, address)
             SELECT 'Q-' || n, 'Company ' || n, 'ACTIVE', '{}', '{}' FROM generate_series(1, 900) n",
        )
        .await?;
    let text = world
        .config_toml(&world.url, "")
        .replace("[hubspot]\n", "[hubspot]\nrequests_per_day = 8\n");
    let relay = World::run_config(hubspot_relay::Config::from_toml(&text)?).await?;
    world.adopt_relay(relay);
    world
        .until("(SELECT quota_left_today = 0 AND quota_used_today >= 8 FROM hubspot.status())")
        .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.sim.count(Op::Any), 8);
    assert_eq!(
        world
            .text("SELECT value::text FROM hubspot.metrics WHERE name = 'quota_used_today'")
            .await?
            .as_deref(),
        Some("8")
    );
    assert!(world.count("FROM hubspot.outbox").await? > 0);
    Ok(())
}

/// A relay's settings with so many calls a day.
fn with_day(world: &World, calls: usize) -> Result<hubspot_relay::Config> {
    let text = world.config_toml(&world.url, "");
    let text = text.replace("[hubspot]\n", &format!("[hubspot]\nrequests_per_day = {calls}\n"));
    Ok(hubspot_relay::Config::from_toml(&text)?)
}

/// Calls of a backfill that the ledger has of today.
const BACKFILLED: &str = "SELECT coalesce(sum(calls), 0)::text FROM hubspot.quota_usage WHERE purpose = 'backfill'";

/// Waits for a backfill while live edits go on, and says how many calls were made for it when it stands still.
async fn backfill_beside_live(name: &str, used: &str) -> Result<(World, i64)> {
    let mut world = World::without_relay(name, |_| ()).await?;
    let relay = World::run_config(with_day(&world, 1000)?).await?;
    world.adopt_relay(relay);
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status)
             SELECT 'BAN-' || n, 'Company ' || n, 'ACTIVE' FROM generate_series(2, 600) n",
        )
        .await?;
    world.settle().await?;
    world.take_relay().context("the relay")?.stop().await;
    // As if the day's calls had been made already.
    world
        .sql
        .batch_execute(&format!(
            "INSERT INTO hubspot.quota_usage AS u
             SELECT (clock_timestamp() AT TIME ZONE d.zone)::date, 0, v.purpose, v.calls FROM hubspot.quota_day d, (VALUES {used}) v (purpose, calls)
             ON CONFLICT ON CONSTRAINT quota_usage_pkey DO UPDATE SET calls = excluded.calls"
        ))
        .await?;
    world
        .text("SELECT hubspot.backfill('customer', 'WARP_TO_HUBSPOT')::text")
        .await?;
    let relay = World::run_config(with_day(&world, 1000)?).await?;
    world.adopt_relay(relay);
    world
        .until("EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE kind = 'backfill' AND claimed_by IS NOT NULL)")
        .await?;
    for edit in 0..5 {
        let name = format!("Acme {edit}");
        world.update(&key, &format!("company_name = '{name}'")).await?;
        world.until_hubspot(&id, "name", Some(&name)).await?;
        world.settle().await?;
    }
    assert_eq!(
        world
            .count("FROM hubspot.reconciliation_runs WHERE kind = 'backfill' AND finished_at IS NOT NULL")
            .await?,
        0,
        "the backfill went on"
    );
    let made = world.text(BACKFILLED).await?.context("calls")?.parse()?;
    Ok((world, made))
}

/// A first load may use its share of the day and no more; live changes go on beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_beyond_its_share_of_the_day_waits_and_live_changes_do_not() -> Result<()> {
    let (world, made) = backfill_beside_live("quota_share", "('backfill', 499)").await?;
    assert!(
        (499..=500).contains(&made),
        "half of the day is 500 calls, {made} were made"
    );
    drop(world);
    Ok(())
}

/// What is left at the end of the day is kept for live changes.
#[tokio::test(flavor = "multi_thread")]
async fn the_days_reserve_is_left_to_live_changes() -> Result<()> {
    let (world, made) = backfill_beside_live("quota_reserve", "('live', 920)").await?;
    assert_eq!(made, 0, "a tenth of the day is for live changes alone");
    let left: i64 = world
        .sql
        .query_one("SELECT calls_left::bigint FROM hubspot.quota", &[])
        .await?
        .get(0);
    assert!((1..100).contains(&left), "{left} calls are left");
    Ok(())
}

/// A relay that stops gives back what it holds, so that the next one need not wait for a lease to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_relay_gives_its_slots_back() -> Result<()> {
    let mut world = World::start("quota_stop").await?;
    world.linked("BAN-1", "Acme").await?;
    for _ in 0..3 {
        world.until("EXISTS (SELECT 1 FROM hubspot.quota_holder)").await?;
        world.take_relay().context("the relay")?.stop().await;
        assert_eq!(world.count("FROM hubspot.quota_holder").await?, 0);
        world.start_relay("").await?;
    }
    Ok(())
}

/// With `"auto"` the limit is the one that HubSpot's answers name, also when the account gets a larger one.
#[tokio::test(flavor = "multi_thread")]
async fn auto_follows_what_hubspots_answers_name() -> Result<()> {
    let world = World::without_relay("quota_auto", |_| ()).await?;
    world.sim.set_rate_limit(20);
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status, contact, address)
             SELECT 'Q-' || n, 'Company ' || n, 'ACTIVE', '{}', '{}' FROM generate_series(1, 9000) n",
        )
        .await?;
    let text = world
        .config_toml(&world.url, "")
        .replace("[hubspot]\n", "[hubspot]\nrequests_per_10s = \"auto\"\n");
    let relay = World::run_config(hubspot_relay::Config::from_toml(&text)?).await?;
    let begun = Instant::now();
    while world.sim.count(Op::Any) < 45 {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(90), "the limit was not used");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = || world.sim.requests().iter().filter(|r| r.status == 429).count();
    assert!(world.sim.max_in_window(10_000) <= 20);
    assert_eq!(refused(), 0);
    world.sim.set_rate_limit(40);
    while world.sim.max_in_window(10_000) <= 20 {
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(180),
            "the larger limit was not used"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    relay.stop().await;
    assert_eq!(refused(), 0);
    Ok(())
}
