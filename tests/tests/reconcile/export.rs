//! First loads from an export of HubSpot's.

use crate::{of_run, over};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::{Gate, Op};
use hubspot_sync_tests::world::World;
use std::time::Duration;

const EXPORTS: &str = "[backfill]\nexport_from = 500\n";

/// Linked records, three of whose rows lack what HubSpot holds. No relay runs and no webhook comes.
async fn loaded(name: &str, records: i64) -> Result<(World, Vec<String>)> {
    let mut world = World::start(name).await?;
    world
        .sql
        .batch_execute(&format!(
            "INSERT INTO customers (ban, company_name, status)
             SELECT 'BAN-' || n, 'Company \"' || n || '\", Ltd', 'ACTIVE' FROM generate_series(1, {records}) n"
        ))
        .await?;
    world.settle().await?;
    world.take_relay().context("no relay")?.stop().await;
    world.sim.set_webhook_url(None);
    let keys = vec!["1".to_owned(), (records / 2).to_string(), records.to_string()];
    for key in &keys {
        let id = world.hubspot_id(key).await?.context("not linked")?;
        world.person_sets(&id, "warp_tier", "PREMIUM")?;
        world.person_sets(&id, "name", "Renamed, \"there\"")?;
    }
    Ok((world, keys))
}

async fn backfill(world: &World) -> Result<i64> {
    let sql = "SELECT hubspot.backfill('customer', 'HUBSPOT_TO_WARP')";
    Ok(world.sql.query_one(sql, &[]).await?.get(0))
}

/// Starts a relay and waits until it looks at the export it has asked for; the look is held up.
async fn asked(world: &mut World) -> Result<Gate> {
    let gate = world.sim.gate_before(Op::ExportStatus);
    world.start_relay(EXPORTS).await?;
    world.sim.set_webhook_url(None);
    tokio::time::timeout(Duration::from_secs(60), gate.reached())
        .await
        .context("no export was looked at")?;
    Ok(gate)
}

async fn brought_over(world: &World, run: i64, keys: &[String]) -> Result<()> {
    for key in keys {
        assert_eq!(world.row(key, "tier").await?.as_deref(), Some("PREMIUM"), "{key}");
        let name = world.row(key, "company_name").await?;
        assert_eq!(name.as_deref(), Some("Renamed, \"there\""), "{key}");
    }
    assert_eq!(of_run(world, run, "found->>'row_updated'").await?, "6");
    Ok(())
}

/// Some thousands of records, in a handful of calls: the export, a look at a sample, the history of what differs. What moved
/// since the export was asked for stays as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_load_reads_an_export() -> Result<()> {
    let (mut world, keys) = loaded("export", 2_000).await?;
    let run = backfill(&world).await?;
    let reads = world.sim.count(Op::BatchRead);
    let gate = asked(&mut world).await?;
    let phase = "SELECT phase FROM hubspot.reconciliation_progress WHERE kind = 'backfill'";
    assert_eq!(world.text(phase).await?.as_deref(), Some("export"));
    // A person is faster than the load.
    world.update("7", "company_name = 'Newer here'").await?;
    let id = world.hubspot_id("7").await?.context("not linked")?;
    world.until_hubspot(&id, "name", Some("Newer here")).await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.outbox)").await?;
    gate.release();
    over(&world, run).await?;
    assert_eq!(world.row("7", "company_name").await?.as_deref(), Some("Newer here"));
    brought_over(&world, run, &keys).await?;
    assert_eq!(of_run(&world, run, "records").await?, "2000");
    assert_eq!(world.sim.count(Op::ExportStart), 1);
    let calls: i64 = of_run(&world, run, "api_calls").await?.parse()?;
    assert!(calls <= 10, "{calls} calls");
    // The sample, the histories, and what the person's change needed.
    let reads = world.sim.count(Op::BatchRead) - reads;
    assert!(reads <= 8, "{reads} reads");
    Ok(())
}

/// The relay dies while HubSpot makes the export: the next one goes on with the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_relay_goes_on_with_the_export() -> Result<()> {
    let (mut world, keys) = loaded("export_killed", 600).await?;
    let run = backfill(&world).await?;
    let gate = asked(&mut world).await?;
    world.take_relay().context("no relay")?.crash().await;
    gate.release();
    world
        .sql
        .batch_execute("UPDATE hubspot.reconciliation_runs SET lease_expires_at = now() WHERE finished_at IS NULL")
        .await?;
    world.start_relay(EXPORTS).await?;
    world.sim.set_webhook_url(None);
    over(&world, run).await?;
    brought_over(&world, run, &keys).await?;
    assert_eq!(world.sim.count(Op::ExportStart), 1);
    Ok(())
}

/// Too few records, no such scope, or a file whose values are not the API's: batch calls, and the same outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_export_batch_calls_do() -> Result<()> {
    let (mut world, keys) = loaded("no_export", 600).await?;
    let scopes = [
        "crm.objects.companies.read",
        "crm.objects.companies.write",
        "crm.schemas.companies.read",
    ];
    world.sim.set_scopes(Some(&scopes));
    let run = backfill(&world).await?;
    let reads = world.sim.count(Op::BatchRead);
    world.start_relay(EXPORTS).await?;
    world.sim.set_webhook_url(None);
    over(&world, run).await?;
    brought_over(&world, run, &keys).await?;
    assert_eq!(world.sim.count(Op::ExportStart), 1);
    assert_eq!(world.sim.count(Op::ExportStatus), 0);
    assert!(world.sim.count(Op::BatchRead) - reads >= 6);
    world.take_relay().context("no relay")?.stop().await;

    world.sim.set_scopes(None);
    let few = backfill(&world).await?;
    world.start_relay("[backfill]\nexport_from = 601\n").await?;
    world.sim.set_webhook_url(None);
    over(&world, few).await?;
    assert_eq!(world.sim.count(Op::ExportStart), 1, "too few records were exported");
    Ok(())
}
