//! Writes that HubSpot applies long after they were given up.

use std::time::Duration;

use anyhow::Result;
use hubspot_sync_tests::simulator::{Fault, FaultKind, Op};
use hubspot_sync_tests::world::World;
use serde_json::json;

fn lands_late(ms: u64) -> Fault {
    Fault {
        op: Op::BatchUpdate,
        kind: FaultKind::LateApply(ms),
        times: 1,
    }
}

/// Both sides hold the value, and every edit has its end.
async fn settled_on(world: &World, key: &str, id: &str, value: &str) -> Result<()> {
    assert_eq!(world.row(key, "company_name").await?.as_deref(), Some(value));
    assert_eq!(world.hubspot(id, "name").as_deref(), Some(value));
    for (column, expected) in [("base_value", value), ("status", "in_sync")] {
        assert_eq!(
            world.state(key, "company_name", column).await?.as_deref(),
            Some(expected)
        );
    }
    assert_eq!(
        world
            .count("FROM hubspot.sync_log WHERE action = 'edit' AND outcome IS NULL")
            .await?,
        0
    );
    Ok(())
}

/// A write whose connection broke lands after a later one of ours: HubSpot ends on the newest value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_lands_late_does_not_win() -> Result<()> {
    let world = World::start("late_write").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.fault(lands_late(1500));
    world.update(&key, "company_name = 'Old'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.sync_log WHERE action = 'retry')")
        .await?;
    world.update(&key, "company_name = 'New'").await?;
    world.until_hubspot(&id, "name", Some("New")).await?;
    // The late write lands.
    world.until_hubspot(&id, "name", Some("Old")).await?;
    world.until_hubspot(&id, "name", Some("New")).await?;
    world.settle().await?;
    assert_eq!(world.versions(&id, "name").last().map(String::as_str), Some("New"));
    settled_on(&world, &key, &id, "New").await?;
    assert_eq!(world.logged(&key, "company_name", "late_write").await?, 1);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    Ok(())
}

/// A write that was given up lands late, and its event comes while a later write of the same value is on its way: it does
/// not pass for that one, so the row's newer edit keeps its place before HubSpot's older one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_lands_late_does_not_pass_for_a_later_one() -> Result<()> {
    let world = World::start_with("late_repeated", |m| {
        m["company_name"]["conflict_resolution"] = json!("LATEST_WINS")
    })
    .await?;
    let (key, id) = world.linked("BAN-1", "A").await?;
    world.sim.fault(lands_late(4_000));
    world.update(&key, "company_name = 'B'").await?;
    world.until_hubspot(&id, "name", Some("B")).await?;
    world.settle().await?;
    world.person_sets(&id, "name", "A")?;
    world
        .until(&format!("(SELECT company_name = 'A' FROM customers WHERE id = {key})"))
        .await?;
    world.settle().await?;
    world.sim.hold_webhooks();
    // The write that was given up lands, and a person sets A once more.
    world.until_hubspot(&id, "name", Some("B")).await?;
    world.later().await?;
    world.person_sets(&id, "name", "A")?;
    // Later than the clocks' uncertainty.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let gate = world.sim.gate(Op::BatchUpdate);
    world.update(&key, "company_name = 'B'").await?;
    tokio::time::timeout(Duration::from_secs(30), gate.reached()).await?;
    let echoes = world.logged(&key, "company_name", "echo").await?;
    assert_eq!(world.sim.deliver_held(late(&world, &id)), 1, "the late write's event");
    world
        .until(&format!(
            "(SELECT count(*) > {echoes} FROM hubspot.sync_log WHERE field = 'company_name' AND action = 'echo')"
        ))
        .await?;
    gate.release();
    world.sim.release_webhooks();
    world.settle().await?;
    assert_eq!(world.versions(&id, "name"), ["A", "B", "A", "B", "A", "B"]);
    settled_on(&world, &key, &id, "B").await
}

/// Picks the event of the fourth version of the name: A, B, A, and B again, late.
fn late(world: &World, id: &str) -> impl FnMut(&serde_json::Value) -> bool {
    let mut oldest_first = world.sim.history("companies", id, "name");
    oldest_first.reverse();
    let at = oldest_first.get(3).map(|v| v.timestamp_ms);
    move |event| event["propertyValue"] == "B" && event["occurredAt"].as_i64() == at
}
