//! What a hot standby answers: everything that is read, and nothing that writes.

use super::{move_to, scene};
use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::cluster::{Cluster, connect};
use hubspot_sync_tests::world::World;
use tokio_postgres::Client;

async fn texts(sql: &Client, query: &str) -> Result<Vec<String>> {
    let rows = sql.query(query, &[]).await.with_context(|| query.to_owned())?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

/// Tables and views of ours that this role may read.
const READABLE: &str = "SELECT c.oid::regclass::text FROM pg_class c
    WHERE c.relnamespace = 'hubspot'::regnamespace AND c.relkind IN ('r', 'v', 'm') AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1";

/// Functions of ours that promise to write nothing and can be called without arguments.
const CALLABLE: &str = "SELECT p.oid::regproc::text FROM pg_proc p
    WHERE p.pronamespace = 'hubspot'::regnamespace AND p.provolatile <> 'v' AND p.pronargs = p.pronargdefaults
      AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1";

/// Reads everything that this connection may read; says how much that was.
async fn read_all(sql: &Client) -> Result<usize> {
    let mut read = 0;
    for relation in texts(sql, READABLE).await? {
        // Each column, not only the count: a view's expressions are what could fail.
        texts(sql, &format!("SELECT coalesce(t::text, '') FROM {relation} t")).await?;
        read += 1;
    }
    for function in texts(sql, CALLABLE).await? {
        texts(sql, &format!("SELECT coalesce(t::text, '') FROM {function}() t")).await?;
        read += 1;
    }
    Ok(read)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_read_on_a_standby_and_nothing_written() -> Result<()> {
    let primary = Cluster::start()?;
    let mut world = World::on(&primary, "read", |m| {
        m["legal_name"]["conflict_resolution"] = serde_json::json!("MANUAL");
    })
    .await?;
    world
        .sql
        .batch_execute("CREATE ROLE standby_viewer LOGIN; SELECT hubspot.grant_viewer('standby_viewer')")
        .await?;
    let standby = primary.base_backup()?;
    standby.follow(&primary)?;
    standby.start_server()?;
    // Everything comes by streaming.
    world.start_relay("").await?;
    let scene = scene(&mut world).await?;
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    let reader = connect(&standby.superuser_url(&database)).await?;
    let position = world
        .text("SELECT pg_current_wal_lsn()::text")
        .await?
        .context("position")?;
    let mut there = false;
    for _ in 0..600 {
        let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
        there = reader.query_one(&caught_up, &[]).await?.get(0);
        if there {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    ensure!(there, "the standby does not catch up\n{}", standby.log_tail());

    // The same answers as on the primary.
    let filled = [
        "field_state",
        "conflicts",
        "failed_syncs",
        "outbox",
        "ledger",
        "sync_log",
        "object_mapping",
    ];
    for relation in filled {
        let all = format!("SELECT t::text FROM hubspot.{relation} t ORDER BY 1");
        let here = texts(&reader, &all).await?;
        assert!(!here.is_empty(), "{relation} is empty");
        assert_eq!(here, texts(&world.sql, &all).await?, "{relation}");
    }
    let status = "SELECT concat_ws(' ', armed, paused, portal_id, reason) FROM hubspot.status()";
    assert_eq!(texts(&reader, status).await?, texts(&world.sql, status).await?);
    assert!(read_all(&reader).await? > 40);
    let viewer = connect(&standby.url("standby_viewer", &database)).await?;
    assert!(read_all(&viewer).await? > 10);
    for question in [
        format!(
            "SELECT t::text FROM hubspot.explain('customer', '{}', 'company_name') t",
            scene.key
        ),
        "SELECT hubspot.export_mapping('customer')::text".to_owned(),
        "SELECT t::text FROM hubspot.plan('customer') t".to_owned(),
    ] {
        let answer = texts(&reader, &question).await?;
        assert!(!answer.is_empty(), "{question}");
    }

    // What writes is refused by the server, in its own words.
    for call in [
        "SELECT hubspot.pause()",
        "SELECT hubspot.arm(1)",
        "SELECT hubspot.disable('customer')",
        "SELECT hubspot.reconcile('customer')",
        "SELECT hubspot.resolve_conflict((SELECT min(id) FROM hubspot.conflicts), 'WARP')",
        "SELECT hubspot.relay_claim('test', 10, 1000, 0)",
        "SELECT hubspot.retry_failed((SELECT min(id) FROM hubspot.failed_syncs))",
    ] {
        let error = reader.batch_execute(call).await.err().context(call)?;
        assert_eq!(error.code().map(|c| c.code()), Some("25006"), "{call}: {error:?}");
    }
    move_to(&mut world, &primary.superuser_url(&database)).await
}
