//! Code of a table's owner that raises what usually tells of the moment: cancelled, no memory, no disk, no lock. One record
//! neither holds up the others nor is offered again for ever.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::connect;
use hubspot_sync_tests::world::World;

/// Cancelled, no lock, not serializable, a deadlock, no memory, a full disk: any of them, raised by a trigger.
const STATES: [&str; 6] = ["57014", "55P03", "40001", "40P01", "53200", "53100"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_code_raises_by_itself_park_their_record_alone() -> Result<()> {
    let mut world = World::without_relay("raised", |_| ()).await?;
    world.start_relay("").await?;
    let mut records = Vec::new();
    for state in STATES {
        records.push(world.linked(&format!("BAN-{state}"), "Acme").await?);
    }
    let (last, last_id) = world.linked("BAN-calm", "Acme").await?;
    world
        .sql
        .batch_execute(
            "CREATE FUNCTION moody() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF NEW.ban <> 'BAN-calm' THEN
                 RAISE EXCEPTION 'in no mood for %', OLD.ban USING ERRCODE = substr(NEW.ban, 5);
               END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER moody BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION moody()",
        )
        .await?;
    // All in one page, the calm one last.
    world.sim.hold_webhooks();
    for (_, id) in &records {
        world.person_sets(id, "name", "Acme 2")?;
    }
    world.person_sets(&last_id, "name", "Acme 2")?;
    world.sim.release_webhooks();
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' FROM customers WHERE id = {last})"
        ))
        .await?;
    world
        .until("(SELECT count(*) = 6 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    // Each with the trigger's own words, and nothing waits any more.
    for (state, (key, _)) in STATES.iter().zip(&records) {
        let said = world
            .text(&format!(
                "SELECT message FROM hubspot.failed_syncs WHERE entity_key = '{key}' AND status = 'open'"
            ))
            .await?;
        let said = said.context(*state)?;
        assert!(said.contains(&format!("in no mood for BAN-{state}")), "{state}: {said}");
        assert_eq!(world.row(key, "company_name").await?.as_deref(), Some("Acme"));
    }
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE status IN ('pending', 'waiting'))")
        .await?;

    world.sql.batch_execute("DROP TRIGGER moody ON customers").await?;
    world.text("SELECT hubspot.retry_failed()::text").await?;
    world
        .until("NOT EXISTS (SELECT 1 FROM customers WHERE company_name <> 'Acme 2')")
        .await?;
    world.settle().await?;
    for (_, id) in &records {
        assert_eq!(world.versions(id, "name"), ["Acme", "Acme 2"], "written back");
    }
    assert_eq!(world.count("FROM hubspot.failed_syncs WHERE status = 'open'").await?, 0);
    Ok(())
}

/// A lock that a trigger does not get is somebody else's doing: its record waits, without a person, and without the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_finds_a_lock_taken_waits_alone() -> Result<()> {
    let mut world = World::without_relay("gated", |_| ()).await?;
    world.start_relay("").await?;
    let (gated, gated_id) = world.linked("BAN-gated", "Acme").await?;
    let (free, free_id) = world.linked("BAN-free", "Acme").await?;
    world
        .sql
        .batch_execute(
            "CREATE TABLE gate (); CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               LOCK TABLE public.gate IN EXCLUSIVE MODE NOWAIT;
               RETURN NEW;
             END $$;
             CREATE TRIGGER guard BEFORE UPDATE ON customers FOR EACH ROW WHEN (NEW.ban = 'BAN-gated') EXECUTE FUNCTION guard()",
        )
        .await?;
    let holder = connect(&world.url).await?;
    holder.batch_execute("BEGIN; LOCK TABLE gate IN EXCLUSIVE MODE").await?;
    world.sim.hold_webhooks();
    world.person_sets(&gated_id, "name", "Acme 2")?;
    world.person_sets(&free_id, "name", "Acme 2")?;
    world.sim.release_webhooks();
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' FROM customers WHERE id = {free})"
        ))
        .await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE status = 'pending' AND detail LIKE '%locked%')")
        .await?;
    assert_eq!(world.row(&gated, "company_name").await?.as_deref(), Some("Acme"));
    holder.batch_execute("COMMIT").await?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' FROM customers WHERE id = {gated})"
        ))
        .await?;
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    Ok(())
}
