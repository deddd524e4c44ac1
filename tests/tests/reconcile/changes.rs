//! Looking for changes only: polling where no webhook comes, the incremental run, and schedules.

use crate::{findings, of_run, over, uncaptured};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;

const POLLING: &str = "[poll]\nmode = \"search\"\ninterval = \"1s\"\n";

/// Without any webhook, what people change in HubSpot reaches the rows, although HubSpot's index lags; and what changed while
/// no relay ran is caught up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polling_stands_in_for_webhooks() -> Result<()> {
    let world = World::without_relay("polling", |_| ()).await?;
    world.sim.set_behaviour(|b| b.search_lag_ms = 1500);
    let relay = world.run_relay(POLLING).await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.person_sets(&id, "name", "Renamed there")?;
    world.person_sets(&id, "warp_tier", "PREMIUM")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Renamed there' AND tier = 'PREMIUM' FROM customers WHERE id = {key})"
        ))
        .await?;
    relay.stop().await;
    world.person_sets(&id, "phone", "+41 44 000 00 00")?;
    let relay = world.run_relay(POLLING).await?;
    world
        .until(&format!(
            "(SELECT contact->>'phone' = '+41 44 000 00 00' FROM customers WHERE id = {key})"
        ))
        .await?;
    // Both directions at once, and nothing comes back as an edit of its own.
    world.update(&key, "company_name = 'Renamed here'").await?;
    world.until_hubspot(&id, "name", Some("Renamed here")).await?;
    let polls = "SELECT max(id)::text FROM hubspot.reconciliation_runs WHERE status = 'finished'";
    let last: i64 = world.text(polls).await?.context("no poll")?.parse()?;
    world
        .until(&format!(
            "(SELECT count(*) FROM hubspot.reconciliation_runs WHERE status = 'finished' AND id > {last}) >= 3"
        ))
        .await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Renamed here"));
    assert_eq!(world.versions(&id, "name"), ["Acme", "Renamed there", "Renamed here"]);
    assert_eq!(world.count("FROM hubspot.reconciliation_discrepancies").await?, 0);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    relay.stop().await;
    Ok(())
}

/// More changed records than a page of a search shows, all changed in one window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_with_many_changes_is_gone_through_by_id() -> Result<()> {
    let mut world = World::start("many_changes").await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status)
             SELECT 'BAN-' || n, 'Company ' || n, 'ACTIVE' FROM generate_series(1, 450) n",
        )
        .await?;
    world.settle().await?;
    world.take_relay().context("no relay")?.stop().await;
    world.sim.set_webhook_url(None);
    for record in world.sim.records("companies") {
        world.person_sets(&record.id, "warp_payment_terms", "NET30")?;
    }
    world.sim.clear_log();
    let relay = world.run_relay(POLLING).await?;
    world
        .until("(SELECT count(*) FROM customers WHERE payment_terms = 'NET30') = 450")
        .await?;
    assert!(world.sim.count(Op::Search) >= 3);
    relay.stop().await;
    Ok(())
}

/// More changed records in one window than a search ever shows: they are gone through by id, so the last one is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_changes_than_a_search_shows_are_all_looked_at() -> Result<()> {
    const BEYOND: usize = 10_050;
    let world = World::without_relay("search_cap", |_| ()).await?;
    world.sim.set_rate_limit(0);
    world.sim.set_search_limit(0);
    // Nobody's records, with smaller ids than the one that counts.
    for n in 0..BEYOND {
        world.person_creates(&[("name", &format!("Other {n}"))])?;
    }
    let relay = world.run_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    relay.stop().await;
    world.person_sets(&id, "name", "Renamed there")?;
    world.sim.clear_log();
    let settings = "[hubspot]\nsearch_per_second = 1000\n";
    let text = world.config_toml(&world.url, POLLING).replace("[hubspot]\n", settings);
    let relay = World::run_config(hubspot_relay::Config::from_toml(&text)?).await?;
    let found = format!("(SELECT company_name = 'Renamed there' FROM customers WHERE id = {key})");
    let begun = std::time::Instant::now();
    // Fifty-one searches: on a busy machine longer than a wait lasts.
    while let Err(error) = world.until(&found).await {
        anyhow::ensure!(begun.elapsed().as_secs() < 150, "{error:#}");
    }
    let pages = world.sim.count(Op::Search);
    assert!(pages > BEYOND / 200, "{pages} pages cannot have shown {BEYOND} records");
    relay.stop().await;
    Ok(())
}

/// The incremental run finds what the triggers and the webhooks did not tell of, since the last one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_incremental_run_finds_what_was_not_told() -> Result<()> {
    let world = World::start("incremental").await?;
    world
        .sql
        .batch_execute("ALTER TABLE customers ADD updated_at timestamptz NOT NULL DEFAULT clock_timestamp()")
        .await?;
    world
        .sql
        .execute(
            "SELECT hubspot.import_mapping('customer', 'customers', 'companies', hubspot.export_mapping('customer'), '{\"updated_at_column\": \"updated_at\"}')",
            &[],
        )
        .await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (other, _) = world.linked("BAN-2", "Beta").await?;
    world.sim.set_webhook_url(None);
    world.person_sets(&id, "name", "Renamed there")?;
    uncaptured(&world, &key, "legal_name = 'Found Ltd', updated_at = clock_timestamp()").await?;
    // Too old for an incremental run: left to the nightly one.
    uncaptured(
        &world,
        &other,
        "legal_name = 'Old Ltd', updated_at = now() - interval '1 day'",
    )
    .await?;
    // A minute is left to webhooks that are on their way: the edit is older than that for the run.
    world
        .sql
        .batch_execute(
            "UPDATE hubspot.object_mapping SET imported_at = now() - interval '1 hour';
             INSERT INTO hubspot.reconciliation_schedule (kind, slot_at) VALUES ('incremental', now() - interval '1 day')
             ON CONFLICT (kind) DO UPDATE SET slot_at = excluded.slot_at;
             UPDATE hubspot.binding SET clock_offset_us = 120000000",
        )
        .await?;
    let relay = world.run_relay("[schedule]\nincremental = \"15m\"\n").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE kind = 'incremental')")
        .await?;
    let run: i64 = world
        .text("SELECT max(id)::text FROM hubspot.reconciliation_runs")
        .await?
        .context("run")?
        .parse()?;
    over(&world, run).await?;
    assert_eq!(of_run(&world, run, "requested_by").await?, "schedule");
    let found = findings(&world, run).await?;
    assert_eq!(
        found.get(&format!("{key} legal_name")).map(String::as_str),
        Some("found_only_by_reconciling captured Found Ltd -")
    );
    assert_eq!(
        found.get(&format!("{key} company_name")).map(String::as_str),
        Some("found_only_by_reconciling row_updated Acme Renamed there")
    );
    assert_eq!(found.len(), 2, "{found:?}");
    world.until_hubspot(&id, "warp_legal_name", Some("Found Ltd")).await?;
    relay.stop().await;
    Ok(())
}

/// Two relays hear the same clock: a scheduled run is made once, and a schedule that is new begins with its next time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_run_is_made_once() -> Result<()> {
    let world = World::without_relay("schedule", |_| ()).await?;
    let slot = async |kind: &str, ms: i64| -> Result<i32> {
        let sql = "SELECT hubspot.relay_reconcile_schedule($1, $2)";
        Ok(world.sql.query_one(sql, &[&kind, &ms]).await?.get(0))
    };
    assert_eq!(
        slot("full", 1_764_000_000_000).await?,
        0,
        "the first time is only noted"
    );
    assert_eq!(slot("full", 1_764_086_400_000).await?, 1);
    assert_eq!(slot("full", 1_764_086_400_000).await?, 0, "another relay says the same");
    assert_eq!(
        slot("full", 1_764_000_000_000).await?,
        0,
        "a relay whose clock is behind"
    );
    assert_eq!(slot("full", 1_764_172_800_000).await?, 0, "the last one is unfinished");
    assert_eq!(world.count("FROM hubspot.reconciliation_runs").await?, 1);
    // The relays' own clocks: full runs every minute in a named zone, two relays.
    world
        .sql
        .batch_execute(
            "UPDATE hubspot.reconciliation_runs SET status = 'cancelled', finished_at = now();
                        UPDATE hubspot.reconciliation_schedule SET slot_at = now() - interval '1 hour'",
        )
        .await?;
    let every_minute = "[schedule]\nreconcile = \"* * * * *\"\ntime_zone = \"Asia/Kathmandu\"\n";
    let one = world.run_relay(every_minute).await?;
    let two = world.run_relay(every_minute).await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE kind = 'full' AND status = 'finished')")
        .await?;
    one.stop().await;
    two.stop().await;
    let slots = "SELECT count(DISTINCT date_trunc('minute', requested_at))::text || ' of ' || count(*)
                 FROM hubspot.reconciliation_runs WHERE status <> 'cancelled'";
    let made = world.text(slots).await?.unwrap_or_default();
    let (minutes, runs) = made.split_once(" of ").context("figures")?;
    assert_eq!(minutes, runs, "a minute's run was made twice");
    Ok(())
}
