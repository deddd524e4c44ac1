//! What databases go through: dumps, base backups, standbys, recovery to a point in time, publications and
//! subscriptions. A copy never writes to HubSpot before
//! somebody armed it, and then goes on without sending again what was delivered.

mod dump;
mod logical;
mod physical;
mod pitr;
mod standby;

use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::connect;
use hubspot_sync_tests::world::World;

/// How many rows each table of ours holds, and their sum of ids where they have one: what a copy must have too.
async fn inventory(world: &World) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (table, order) in [
        ("object_mapping", "id"),
        ("field_mapping", "id"),
        ("link", "id"),
        ("sync_state", "link_id, field_id"),
        ("capture", "captured_at"),
        ("queue", "link_id"),
        ("conflicts", "id"),
        ("failed_syncs", "id"),
        ("sync_log", "id"),
        ("webhook_events", "id"),
        ("transform", "name"),
    ] {
        // A captured change's position is one of the server it was captured on: a restored row has none.
        let sql = format!(
            "SELECT md5(string_agg((to_jsonb(t) - 'position')::text, '|' ORDER BY {order})) || ' ' || count(*) FROM hubspot.{table} t"
        );
        found.push(format!("{table} {}", world.text(&sql).await?.unwrap_or_default()));
    }
    Ok(found)
}

/// The world goes on with another database.
async fn move_to(world: &mut World, url: &str) -> Result<()> {
    world.url = url.to_owned();
    for _ in 0..100 {
        // A server that was just promoted or recovered ends connections on the way.
        if let Ok(sql) = connect(url).await
            && sql.batch_execute("SELECT 1").await.is_ok()
        {
            world.sql = sql;
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("{url} does not answer")
}

async fn armed(world: &World) -> Result<bool> {
    Ok(world
        .text("SELECT armed::text FROM hubspot.status()")
        .await?
        .context("status")?
        == "true")
}

/// Everything a copy can find: a delivered record, an edit that waits, an open conflict, a parked value.
struct Scene {
    /// Key and HubSpot id of a record that is in sync but for what is below.
    key: String,
    id: String,
}

/// Plays it; the relay is gone afterwards and HubSpot's webhooks go nowhere.
async fn scene(world: &mut World) -> Result<Scene> {
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.hold_webhooks();
    world.person_sets(&id, "warp_legal_name", "There")?;
    world.update(&key, "legal_name = 'Here'").await?;
    world.sim.release_webhooks();
    world
        .until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")
        .await?;
    world.update(&key, "status = 'BOGUS'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    world.settle().await?;
    world.take_relay().context("relay")?.stop().await;
    world.update(&key, "company_name = 'Acme 2'").await?;
    Ok(Scene { key, id })
}
