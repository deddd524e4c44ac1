//! HubSpot's clock is not the database's: `LATEST_WINS` picks the edit that was truly later.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;

/// The relay looks at HubSpot before it writes.
const ALWAYS_LOOK: &str = "[cache]\nttl = \"0s\"";

/// Where the relay meets HubSpot's edit first.
#[derive(Clone, Copy, PartialEq)]
enum Meets {
    /// When it looks before it writes.
    Looking,
    /// In the webhook, while its own write waits.
    Webhook,
}

/// A customer both sides know, HubSpot's clock `offset_ms` ahead of the database's, which the relay has measured, and
/// nobody between the two sides any more.
async fn apart(name: &str, offset_ms: i64) -> Result<(World, String, String)> {
    let mut world = World::without_relay(name, |_| ()).await?;
    world.sim.set_clock_offset(offset_ms);
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.update(&key, "company_name = 'Measured'").await?;
    world.until_hubspot(&id, "name", Some("Measured")).await?;
    world.settle().await?;
    assert!(
        error_ms(&world, offset_ms).await? < 5_000,
        "the measured offset is {} us, the true one {offset_ms} ms",
        measured_us(&world).await?
    );
    world.sim.hold_webhooks();
    world.take_relay().context("the relay")?.stop().await;
    Ok((world, key, id))
}

async fn measured_us(world: &World) -> Result<i64> {
    let text = world.text("SELECT clock_offset_us::text FROM hubspot.binding").await?;
    Ok(text.context("the binding")?.parse()?)
}

/// How far the measured offset is from the true one.
async fn error_ms(world: &World, offset_ms: i64) -> Result<i64> {
    Ok((measured_us(world).await? / 1000 - offset_ms).abs() + 1)
}

/// Waits until what comes next is later by more than the offset may be off.
async fn clearly_later(world: &World, offset_ms: i64) -> Result<()> {
    let now = world.text("SELECT clock_timestamp()::text").await?.context("now")?;
    let uncertain = error_ms(world, offset_ms).await?
        + world
            .text("SELECT (clock_uncertainty_us / 1000)::text FROM hubspot.binding")
            .await?
            .context("the binding")?
            .parse::<i64>()?;
    world
        .until(&format!(
            "clock_timestamp() > '{now}'::timestamptz + interval '{} ms'",
            2 * uncertain + 50
        ))
        .await
}

/// Both sides edit while they are apart, `latest` last; it must win on both sides.
async fn latest_wins(name: &str, offset_ms: i64, latest: &str, meets: Meets) -> Result<()> {
    let (mut world, key, id) = apart(name, offset_ms).await?;
    for side in if latest == "Here" {
        ["There", "Here"]
    } else {
        ["Here", "There"]
    } {
        clearly_later(&world, offset_ms).await?;
        if side == "Here" {
            world.update(&key, "company_name = 'Here'").await?;
        } else {
            world.person_sets(&id, "name", "There")?;
        }
    }
    match meets {
        Meets::Looking => {
            world.start_relay(ALWAYS_LOOK).await?;
            world.settle().await?;
            world.sim.release_webhooks();
        }
        Meets::Webhook => {
            // Writes are held back at HubSpot's door until the webhook was applied.
            let gate = world.sim.gate_before(hubspot_sync_tests::simulator::Op::BatchUpdate);
            let looks = world.sim.gate_before(hubspot_sync_tests::simulator::Op::BatchRead);
            world.start_relay("").await?;
            world.sim.release_webhooks();
            world
                .until(
                    "EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'There' AND status <> 'pending')",
                )
                .await?;
            drop(looks);
            drop(gate);
        }
    }
    world.settle().await?;
    let picture = world.picture().await?;
    assert_eq!(
        world.row(&key, "company_name").await?.as_deref(),
        Some(latest),
        "the row\n{picture}"
    );
    assert_eq!(
        world.hubspot(&id, "name").as_deref(),
        Some(latest),
        "HubSpot\n{picture}"
    );
    for (column, expected) in [
        ("status", "in_sync"),
        ("warp_value", latest),
        ("hubspot_value", latest),
        ("base_value", latest),
        ("winner", if latest == "Here" { "WARP" } else { "HUBSPOT" }),
    ] {
        assert_eq!(
            world.state(&key, "company_name", column).await?.as_deref(),
            Some(expected),
            "field_state.{column}\n{picture}"
        );
    }
    assert_eq!(
        world.count("FROM hubspot.conflicts WHERE status = 'resolved'").await?,
        1,
        "conflicts\n{picture}"
    );
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 1, "conflicts\n{picture}");
    Ok(())
}

macro_rules! clocks {
    ($($name:ident: $offset_ms:literal, $latest:literal, $meets:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            latest_wins(stringify!($name), $offset_ms, $latest, $meets).await
        }
    )*};
}

clocks! {
    ahead_and_the_row_is_later: 90_000, "Here", Meets::Looking;
    ahead_and_hubspot_is_later: 90_000, "There", Meets::Looking;
    behind_and_the_row_is_later: -90_000, "Here", Meets::Looking;
    behind_and_hubspot_is_later: -90_000, "There", Meets::Looking;
    ahead_and_the_row_is_later_than_the_webhook: 90_000, "Here", Meets::Webhook;
    ahead_and_the_webhook_is_later: 90_000, "There", Meets::Webhook;
    behind_and_the_row_is_later_than_the_webhook: -90_000, "Here", Meets::Webhook;
    behind_and_the_webhook_is_later: -90_000, "There", Meets::Webhook;
}

/// The offset follows HubSpot's clock, and goes away with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_offset_is_measured_anew() -> Result<()> {
    let mut world = World::without_relay("measured_anew", |_| ()).await?;
    world.sim.set_clock_offset(-90_000);
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    for (offset_ms, name) in [(-90_000, "Behind"), (0, "Right"), (90_000, "Ahead")] {
        world.sim.set_clock_offset(offset_ms);
        world.update(&key, &format!("company_name = '{name}'")).await?;
        world.until_hubspot(&id, "name", Some(name)).await?;
        world.settle().await?;
        assert!(
            error_ms(&world, offset_ms).await? < 5_000,
            "{name}: the measured offset is {} us",
            measured_us(&world).await?
        );
    }
    Ok(())
}
