//! Privacy deletion: nothing of a person stays in any table of the extension but the proof that it went.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;
use serde_json::{Value as Json, json};

use super::{link, reached};

/// Every table of the extension.
async fn tables(world: &World) -> Result<Vec<String>> {
    let rows = world
        .sql
        .query(
            "SELECT format('%I', c.relname) FROM pg_class c WHERE c.relnamespace = 'hubspot'::regnamespace AND c.relkind IN ('r', 'p')
             ORDER BY 1",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The tables that hold a text anywhere, in whatever column.
async fn holding(world: &World, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for table in tables(world).await? {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM hubspot.{table} t WHERE strpos(to_jsonb(t)::text, $1) > 0)");
        if world.sql.query_one(&sql, &[&text]).await?.get(0) {
            found.push(table);
        }
    }
    Ok(found)
}

const NAMES: [&str; 7] = [
    "Secret-First",
    "Secret-Second",
    "Secret-Here",
    "Secret-There",
    "Secret-Bogus",
    "BAN-SECRET",
    "Secret-Phone",
];

/// No table holds anything that was ever said of the person.
async fn nothing_is_left(world: &World) -> Result<()> {
    for name in NAMES {
        assert_eq!(holding(world, name).await?, Vec::<String>::new(), "{name}");
    }
    Ok(())
}

/// A customer of whom every table knows something: edits of both sides, a conflict, a failure, a reconciliation, an event.
async fn well_known(world: &World) -> Result<(String, String)> {
    let (key, id) = world.linked("BAN-SECRET", "Secret-First").await?;
    world
        .update(
            &key,
            "company_name = 'Secret-Second', contact = '{\"phone\": \"Secret-Phone\"}'",
        )
        .await?;
    world.settle().await?;
    world.update(&key, "status = 'Secret-Bogus'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    world.sim.hold_webhooks();
    world.person_sets(&id, "name", "Secret-There")?;
    world.update(&key, "company_name = 'Secret-Here'").await?;
    world.sim.release_webhooks();
    world
        .until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")
        .await?;
    world.settle().await?;
    world.sql.query_one("SELECT hubspot.reconcile('customer')", &[]).await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NOT NULL)")
        .await?;
    for table in ["sync_state", "sync_log", "conflicts", "failed_syncs", "webhook_events"] {
        let known = NAMES.map(|name| holding(world, name));
        let mut somewhere = false;
        for found in known {
            somewhere |= found.await?.iter().any(|t| t == table);
        }
        assert!(somewhere, "the test shows nothing about {table}");
    }
    Ok((key, id))
}

async fn forget(world: &World, key: &str) -> Result<i64> {
    Ok(world
        .sql
        .query_one("SELECT hubspot.forget('customer', $1)", &[&key])
        .await?
        .get(0))
}

/// The proof, without its id and time.
async fn proof(world: &World) -> Result<Json> {
    Ok(world
        .sql
        .query_one("SELECT to_jsonb(f) FROM hubspot.forgotten f", &[])
        .await?
        .get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forget_scrubs_every_table_and_keeps_a_proof() -> Result<()> {
    let world = super::world("forget", "MANUAL", json!({})).await?;
    let (other, other_id) = world.linked("BAN-2", "Somebody else").await?;
    let (key, id) = well_known(&world).await?;
    world.sql.batch_execute("SET hubspot.actor = 'ada'").await?;
    let number = forget(&world, &key).await?;
    nothing_is_left(&world).await?;
    let proof = proof(&world).await?;
    assert_eq!(proof["id"], number);
    assert_eq!(proof["forgotten_by"], "ada (postgres)");
    assert_eq!(proof["entity_type"], "customer");
    assert_eq!(proof["hubspot_ids"], json!([id]));
    assert_eq!(proof["table_row"], "kept");
    for table in [
        "sync_log",
        "conflicts",
        "failed_syncs",
        "webhook_events",
        "sync_state",
        "link",
    ] {
        assert!(
            proof["scrubbed"][table].as_i64().is_some_and(|n| n > 0),
            "{table}: {proof}"
        );
    }
    let known = world
        .count(&format!(
            "FROM hubspot.forgotten WHERE key_digest = sha256(convert_to('{key}', 'UTF8'))"
        ))
        .await?;
    assert_eq!(known, 1);
    // The ledger stays complete, without the values.
    let story = world
        .count(&format!(
            "FROM hubspot.ledger WHERE entity_key = 'forgotten {number}' AND ending = 'unaccounted'"
        ))
        .await?;
    assert_eq!(story, 0);
    assert!(
        world
            .count(&format!("FROM hubspot.ledger WHERE entity_key = 'forgotten {number}'"))
            .await?
            >= 5
    );
    assert_eq!(world.count("FROM hubspot.conflicts WHERE status = 'open'").await?, 0);
    assert_eq!(world.count("FROM hubspot.failed_syncs WHERE status = 'open'").await?, 0);
    // The row is the application's, and HubSpot's record is HubSpot's.
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Secret-Here"));
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some("Secret-There"));

    // Nothing comes back: neither by edits of either side, nor by looking at all rows.
    world.sim.clear_log();
    world.update(&key, "company_name = 'Secret-Second'").await?;
    world.person_sets(&id, "name", "Secret-First")?;
    world.sim.flush().await;
    world.sql.query_one("SELECT hubspot.enable('customer')", &[]).await?;
    world.sql.query_one("SELECT hubspot.reconcile('customer')", &[]).await?;
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)")
        .await?;
    world.settle().await?;
    nothing_is_left(&world).await?;
    assert_eq!(world.sim.count(Op::BatchUpdate) + world.sim.count(Op::BatchUpsert), 0);
    // A key that changes takes the forgetting along.
    world
        .sql
        .batch_execute(&format!(
            "ALTER TABLE customers ALTER id SET GENERATED BY DEFAULT; UPDATE customers SET id = 4711 WHERE id = {key};
             UPDATE customers SET legal_name = 'Secret-Here' WHERE id = 4711"
        ))
        .await?;
    world.settle().await?;
    nothing_is_left(&world).await?;
    assert_eq!(link(&world, "4711", "status").await?, None);

    // Somebody else is not concerned.
    world.update(&other, "company_name = 'Goes on'").await?;
    world.until_hubspot(&other_id, "name", Some("Goes on")).await?;
    assert!(
        world
            .count(&format!("FROM hubspot.sync_log WHERE entity_key = '{other}'"))
            .await?
            > 0
    );
    let unknown = world
        .sql
        .query_one("SELECT hubspot.forget('customer', 'nobody')", &[])
        .await
        .expect_err("nobody is known");
    assert_eq!(unknown.code().map(|c| c.code()), Some("42704"));
    Ok(())
}

/// A new row under the key of a forgotten one is another record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_row_under_a_forgotten_key_is_another_record() -> Result<()> {
    let world = super::world("forget_anew", "LATEST_WINS", json!({})).await?;
    let (key, _) = world.linked("BAN-SECRET", "Secret-First").await?;
    forget(&world, &key).await?;
    super::delete(&world, &key).await?;
    world.later().await?;
    world
        .sql
        .execute(
            &format!(
                "INSERT INTO customers (id, ban, company_name, status, contact, address) OVERRIDING SYSTEM VALUE
                 VALUES ({key}, 'BAN-9', 'Another', 'ACTIVE', '{{}}', '{{}}')"
            ),
            &[],
        )
        .await?;
    world.settle().await?;
    let id = world.hubspot_id(&key).await?.context("the new record")?;
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some("Another"));
    world.update(&key, "company_name = 'Another 2'").await?;
    world.until_hubspot(&id, "name", Some("Another 2")).await?;
    world.settle().await?;
    nothing_is_left(&world).await
}

/// The answer to a write that was on its way, and its event, come after the record was forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_answers_and_events_find_nothing() -> Result<()> {
    let world = super::world("forget_late", "LATEST_WINS", json!({})).await?;
    let (key, id) = world.linked("BAN-SECRET", "Secret-First").await?;
    world.sim.hold_webhooks();
    let gate = world.sim.gate(Op::BatchUpdate);
    world.update(&key, "company_name = 'Secret-Second'").await?;
    reached(&gate).await?;
    forget(&world, &key).await?;
    gate.release();
    world.person_sets(&id, "name", "Secret-There")?;
    world.sim.release_webhooks();
    world.settle().await?;
    world
        .until("(SELECT count(*) FROM hubspot.webhook_events WHERE status = 'skipped' AND detail = 'forgotten') >= 2")
        .await?;
    nothing_is_left(&world).await?;
    assert_eq!(world.count("FROM hubspot.link").await?, 0);
    Ok(())
}

/// Contacts with an e-mail address for their key and their match property.
async fn contacts(name: &str, on_hubspot_delete: &str) -> Result<World> {
    let mut world = World::without_relay(name, |_| ()).await?;
    world
        .sql
        .batch_execute("CREATE TABLE people (mail text PRIMARY KEY, given text, family text)")
        .await?;
    let field = |property: &str, column: &str| json!({"hubspot_property": property, "warp_field": column, "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS"});
    let mapping = json!({"mail": field("email", "mail"), "given": field("firstname", "given"), "family": field("lastname", "family")});
    world
        .sql
        .query_one(
            "SELECT hubspot.import_mapping('person', 'people', 'contacts', $1, $2)",
            &[
                &mapping,
                &json!({"match": {"field": "mail"}, "on_hubspot_delete": on_hubspot_delete}),
            ],
        )
        .await?;
    world.start_relay("").await?;
    world
        .sql
        .batch_execute("INSERT INTO people VALUES ('secret@example.org', 'Secret-First', 'Secret-Second'), ('other@example.org', 'Other', 'One')")
        .await?;
    world.settle().await?;
    Ok(world)
}

/// A person erases the contact in HubSpot, as its pages and its API do it.
async fn erase(world: &World) -> Result<()> {
    let url = format!("{}/crm/v3/objects/contacts/gdpr-delete", world.sim.base_url());
    let answer = reqwest::Client::new()
        .post(url)
        .bearer_auth(world.sim.token())
        .json(&json!({"objectId": "secret@example.org", "idProperty": "email"}))
        .send()
        .await?;
    anyhow::ensure!(answer.status() == 204, "gdpr-delete answered {}", answer.status());
    Ok(())
}

async fn nobody_is_left(world: &World, table_row: &str) -> Result<()> {
    world.until("EXISTS (SELECT 1 FROM hubspot.forgotten)").await?;
    world.settle().await?;
    for text in ["secret@example.org", "Secret-First", "Secret-Second", "Secret-There"] {
        assert_eq!(holding(world, text).await?, Vec::<String>::new(), "{text}");
    }
    let proof = proof(world).await?;
    assert_eq!(proof["forgotten_by"], "HubSpot privacyDeletion");
    assert_eq!(proof["table_row"], table_row);
    let rows = world.count("FROM people WHERE mail = 'secret@example.org'").await?;
    assert_eq!(rows, i64::from(table_row == "kept"));
    assert_eq!(world.count("FROM people").await?, 1 + rows);
    assert_eq!(world.count("FROM hubspot.link").await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubspots_privacy_deletion_scrubs_and_leaves_the_row() -> Result<()> {
    let world = contacts("gdpr_keep", "keep").await?;
    erase(&world).await?;
    nobody_is_left(&world, "kept").await?;
    // The row that stays is not carried to HubSpot again.
    world.sim.clear_log();
    world
        .sql
        .batch_execute("UPDATE people SET given = 'Secret-There' WHERE mail = 'secret@example.org'")
        .await?;
    nobody_is_left(&world, "kept").await?;
    assert_eq!(world.sim.requests().len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubspots_privacy_deletion_takes_the_row_along() -> Result<()> {
    let world = contacts("gdpr_delete", "delete").await?;
    erase(&world).await?;
    nobody_is_left(&world, "deleted").await
}

/// The ordinary deletion event, which HubSpot sends as well, comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ordinary_deletion_comes_before_the_privacy_deletion() -> Result<()> {
    for (on_hubspot_delete, table_row) in [("keep", "kept"), ("delete", "absent")] {
        let world = contacts(&format!("gdpr_late_{on_hubspot_delete}"), on_hubspot_delete).await?;
        world.sim.hold_webhooks();
        erase(&world).await?;
        assert_eq!(
            world.sim.deliver_held(|e| e["subscriptionType"] == "contact.deletion"),
            1
        );
        world
            .until("EXISTS (SELECT 1 FROM hubspot.link WHERE status IN ('deleted_here', 'deleted_there'))")
            .await?;
        if table_row == "absent" {
            world
                .until("EXISTS (SELECT 1 FROM hubspot.link WHERE status = 'deleted_here')")
                .await?;
        }
        world.sim.release_webhooks();
        nobody_is_left(&world, table_row).await?;
    }
    Ok(())
}

/// A row that the table does not let go stays, and is forgotten all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_table_keeps_is_forgotten_all_the_same() -> Result<()> {
    let world = contacts("gdpr_fk", "delete").await?;
    world
        .sql
        .batch_execute(
            "CREATE TABLE orders (mail text REFERENCES people); INSERT INTO orders VALUES ('secret@example.org')",
        )
        .await?;
    erase(&world).await?;
    nobody_is_left(&world, "kept").await
}
