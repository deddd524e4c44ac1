//! A run whose relay dies.

use crate::{findings, of_run, over};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;
use std::time::Duration;

/// More records than two pages hold; the relay dies with the second page in its hands. Another goes on with that page: every
/// record is compared once, every difference found once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_where_a_killed_relay_left_it() -> Result<()> {
    let mut world = World::start("resume").await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status)
             SELECT 'BAN-' || n, 'Company ' || n, 'ACTIVE' FROM generate_series(1, 900) n",
        )
        .await?;
    world.settle().await?;
    world.sim.set_webhook_url(None);
    for key in ["1", "399", "401", "700", "900"] {
        let id = world.hubspot_id(key).await?.context("not linked")?;
        world.person_sets(&id, "name", "Renamed there")?;
    }
    let run: i64 = world
        .sql
        .query_one("SELECT hubspot.reconcile('customer', true)", &[])
        .await?
        .get(0);
    world
        .until(&format!(
            "(SELECT records >= 400 FROM hubspot.reconciliation_runs WHERE id = {run})"
        ))
        .await?;
    let gate = world.sim.gate_before(Op::BatchRead);
    tokio::time::timeout(Duration::from_secs(30), gate.reached())
        .await
        .context("the second page was not read")?;
    world.take_relay().context("no relay")?.crash().await;
    let (records, calls) = (
        of_run(&world, run, "records").await?,
        of_run(&world, run, "api_calls").await?,
    );
    assert_eq!(of_run(&world, run, "status").await?, "running");
    gate.release();

    // Another relay may not go on before the lease is over.
    let second = world.run_relay("").await?;
    world
        .until("(SELECT count(*) FROM hubspot.relay_status WHERE last_seen_at > now() - interval '3 seconds') > 0")
        .await?;
    assert_eq!(of_run(&world, run, "records").await?, records);
    world
        .sql
        .batch_execute("UPDATE hubspot.reconciliation_runs SET lease_expires_at = now() WHERE finished_at IS NULL")
        .await?;
    over(&world, run).await?;
    assert_eq!(of_run(&world, run, "records").await?, "900");
    let found = findings(&world, run).await?;
    let keys: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "1 company_name",
            "399 company_name",
            "401 company_name",
            "700 company_name",
            "900 company_name"
        ]
    );
    assert!(of_run(&world, run, "api_calls").await?.parse::<i64>()? > calls.parse::<i64>()?);
    second.stop().await;
    Ok(())
}

/// A relay that is stopped gives its run back: the next one goes on at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_relay_gives_its_run_back() -> Result<()> {
    let mut world = World::start("give_back").await?;
    world.linked("BAN-1", "Acme").await?;
    let gate = world.sim.gate_before(Op::List);
    let run: i64 = world
        .sql
        .query_one("SELECT hubspot.reconcile('customer')", &[])
        .await?
        .get(0);
    tokio::time::timeout(Duration::from_secs(30), gate.reached())
        .await
        .context("nothing was listed")?;
    let relay = world.take_relay().context("no relay")?;
    let stopping = tokio::spawn(relay.stop());
    tokio::task::yield_now().await;
    gate.release();
    stopping.await?;
    assert_eq!(
        world
            .count("FROM hubspot.reconciliation_runs WHERE claimed_by IS NOT NULL")
            .await?,
        0
    );
    world.start_relay("").await?;
    over(&world, run).await?;
    Ok(())
}

/// Who may ask, and for what.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_compared_is_refused() -> Result<()> {
    let world = World::without_relay("refused_runs", |_| ()).await?;
    let refusal = async |sql: &str| -> Result<(String, String)> {
        let error = world.sql.batch_execute(sql).await.err().context("it was accepted")?;
        let error = error.as_db_error().context("not the database's")?.clone();
        Ok((
            error.code().code().to_owned(),
            error.hint().unwrap_or_default().to_owned(),
        ))
    };
    let (code, hint) = refusal("SELECT hubspot.reconcile('nobody')").await?;
    assert_eq!((code.as_str(), hint.contains("object_mapping")), ("42704", true));
    world.sql.batch_execute("SELECT hubspot.reconcile('customer')").await?;
    let (code, hint) = refusal("SELECT hubspot.reconcile('customer', true)").await?;
    assert_eq!((code.as_str(), hint.contains("cancel_reconciliation")), ("55000", true));
    world
        .sql
        .batch_execute("SELECT hubspot.cancel_reconciliation(1); SELECT hubspot.disable('customer')")
        .await?;
    let (code, _) = refusal("SELECT hubspot.cancel_reconciliation(1)").await?;
    assert_eq!(code, "42704");
    let (code, hint) = refusal("SELECT hubspot.reconcile('customer')").await?;
    assert_eq!((code.as_str(), hint.contains("hubspot.enable")), ("55000", true));
    let (code, _) = refusal("SELECT * FROM hubspot.reconciliation_report(99)").await?;
    assert_eq!(code, "42704");
    Ok(())
}
