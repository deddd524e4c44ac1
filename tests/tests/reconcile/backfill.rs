//! Bringing one side's values over to the other.

use crate::{of_run, over};
use anyhow::{Context as _, Result};
use hubspot_relay::reconcile::command::{Wanted, run};
use hubspot_sync_tests::world::World;
use tokio_util::sync::CancellationToken;

/// A portal that lost values, and one whose values the rows lost: each direction fills the other side, wipes nothing and leaves
/// the other direction's fields alone. It can be paused; the estimate is there before it begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_direction_fills_the_other_side() -> Result<()> {
    let mut world = World::start("backfill").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.take_relay().context("no relay")?.stop().await;
    world.sim.set_webhook_url(None);
    // Lost in HubSpot, and only there: a value that flows there, one that flows the other way is new.
    world.person_sets(&id, "warp_status", "")?;
    world.person_sets(&id, "warp_tier", "PREMIUM")?;
    // What the row does not hold must survive in HubSpot.
    world.person_sets(&id, "warp_current_balance", "12.5")?;

    let sql = "SELECT hubspot.backfill('customer', 'WARP_TO_HUBSPOT')";
    let first: i64 = world.sql.query_one(sql, &[]).await?.get(0);
    world
        .sql
        .execute("SELECT hubspot.pause_reconciliation($1)", &[&first])
        .await?;
    let estimate = "SELECT concat_ws(' ', status, done, total, estimated_calls, estimated_seconds_left) FROM hubspot.reconciliation_progress";
    assert_eq!(world.text(estimate).await?.as_deref(), Some("paused 0 1 2 1"));
    world.start_relay("").await?;
    world.sim.set_webhook_url(None);
    world
        .until("(SELECT count(*) FROM hubspot.relay_status WHERE last_seen_at > now() - interval '2 seconds') > 0")
        .await?;
    assert_eq!(of_run(&world, first, "records").await?, "0", "a paused run went on");
    world
        .sql
        .execute("SELECT hubspot.resume_reconciliation($1)", &[&first])
        .await?;
    over(&world, first).await?;
    world.until_hubspot(&id, "warp_status", Some("ACTIVE")).await?;
    assert_eq!(
        world.hubspot(&id, "warp_current_balance").as_deref(),
        Some("12.5"),
        "an empty field wiped HubSpot's"
    );
    assert_eq!(
        world.row(&key, "tier").await?,
        None,
        "the other direction's field came along"
    );
    assert_eq!(of_run(&world, first, "found").await?, r#"{"sent_to_hubspot": 1}"#);

    world.update(&key, "company_name = NULL").await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.outbox)").await?;
    world.person_sets(&id, "name", "Acme again")?;
    let wanted = Wanted {
        entity_type: Some("customer".to_owned()),
        backfill: Some("HUBSPOT_TO_WARP".to_owned()),
        ..Wanted::default()
    };
    let reports = run(world.config("")?, wanted, CancellationToken::new()).await?;
    assert_eq!(
        reports[0].run.found.get("row_updated"),
        Some(&2),
        "{:?}",
        reports[0].run
    );
    assert_eq!(world.row(&key, "tier").await?.as_deref(), Some("PREMIUM"));
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Acme again"));
    assert_eq!(
        world.row(&key, "current_balance").await?,
        None,
        "a field that is only sent was written"
    );
    assert_eq!(world.row(&key, "status").await?.as_deref(), Some("ACTIVE"));
    let used = world
        .text("SELECT backfill::text FROM hubspot.quota")
        .await?
        .context("quota")?;
    assert!(
        used.parse::<i64>()? >= 1,
        "the calls are not counted as backfill: {used}"
    );

    let error = world
        .sql
        .execute("SELECT hubspot.backfill('customer', 'BIDIRECTIONAL')", &[])
        .await;
    assert_eq!(
        error
            .err()
            .and_then(|e| e.code().map(|c| c.code().to_owned()))
            .as_deref(),
        Some("22023")
    );
    Ok(())
}

/// A first load stands behind what somebody waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_load_lets_live_changes_pass() -> Result<()> {
    let world = World::without_relay("load_behind", |_| ()).await?;
    world
        .sql
        .batch_execute(
            "SELECT hubspot.disable('customer');
             INSERT INTO customers (ban, company_name, status) SELECT 'BAN-' || n, 'Company ' || n, 'ACTIVE' FROM generate_series(1, 30) n;
             SELECT hubspot.enable('customer')",
        )
        .await?;
    let live = world.insert("BAN-LIVE", "Live").await?;
    // The call takes over what was captured; of all that, the live change is handed out first.
    let claim = "SELECT hubspot.relay_claim('test', 1, 60000, 0)->'claims'->0->>'claim'";
    let link = world.text(claim).await?.context("nothing was claimed")?;
    let key = world
        .text(&format!("SELECT entity_key FROM hubspot.link WHERE id = {link}"))
        .await?;
    assert_eq!(key.as_deref(), Some(live.as_str()));
    Ok(())
}
