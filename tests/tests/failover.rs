//! The primary is lost and its standby takes over: a relay that names both goes on by itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hubspot_relay::Config;
use hubspot_sync_tests::cluster::{Cluster, StopMode, connect};
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;

/// Waits until the standby holds all that the primary has committed.
async fn caught_up(world: &World, standby: &tokio_postgres::Client) -> Result<()> {
    let position = world
        .text("SELECT pg_current_wal_lsn()::text")
        .await?
        .context("position")?;
    let seen = async {
        loop {
            let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
            if standby.query_one(&sql, &[]).await?.get(0) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen)
        .await
        .context("the standby does not catch up")?
}

/// A write is on its way and edits wait when the primary is killed. The standby has them; the relay finds it among its
/// hosts, learns what became of the write, and sends each edit once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_with_several_hosts_finds_the_new_primary_and_goes_on() -> Result<()> {
    let primary = Cluster::start()?;
    let mut world = World::on(&primary, "failover", |_| ()).await?;
    let portal = world.sim.portal_id();
    world
        .sql
        .batch_execute(&format!("SELECT hubspot.arm({portal}, failover => true)"))
        .await?;
    let standby = primary.base_backup()?;
    standby.follow(&primary)?;
    standby.start_server()?;
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    let hosts = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/{database}?target_session_attrs=read-write",
        standby.port(),
        primary.port()
    );
    // The standby comes first and must be passed by until it is promoted.
    let relay = World::run_config(Config::from_toml(&world.config_toml(&hosts, ""))?).await?;
    world.adopt_relay(relay);
    let (sent, sent_id) = world.linked("BAN-1", "Acme").await?;
    let (waits, waits_id) = world.linked("BAN-2", "Beta").await?;

    let gate = world.sim.gate(Op::BatchUpdate);
    world.update(&sent, "company_name = 'Acme 2'").await?;
    tokio::time::timeout(Duration::from_secs(30), gate.reached())
        .await
        .context("no write came")?;
    // Committed, and captured behind a lock that no claim gets past: it waits on both servers.
    let holder = connect(&world.url).await?;
    holder
        .batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1213418579, 12)")
        .await?;
    world.update(&waits, "company_name = 'Beta 2'").await?;
    let reader = connect(&standby.superuser_url(&database)).await?;
    caught_up(&world, &reader).await?;
    let outbox = "SELECT count(*) FROM hubspot.outbox";
    let there: i64 = reader.query_one(outbox, &[]).await?.get(0);
    assert!(there >= 2, "the standby's outbox has {there} edits");

    primary.stop_server(StopMode::Immediate)?;
    standby.promote()?;
    gate.release();
    world.url = standby.superuser_url(&database);
    world.reconnect().await?;
    world.until_hubspot(&waits_id, "name", Some("Beta 2")).await?;
    // The first write's lease is still held by this relay or has to be waited out.
    world.age_leases().await?;
    world.update(&sent, "company_name = 'Acme 3'").await?;
    world.until_hubspot(&sent_id, "name", Some("Acme 3")).await?;
    world.settle().await?;
    assert_eq!(world.versions(&sent_id, "name"), ["Acme", "Acme 2", "Acme 3"]);
    assert_eq!(world.versions(&waits_id, "name"), ["Beta", "Beta 2"]);
    assert_eq!(world.count("FROM hubspot.outbox").await?, 0);
    // And the other way: webhooks are stored where the relay is now.
    world.person_sets(&sent_id, "name", "Acme 4")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 4' FROM customers WHERE id = {sent})"
        ))
        .await?;
    world.take_relay().context("relay")?.stop().await;
    Ok(())
}
