//! Captured changes without an index: nothing of them is lost, doubled or taken over in the wrong order, however their
//! transactions overlap, and their space is given back when nobody needs it any more.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::cluster::{self, connect};
use hubspot_sync_tests::world::World;
use tokio_postgres::Client;

/// Takes over a page of captured changes, as a relay does.
async fn claim(sql: &Client) -> Result<()> {
    sql.execute("SELECT hubspot.relay_claim('t', 1, 60000, 0)", &[]).await?;
    Ok(())
}

async fn reclaim(sql: &Client) -> Result<i64> {
    Ok(sql.query_one("SELECT hubspot.relay_reclaim()", &[]).await?.get(0))
}

/// Makes the table long: rows of a mapping that does not exist, which are taken over and forgotten.
async fn fill(sql: &Client, rows: i32) -> Result<()> {
    let texts = "repeat(md5(n::text), 40)";
    sql.batch_execute(&format!(
        "SELECT hubspot.append_change(999, 'U', n::text, json_build_object('x', json_build_array(NULL, {texts})), now(), 10, NULL)
         FROM generate_series(1, {rows}) AS n"
    ))
    .await?;
    Ok(())
}

const BLOCKS: &str = "(pg_relation_size('hubspot.capture') / 8192)::text";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_of_many_sessions_arrive_once_and_in_order() -> Result<()> {
    const ROWS: i64 = 4;
    const SESSIONS: usize = 5;
    const EDITS: usize = 120;
    let world = World::without_relay("backlog_order", |_| ()).await?;
    world
        .sql
        .batch_execute(&format!(
            "INSERT INTO customers (ban, legal_name) SELECT 'BAN-' || n, '0' FROM generate_series(1, {ROWS}) AS n"
        ))
        .await?;
    let url = world.url.clone();
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for session in 0..SESSIONS {
        let url = url.clone();
        writers.push(tokio::spawn(async move {
            let sql = connect(&url).await?;
            for edit in 0..EDITS {
                let id = ((session * 7 + edit * 3) as i64) % ROWS + 1;
                let count = format!("UPDATE customers SET legal_name = (legal_name::int + 1)::text WHERE id = {id}");
                // Several edits in one transaction, some of them undone; a little text, so that blocks fill up.
                let end = match (session + edit) % 5 {
                    0 => "ROLLBACK".to_owned(),
                    1 => format!("SAVEPOINT s; {count}; {count}; ROLLBACK TO s; {count}; COMMIT"),
                    2 => format!("PREPARE TRANSACTION 'p{session}'; COMMIT PREPARED 'p{session}'"),
                    3 => format!(
                        "UPDATE customers SET company_name = repeat('x{edit}', 200) WHERE id = {id}; {count}; COMMIT"
                    ),
                    _ => "COMMIT".to_owned(),
                };
                // PREPARE TRANSACTION ends the block, so each statement goes by itself.
                for statement in format!("BEGIN; {count}; {end}").split("; ") {
                    sql.batch_execute(statement)
                        .await
                        .with_context(|| statement.to_owned())?;
                }
            }
            anyhow::Ok(())
        }));
    }
    let (stop, vacuum_url) = (Arc::clone(&done), url.clone());
    let vacuum = tokio::spawn(async move {
        let sql = connect(&vacuum_url).await?;
        while !stop.load(Ordering::Relaxed) {
            // Frees line pointers and blocks, also in the block that is being written to.
            sql.batch_execute("VACUUM hubspot.capture").await?;
        }
        anyhow::Ok(())
    });
    let (stop, relay_url) = (Arc::clone(&done), url.clone());
    let relay = tokio::spawn(async move {
        let sql = connect(&relay_url).await?;
        while !stop.load(Ordering::Relaxed) {
            claim(&sql).await?;
            reclaim(&sql).await?;
        }
        claim(&sql).await
    });
    let mut failed = Ok(());
    for writer in writers {
        failed = failed.and(writer.await?);
    }
    done.store(true, Ordering::Relaxed);
    vacuum.await??;
    relay.await??;
    failed?;
    assert_eq!(world.count("FROM hubspot.capture").await?, 0);
    for id in 1..=ROWS {
        let key = id.to_string();
        let last: usize = world.row(&key, "legal_name").await?.context("a row")?.parse()?;
        let log = world
            .sql
            .query(
                "SELECT warp_value FROM hubspot.sync_log WHERE entity_key = $1 AND field = 'legal_name' AND action = 'edit' ORDER BY id",
                &[&key],
            )
            .await?;
        let seen: Vec<String> = log.iter().map(|row| row.get(0)).collect();
        let expected: Vec<String> = (0..=last).map(|n| n.to_string()).collect();
        assert!(last > EDITS, "{last} edits of row {id}");
        assert_eq!(seen, expected, "row {id}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_backlog_goes_on_where_it_was_and_leaves_out_no_late_commit() -> Result<()> {
    let world = World::without_relay("backlog_long", |_| ()).await?;
    let sql = &world.sql;
    sql.batch_execute("INSERT INTO customers (ban, legal_name) VALUES ('BAN-1', 'a'), ('BAN-2', 'a'), ('BAN-3', 'a')")
        .await?;
    let late = connect(&world.url).await?;
    late.batch_execute("BEGIN; UPDATE customers SET legal_name = 'late' WHERE id = 1")
        .await?;
    let prepared = connect(&world.url).await?;
    prepared
        .batch_execute("BEGIN; UPDATE customers SET legal_name = 'prepared' WHERE id = 2; PREPARE TRANSACTION 'long'")
        .await?;
    for _ in 0..4 {
        fill(sql, 4_000).await?;
    }
    let blocks: i64 = world
        .text(&format!("SELECT {BLOCKS}"))
        .await?
        .context("blocks")?
        .parse()?;
    ensure!(blocks > 2_500, "{blocks} blocks are not long");
    while world.count("FROM hubspot.capture").await? > 0 {
        claim(sql).await?;
    }
    let mark = "SELECT block::text FROM hubspot.capture_mark";
    assert_eq!(
        world.text(mark).await?.as_deref(),
        Some("0"),
        "the open transactions hold the mark"
    );
    assert_eq!(reclaim(sql).await?, 0, "they hold the table");
    late.batch_execute("COMMIT").await?;
    prepared.batch_execute("COMMIT PREPARED 'long'").await?;
    assert_eq!(world.count("FROM hubspot.capture").await?, 2);
    assert_eq!(reclaim(sql).await?, 0, "what committed late is still there");
    claim(sql).await?;
    assert_eq!(
        world.state("1", "legal_name", "warp_value").await?.as_deref(),
        Some("late")
    );
    assert_eq!(
        world.state("2", "legal_name", "warp_value").await?.as_deref(),
        Some("prepared")
    );

    // Now nothing holds it: it follows, and what comes behind it is found.
    fill(sql, 6_000).await?;
    world.update("3", "legal_name = 'behind'").await?;
    claim(sql).await?;
    let marked: i64 = world.text(mark).await?.context("a mark")?.parse()?;
    ensure!(marked >= blocks - 1, "the mark stays at {marked} of {blocks}");
    while world.count("FROM hubspot.capture").await? > 0 {
        claim(sql).await?;
    }
    assert_eq!(
        world.state("3", "legal_name", "warp_value").await?.as_deref(),
        Some("behind")
    );

    // A row that was put into freed space, before the mark, by somebody who should not have, is not truncated away.
    sql.batch_execute("VACUUM hubspot.capture").await?;
    sql.batch_execute(
        "INSERT INTO hubspot.capture (position, captured_at, mapping_id, db_user, op, entity_key, changes)
         SELECT 7, now(), id, 10, 'U', '3', '{\"legal_name\": [null, \"by hand\"]}' FROM hubspot.object_mapping",
    )
    .await?;
    let place = "SELECT ((ctid::text::point)[0])::bigint::text || ' ' || position FROM hubspot.capture";
    let place = world.text(place).await?.context("the row")?;
    let (block, position) = place.split_once(' ').context("two numbers")?;
    assert_eq!(position, "0");
    ensure!(block.parse::<i64>()? < marked, "the row went behind the mark: {block}");
    claim(sql).await?;
    assert_eq!(world.count("FROM hubspot.capture").await?, 1, "it is before the mark");
    assert_eq!(reclaim(sql).await?, 0);
    claim(sql).await?;
    assert_eq!(world.count("FROM hubspot.capture").await?, 0);
    assert_eq!(
        world.state("3", "legal_name", "warp_value").await?.as_deref(),
        Some("by hand")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_is_given_back_when_no_snapshot_needs_it() -> Result<()> {
    let world = World::without_relay("backlog_reclaim", |_| ()).await?;
    let sql = &world.sql;
    fill(sql, 3_000).await?;
    assert_eq!(reclaim(sql).await?, 0, "rows are waiting");
    let dump = connect(&world.url).await?;
    // The snapshot of a dump that has not come to the table yet.
    dump.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM customers")
        .await?;
    claim(sql).await?;
    assert_eq!(world.count("FROM hubspot.capture").await?, 0);
    assert_eq!(reclaim(sql).await?, 0, "a snapshot still sees the rows");
    let rows: i64 = dump
        .query_one("SELECT count(*) FROM hubspot.capture", &[])
        .await?
        .get(0);
    assert_eq!(rows, 3_000);
    dump.batch_execute("COMMIT").await?;
    let writer = connect(&world.url).await?;
    writer
        .batch_execute("BEGIN; INSERT INTO customers (ban) VALUES ('BAN-1')")
        .await?;
    assert_eq!(reclaim(sql).await?, 0, "somebody has captured and is not through");
    writer.batch_execute("ROLLBACK").await?;
    // Autovacuum, too, has a snapshot now and then.
    let mut freed = 0;
    for _ in 0..300 {
        freed = reclaim(sql).await?;
        if freed > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    ensure!(freed > 0, "nothing holds it any more");
    assert_eq!(world.text(&format!("SELECT {BLOCKS}")).await?.as_deref(), Some("0"));
    // The sessions that have captured before go on in the new file.
    writer
        .batch_execute("INSERT INTO customers (ban, legal_name) VALUES ('BAN-2', 'after')")
        .await?;
    claim(sql).await?;
    assert_eq!(
        world
            .count("FROM hubspot.field_state WHERE field = 'legal_name' AND warp_value = 'after'")
            .await?,
        1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_carries_waiting_changes_and_new_ones_come_after_them() -> Result<()> {
    let world = World::without_relay("backlog_dump", |_| ()).await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, legal_name) VALUES ('BAN-1', 'first');
             UPDATE customers SET legal_name = 'second'; UPDATE customers SET legal_name = 'third'",
        )
        .await?;
    let cluster = cluster::shared();
    let name = world.url.rsplit('/').next().context("a database")?;
    let restored = cluster.create_empty_database("backlog_restored").await?;
    let program = |program: &str| {
        let mut command = Command::new(cluster.bin_dir().join(program));
        command
            .arg("--host")
            .arg(cluster.socket_dir())
            .args([format!("--port={}", cluster.port()), "--username=postgres".to_owned()]);
        command
    };
    let dump = program("pg_dump").arg(name).output()?;
    ensure!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &dump.stdout)?;
    let load = program("psql")
        .args(["--quiet", "--dbname"])
        .arg(restored.rsplit('/').next().unwrap_or_default())
        .arg("--file")
        .arg(file.path())
        .output()?;
    // The event triggers have made the capture triggers before the dump comes to them; nothing else goes wrong.
    let said = String::from_utf8_lossy(&load.stderr);
    let faults: Vec<&str> = said.lines().filter(|line| line.contains("ERROR:")).collect();
    ensure!(
        faults
            .iter()
            .all(|fault| fault.contains("trigger \"!hubspot_") || fault.contains("trigger \"hubspot_")),
        "{faults:?}"
    );

    let sql = connect(&restored).await?;
    let positions: String = sql
        .query_one("SELECT string_agg(position::text, ' ') FROM hubspot.capture", &[])
        .await?
        .get(0);
    assert_eq!(positions, "0 0 0");
    sql.batch_execute("SELECT hubspot.arm(1); UPDATE customers SET legal_name = 'fourth'")
        .await?;
    claim(&sql).await?;
    let log = sql
        .query(
            "SELECT warp_value FROM hubspot.sync_log WHERE field = 'legal_name' AND action = 'edit' ORDER BY id",
            &[],
        )
        .await?;
    let seen: Vec<String> = log.iter().map(|row| row.get(0)).collect();
    assert_eq!(seen, ["first", "second", "third", "fourth"]);
    Ok(())
}
