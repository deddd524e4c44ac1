//! How many calls HubSpot gets for how many changes: a hundred records a write, reads only where a decision needs one,
//! history only where values differ.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;

/// Companies that people made in HubSpot before the database was connected, with the same names as the rows.
async fn companies_and_rows(world: &World, n: usize) -> Result<()> {
    for i in 0..n {
        world.person_creates(&[("warp_ban", &format!("BAN-{i}")), ("name", &format!("Company {i}"))])?;
    }
    world
        .sql
        .batch_execute(&format!(
            "INSERT INTO customers (ban, company_name) SELECT 'BAN-' || n, 'Company ' || n FROM generate_series(0, {n} - 1) n"
        ))
        .await?;
    Ok(())
}

async fn all_in_sync(world: &World) -> Result<()> {
    world.settle().await?;
    assert_eq!(
        world
            .count("FROM hubspot.field_state WHERE status <> 'in_sync'")
            .await?,
        0,
        "{}",
        world.picture().await?
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_costs_a_call_per_hundred_records_and_one_more_when_nothing_is_known() -> Result<()> {
    let mut world = World::without_relay("calls_burst", |_| ()).await?;
    world.sim.set_rate_limit(0);
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status) SELECT 'BAN-' || n, 'Company ' || n, 'ACTIVE'
             FROM generate_series(1, 1000) n",
        )
        .await?;
    world.start_relay("").await?;
    all_in_sync(&world).await?;
    // Looked for by the match property, then created.
    assert_eq!(
        (world.sim.count(Op::BatchRead), world.sim.count(Op::BatchUpsert)),
        (10, 10)
    );

    world.sim.clear_log();
    world
        .sql
        .batch_execute("UPDATE customers SET company_name = 'Second ' || id, status = 'SUSPENDED', notes = 'n'")
        .await?;
    all_in_sync(&world).await?;
    let warm = world.sim.count(Op::Any);
    assert_eq!(warm, 10, "what HubSpot holds was known");

    world.take_relay().context("the relay")?.stop().await;
    world.sim.clear_log();
    world.start_relay("[cache]\nttl = \"0s\"\n").await?;
    world
        .sql
        .batch_execute("UPDATE customers SET company_name = 'Third ' || id, status = 'ACTIVE'")
        .await?;
    all_in_sync(&world).await?;
    assert_eq!(
        (world.sim.count(Op::BatchRead), world.sim.count(Op::BatchUpdate)),
        (10, 10)
    );
    assert_eq!(world.sim.records("companies").len(), 1000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_contact_of_equal_records_reads_values_once_and_writes_nothing() -> Result<()> {
    let mut world = World::without_relay("calls_equal", |_| ()).await?;
    world.sim.set_rate_limit(0);
    companies_and_rows(&world, 200).await?;
    world.start_relay("").await?;
    all_in_sync(&world).await?;
    assert_eq!(world.sim.count(Op::BatchRead), 2);
    assert_eq!(world.sim.count(Op::BatchUpdate) + world.sim.count(Op::BatchUpsert), 0);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_read_for_the_few_that_differ() -> Result<()> {
    let mut world = World::without_relay("calls_differ", |_| ()).await?;
    world.sim.set_rate_limit(0);
    companies_and_rows(&world, 200).await?;
    // HubSpot holds something the rows do not: three records need times and authors.
    for ban in ["BAN-3", "BAN-30", "BAN-130"] {
        let company = world
            .sim
            .records("companies")
            .into_iter()
            .find(|c| c.value("warp_ban") == Some(ban));
        world.person_sets(&company.context("company")?.id, "name", "Theirs")?;
    }
    // And all rows hold something HubSpot does not: no history can say more about an empty property.
    world
        .sql
        .batch_execute("UPDATE customers SET legal_name = 'Legal ' || id")
        .await?;
    world.start_relay("").await?;
    all_in_sync(&world).await?;
    let reads = world.sim.count(Op::BatchRead);
    assert!(reads <= 2 + 2, "{reads} reads");
    let writes = world.sim.count(Op::BatchUpdate);
    assert!(writes <= 3, "{writes} writes");
    assert_eq!(
        world
            .count("FROM hubspot.conflicts WHERE kind = 'INITIAL_MISMATCH'")
            .await?,
        3
    );
    assert_eq!(
        world
            .count("FROM hubspot.conflicts WHERE hubspot_changed_by LIKE 'CRM_UI%' AND hubspot_changed_at IS NOT NULL")
            .await?,
        3
    );
    Ok(())
}

/// What HubSpot told about a record before it was linked is older than the first contact, and changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_from_before_the_first_contact_are_stale() -> Result<()> {
    let world = World::start("calls_stale").await?;
    let id = world.person_creates(&[("warp_ban", "BAN-1"), ("name", "First"), ("phone", "+1")])?;
    world.person_sets(&id, "name", "Second")?;
    world.person_sets(&id, "phone", "")?;
    world.person_sets(&id, "name", "Acme")?;
    world.sim.flush().await;
    world
        .until("(SELECT count(*) FROM hubspot.webhook_events WHERE status = 'unmatched') > 4")
        .await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, contact) VALUES ('BAN-1', 'Acme', '{\"phone\": \"+2\"}')",
        )
        .await?;
    world.until_hubspot(&id, "phone", Some("+2")).await?;
    all_in_sync(&world).await?;
    let key = world.text("SELECT id::text FROM customers").await?.context("key")?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Acme"));
    assert_eq!(world.row(&key, "contact->>'phone'").await?.as_deref(), Some("+2"));
    assert_eq!(world.versions(&id, "name"), ["First", "Second", "Acme"]);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    Ok(())
}

/// Changes that come one by one go out together, the first at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trickle_does_not_cost_a_call_per_change() -> Result<()> {
    let world = World::start("calls_trickle").await?;
    let mut keys = Vec::new();
    for n in 0..50 {
        keys.push(world.insert(&format!("BAN-{n}"), "Company").await?);
    }
    all_in_sync(&world).await?;
    world.sim.clear_log();
    let begun = std::time::Instant::now();
    for key in &keys {
        world.update(key, "company_name = 'Renamed'").await?;
    }
    all_in_sync(&world).await?;
    // A tenth of a second is one call's share of a hundred in ten seconds.
    let most = begun.elapsed().as_millis() / 100 + 2;
    let calls = world.sim.count(Op::Any);
    assert!(u128::try_from(calls)? <= most, "{calls} calls in {:?}", begun.elapsed());
    Ok(())
}
