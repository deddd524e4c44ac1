//! Functions of ours that ask what their caller may do, called from places where "the caller" is easily mistaken; and
//! functions of other people's that the extension calls.

use super::{attacker, is_plain, probes, refused, session};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;
use serde_json::json;
use tokio_postgres::error::SqlState;

/// An admin's trigger fires while a superuser decides a conflict, or a superuser calls a SECURITY DEFINER function of the
/// admin's: the mapping functions still see the admin and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superusers_session_lends_an_admin_no_rights() -> Result<()> {
    let mut world = World::without_relay("deputy", |_| ()).await?;
    attacker(&world.sql, "edda").await?;
    world
        .sql
        .batch_execute(
            "SELECT hubspot.grant_admin('edda'); ALTER TABLE customers OWNER TO edda;
             CREATE TABLE secret (id int PRIMARY KEY, name text); INSERT INTO secret VALUES (1, 'hidden')",
        )
        .await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let document = json!({"name": {"hubspot_property": "name", "warp_field": "name", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"}});
    let edda = session(&world, "edda").await?;
    edda.batch_execute(&format!(
        "CREATE FUNCTION edda.steal() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
         DECLARE said text;
         BEGIN
           RETURN hubspot.import_mapping('stolen', 'public.secret', 'companies', '{document}');
         EXCEPTION WHEN OTHERS THEN
           GET STACKED DIAGNOSTICS said = RETURNED_SQLSTATE;
           RAISE LOG 'PROBE edda steal-% %', said, current_user;
           RETURN said;
         END $$;
         CREATE FUNCTION edda.bait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM edda.probe('deputy'); PERFORM edda.steal(); RETURN NEW; END $$;
         CREATE TRIGGER bait BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION edda.bait()"
    ))
    .await?;
    world.person_sets(&id, "name", "Acme 2")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' FROM customers WHERE id = {key})"
        ))
        .await?;
    assert_eq!(world.text("SELECT edda.steal()").await?.as_deref(), Some("42501"));
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.object_mapping WHERE entity_type = 'stolen')")
        .await?;
    let seen = probes("edda")?;
    assert!(
        seen.contains("deputy edda") && seen.contains("steal-42501 edda"),
        "{seen:?}"
    );
    assert_eq!(seen.len(), 2, "{seen:?}");
    is_plain(&world.sql, "edda").await
}

/// A transform or a policy is somebody's function: it runs as its owner, its settings end with it, and nobody else can put
/// another one in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transforms_and_policies_run_as_their_owners() -> Result<()> {
    let mut world = World::without_relay("transforms", |_| ()).await?;
    attacker(&world.sql, "fred").await?;
    attacker(&world.sql, "gina").await?;
    world
        .sql
        .batch_execute("SELECT hubspot.grant_admin('fred'); SELECT hubspot.grant_admin('gina'); ALTER TABLE customers OWNER TO fred")
        .await?;
    let (fred, gina) = (session(&world, "fred").await?, session(&world, "gina").await?);
    for (sql, role) in [(&fred, "fred"), (&gina, "gina")] {
        sql.batch_execute(&format!(
            "CREATE FUNCTION {role}.up(v text) RETURNS text LANGUAGE plpgsql AS $$
             BEGIN PERFORM {role}.probe('transform'); PERFORM set_config('search_path', '{role}, pg_catalog', false); RETURN upper(v); END $$;
             CREATE FUNCTION {role}.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM {role}.probe('shadow'); RETURN pg_catalog.clock_timestamp(); END $$;
             CREATE FUNCTION {role}.same(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM {role}.probe('shadow'); RETURN pg_catalog.int8eq($1, $2); END $$;
             CREATE OPERATOR {role}.= (FUNCTION = {role}.same, LEFTARG = bigint, RIGHTARG = bigint);
             CREATE FUNCTION {role}.judge(text, timestamptz, text, timestamptz, text, OUT winner text, OUT value text) LANGUAGE plpgsql AS $$
             BEGIN PERFORM {role}.probe('policy'); PERFORM set_config('search_path', '{role}, pg_catalog', false); winner := 'HUBSPOT'; END $$"
        ))
        .await?;
    }
    fred.batch_execute("SELECT hubspot.register_transform('loud', 'fred.up(text)', 'fred.up(text)')")
        .await?;
    for statement in [
        // Somebody else's function, and PostgreSQL's own, which belongs to the superuser.
        "SELECT hubspot.register_transform('mine', 'fred.up(text)', 'fred.up(text)')",
        "SELECT hubspot.register_transform('mine', 'pg_catalog.quote_ident(text)', 'pg_catalog.quote_ident(text)')",
        // Another in the place of fred's would be given the values of fred's fields.
        "SELECT hubspot.register_transform('loud', 'gina.up(text)', 'gina.up(text)')",
    ] {
        refused(&gina, statement, &SqlState::INSUFFICIENT_PRIVILEGE).await?;
    }
    let policies = |function: &str| {
        let mut document: serde_json::Value = serde_json::from_str(hubspot_sync_tests::world::STRATEGY_MAPPING)?;
        document["company_name"]["conflict_resolution"] = json!("MANUAL");
        document["legal_name"]["transform"] = json!("loud");
        let options = json!({"policies": {"company_name": function}});
        anyhow::Ok(format!(
            "SELECT hubspot.import_mapping('customer', 'public.customers', 'companies', '{}', '{options}')",
            document.to_string().replace('\'', "''")
        ))
    };
    let said = refused(&fred, &policies("gina.judge")?, &SqlState::INVALID_PARAMETER_VALUE).await?;
    assert!(said.contains("policy"), "{said}");
    fred.batch_execute(&policies("fred.judge")?).await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.person_sets(&id, "warp_legal_name", "quiet")?;
    world
        .until(&format!(
            "(SELECT legal_name = 'QUIET' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    world.sim.hold_webhooks();
    world.person_sets(&id, "name", "There")?;
    world.update(&key, "company_name = 'Here'").await?;
    world.sim.release_webhooks();
    world
        .until(&format!(
            "(SELECT company_name = 'There' FROM customers WHERE id = {key})"
        ))
        .await
        .context("the policy decides")?;
    let seen = probes("fred")?;
    assert!(
        seen.contains("transform fred") && seen.contains("policy fred"),
        "{seen:?}"
    );
    assert_eq!(seen.len(), 2, "shadowed functions ran: {seen:?}");
    assert!(probes("gina")?.is_empty());
    is_plain(&world.sql, "fred").await
}

/// A transform and a policy are remembered by name, which whoever may create functions in that schema can take once the function
/// is dropped: another owner's function is given no values.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_function_of_the_name_is_not_called() -> Result<()> {
    let mut world = World::without_relay("namesakes", |_| ()).await?;
    attacker(&world.sql, "hana").await?;
    attacker(&world.sql, "ivan").await?;
    world
        .sql
        .batch_execute(
            "CREATE SCHEMA commons; GRANT CREATE, USAGE ON SCHEMA commons TO hana, ivan;
             SELECT hubspot.grant_admin('hana'); ALTER TABLE customers OWNER TO hana",
        )
        .await?;
    let (hana, ivan) = (session(&world, "hana").await?, session(&world, "ivan").await?);
    let functions = |role: &str| {
        format!(
            "CREATE FUNCTION commons.up(v text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM {role}.probe('transform'); RETURN upper(v); END $$;
             CREATE FUNCTION commons.judge(text, timestamptz, text, timestamptz, text, OUT winner text, OUT value text) LANGUAGE plpgsql AS $$
             BEGIN PERFORM {role}.probe('policy'); winner := 'HUBSPOT'; END $$"
        )
    };
    let register = "SELECT hubspot.register_transform('shout', 'commons.up(text)', 'commons.up(text)')";
    hana.batch_execute(&functions("hana")).await?;
    hana.batch_execute(register).await?;
    let mut document: serde_json::Value = serde_json::from_str(hubspot_sync_tests::world::STRATEGY_MAPPING)?;
    document["company_name"]["conflict_resolution"] = json!("MANUAL");
    document["legal_name"]["transform"] = json!("shout");
    hana.batch_execute(&format!(
        "SELECT hubspot.import_mapping('customer', 'public.customers', 'companies', '{}', '{}')",
        document.to_string().replace('\'', "''"),
        json!({"policies": {"company_name": "commons.judge"}})
    ))
    .await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    hana.batch_execute("DROP FUNCTION commons.up, commons.judge").await?;
    ivan.batch_execute(&functions("ivan")).await?;
    world.update(&key, "legal_name = 'quiet'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE field = 'legal_name' AND status = 'open')")
        .await?;
    world.settle().await?;
    world.sim.hold_webhooks();
    world.person_sets(&id, "name", "There")?;
    world.update(&key, "company_name = 'Here'").await?;
    world.sim.release_webhooks();
    world
        .until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE field = 'company_name' AND status = 'open')")
        .await?;
    assert!(probes("ivan")?.is_empty(), "{:?}", probes("ivan")?);
    // Its owner mends it, with a function of its own again.
    refused(&hana, register, &SqlState::INSUFFICIENT_PRIVILEGE).await?;
    ivan.batch_execute("DROP FUNCTION commons.up, commons.judge").await?;
    hana.batch_execute(&functions("hana")).await?;
    hana.batch_execute(register).await?;
    world.text("SELECT hubspot.retry_failed()::text").await?;
    world.until_hubspot(&id, "warp_legal_name", Some("QUIET")).await?;
    world.settle().await?;
    Ok(())
}
