//! Temporary objects: PostgreSQL finds them before all others unless told otherwise, and no other session can read them.

use super::{attacker, is_plain, probes, refused, session};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;
use serde_json::json;
use tokio_postgres::error::SqlState;

/// Views under the names of all the extension's tables, and functions under those of PostgreSQL's that it calls, stand in the
/// temporary schema of a session of the superuser's: none of them is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_objects_are_not_found_before_ours() -> Result<()> {
    let mut world = World::without_relay("temporary", |_| ()).await?;
    attacker(&world.sql, "tessa").await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let dba = session(&world, "postgres").await?;
    dba.batch_execute(
        "DO $$
         DECLARE r record;
         BEGIN
           FOR r IN SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace IN ('hubspot'::regnamespace, 'public'::regnamespace) LOOP
             EXECUTE format('CREATE TEMP VIEW %I AS SELECT tessa.probe(%L)', r.relname, r.relname);
           END LOOP;
         END $$;
         CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM tessa.probe('clock'); RETURN pg_catalog.clock_timestamp(); END $$;
         CREATE FUNCTION pg_temp.same(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM tessa.probe('same'); RETURN pg_catalog.texteq($1, $2); END $$;
         CREATE OPERATOR pg_temp.= (FUNCTION = pg_temp.same, LEFTARG = text, RIGHTARG = text);
         SET search_path = pg_temp, pg_catalog",
    )
    .await
    .context("shadows")?;
    // They are there, and are found where nobody takes care.
    dba.batch_execute("SELECT * FROM object_mapping").await?;
    dba.batch_execute(&format!(
        "UPDATE public.customers SET company_name = 'Acme 2' WHERE id OPERATOR(pg_catalog.=) {key}"
    ))
    .await?;
    world.settle().await?;
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some("Acme 2"));
    for call in [
        "hubspot.export_mapping('customer')",
        "hubspot.disable('customer')",
        "hubspot.enable('customer')",
        "hubspot.retry_failed()",
        "hubspot.relay_maintain()",
        "hubspot.relay_receive('[]')",
        "hubspot.explain('customer', '1', 'company_name')",
        "hubspot.status()",
        "hubspot.pause()",
        "hubspot.resume()",
    ] {
        dba.batch_execute(&format!("SELECT {call}")).await.context(call)?;
    }
    dba.batch_execute("SELECT count(*) FROM hubspot.field_state; SELECT count(*) FROM hubspot.conflicts; SELECT count(*) FROM hubspot.mapping_problems")
        .await?;
    let seen: Vec<String> = probes("tessa")?.into_iter().collect();
    // Only the one call above that named a shadow.
    assert_eq!(seen, ["object_mapping postgres"]);
    Ok(())
}

/// A temporary table is no other session's: the relay could never read one, so it is not mapped. A temporary child of a mapped table
/// keeps neither other sessions from enabling the mapping nor other rows from being synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_tables_are_not_mapped_and_hold_nothing_up() -> Result<()> {
    let mut world = World::without_relay("temp_tables", |_| ()).await?;
    attacker(&world.sql, "timo").await?;
    world
        .sql
        .batch_execute("SELECT hubspot.grant_admin('timo'); ALTER TABLE customers OWNER TO timo")
        .await?;
    world.start_relay("").await?;
    let timo = session(&world, "timo").await?;
    let document = json!({"name": {"hubspot_property": "name", "warp_field": "name", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"}});
    timo.batch_execute("CREATE TEMP TABLE fleeting (id int PRIMARY KEY, name text)")
        .await?;
    let said = refused(
        &timo,
        &format!("SELECT hubspot.import_mapping('fleeting', 'fleeting', 'companies', '{document}')"),
        &SqlState::INVALID_PARAMETER_VALUE,
    )
    .await?;
    assert!(said.contains("temporary"), "{said}");
    timo.batch_execute(
        "CREATE TEMP TABLE child () INHERITS (public.customers);
         INSERT INTO child (id, ban, company_name, status) VALUES (900001, 'BAN-T', 'Ghost', 'ACTIVE')",
    )
    .await
    .context("child")?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    // Another session than the child's puts all triggers in order, and looks at all rows.
    world
        .sql
        .batch_execute("SELECT hubspot.disable('customer'); SELECT hubspot.enable('customer')")
        .await
        .context("enable beside a temporary child")?;
    world.person_sets(&id, "name", "Acme 2")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.count("FROM hubspot.failed_syncs WHERE status = 'open'").await?, 0);
    is_plain(&world.sql, "timo").await
}
