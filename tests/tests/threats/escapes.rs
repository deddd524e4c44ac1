//! Ways out of the owner's context, and into functions of ours from within it: what a trigger tries while the extension writes.

use super::{attacker, is_plain, probes, refused, session};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;
use serde_json::json;
use tokio_postgres::error::SqlState;

/// What the trigger tries, by name, in the session of the superuser who makes the extension write.
const ESCAPES: [(&str, &str); 13] = [
    ("set_role", "SET ROLE postgres"),
    ("reset_role", "RESET ROLE"),
    ("local_role", "SET LOCAL ROLE NONE"),
    ("set_session", "SET SESSION AUTHORIZATION postgres"),
    ("reset_session", "RESET SESSION AUTHORIZATION"),
    ("replication", "SET session_replication_role = replica"),
    // What stays in the session would be used by whoever has it next.
    ("temp_table", "CREATE TEMP TABLE customers (id int)"),
    ("temp_view", "CREATE TEMP VIEW queue AS SELECT 1"),
    (
        "held_cursor",
        "DECLARE held CURSOR WITH HOLD FOR SELECT probe FROM igor.probe($f$cursor$f$)",
    ),
    ("prepared", "PREPARE later AS SELECT igor.probe($f$prepared$f$)"),
    ("listen", "LISTEN hubspot"),
    ("discard", "DISCARD ALL"),
    ("grant", "GRANT ALL ON ALL TABLES IN SCHEMA hubspot TO igor"),
];

/// Roles, session state and temporary objects: PostgreSQL refuses each of them to the trigger, because
/// the extension writes in a security-restricted operation. `RAISE LOG` says what each attempt came to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_cannot_leave_its_owners_context() -> Result<()> {
    let mut world = World::without_relay("escapes", |_| ()).await?;
    attacker(&world.sql, "igor").await?;
    world.sql.batch_execute("ALTER TABLE customers OWNER TO igor").await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let tries: String = ESCAPES
        .iter()
        .map(|(name, statement)| format!("PERFORM igor.attempt('{name}', '{}');\n", statement.replace('\'', "''")))
        .collect();
    session(&world, "igor")
        .await?
        .batch_execute(&format!(
            "CREATE FUNCTION igor.attempt(name text, statement text) RETURNS void LANGUAGE plpgsql AS $$
             DECLARE said text := 'allowed';
             BEGIN
               BEGIN
                 EXECUTE statement;
               EXCEPTION WHEN OTHERS THEN
                 GET STACKED DIAGNOSTICS said = RETURNED_SQLSTATE;
               END;
               RAISE LOG 'PROBE igor %-% %', name, said, current_user;
             END $$;
             CREATE FUNCTION igor.deputy() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM igor.attempt('definer_role', 'RESET ROLE'); END $$;
             CREATE FUNCTION igor.bait() RETURNS trigger LANGUAGE plpgsql AS $bait$
             BEGIN {tries} PERFORM igor.deputy(); PERFORM igor.probe('after'); RETURN NEW; END $bait$;
             CREATE TRIGGER bait BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION igor.bait()"
        ))
        .await
        .context("bait")?;
    world.person_sets(&id, "name", "Acme 2")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    let seen = probes("igor")?;
    for (name, _) in ESCAPES.iter().chain(&[("definer_role", "")]) {
        assert!(seen.contains(&format!("{name}-42501 igor")), "{name}: {seen:#?}");
    }
    assert!(seen.contains("after igor"), "{seen:#?}");
    assert_eq!(seen.len(), ESCAPES.len() + 2, "{seen:#?}");
    is_plain(&world.sql, "igor").await
}

/// A rule rewrites our statement into others. They run as the table's owner too, and one that leads elsewhere meets that
/// owner's rights there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_on_a_table_lead_no_further_than_its_owner_may_go() -> Result<()> {
    let mut world = World::without_relay("rules", |_| ()).await?;
    attacker(&world.sql, "rula").await?;
    world
        .sql
        .batch_execute(
            "ALTER TABLE customers OWNER TO rula; CREATE TABLE vault (v text); INSERT INTO vault VALUES ('untouched');
             GRANT USAGE ON SCHEMA public TO rula",
        )
        .await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let rula = session(&world, "rula").await?;
    // Whether a rule lets our statement through is PostgreSQL's business; either the value arrives or its refusal is on record.
    for (n, rule) in [
        "DO ALSO SELECT rula.probe('also')",
        "DO ALSO UPDATE public.vault SET v = NEW.company_name",
        "DO INSTEAD UPDATE public.vault SET v = NEW.company_name",
    ]
    .iter()
    .enumerate()
    {
        rula.batch_execute(&format!("CREATE RULE bait AS ON UPDATE TO public.customers {rule}"))
            .await
            .context(*rule)?;
        let name = format!("Acme {n}");
        world.person_sets(&id, "name", &name)?;
        world
            .until(&format!(
                "(SELECT company_name = '{name}' FROM customers WHERE id = {key})
                 OR EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE kind = 'row' AND status = 'open')"
            ))
            .await
            .with_context(|| format!("{rule} was never met"))?;
        rula.batch_execute("DROP RULE bait ON public.customers").await?;
        world.sql.batch_execute("SELECT hubspot.retry_failed()").await?;
        world
            .until(&format!(
                "(SELECT company_name = '{name}' FROM customers WHERE id = {key})"
            ))
            .await
            .with_context(|| format!("without {rule} the value arrives"))?;
    }
    refused(
        &rula,
        "CREATE RULE bait AS ON UPDATE TO public.customers DO INSTEAD INSERT INTO hubspot.binding (portal_id) VALUES (1)",
        &SqlState::INSUFFICIENT_PRIVILEGE,
    )
    .await?;
    assert_eq!(
        world.text("SELECT string_agg(v, ',') FROM vault").await?.as_deref(),
        Some("untouched")
    );
    assert_eq!(world.count("FROM hubspot.binding").await?, 1);
    let seen = probes("rula")?;
    assert!(seen.iter().all(|line| line == "also rula"), "{seen:?}");
    is_plain(&world.sql, "rula").await
}

/// The owner may call functions of ours and does so from within one of ours: it gets what its own call would get, or a
/// refusal, and the record that was being written, as all others, goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_functions_may_be_called_from_within_our_writes() -> Result<()> {
    let mut world = World::without_relay("reentry", |_| ()).await?;
    attacker(&world.sql, "rena").await?;
    world
        .sql
        .batch_execute("ALTER TABLE customers OWNER TO rena; SELECT hubspot.grant_admin('rena'); SELECT hubspot.grant_relay('rena')")
        .await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (other, other_id) = world.linked("BAN-2", "Bolt").await?;
    session(&world, "rena")
        .await?
        .batch_execute(
            "CREATE FUNCTION rena.attempt(statement text) RETURNS void LANGUAGE plpgsql AS $$
             BEGIN
               PERFORM rena.probe(split_part(split_part(statement, '.', 2), '(', 1));
               EXECUTE statement;
             EXCEPTION WHEN OTHERS THEN
               NULL;
             END $$;
             CREATE FUNCTION rena.bait() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               PERFORM rena.attempt('SELECT hubspot.disable(''customer'')');
               PERFORM rena.attempt('SELECT hubspot.relay_maintain()');
               PERFORM rena.attempt('SELECT hubspot.relay_receive(''[]'')');
               PERFORM rena.attempt('SELECT hubspot.relay_decide(''x'', ''[]'')');
               PERFORM rena.attempt('SELECT hubspot.retry_failed()');
               PERFORM rena.attempt('SELECT hubspot.enable(''customer'')');
               PERFORM rena.attempt('SELECT hubspot.export_mapping(''customer'')');
               RETURN NEW;
             END $$;
             CREATE TRIGGER bait BEFORE UPDATE ON public.customers FOR EACH ROW WHEN (NEW.ban = 'BAN-1') EXECUTE FUNCTION rena.bait()",
        )
        .await?;
    world.person_sets(&id, "name", "Acme 2")?;
    world.person_sets(&other_id, "name", "Bolt 2")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Bolt 2' FROM customers WHERE id = {other})"
        ))
        .await?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' FROM customers WHERE id = {key})
             OR EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE kind = 'row' AND status = 'open')"
        ))
        .await?;
    let seen = probes("rena")?;
    for function in [
        "disable",
        "relay_maintain",
        "relay_receive",
        "relay_decide",
        "retry_failed",
        "enable",
        "export_mapping",
    ] {
        assert!(seen.contains(&format!("{function} rena")), "{function}: {seen:#?}");
    }
    assert_eq!(seen.len(), 7, "{seen:#?}");
    // A session of the same kind, afterwards, still asks who calls.
    let rena = session(&world, "rena").await?;
    world
        .sql
        .batch_execute("CREATE TABLE hidden (id int PRIMARY KEY, name text)")
        .await?;
    refused(
        &rena,
        "SELECT hubspot.import_mapping('hidden', 'public.hidden', 'companies', '{\"name\": {\"hubspot_property\": \"name\", \"warp_field\": \"name\", \"sync_direction\": \"WARP_TO_HUBSPOT\", \"conflict_resolution\": \"WARP_WINS\"}}')",
        &SqlState::INSUFFICIENT_PRIVILEGE,
    )
    .await?;
    is_plain(&world.sql, "rena").await
}

/// Types, unlike functions and operators, are found in the temporary schema, and before PostgreSQL's own. One that a trigger
/// left in a superuser's session would run its check at that superuser's next cast: PostgreSQL refuses to make it where we write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_leaves_no_type_behind_in_the_session() -> Result<()> {
    let mut world = World::without_relay("left_types", |m| {
        m["company_name"]["conflict_resolution"] = json!("MANUAL");
    })
    .await?;
    attacker(&world.sql, "vera").await?;
    attacker(&world.sql, "friend").await?;
    world.sql.batch_execute("ALTER TABLE customers OWNER TO vera").await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.hold_webhooks();
    world.person_sets(&id, "name", "There")?;
    world.update(&key, "company_name = 'Here'").await?;
    world.sim.release_webhooks();
    world
        .until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")
        .await?;
    // The owner by itself, and through a function that runs as somebody else.
    session(&world, "friend")
        .await?
        .batch_execute(
            "CREATE FUNCTION friend.leave() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
             BEGIN EXECUTE 'CREATE DOMAIN pg_temp.int8 AS pg_catalog.int8 CHECK (friend.probe(''left''))'; END $$;
             GRANT USAGE ON SCHEMA friend TO PUBLIC",
        )
        .await?;
    let vera = session(&world, "vera").await?;
    vera.batch_execute(
        "GRANT USAGE ON SCHEMA vera TO PUBLIC;
         CREATE FUNCTION vera.own() RETURNS void LANGUAGE plpgsql AS $$
         BEGIN EXECUTE 'CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (vera.probe(''left''))'; END $$",
    )
    .await?;
    for (n, leave) in ["vera.own()", "friend.leave()"].into_iter().enumerate() {
        vera.batch_execute(&format!(
            "CREATE OR REPLACE FUNCTION vera.bait() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM vera.probe('bait{n}'); PERFORM {leave}; PERFORM vera.probe('done{n}'); RETURN NEW; END $$;
             DROP TRIGGER IF EXISTS bait ON public.customers;
             CREATE TRIGGER bait BEFORE UPDATE ON public.customers FOR EACH ROW EXECUTE FUNCTION vera.bait()"
        ))
        .await?;
        let dba = session(&world, "postgres").await?;
        let answer = dba
            .batch_execute(
                "SELECT hubspot.resolve_conflict(max(id), 'HUBSPOT') FROM hubspot.conflicts WHERE status = 'open'",
            )
            .await;
        let refusal = answer.err().context("the decision was made")?;
        let refusal = refusal.as_db_error().and_then(|e| e.hint()).unwrap_or_default();
        assert!(refusal.contains("security-restricted operation"), "{leave}: {refusal}");
        dba.batch_execute("SELECT 'x'::text, 1::int8").await?;
        let left = dba
            .query_one(
                "SELECT count(*) FROM pg_catalog.pg_type WHERE typnamespace = pg_catalog.pg_my_temp_schema()",
                &[],
            )
            .await?;
        assert_eq!(
            left.get::<_, i64>(0),
            0,
            "{leave} left a type behind; {:?} {:?}",
            probes("vera")?,
            probes("friend")?
        );
        assert!(
            probes("vera")?.contains(&format!("bait{n} vera")),
            "{leave} was never tried"
        );
        is_plain(&world.sql, "vera").await?;
        is_plain(&world.sql, "friend").await?;
    }
    assert!(!probes("vera")?.iter().any(|line| line.ends_with(" postgres")));
    assert!(!probes("friend")?.iter().any(|line| line.ends_with(" postgres")));
    // Without the trap the decision can be made.
    vera.batch_execute("DROP TRIGGER bait ON public.customers").await?;
    world
        .sql
        .batch_execute(
            "SELECT hubspot.resolve_conflict(id, 'HUBSPOT') FROM hubspot.conflicts WHERE status = 'open'; SELECT hubspot.retry_failed()",
        )
        .await?;
    world
        .until(&format!(
            "(SELECT company_name = 'There' FROM customers WHERE id = {key})"
        ))
        .await
}
