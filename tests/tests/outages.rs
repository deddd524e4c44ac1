//! HubSpot is out for longer than any record's tries last, or refuses some calls only.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::simulator::{FaultKind, Op, Policy};
use hubspot_sync_tests::world::World;

/// Waits until the simulator has seen so many calls since the log was cleared.
async fn asked(world: &World, calls: usize) -> Result<()> {
    let begun = Instant::now();
    while world.sim.count(Op::Any) < calls {
        let seen = world.sim.count(Op::Any);
        ensure!(begun.elapsed() < Duration::from_secs(90), "{seen} of {calls} calls");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// With one retry a record, an outage of a score of probes costs none: only probes are sent, what people do in HubSpot still
/// comes in, and everything waiting goes out by itself in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_any_length_costs_no_record_a_try() -> Result<()> {
    let mut world = World::without_relay("long_outage", |_| ()).await?;
    world.start_relay("max_retries = 1\n").await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status) SELECT 'BAN-' || n, 'Company ' || n, 'ACTIVE' FROM generate_series(1, 250) n",
        )
        .await?;
    world.settle().await?;
    world.sim.clear_log();
    world.sim.fault_by_chance(Op::Any, FaultKind::Status(503), 1.0);
    world
        .sql
        .batch_execute("UPDATE customers SET company_name = 'Name ' || id")
        .await?;
    // Whatever was under way when it began is over by then.
    asked(&world, 8).await?;
    let writes = world.sim.count(Op::BatchUpdate);
    let id = world.hubspot_id("7").await?.context("not linked")?;
    world.person_sets(&id, "warp_tier", "PREMIUM")?;
    asked(&world, 25).await?;
    assert_eq!(
        world.sim.count(Op::BatchUpdate),
        writes,
        "records were sent into the outage"
    );
    world
        .until("(SELECT tier = 'PREMIUM' FROM customers WHERE id = 7)")
        .await?;
    let waiting = "SELECT concat_ws(' ', count(*), max(attempts), count(*) FILTER (WHERE claimed_by IS NOT NULL)) FROM hubspot.outbox";
    assert_eq!(world.text(waiting).await?.as_deref(), Some("250 0 0"));
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);

    world.sim.clear_faults();
    world.settle().await?;
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    assert_eq!(
        world
            .count("FROM hubspot.field_state WHERE status <> 'in_sync'")
            .await?,
        0
    );
    for record in world.sim.records("companies") {
        let names = world.versions(&record.id, "name");
        assert_eq!(names.len(), 2, "{names:?}");
    }
    Ok(())
}

/// Search has a limit of its own: while HubSpot refuses every search, changes go out, and what only a search shows is caught up
/// afterwards. No search is sent beyond the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_search_holds_up_no_write() -> Result<()> {
    let world = World::without_relay("search_refused", |_| ()).await?;
    world.sim.set_search_limit(2);
    let text = world
        .config_toml(&world.url, "[poll]\nmode = \"search\"\ninterval = \"1s\"\n")
        .replace("[hubspot]\n", "[hubspot]\nsearch_per_second = 2\n");
    let relay = World::run_config(hubspot_relay::Config::from_toml(&text)?).await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .sim
        .fault_by_chance(Op::Search, FaultKind::RateLimited(Policy::Secondly), 1.0);
    world.sim.clear_log();
    world.person_sets(&id, "warp_tier", "PREMIUM")?;
    let begun = Instant::now();
    while world.sim.count(Op::Search) < 2 {
        ensure!(begun.elapsed() < Duration::from_secs(60), "no search was tried");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for n in 0..3 {
        let name = format!("Acme {n}");
        world.update(&key, &format!("company_name = '{name}'")).await?;
        world.until_hubspot(&id, "name", Some(&name)).await?;
    }
    assert_eq!(world.row(&key, "tier").await?, None, "the search was not refused");
    world.sim.clear_faults();
    world.sim.clear_log();
    world
        .until(&format!("(SELECT tier = 'PREMIUM' FROM customers WHERE id = {key})"))
        .await?;
    let refused = world.sim.requests().iter().filter(|r| r.status == 429).count();
    assert_eq!(refused, 0, "searches beyond the limit");
    relay.stop().await;
    Ok(())
}
