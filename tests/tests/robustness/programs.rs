//! PostgreSQL's and others' checking programs over the extension's tables and functions.

use std::process::Command;

use super::{prepared, quiet_cluster};
use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::cluster::{Cluster, connect};

/// Tables and indexes of a database are sound, by `pg_amcheck`.
pub fn amcheck(cluster: &Cluster, url: &str) -> Result<()> {
    let program = cluster.bin_dir().join("pg_amcheck");
    if !program.exists() {
        println!("NOT CHECKED: this PostgreSQL has no pg_amcheck");
        return Ok(());
    }
    let database = url.rsplit('/').next().context("database")?;
    let output = Command::new(program)
        .args([
            "--host=127.0.0.1",
            "--username=postgres",
            "--no-password",
            "--install-missing",
        ])
        .args(["--heapallindexed", "--parent-check", "--rootdescend"])
        .arg(format!("--port={}", cluster.port()))
        .arg(database)
        .output()?;
    ensure!(
        output.status.success() && output.stdout.is_empty(),
        "pg_amcheck: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// What `pg_amcheck` would have to find.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_of_tables_finds_damage() -> Result<()> {
    let cluster = quiet_cluster("full_page_writes = off")?;
    let url = prepared(&cluster, "damaged").await?;
    amcheck(&cluster, &url)?;
    if !cluster.bin_dir().join("pg_amcheck").exists() {
        return Ok(());
    }
    let sql = connect(&url).await?;
    let file: String = sql
        .query_one("SELECT pg_relation_filepath('hubspot.link'::regclass)", &[])
        .await?
        .get(0);
    drop(sql);
    cluster.stop_server(hubspot_sync_tests::cluster::StopMode::Fast)?;
    let path = cluster.data_dir().join(file);
    let mut page = std::fs::read(&path)?;
    let last = page.len().min(8192);
    // The last bytes of the first page are the first tuple: its header's attribute count and flags go.
    page.get_mut(last - 120..last).context("page")?.fill(0xff);
    std::fs::write(&path, page)?;
    cluster.start_server()?;
    assert!(amcheck(&cluster, &url).is_err(), "damage was not found");
    Ok(())
}

/// What is meant as it stands. The statement of `estimate` is run with the caller's own rights; the condition of
/// `page_conflict_rows` comes from `page_condition`, which quotes; the event trigger asks for a rewritten table in that event
/// alone, which the check cannot see.
const MEANT: [(&str, &str); 3] = [
    ("hubspot.estimate(text)", "text type variable is not sanitized"),
    ("hubspot.page_conflict_rows(", "text type variable is not sanitized"),
    (
        "hubspot.follow_ddl()",
        "can only be called in a table_rewrite event trigger function",
    ),
];

/// Every PL/pgSQL function, by `plpgsql_check`: no error, no warning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plpgsql_check_finds_nothing() -> Result<()> {
    let cluster = quiet_cluster("")?;
    let sql = connect(&prepared(&cluster, "plpgsql").await?).await?;
    let there = "SELECT count(*) FROM pg_available_extensions WHERE name = 'plpgsql_check'";
    if sql.query_one(there, &[]).await?.get::<_, i64>(0) == 0 {
        println!("NOT CHECKED: plpgsql_check is not installed (make setup installs it for PostgreSQL 15)");
        return Ok(());
    }
    sql.batch_execute("CREATE EXTENSION plpgsql_check").await?;
    // A trigger function is checked for each table it is a trigger of, with the transition table of any of them.
    let functions = sql
        .query(
            "SELECT DISTINCT p.oid, p.oid::regprocedure::text, coalesce(t.tgrelid, 0::oid), (SELECT max(o.tgoldtable::text) FROM pg_trigger o WHERE o.tgfoid = p.oid),
               (SELECT max(o.tgnewtable::text) FROM pg_trigger o WHERE o.tgfoid = p.oid)
             FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'plpgsql'
             LEFT JOIN pg_trigger t ON t.tgfoid = p.oid
             WHERE p.pronamespace = 'hubspot'::regnamespace ORDER BY 2, 3",
            &[],
        )
        .await?;
    assert!(functions.len() > 20, "{}", functions.len());
    let mut found = Vec::new();
    for row in &functions {
        let (oid, name, table): (u32, String, u32) = (row.get(0), row.get(1), row.get(2));
        let (old, new): (Option<String>, Option<String>) = (row.get(3), row.get(4));
        let lines = sql
            .query(
                "SELECT level || ' ' || coalesce(lineno::text, '') || ': ' || message || coalesce(' (' || statement || ')', '')
                 FROM plpgsql_check_function_tb($1::oid, $2::oid::regclass, fatal_errors => false, other_warnings => true, extra_warnings => true,
                   performance_warnings => false, security_warnings => true, oldtable => $3::text::name, newtable => $4::text::name)",
                &[&oid, &table, &old, &new],
            )
            .await
            .with_context(|| name.clone())?;
        let lines = lines.iter().map(|line| format!("{name}: {}", line.get::<_, String>(0)));
        found.extend(lines.filter(|line| {
            !MEANT
                .iter()
                .any(|(function, said)| line.starts_with(function) && line.contains(said))
        }));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}
