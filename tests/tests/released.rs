//! What HubSpot refused for want of a property or an option goes out by itself once HubSpot has it.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::PropertyDef;
use hubspot_sync_tests::world::World;

/// Definitions are looked at every second.
const QUICK: &str = "[cache]\nttl = \"1s\"\n";

async fn parked(world: &World, field: &str) -> Result<()> {
    world
        .until(&format!(
            "(SELECT count(*) FROM hubspot.failed_syncs WHERE field = '{field}' AND status = 'open' AND kind = 'invalid') = 1"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_goes_out_when_its_option_appears_and_alone_until_then() -> Result<()> {
    let mut world = World::without_relay("released_option", |mapping| {
        // The mapping allows what HubSpot does not know yet.
        mapping["status"]["enum_values"] = serde_json::json!(["ACTIVE", "SUSPENDED", "TRIAL", "CLOSED", "GALACTIC"]);
    })
    .await?;
    world.start_relay(QUICK).await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .update(&key, "status = 'GALACTIC', company_name = 'Acme 2'")
        .await?;
    let (field, property) = ("status", "warp_status");
    parked(&world, field).await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world
        .sim
        .add_option("companies", property, "GALACTIC")
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world.until_hubspot(&id, property, Some("GALACTIC")).await?;
    world.settle().await?;
    assert_eq!(world.state(&key, field, "status").await?.as_deref(), Some("in_sync"));
    assert_eq!(world.count("FROM hubspot.failed_syncs WHERE status = 'open'").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_goes_out_when_its_property_appears() -> Result<()> {
    let mut world = World::without_relay("released_property", |_| ()).await?;
    let definition: PropertyDef = world
        .sim
        .property("companies", "warp_legal_name")
        .context("the property")?;
    world
        .sim
        .remove_property("companies", "warp_legal_name")
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world.start_relay(QUICK).await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .update(&key, "legal_name = 'Acme Ltd', company_name = 'Acme 2'")
        .await?;
    parked(&world, "legal_name").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world
        .sim
        .define_property("companies", definition)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world.until_hubspot(&id, "warp_legal_name", Some("Acme Ltd")).await?;
    world.settle().await?;
    assert_eq!(world.count("FROM hubspot.failed_syncs WHERE status = 'open'").await?, 0);
    Ok(())
}
