//! An automated attempt: the owner of a mapped table puts hostile code wherever PostgreSQL runs some while we read or write
//! its rows. The relay's session and the one that decides are those of a superuser, the richest prey.

use super::{attacker, is_plain, probes, refused, session};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster;
use hubspot_sync_tests::world::World;
use serde_json::json;
use tokio_postgres::error::SqlState;

/// Functions and operators that shadow PostgreSQL's own where a search_path names their schema first. Each is one that the
/// extension's statements use.
const SHADOWS: &str = "
CREATE FUNCTION mallory.pg_advisory_xact_lock(int, int) RETURNS void LANGUAGE sql AS $$ SELECT mallory.probe('shadow_lock') $$;
CREATE FUNCTION mallory.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.probe('shadow_clock'); RETURN pg_catalog.clock_timestamp(); END $$;
CREATE FUNCTION mallory.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.probe('shadow_now'); RETURN pg_catalog.now(); END $$;
CREATE FUNCTION mallory.pg_notify(text, text) RETURNS void LANGUAGE sql AS $$ SELECT mallory.probe('shadow_notify') $$;
CREATE FUNCTION mallory.same(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.probe('shadow_operator'); RETURN pg_catalog.int8eq($1, $2); END $$;
CREATE OPERATOR mallory.= (FUNCTION = mallory.same, LEFTARG = bigint, RIGHTARG = bigint);
CREATE FUNCTION mallory.same(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.probe('shadow_operator'); RETURN pg_catalog.texteq($1, $2); END $$;
CREATE OPERATOR mallory.= (FUNCTION = mallory.same, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION mallory.got(json, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.probe('shadow_arrow'); RETURN pg_catalog.json_object_field_text($1, $2); END $$;
CREATE OPERATOR mallory.->> (FUNCTION = mallory.got, LEFTARG = json, RIGHTARG = text);";

/// Code in every place that belongs to the table.
const TRAPS: &str = "
CREATE FUNCTION mallory.bait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM mallory.probe(TG_NAME);
  -- Whoever goes on in this session shall find our functions first.
  PERFORM set_config('search_path', 'mallory, pg_catalog', false);
  PERFORM set_config('search_path', 'mallory, pg_catalog', true);
  RETURN NEW;
END $$;
CREATE TRIGGER a_before BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION mallory.bait();
CREATE TRIGGER z_after AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION mallory.bait();
CREATE TRIGGER s_statement AFTER UPDATE ON customers FOR EACH STATEMENT EXECUTE FUNCTION mallory.bait();
ALTER TABLE customers ADD CONSTRAINT bait CHECK (mallory.probe('check_constraint') OR company_name IS NULL);
CREATE FUNCTION mallory.same_text(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.probe('index_expression'); RETURN $1; END $$;
CREATE INDEX ON customers (mallory.same_text(company_name));
CREATE FUNCTION mallory.partly(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.probe('index_predicate'); RETURN true; END $$;
CREATE INDEX ON customers (id) WHERE mallory.partly(company_name);
CREATE FUNCTION mallory.made(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.probe('generated_column'); RETURN $1; END $$;
ALTER TABLE customers ADD COLUMN shout text GENERATED ALWAYS AS (mallory.made(company_name)) STORED;
CREATE DOMAIN mallory.word AS text CHECK (mallory.probe('domain_check') OR VALUE IS NULL);
ALTER TABLE customers ALTER legal_name TYPE mallory.word;
CREATE TYPE mallory.level AS ENUM ('BASIC', 'PREMIUM');
CREATE FUNCTION mallory.level_json(mallory.level) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.probe('cast'); RETURN to_json($1::text); END $$;
CREATE CAST (mallory.level AS json) WITH FUNCTION mallory.level_json(mallory.level);
ALTER TABLE customers ALTER tier TYPE mallory.level USING tier::mallory.level;
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
ALTER TABLE customers FORCE ROW LEVEL SECURITY;
CREATE POLICY bait ON customers USING (mallory.probe('rls_policy')) WITH CHECK (mallory.probe('rls_check'));";

/// Every route that must have been taken, or the test would prove nothing.
const ROUTES: [&str; 9] = [
    "a_before",
    "z_after",
    "s_statement",
    "check_constraint",
    "index_expression",
    "index_predicate",
    "generated_column",
    "domain_check",
    "cast",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_of_a_tables_owner_runs_as_that_owner_and_gains_nothing() -> Result<()> {
    let mut world = World::without_relay("routes", |m| {
        m["company_name"]["conflict_resolution"] = json!("MANUAL");
    })
    .await?;
    attacker(&world.sql, "mallory").await?;
    world
        .sql
        .batch_execute("ALTER TABLE customers OWNER TO mallory; GRANT CREATE ON SCHEMA public TO mallory")
        .await?;
    let mallory = session(&world, "mallory").await?;
    mallory.batch_execute(SHADOWS).await.context("shadows")?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    mallory.batch_execute(TRAPS).await.context("traps")?;

    // In: several fields, by webhook. Out: read by the relay. A conflict decided by the superuser. The table looked through.
    world.person_sets(&id, "name", "Acme 2")?;
    world.person_sets(&id, "warp_legal_name", "Acme Ltd")?;
    world.person_sets(&id, "warp_tier", "PREMIUM")?;
    world
        .until(&format!(
            "(SELECT (company_name, legal_name::text, tier::text) = ('Acme 2', 'Acme Ltd', 'PREMIUM') FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    world.sim.hold_webhooks();
    world.person_sets(&id, "name", "There")?;
    mallory
        .batch_execute("UPDATE customers SET company_name = 'Here'")
        .await?;
    world.sim.release_webhooks();
    world
        .until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")
        .await?;
    let mut dba = session(&world, "postgres").await?;
    dba.batch_execute("SET search_path = mallory, pg_catalog").await?;
    let work = dba.transaction().await?;
    work.batch_execute("SELECT hubspot.resolve_conflict(max(id), 'HUBSPOT') FROM hubspot.conflicts WHERE status OPERATOR(pg_catalog.=) 'open'")
        .await?;
    // The decision's own transaction goes on with the settings it had.
    let path: String = work.query_one("SHOW search_path", &[]).await?.get(0);
    assert_eq!(path, "mallory, pg_catalog");
    work.commit().await?;
    dba.batch_execute(
        "SELECT hubspot.disable('customer'); SELECT hubspot.enable('customer'); SELECT hubspot.retry_failed()",
    )
    .await?;
    world.settle().await?;

    let seen = probes("mallory")?;
    // Policies are code too, which our look past them does not run; the owner's own statements do.
    for route in ROUTES {
        assert!(
            seen.iter().any(|line| line.split(' ').next() == Some(route)),
            "{route} was never tried; seen were {seen:#?}"
        );
    }
    for line in &seen {
        assert!(
            line.ends_with(" mallory"),
            "ran as somebody else than the table's owner: {line}"
        );
    }
    is_plain(&world.sql, "mallory").await
}

/// A trigger that is put off until the commit would run as whoever commits. PostgreSQL forbids it where we write, and the
/// refusal is on record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_trigger_does_not_outlive_the_owners_context() -> Result<()> {
    let mut world = World::without_relay("deferred", |_| ()).await?;
    attacker(&world.sql, "delia").await?;
    world.sql.batch_execute("ALTER TABLE customers OWNER TO delia").await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    session(&world, "delia")
        .await?
        .batch_execute(
            "CREATE FUNCTION delia.bait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM delia.probe('deferred'); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER bait AFTER UPDATE ON customers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION delia.bait()",
        )
        .await?;
    world.person_sets(&id, "name", "Acme 2")?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE kind = 'row' AND message LIKE '%deferred trigger%')")
        .await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Acme"));
    assert!(probes("delia")?.is_empty(), "{:?}", probes("delia")?);
    is_plain(&world.sql, "delia").await
}

/// What PostgreSQL itself keeps from a plain role stays so with the extension installed.
#[tokio::test]
async fn routes_that_postgresql_closes_stay_closed() -> Result<()> {
    let world = World::without_relay("closed", |_| ()).await?;
    attacker(&world.sql, "carl").await?;
    let carl = session(&world, "carl").await?;
    carl.batch_execute("CREATE FUNCTION carl.event() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$ ")
        .await
        .ok();
    carl.batch_execute(
        "CREATE TABLE carl.own (id int PRIMARY KEY, name text); CREATE VIEW carl.seen AS SELECT * FROM carl.own",
    )
    .await?;
    for statement in [
        "CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION hubspot.follow_ddl()",
        "CREATE TYPE carl.t (INPUT = int4in, OUTPUT = int4out)",
        "CREATE FUNCTION carl.capture() RETURNS trigger LANGUAGE c AS 'hubspot_sync', 'capture_change_wrapper'",
        // The capture trigger on a table of one's own would forge changes of somebody else's mapping.
        "CREATE TRIGGER forged AFTER INSERT ON carl.own FOR EACH ROW EXECUTE FUNCTION hubspot.capture_change('1')",
        "CREATE TABLE hubspot.mine ()",
        "CREATE FUNCTION hubspot.instant(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP EXTENSION hubspot_sync",
        "ALTER EXTENSION hubspot_sync ADD TABLE carl.own",
        "ALTER EVENT TRIGGER hubspot_ddl_end DISABLE",
        "CREATE TABLE carl.child () INHERITS (customers)",
        "ALTER TABLE carl.own INHERIT customers",
        "ALTER TABLE customers DISABLE TRIGGER ALL",
        "SELECT hubspot.import_mapping('own', 'carl.own', 'companies', '{}')",
        "ALTER TABLE customers OWNER TO carl",
        "ALTER TABLE carl.own OWNER TO postgres",
        "ALTER FUNCTION hubspot.capture_change() OWNER TO carl",
        "CREATE RULE mine AS ON INSERT TO customers DO ALSO NOTIFY carl",
        "CREATE POLICY mine ON customers USING (true)",
        "CREATE STATISTICS carl.counts ON id, ban FROM customers",
        "CREATE TABLE carl.pull (id bigint REFERENCES customers)",
        "CREATE PUBLICATION mine FOR TABLE customers",
        "CREATE PUBLICATION mine FOR ALL TABLES",
        "CREATE OPERATOR CLASS carl.ops FOR TYPE int4 USING btree AS OPERATOR 1 <",
        "CREATE CAST (jsonb AS xid) WITH INOUT",
        "ALTER OPERATOR pg_catalog.= (text, text) OWNER TO carl",
        "CREATE OPERATOR pg_catalog.=== (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text)",
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON TABLES TO carl",
        "COMMENT ON FUNCTION hubspot.capture_change() IS 'mine'",
        "ALTER DATABASE template1 SET search_path = carl",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "SET session_replication_role = replica",
        "LOAD 'hubspot_sync'",
        "DO $$ BEGIN LOCK TABLE hubspot.queue; END $$",
        "COPY customers TO PROGRAM 'true'",
        "COPY customers FROM '/etc/hostname'",
    ] {
        refused(&carl, statement, &SqlState::INSUFFICIENT_PRIVILEGE).await?;
    }
    // A superuser who maps a view or a foreign thing by mistake is told; nothing is read through it.
    let document = json!({"name": {"hubspot_property": "name", "warp_field": "name", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"}});
    refused(
        &world.sql,
        &format!("SELECT hubspot.import_mapping('view', 'carl.seen', 'companies', '{document}')"),
        &SqlState::INVALID_PARAMETER_VALUE,
    )
    .await?;
    is_plain(&world.sql, "carl").await
}

/// DDL on a mapped table runs our event triggers as the extension's owner, in a session whose search_path is the attacker's.
#[tokio::test]
async fn ddl_with_a_hostile_search_path_gains_nothing() -> Result<()> {
    let world = World::without_relay("ddl_path", |_| ()).await?;
    attacker(&world.sql, "dora").await?;
    world
        .sql
        .batch_execute("ALTER TABLE customers OWNER TO dora; GRANT CREATE ON SCHEMA public TO dora; GRANT USAGE ON SCHEMA hubspot TO dora")
        .await?;
    let dora = session(&world, "dora").await?;
    dora.batch_execute(
        "CREATE FUNCTION dora.to_regproc(text) RETURNS regproc LANGUAGE plpgsql AS $$ BEGIN PERFORM dora.probe('ddl'); RETURN pg_catalog.to_regproc($1); END $$;
         CREATE FUNCTION dora.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM dora.probe('ddl'); RETURN $1; END $$;
         CREATE FUNCTION dora.same(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM dora.probe('ddl'); RETURN pg_catalog.oideq($1, $2); END $$;
         CREATE OPERATOR dora.= (FUNCTION = dora.same, LEFTARG = oid, RIGHTARG = oid);
         SET search_path = dora, pg_catalog, public;
         ALTER TABLE public.customers RENAME legal_name TO \"legal\"\"; DROP TABLE public.customers; --\";
         ALTER TABLE public.customers RENAME TO \"it's; \"\"mine\"\" $$ %I\";
         ALTER TABLE public.\"it's; \"\"mine\"\" $$ %I\" DROP COLUMN notes;
         -- A trigger of ours under a number that no mapping has.
         ALTER TRIGGER hubspot_truncate_1 ON public.\"it's; \"\"mine\"\" $$ %I\" RENAME TO hubspot_truncate_99999999999;
         ALTER TABLE public.\"it's; \"\"mine\"\" $$ %I\" ADD COLUMN more text",
    )
    .await
    .context("ddl")?;
    assert!(probes("dora")?.is_empty(), "{:?}", probes("dora")?);
    assert_eq!(
        world
            .text("SELECT mapping->'legal_name'->>'warp_field' FROM hubspot.object_mapping")
            .await?
            .as_deref(),
        Some("legal\"; DROP TABLE public.customers; --"),
        "the rename was followed"
    );
    let log = cluster::shared().log()?;
    let unfollowed = log
        .lines()
        .filter(|l| l.contains("ddl_path") && l.contains("could not follow"))
        .count();
    assert_eq!(unfollowed, 0);
    is_plain(&world.sql, "dora").await
}
