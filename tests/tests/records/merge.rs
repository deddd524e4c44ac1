//! Merges in HubSpot: ids move, fields conflict by policy, nothing is deleted, whatever order the events come in.

use anyhow::{Context as _, Result, anyhow};
use hubspot_sync_tests::world::World;
use serde_json::{Value as Json, json};

use super::{conflict, ledger_is_complete, link};

async fn world(name: &str, strategy: &str) -> Result<World> {
    // Whatever is deleted must not be deleted by a merge.
    super::world(
        name,
        strategy,
        json!({"on_hubspot_delete": "delete", "on_local_delete": "archive"}),
    )
    .await
}

fn person_merges(world: &World, primary: &str, other: &str) -> Result<String> {
    world
        .sim
        .ui_merge("companies", primary, other)
        .map_err(|e| anyhow!("{e:?}"))
}

fn kind(name: &'static str) -> impl FnMut(&Json) -> bool {
    move |event| event["subscriptionType"] == name
}

async fn until_follows(world: &World, key: &str, survivor: &str) -> Result<()> {
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.link WHERE entity_key = '{key}' AND status = 'linked' AND hubspot_id = '{survivor}' AND contacted)"
        ))
        .await
}

/// Nothing was deleted on either side.
async fn nothing_is_deleted(world: &World, rows: i64) -> Result<()> {
    assert_eq!(world.count("FROM customers").await?, rows);
    assert!(world.sim.records("companies").iter().all(|record| !record.archived));
    assert_eq!(
        world
            .count("FROM hubspot.link WHERE status IN ('deleted_here', 'deleted_there', 'missing')")
            .await?,
        0
    );
    ledger_is_complete(world).await
}

/// Two customers, the first linked to `primary`, the second to `other`.
async fn two(world: &World) -> Result<[(String, String); 2]> {
    Ok([
        world.linked("BAN-1", "First").await?,
        world.linked("BAN-2", "Second").await?,
    ])
}

/// The row of the primary record follows, the other row is parked; both rows are as they were.
async fn primary_follows(world: &World, primary: &str, loser: &str, survivor: &str) -> Result<()> {
    until_follows(world, primary, survivor).await?;
    world.settle().await?;
    assert_eq!(
        link(world, loser, "status").await?.as_deref(),
        Some("parked"),
        "{}",
        world.picture().await?
    );
    let open = world
        .text("SELECT entity_key FROM hubspot.failed_syncs WHERE status = 'open' AND kind = 'unlinked'")
        .await?;
    assert_eq!(open.as_deref(), Some(loser));
    assert_eq!(
        world
            .row(primary, "external_ids->>'hubspot_company_id'")
            .await?
            .as_deref(),
        Some(survivor)
    );
    nothing_is_deleted(world, 2).await?;
    // The survivor goes on with its row.
    world.update(primary, "company_name = 'Goes on'").await?;
    world.until_hubspot(survivor, "name", Some("Goes on")).await?;
    // An edit of the parked row makes no second record of what a person has just merged.
    world.update(loser, "company_name = 'Parked edit'").await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.capture)").await?;
    world.settle().await?;
    assert_eq!(world.sim.records("companies").len(), 1);
    assert_eq!(world.hubspot(survivor, "name").as_deref(), Some("Goes on"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_of_the_primary_record_follows_to_the_new_id() -> Result<()> {
    let world = world("merge", "LATEST_WINS").await?;
    // The primary record belongs to the younger row: its number decides nothing.
    let [(loser, other), (key, primary)] = two(&world).await?;
    let survivor = person_merges(&world, &primary, &other)?;
    assert_ne!(survivor, primary);
    primary_follows(&world, &key, &loser, &survivor).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_that_keeps_the_primary_id() -> Result<()> {
    let world = world("merge_kept", "LATEST_WINS").await?;
    world
        .sim
        .set_behaviour(|behaviour| behaviour.merge_keeps_primary = true);
    let [(loser, other), (key, primary)] = two(&world).await?;
    let survivor = person_merges(&world, &primary, &other)?;
    assert_eq!(survivor, primary);
    primary_follows(&world, &key, &loser, &survivor).await
}

/// The deletions of the records that were merged come first: each is looked up, and found to live on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deletions_come_before_the_merge() -> Result<()> {
    let world = world("merge_late", "LATEST_WINS").await?;
    let [(loser, other), (key, primary)] = two(&world).await?;
    world.sim.hold_webhooks();
    let survivor = person_merges(&world, &primary, &other)?;
    assert_eq!(world.sim.deliver_held(kind("company.deletion")), 2);
    // Without the event nobody knows which row is meant: one has the survivor, the other waits for a person.
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.link WHERE status = 'linked' AND hubspot_id = '{survivor}' AND contacted)
             AND EXISTS (SELECT 1 FROM hubspot.link WHERE status = 'parked')"
        ))
        .await?;
    nothing_is_deleted(&world, 2).await?;
    assert_eq!(world.sim.deliver_held(kind("company.merge")), 1);
    world.sim.release_webhooks();
    primary_follows(&world, &key, &loser, &survivor).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_merge_comes_before_the_deletions() -> Result<()> {
    let world = world("merge_first", "LATEST_WINS").await?;
    let [(loser, other), (key, primary)] = two(&world).await?;
    world.sim.hold_webhooks();
    let survivor = person_merges(&world, &primary, &other)?;
    assert_eq!(world.sim.deliver_held(kind("company.merge")), 1);
    until_follows(&world, &key, &survivor).await?;
    world.sim.release_webhooks();
    primary_follows(&world, &key, &loser, &survivor).await
}

/// Only the deletion is heard of, never the merge: the one row there is follows all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_that_is_never_heard_of() -> Result<()> {
    let world = world("merge_lost", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let primary = world.person_creates(&[("name", "Unknown here"), ("phone", "999")])?;
    world.settle().await?;
    world.sim.hold_webhooks();
    let survivor = person_merges(&world, &primary, &id)?;
    world.sim.discard_held(kind("company.merge"));
    world.sim.release_webhooks();
    until_follows(&world, &key, &survivor).await?;
    world.settle().await?;
    assert_eq!(world.row(&key, "contact->>'phone'").await?.as_deref(), Some("999"));
    nothing_is_deleted(&world, 1).await
}

/// The row's record goes into one that nobody here knew, whose name is older than what was seen in the row's record.
async fn into_an_older_one(name: &str, strategy: &str) -> Result<(World, String, String)> {
    let world = world(name, strategy).await?;
    let primary = world.person_creates(&[("name", "Older there"), ("phone", "999")])?;
    world.settle().await?;
    world.later().await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.person_sets(&id, "name", "Newer seen")?;
    world.settle().await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Newer seen"));
    let survivor = person_merges(&world, &primary, &id)?;
    until_follows(&world, &key, &survivor).await?;
    world.settle().await?;
    // What only one of the two records knew is kept, whoever wins.
    assert_eq!(world.row(&key, "contact->>'phone'").await?.as_deref(), Some("999"));
    assert_eq!(world.hubspot(&survivor, "warp_ban").as_deref(), Some("BAN-1"));
    nothing_is_deleted(&world, 1).await?;
    Ok((world, key, survivor))
}

async fn both_hold(world: &World, key: &str, id: &str, value: &str) -> Result<()> {
    assert_eq!(world.row(key, "company_name").await?.as_deref(), Some(value));
    assert_eq!(world.hubspot(id, "name").as_deref(), Some(value));
    assert_eq!(
        world.state(key, "company_name", "status").await?.as_deref(),
        Some("in_sync")
    );
    Ok(())
}

fn lost(winner: Option<&str>) -> Json {
    json!({"field": "company_name", "kind": "BOTH_MODIFIED", "warp_value": "Newer seen", "hubspot_value": "Older there",
           "status": if winner.is_some() { "resolved" } else { "open" }, "winner": winner})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_surviving_value_loses_to_the_latest() -> Result<()> {
    let (world, key, id) = into_an_older_one("merge_latest", "LATEST_WINS").await?;
    both_hold(&world, &key, &id, "Newer seen").await?;
    assert_eq!(conflict(&world).await?, lost(Some("WARP")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_surviving_value_wins_where_hubspot_does() -> Result<()> {
    let (world, key, id) = into_an_older_one("merge_hubspot", "HUBSPOT_WINS").await?;
    both_hold(&world, &key, &id, "Older there").await?;
    assert_eq!(conflict(&world).await?, lost(Some("HUBSPOT")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_surviving_value_loses_where_warp_wins() -> Result<()> {
    let (world, key, id) = into_an_older_one("merge_warp", "WARP_WINS").await?;
    both_hold(&world, &key, &id, "Newer seen").await?;
    assert_eq!(conflict(&world).await?, lost(Some("WARP")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_of_different_values_waits_for_a_person() -> Result<()> {
    for (winner, value) in [("WARP", "Newer seen"), ("HUBSPOT", "Older there")] {
        let name = format!("merge_manual_{}", winner.to_lowercase());
        let (world, key, id) = into_an_older_one(&name, "MANUAL").await?;
        assert_eq!(conflict(&world).await?, lost(None));
        assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Newer seen"));
        assert_eq!(world.hubspot(&id, "name").as_deref(), Some("Older there"));
        world
            .sql
            .query_one(
                "SELECT hubspot.resolve_conflict(id, $1) FROM hubspot.conflicts",
                &[&winner],
            )
            .await?;
        world.settle().await?;
        both_hold(&world, &key, &id, value).await?;
    }
    Ok(())
}

/// The row is deleted while its record is merged into another: what belongs to somebody else is not archived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_rows_record_that_was_merged_is_not_archived() -> Result<()> {
    let mut world = world("merge_archive", "LATEST_WINS").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let primary = world.person_creates(&[("name", "Somebody else's")])?;
    super::apart(&mut world).await?;
    let survivor = person_merges(&world, &primary, &id)?;
    super::delete(&world, &key).await?;
    world.start_relay("").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.sync_log WHERE action = 'kept')")
        .await?;
    world.sim.release_webhooks();
    world.settle().await?;
    let record = world.sim.get("companies", &survivor).context("the survivor")?;
    assert!(!record.archived);
    Ok(())
}
