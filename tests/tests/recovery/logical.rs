//! Logical replication of mapped tables: the publisher and the subscriber each with a mapping.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::{Cluster, Options, connect};
use hubspot_sync_tests::world::{CUSTOMERS, World};
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

fn logical_cluster() -> Result<Cluster> {
    Cluster::start_with(&Options {
        settings: "wal_level = logical\nmax_wal_senders = 4\nmax_replication_slots = 4\n".to_owned(),
        ..Options::default()
    })
}

/// Subscribes to a publication of a database of the same cluster. There the slot is made beforehand: the subscription would
/// wait for its own transaction.
async fn subscribe(cluster: &Cluster, publisher: &Client, subscriber: &Client, publication: &str) -> Result<()> {
    publisher
        .query_one(
            "SELECT pg_create_logical_replication_slot('sub', 'pgoutput')::text",
            &[],
        )
        .await?;
    let name: String = publisher
        .query_one("SELECT current_database()::text", &[])
        .await?
        .get(0);
    subscriber
        .batch_execute(&format!(
            "CREATE SUBSCRIPTION sub CONNECTION '{}' PUBLICATION {publication} WITH (create_slot = false, slot_name = 'sub')",
            cluster.superuser_url(&name)
        ))
        .await?;
    until(
        cluster,
        subscriber,
        "(SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel)",
    )
    .await
}

async fn unsubscribe(subscriber: &Client) -> Result<()> {
    subscriber
        .batch_execute("ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE)")
        .await?;
    Ok(subscriber.batch_execute("DROP SUBSCRIPTION sub").await?)
}

/// Waits for a condition; an apply worker that fails says why in the server's log.
async fn until(cluster: &Cluster, sql: &Client, condition: &str) -> Result<()> {
    for _ in 0..600 {
        let row = sql.query_one(&format!("SELECT {condition}"), &[]).await?;
        if row.get::<_, Option<bool>>(0) == Some(true) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("not reached: {condition}\n{}", cluster.log_tail())
}

/// The publisher has the mapping, and its tables are in two publications. One is of all tables, ours among them: rows without an
/// identity could then neither be changed nor deleted, and capture's own table has no key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_with_a_mapping() -> Result<()> {
    let cluster = logical_cluster()?;
    let mut world = World::on(&cluster, "publisher", |_| ()).await?;
    world
        .sql
        .batch_execute("CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION rows FOR TABLE customers")
        .await?;
    let nameless = world
        .text(
            "SELECT string_agg(c.oid::regclass::text, ' ' ORDER BY 1) FROM pg_class c
             WHERE c.relnamespace = 'hubspot'::regnamespace AND c.relkind = 'r' AND c.relreplident <> 'f'
               AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)",
        )
        .await?;
    let subscriber = connect(&cluster.create_empty_database("mirror").await?).await?;
    subscriber.batch_execute(CUSTOMERS).await?;
    subscribe(&cluster, &world.sql, &subscriber, "rows").await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.person_sets(&id, "name", "Acme of HubSpot")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme of HubSpot' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    // What people and what the relay wrote arrives.
    until(
        &cluster,
        &subscriber,
        &format!("(SELECT company_name = 'Acme of HubSpot' FROM customers WHERE id = {key})"),
    )
    .await?;
    assert_eq!(world.versions(&id, "name"), ["Acme", "Acme 2", "Acme of HubSpot"]);
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    // Past the capture limit the names of records are kept, in a table that has no key either.
    world.take_relay().context("relay")?.stop().await;
    world
        .sql
        .batch_execute(
            "UPDATE hubspot.binding SET capture_limit = 8192;
             INSERT INTO customers (ban, company_name) SELECT 'MORE-' || n, 'More ' || n FROM generate_series(1, 200) n",
        )
        .await?;
    // A new session looks at its first change.
    world.reconnect().await?;
    world.update(&key, "company_name = 'Acme 4'").await?;
    assert_eq!(world.count("FROM hubspot.capture_shed").await?, 1);
    world.start_relay("").await?;
    world.until_hubspot(&id, "name", Some("Acme 4")).await?;
    world.settle().await?;
    until(
        &cluster,
        &subscriber,
        &format!("(SELECT company_name = 'Acme 4' FROM customers WHERE id = {key})"),
    )
    .await?;
    world.take_relay().context("relay")?.stop().await;
    unsubscribe(&subscriber).await?;
    assert_eq!(nameless, None, "neither key nor full identity");
    Ok(())
}

/// Maps the world's customers once more, with these options.
async fn map_with(world: &World, options: Json) -> Result<()> {
    world
        .sql
        .query_one(
            "SELECT hubspot.import_mapping('customer', 'customers', 'companies', hubspot.export_mapping('customer'), $1)",
            &[&options],
        )
        .await
        .context("import_mapping")?;
    world.text("SELECT hubspot.enable('customer')").await?;
    Ok(())
}

/// The subscriber has the mapping. What the apply worker writes is found by `enable`; with `capture_replicated` it is captured as it
/// comes. What comes from HubSpot is written beside it and stops nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_with_a_mapping() -> Result<()> {
    let cluster = logical_cluster()?;
    let publisher = connect(&cluster.create_empty_database("source").await?).await?;
    publisher
        .batch_execute(&format!(
            "{CUSTOMERS}; INSERT INTO customers (ban, company_name) VALUES ('BAN-1', 'Acme'); CREATE PUBLICATION rows FOR TABLE customers"
        ))
        .await?;
    let mut world = World::on(&cluster, "subscriber", |_| ()).await?;
    world.start_relay("").await?;
    subscribe(&cluster, &publisher, &world.sql, "rows").await?;
    // The first rows are copied, the second one is applied.
    publisher
        .batch_execute("INSERT INTO customers (ban, company_name) VALUES ('BAN-2', 'Beta')")
        .await?;
    until(&cluster, &world.sql, "(SELECT count(*) = 2 FROM customers)").await?;
    assert_eq!(world.count("FROM hubspot.outbox").await?, 0, "not captured");
    assert_eq!(world.count("FROM hubspot.field_state").await?, 0);
    world.text("SELECT hubspot.enable('customer')").await?;
    world.settle().await?;
    let first = world.hubspot_id("1").await?.context("the copied row has no record")?;
    let second = world.hubspot_id("2").await?.context("the applied row has no record")?;
    assert_eq!(world.hubspot(&second, "name").as_deref(), Some("Beta"));

    map_with(&world, json!({"capture_replicated": true})).await?;
    publisher
        .batch_execute("UPDATE customers SET company_name = 'Acme 2' WHERE id = 1")
        .await?;
    world.until_hubspot(&first, "name", Some("Acme 2")).await?;
    world.settle().await?;
    // An edit in HubSpot, and then one at the publisher to another column and to the same.
    world.person_sets(&first, "name", "Acme of HubSpot")?;
    world
        .until("(SELECT company_name = 'Acme of HubSpot' FROM customers WHERE id = 1)")
        .await?;
    world.settle().await?;
    world.later().await?;
    publisher
        .batch_execute("UPDATE customers SET company_name = 'Acme 3' WHERE id = 1; DELETE FROM customers WHERE id = 2")
        .await?;
    world.until_hubspot(&first, "name", Some("Acme 3")).await?;
    until(&cluster, &world.sql, "(SELECT count(*) = 1 FROM customers)").await?;
    world.settle().await?;
    assert_eq!(
        world.versions(&first, "name"),
        ["Acme", "Acme 2", "Acme of HubSpot", "Acme 3"]
    );
    assert_eq!(world.versions(&second, "name"), ["Beta"]);
    world.take_relay().context("relay")?.stop().await;
    unsubscribe(&world.sql).await
}
