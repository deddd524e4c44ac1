//! `pg_dump | pg_restore` into another database.

use super::{armed, inventory, move_to, scene};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster;
use hubspot_sync_tests::world::World;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_carries_everything_and_is_disarmed_until_armed() -> Result<()> {
    let mut world = World::without_relay("dumped", |m| {
        m["legal_name"]["conflict_resolution"] = json!("MANUAL");
    })
    .await?;
    world.start_relay("").await?;
    let scene = scene(&mut world).await?;
    let before = inventory(&world).await?;
    let cluster = cluster::shared();
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    let file = cluster.scratch()?.join("dumped.pgdump");
    let file = file.to_str().context("path")?;
    cluster.client("pg_dump", &database, &["--format=custom", "--file", file])?;
    let url = cluster.create_empty_database("restored").await?;
    let restored = url.rsplit('/').next().context("database")?.to_owned();
    cluster.client("pg_restore", &restored, &["--exit-on-error", file])?;
    move_to(&mut world, &url).await?;

    assert_eq!(inventory(&world).await?, before);
    assert!(!armed(&world).await?);
    // The triggers came along, once; and what they capture goes on in order.
    let triggers = world
        .text("SELECT string_agg(tgname, ' ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'customers'::regclass AND NOT tgisinternal")
        .await?;
    assert_eq!(triggers.as_deref(), Some("!hubspot_capture_1 hubspot_truncate_1"));
    world.update(&scene.key, "company_name = 'Acme 3'").await?;
    let requests = world.sim.requests().len();
    world.start_relay("").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.relay_status WHERE last_seen_at > now() - interval '5 seconds')")
        .await?;
    assert_eq!(world.count("FROM hubspot.outbox WHERE state = 'captured'").await?, 2);
    assert_eq!(world.versions(&scene.id, "name"), ["Acme"], "a copy has written");
    let portal = world.sim.portal_id();
    let said = world
        .text(&format!("SELECT hubspot.arm({portal})"))
        .await?
        .unwrap_or_default();
    assert!(said.contains("1 entity types are compared"), "{said}");
    world.settle().await?;
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)")
        .await?;
    world.settle().await?;
    assert_eq!(
        world.versions(&scene.id, "name"),
        ["Acme", "Acme 3"],
        "each edit once, the last one wins"
    );
    assert!(world.sim.requests().len() > requests);
    // What waited for a person still does, and can be decided.
    assert_eq!(world.count("FROM hubspot.failed_syncs WHERE status = 'open'").await?, 1);
    world
        .text("SELECT hubspot.resolve_conflict(id, 'HUBSPOT') FROM hubspot.conflicts WHERE status = 'open'")
        .await?
        .context("an open conflict")?;
    assert_eq!(world.row(&scene.key, "legal_name").await?.as_deref(), Some("There"));
    // New rows get ids beyond the restored ones.
    world.linked("BAN-2", "Beta").await?;
    Ok(())
}

/// A dump of a table with dropped columns is restored with other column numbers: mappings go by name.
#[tokio::test]
async fn a_restored_table_has_other_column_numbers() -> Result<()> {
    let mut world = World::without_relay("numbers", |_| ()).await?;
    world.sql.batch_execute("ALTER TABLE customers ADD early text; ALTER TABLE customers DROP COLUMN prepaid_balance; ALTER TABLE customers RENAME notes TO remarks").await?;
    let cluster = cluster::shared();
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    let file = cluster.scratch()?.join("numbers.pgdump");
    let file = file.to_str().context("path")?;
    cluster.client("pg_dump", &database, &["--format=custom", "--file", file])?;
    let url = cluster.create_empty_database("numbers_restored").await?;
    let restored = url.rsplit('/').next().context("database")?.to_owned();
    cluster.client("pg_restore", &restored, &["--exit-on-error", file])?;
    let fields =
        "SELECT string_agg(field || ' ' || column_name || ' ' || active, ',' ORDER BY id) FROM hubspot.field_mapping";
    let before = world.text(fields).await?;
    move_to(&mut world, &url).await?;
    world.sql.batch_execute("ALTER TABLE customers ADD later text").await?;
    assert_eq!(world.text(fields).await?, before);
    world
        .sql
        .batch_execute("INSERT INTO customers (ban, company_name, legal_name) VALUES ('B', 'c', 'l')")
        .await?;
    assert_eq!(
        world
            .text("SELECT changes->'legal_name'->>1 FROM hubspot.capture")
            .await?
            .as_deref(),
        Some("l")
    );
    Ok(())
}

/// The ways a DBA restores a large database: section by section with parallel jobs, and the schema apart from the data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_is_restored_in_parts() -> Result<()> {
    let mut world = World::without_relay("parts", |m| {
        m["legal_name"]["conflict_resolution"] = json!("MANUAL");
    })
    .await?;
    world.start_relay("").await?;
    let scene = scene(&mut world).await?;
    let before = inventory(&world).await?;
    let rows = world
        .text("SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM customers c")
        .await?;
    let cluster = cluster::shared();
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    let file = cluster.scratch()?.join("parts.pgdump");
    let file = file.to_str().context("path")?;
    cluster.client("pg_dump", &database, &["--format=custom", "--file", file])?;
    let orders: [&[&[&str]]; 3] = [
        &[
            &["--section=pre-data"],
            &["--section=data", "--jobs=2"],
            &["--section=post-data"],
        ],
        &[&["--schema-only"], &["--data-only", "--disable-triggers"]],
        &[&["--jobs=3"]],
    ];
    for (n, order) in orders.iter().enumerate() {
        let url = cluster.create_empty_database(&format!("parts_{n}")).await?;
        let restored = url.rsplit('/').next().context("database")?.to_owned();
        for part in *order {
            let args: Vec<&str> = ["--exit-on-error"]
                .into_iter()
                .chain(part.iter().copied())
                .chain([file])
                .collect();
            cluster
                .client("pg_restore", &restored, &args)
                .with_context(|| format!("{part:?}"))?;
        }
        move_to(&mut world, &url).await?;
        assert_eq!(inventory(&world).await?, before, "{order:?}");
        assert_eq!(
            world
                .text("SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM customers c")
                .await?,
            rows
        );
        assert!(!armed(&world).await?, "{order:?}");
        let triggers = world
            .text("SELECT string_agg(tgname || ' ' || tgenabled::text, ' ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'customers'::regclass AND NOT tgisinternal")
            .await?;
        assert_eq!(
            triggers.as_deref(),
            Some("!hubspot_capture_1 O hubspot_truncate_1 O"),
            "{order:?}"
        );
        let waiting = world.count("FROM hubspot.outbox WHERE state = 'captured'").await?;
        world
            .update(&scene.key, &format!("company_name = 'Restored {n}'"))
            .await?;
        assert_eq!(
            world.count("FROM hubspot.outbox WHERE state = 'captured'").await?,
            waiting + 1
        );
    }
    Ok(())
}
