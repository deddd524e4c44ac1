//! Our write lands over an edit that nobody here knew of yet.

use super::{
    agreed_on, both_modified, conflict, edit_here, edit_there, facts, strategy, times_are_those_of_the_edits, warp_won,
};
use anyhow::Result;
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;

/// HubSpot's edit whose webhook is late, and our write that lands over it without a look: the value is known and fresh.
pub(super) async fn buried(name: &str, winner: &'static str) -> Result<(World, String, String)> {
    let world = World::start_with(name, strategy(winner)).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.hold_webhooks();
    world.sim.clear_log();
    edit_there(&world, &id, "There").await?;
    edit_here(&world, &key, "Here").await?;
    world.until_hubspot(&id, "name", Some("Here")).await?;
    world.settle().await?;
    assert_eq!(world.sim.count(Op::BatchRead), 0, "the look was skipped");
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0, "nobody knows yet");
    world.sim.release_webhooks();
    world.settle().await?;
    Ok((world, key, id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buried_edit_that_loses_is_on_record() -> Result<()> {
    for (name, winner) in [("buried_latest", "LATEST_WINS"), ("buried_warp", "WARP_WINS")] {
        let (world, key, id) = buried(name, winner).await?;
        // Found after our value had been delivered: that is what both sides agreed on.
        warp_won(&world, &key, &id, winner, "Here").await?;
        assert_eq!(world.sim.count(Op::BatchUpdate), 1, "nothing to repair");
    }
    Ok(())
}

/// The row got HubSpot's value, and HubSpot was given it back.
async fn repaired(world: &World, key: &str, id: &str, strategy: &str) -> Result<()> {
    agreed_on(world, key, id, "There", Some("HUBSPOT")).await?;
    assert_eq!(
        facts(&conflict(world).await?),
        both_modified(strategy, "HUBSPOT", "Here")
    );
    times_are_those_of_the_edits(world, key, id).await?;
    assert_eq!(world.versions(id, "name"), ["Base", "There", "Here", "There"]);
    assert_eq!(world.outcomes(key, "company_name").await?, ["delivered", "delivered"]);
    assert_eq!(world.logged(key, "company_name", "conflict").await?, 1);
    assert_eq!(world.sim.count(Op::BatchUpdate), 2, "our write and the repair");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buried_edit_that_wins_is_brought_back() -> Result<()> {
    let (world, key, id) = buried("buried_hubspot", "HUBSPOT_WINS").await?;
    repaired(&world, &key, &id, "HUBSPOT_WINS").await
}

/// HubSpot's edit comes between our look and our write.
pub(super) async fn between_look_and_write(name: &str, winner: &'static str) -> Result<(World, String, String)> {
    let world = World::start_with(name, strategy(winner)).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.clear_log();
    world.sim.hold_webhooks();
    let gate = world.sim.gate_before(Op::BatchUpdate);
    edit_here(&world, &key, "Here").await?;
    gate.reached().await;
    edit_there(&world, &id, "There").await?;
    gate.release();
    world.until_hubspot(&id, "name", Some("Here")).await?;
    world.settle().await?;
    world.sim.release_webhooks();
    world.settle().await?;
    Ok((world, key, id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newer_edit_that_our_write_buried_is_brought_back() -> Result<()> {
    let (world, key, id) = between_look_and_write("buried_newer", "LATEST_WINS").await?;
    repaired(&world, &key, &id, "LATEST_WINS").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_during_our_write_waits_for_its_outcome() -> Result<()> {
    let world = World::start_with("buried_waits", strategy("LATEST_WINS")).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.clear_log();
    let gate = world.sim.gate_before(Op::BatchUpdate);
    edit_here(&world, &key, "Here").await?;
    gate.reached().await;
    edit_there(&world, &id, "There").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE status = 'waiting')")
        .await?;
    assert_eq!(
        world.count("FROM hubspot.conflicts").await?,
        0,
        "the order is not known yet"
    );
    gate.release();
    world.settle().await?;
    repaired(&world, &key, &id, "LATEST_WINS").await
}

/// After our write, by someone who saw our value: no conflict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_after_our_write_is_no_conflict_although_it_comes_before_the_answer() -> Result<()> {
    let world = World::start_with("after_ours", strategy("WARP_WINS")).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.hold_webhooks();
    let gate = world.sim.gate(Op::BatchUpdate);
    edit_here(&world, &key, "Here").await?;
    gate.reached().await;
    edit_there(&world, &id, "There").await?;
    world.sim.deliver_held(|e| e["propertyValue"] == "There");
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE status = 'waiting')")
        .await?;
    gate.release();
    world
        .until(&format!(
            "(SELECT company_name = 'There' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.sim.release_webhooks();
    world.settle().await?;
    agreed_on(&world, &key, &id, "There", None).await?;
    assert_eq!(world.versions(&id, "name"), ["Base", "Here", "There"]);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
    Ok(())
}

/// HubSpot's edit and the echo of our write that came after it arrive together, before our write is answered: the echo
/// tells the outcome, and the edit that waited for it is taken up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_waits_is_taken_up_when_the_echo_tells_the_outcome() -> Result<()> {
    let world = World::start_with("page_of_two", strategy("HUBSPOT_WINS")).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.clear_log();
    world.sim.hold_webhooks();
    let before = world.sim.gate_before(Op::BatchUpdate);
    let after = world.sim.gate(Op::BatchUpdate);
    edit_here(&world, &key, "Here").await?;
    before.reached().await;
    edit_there(&world, &id, "There").await?;
    before.release();
    after.reached().await;
    assert_eq!(world.sim.held_webhooks().len(), 2, "There, and the echo of Here");
    world.sim.release_webhooks();
    world
        .until("(SELECT count(*) FROM hubspot.webhook_events WHERE event->>'propertyValue' IN ('Here', 'There')) = 2")
        .await?;
    world
        .until(&format!("(SELECT count(*) FROM hubspot.sync_log WHERE entity_key = '{key}' AND action = 'echo' AND hubspot_value = 'Here') = 1"))
        .await?;
    after.release();
    world.settle().await?;
    repaired(&world, &key, &id, "HUBSPOT_WINS").await
}
