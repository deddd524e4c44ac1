//! The database refuses one of the relay's calls: the culprit waits alone, and no longer than its retry's delay.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;

/// Makes the database refuse what the relay stores about one value.
async fn refuse(world: &World, table: &str, condition: &str) -> Result<()> {
    world
        .sql
        .batch_execute(&format!(
            "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF {condition} THEN RAISE EXCEPTION 'refused for the test' USING ERRCODE = '23514'; END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION public.refuse()"
        ))
        .await?;
    Ok(())
}

async fn culprit_alone(name: &str, table: &str, condition: &str, until: &str) -> Result<()> {
    let mut world = World::start(name).await?;
    world
        .sql
        .batch_execute("INSERT INTO customers (ban, company_name) SELECT 'BAN-' || n, 'Company ' || n FROM generate_series(1, 60) n")
        .await?;
    world.settle().await?;
    refuse(&world, table, condition).await?;
    // No echo tells what became of a write.
    world.sim.set_webhook_url(None);
    world
        .sql
        .batch_execute("UPDATE customers SET company_name = CASE id WHEN 17 THEN 'Poison' ELSE 'Fine ' || id END")
        .await?;
    // The others go on, and the culprit is tried again long before a lease would have ended.
    world
        .until(&format!(
            "(SELECT count(*) FROM hubspot.field_state WHERE field = 'company_name' AND status = 'in_sync' AND warp_value LIKE 'Fine%') = 59
             AND {until}"
        ))
        .await?;
    world
        .sql
        .batch_execute(&format!("DROP TRIGGER refuse ON {table}"))
        .await?;
    world.settle().await?;
    let id = world.hubspot_id("17").await?.context("linked")?;
    assert_eq!(world.versions(&id, "name"), ["Company 17", "Poison"]);
    assert_eq!(
        world.state("17", "company_name", "status").await?.as_deref(),
        Some("in_sync")
    );
    assert_eq!(world.outcomes("17", "company_name").await?, ["delivered", "delivered"]);
    assert_eq!(
        world
            .count("FROM hubspot.sync_log WHERE action = 'edit' AND outcome IS NULL")
            .await?,
        0
    );
    world.take_relay().context("the relay")?.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_decision_holds_up_nobody_else() -> Result<()> {
    culprit_alone(
        "refused_decide",
        "hubspot.sync_state",
        "NEW.flying AND NEW.flight_value = 'Poison'",
        "(SELECT attempts >= 2 FROM hubspot.outbox WHERE entity_key = '17')",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_outcome_holds_up_nobody_else() -> Result<()> {
    culprit_alone(
        "refused_complete",
        "hubspot.sync_log",
        "NEW.action = 'delivered' AND NEW.hubspot_value = 'Poison'",
        // HubSpot's history told.
        "NOT EXISTS (SELECT 1 FROM hubspot.outbox)",
    )
    .await
}
