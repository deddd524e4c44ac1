//! Whole records: deletion on either side, against edits of the other; restore, merge, changed keys.

mod archive;
mod hubspot_deletes;
mod keys;
mod merge;
mod privacy;

use std::time::Duration;

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::Gate;
use hubspot_sync_tests::world::World;
use serde_json::{Value as Json, json};

/// The strategy's world with these options, `name` settled by `strategy`, and a relay.
async fn world(name: &str, strategy: &str, options: Json) -> Result<World> {
    let mut world = World::without_relay(name, |m| m["company_name"]["conflict_resolution"] = json!(strategy)).await?;
    world
        .sql
        .query_one(
            "SELECT hubspot.import_mapping('customer', 'customers', 'companies', hubspot.export_mapping('customer'), $1)",
            &[&options],
        )
        .await
        .context("import_mapping with options")?;
    world.start_relay("").await?;
    Ok(world)
}

async fn reached(gate: &Gate) -> Result<()> {
    tokio::time::timeout(Duration::from_secs(30), gate.reached())
        .await
        .context("no request came to the gate")
}

/// Deletes a customer's row.
async fn delete(world: &World, key: &str) -> Result<()> {
    let sql = format!("DELETE FROM customers WHERE id = {key}");
    anyhow::ensure!(
        world.sql.execute(&sql, &[]).await? == 1,
        "customer {key} does not exist"
    );
    Ok(())
}

/// A column of a record's link.
async fn link(world: &World, key: &str, column: &str) -> Result<Option<String>> {
    world
        .text(&format!(
            "SELECT {column}::text FROM hubspot.link WHERE entity_key = '{key}'"
        ))
        .await
}

fn is_archived(world: &World, id: &str) -> bool {
    world.sim.get("companies", id).is_none_or(|record| record.archived)
}

async fn until_archived(world: &World, key: &str, id: &str) -> Result<()> {
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.link WHERE entity_key = '{key}' AND lifecycle = 'archived')"
        ))
        .await?;
    assert!(
        is_archived(world, id),
        "{id} is not archived\n{}",
        world.picture().await?
    );
    Ok(())
}

/// Nobody carries anything while the two sides are edited: what one side does is not known on the other.
async fn apart(world: &mut World) -> Result<()> {
    world.settle().await?;
    world.take_relay().context("the relay")?.stop().await;
    world.sim.hold_webhooks();
    // As if measured by a quick answer: edits a moment apart are no tie.
    world
        .sql
        .execute(
            "UPDATE hubspot.binding SET clock_offset_us = 0, clock_uncertainty_us = 1000, clock_measured_at = clock_timestamp()",
            &[],
        )
        .await?;
    Ok(())
}

/// They meet again.
async fn together(world: &mut World) -> Result<()> {
    world.start_relay("").await?;
    world.sim.release_webhooks();
    Ok(())
}

/// The facts of the one conflict there is.
async fn conflict(world: &World) -> Result<Json> {
    let rows = world
        .sql
        .query(
            "SELECT jsonb_build_object('field', field, 'kind', kind, 'warp_value', warp_value, 'hubspot_value', hubspot_value,
               'status', status, 'winner', winner) FROM hubspot.conflicts",
            &[],
        )
        .await?;
    anyhow::ensure!(rows.len() == 1, "{} conflicts\n{}", rows.len(), world.picture().await?);
    Ok(rows[0].get(0))
}

/// A conflict about `company_name` between a deletion and an edit.
fn delete_update(warp: Option<&str>, hubspot: Option<&str>, winner: Option<&str>) -> Json {
    json!({"field": "company_name", "kind": "DELETE_UPDATE", "warp_value": warp, "hubspot_value": hubspot,
           "status": if winner.is_some() { "resolved" } else { "open" }, "winner": winner})
}

/// Every edit has an end.
async fn ledger_is_complete(world: &World) -> Result<()> {
    let open = world
        .count("FROM hubspot.ledger WHERE ending IN ('waiting', 'unaccounted')")
        .await?;
    assert_eq!(open, 0, "{}", world.picture().await?);
    Ok(())
}
