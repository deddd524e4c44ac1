//! The brake: changes in masses stop a mapping's outbound side until somebody has looked, and nothing else does.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;
use serde_json::{Value as Json, json};

/// Customers of each world.
const MANY: i64 = 30;

async fn import(world: &World, options: Json) -> Result<()> {
    world
        .sql
        .query_one(
            "SELECT hubspot.import_mapping('customer', 'customers', 'companies', hubspot.export_mapping('customer'), $1)",
            &[&options],
        )
        .await?;
    Ok(())
}

/// Thirty customers that both sides know, under these options.
async fn world(name: &str, options: Json) -> Result<World> {
    let mut world = World::without_relay(name, |_| ()).await?;
    import(&world, options).await?;
    // Rows that were there before count as little as those that come.
    insert(&world).await?;
    world.start_relay("").await?;
    world.settle().await?;
    assert_eq!(braked(&world).await?, None, "a first load is no mass change");
    assert_eq!(world.count("FROM hubspot.link WHERE status = 'linked'").await?, MANY);
    world.sim.clear_log();
    Ok(world)
}

async fn insert(world: &World) -> Result<()> {
    let sql = format!(
        "INSERT INTO customers (ban, company_name, legal_name) SELECT 'BAN-' || n, 'Company ' || n, 'Legal ' || n FROM generate_series(1, {MANY}) n"
    );
    Ok(world.sql.batch_execute(&sql).await?)
}

async fn braked(world: &World) -> Result<Option<String>> {
    world
        .text("SELECT reason FROM hubspot.brake WHERE entity_type = 'customer' AND braked")
        .await
}

/// Waits until the brake is on; gives its reason.
async fn until_braked(world: &World, held: i64) -> Result<String> {
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.brake WHERE braked AND held = {held})"
        ))
        .await?;
    braked(world).await?.context("reason")
}

fn writes(world: &World) -> usize {
    [Op::BatchUpdate, Op::BatchUpsert, Op::BatchArchive]
        .into_iter()
        .map(|op| world.sim.count(op))
        .sum()
}

async fn release(world: &World) -> Result<String> {
    world
        .text("SELECT hubspot.release('customer')")
        .await?
        .context("release")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mass_change_stops_its_mapping_alone_and_waits_for_release() -> Result<()> {
    let world = world("brake_change", json!({"brake": {"records": 10}})).await?;
    world
        .sql
        .batch_execute(
            "CREATE TABLE shops (id int PRIMARY KEY, ban text UNIQUE, name text);
             SELECT hubspot.import_mapping('shop', 'shops', 'companies', '{
               \"ban\": {\"hubspot_property\": \"warp_ban\", \"warp_field\": \"ban\", \"sync_direction\": \"WARP_TO_HUBSPOT\", \"conflict_resolution\": \"WARP_WINS\"},
               \"name\": {\"hubspot_property\": \"name\", \"warp_field\": \"name\", \"sync_direction\": \"WARP_TO_HUBSPOT\", \"conflict_resolution\": \"WARP_WINS\"}}')",
        )
        .await?;
    world
        .sql
        .batch_execute("UPDATE customers SET company_name = company_name || ' by accident'")
        .await?;
    let reason = until_braked(&world, MANY).await?;
    assert!(
        reason.contains("30 changed") && reason.contains("the limit is 10 records"),
        "{reason}"
    );
    assert_eq!(writes(&world), 0, "something was sent");
    // The other mapping goes on, what comes from HubSpot as well, and further changes are held.
    world
        .sql
        .batch_execute("INSERT INTO shops VALUES (1001, 'SHOP-1', 'Corner shop')")
        .await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.link WHERE entity_key = '1001' AND hubspot_id IS NOT NULL AND mapping_id = (SELECT id FROM hubspot.object_mapping WHERE entity_type = 'shop'))")
        .await?;
    assert_eq!(world.sim.find("companies", "warp_ban", "SHOP-1").len(), 1);
    let id = world.hubspot_id("2").await?.context("linked")?;
    world.person_sets(&id, "warp_tier", "PREMIUM")?;
    world
        .until("(SELECT tier = 'PREMIUM' FROM customers WHERE id = 2)")
        .await?;
    world.update("3", "legal_name = 'Later'").await?;
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.capture) AND NOT EXISTS (SELECT 1 FROM hubspot.queue)")
        .await?;
    // What an operator sees: status, outbox, what would be sent, metric, alert, page.
    let warnings = world
        .text("SELECT array_to_string(warnings, ' ') FROM hubspot.status()")
        .await?
        .unwrap_or_default();
    assert!(
        warnings.contains("customer") && warnings.contains("hubspot.release"),
        "{warnings}"
    );
    assert_eq!(world.count("FROM hubspot.outbox WHERE state = 'held'").await?, MANY);
    let planned = world
        .text("SELECT sum(records)::text FROM hubspot.plan('customer') WHERE operation = 'update'")
        .await?;
    assert_eq!(planned, Some(MANY.to_string()));
    assert_eq!(
        world
            .text("SELECT hubspot.relay_figures()->>'brakes_on'")
            .await?
            .as_deref(),
        Some("1")
    );
    world
        .text("SELECT hubspot.relay_alerts('test', '{}')::text")
        .await?
        .context("alerts")?;
    let alert = world
        .text("SELECT detail FROM hubspot.alerts WHERE alert = 'BrakeOn'")
        .await?;
    assert!(
        alert.as_deref().is_some_and(|detail| detail.contains("customer: ")),
        "{alert:?}"
    );
    let page = world
        .text("SELECT hubspot.page_overview(1, 10)->'status'->>'warnings'")
        .await?
        .unwrap_or_default();
    assert!(page.contains("the brake is on"), "{page}");
    // Rows that were put right are not sent.
    world.update("1", "company_name = 'Company 1'").await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.capture)").await?;
    let said = release(&world).await?;
    assert!(said.contains("records of customer are sent"), "{said}");
    let again = world
        .sql
        .query_one("SELECT hubspot.release('customer')", &[])
        .await
        .expect_err("it is released");
    assert_eq!(again.code().map(|c| c.code()), Some("55000"));
    world.settle().await?;
    assert_eq!(braked(&world).await?, None);
    let one = world.hubspot_id("1").await?.context("linked")?;
    assert_eq!(
        world.versions(&one, "name"),
        ["Company 1"],
        "the accident was sent although it was put right"
    );
    for key in ["2", "30"] {
        let id = world.hubspot_id(key).await?.context("linked")?;
        assert_eq!(world.hubspot(&id, "name"), Some(format!("Company {key} by accident")));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mass_emptying_stops_by_its_share() -> Result<()> {
    let world = world("brake_empty", json!({"brake": {"percent": 40, "records": 1000}})).await?;
    // Twelve of thirty are forty per cent, which is not more.
    world
        .sql
        .batch_execute("UPDATE customers SET legal_name = NULL WHERE id <= 12")
        .await?;
    world.settle().await?;
    assert_eq!(braked(&world).await?, None);
    let sent = writes(&world);
    assert!(sent > 0);
    world
        .sql
        .batch_execute("UPDATE customers SET legal_name = NULL WHERE id > 12")
        .await?;
    let reason = until_braked(&world, MANY - 12).await?;
    assert!(
        reason.contains("30 emptied") && reason.contains("40 % of the records"),
        "{reason}"
    );
    assert_eq!(writes(&world), sent);
    release(&world).await?;
    world.settle().await?;
    for key in ["1", "30"] {
        let id = world.hubspot_id(key).await?.context("linked")?;
        assert_eq!(world.hubspot(&id, "warp_legal_name"), None);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mass_deletion_archives_nothing_before_it_is_released() -> Result<()> {
    for (name, statement) in [
        ("brake_delete", "DELETE FROM customers"),
        ("brake_truncate", "TRUNCATE customers"),
    ] {
        let options = json!({"brake": {"records": 10}, "on_local_delete": "archive"});
        let world = world(name, options).await?;
        let ids: Vec<String> = world.sim.records("companies").into_iter().map(|r| r.id).collect();
        world.sql.batch_execute(statement).await?;
        let reason = until_braked(&world, MANY).await?;
        assert!(reason.contains("30 deleted"), "{statement}: {reason}");
        assert_eq!(writes(&world), 0, "{statement}");
        let archived = |id: &String| world.sim.get("companies", id).is_none_or(|r| r.archived);
        assert!(!ids.iter().any(archived), "{statement}");
        release(&world).await?;
        world.settle().await?;
        assert!(ids.iter().all(archived), "{statement}");
    }
    Ok(())
}

/// Records count, not changes; and what is not sent does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_limit_nothing_happens() -> Result<()> {
    let world = world("brake_below", json!({"brake": {"records": 10, "window_seconds": 3600}})).await?;
    for round in 0..5 {
        world
            .sql
            .batch_execute(&format!(
                "UPDATE customers SET company_name = 'Round {round} of ' || id WHERE id <= 10"
            ))
            .await?;
        world.settle().await?;
    }
    world
        .sql
        .batch_execute("UPDATE customers SET notes = 'not mapped', tier = 'PREMIUM'")
        .await?;
    // Deletions that are kept in HubSpot send nothing.
    world.sql.batch_execute("DELETE FROM customers WHERE id > 10").await?;
    world.settle().await?;
    assert_eq!(braked(&world).await?, None);
    let id = world.hubspot_id("10").await?.context("linked")?;
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some("Round 4 of 10"));
    world.update("9", "company_name = 'One'").await?;
    // The eleventh record is one too many.
    world
        .sql
        .batch_execute("INSERT INTO customers (ban, company_name) VALUES ('BAN-NEW', 'New')")
        .await?;
    world.settle().await?;
    assert_eq!(braked(&world).await?, None);
    world
        .sql
        .batch_execute("UPDATE customers SET company_name = 'Newer' WHERE ban = 'BAN-NEW'")
        .await?;
    until_braked(&world, 1).await?;
    Ok(())
}

/// What was always to be sent is no mass change: backfills, newly mapped fields. Nor are the changes of many days that
/// were not taken over meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backfills_new_fields_and_old_backlogs_are_not_braked() -> Result<()> {
    let mut world = world("brake_backfill", json!({"brake": {"records": 10}})).await?;
    for record in world.sim.records("companies") {
        world.sim.set_webhook_url(None);
        world.person_sets(&record.id, "warp_ban", &format!("OTHER-{}", record.id))?;
    }
    world
        .text("SELECT hubspot.backfill('customer', 'WARP_TO_HUBSPOT')::text")
        .await?;
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)")
        .await?;
    world.settle().await?;
    assert_eq!(world.sim.find("companies", "warp_ban", "BAN-30").len(), 1);
    assert_eq!(braked(&world).await?, None);
    // A new field brings a value of each row.
    world.sql.batch_execute("UPDATE customers SET notes = 'Noted'").await?;
    let mapping: Json = world
        .sql
        .query_one("SELECT hubspot.export_mapping('customer')", &[])
        .await?
        .get(0);
    let mut more = mapping.clone();
    more["notes"] = json!({"hubspot_property": "description", "warp_field": "notes", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"});
    world
        .sql
        .query_one(
            "SELECT hubspot.import_mapping('customer', 'customers', 'companies', $1, '{\"brake\": {\"records\": 10}}')",
            &[&more],
        )
        .await?;
    world
        .until(
            "(SELECT count(*) = 30 FROM hubspot.field_state WHERE field = 'notes' AND status IN ('in_sync', 'failed'))",
        )
        .await?;
    assert_eq!(braked(&world).await?, None);
    // Nine records an hour, while no relay ran.
    world.take_relay().context("relay")?.stop().await;
    world
        .sql
        .batch_execute("UPDATE customers SET company_name = 'Backlog ' || id WHERE id <= 27")
        .await?;
    world
        .sql
        .batch_execute("UPDATE hubspot.capture SET captured_at = captured_at - (4 - (entity_key::int - 1) / 9) * interval '1 hour'")
        .await?;
    for hour in 0..3 {
        // As they came, an hour's at a time.
        let one = format!(
            "CREATE TABLE IF NOT EXISTS later AS TABLE hubspot.capture WITH NO DATA;
             WITH moved AS (DELETE FROM hubspot.capture WHERE (entity_key::int - 1) / 9 > {hour} RETURNING *) INSERT INTO later SELECT * FROM moved"
        );
        world.sql.batch_execute(&one).await?;
        world
            .text("SELECT hubspot.relay_claim('test', 1, 1000, 0)::text")
            .await?;
        world
            .sql
            .batch_execute("INSERT INTO hubspot.capture SELECT * FROM later; DROP TABLE later")
            .await?;
    }
    assert_eq!(world.count("FROM hubspot.capture").await?, 0);
    assert_eq!(braked(&world).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_brake_of_another_form_is_refused() -> Result<()> {
    let world = World::without_relay("brake_refused", |_| ()).await?;
    for brake in [
        json!(10),
        json!({}),
        json!({"window_seconds": 60}),
        json!({"records": 0}),
        json!({"records": "10"}),
        json!({"percent": 0}),
        json!({"percent": 101}),
        json!({"records": 1, "window_seconds": 0}),
        json!({"records": 1, "minutes": 10}),
    ] {
        let error = import(&world, json!({"brake": brake})).await.expect_err("refused");
        let error = error.downcast::<tokio_postgres::Error>()?;
        assert_eq!(error.code().map(|c| c.code()), Some("22023"), "{brake}");
        let db = error.as_db_error().context("db error")?;
        assert!(db.message().contains("brake"), "{}", db.message());
        assert!(db.hint().is_some_and(|hint| hint.contains("window_seconds")));
    }
    let unknown = world
        .sql
        .query_one("SELECT hubspot.release('nobody')", &[])
        .await
        .expect_err("no such mapping");
    assert_eq!(unknown.code().map(|c| c.code()), Some("42704"));
    Ok(())
}
