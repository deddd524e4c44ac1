//! Values that one side does not take: they are parked one by one, with the reason, and everything else goes on.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::{STRATEGY_MAPPING, World};
use serde_json::{Value as Json, json};
use tokio_postgres::error::SqlState;

/// The one failure that is open.
async fn open_failure(world: &World) -> Result<Json> {
    let rows = world
        .sql
        .query(
            "SELECT to_jsonb(f) FROM hubspot.failed_syncs f WHERE status = 'open'",
            &[],
        )
        .await?;
    assert_eq!(rows.len(), 1, "open failures\n{}", world.picture().await?);
    Ok(rows[0].get(0))
}

fn part(of: &Json, names: &[&str]) -> Json {
    Json::Object(names.iter().map(|n| ((*n).to_owned(), of[*n].clone())).collect())
}

const WHAT: [&str; 6] = ["entity_key", "field", "direction", "hubspot_property", "kind", "value"];

async fn wait_for_failures(world: &World, count: i64) -> Result<()> {
    world
        .until(&format!(
            "(SELECT count(*) FROM hubspot.failed_syncs WHERE status = 'open') = {count}"
        ))
        .await?;
    world.settle().await
}

async fn statuses(world: &World) -> Result<Vec<String>> {
    let rows = world
        .sql
        .query(
            "SELECT status FROM hubspot.failed_syncs WHERE status = 'open' OR ended_at IS NOT NULL ORDER BY id",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_outside_the_enum_is_parked_until_it_is_edited() -> Result<()> {
    let world = World::start("enum_out").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, "status = 'BOGUS', company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    wait_for_failures(&world, 1).await?;
    let failure = open_failure(&world).await?;
    assert_eq!(
        part(&failure, &WHAT),
        json!({"entity_key": key, "field": "status", "direction": "outbound", "hubspot_property": "warp_status",
               "kind": "invalid", "value": "BOGUS"})
    );
    assert!(
        failure["message"]
            .as_str()
            .is_some_and(|m| m.contains("enum_values (ACTIVE, SUSPENDED, TRIAL, CLOSED)")),
        "{failure}"
    );
    assert_eq!(world.hubspot(&id, "warp_status").as_deref(), Some("ACTIVE"));
    assert_eq!(world.state(&key, "status", "status").await?.as_deref(), Some("failed"));
    assert_eq!(
        world.state(&key, "company_name", "status").await?.as_deref(),
        Some("in_sync")
    );
    assert_eq!(world.outcomes(&key, "status").await?, ["delivered", "failed"]);
    assert_eq!(world.versions(&id, "warp_status"), ["ACTIVE"]);

    world.update(&key, "status = 'SUSPENDED'").await?;
    world.until_hubspot(&id, "warp_status", Some("SUSPENDED")).await?;
    world.settle().await?;
    assert_eq!(statuses(&world).await?, ["resolved"]);
    assert_eq!(world.state(&key, "status", "status").await?.as_deref(), Some("in_sync"));
    assert_eq!(world.state(&key, "status", "message").await?, None);
    assert_eq!(
        world.outcomes(&key, "status").await?,
        ["delivered", "superseded", "delivered"]
    );
    Ok(())
}

/// HubSpot refuses `TRIAL`, although the mapping allows it.
async fn refused_by_hubspot(name: &str) -> Result<(World, String, String)> {
    let world = World::start(name).await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .sim
        .remove_option("companies", "warp_status", "TRIAL")
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world
        .update(
            &key,
            "status = 'TRIAL', company_name = 'Acme 2', current_balance = 12.50",
        )
        .await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.until_hubspot(&id, "warp_current_balance", Some("12.5")).await?;
    wait_for_failures(&world, 1).await?;
    Ok((world, key, id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hubspot_refuses_is_parked_with_its_words_and_retried() -> Result<()> {
    let (world, key, id) = refused_by_hubspot("option_gone").await?;
    let failure = open_failure(&world).await?;
    assert_eq!(
        part(&failure, &WHAT),
        json!({"entity_key": key, "field": "status", "direction": "outbound", "hubspot_property": "warp_status",
               "kind": "invalid", "value": "TRIAL"})
    );
    assert!(
        failure["message"]
            .as_str()
            .is_some_and(|m| m.contains("TRIAL was not one of the allowed options")),
        "HubSpot's message: {failure}"
    );
    assert_eq!(world.hubspot(&id, "warp_status").as_deref(), Some("ACTIVE"));
    assert_eq!(world.outcomes(&key, "status").await?, ["delivered", "failed"]);
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
    assert_eq!(world.state(&key, "status", "status").await?.as_deref(), Some("failed"));
    assert_eq!(
        world.state(&key, "status", "message").await?,
        failure["message"].as_str().map(str::to_owned)
    );

    // Nothing is tried again by itself.
    world.sim.clear_log();
    world.update(&key, "company_name = 'Acme 3'").await?;
    world.until_hubspot(&id, "name", Some("Acme 3")).await?;
    world.settle().await?;
    assert_eq!(world.sim.count(Op::BatchUpdate), 1);

    let wrong = world
        .sql
        .query_one("SELECT hubspot.retry_failed(-1)", &[])
        .await
        .err()
        .context("an unknown id")?;
    assert_eq!(wrong.code(), Some(&SqlState::UNDEFINED_OBJECT), "{wrong:?}");

    // Retried in vain: open again, once.
    let failure_id = failure["id"].as_i64().context("id")?;
    let retried: i64 = world
        .sql
        .query_one("SELECT hubspot.retry_failed($1)", &[&failure_id])
        .await?
        .get(0);
    assert_eq!(retried, 1);
    wait_for_failures(&world, 1).await?;
    assert_eq!(statuses(&world).await?, ["retried", "open"]);
    assert_eq!(world.hubspot(&id, "warp_status").as_deref(), Some("ACTIVE"));

    world
        .sim
        .add_option("companies", "warp_status", "TRIAL")
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let retried: i64 = world.sql.query_one("SELECT hubspot.retry_failed()", &[]).await?.get(0);
    assert_eq!(retried, 1);
    world.until_hubspot(&id, "warp_status", Some("TRIAL")).await?;
    world.settle().await?;
    assert_eq!(
        world
            .count("FROM hubspot.failed_syncs WHERE status = 'open' OR ended_at IS NULL")
            .await?,
        0
    );
    assert_eq!(world.state(&key, "status", "status").await?.as_deref(), Some("in_sync"));
    assert_eq!(world.outcomes(&key, "status").await?, ["delivered", "delivered"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_edit_mends_what_hubspot_refused() -> Result<()> {
    let (world, key, id) = refused_by_hubspot("option_edit").await?;
    world.update(&key, "status = 'CLOSED'").await?;
    world.until_hubspot(&id, "warp_status", Some("CLOSED")).await?;
    world.settle().await?;
    assert_eq!(statuses(&world).await?, ["resolved"]);
    assert_eq!(
        world.outcomes(&key, "status").await?,
        ["delivered", "superseded", "delivered"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbound_value_outside_the_enum_leaves_the_row_alone() -> Result<()> {
    let world = World::start("enum_in").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .sim
        .add_option("companies", "warp_tier", "GOLD")
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let before = world.row(&key, "xmin").await?;
    world.person_sets(&id, "warp_tier", "GOLD")?;
    wait_for_failures(&world, 1).await?;
    assert_eq!(world.row(&key, "xmin").await?, before, "the row was written");
    let failure = open_failure(&world).await?;
    assert_eq!(
        part(&failure, &WHAT),
        json!({"entity_key": key, "field": "tier", "direction": "inbound", "hubspot_property": "warp_tier",
               "kind": "invalid", "value": "GOLD"})
    );
    assert_eq!(
        world
            .count("FROM hubspot.webhook_events WHERE status = 'failed' AND event->>'propertyValue' = 'GOLD'")
            .await?,
        1
    );
    world.person_sets(&id, "warp_tier", "PREMIUM")?;
    world
        .until(&format!("(SELECT tier = 'PREMIUM' FROM customers WHERE id = {key})"))
        .await?;
    world.settle().await?;
    assert_eq!(statuses(&world).await?, ["resolved"]);
    assert_eq!(world.state(&key, "tier", "message").await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbound_value_of_another_type_leaves_the_row_alone() -> Result<()> {
    let world = World::start_with("type_in", |m| {
        m["credit_limit"]["hubspot_property"] = json!("description");
    })
    .await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.person_sets(&id, "description", "100")?;
    world
        .until(&format!("(SELECT credit_limit = 1 FROM customers WHERE id = {key})"))
        .await?;
    world.settle().await?;
    let before = world.row(&key, "xmin").await?;
    world.person_sets(&id, "description", "a lot")?;
    wait_for_failures(&world, 1).await?;
    assert_eq!(world.row(&key, "xmin").await?, before, "the row was written");
    let failure = open_failure(&world).await?;
    assert_eq!(
        part(&failure, &WHAT),
        json!({"entity_key": key, "field": "credit_limit", "direction": "inbound", "hubspot_property": "description",
               "kind": "invalid", "value": "a lot"})
    );
    // Other fields of the record still come in.
    world.person_sets(&id, "name", "Acme 2")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.person_sets(&id, "description", "250")?;
    world
        .until(&format!("(SELECT credit_limit = 2.50 FROM customers WHERE id = {key})"))
        .await?;
    world.settle().await?;
    assert_eq!(statuses(&world).await?, ["resolved"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_the_table_refuses_fails_alone() -> Result<()> {
    let world = World::start("check_in").await?;
    world
        .sql
        .batch_execute("ALTER TABLE customers ADD CONSTRAINT legal_name_is_clean CHECK (legal_name <> 'Evil')")
        .await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (other, other_id) = world.linked("BAN-2", "Other").await?;
    world.sim.hold_webhooks();
    world
        .sim
        .ui_set_many(
            "companies",
            &id,
            &[("warp_legal_name", "Evil"), ("name", "Acme 2"), ("phone", "+41 1")],
        )
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world.person_sets(&other_id, "name", "Other 2")?;
    world.sim.release_webhooks();
    wait_for_failures(&world, 1).await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Acme 2"));
    assert_eq!(world.row(&key, "contact->>'phone'").await?.as_deref(), Some("+41 1"));
    assert_eq!(world.row(&key, "legal_name").await?, None);
    assert_eq!(world.row(&other, "company_name").await?.as_deref(), Some("Other 2"));
    let failure = open_failure(&world).await?;
    assert_eq!(
        part(&failure, &WHAT),
        json!({"entity_key": key, "field": "legal_name", "direction": "inbound", "hubspot_property": "warp_legal_name",
               "kind": "row", "value": "Evil"})
    );
    assert!(
        failure["message"]
            .as_str()
            .is_some_and(|m| m.contains("legal_name_is_clean")),
        "{failure}"
    );
    assert_eq!(world.state(&key, "legal_name", "warp_value").await?, None);
    assert_eq!(world.state(&key, "legal_name", "base_value").await?, None);
    // The constraint is gone: what failed is taken in after all.
    world
        .sql
        .batch_execute("ALTER TABLE customers DROP CONSTRAINT legal_name_is_clean")
        .await?;
    let retried: i64 = world.sql.query_one("SELECT hubspot.retry_failed()", &[]).await?.get(0);
    assert_eq!(retried, 1);
    world
        .until(&format!("(SELECT legal_name = 'Evil' FROM customers WHERE id = {key})"))
        .await?;
    world.settle().await?;
    assert_eq!(world.count("FROM hubspot.failed_syncs WHERE status = 'open'").await?, 0);
    assert_eq!(
        world.state(&key, "legal_name", "status").await?.as_deref(),
        Some("in_sync")
    );
    Ok(())
}

/// A hundred rows, committed together; the fiftieth's status is one that HubSpot refuses.
const HUNDRED: &str = "
INSERT INTO customers (ban, company_name, status)
SELECT 'BAN-' || n, 'Company ' || n, CASE n WHEN 50 THEN 'TRIAL' ELSE 'ACTIVE' END FROM generate_series(1, 100) n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_record_of_a_hundred_fails_alone() -> Result<()> {
    let world = World::start("hundred").await?;
    world
        .sim
        .remove_option("companies", "warp_status", "TRIAL")
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world.sim.clear_log();
    world.sql.batch_execute(HUNDRED).await?;
    world.settle().await?;
    wait_for_failures(&world, 1).await?;
    assert_eq!(world.sim.records("companies").len(), 100);
    assert_eq!(world.sim.find("companies", "warp_status", "ACTIVE").len(), 99);
    let failure = open_failure(&world).await?;
    assert_eq!(
        part(&failure, &["field", "value"]),
        json!({"field": "status", "value": "TRIAL"})
    );
    // The bad record itself exists, without the bad property.
    let bad = world.sim.find("companies", "warp_ban", "BAN-50");
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].value("name"), Some("Company 50"));
    assert_eq!(bad[0].value("warp_status").unwrap_or_default(), "");
    assert_eq!(
        world
            .count("FROM hubspot.sync_log WHERE action = 'edit' AND outcome = 'failed'")
            .await?,
        1
    );
    assert_eq!(
        world
            .count("FROM hubspot.sync_log WHERE action = 'edit' AND outcome IS NULL")
            .await?,
        0
    );

    // The same with an account that refuses a batch of updates as a whole.
    world.sim.set_behaviour(|b| b.update_trace_ids = false);
    world.sim.clear_log();
    world
        .sql
        .batch_execute(
            "UPDATE customers SET company_name = company_name || ' Ltd',
               status = CASE WHEN ban = 'BAN-50' THEN status WHEN ban = 'BAN-70' THEN 'TRIAL' ELSE 'CLOSED' END",
        )
        .await?;
    world.settle().await?;
    wait_for_failures(&world, 2).await?;
    assert_eq!(world.sim.find("companies", "warp_status", "CLOSED").len(), 98);
    for n in [1, 50, 70, 100] {
        let found = world.sim.find("companies", "warp_ban", &format!("BAN-{n}"));
        assert_eq!(found[0].value("name"), Some(format!("Company {n} Ltd").as_str()));
    }
    assert_eq!(
        world.sim.find("companies", "warp_ban", "BAN-70")[0].value("warp_status"),
        Some("ACTIVE")
    );
    let calls = world.sim.count(Op::BatchUpdate);
    assert!(calls <= 20, "halving a hundred takes few calls, not {calls}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_without_its_match_value_is_linked_once_it_has_one() -> Result<()> {
    let world = World::start("no_ban").await?;
    let key: String = world
        .sql
        .query_one(
            "INSERT INTO customers (company_name) VALUES ('Acme') RETURNING id::text",
            &[],
        )
        .await?
        .get(0);
    wait_for_failures(&world, 1).await?;
    let failure = open_failure(&world).await?;
    assert_eq!(
        part(&failure, &["entity_key", "direction", "kind"]),
        json!({"entity_key": key, "direction": "outbound", "kind": "unlinked"})
    );
    assert_eq!(world.sim.records("companies").len(), 0);
    world.update(&key, "ban = 'BAN-1'").await?;
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.link WHERE entity_key = '{key}' AND status = 'linked')"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(
        world.sim.find("companies", "warp_ban", "BAN-1")[0].value("name"),
        Some("Acme")
    );
    assert_eq!(statuses(&world).await?, ["resolved"]);
    Ok(())
}

/// What an import may not change when it fails.
const FOOTPRINT: &str = "
SELECT md5((SELECT string_agg(m::text, ';' ORDER BY m.id) FROM hubspot.object_mapping m)
  || (SELECT string_agg(f::text, ';' ORDER BY f.id) FROM hubspot.field_mapping f)
  || (SELECT string_agg(pg_get_triggerdef(t.oid), ';' ORDER BY t.tgname) FROM pg_trigger t WHERE t.tgrelid = 'customers'::regclass)
  || (SELECT count(*) FROM hubspot.capture) || (SELECT count(*) FROM hubspot.queue))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_mapping_is_refused_with_the_field_and_the_mend() -> Result<()> {
    let world = World::without_relay("bad_mapping", |_| ()).await?;
    let before = world.text(FOOTPRINT).await?.context("footprint")?;
    type Change = fn(&mut Json, &mut Json);
    let cases: [(&str, Change, &str, &str, &str); 10] = [
        (
            "unknown key",
            |m, _| m["ban"]["hubspot_propertie"] = json!("x"),
            "ban",
            "hubspot_propertie",
            "did you mean hubspot_property?",
        ),
        (
            "unknown column",
            |m, _| m["company_name"]["warp_field"] = json!("compani_name"),
            "company_name",
            "compani_name",
            "did you mean \"company_name\"?",
        ),
        (
            "bad path",
            |m, _| m["contact_email"]["warp_field_path"] = json!("contact->email"),
            "contact_email",
            "contact->email",
            "column->>'key'",
        ),
        (
            "path of another column",
            |m, _| m["contact_email"]["warp_field_path"] = json!("address->>'email'"),
            "contact_email",
            "address",
            "same column",
        ),
        (
            "bad direction",
            |m, _| m["tier"]["sync_direction"] = json!("HUBSPOT_TO_WRAP"),
            "tier",
            "HUBSPOT_TO_WRAP",
            "did you mean HUBSPOT_TO_WARP?",
        ),
        (
            "bad strategy",
            |m, _| m["legal_name"]["conflict_resolution"] = json!("LAST_WINS"),
            "legal_name",
            "LAST_WINS",
            "LATEST_WINS",
        ),
        (
            "unknown transform",
            |m, _| m["credit_limit"]["transform"] = json!("hubspot_value_in_cents_to_dolars"),
            "credit_limit",
            "hubspot_value_in_cents_to_dolars",
            "did you mean hubspot_value_in_cents_to_dollars?",
        ),
        (
            "unknown frequency",
            |m, _| m["current_balance"]["update_frequency"] = json!("realtime"),
            "current_balance",
            "realtime",
            "real-time",
        ),
        (
            "a sub-mapping's column",
            |m, _| m["address"]["sub_mappings"]["city"] = json!("adress->>'city'"),
            "address.city",
            "adress",
            "same column",
        ),
        (
            "unknown option",
            |_, o| o["on_creat"] = json!("ignore"),
            "options",
            "on_creat",
            "did you mean on_create?",
        ),
    ];
    for (what, change, field, culprit, mend) in cases {
        let mut mapping: Json = serde_json::from_str(STRATEGY_MAPPING)?;
        let mut options = json!({});
        change(&mut mapping, &mut options);
        let error = world
            .sql
            .query_one(
                "SELECT hubspot.import_mapping('customer', 'customers', 'companies', $1, $2)",
                &[&mapping, &options],
            )
            .await
            .err()
            .with_context(|| format!("{what} was taken"))?;
        let error = error.as_db_error().with_context(|| what.to_owned())?;
        assert_eq!(error.code(), &SqlState::INVALID_PARAMETER_VALUE, "{what}: {error:?}");
        let (message, hint) = (error.message(), error.hint().unwrap_or_default());
        assert!(message.contains(&format!("{field}: ")), "{what}: {message}");
        assert!(message.contains(culprit), "{what}: {message}");
        assert!(hint.contains(&format!("{field}: ")), "{what}: {hint}");
        assert!(hint.contains(mend), "{what}: {hint}");
        assert_eq!(
            world.text(FOOTPRINT).await?.as_deref(),
            Some(before.as_str()),
            "{what} changed something"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_faults_of_a_mapping_are_told_at_once() -> Result<()> {
    let world = World::without_relay("many_faults", |_| ()).await?;
    let mut mapping: Json = serde_json::from_str(STRATEGY_MAPPING)?;
    mapping["ban"]["warp_field"] = json!("nope");
    mapping["tier"]["sync_direction"] = json!("SIDEWAYS");
    mapping["status"]["colour"] = json!("red");
    let error = world
        .sql
        .query_one(
            "SELECT hubspot.import_mapping('another', 'customers', 'companies', $1)",
            &[&mapping],
        )
        .await
        .err()
        .context("was taken")?;
    let message = error.as_db_error().context("a database error")?.message().to_owned();
    for part in ["tier: sync_direction \"SIDEWAYS\"", "status: unknown key \"colour\""] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    assert_eq!(
        world
            .count("FROM hubspot.object_mapping WHERE entity_type = 'another'")
            .await?,
        0
    );
    Ok(())
}
