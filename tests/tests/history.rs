//! Figures over time, how long deliveries took, and who asked for a retry.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_minute_is_sampled_once_and_latency_is_told_by_field() -> Result<()> {
    let world = World::start("history").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.settle().await?;
    world
        .sql
        .batch_execute("INSERT INTO hubspot.metric_history VALUES (now() - interval '31 days', '{}')")
        .await?;
    world
        .sql
        .batch_execute("SELECT hubspot.relay_maintain(); SELECT hubspot.relay_maintain();")
        .await?;
    // The second call may have met the next minute: one sample a minute, and the one beyond retention is gone.
    assert_eq!(
        world
            .count("FROM hubspot.metric_history WHERE at < now() - interval '1 day' OR at <> date_trunc('minute', at)")
            .await?,
        0
    );
    let figures = "(SELECT figures FROM hubspot.metric_history ORDER BY at LIMIT 1)";
    assert_eq!(
        world.text(&format!("SELECT {figures}->>'links'")).await?.as_deref(),
        Some("1")
    );
    assert_eq!(
        world
            .text(&format!(
                "SELECT (({figures}->>'delivered')::int >= 2 AND {figures} ? 'latency_p95_seconds')::text"
            ))
            .await?
            .as_deref(),
        Some("true")
    );

    let row = world
        .sql
        .query_one(
            "SELECT delivered, p50_seconds <= p95_seconds AND p95_seconds <= worst_seconds AND worst_seconds BETWEEN 0 AND 60
             FROM hubspot.latency() WHERE entity_type = 'customer' AND field = 'company_name'",
            &[],
        )
        .await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (2, true));
    // Ten minutes more on the way are ten minutes of latency.
    world
        .sql
        .batch_execute(
            "UPDATE hubspot.sync_log SET edited_at = edited_at - interval '10 minutes' WHERE field = 'company_name' AND detail = 'update'",
        )
        .await?;
    let worst = world
        .text("SELECT (worst_seconds BETWEEN 600 AND 660)::text FROM hubspot.latency() WHERE field = 'company_name'")
        .await?
        .context("a row")?;
    assert_eq!(worst, "true");
    assert_eq!(world.count("FROM hubspot.latency('0 seconds')").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_and_a_decision_name_the_person_and_the_role() -> Result<()> {
    let world = World::start("retry_actor").await?;
    let (key, _) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, "status = 'BOGUS'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    let role = world.text("SELECT session_user::text").await?.context("role")?;
    world.sql.batch_execute("SELECT hubspot.retry_failed()").await?;
    let by =
        "SELECT actor FROM hubspot.sync_log WHERE action = 'retried' AND field = 'status' ORDER BY id DESC LIMIT 1";
    assert_eq!(world.text(by).await?, Some(role.clone()));
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    world
        .sql
        .batch_execute("BEGIN; SET LOCAL hubspot.actor = 'ada'; SELECT hubspot.retry_failed(); COMMIT")
        .await?;
    assert_eq!(world.text(by).await?, Some(format!("ada ({role})")));
    Ok(())
}
