//! Reconciliation: both sides compared, what differs named, and set right unless only a report was asked for.

mod backfill;
mod changes;
mod export;
mod full;
mod report;
mod resume;

use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;
use std::collections::BTreeMap;

/// Asks for a full run and waits for its end; gives its id.
async fn reconcile(world: &World, dry_run: bool) -> Result<i64> {
    let row = world
        .sql
        .query_one("SELECT hubspot.reconcile('customer', $1)", &[&dry_run])
        .await
        .context("hubspot.reconcile")?;
    let run = row.get(0);
    over(world, run).await?;
    Ok(run)
}

/// Waits until a run is finished.
async fn over(world: &World, run: i64) -> Result<()> {
    world
        .until(&format!(
            "(SELECT finished_at IS NOT NULL FROM hubspot.reconciliation_runs WHERE id = {run})"
        ))
        .await?;
    let how = format!("SELECT concat_ws(': ', status, message) FROM hubspot.reconciliation_runs WHERE id = {run}");
    assert_eq!(world.text(&how).await?.as_deref(), Some("finished"));
    Ok(())
}

/// What a run found: `key-or-id field` to `kind action warp -> hubspot`.
async fn findings(world: &World, run: i64) -> Result<BTreeMap<String, String>> {
    let rows = world
        .sql
        .query(
            "SELECT concat_ws(' ', coalesce(entity_key, hubspot_id), field),
               concat(kind, ' ', action, ' ', coalesce(warp_value, '-'), ' ', coalesce(hubspot_value, '-'))
             FROM hubspot.reconciliation_discrepancies WHERE run_id = $1",
            &[&run],
        )
        .await?;
    let all: Vec<(String, String)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    let found: BTreeMap<String, String> = all.iter().cloned().collect();
    assert_eq!(found.len(), all.len(), "something was found twice: {all:?}");
    Ok(found)
}

/// A column of a run, as text.
async fn of_run(world: &World, run: i64, column: &str) -> Result<String> {
    let sql = format!("SELECT ({column})::text FROM hubspot.reconciliation_runs WHERE id = {run}");
    world.text(&sql).await?.context("the run has no such figure")
}

/// Edits a row as a restore or a logical replica does: no trigger sees it.
async fn uncaptured(world: &World, key: &str, set: &str) -> Result<()> {
    world
        .sql
        .batch_execute(&format!(
            "SET session_replication_role = replica; UPDATE customers SET {set} WHERE id = {key}; RESET session_replication_role"
        ))
        .await
        .context("uncaptured")
}
