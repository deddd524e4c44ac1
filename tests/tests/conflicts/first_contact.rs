//! Row and record meet for the first time and differ.

use super::person::{resolve, resolved};
use super::{agreed_on, conflict, facts, strategy};
use anyhow::Context as _;
use anyhow::Result;
use hubspot_sync_tests::world::World;
use serde_json::Value as Json;
use serde_json::json;

/// A row and a company that never met: found by the BAN or by the id that the row holds.
async fn first_met(name: &str, winner: &'static str, by_id: bool, row_first: bool) -> Result<(World, String, String)> {
    let mut world = World::without_relay(name, strategy(winner)).await?;
    let insert = |id: Option<String>| {
        let ids = id.map_or_else(
            || "NULL".to_owned(),
            |id| format!("'{{\"hubspot_company_id\":\"{id}\"}}'"),
        );
        format!(
            "INSERT INTO customers (ban, company_name, contact, external_ids) VALUES ('BAN-1', 'Here', '{{}}', {ids}) RETURNING id::text"
        )
    };
    let company = if by_id {
        vec![("name", "There"), ("phone", "+41 1")]
    } else {
        vec![("name", "There"), ("phone", "+41 1"), ("warp_ban", "BAN-1")]
    };
    let (key, id): (String, String) = if row_first {
        let key = world.sql.query_one(&insert(None), &[]).await?.get(0);
        world.later().await?;
        (key, world.person_creates(&company)?)
    } else {
        let id = world.person_creates(&company)?;
        world.later().await?;
        let key = world
            .sql
            .query_one(&insert(by_id.then(|| id.clone())), &[])
            .await?
            .get(0);
        (key, id)
    };
    world.start_relay("").await?;
    world.settle().await?;
    assert_eq!(world.hubspot_id(&key).await?.as_deref(), Some(id.as_str()));
    assert_eq!(world.sim.records("companies").len(), 1);
    // An empty side yields to a filled one, without a conflict.
    assert_eq!(world.row(&key, "contact->>'phone'").await?.as_deref(), Some("+41 1"));
    Ok((world, key, id))
}

fn mismatch(strategy: &str, winner: Option<&str>) -> Json {
    json!({"entity_type": "customer", "field": "company_name", "kind": "INITIAL_MISMATCH", "warp_value": "Here",
           "hubspot_value": "There", "base_value": null, "strategy": strategy,
           "status": if winner.is_some() { "resolved" } else { "open" }, "winner": winner,
           "resolved_by": winner.map(|_| "policy")})
}

/// A first contact that the policy decided: who won, HubSpot's versions, and how the row's edit ended.
async fn mismatch_ends(
    (world, key, id): &(World, String, String),
    strategy: &str,
    winner: &str,
    versions: &[&str],
    outcome: &str,
) -> Result<()> {
    let value = if winner == "WARP" { "Here" } else { "There" };
    assert_eq!(facts(&conflict(world).await?), mismatch(strategy, Some(winner)));
    agreed_on(world, key, id, value, Some(winner)).await?;
    assert_eq!(world.versions(id, "name"), versions);
    assert_eq!(world.outcomes(key, "company_name").await?, [outcome]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_warp_wins() -> Result<()> {
    let met = first_met("mismatch_warp", "WARP_WINS", false, true).await?;
    mismatch_ends(&met, "WARP_WINS", "WARP", &["There", "Here"], "delivered").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_hubspot_wins() -> Result<()> {
    let met = first_met("mismatch_hubspot", "HUBSPOT_WINS", true, false).await?;
    mismatch_ends(&met, "HUBSPOT_WINS", "HUBSPOT", &["There"], "lost_conflict").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_the_row_is_newer() -> Result<()> {
    let met = first_met("mismatch_row", "LATEST_WINS", true, false).await?;
    mismatch_ends(&met, "LATEST_WINS", "WARP", &["There", "Here"], "delivered").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_hubspot_is_newer() -> Result<()> {
    let met = first_met("mismatch_there", "LATEST_WINS", false, true).await?;
    mismatch_ends(&met, "LATEST_WINS", "HUBSPOT", &["There"], "lost_conflict").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_is_held_for_a_person() -> Result<()> {
    for (name, by_id) in [("mismatch_manual_ban", false), ("mismatch_manual_id", true)] {
        let (world, key, id) = first_met(name, "MANUAL", by_id, false).await?;
        let open = conflict(&world).await?;
        assert_eq!(facts(&open), mismatch("MANUAL", None));
        assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Here"));
        assert_eq!(world.versions(&id, "name"), ["There"]);
        assert_eq!(
            world.state(&key, "company_name", "status").await?.as_deref(),
            Some("conflict")
        );
        let conflict_id = open["id"].as_i64().context("id")?;
        let by = resolve(&world, conflict_id, "WARP", None).await?;
        resolved(&world, "WARP", &by).await?;
        agreed_on(&world, &key, &id, "Here", Some("WARP")).await?;
        assert_eq!(world.versions(&id, "name"), ["There", "Here"]);
    }
    Ok(())
}
