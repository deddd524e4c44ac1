//! The queue of records: in which order they are claimed, and that no shortcut of claiming loses one.

use anyhow::Result;
use hubspot_sync_tests::world::World;
use serde_json::Value as Json;

/// Claims records; gives their keys in the order of their claims' tokens, which is that of claiming.
async fn claim(world: &World, relay: &str, max: i32) -> Result<Vec<String>> {
    let row = world
        .sql
        .query_one("SELECT hubspot.relay_claim($1, $2, 60000, 300000)", &[&relay, &max])
        .await?;
    let answer: Json = row.get(0);
    let mut keys = Vec::new();
    for claim in answer["claims"].as_array().into_iter().flatten() {
        let id: i64 = claim["claim"].as_str().unwrap_or_default().parse()?;
        let key = world
            .sql
            .query_one("SELECT entity_key FROM hubspot.link WHERE id = $1", &[&id])
            .await?;
        keys.push(key.get::<_, String>(0));
    }
    keys.sort();
    Ok(keys)
}

/// Customers 1 to `count`, known to the queue.
async fn waiting(name: &str, count: i32) -> Result<World> {
    let world = World::without_relay(name, |_| ()).await?;
    world
        .sql
        .execute(
            "INSERT INTO customers (ban, company_name) SELECT 'B' || n, 'Company ' || n FROM generate_series(1, $1::int) AS n",
            &[&count],
        )
        .await?;
    world.sql.query_one("SELECT hubspot.retry_failed(NULL)", &[]).await?;
    let queued = world.count("FROM hubspot.queue").await?;
    assert_eq!(queued, i64::from(count));
    Ok(world)
}

async fn run(world: &World, sql: &str) -> Result<()> {
    world.sql.batch_execute(sql).await?;
    Ok(())
}

/// SQL condition: the queue's row of these customers.
fn of(keys: &str) -> String {
    format!("link_id IN (SELECT id FROM hubspot.link WHERE entity_key IN ({keys}))")
}

#[tokio::test]
async fn longest_wait_first_and_real_time_before_batch() -> Result<()> {
    let world = waiting("outbox_order", 6).await?;
    run(
        &world,
        &format!(
            "UPDATE hubspot.queue q SET due_at = now() - l.entity_key::int * interval '1 minute' FROM hubspot.link l WHERE l.id = q.link_id;
             UPDATE hubspot.queue SET priority = 1 WHERE {}",
            of("'5', '6'")
        ),
    )
    .await?;
    assert_eq!(claim(&world, "a", 2).await?, ["3", "4"]);
    assert_eq!(claim(&world, "a", 3).await?, ["1", "2", "6"]);
    assert_eq!(claim(&world, "a", 3).await?, ["5"]);
    assert!(claim(&world, "a", 3).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_record_due_before_what_was_claimed_is_found() -> Result<()> {
    let world = waiting("outbox_marks", 5).await?;
    run(
        &world,
        &format!(
            "UPDATE hubspot.queue SET due_at = now() + interval '1 day' WHERE {}",
            of("'3', '4', '5'")
        ),
    )
    .await?;
    assert_eq!(claim(&world, "a", 5).await?, ["1", "2"]);
    let marks = "FROM hubspot.queue_mark WHERE from_at > '-infinity'";
    assert_eq!(
        world.count(marks).await?,
        3,
        "nothing else is due: all marks are raised"
    );
    // A clock that was set back, a row that somebody put in by hand: whatever is due earlier lowers the mark.
    run(
        &world,
        &format!(
            "UPDATE hubspot.queue SET due_at = now() - interval '1 year' WHERE {}",
            of("'3'")
        ),
    )
    .await?;
    run(
        &world,
        &format!(
            "UPDATE hubspot.queue SET due_at = now() - interval '2 years', priority = 1 WHERE {}",
            of("'4'")
        ),
    )
    .await?;
    run(
        &world,
        &format!(
            "BEGIN; SET LOCAL session_replication_role = replica;
             DELETE FROM hubspot.queue WHERE {five};
             INSERT INTO hubspot.queue (link_id, priority, waiting_since, due_at)
               SELECT id, 0, now(), now() - interval '3 years' FROM hubspot.link WHERE entity_key = '5'; COMMIT",
            five = of("'5'")
        ),
    )
    .await?;
    assert_eq!(claim(&world, "a", 5).await?, ["3", "4", "5"]);
    Ok(())
}

#[tokio::test]
async fn an_expired_lease_is_claimed_again_and_comes_first() -> Result<()> {
    let world = waiting("outbox_expired", 4).await?;
    assert_eq!(claim(&world, "a", 4).await?.len(), 4);
    assert!(claim(&world, "b", 4).await?.is_empty());
    run(
        &world,
        &format!(
            "UPDATE hubspot.queue SET lease_expires_at = now() - interval '1 hour' WHERE {}",
            of("'2'")
        ),
    )
    .await?;
    run(
        &world,
        &format!(
            "UPDATE hubspot.queue SET claimed_by = NULL, lease_expires_at = NULL, due_at = now() - interval '1 day' WHERE {}",
            of("'3'")
        ),
    )
    .await?;
    assert_eq!(claim(&world, "b", 1).await?, ["2"]);
    assert_eq!(claim(&world, "b", 4).await?, ["3"]);
    assert!(claim(&world, "b", 4).await?.is_empty());
    // What nobody claims is rescued.
    run(
        &world,
        "UPDATE hubspot.queue SET lease_expires_at = now() - interval '1 hour'",
    )
    .await?;
    let row = world.sql.query_one("SELECT hubspot.relay_maintain()", &[]).await?;
    assert_eq!(row.get::<_, Json>(0)["rescued"], 4);
    assert_eq!(claim(&world, "b", 9).await?, ["1", "2", "3", "4"]);
    Ok(())
}

#[tokio::test]
async fn a_claim_waits_for_whoever_is_queueing() -> Result<()> {
    let mut world = waiting("outbox_in_flight", 2).await?;
    let other = hubspot_sync_tests::cluster::connect(&world.url).await?;
    // Given back, not committed yet: a claim that went on would raise the mark past it.
    assert_eq!(claim(&world, "a", 1).await?, ["1"]);
    other.batch_execute("BEGIN; SELECT hubspot.relay_release('a')").await?;
    let waiting = {
        let second = hubspot_sync_tests::cluster::connect(&world.url).await?;
        tokio::spawn(async move {
            let row = second
                .query_one("SELECT hubspot.relay_claim('b', 5, 60000, 300000)", &[])
                .await?;
            anyhow::Ok(row.get::<_, Json>(0))
        })
    };
    world
        .until("EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 12 AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))")
        .await?;
    other.batch_execute("COMMIT").await?;
    let claims = waiting.await??;
    assert_eq!(claims["claims"].as_array().map_or(0, Vec::len), 2, "{claims}");
    world.reconnect().await?;
    Ok(())
}

/// A database in which changes are shed: a little is captured, and that is the limit.
async fn full(name: &str) -> Result<World> {
    let world = World::without_relay(name, |_| ()).await?;
    run(
        &world,
        "INSERT INTO customers (ban, company_name) SELECT 'B' || n, 'Company ' || n FROM generate_series(1, 300) AS n;
         UPDATE hubspot.binding SET capture_limit = 8192",
    )
    .await?;
    // A session looks once in 256 changes.
    run(
        &world,
        "UPDATE customers SET company_name = company_name || '!' WHERE id <= 300",
    )
    .await?;
    Ok(world)
}

/// Takes over all that was captured or marked.
async fn take_over(world: &World) -> Result<()> {
    world.sql.query_one("SELECT hubspot.retry_failed(NULL)", &[]).await?;
    Ok(())
}

/// Rows whose name is not what is recorded of them, and records without a row.
const WRONG: &str = "FROM customers c FULL JOIN (
    SELECT l.entity_key, s.row_value FROM hubspot.link l JOIN hubspot.sync_state s ON s.link_id = l.id
    JOIN hubspot.field_mapping f ON f.id = s.field_id AND f.field = 'company_name' WHERE l.status <> 'deleted_here') r
  ON r.entity_key = c.id::text WHERE c.company_name IS DISTINCT FROM r.row_value";

#[tokio::test]
async fn past_the_limit_records_are_marked_and_read_again() -> Result<()> {
    let world = full("outbox_shed").await?;
    let marks = world.count("FROM hubspot.capture_shed").await?;
    assert!(marks > 0, "nothing was shed");
    let captured = world.count("FROM hubspot.capture").await?;
    for round in 0..3 {
        run(
            &world,
            &format!("UPDATE customers SET company_name = 'Round {round} of ' || id"),
        )
        .await?;
    }
    run(
        &world,
        "DELETE FROM customers WHERE id = 7; INSERT INTO customers (ban, company_name) VALUES ('NEW', 'New')",
    )
    .await?;
    assert_eq!(world.count("FROM hubspot.capture").await?, captured);
    assert_eq!(
        world.count("FROM hubspot.capture_shed").await?,
        301,
        "one mark per record, however often it changes"
    );
    assert_eq!(world.count("FROM hubspot.outbox WHERE state = 'shed'").await?, 301);
    assert_eq!(
        world
            .count("FROM hubspot.mapping_problems WHERE problem = 'changes shed'")
            .await?,
        1
    );
    take_over(&world).await?;
    assert_eq!(world.count("FROM hubspot.capture_shed").await?, 0);
    assert_eq!(world.count(WRONG).await?, 0);
    assert_eq!(
        world
            .count("FROM hubspot.link WHERE entity_key = '7' AND status = 'deleted_here'")
            .await?,
        1
    );
    // Nothing waits any more, and changes are captured one by one again.
    run(&world, "UPDATE hubspot.binding SET capture_limit = DEFAULT").await?;
    for _ in 0..2 {
        run(&world, "UPDATE customers SET company_name = company_name || '?'").await?;
        take_over(&world).await?;
    }
    run(&world, "UPDATE customers SET company_name = company_name || '?'").await?;
    assert_eq!(world.count("FROM hubspot.capture_shed").await?, 0);
    assert_eq!(world.count("FROM hubspot.capture").await?, 300);
    take_over(&world).await?;
    assert_eq!(world.count(WRONG).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_mark_stays_until_whoever_changed_the_row_has_committed() -> Result<()> {
    let world = full("outbox_shed_open").await?;
    take_over(&world).await?;
    run(&world, "UPDATE customers SET company_name = 'Before' WHERE id = 1").await?;
    assert_eq!(world.count("FROM hubspot.capture_shed").await?, 1);
    let other = hubspot_sync_tests::cluster::connect(&world.url).await?;
    // Its first changes make this session look at the size, too.
    other
        .batch_execute("BEGIN; UPDATE customers SET company_name = 'After' WHERE id = 1")
        .await?;
    assert_eq!(
        world.count("FROM hubspot.capture_shed").await?,
        1,
        "the mark is kept, not doubled"
    );
    take_over(&world).await?;
    assert_eq!(world.count("FROM hubspot.capture_shed").await?, 1);
    other.batch_execute("COMMIT").await?;
    take_over(&world).await?;
    assert_eq!(world.count("FROM hubspot.capture_shed").await?, 0);
    assert_eq!(world.count(WRONG).await?, 0);
    Ok(())
}

#[tokio::test]
async fn under_one_snapshot_nothing_fails_when_a_mark_was_taken_away() -> Result<()> {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let world = full("outbox_shed_snapshot").await?;
        let other = hubspot_sync_tests::cluster::connect(&world.url).await?;
        other
            .batch_execute(&format!(
                "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM customers"
            ))
            .await?;
        take_over(&world).await?;
        assert_eq!(world.count("FROM hubspot.capture_shed").await?, 0);
        other
            .batch_execute("UPDATE customers SET company_name = 'Later' WHERE id <= 5; COMMIT")
            .await?;
        assert_eq!(world.count("FROM hubspot.capture_shed").await?, 5);
        take_over(&world).await?;
        assert_eq!(world.count(WRONG).await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_limit_that_is_too_small_is_refused() -> Result<()> {
    let world = World::without_relay("outbox_limit", |_| ()).await?;
    let refused = world.sql.query_one("SELECT hubspot.set_capture_limit(63)", &[]).await;
    let refused = refused.err().and_then(|e| e.as_db_error().cloned());
    assert_eq!(refused.map(|e| e.code().code().to_owned()).as_deref(), Some("22023"));
    for (limit, expected) in [("64", Some(67_108_864_i64)), ("NULL", None)] {
        run(&world, &format!("SELECT hubspot.set_capture_limit({limit})")).await?;
        let row = world
            .sql
            .query_one("SELECT capture_limit FROM hubspot.binding", &[])
            .await?;
        assert_eq!(row.get::<_, Option<i64>>(0), expected);
    }
    Ok(())
}

/// `hubspot.sync_state` has no foreign keys: triggers do what they would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_go_with_their_record_their_field_and_their_mapping() -> Result<()> {
    let world = World::without_relay("states_go", |_| ()).await?;
    world
        .sql
        .batch_execute("INSERT INTO customers (ban, company_name, status) SELECT 'BAN-' || n, 'Acme ' || n, 'ACTIVE' FROM generate_series(1, 3) n")
        .await?;
    world
        .sql
        .query_one("SELECT hubspot.relay_claim('test', 10, 60000, 0)", &[])
        .await?;
    let orphans = "FROM hubspot.sync_state s WHERE NOT EXISTS (SELECT 1 FROM hubspot.link l WHERE l.id = s.link_id)
        OR NOT EXISTS (SELECT 1 FROM hubspot.field_mapping f WHERE f.id = s.field_id)";
    let all = world.count("FROM hubspot.sync_state").await?;
    assert_eq!(world.count("FROM hubspot.link").await?, 3);
    assert!(all > 0 && all % 3 == 0, "{all} states");
    world
        .sql
        .batch_execute("DELETE FROM hubspot.link WHERE id = (SELECT min(id) FROM hubspot.link)")
        .await?;
    assert_eq!(world.count("FROM hubspot.sync_state").await?, all / 3 * 2);
    world
        .sql
        .batch_execute("DELETE FROM hubspot.field_mapping WHERE field = 'company_name'")
        .await?;
    assert_eq!(world.count("FROM hubspot.sync_state").await?, all / 3 * 2 - 2);
    assert_eq!(world.count(orphans).await?, 0);
    world.sql.batch_execute("BEGIN; TRUNCATE hubspot.link CASCADE").await?;
    assert_eq!(world.count("FROM hubspot.sync_state").await?, 0);
    world.sql.batch_execute("ROLLBACK").await?;
    world.sql.batch_execute("DELETE FROM hubspot.object_mapping").await?;
    assert_eq!(world.count("FROM hubspot.link").await?, 0);
    assert_eq!(world.count("FROM hubspot.sync_state").await?, 0);
    Ok(())
}
