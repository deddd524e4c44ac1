//! Who may do what: nothing for everybody, and exactly what each needs for the three kinds of role.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use hubspot_relay::Config;
use hubspot_sync_tests::cluster::{self, connect};
use hubspot_sync_tests::world::{CUSTOMERS, STRATEGY_MAPPING, World};
use serde_json::{Value as Json, json};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Relations of the schema on which a role has any privilege, each with the privileges.
async fn relations(sql: &Client, role: &str) -> Result<BTreeSet<String>> {
    let rows = sql
        .query(
            "SELECT c.relname || ' ' || p FROM pg_class c,
               unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p
             WHERE c.relnamespace = 'hubspot'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
               AND (has_table_privilege($1, c.oid, p)
                    OR CASE WHEN p IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') THEN has_any_column_privilege($1, c.oid, p) END)
             UNION ALL
             SELECT c.relname || ' ' || p FROM pg_class c, unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) p
             WHERE c.relnamespace = 'hubspot'::regnamespace AND c.relkind = 'S' AND has_sequence_privilege($1, c.oid, p)",
            &[&role],
        )
        .await?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

/// Functions of the schema that a role may call.
async fn functions(sql: &Client, role: &str) -> Result<BTreeSet<String>> {
    let rows = sql
        .query(
            "SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'hubspot'::regnamespace
             AND has_function_privilege($1, p.oid, 'EXECUTE')",
            &[&role],
        )
        .await?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

async fn role(sql: &Client, name: &str) -> Result<()> {
    Ok(sql.batch_execute(&format!("CREATE ROLE {name} LOGIN")).await?)
}

/// Runs a statement that must be refused for want of a privilege.
async fn forbidden(sql: &Client, statement: &str) -> Result<()> {
    let error = sql
        .batch_execute(statement)
        .await
        .err()
        .with_context(|| format!("{statement} was allowed"))?;
    assert_eq!(
        error.code(),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE),
        "{statement}: {error:?}"
    );
    Ok(())
}

/// A session of another role in the world's database.
async fn session(world: &World, role: &str) -> Result<(Client, String)> {
    let database = world.url.rsplit('/').next().context("database")?;
    let url = cluster::shared().url(role, database);
    Ok((connect(&url).await?, url))
}

/// A mapping document whose `change`s are made.
fn mapping() -> Result<Json> {
    Ok(serde_json::from_str(STRATEGY_MAPPING)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn public_has_nothing() -> Result<()> {
    let world = World::without_relay("public_nothing", |_| ()).await?;
    role(&world.sql, "p_nobody").await?;
    assert_eq!(relations(&world.sql, "p_nobody").await?, BTreeSet::new());
    assert_eq!(functions(&world.sql, "p_nobody").await?, BTreeSet::new());
    assert_eq!(
        world
            .text("SELECT has_schema_privilege('p_nobody', 'hubspot', 'USAGE, CREATE')::text")
            .await?
            .as_deref(),
        Some("false")
    );
    let (nobody, _) = session(&world, "p_nobody").await?;
    for statement in [
        "SELECT * FROM hubspot.conflicts",
        "SELECT * FROM hubspot.status()",
        "SELECT hubspot.pause()",
        "SELECT hubspot.relay_claim('x', 1, 1000, 0)",
        "SELECT hubspot.grant_admin('p_nobody')",
    ] {
        forbidden(&nobody, statement).await?;
    }
    Ok(())
}

/// The application needs no privilege but that on its own table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_writes_its_table_without_knowing_of_us() -> Result<()> {
    let mut world = World::without_relay("app_role", |_| ()).await?;
    role(&world.sql, "p_app").await?;
    world
        .sql
        .batch_execute("GRANT SELECT, INSERT, UPDATE, DELETE ON customers TO p_app")
        .await?;
    world.start_relay("").await?;
    let (app, _) = session(&world, "p_app").await?;
    app.batch_execute(
        "SET application_name = 'shop'; INSERT INTO customers (ban, company_name) VALUES ('BAN-1', 'Acme')",
    )
    .await?;
    world.settle().await?;
    app.batch_execute("UPDATE customers SET company_name = 'Acme 2'")
        .await?;
    world.settle().await?;
    let found = world.sim.find("companies", "warp_ban", "BAN-1");
    assert_eq!(found[0].value("name"), Some("Acme 2"));
    assert_eq!(
        world
            .count("FROM hubspot.sync_log WHERE action = 'edit' AND field = 'company_name' AND actor = 'p_app' AND application_name = 'shop'")
            .await?,
        2
    );
    forbidden(&app, "SELECT * FROM hubspot.capture").await?;
    forbidden(&app, "DELETE FROM hubspot.capture").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_sees_and_changes_nothing() -> Result<()> {
    let world = World::start("viewer").await?;
    let (key, _) = world.linked("BAN-1", "Acme").await?;
    role(&world.sql, "p_viewer").await?;
    world
        .sql
        .batch_execute("SELECT hubspot.grant_viewer('p_viewer')")
        .await?;
    let (viewer, _) = session(&world, "p_viewer").await?;
    let promised = [
        "object_mapping",
        "field_mapping",
        "link",
        "outbox",
        "field_state",
        "conflicts",
        "sync_log",
        "webhook_events",
        "failed_syncs",
        "reconciliation_runs",
        "reconciliation_discrepancies",
        "relay_status",
        "metrics",
    ];
    for name in promised {
        viewer
            .query(&format!("SELECT * FROM hubspot.{name}"), &[])
            .await
            .with_context(|| name.to_owned())?;
    }
    let name: String = viewer
        .query_one(
            "SELECT warp_value FROM hubspot.field_state WHERE entity_key = $1 AND field = 'company_name'",
            &[&key],
        )
        .await?
        .get(0);
    assert_eq!(name, "Acme");
    let status = viewer
        .query_one("SELECT armed, links FROM hubspot.status()", &[])
        .await?;
    assert!(status.get::<_, bool>(0));
    assert_eq!(status.get::<_, i64>(1), 1);
    assert_eq!(
        viewer
            .query_one("SELECT hubspot.export_mapping('customer')", &[])
            .await?
            .get::<_, Json>(0),
        mapping()?
    );
    assert!(
        !viewer
            .query("SELECT * FROM hubspot.explain('customer', $1, 'company_name')", &[&key])
            .await?
            .is_empty()
    );
    // Reading only, and nothing of the private tables.
    let relations = relations(&world.sql, "p_viewer").await?;
    for name in &relations {
        assert!(name.ends_with(" SELECT"), "{name}");
    }
    for private in ["binding", "capture", "queue", "sync_state"] {
        assert!(!relations.contains(&format!("{private} SELECT")), "{private}");
    }
    // What runs with the caller's own rights (hubspot.estimate) changes no more than the caller could.
    let changing = world
        .text(
            "SELECT string_agg(p.proname, ', ') FROM pg_proc p WHERE p.pronamespace = 'hubspot'::regnamespace
             AND has_function_privilege('p_viewer', p.oid, 'EXECUTE') AND p.provolatile = 'v' AND p.prosecdef",
        )
        .await?;
    assert_eq!(changing, None, "functions that may change something");
    for statement in [
        "SELECT * FROM hubspot.capture",
        "UPDATE hubspot.conflicts SET status = 'open'",
        // Who looks at alerts makes and clears none.
        "SELECT * FROM hubspot.judge_alerts()",
        "SELECT hubspot.relay_alerts('', '{}')",
        "INSERT INTO hubspot.alerts (alert, source, severity, detail) VALUES ('x', '', 'warning', 'x')",
        "DELETE FROM hubspot.alerts",
        "SELECT hubspot.pause()",
        "SELECT hubspot.resolve_conflict(1, 'WARP')",
        "SELECT hubspot.retry_failed()",
        "SELECT hubspot.arm(1)",
        "SELECT hubspot.disable('customer')",
        "SELECT hubspot.relay_maintain()",
        "SELECT * FROM customers",
    ] {
        forbidden(&viewer, statement).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relays_role_runs_a_whole_sync_and_nothing_else() -> Result<()> {
    let mut world = World::without_relay("relay_role", |m| {
        m["legal_name"]["conflict_resolution"] = json!("MANUAL");
    })
    .await?;
    role(&world.sql, "p_relay").await?;
    world.sql.batch_execute("SELECT hubspot.grant_relay('p_relay')").await?;
    let (session, url) = session(&world, "p_relay").await?;

    let config = Config::from_toml(&world.config_toml(&url, "")).context("settings")?;
    let relay = World::run_config(config).await?;
    world.adopt_relay(relay);
    // Out, in, a conflict, a failure, a deletion: all that a relay carries.
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    assert_eq!(
        world.row(&key, "external_ids->>'hubspot_company_id'").await?.as_deref(),
        Some(id.as_str())
    );
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.person_sets(&id, "warp_tier", "PREMIUM")?;
    world
        .until(&format!("(SELECT tier = 'PREMIUM' FROM customers WHERE id = {key})"))
        .await?;
    world.update(&key, "status = 'BOGUS'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    world.sim.hold_webhooks();
    world.person_sets(&id, "warp_legal_name", "There")?;
    world.update(&key, "legal_name = 'Here'").await?;
    world.sim.release_webhooks();
    world
        .until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")
        .await?;
    world
        .sim
        .ui_delete("companies", &id)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.link WHERE status = 'deleted_there')")
        .await?;
    world.settle().await?;
    session.query_one("SELECT hubspot.relay_maintain()", &[]).await?;

    assert_eq!(relations(&world.sql, "p_relay").await?, BTreeSet::new());
    let functions = functions(&world.sql, "p_relay").await?;
    assert!(functions.contains("relay_claim"));
    for name in &functions {
        assert!(name.starts_with("relay_") || name.starts_with("page_"), "{name}");
    }
    for statement in [
        "SELECT * FROM hubspot.conflicts",
        "SELECT * FROM hubspot.field_state",
        "SELECT * FROM hubspot.sync_log",
        "DELETE FROM hubspot.queue",
        "SELECT hubspot.resume()",
        "SELECT hubspot.arm(1)",
        "SELECT hubspot.resolve_conflict(1, 'WARP')",
        "SELECT hubspot.import_mapping('x', 'customers', 'companies', '{}')",
        "SELECT * FROM customers",
        "UPDATE customers SET notes = 'x'",
        "CREATE TABLE hubspot.mine ()",
    ] {
        forbidden(&session, statement).await?;
    }
    world.take_relay().context("the relay")?.stop().await;
    Ok(())
}

/// Granting again changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_are_idempotent_and_take_any_name() -> Result<()> {
    let world = World::without_relay("grants_again", |_| ()).await?;
    // Quotes, dots, letters of elsewhere, and as long as a name may be.
    let odd = format!("p xyz\"o'd.d\" {}", "é".repeat(25));
    assert_eq!(odd.len(), 63);
    let quoted = format!("\"{}\"", odd.replace('"', "\"\""));
    world.sql.batch_execute(&format!("CREATE ROLE {quoted}")).await?;
    let mut before = BTreeSet::new();
    for kind in ["relay", "viewer", "admin"] {
        for again in [false, true] {
            world
                .sql
                .query_one(&format!("SELECT hubspot.grant_{kind}($1::text::name)"), &[&odd])
                .await
                .with_context(|| kind.to_owned())?;
            let granted: BTreeSet<String> = relations(&world.sql, &odd)
                .await?
                .into_iter()
                .chain(functions(&world.sql, &odd).await?)
                .collect();
            assert!(!granted.is_empty(), "{kind}");
            if again {
                assert_eq!(granted, before, "{kind}");
            }
            before = granted;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_maps_own_tables_and_decides() -> Result<()> {
    let mut world = World::without_relay("admin", |_| ()).await?;
    for name in ["p_admin", "p_other"] {
        role(&world.sql, name).await?;
    }
    world
        .sql
        .batch_execute(&format!(
            "SELECT hubspot.grant_admin('p_admin');
             CREATE SCHEMA shop AUTHORIZATION p_admin;
             SET search_path = shop; {CUSTOMERS}; ALTER TABLE shop.customers OWNER TO p_admin; RESET search_path;
             SELECT hubspot.disable('customer')"
        ))
        .await?;
    let (admin, _) = session(&world, "p_admin").await?;
    let mut document = mapping()?;
    document["company_name"]["conflict_resolution"] = json!("MANUAL");
    let import = "SELECT hubspot.import_mapping($1, $2::text::regclass, 'companies', $3)";
    let error = admin
        .query_one(import, &[&"theirs", &"public.customers", &document])
        .await
        .err()
        .context("mapped a table of somebody else")?;
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error:?}");
    admin
        .query_one(import, &[&"mine", &"shop.customers", &document])
        .await?;
    world.start_relay("").await?;

    // The whole way with a table of an owner who is no superuser.
    admin
        .batch_execute("INSERT INTO shop.customers (ban, company_name, contact) VALUES ('BAN-1', 'Acme', '{}')")
        .await?;
    world.settle().await?;
    let found = world.sim.find("companies", "warp_ban", "BAN-1");
    let id = found.first().context("created")?.id.clone();
    world.person_sets(&id, "phone", "+41 1")?;
    world
        .until("(SELECT contact->>'phone' = '+41 1' FROM shop.customers)")
        .await?;
    world.sim.hold_webhooks();
    world.person_sets(&id, "name", "There")?;
    admin
        .batch_execute("UPDATE shop.customers SET company_name = 'Here', status = 'BOGUS'")
        .await?;
    world.sim.release_webhooks();
    world
        .until(
            "EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')
             AND EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')",
        )
        .await?;
    let conflict: i64 = admin
        .query_one("SELECT id FROM hubspot.conflicts WHERE status = 'open'", &[])
        .await?
        .get(0);
    admin
        .query_one("SELECT hubspot.resolve_conflict($1, 'HUBSPOT')", &[&conflict])
        .await?;
    world
        .until("(SELECT company_name = 'There' FROM shop.customers)")
        .await?;
    assert_eq!(
        world
            .text("SELECT resolved_by FROM hubspot.conflicts")
            .await?
            .as_deref(),
        Some("p_admin")
    );
    assert_eq!(
        admin
            .query_one("SELECT hubspot.retry_failed()", &[])
            .await?
            .get::<_, i64>(0),
        1
    );
    let portal = i64::try_from(world.sim.portal_id())?;
    admin.query_one("SELECT hubspot.arm($1)", &[&portal]).await?;
    for statement in [
        "SELECT hubspot.pause()",
        "SELECT hubspot.resume()",
        "SELECT hubspot.disable('mine')",
        "SELECT hubspot.enable('mine')",
        "SELECT * FROM hubspot.status()",
    ] {
        admin
            .batch_execute(statement)
            .await
            .with_context(|| statement.to_owned())?;
    }
    for statement in [
        "SELECT hubspot.disable('customer')",
        "SELECT hubspot.enable('customer')",
        "SELECT hubspot.relay_claim('x', 1, 1000, 0)",
        "SELECT hubspot.relay_receive('[]')",
        "UPDATE hubspot.conflicts SET winner = 'WARP'",
        "DELETE FROM hubspot.sync_log",
        "SELECT * FROM hubspot.capture",
    ] {
        forbidden(&admin, statement).await?;
    }
    // Only the extension's owner hands out rights.
    forbidden(&admin, "SELECT hubspot.grant_admin('p_other')").await?;
    assert_eq!(functions(&world.sql, "p_other").await?, BTreeSet::new());
    Ok(())
}

/// HubSpot's values are written with the rights of the table's owner, never with those of the extension's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_written_as_the_tables_owner() -> Result<()> {
    let mut world = World::without_relay("owner", |_| ()).await?;
    role(&world.sql, "p_owner").await?;
    world
        .sql
        .batch_execute(
            "ALTER TABLE customers OWNER TO p_owner; GRANT USAGE, CREATE ON SCHEMA public TO p_owner;
             CREATE TABLE seen (who name, path text, can boolean); GRANT INSERT ON seen TO p_owner;
             CREATE TABLE secret (id int);
             CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               INSERT INTO public.seen VALUES (current_user, current_setting('search_path'), has_table_privilege('public.secret', 'SELECT'));
               RETURN NEW;
             END $$;
             ALTER FUNCTION spy() OWNER TO p_owner",
        )
        .await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .sql
        .batch_execute("CREATE TRIGGER spy BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION spy()")
        .await?;
    world.person_sets(&id, "name", "Acme 2")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' FROM customers WHERE id = {key})"
        ))
        .await?;
    let seen = world
        .sql
        .query_one("SELECT who::text, path, can FROM seen", &[])
        .await?;
    assert_eq!(seen.get::<_, String>(0), "p_owner");
    let path: String = seen.get(1);
    assert!(path.starts_with("pg_catalog"), "the search path is pinned, not {path}");
    assert!(!seen.get::<_, bool>(2), "no rights of a superuser");
    Ok(())
}
