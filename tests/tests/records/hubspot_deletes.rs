//! `on_hubspot_delete`: what a deletion in HubSpot does to the row, and what an edit of the row does to the deletion.

use anyhow::{Context as _, Result, anyhow};
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;
use serde_json::json;

use super::{apart, conflict, delete_update, is_archived, ledger_is_complete, link, together};

async fn world(name: &str, strategy: &str, on_hubspot_delete: &str) -> Result<World> {
    super::world(name, strategy, json!({"on_hubspot_delete": on_hubspot_delete})).await
}

fn person_deletes(world: &World, id: &str) -> Result<()> {
    world.sim.ui_delete("companies", id).map_err(|e| anyhow!("{e:?}"))
}

fn person_restores(world: &World, id: &str) -> Result<()> {
    world.sim.ui_restore("companies", id).map_err(|e| anyhow!("{e:?}"))
}

async fn until_status(world: &World, key: &str, status: &str) -> Result<()> {
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.link WHERE entity_key = '{key}' AND status = '{status}')"
        ))
        .await
}

async fn row_exists(world: &World, key: &str) -> Result<bool> {
    Ok(world.count(&format!("FROM customers WHERE id = {key}")).await? == 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keep_leaves_the_row_and_a_restore_joins_the_two_again() -> Result<()> {
    let world = world("hd_keep", "LATEST_WINS", "keep").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    person_deletes(&world, &id)?;
    until_status(&world, &key, "deleted_there").await?;
    world.update(&key, "company_name = 'Edited meanwhile'").await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.capture)").await?;
    assert_eq!(
        world.row(&key, "company_name").await?.as_deref(),
        Some("Edited meanwhile")
    );
    person_restores(&world, &id)?;
    world.until_hubspot(&id, "name", Some("Edited meanwhile")).await?;
    world.settle().await?;
    assert_eq!(link(&world, &key, "status").await?.as_deref(), Some("linked"));
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(world.sim.records("companies").len(), 1);
    ledger_is_complete(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_takes_the_row_along_and_nothing_comes_back_of_it() -> Result<()> {
    let world = super::world(
        "hd_delete",
        "LATEST_WINS",
        json!({"on_hubspot_delete": "delete", "on_local_delete": "archive"}),
    )
    .await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (other, _) = world.linked("BAN-2", "Other").await?;
    world.sim.clear_log();
    person_deletes(&world, &id)?;
    until_status(&world, &key, "deleted_here").await?;
    world.settle().await?;
    assert!(!row_exists(&world, &key).await?);
    assert!(row_exists(&world, &other).await?);
    // One look whether the record was merged; the row's own deletion asks HubSpot for nothing.
    assert_eq!(world.sim.requests().len(), 1);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    ledger_is_complete(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreate_makes_a_new_record_of_the_row() -> Result<()> {
    let world = world("hd_recreate", "LATEST_WINS", "recreate").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, "contact = '{\"phone\": \"123\"}'").await?;
    world.settle().await?;
    person_deletes(&world, &id)?;
    has_new_record(&world, &key, &id, "Acme").await?;
    let new = world.hubspot_id(&key).await?.context("the new id")?;
    assert_eq!(world.hubspot(&new, "phone").as_deref(), Some("123"));
    ledger_is_complete(&world).await
}

async fn has_new_record(world: &World, key: &str, old: &str, name: &str) -> Result<()> {
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.link WHERE entity_key = '{key}' AND status = 'linked' AND hubspot_id <> '{old}')"
        ))
        .await?;
    world.settle().await?;
    let new = world.hubspot_id(key).await?.context("the new id")?;
    assert!(!is_archived(world, &new));
    assert!(is_archived(world, old));
    assert_eq!(world.hubspot(&new, "name").as_deref(), Some(name));
    assert!(row_exists(world, key).await?);
    assert_eq!(world.row(key, "external_ids->>'hubspot_company_id'").await?, Some(new));
    Ok(())
}

/// The record is deleted in HubSpot and the row is edited, each without knowing of the other.
async fn concurrent(world: &mut World, edit_first: bool) -> Result<(String, String)> {
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    apart(world).await?;
    if edit_first {
        world.update(&key, "company_name = 'Here'").await?;
        world.later().await?;
    }
    person_deletes(world, &id)?;
    world.later().await?;
    if !edit_first {
        world.update(&key, "company_name = 'Here'").await?;
    }
    // The deletion is heard of before the edit is tried.
    world.sql.query_one("SELECT hubspot.pause()", &[]).await?;
    together(world).await?;
    world.sim.flush().await;
    world.sql.query_one("SELECT hubspot.resume()", &[]).await?;
    Ok((key, id))
}

async fn row_stays(name: &str, strategy: &str, edit_first: bool) -> Result<()> {
    let mut world = world(name, strategy, "delete").await?;
    let (key, id) = concurrent(&mut world, edit_first).await?;
    has_new_record(&world, &key, &id, "Here").await?;
    assert_eq!(conflict(&world).await?, delete_update(Some("Here"), None, Some("WARP")));
    assert_eq!(
        world.outcomes(&key, "company_name").await?.last().map(String::as_str),
        Some("delivered")
    );
    ledger_is_complete(&world).await
}

async fn row_goes(name: &str, strategy: &str, edit_first: bool) -> Result<()> {
    let mut world = world(name, strategy, "delete").await?;
    let (key, _) = concurrent(&mut world, edit_first).await?;
    until_status(&world, &key, "deleted_here").await?;
    world.settle().await?;
    assert!(!row_exists(&world, &key).await?);
    assert_eq!(
        conflict(&world).await?,
        delete_update(Some("Here"), None, Some("HUBSPOT"))
    );
    assert_eq!(
        world.outcomes(&key, "company_name").await?.last().map(String::as_str),
        Some("lost_conflict")
    );
    assert_eq!(world.sim.count(Op::BatchUpsert), 1, "nothing was created again");
    ledger_is_complete(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_against_delete_warp_wins() -> Result<()> {
    row_stays("ud_warp", "WARP_WINS", true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_against_delete_hubspot_wins() -> Result<()> {
    row_goes("ud_hubspot", "HUBSPOT_WINS", false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_against_delete_the_edit_is_later() -> Result<()> {
    row_stays("ud_later", "LATEST_WINS", false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_against_delete_the_deletion_is_later() -> Result<()> {
    row_goes("ud_earlier", "LATEST_WINS", true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_against_delete_waits_for_a_person() -> Result<()> {
    for winner in ["WARP", "HUBSPOT"] {
        let mut world = world(&format!("ud_manual_{}", winner.to_lowercase()), "MANUAL", "delete").await?;
        let (key, id) = concurrent(&mut world, true).await?;
        world.until("EXISTS (SELECT 1 FROM hubspot.conflicts)").await?;
        assert_eq!(conflict(&world).await?, delete_update(Some("Here"), None, None));
        assert_eq!(link(&world, &key, "lifecycle").await?.as_deref(), Some("held"));
        assert!(row_exists(&world, &key).await?);
        world
            .sql
            .query_one(
                "SELECT hubspot.resolve_conflict(id, $1) FROM hubspot.conflicts",
                &[&winner],
            )
            .await?;
        if winner == "WARP" {
            has_new_record(&world, &key, &id, "Here").await?;
        } else {
            assert!(!row_exists(&world, &key).await?);
            world.settle().await?;
        }
        assert_eq!(conflict(&world).await?, delete_update(Some("Here"), None, Some(winner)));
        ledger_is_complete(&world).await?;
    }
    Ok(())
}

/// An edit that is not committed when the deletion is carried out is not lost with the row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_being_edited_is_not_deleted_unseen() -> Result<()> {
    let mut world = world("hd_locked", "WARP_WINS", "delete").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let session = hubspot_sync_tests::cluster::connect(&world.url).await?;
    session.batch_execute("BEGIN").await?;
    session
        .execute(
            &format!("UPDATE customers SET company_name = 'Here' WHERE id = {key}"),
            &[],
        )
        .await?;
    person_deletes(&world, &id)?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'subscriptionType' = 'company.deletion' AND status = 'applied')")
        .await?;
    world.sim.clear_log();
    let begun = std::time::Instant::now();
    while world.sim.count(Op::BatchRead) < 2 {
        anyhow::ensure!(begun.elapsed().as_secs() < 30, "the locked row was not tried again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(row_exists(&world, &key).await?);
    session.batch_execute("COMMIT").await?;
    has_new_record(&world, &key, &id, "Here").await?;
    assert_eq!(conflict(&world).await?, delete_update(Some("Here"), None, Some("WARP")));
    world.take_relay().context("the relay")?.stop().await;
    Ok(())
}

/// What the table does not allow is on record, and nothing else stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_table_keeps_is_on_record() -> Result<()> {
    let world = world("hd_fk", "LATEST_WINS", "delete").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (other, other_id) = world.linked("BAN-2", "Other").await?;
    world
        .sql
        .batch_execute(&format!(
            "CREATE TABLE orders (customer bigint REFERENCES customers); INSERT INTO orders VALUES ({key})"
        ))
        .await?;
    person_deletes(&world, &id)?;
    person_deletes(&world, &other_id)?;
    until_status(&world, &other, "deleted_here").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open' AND kind = 'row' AND direction = 'inbound')")
        .await?;
    assert!(row_exists(&world, &key).await?);
    world.sql.batch_execute("DELETE FROM orders").await?;
    world
        .sql
        .execute("UPDATE hubspot.queue SET due_at = now()", &[])
        .await?;
    until_status(&world, &key, "deleted_here").await?;
    world.settle().await?;
    assert!(!row_exists(&world, &key).await?);
    assert_eq!(world.count("FROM hubspot.failed_syncs WHERE status = 'open'").await?, 0);
    Ok(())
}

/// Events of one record in the wrong order: it was deleted and restored, and lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_heard_of_after_the_restore_is_old() -> Result<()> {
    let world = world("hd_late", "LATEST_WINS", "delete").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.hold_webhooks();
    person_deletes(&world, &id)?;
    world.later().await?;
    person_restores(&world, &id)?;
    let of = |name: &str| {
        let name = name.to_owned();
        move |event: &serde_json::Value| event["subscriptionType"] == name
    };
    assert_eq!(world.sim.deliver_held(of("company.restore")), 1);
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'subscriptionType' = 'company.restore' AND status = 'applied')")
        .await?;
    assert_eq!(world.sim.deliver_held(of("company.deletion")), 1);
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'subscriptionType' = 'company.deletion' AND status = 'skipped')")
        .await?;
    world.sim.release_webhooks();
    world.settle().await?;
    assert!(row_exists(&world, &key).await?);
    assert_eq!(link(&world, &key, "status").await?.as_deref(), Some("linked"));
    Ok(())
}
