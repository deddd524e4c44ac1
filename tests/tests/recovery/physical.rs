//! Base backups, standbys and their promotion.

use super::{armed, move_to};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::{Cluster, StopMode, connect};
use hubspot_sync_tests::world::World;

/// A world on a cluster with a standby that has caught up.
async fn with_standby(primary: &Cluster, failover: bool) -> Result<(World, Cluster, String, String)> {
    let mut world = World::on(primary, "primary", |_| ()).await?;
    let portal = world.sim.portal_id();
    world
        .sql
        .batch_execute(&format!("SELECT hubspot.arm({portal}, failover => {failover})"))
        .await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let standby = primary.base_backup()?;
    standby.follow(primary)?;
    standby.start_server()?;
    // Everything after the backup comes by streaming.
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.settle().await?;
    world.take_relay().context("relay")?.stop().await;
    let position = world
        .text("SELECT pg_current_wal_lsn()::text")
        .await?
        .context("position")?;
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    let url = standby.superuser_url(&database);
    let reader = connect(&url).await?;
    loop {
        let there: bool = reader
            .query_one(&format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn"), &[])
            .await?
            .get(0);
        if there {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok((world, standby, key, id))
}

/// A standby answers questions, and a relay on it finds nothing to do. Promoted, it is disarmed until somebody arms it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_read_and_a_promoted_one_is_disarmed() -> Result<()> {
    let primary = Cluster::start()?;
    let (mut world, standby, key, id) = with_standby(&primary, false).await?;
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    move_to(&mut world, &standby.superuser_url(&database)).await?;
    assert_eq!(
        world.state(&key, "company_name", "warp_value").await?.as_deref(),
        Some("Acme 2")
    );
    for question in [
        "SELECT count(*)::text FROM hubspot.status()",
        "SELECT count(*)::text FROM hubspot.outbox",
        "SELECT count(*)::text FROM hubspot.ledger",
        "SELECT count(*)::text FROM hubspot.metrics",
        "SELECT count(*)::text FROM hubspot.mapping_problems",
        "SELECT hubspot.export_mapping('customer')::text",
    ] {
        world.text(question).await?.context(question)?;
    }
    let explained = world
        .text(&format!(
            "SELECT count(*)::text FROM hubspot.explain('customer', '{key}', 'company_name')"
        ))
        .await?;
    assert_ne!(explained.as_deref(), Some("0"));
    primary.stop_server(StopMode::Fast)?;
    standby.promote()?;
    move_to(&mut world, &standby.superuser_url(&database)).await?;
    assert!(!armed(&world).await?, "a promoted copy must not write");
    let reason = world
        .text("SELECT reason FROM hubspot.status()")
        .await?
        .unwrap_or_default();
    assert!(
        reason.contains("promoted") && reason.contains("hubspot.arm"),
        "{reason}"
    );
    world.update(&key, "company_name = 'Acme 3'").await?;
    world.start_relay("").await?;
    let portal = world.sim.portal_id();
    world.text(&format!("SELECT hubspot.arm({portal})")).await?;
    world.settle().await?;
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)")
        .await?;
    assert_eq!(
        world.versions(&id, "name"),
        ["Acme", "Acme 2", "Acme 3"],
        "nothing is sent twice"
    );
    world.take_relay().context("relay")?.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_that_was_armed_for_failover_goes_on() -> Result<()> {
    let primary = Cluster::start()?;
    let (mut world, standby, key, id) = with_standby(&primary, true).await?;
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    primary.stop_server(StopMode::Immediate)?;
    standby.promote()?;
    move_to(&mut world, &standby.superuser_url(&database)).await?;
    assert!(armed(&world).await?);
    world.start_relay("").await?;
    world.update(&key, "company_name = 'Acme 3'").await?;
    world.until_hubspot(&id, "name", Some("Acme 3")).await?;
    world.settle().await?;
    assert_eq!(world.versions(&id, "name"), ["Acme", "Acme 2", "Acme 3"]);
    world.take_relay().context("relay")?.stop().await;
    Ok(())
}

/// A base backup that is started as it is, the usual way to a staging server, has the original's identifier, name and
/// timeline. Its files give it away; a restart of either server does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_backup_that_is_just_started_is_disarmed() -> Result<()> {
    const SAME: &str =
        "SELECT system_identifier || ' ' || current_database() || ' ' || hubspot.timeline() FROM pg_control_system()";
    let primary = Cluster::start()?;
    let mut world = World::on(&primary, "staging", |_| ()).await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.settle().await?;
    world.take_relay().context("relay")?.stop().await;
    let copy = primary.base_backup()?;
    let original = world.text(SAME).await?;
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    primary.restart(StopMode::Fast)?;
    move_to(&mut world, &primary.superuser_url(&database)).await?;
    assert!(armed(&world).await?, "the original goes on");

    copy.start_server()?;
    move_to(&mut world, &copy.superuser_url(&database)).await?;
    assert_eq!(world.text(SAME).await?, original);
    assert!(!armed(&world).await?, "a copy must not write");
    let reason = world
        .text("SELECT reason FROM hubspot.status()")
        .await?
        .unwrap_or_default();
    assert!(reason.contains("files") && reason.contains("hubspot.arm"), "{reason}");
    world.update(&key, "company_name = 'Staging'").await?;
    let started = world
        .text("SELECT clock_timestamp()::text")
        .await?
        .context("the time")?;
    world.start_relay("").await?;
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.relay_status WHERE last_seen_at > '{started}')"
        ))
        .await?;
    assert_eq!(world.count("FROM hubspot.outbox WHERE state = 'captured'").await?, 1);
    assert_eq!(world.versions(&id, "name"), ["Acme"], "a copy has written");

    let portal = world.sim.portal_id();
    let said = world
        .text(&format!("SELECT hubspot.arm({portal})"))
        .await?
        .unwrap_or_default();
    assert!(said.contains("compared"), "{said}");
    world.until_hubspot(&id, "name", Some("Staging")).await?;
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)")
        .await?;
    world.settle().await?;
    assert_eq!(
        world.versions(&id, "name"),
        ["Acme", "Staging"],
        "nothing is sent twice"
    );
    world.take_relay().context("relay")?.stop().await;
    copy.restart(StopMode::Fast)?;
    move_to(&mut world, &copy.superuser_url(&database)).await?;
    assert!(armed(&world).await?, "an armed copy goes on");
    Ok(())
}
