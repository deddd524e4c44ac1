//! Recovery to a point before some deliveries: HubSpot holds what the database does not remember.

use super::{armed, move_to};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::{Cluster, Options, StopMode};
use hubspot_sync_tests::world::World;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_recovery_the_difference_is_found_and_settled_by_policy() -> Result<()> {
    // The copy reads its log from the primary's folder: nothing of it is removed meanwhile.
    let primary = Cluster::start_with(&Options {
        settings: "wal_keep_size = '512MB'\n".to_owned(),
        ..Options::default()
    })?;
    let mut world = World::on(&primary, "recovered", |m| {
        m["company_name"]["conflict_resolution"] = json!("LATEST_WINS");
        m["legal_name"]["conflict_resolution"] = json!("MANUAL");
    })
    .await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (other, other_id) = world.linked("BAN-2", "Beta").await?;
    let copy = primary.base_backup()?;
    // Waits at the restore point, and is delivered later: the copy will want to send it once more.
    world.take_relay().context("relay")?.stop().await;
    world.update(&other, "company_name = 'Beta 2'").await?;
    world
        .sql
        .batch_execute("SELECT pg_create_restore_point('before_deliveries')")
        .await?;
    world.start_relay("").await?;
    world.until_hubspot(&other_id, "name", Some("Beta 2")).await?;
    // A person's edit that the copy will never have heard of, and one on each side of a field that a person decides.
    world.person_sets(&id, "name", "Acme of HubSpot")?;
    world.person_sets(&id, "warp_legal_name", "Legal of HubSpot")?;
    world
        .until(&format!("(SELECT (company_name, legal_name) = ('Acme of HubSpot', 'Legal of HubSpot') FROM customers WHERE id = {key})"))
        .await?;
    world.linked("BAN-3", "Gamma").await?;
    world.settle().await?;
    world.take_relay().context("relay")?.stop().await;
    world.sim.set_webhook_url(None);
    world.sql.batch_execute("SELECT pg_switch_wal()").await?;
    primary.stop_server(StopMode::Fast)?;

    copy.recover_to(
        &primary.data_dir().join("pg_wal"),
        "recovery_target_name = 'before_deliveries'",
    )?;
    copy.start_server()?;
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    move_to(&mut world, &copy.superuser_url(&database)).await?;
    world.until("NOT pg_is_in_recovery()").await?;
    assert!(!armed(&world).await?, "a recovered database must not write");
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Acme"));
    assert_eq!(world.count("FROM customers").await?, 2);

    let portal = world.sim.portal_id();
    let said = world
        .text(&format!("SELECT hubspot.arm({portal})"))
        .await?
        .unwrap_or_default();
    assert!(said.contains("compared"), "{said}");
    world.start_relay("").await?;
    world.until("EXISTS (SELECT 1 FROM hubspot.reconciliation_runs) AND NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)").await?;
    world.settle().await?;
    // Not sent again: HubSpot was asked first.
    assert_eq!(world.versions(&other_id, "name"), ["Beta", "Beta 2"]);
    assert_eq!(world.row(&other, "company_name").await?.as_deref(), Some("Beta 2"));
    // The person's edits are found and taken in.
    assert_eq!(
        world.row(&key, "company_name").await?.as_deref(),
        Some("Acme of HubSpot")
    );
    assert_eq!(
        world.row(&key, "legal_name").await?.as_deref(),
        Some("Legal of HubSpot")
    );
    // A record that no row stands for is reported, not deleted.
    assert_eq!(
        world
            .count("FROM hubspot.reconciliation_discrepancies WHERE kind = 'missing_here'")
            .await?,
        1
    );
    world.take_relay().context("relay")?.stop().await;
    Ok(())
}

/// From an archive, to a moment at which a row was there and its record was not: the record is found, not made twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_made_after_the_moment_is_found_again() -> Result<()> {
    let primary = Cluster::start_with(&Options {
        settings: "archive_mode = on\narchive_command = 'mkdir -p archive && cp %p archive/%f'\n".to_owned(),
        ..Options::default()
    })?;
    let mut world = World::on(&primary, "moment", |m| {
        m["company_name"]["conflict_resolution"] = json!("LATEST_WINS");
    })
    .await?;
    world.start_relay("").await?;
    world.linked("BAN-1", "Acme").await?;
    world.settle().await?;
    world.take_relay().context("relay")?.stop().await;
    let copy = primary.base_backup()?;
    let key = world.insert("BAN-2", "Beta").await?;
    let moment = world
        .text("SELECT clock_timestamp()::text")
        .await?
        .context("the time")?;
    world.later().await?;
    world.start_relay("").await?;
    world.settle().await?;
    let id = world.hubspot_id(&key).await?.context("no record")?;
    world.update(&key, "company_name = 'Beta 2'").await?;
    world.until_hubspot(&id, "name", Some("Beta 2")).await?;
    world.settle().await?;
    world.take_relay().context("relay")?.stop().await;
    world.sim.set_webhook_url(None);
    world.sql.batch_execute("SELECT pg_switch_wal()").await?;
    // What is left is archived on the way down.
    primary.stop_server(StopMode::Fast)?;

    copy.recover_to(
        &primary.data_dir().join("archive"),
        &format!("recovery_target_time = '{moment}'"),
    )?;
    copy.start_server()?;
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    move_to(&mut world, &copy.superuser_url(&database)).await?;
    world.until("NOT pg_is_in_recovery()").await?;
    assert!(!armed(&world).await?, "a recovered database must not write");
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Beta"));
    assert_eq!(world.hubspot_id(&key).await?, None);
    let portal = world.sim.portal_id();
    world.text(&format!("SELECT hubspot.arm({portal})")).await?;
    world.start_relay("").await?;
    world.until("EXISTS (SELECT 1 FROM hubspot.reconciliation_runs) AND NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)").await?;
    world.settle().await?;
    assert_eq!(world.hubspot_id(&key).await?.as_deref(), Some(id.as_str()));
    assert_eq!(world.versions(&id, "name"), ["Beta", "Beta 2"]);
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Beta 2"));
    world.take_relay().context("relay")?.stop().await;
    Ok(())
}
