//! Relays that take records over from each other.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::{Gate, Op};
use hubspot_sync_tests::world::World;

async fn reached(gate: &Gate) -> Result<()> {
    tokio::time::timeout(Duration::from_secs(30), gate.reached())
        .await
        .context("no request came to the gate")
}

/// The first relay's lease runs out while its write is on its way; a second takes over, and the late answer undoes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_with_an_expired_lease() -> Result<()> {
    let world = World::start("expired_lease").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let gate = world.sim.gate(Op::BatchUpdate);
    world.update(&key, "company_name = 'First'").await?;
    reached(&gate).await?;
    let second = world.run_relay("[cache]\nttl = \"0s\"").await?;
    world.update(&key, "company_name = 'Second'").await?;
    world.age_leases().await?;
    world
        .until(
            "EXISTS (SELECT 1 FROM hubspot.queue WHERE claimed_by IS NOT NULL AND lease_expires_at > clock_timestamp())
                OR NOT EXISTS (SELECT 1 FROM hubspot.outbox)",
        )
        .await?;
    gate.release();
    world.until_hubspot(&id, "name", Some("Second")).await?;
    world.settle().await?;
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some("Second"));
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Second"));
    assert_eq!(world.versions(&id, "name"), ["Acme", "First", "Second"]);
    assert_eq!(
        world.outcomes(&key, "company_name").await?,
        ["delivered", "delivered", "delivered"]
    );
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    second.stop().await;
    Ok(())
}

/// Three relays with writes on their way, and one at random dies: the others go on at once, what it held is taken over when its
/// lease has run out by itself, and every edit is written once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_three_relays_dies_and_nothing_waits_longer_than_its_lease() -> Result<()> {
    let world = World::without_relay("three_relays", |_| ()).await?;
    world.sim.set_rate_limit(0);
    let mut relays = Vec::new();
    for _ in 0..3 {
        relays.push(world.run_relay("").await?);
    }
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status) SELECT 'BAN-' || n, 'Company ' || n, 'ACTIVE' FROM generate_series(1, 600) n",
        )
        .await?;
    world.settle().await?;
    let gate = world.sim.gate_before(Op::BatchUpdate);
    world
        .sql
        .batch_execute("UPDATE customers SET company_name = 'Name ' || id")
        .await?;
    reached(&gate).await?;
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.outbox WHERE claimed_by IS NULL)")
        .await?;
    let victim = rand::random_range(0..relays.len());
    relays.swap_remove(victim).crash().await;
    let longest =
        "SELECT count(*) FROM hubspot.queue WHERE lease_expires_at > clock_timestamp() + interval '30 seconds'";
    assert_eq!(
        world
            .text(&longest.replace("count(*)", "count(*)::text"))
            .await?
            .as_deref(),
        Some("0")
    );
    gate.release();
    let key = world.insert("BAN-LIVE", "Live").await?;
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.link WHERE entity_key = '{key}' AND status = 'linked')"
        ))
        .await
        .context("the living relays did not go on")?;
    // A lease may have all of its thirty seconds left, which is a wait's longest.
    let begun = std::time::Instant::now();
    while let Err(error) = world.settle().await {
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(120),
            "relay {victim} died: {error:#}"
        );
    }
    let mut names: Vec<Vec<String>> = world
        .sim
        .records("companies")
        .iter()
        .map(|company| world.versions(&company.id, "name"))
        .collect();
    names.retain(|names| names.as_slice() != ["Live"]);
    assert_eq!(names.len(), 600);
    for versions in names {
        let number = versions[0].trim_start_matches("Company ").to_owned();
        assert_eq!(versions, [format!("Company {number}"), format!("Name {number}")]);
    }
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    for relay in relays {
        relay.stop().await;
    }
    Ok(())
}
