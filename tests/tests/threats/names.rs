//! Names and values that try to become SQL.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;
use serde_json::json;

/// What every name and value below contains.
const EVIL: &str = r#"x'; DROP TABLE canary; --"$$%I\"#;

/// Schema, table, columns, key, path keys, field name, role and application, all hostile, through every function.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_and_values_stay_names_and_values() -> Result<()> {
    let mut world = World::without_relay("names", |_| ()).await?;
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let literal = |text: &str| format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let (evil, value) = (quote(EVIL), literal(EVIL));
    world
        .sql
        .batch_execute(&format!(
            "SELECT hubspot.disable('customer'); CREATE TABLE canary (); CREATE ROLE {evil} LOGIN SUPERUSER; CREATE SCHEMA {evil};
             CREATE TABLE {evil}.{evil} (id text PRIMARY KEY, ban text UNIQUE, {evil} text, doc jsonb);
             CREATE TYPE {evil}.kind AS ENUM ('a'); ALTER TABLE {evil}.{evil} ADD COLUMN kind {evil}.kind"
        ))
        .await?;
    let path = format!("doc->'{0}'->>'{0}'", EVIL.replace('\'', "''"));
    let document = json!({
        "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
        EVIL.replace('.', ""): {"hubspot_property": "name", "warp_field": EVIL, "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "MANUAL", "description": EVIL},
        "deep": {"hubspot_property": "phone", "warp_field": "doc", "warp_field_path": path, "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS"},
    });
    world
        .sql
        .query_one(
            &format!(
                "SELECT hubspot.import_mapping('evil', {}::regclass, 'companies', $1)",
                literal(&format!("{evil}.{evil}"))
            ),
            &[&document],
        )
        .await
        .context("import")?;
    world.start_relay("").await?;
    world
        .sql
        .batch_execute(&format!(
            "SET application_name = {value}; SET hubspot.actor = {value};
             INSERT INTO {evil}.{evil} (id, ban, {evil}) VALUES ({value}, 'BAN-9', {value})"
        ))
        .await?;
    world.settle().await?;
    let found = world.sim.find("companies", "warp_ban", "BAN-9");
    let id = found.first().context("created")?.id.clone();
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some(EVIL));
    world.person_sets(&id, "phone", EVIL)?;
    world
        .until(&format!("(SELECT doc->{value}->>{value} = {value} FROM {evil}.{evil})"))
        .await?;
    world.sim.hold_webhooks();
    world.person_sets(&id, "name", &format!("{EVIL} there"))?;
    world
        .sql
        .batch_execute(&format!("UPDATE {evil}.{evil} SET {evil} = {evil} || ' here'"))
        .await?;
    world.sim.release_webhooks();
    world
        .until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")
        .await?;
    world
        .sql
        .batch_execute(&format!(
            "SELECT hubspot.resolve_conflict(id, 'VALUE', {value}) FROM hubspot.conflicts WHERE status = 'open';
             SELECT hubspot.export_mapping('evil'); SELECT hubspot.explain('evil', {value}, {value});
             SELECT hubspot.disable('evil'); SELECT hubspot.enable('evil'); SELECT hubspot.relay_maintain()"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some(EVIL));
    // The roles' functions take names as well.
    for function in ["grant_relay", "grant_viewer", "grant_admin"] {
        world
            .sql
            .batch_execute(&format!("SELECT hubspot.{function}({value})"))
            .await?;
    }
    world
        .sql
        .batch_execute("SELECT * FROM canary")
        .await
        .context("the canary is alive")?;
    world
        .sql
        .batch_execute(&format!(
            "RESET application_name; DROP OWNED BY {evil}; DROP ROLE {evil}"
        ))
        .await?;
    Ok(())
}
