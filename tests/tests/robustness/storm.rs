//! Sessions of the application and of the relay are cancelled and ended at random while both work.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{programs, quiet_cluster};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::connect;
use hubspot_sync_tests::world::World;
use rand::Rng as _;

const ROWS: i64 = 40;
const INTERRUPTIONS: usize = 120;

/// Writes to the table until told to stop; a failure of any kind is answered by a new session and the next write.
async fn application(url: String, stop: &AtomicBool, failed: &AtomicUsize) -> Result<usize> {
    let (mut sql, mut written) = (connect(&url).await?, 0);
    while !stop.load(Ordering::Relaxed) {
        let (row, n) = (
            rand::rng().random_range(1..=ROWS),
            rand::rng().random_range(0..1_000_000),
        );
        let statement = format!(
            "UPDATE customers SET company_name = 'Name {n}', notes = 'Note {n}' WHERE id = {row} OR id = {} ",
            row % ROWS + 1
        );
        match sql.batch_execute(&statement).await {
            Ok(()) => written += 1,
            Err(_) => {
                failed.fetch_add(1, Ordering::Relaxed);
                if sql.is_closed() {
                    sql = connect(&url).await?;
                }
            }
        }
    }
    Ok(written)
}

/// Every edit that committed is in the ledger, once, and both sides end equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn random_cancels_and_terminations_lose_and_double_nothing() -> Result<()> {
    let cluster = quiet_cluster("deadlock_timeout = '20ms'")?;
    let mut world = World::on(&cluster, "storm", |_| ()).await?;
    world
        .sql
        .batch_execute(
            "CREATE TABLE journal (id bigint);
             CREATE FUNCTION journal() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF NEW.company_name IS DISTINCT FROM OLD.company_name AND current_setting('application_name') = 'storm' THEN
                 INSERT INTO journal VALUES (NEW.id);
               END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER journal BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION journal();
             INSERT INTO customers (ban, company_name, contact, address) SELECT 'B-' || n, 'First ' || n, '{}', '{}' FROM generate_series(1, 40) n",
        )
        .await?;
    world.start_relay("").await?;
    world.settle().await?;

    let (stop, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let url = format!("{}?application_name=storm", world.url);
    let trouble = async {
        let mut hit = 0;
        while hit < INTERRUPTIONS {
            let how = if rand::rng().random_bool(0.5) {
                "pg_cancel_backend"
            } else {
                "pg_terminate_backend"
            };
            let sql = format!(
                "SELECT {how}(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' ORDER BY random() LIMIT 1"
            );
            hit += world.sql.query(&sql, &[]).await?.len();
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(1..25))).await;
        }
        stop.store(true, Ordering::Relaxed);
        Ok::<_, anyhow::Error>(())
    };
    let (one, two, three) = tokio::join!(
        application(url.clone(), &stop, &failed),
        application(url.clone(), &stop, &failed),
        trouble
    );
    three.context("trouble")?;
    let written = one? + two?;
    let failed = failed.load(Ordering::Relaxed);
    println!("{written} statements committed, {failed} did not, {INTERRUPTIONS} interruptions");
    assert!(failed > 0 && written > 0);

    // Leases of calls that died run out.
    world.until("NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = 'storm' AND datname = current_database())").await?;
    world.age_leases().await?;
    world.settle().await?;
    for (what, query) in [
        (
            "edits without an end",
            "FROM hubspot.sync_log WHERE action = 'edit' AND outcome IS NULL",
        ),
        ("claims", "FROM hubspot.queue WHERE claimed_by IS NOT NULL"),
        ("writes under way", "FROM hubspot.sync_state WHERE flying OR dirty"),
        ("failures", "FROM hubspot.failed_syncs WHERE status = 'open'"),
        (
            "fields not in sync",
            "FROM hubspot.field_state WHERE status <> 'in_sync'",
        ),
    ] {
        assert_eq!(world.count(query).await?, 0, "{what}\n{}", world.picture().await?);
    }
    let journal = "SELECT count(*)::text FROM journal";
    let ledger = "SELECT count(*)::text FROM hubspot.sync_log WHERE action = 'edit' AND field = 'company_name' AND application_name = 'storm'";
    assert_eq!(
        world.text(journal).await?,
        world.text(ledger).await?,
        "edits that committed and edits that were captured"
    );
    for row in world.sql.query("SELECT c.id, l.hubspot_id, c.company_name FROM customers c JOIN hubspot.link l ON l.entity_key = c.id::text", &[]).await? {
        let (id, hubspot_id, name): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(world.hubspot(&hubspot_id, "name"), Some(name), "customer {id}");
    }
    assert_eq!(
        world.sim.find("companies", "warp_ban", "B-1").len(),
        1,
        "a record was made twice"
    );
    if let Some(relay) = world.take_relay() {
        relay.stop().await;
    }
    programs::amcheck(&cluster, &world.url)
}
