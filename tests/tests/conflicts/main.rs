//! Both sides edited the same field: who wins, what is written where, and what is on record.

mod buried;
mod first_contact;
mod person;
mod policy;

use anyhow::Context as _;
use anyhow::Result;
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;
use serde_json::Value as Json;
use serde_json::json;

/// Settings of a relay that always looks at HubSpot before it writes.
const ALWAYS_LOOK: &str = "[cache]\nttl = \"0s\"";

/// Names who wins for `company_name`.
fn strategy(name: &'static str) -> impl FnOnce(&mut Json) {
    move |mapping| mapping["company_name"]["conflict_resolution"] = json!(name)
}

/// A customer both sides know as `Base`, and nobody between the two sides any more.
async fn apart(name: &str, winner: &'static str) -> Result<(World, String, String)> {
    let mut world = World::start_with(name, strategy(winner)).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.hold_webhooks();
    world.take_relay().context("the relay")?.stop().await;
    world.sim.clear_log();
    Ok((world, key, id))
}

async fn edit_here(world: &World, key: &str, name: &str) -> Result<()> {
    world.later().await?;
    world.update(key, &format!("company_name = '{name}'")).await
}

async fn edit_there(world: &World, id: &str, name: &str) -> Result<()> {
    world.later().await?;
    world.person_sets(id, "name", name)
}

/// A relay that looks before it writes, then the webhooks that were held.
async fn together(world: &mut World) -> Result<()> {
    world.start_relay(ALWAYS_LOOK).await?;
    world.settle().await?;
    world.sim.release_webhooks();
    world.settle().await
}

/// The one conflict there is.
async fn conflict(world: &World) -> Result<Json> {
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 1, "conflicts");
    let row = world
        .sql
        .query_one("SELECT to_jsonb(c) FROM hubspot.conflicts c", &[])
        .await?;
    Ok(row.get(0))
}

/// Members of an object.
fn part(of: &Json, names: &[&str]) -> Json {
    Json::Object(
        names
            .iter()
            .map(|name| ((*name).to_owned(), of[*name].clone()))
            .collect(),
    )
}

/// What a conflict says about itself, without times and ids.
fn facts(conflict: &Json) -> Json {
    part(
        conflict,
        &[
            "entity_type",
            "field",
            "kind",
            "warp_value",
            "hubspot_value",
            "base_value",
            "strategy",
            "status",
            "winner",
            "resolved_by",
        ],
    )
}

/// The conflict of the concurrent edits `Here` and `There`; `base` is what both sides last agreed on when it was found.
fn both_modified(strategy: &str, winner: &str, base: &str) -> Json {
    json!({"entity_type": "customer", "field": "company_name", "kind": "BOTH_MODIFIED", "warp_value": "Here",
           "hubspot_value": "There", "base_value": base, "strategy": strategy, "status": "resolved", "winner": winner,
           "resolved_by": "policy"})
}

/// The conflict's times are those of the edits, to the microsecond here and to the millisecond there.
async fn times_are_those_of_the_edits(world: &World, key: &str, id: &str) -> Result<()> {
    let history = world.sim.history("companies", id, "name");
    let there = history
        .iter()
        .find(|v| v.value == "There" && v.source_type == "CRM_UI")
        .context("HubSpot's edit")?
        .timestamp_ms;
    let matching = world
        .count(&format!(
            "FROM hubspot.conflicts c JOIN hubspot.sync_log l ON l.entity_key = c.entity_key AND l.field = c.field
             WHERE c.entity_key = '{key}' AND l.action = 'edit' AND l.warp_value = 'Here' AND c.warp_changed_at = l.edited_at
               AND (extract(epoch FROM c.hubspot_changed_at) * 1000)::bigint = {there}"
        ))
        .await?;
    assert_eq!(matching, 1, "{}", conflict(world).await?);
    Ok(())
}

/// Both sides hold the value, and the state says so.
async fn agreed_on(world: &World, key: &str, id: &str, value: &str, winner: Option<&str>) -> Result<()> {
    assert_eq!(
        world.row(key, "company_name").await?.as_deref(),
        Some(value),
        "the row\n{}",
        world.picture().await?
    );
    assert_eq!(
        world.hubspot(id, "name").as_deref(),
        Some(value),
        "HubSpot\n{}",
        world.picture().await?
    );
    for (column, expected) in [
        ("status", Some("in_sync")),
        ("warp_value", Some(value)),
        ("hubspot_value", Some(value)),
        ("base_value", Some(value)),
        ("winner", winner),
    ] {
        assert_eq!(
            world.state(key, "company_name", column).await?.as_deref(),
            expected,
            "field_state.{column}"
        );
    }
    Ok(())
}

/// The row's value wins against HubSpot's.
async fn warp_won(world: &World, key: &str, id: &str, strategy: &str, base: &str) -> Result<()> {
    agreed_on(world, key, id, "Here", Some("WARP")).await?;
    assert_eq!(facts(&conflict(world).await?), both_modified(strategy, "WARP", base));
    times_are_those_of_the_edits(world, key, id).await?;
    assert_eq!(world.versions(id, "name"), ["Base", "There", "Here"]);
    assert_eq!(world.outcomes(key, "company_name").await?, ["delivered", "delivered"]);
    assert_eq!(world.logged(key, "company_name", "conflict").await?, 1);
    assert_eq!(world.logged(key, "company_name", "inbound").await?, 0);
    Ok(())
}

/// HubSpot's value wins against the row's, which was never sent.
async fn hubspot_won(world: &World, key: &str, id: &str, strategy: &str) -> Result<()> {
    agreed_on(world, key, id, "There", Some("HUBSPOT")).await?;
    assert_eq!(
        facts(&conflict(world).await?),
        both_modified(strategy, "HUBSPOT", "Base")
    );
    times_are_those_of_the_edits(world, key, id).await?;
    assert_eq!(world.versions(id, "name"), ["Base", "There"]);
    assert_eq!(world.sim.count(Op::BatchUpdate), 0, "nothing had to be sent");
    assert_eq!(
        world.outcomes(key, "company_name").await?,
        ["delivered", "lost_conflict"]
    );
    assert_eq!(world.logged(key, "company_name", "conflict").await?, 1);
    assert_eq!(world.logged(key, "company_name", "inbound").await?, 1);
    Ok(())
}
