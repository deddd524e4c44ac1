//! `on_local_delete` archive: a deleted row takes its HubSpot record along, unless an edit there counts more.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::{Fault, FaultKind, Op};
use hubspot_sync_tests::world::World;
use serde_json::json;

use super::{
    apart, conflict, delete, delete_update, is_archived, ledger_is_complete, link, reached, together, until_archived,
};

async fn world(name: &str, strategy: &str) -> Result<World> {
    super::world(name, strategy, json!({"on_local_delete": "archive"})).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_row_takes_its_record_along() -> Result<()> {
    let world = world("archive", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (_, other) = world.linked("BAN-2", "Other").await?;
    world.sim.clear_log();
    delete(&world, &key).await?;
    until_archived(&world, &key, &id).await?;
    world.settle().await?;
    assert_eq!(world.sim.count(Op::BatchArchive), 1);
    // One look before it, and none for the echo.
    assert_eq!(world.sim.requests().len(), 2);
    assert!(!is_archived(&world, &other));
    assert_eq!(link(&world, &key, "status").await?.as_deref(), Some("deleted_here"));
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    ledger_is_complete(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_deleted_rows_go_in_batches_of_a_hundred() -> Result<()> {
    let world = world("archive_many", "LATEST_WINS").await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status, contact, address)
             SELECT 'BAN-' || n, 'Company ' || n, 'ACTIVE', '{}', '{}' FROM generate_series(1, 250) n",
        )
        .await?;
    world.settle().await?;
    world.sim.clear_log();
    world.sql.batch_execute("DELETE FROM customers").await?;
    world
        .until("(SELECT count(*) FROM hubspot.link WHERE lifecycle = 'archived') = 250")
        .await?;
    assert!(world.sim.records("companies").iter().all(|record| record.archived));
    assert_eq!(world.sim.count(Op::BatchArchive), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_event_of_our_archive_comes_before_its_answer() -> Result<()> {
    let world = world("archive_echo", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let gate = world.sim.gate(Op::BatchArchive);
    delete(&world, &key).await?;
    reached(&gate).await?;
    world.sim.flush().await;
    until_archived(&world, &key, &id).await?;
    gate.release();
    world.settle().await?;
    assert_eq!(world.sim.count(Op::BatchArchive), 1);
    assert_eq!(link(&world, &key, "lifecycle").await?.as_deref(), Some("archived"));
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_an_archive_is_found_out() -> Result<()> {
    let world = world("archive_lost", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.hold_webhooks();
    world.sim.fault(Fault {
        op: Op::BatchArchive,
        kind: FaultKind::CloseAfterApply,
        times: 1,
    });
    delete(&world, &key).await?;
    until_archived(&world, &key, &id).await?;
    assert_eq!(world.sim.count(Op::BatchArchive), 1);
    world.sim.release_webhooks();
    world.settle().await?;
    assert_eq!(link(&world, &key, "lifecycle").await?.as_deref(), Some("archived"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_archive_waits_for_a_person() -> Result<()> {
    let world = world("archive_refused", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.fault(Fault {
        op: Op::BatchArchive,
        kind: FaultKind::Status(400),
        times: 1,
    });
    delete(&world, &key).await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    world.settle().await?;
    assert_eq!(link(&world, &key, "lifecycle").await?.as_deref(), Some("refused"));
    assert!(!is_archived(&world, &id));
    world.sql.query_one("SELECT hubspot.retry_failed()", &[]).await?;
    until_archived(&world, &key, &id).await
}

/// The row is deleted and HubSpot's name is edited, each without knowing of the other.
async fn concurrent(world: &mut World, edit_first: bool) -> Result<(String, String)> {
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    apart(world).await?;
    if edit_first {
        world.person_sets(&id, "name", "There")?;
        world.later().await?;
    }
    delete(world, &key).await?;
    world.later().await?;
    if !edit_first {
        world.person_sets(&id, "name", "There")?;
    }
    together(world).await?;
    Ok((key, id))
}

async fn stands(name: &str, strategy: &str, edit_first: bool) -> Result<()> {
    let mut world = world(name, strategy).await?;
    let (key, id) = concurrent(&mut world, edit_first).await?;
    until_archived(&world, &key, &id).await?;
    world.settle().await?;
    assert_eq!(
        conflict(&world).await?,
        delete_update(None, Some("There"), Some("WARP"))
    );
    // It says who stands on either side.
    let who = "warp_changed_by = 'postgres' AND hubspot_changed_by LIKE 'CRM_UI %'";
    assert_eq!(world.count(&format!("FROM hubspot.conflicts WHERE {who}")).await?, 1);
    ledger_is_complete(&world).await
}

async fn yields(name: &str, strategy: &str, edit_first: bool) -> Result<()> {
    let mut world = world(name, strategy).await?;
    let (key, id) = concurrent(&mut world, edit_first).await?;
    world.until("EXISTS (SELECT 1 FROM hubspot.conflicts)").await?;
    world.settle().await?;
    assert_eq!(
        conflict(&world).await?,
        delete_update(None, Some("There"), Some("HUBSPOT"))
    );
    assert!(!is_archived(&world, &id));
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some("There"));
    assert_eq!(link(&world, &key, "lifecycle").await?, None);
    assert_eq!(world.sim.count(Op::BatchArchive), 0);
    ledger_is_complete(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_against_update_warp_wins() -> Result<()> {
    stands("du_warp", "WARP_WINS", false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_against_update_hubspot_wins() -> Result<()> {
    yields("du_hubspot", "HUBSPOT_WINS", true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_against_update_the_deletion_is_later() -> Result<()> {
    stands("du_later", "LATEST_WINS", true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_against_update_the_edit_is_later() -> Result<()> {
    yields("du_earlier", "LATEST_WINS", false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_against_update_waits_for_a_person() -> Result<()> {
    for winner in ["WARP", "HUBSPOT"] {
        let mut world = world(&format!("du_manual_{}", winner.to_lowercase()), "MANUAL").await?;
        let (key, id) = concurrent(&mut world, true).await?;
        world.until("EXISTS (SELECT 1 FROM hubspot.conflicts)").await?;
        world.settle().await?;
        assert_eq!(conflict(&world).await?, delete_update(None, Some("There"), None));
        assert_eq!(link(&world, &key, "lifecycle").await?.as_deref(), Some("held"));
        assert_eq!(
            world.state(&key, "company_name", "status").await?.as_deref(),
            Some("conflict")
        );
        assert!(!is_archived(&world, &id));
        let value = world
            .sql
            .query_one(
                "SELECT hubspot.resolve_conflict(id, 'VALUE', 'x') FROM hubspot.conflicts",
                &[],
            )
            .await
            .expect_err("a third value decides nothing about a deletion");
        assert_eq!(value.code().map(|c| c.code()), Some("22023"));
        world
            .sql
            .query_one(
                "SELECT hubspot.resolve_conflict(id, $1) FROM hubspot.conflicts",
                &[&winner],
            )
            .await?;
        if winner == "WARP" {
            until_archived(&world, &key, &id).await?;
        }
        world.settle().await?;
        assert_eq!(is_archived(&world, &id), winner == "WARP");
        assert_eq!(
            conflict(&world).await?,
            delete_update(None, Some("There"), Some(winner))
        );
    }
    Ok(())
}

/// An edit between our look and our archive cannot be prevented: it is found, and its author is not passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_our_archive_buried_is_shown_to_a_person() -> Result<()> {
    let world = world("du_buried", "HUBSPOT_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let gate = world.sim.gate_before(Op::BatchArchive);
    delete(&world, &key).await?;
    reached(&gate).await?;
    world.person_sets(&id, "name", "There")?;
    gate.release();
    until_archived(&world, &key, &id).await?;
    world.settle().await?;
    assert_eq!(conflict(&world).await?, delete_update(None, Some("There"), None));
    let refused = world
        .sql
        .query_one(
            "SELECT hubspot.resolve_conflict(id, 'HUBSPOT') FROM hubspot.conflicts",
            &[],
        )
        .await
        .expect_err("HubSpot has no call that restores");
    assert_eq!(refused.code().map(|c| c.code()), Some("55000"));
    world
        .sim
        .ui_restore("companies", &id)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world.settle().await?;
    assert_eq!(
        conflict(&world).await?,
        delete_update(None, Some("There"), Some("HUBSPOT"))
    );
    assert_eq!(link(&world, &key, "lifecycle").await?, None);
    assert_eq!(link(&world, &key, "status").await?.as_deref(), Some("deleted_here"));
    Ok(())
}

/// Inserts the customer again under its key.
async fn insert_again(world: &World, key: &str, ban: &str, name: &str) -> Result<()> {
    world
        .sql
        .execute(
            &format!(
                "INSERT INTO customers (id, ban, company_name, status, contact, address) OVERRIDING SYSTEM VALUE
                 VALUES ({key}, '{ban}', '{name}', 'ACTIVE', '{{}}', '{{}}')"
            ),
            &[],
        )
        .await?;
    Ok(())
}

/// The row has a living record that holds its name, and is not the one it had.
async fn has_another_record(world: &World, key: &str, old: &str, name: &str) -> Result<()> {
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.link WHERE entity_key = '{key}' AND status = 'linked' AND hubspot_id <> '{old}')"
        ))
        .await?;
    world.settle().await?;
    let id = world.hubspot_id(key).await?.context("the new id")?;
    assert!(!is_archived(world, &id));
    assert!(is_archived(world, old));
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some(name));
    assert_eq!(
        world.row(key, "external_ids->>'hubspot_company_id'").await?,
        Some(id.clone())
    );
    for column in ["warp_value", "hubspot_value", "base_value"] {
        assert_eq!(
            world.state(key, "company_name", column).await?.as_deref(),
            Some(name),
            "{column}"
        );
    }
    assert_eq!(
        world.state(key, "company_name", "status").await?.as_deref(),
        Some("in_sync")
    );
    assert_eq!(
        world.sim.records("companies").iter().filter(|r| !r.archived).count(),
        1,
        "one living record for one row"
    );
    // It is a record like any other.
    world.person_sets(&id, "name", "From there")?;
    world.settle().await?;
    assert_eq!(world.row(key, "company_name").await?.as_deref(), Some("From there"));
    ledger_is_complete(world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_comes_back_after_its_archive_gets_a_record_again() -> Result<()> {
    let world = world("archive_back", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    delete(&world, &key).await?;
    until_archived(&world, &key, &id).await?;
    insert_again(&world, &key, "BAN-1", "Acme again").await?;
    has_another_record(&world, &key, &id, "Acme again").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_comes_back_during_its_archive_gets_a_record_again() -> Result<()> {
    let world = world("archive_back_during", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let gate = world.sim.gate_before(Op::BatchArchive);
    delete(&world, &key).await?;
    reached(&gate).await?;
    insert_again(&world, &key, "BAN-1", "Acme again").await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.capture)").await?;
    gate.release();
    has_another_record(&world, &key, &id, "Acme again").await
}

/// The archive is given up (its connection breaks), the row comes back and is compared, and only then the archive lands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_lands_late_on_a_row_that_came_back_makes_another_record() -> Result<()> {
    let world = world("archive_late", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.fault(Fault {
        op: Op::BatchArchive,
        kind: FaultKind::LateApply(1500),
        times: 1,
    });
    delete(&world, &key).await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.link WHERE lifecycle = 'archiving')")
        .await?;
    insert_again(&world, &key, "BAN-1", "Acme again").await?;
    has_another_record(&world, &key, &id, "Acme again").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_comes_back_in_time_keeps_its_record() -> Result<()> {
    let mut world = world("archive_back_early", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    apart(&mut world).await?;
    delete(&world, &key).await?;
    insert_again(&world, &key, "BAN-1", "Acme again").await?;
    together(&mut world).await?;
    world.until_hubspot(&id, "name", Some("Acme again")).await?;
    world.settle().await?;
    assert_eq!(world.sim.count(Op::BatchArchive), 0);
    assert_eq!(world.sim.records("companies").len(), 1);
    ledger_is_complete(&world).await
}

/// As loaders do it: the row is deleted and inserted under another key, with the same match value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_in_another_rows_place_keeps_the_record() -> Result<()> {
    let mut world = world("archive_replaced", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    apart(&mut world).await?;
    delete(&world, &key).await?;
    let other = world.insert("BAN-1", "Acme again").await?;
    together(&mut world).await?;
    world.until_hubspot(&id, "name", Some("Acme again")).await?;
    world.settle().await?;
    assert_eq!(world.hubspot_id(&other).await?.as_deref(), Some(id.as_str()));
    assert_eq!(world.hubspot_id(&key).await?, None);
    assert_eq!(world.sim.count(Op::BatchArchive), 0);
    ledger_is_complete(&world).await
}

/// The row is deleted while its record is being created: the record does not stay behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_deleted_while_its_record_is_created_leaves_none() -> Result<()> {
    let world = world("archive_creating", "LATEST_WINS").await?;
    let gate = world.sim.gate(Op::BatchUpsert);
    let key = world.insert("BAN-1", "Acme").await?;
    reached(&gate).await?;
    delete(&world, &key).await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.capture)").await?;
    gate.release();
    world
        .until("EXISTS (SELECT 1 FROM hubspot.link WHERE lifecycle = 'archived')")
        .await?;
    world.settle().await?;
    assert!(world.sim.records("companies").iter().all(|record| record.archived));
    ledger_is_complete(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_a_deleted_rows_record_stays() -> Result<()> {
    let world = super::world("archive_not", "LATEST_WINS", json!({})).await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    delete(&world, &key).await?;
    world.settle().await?;
    assert!(!is_archived(&world, &id));
    assert_eq!(world.sim.count(Op::BatchArchive), 0);
    ledger_is_complete(&world).await
}
