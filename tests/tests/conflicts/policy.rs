//! The policy decides an edit of both sides.

use super::{
    agreed_on, apart, both_modified, conflict, edit_here, edit_there, facts, hubspot_won, part, strategy, together,
    warp_won,
};
use anyhow::Context as _;
use anyhow::Result;
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;
use serde_json::Value as Json;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warp_wins_keeps_the_rows_value() -> Result<()> {
    let (mut world, key, id) = apart("warp_wins", "WARP_WINS").await?;
    edit_here(&world, &key, "Here").await?;
    edit_there(&world, &id, "There").await?;
    together(&mut world).await?;
    warp_won(&world, &key, &id, "WARP_WINS", "Base").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubspot_wins_takes_hubspots_value() -> Result<()> {
    let (mut world, key, id) = apart("hubspot_wins", "HUBSPOT_WINS").await?;
    edit_there(&world, &id, "There").await?;
    edit_here(&world, &key, "Here").await?;
    together(&mut world).await?;
    hubspot_won(&world, &key, &id, "HUBSPOT_WINS").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_wins_keeps_the_row_that_is_newer() -> Result<()> {
    let (mut world, key, id) = apart("latest_row", "LATEST_WINS").await?;
    edit_there(&world, &id, "There").await?;
    edit_here(&world, &key, "Here").await?;
    together(&mut world).await?;
    warp_won(&world, &key, &id, "LATEST_WINS", "Base").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_wins_takes_hubspots_value_that_is_newer() -> Result<()> {
    let (mut world, key, id) = apart("latest_hubspot", "LATEST_WINS").await?;
    edit_here(&world, &key, "Here").await?;
    edit_there(&world, &id, "There").await?;
    together(&mut world).await?;
    hubspot_won(&world, &key, &id, "LATEST_WINS").await
}

/// The webhook tells of the conflict before anything is claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_finds_the_conflict_before_the_claim() -> Result<()> {
    let (mut world, key, id) = apart("by_webhook", "HUBSPOT_WINS").await?;
    edit_here(&world, &key, "Here").await?;
    edit_there(&world, &id, "There").await?;
    let events = Json::Array(world.sim.held_webhooks());
    let stored: i64 = world
        .sql
        .query_one("SELECT hubspot.relay_receive($1)", &[&events])
        .await?
        .get(0);
    assert_eq!(stored, 1);
    world.sql.query_one("SELECT hubspot.relay_apply(100)", &[]).await?;
    assert_eq!(
        facts(&conflict(&world).await?),
        both_modified("HUBSPOT_WINS", "HUBSPOT", "Base")
    );
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("There"));
    together(&mut world).await?;
    hubspot_won(&world, &key, &id, "HUBSPOT_WINS").await?;
    assert_eq!(world.sim.count(Op::BatchRead), 0, "nothing was left to look at");
    Ok(())
}

/// While paused, HubSpot's events are stored and no row is written; afterwards they are applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_stores_events_and_writes_no_row() -> Result<()> {
    let world = World::start_with("paused", strategy("HUBSPOT_WINS")).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sql.query_one("SELECT hubspot.pause()", &[]).await?;
    world.sim.clear_log();
    edit_here(&world, &key, "Here").await?;
    edit_there(&world, &id, "There").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'There')")
        .await?;
    assert_eq!(world.sim.requests().len(), 0, "{:?}", world.sim.requests());
    world.sql.query_one("SELECT hubspot.resume()", &[]).await?;
    world
        .until(&format!(
            "(SELECT company_name = 'There' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some("There"));
    assert_eq!(conflict(&world).await?["winner"], "HUBSPOT");
    Ok(())
}

/// The same value on both sides is no conflict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_edits_are_no_conflict() -> Result<()> {
    let (mut world, key, id) = apart("equal", "MANUAL").await?;
    edit_here(&world, &key, "Same").await?;
    edit_there(&world, &id, "Same").await?;
    together(&mut world).await?;
    agreed_on(&world, &key, &id, "Same", None).await?;
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(world.sim.count(Op::BatchUpdate), 0);
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
    Ok(())
}

/// A complex field's parts are fields of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_an_address_conflict_one_by_one() -> Result<()> {
    let mut world = World::start_with("parts", |m| m["address"]["conflict_resolution"] = json!("HUBSPOT_WINS")).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world
        .update(&key, r#"address = '{"city":"Bern","zip":"3000"}'"#)
        .await?;
    world.settle().await?;
    world.sim.hold_webhooks();
    world.take_relay().context("the relay")?.stop().await;
    world.person_sets(&id, "city", "Basel")?;
    world
        .update(&key, r#"address = '{"city":"Biel","zip":"2500"}'"#)
        .await?;
    together(&mut world).await?;
    assert_eq!(
        world.row(&key, "address").await?.as_deref(),
        Some(r#"{"zip": "2500", "city": "Basel"}"#)
    );
    assert_eq!(world.hubspot(&id, "city").as_deref(), Some("Basel"));
    assert_eq!(world.hubspot(&id, "zip").as_deref(), Some("2500"));
    let row = conflict(&world).await?;
    assert_eq!(
        part(&row, &["field", "warp_value", "hubspot_value", "winner"]),
        json!({"field": "address.city", "warp_value": "Biel", "hubspot_value": "Basel", "winner": "HUBSPOT"})
    );
    assert_eq!(
        world.outcomes(&key, "address.city").await?,
        ["delivered", "lost_conflict"]
    );
    assert_eq!(world.outcomes(&key, "address.zip").await?, ["delivered", "delivered"]);
    Ok(())
}

/// HubSpot's clock is a minute off: edit times are compared as if it were not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_wins_does_not_depend_on_hubspots_clock() -> Result<()> {
    for (name, offset_ms, row_is_newer) in [("clock_ahead", 60_000, true), ("clock_behind", -60_000, false)] {
        let mut world = World::without_relay(name, strategy("LATEST_WINS")).await?;
        world.sim.set_clock_offset(offset_ms);
        world.start_relay("").await?;
        let (key, id) = world.linked("BAN-1", "Base").await?;
        let measured: i64 = world
            .sql
            .query_one("SELECT clock_offset_us FROM hubspot.binding", &[])
            .await?
            .get(0);
        assert!((measured / 1000 - offset_ms).abs() < 1000, "measured {measured} us");
        world.sim.hold_webhooks();
        world.take_relay().context("the relay")?.stop().await;
        if row_is_newer {
            edit_there(&world, &id, "There").await?;
            edit_here(&world, &key, "Here").await?;
        } else {
            edit_here(&world, &key, "Here").await?;
            edit_there(&world, &id, "There").await?;
        }
        together(&mut world).await?;
        let (value, winner) = if row_is_newer {
            ("Here", "WARP")
        } else {
            ("There", "HUBSPOT")
        };
        agreed_on(&world, &key, &id, value, Some(winner)).await?;
        assert_eq!(conflict(&world).await?["winner"], winner, "{name}");
    }
    Ok(())
}
