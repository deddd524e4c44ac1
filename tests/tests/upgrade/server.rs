//! `pg_upgrade` to another major version of PostgreSQL with the extension in use.
//!
//! The upgraded cluster has a system identifier of its own, so it is a copy like any other: the old one still exists, and may
//! be started again. It is disarmed until somebody arms it.

use super::released::{fill, kept, text};
use super::snapshot::{difference, take};
use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::cluster::{Cluster, Options, Server, StopMode, connect};
use hubspot_sync_tests::world::World;
use serde_json::json;
use tokio_postgres::Client;

/// Every row of every table of the extension and of the public schema.
async fn contents(sql: &Client) -> Result<Vec<String>> {
    let tables = sql
        .query(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace IN ('hubspot'::regnamespace, 'public'::regnamespace) ORDER BY 1",
            &[],
        )
        .await?;
    let mut found = Vec::new();
    for table in tables.iter().map(|row| row.get::<_, String>(0)) {
        let rows = format!("SELECT t::text FROM {table} t ORDER BY t::text COLLATE \"C\"");
        let rows = sql.query(&rows, &[]).await.with_context(|| table.clone())?;
        found.extend(rows.iter().map(|row| format!("{table} {}", row.get::<_, String>(0))));
    }
    Ok(found)
}

/// Both servers' major versions.
async fn majors(old: &Cluster, new: &Cluster) -> Result<(i32, i32)> {
    let mut found = Vec::new();
    for cluster in [old, new] {
        let sql = connect(&cluster.superuser_url("postgres")).await?;
        let major = "SELECT (current_setting('server_version_num')::int / 10000)::text";
        found.push(text(&sql, major).await?.parse()?);
    }
    Ok((found[0], found[1]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two versions of PostgreSQL: make test-pg-upgrade"]
async fn pg_upgrade_carries_everything_and_delivery_goes_on_once_armed() -> Result<()> {
    let old = Cluster::start_with(&Options {
        server: Some(Server::older()?),
        ..Options::default()
    })?;
    let mut new = Cluster::start()?;
    let (from, to) = majors(&old, &new).await?;
    ensure!(from < to, "PostgreSQL {from} is not older than {to}");
    if to >= 18 {
        // pg_upgrade wants checksums in both or in none, and from 18 on they are initdb's default.
        new = Cluster::start_with(&Options {
            initdb: vec!["--no-data-checksums".to_owned()],
            ..Options::default()
        })?;
    }
    println!("pg_upgrade from PostgreSQL {from} to {to}");

    // One database with rows in every table, and one in use: a delivered record, an edit that waits, a conflict, a refusal.
    let full_url = old.create_empty_database("full").await?;
    let full_name = full_url.rsplit('/').next().context("database")?.to_owned();
    let full = connect(&full_url).await?;
    full.batch_execute("CREATE EXTENSION hubspot_sync").await?;
    let counts = fill(&full).await?;
    let mut world = World::on(&old, "moved", |m| {
        m["legal_name"]["conflict_resolution"] = json!("MANUAL");
    })
    .await?;
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    world.start_relay("").await?;
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
    let before = [contents(&full).await?, contents(&world.sql).await?];

    old.stop_server(StopMode::Fast)?;
    new.stop_server(StopMode::Fast)?;
    new.upgrade_from(&old)?;
    new.start_server()?;

    let full = connect(&new.superuser_url(&full_name)).await?;
    world.url = new.superuser_url(&database);
    world.sql = connect(&world.url).await?;
    for (sql, before) in [&full, &world.sql].into_iter().zip(&before) {
        let changed = difference(before, &contents(sql).await?);
        assert!(changed.is_empty(), "{changed:#?}");
    }
    kept(&full, &counts).await?;
    let fresh = take(&connect(&new.create_database("fresh").await?).await?).await?;
    let changed = difference(&fresh, &take(&world.sql).await?);
    assert!(changed.is_empty(), "{changed:#?}");
    // What is remembered of functions is no number that the upgrade changed.
    let registered = "SELECT string_agg(p.oid::regprocedure::text, ' ') FROM hubspot.transform t JOIN pg_proc p ON p.oid = to_regprocedure(t.to_warp)";
    assert_eq!(text(&full, registered).await?, "up(text)");

    // Triggers work at once; nothing is sent before somebody says that this one may.
    let reason = world
        .text("SELECT reason FROM hubspot.status()")
        .await?
        .unwrap_or_default();
    assert!(reason.contains("copy") && reason.contains("hubspot.arm"), "{reason}");
    world.update(&key, "company_name = 'Acme 3'").await?;
    world.start_relay("").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.relay_status WHERE last_seen_at > now() - interval '5 seconds')")
        .await?;
    assert_eq!(world.count("FROM hubspot.outbox WHERE state = 'captured'").await?, 2);
    assert_eq!(world.versions(&id, "name"), ["Acme"], "it has written without leave");
    let portal = world.sim.portal_id();
    world.text(&format!("SELECT hubspot.arm({portal})")).await?;
    world.until_hubspot(&id, "name", Some("Acme 3")).await?;
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)")
        .await?;
    world.settle().await?;
    assert_eq!(world.versions(&id, "name"), ["Acme", "Acme 3"]);
    assert_eq!(world.count("FROM hubspot.failed_syncs WHERE status = 'open'").await?, 1);
    world
        .text("SELECT hubspot.resolve_conflict(id, 'HUBSPOT') FROM hubspot.conflicts WHERE status = 'open'")
        .await?
        .context("an open conflict")?;
    assert_eq!(world.row(&key, "legal_name").await?.as_deref(), Some("There"));
    let (_, other) = world.linked("BAN-2", "Beta").await?;
    world.person_sets(&other, "name", "Beta of HubSpot")?;
    world
        .until("EXISTS (SELECT 1 FROM customers WHERE company_name = 'Beta of HubSpot')")
        .await?;
    world.take_relay().context("relay")?.stop().await;
    Ok(())
}
