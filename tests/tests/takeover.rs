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
