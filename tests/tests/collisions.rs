//! Two rows with one match value: the first gets HubSpot's record, the other waits for a person and says so.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;

async fn world(name: &str) -> Result<World> {
    let world = World::start(name).await?;
    world
        .sql
        .batch_execute("ALTER TABLE customers DROP CONSTRAINT customers_ban_key")
        .await?;
    Ok(world)
}

const PARKED: &str = "EXISTS (SELECT 1 FROM hubspot.link WHERE status = 'parked')";

/// Of the two rows, the key of the one that is parked.
async fn parked(world: &World) -> Result<String> {
    world
        .text("SELECT entity_key FROM hubspot.link WHERE status = 'parked'")
        .await?
        .context("no record is parked")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_created_together_do_not_share_a_record() -> Result<()> {
    let world = world("twins").await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status, contact, address) VALUES
               ('BAN-1', 'One', 'ACTIVE', '{}', '{}'), ('BAN-1', 'Two', 'ACTIVE', '{}', '{}')",
        )
        .await?;
    world.until(PARKED).await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.link WHERE status = 'linked')")
        .await?;
    let other = parked(&world).await?;
    let first = world
        .text("SELECT entity_key FROM hubspot.link WHERE status = 'linked'")
        .await?
        .context("no record is linked")?;
    let id = world.hubspot_id(&first).await?.context("the first row's id")?;
    let name = world.row(&first, "company_name").await?;
    assert_eq!(world.hubspot(&id, "name"), name, "the other row wrote nothing");
    let message = world
        .text("SELECT message FROM hubspot.failed_syncs WHERE status = 'open'")
        .await?
        .context("no failure is on record")?;
    assert!(message.contains("another match value"), "{message}");

    // The mend is an edit: the row is met anew by itself.
    world.update(&other, "ban = 'BAN-2'").await?;
    world
        .until("(SELECT count(*) FROM hubspot.link WHERE status = 'linked') = 2")
        .await?;
    let second = world.hubspot_id(&other).await?.context("the other row's id")?;
    assert_ne!(second, id);
    world.until_hubspot(&second, "warp_ban", Some("BAN-2")).await?;
    assert_eq!(world.hubspot(&second, "name"), world.row(&other, "company_name").await?);
    Ok(())
}

/// Neither relay finds the record, so both send it: the answer that comes second must not fail, nor link a second row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_create_the_same_record_at_once() -> Result<()> {
    let world = world("twin_relays").await?;
    let gate = world.sim.gate(Op::BatchUpsert);
    world.insert("BAN-1", "One").await?;
    tokio::time::timeout(Duration::from_secs(30), gate.reached())
        .await
        .context("no create came to the gate")?;
    let second = world.run_relay("").await?;
    let late = world.insert("BAN-1", "Two").await?;
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.link WHERE status = 'linked' AND entity_key = '{late}')"
        ))
        .await?;
    gate.release();
    world.until(PARKED).await?;
    assert_ne!(parked(&world).await?, late);
    assert_eq!(world.count("FROM hubspot.link WHERE status = 'linked'").await?, 1);
    // Sooner than any lease ends: no claim was left to it.
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.queue WHERE claimed_by IS NOT NULL)")
        .await?;
    second.stop().await;
    Ok(())
}
