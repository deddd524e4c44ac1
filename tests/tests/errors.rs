//! What each error of HubSpot's leads to: the strategy's table, and the statuses and bodies that HubSpot documents.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::{Fault, FaultKind, Op, Policy};
use hubspot_sync_tests::world::World;

/// Errors that pass: the record waits and goes out, once, and nothing is parked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_pass_cost_a_wait_and_nothing_else() -> Result<()> {
    let world = World::start("errors_pass").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let mut names = vec!["Acme".to_owned()];
    for (what, kind) in [
        ("network: closed before", FaultKind::CloseBeforeApply),
        ("network: closed after", FaultKind::CloseAfterApply),
        ("no answer in time", FaultKind::Delay(4_000)),
        ("408", FaultKind::Status(408)),
        ("423 locked", FaultKind::Status(423)),
        (
            "429 of an unknown or secondly limit",
            FaultKind::RateLimited(Policy::Secondly),
        ),
        ("429 of ten seconds", FaultKind::RateLimited(Policy::TenSecondlyRolling)),
        ("477 the account moves", FaultKind::Migrating(1)),
        ("500", FaultKind::Status(500)),
        ("502 after it was applied", FaultKind::StatusAfterApply(502)),
        ("503", FaultKind::Status(503)),
        ("504", FaultKind::Status(504)),
        ("521", FaultKind::Status(521)),
        ("523", FaultKind::Status(523)),
        ("524 after it was applied", FaultKind::TimeoutAfterApply),
    ] {
        world.sim.fault(Fault {
            op: Op::BatchUpdate,
            kind,
            times: 1,
        });
        let name = format!("After {what}");
        world.update(&key, &format!("company_name = '{name}'")).await?;
        world.until_hubspot(&id, "name", Some(&name)).await.context(what)?;
        world.settle().await.context(what)?;
        names.push(name);
        assert_eq!(world.sim.pending_faults(), 0, "{what} was met");
        assert_eq!(world.versions(&id, "name"), names, "{what}");
        assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0, "{what}");
    }
    assert_eq!(
        world.outcomes(&key, "company_name").await?,
        vec!["delivered".to_owned(); names.len()]
    );
    Ok(())
}

/// 401 and 403: nothing is claimed any more, it is told at once, no record pays for it, and it goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_or_scope_stops_the_relay_and_raises_an_alert() -> Result<()> {
    for (name, kind) in [
        ("errors_401", FaultKind::Unauthorized),
        ("errors_403", FaultKind::Forbidden),
    ] {
        let world = World::start(name).await?;
        let (key, id) = world.linked("BAN-1", "Acme").await?;
        world.sim.fault_by_chance(Op::Any, kind, 1.0);
        world.update(&key, "company_name = 'Acme 2'").await?;
        // Told at once, for everyone who watches the database.
        world
            .until("EXISTS (SELECT 1 FROM hubspot.alerts WHERE severity = 'critical' AND source <> '')")
            .await?;
        assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
        let asked = world.sim.count(Op::Any);
        world.update(&key, "company_name = 'Acme 3'").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            world.sim.count(Op::Any),
            asked,
            "{name}: nothing is asked but a probe now and then"
        );
        world.sim.clear_faults();
        // The next probe is half a minute away.
        let back = async {
            while world.hubspot(&id, "name").as_deref() != Some("Acme 3") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), back)
            .await
            .context(name)?;
        world.settle().await?;
        assert_eq!(world.versions(&id, "name"), ["Acme", "Acme 3"]);
        assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    }
    Ok(())
}

/// 404: the link is marked as missing and stays on record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_gone_is_marked_missing() -> Result<()> {
    let world = World::start("errors_404").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.set_webhook_url(None);
    world
        .sim
        .ui_delete("companies", &id)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world.update(&key, "company_name = 'Acme 2'").await?;
    world
        .until(&format!(
            "(SELECT status = 'missing' FROM hubspot.link WHERE entity_key = '{key}')"
        ))
        .await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.outbox)").await?;
    assert_eq!(
        world
            .count("FROM hubspot.failed_syncs WHERE kind = 'missing' AND status = 'open'")
            .await?,
        1
    );
    Ok(())
}

/// A 5xx that one record always meets, while HubSpot answers everything else: its tries are used up and it alone is parked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persistent_500_uses_up_the_tries_and_parks_the_record() -> Result<()> {
    let world = World::start("errors_500").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.fault_by_chance(Op::BatchUpdate, FaultKind::Status(500), 1.0);
    world.update(&key, "company_name = 'Acme 2'").await?;
    world
        .until("(SELECT count(*) FROM hubspot.failed_syncs WHERE status = 'open' AND kind = 'server' AND http_status = 500) = 1")
        .await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.outbox)").await?;
    assert_eq!(
        world.state(&key, "company_name", "status").await?.as_deref(),
        Some("failed")
    );
    world.sim.clear_faults();
    world.sql.query_one("SELECT hubspot.retry_failed()", &[]).await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.settle().await?;
    assert_eq!(world.count("FROM hubspot.failed_syncs WHERE status = 'open'").await?, 0);
    Ok(())
}
