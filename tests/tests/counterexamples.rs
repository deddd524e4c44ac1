//! Schedules that break a synchroniser without its rules, replayed as they are. The others of this kind stand where their
//! subject is: `late`, `takeover`, `echo`, `conflicts`, `records`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::{Gate, Op};
use hubspot_sync_tests::world::World;

async fn reached(gate: &Gate) -> Result<()> {
    tokio::time::timeout(Duration::from_secs(30), gate.reached())
        .await
        .context("no request came to the gate")
}

async fn settled_on(world: &World, key: &str, id: &str, value: &str) -> Result<()> {
    world.settle().await?;
    assert_eq!(
        world.hubspot(id, "name").as_deref(),
        Some(value),
        "{}",
        world.picture().await?
    );
    assert_eq!(world.row(key, "company_name").await?.as_deref(), Some(value));
    for (column, expected) in [("status", "in_sync"), ("base_value", value), ("hubspot_value", value)] {
        assert_eq!(
            world.state(key, "company_name", column).await?.as_deref(),
            Some(expected),
            "{column}"
        );
    }
    Ok(())
}

/// Edits the row, and once more while that edit's write stands at the gate.
async fn edited_at_the_gate(world: &World, gate: &Gate, key: &str, id: &str, when: &str) -> Result<()> {
    world.update(key, &format!("company_name = 'first {when}'")).await?;
    reached(gate).await?;
    world.update(key, &format!("company_name = 'second {when}'")).await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.capture)").await?;
    gate.release();
    world.until_hubspot(id, "name", Some(&format!("second {when}"))).await
}

/// The row is edited between the decision to send and the answer: what was sent is not taken for what the row holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_edit_between_decide_and_complete() -> Result<()> {
    let world = World::start("edit_between").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let gate = world.sim.gate_before(Op::BatchUpdate);
    edited_at_the_gate(&world, &gate, &key, &id, "before HubSpot had it").await?;
    let gate = world.sim.gate(Op::BatchUpdate);
    edited_at_the_gate(&world, &gate, &key, &id, "after HubSpot had it").await?;
    settled_on(&world, &key, &id, "second after HubSpot had it").await?;
    assert_eq!(
        world.versions(&id, "name"),
        [
            "Acme",
            "first before HubSpot had it",
            "second before HubSpot had it",
            "first after HubSpot had it",
            "second after HubSpot had it"
        ]
    );
    assert!(
        world
            .outcomes(&key, "company_name")
            .await?
            .iter()
            .all(|o| o == "delivered")
    );
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    Ok(())
}

/// The answer to our write comes after its echo and after a person's newer edit, which had waited for the outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn complete_after_a_newer_echo() -> Result<()> {
    let world = World::start("newer_echo").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let gate = world.sim.gate(Op::BatchUpdate);
    world.update(&key, "company_name = 'Ours'").await?;
    reached(&gate).await?;
    world.later().await?;
    world.person_sets(&id, "name", "Theirs, newer")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Theirs, newer' FROM customers WHERE id = {key})"
        ))
        .await?;
    gate.release();
    settled_on(&world, &key, &id, "Theirs, newer").await?;
    assert_eq!(world.versions(&id, "name"), ["Acme", "Ours", "Theirs, newer"]);
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    Ok(())
}
