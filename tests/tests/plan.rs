//! What would be sent, what a statement would cause, and lints: each held against what then happens.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::connect;
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;

/// Calls of the plan by operation.
async fn planned(world: &World) -> Result<Vec<(String, i64, i64)>> {
    let sql = "SELECT operation, count(call), sum(records)::bigint FROM hubspot.plan('customer') WHERE call IS NOT NULL GROUP BY 1 ORDER BY 1";
    Ok(world
        .sql
        .query(sql, &[])
        .await?
        .iter()
        .map(|r| (r.get(0), r.get(1), r.get(2)))
        .collect())
}

fn call(operation: &str, calls: i64, records: i64) -> (String, i64, i64) {
    (operation.to_owned(), calls, records)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_what_the_relay_then_does() -> Result<()> {
    let mut world = World::without_relay("plan", |_| ()).await?;
    assert_eq!(planned(&world).await?, []);
    world
        .sql
        .batch_execute("INSERT INTO customers (ban, company_name, status, contact, address) SELECT 'BAN-' || n, 'C ' || n, 'ACTIVE', '{}', '{}' FROM generate_series(1, 250) n")
        .await?;
    // The match reads and the upserts, a hundred records each.
    assert_eq!(
        planned(&world).await?,
        [call("read: match", 3, 250), call("upsert", 3, 250)]
    );
    let row = world
        .sql
        .query_one("SELECT count(*), max(done_after_minutes)::float8, sum(expected_refusals)::bigint, bool_and(properties @> ARRAY['warp_ban', 'name', 'warp_status']), max(due_in_seconds) FROM hubspot.plan('customer')", &[])
        .await?;
    assert_eq!(
        (
            row.get::<_, i64>(0),
            row.get::<_, f64>(1),
            row.get::<_, i64>(2),
            row.get::<_, bool>(3),
            row.get::<_, i64>(4)
        ),
        (6, 0.01, 0, true, 0)
    );
    // Looking changes nothing and keeps nobody waiting.
    assert_eq!(world.count("FROM hubspot.capture").await?, 250);
    world.start_relay("").await?;
    world.settle().await?;
    assert_eq!(
        (
            world.sim.count(Op::BatchRead),
            world.sim.count(Op::BatchUpsert),
            world.sim.count(Op::BatchUpdate)
        ),
        (3, 3, 0)
    );
    let relay = world.take_relay().context("a relay")?;
    relay.stop().await;
    world.sim.clear_log();

    // One-way fields need no look; two-way ones do, unless HubSpot's value is known.
    world
        .sql
        .batch_execute("UPDATE customers SET status = 'SUSPENDED' WHERE id <= 120")
        .await?;
    assert_eq!(planned(&world).await?, [call("update", 2, 120)]);
    world
        .sql
        .batch_execute("UPDATE hubspot.sync_state SET hubspot_read_at = 1; UPDATE customers SET company_name = 'X' || id WHERE id <= 30")
        .await?;
    assert_eq!(
        planned(&world).await?,
        [call("read: values", 1, 30), call("update", 2, 120)]
    );
    // A change that was taken back is none, a deleted row is not sent, a field HubSpot owns is not either.
    world.sql.batch_execute("UPDATE customers SET tier = 'PREMIUM' WHERE id = 200; DELETE FROM customers WHERE id = 120; UPDATE customers SET status = 'ACTIVE' WHERE id = 119").await?;
    assert_eq!(
        planned(&world).await?,
        [call("read: values", 1, 30), call("update", 2, 118)]
    );
    world.start_relay("").await?;
    world.settle().await?;
    assert_eq!(
        (
            world.sim.count(Op::BatchRead),
            world.sim.count(Op::BatchUpsert),
            world.sim.count(Op::BatchUpdate)
        ),
        (1, 0, 2)
    );
    assert_eq!(planned(&world).await?, []);
    // Raises for what is not mapped.
    let error = world
        .sql
        .query("SELECT * FROM hubspot.plan('nobody')", &[])
        .await
        .err()
        .context("refused")?;
    assert_eq!(error.code().context("code")?.code(), "42704");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_expected_from_the_definitions_last_seen() -> Result<()> {
    let world = World::without_relay("plan_refusals", |m| {
        m["notes"] = serde_json::json!({"hubspot_property": "warp_current_balance", "warp_field": "notes", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"});
        m.as_object_mut().map(|m| m.remove("current_balance"));
    })
    .await?;
    world.insert("BAN-1", "Acme").await?;
    world.sql.batch_execute("UPDATE customers SET status = 'BOGUS', notes = 'twelve'; INSERT INTO customers (company_name) VALUES ('no ban')").await?;
    let refusals = "SELECT array_to_string(array_agg(DISTINCT r ORDER BY r), '; ') FROM hubspot.plan('customer') p, unnest(p.refusals) r";
    // enum_values are known at once; HubSpot's types are not yet.
    let before = world.text(refusals).await?.context("refusals")?;
    assert_eq!(
        before,
        "status: not one of the mapping's enum_values; the match field is empty: the record can neither be found nor created"
    );
    let config = world.config("")?;
    let findings = hubspot_relay::check::check(&config).await?;
    anyhow::ensure!(
        world
            .count("FROM hubspot.property_definition WHERE hubspot_object = 'companies'")
            .await?
            > 10,
        "{findings:?}"
    );
    let after = world.text(refusals).await?.context("refusals")?;
    assert_eq!(
        after,
        "notes: not a number; status: not one of the mapping's enum_values; the match field is empty: the record can neither be found nor created"
    );
    // What cannot be sent at all has a row of its own, without a call.
    assert_eq!(
        world
            .count("FROM hubspot.plan('customer') WHERE call IS NULL AND records = 1 AND operation = 'cannot be sent'")
            .await?,
        1
    );
    // And so it happens: the same fields end in failed_syncs.
    let mut world = world;
    world.start_relay("").await?;
    world
        .until("(SELECT count(*) FROM hubspot.failed_syncs WHERE status = 'open') = 3")
        .await?;
    let failed = world
        .text("SELECT string_agg(coalesce(field, 'record'), ', ' ORDER BY field NULLS LAST) FROM hubspot.failed_syncs")
        .await?;
    assert_eq!(failed.as_deref(), Some("notes, status, record"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_estimate_is_rolled_back_and_runs_with_the_callers_rights() -> Result<()> {
    let world = World::start("estimate").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    // Somebody else's waiting change is not counted.
    let relay_changes = world.count("FROM hubspot.sync_log").await?;
    let row = world
        .sql
        .query_one("SELECT entity_type, rows_captured, records_to_send, fields, calls, expected_refusals, refusals FROM hubspot.estimate('UPDATE customers SET status = ''BOGUS'', tier = ''PREMIUM''')", &[])
        .await?;
    assert_eq!(
        (row.get::<_, String>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)),
        ("customer".to_owned(), 1, 1)
    );
    assert_eq!(row.get::<_, Vec<String>>(3), ["status", "tier"]);
    assert_eq!((row.get::<_, i64>(4), row.get::<_, i64>(5)), (1, 1));
    assert_eq!(
        row.get::<_, Vec<String>>(6),
        ["status: not one of the mapping's enum_values"]
    );
    world.settle().await?;
    assert_eq!(world.row(&key, "status").await?.as_deref(), Some("ACTIVE"));
    assert_eq!(world.hubspot(&id, "warp_status").as_deref(), Some("ACTIVE"));
    assert_eq!(world.count("FROM hubspot.sync_log").await?, relay_changes);
    assert_eq!(
        world
            .count("FROM hubspot.estimate('UPDATE customers SET company_name = company_name')")
            .await?,
        0
    );
    // A hundred and one new rows: two match reads, two upserts. The statement may be several.
    let calls = world.text("SELECT calls::text FROM hubspot.estimate('INSERT INTO customers (ban) SELECT ''N'' || n FROM generate_series(1, 100) n; INSERT INTO customers (ban) VALUES (''last'')')").await?;
    assert_eq!(calls.as_deref(), Some("4"));
    assert_eq!(world.count("FROM customers").await?, 1);

    world
        .sql
        .batch_execute("CREATE ROLE plan_viewer LOGIN; SELECT hubspot.grant_viewer('plan_viewer'); CREATE ROLE plan_nobody LOGIN; GRANT SELECT ON customers TO plan_viewer")
        .await?;
    let viewer = connect(&world.url.replace("postgres@", "plan_viewer@")).await?;
    viewer.query("SELECT * FROM hubspot.plan('customer')", &[]).await?;
    viewer
        .query("SELECT * FROM hubspot.check_mapping('customer')", &[])
        .await?;
    for forbidden in [
        "UPDATE customers SET status = ''CLOSED''",
        "DELETE FROM hubspot.capture",
        "SELECT hubspot.pause()",
        "COPY (SELECT 1) TO PROGRAM ''true''",
    ] {
        let refused = viewer
            .query(&format!("SELECT * FROM hubspot.estimate('{forbidden}')"), &[])
            .await
            .err()
            .context("refused")?;
        assert_eq!(
            refused.code().context("code")?.code(),
            "42501",
            "{forbidden}: {refused:?}"
        );
    }
    for private in [
        "hubspot.pending_records(NULL, NULL)",
        "hubspot.pending_batches(NULL, NULL)",
        "hubspot.relay_properties('companies', '[]')",
    ] {
        assert!(
            viewer.query(&format!("SELECT {private}"), &[]).await.is_err(),
            "{private}"
        );
    }
    let nobody = connect(&world.url.replace("postgres@", "plan_nobody@")).await?;
    assert!(
        nobody
            .query("SELECT * FROM hubspot.estimate('SELECT 1')", &[])
            .await
            .is_err()
    );
    // The statement's own errors come through, and a read-only transaction is named as such.
    let error = world
        .sql
        .query("SELECT * FROM hubspot.estimate('UPDATE no_such_table SET x = 1')", &[])
        .await
        .err()
        .context("refused")?;
    assert_eq!(error.code().context("code")?.code(), "42P01");
    world.sql.batch_execute("BEGIN READ ONLY").await?;
    let error = world
        .sql
        .query("SELECT * FROM hubspot.estimate('SELECT 1')", &[])
        .await
        .err()
        .context("refused")?;
    assert_eq!(error.code().context("code")?.code(), "25006");
    world.sql.batch_execute("ROLLBACK").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lints_name_what_will_go_wrong() -> Result<()> {
    let world = World::without_relay("lints", |_| ()).await?;
    let said = async |what: &str| -> Result<i64> {
        world
            .count(&format!("FROM hubspot.check_mapping('customer') WHERE {what}"))
            .await
    };
    assert_eq!(said("severity = 'note' AND finding LIKE '%never seen%'").await?, 1);
    assert_eq!(said("field = 'company_name'").await?, 0);
    let config = world.config("")?;
    hubspot_relay::check::check(&config).await?;
    assert_eq!(said("finding LIKE '%never seen%'").await?, 0);
    assert_eq!(said("severity = 'error'").await?, 0);
    assert_eq!(
        said("field = 'contact_phone' AND finding LIKE '%normalises%'").await?,
        1
    );
    assert_eq!(said("finding LIKE '%updated_at_column%'").await?, 1);
    world
        .sql
        .batch_execute(
            "ALTER TABLE customers ALTER COLUMN company_name SET NOT NULL, ALTER COLUMN legal_name TYPE varchar(20);
             UPDATE hubspot.property_definition SET read_only = true WHERE name = 'warp_prepaid_balance';
             UPDATE hubspot.property_definition SET type = 'date' WHERE name = 'warp_current_balance';
             UPDATE hubspot.property_definition SET has_unique_value = false WHERE name = 'warp_ban';
             UPDATE hubspot.property_definition SET type = 'enumeration', options = ARRAY['ACTIVE', 'TRIAL', 'CLOSED'] WHERE name = 'warp_status';
             UPDATE hubspot.property_definition SET type = 'enumeration', options = ARRAY['STANDARD', 'GOLD'] WHERE name = 'warp_tier';
             DELETE FROM hubspot.property_definition WHERE name = 'warp_legal_name';
             UPDATE hubspot.field_mapping SET hubspot_property = 'name' WHERE field = 'status' AND false",
        )
        .await?;
    for (severity, field, finding) in [
        ("warning", "company_name", "%NOT NULL%"),
        ("warning", "legal_name", "varchar(20)%"),
        ("error", "legal_name", "HubSpot has no property warp_legal_name"),
        ("error", "prepaid_balance", "%computes%"),
        ("error", "current_balance", "%number%date%"),
        ("error", "ban", "%not unique%"),
        ("warning", "status", "%''SUSPENDED''%"),
        ("warning", "tier", "%''GOLD''%"),
    ] {
        assert_eq!(
            said(&format!(
                "severity = '{severity}' AND field = '{field}' AND finding LIKE '{finding}' AND mend <> ''"
            ))
            .await?,
            1,
            "{field}: {finding}"
        );
    }
    world
        .sql
        .batch_execute("UPDATE hubspot.field_mapping SET hubspot_property = 'name' WHERE field = 'status'")
        .await?;
    assert_eq!(said("severity = 'error' AND field = 'status, company_name' AND finding LIKE '2 fields are sent to one property name%'").await?, 1);
    // The worst comes first.
    let first = world
        .text("SELECT severity FROM hubspot.check_mapping('customer') LIMIT 1")
        .await?;
    assert_eq!(first.as_deref(), Some("error"));
    Ok(())
}
