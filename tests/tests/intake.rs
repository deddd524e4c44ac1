//! Webhooks as HubSpot sends them and as nobody should: forms, limits, and what an acknowledgement promises.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::{Cluster, StopMode};
use hubspot_sync_tests::simulator::signature;
use hubspot_sync_tests::world::World;
use serde_json::{Value as Json, json};

/// Posts a body with this signature, or with the right one; gives the status.
async fn post(world: &World, body: &str, signed: Option<&str>) -> Result<u16> {
    let url = &world.relay().context("no relay")?.webhook_url;
    let now = world.sim.now_ms().to_string();
    let right = signature::v3(world.sim.client_secret(), "POST", url, body.as_bytes(), &now);
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(url)
        .header("content-type", "application/json")
        .header("x-hubspot-signature-v3", signed.unwrap_or(&right))
        .header("x-hubspot-request-timestamp", &now)
        .body(body.to_owned())
        .send()
        .await?;
    Ok(answer.status().as_u16())
}

/// Events that a person's edits of a company's name make, unsent; the values are `<prefix> 0` and so on.
fn edits(world: &World, id: &str, prefix: &str, count: usize) -> Result<Vec<Json>> {
    world.sim.set_webhook_url(None);
    for n in 0..count {
        world.person_sets(id, "name", &format!("{prefix} {n}"))?;
    }
    let events: Vec<Json> = world
        .sim
        .events()
        .into_iter()
        .filter(|event| event["propertyValue"].as_str().is_some_and(|v| v.starts_with(prefix)))
        .collect();
    anyhow::ensure!(events.len() == count, "{} events of {count} edits", events.len());
    Ok(events)
}

const STORED: &str = "FROM hubspot.webhook_events";

/// One event alone, a hundred at once, and again the same: each is stored before it is acknowledged, once, and all end on the
/// newest. What is not HubSpot's, or too much, is refused and leaves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_events_and_hundreds_are_taken_in_and_the_rest_is_refused() -> Result<()> {
    let world = World::start("intake").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let events = edits(&world, &id, "Name", 101)?;
    let before = world.count(STORED).await?;
    assert_eq!(post(&world, &events[0].to_string(), None).await?, 200);
    assert_eq!(
        world.count(STORED).await?,
        before + 1,
        "acknowledged before it was stored"
    );
    let hundred = Json::Array(events[1..].to_vec()).to_string();
    assert_eq!(post(&world, &hundred, None).await?, 200);
    assert_eq!(world.count(STORED).await?, before + 101);
    assert_eq!(post(&world, &hundred, None).await?, 200);
    assert_eq!(
        world.count(STORED).await?,
        before + 101,
        "a repeated event was stored again"
    );
    world
        .until(&format!(
            "(SELECT company_name = 'Name 100' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;

    let too_many = Json::Array(vec![json!({"eventId": 1}); 1_001]).to_string();
    let too_large = json!([{"eventId": 1, "propertyValue": "x".repeat(6 * 1024 * 1024)}]).to_string();
    for (what, body, signed, status) in [
        ("no signature of ours", hundred.as_str(), Some("AAAA"), 401),
        ("not JSON", "{\"eventId\":", None, 400),
        ("no event", "[1, 2]", None, 400),
        ("more events than HubSpot sends", too_many.as_str(), None, 400),
        ("a body beyond the limit", too_large.as_str(), None, 413),
    ] {
        assert_eq!(post(&world, body, signed).await.context(what)?, status, "{what}");
    }
    assert_eq!(world.count(STORED).await?, before + 101, "what was refused was stored");
    assert_eq!(post(&world, "[]", None).await?, 200, "it goes on");
    Ok(())
}

/// The server is stopped at once after the acknowledgement: the event is there and is applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_survives_a_crash() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut world = World::on(&cluster, "intake_crash", |_| ()).await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let events = edits(&world, &id, "Kept", 1)?;
    assert_eq!(post(&world, &events[0].to_string(), None).await?, 200);
    tokio::task::block_in_place(|| cluster.restart(StopMode::Immediate))?;
    world.reconnect().await?;
    assert_eq!(
        world
            .count("FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'Kept 0'")
            .await?,
        1
    );
    world
        .until(&format!(
            "(SELECT company_name = 'Kept 0' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.take_relay().context("the relay")?.stop().await;
    cluster.stop();
    Ok(())
}
