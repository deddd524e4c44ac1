//! What goes wrong around a call: time-outs, locks, cancelled and killed backends, no memory, no disk. A call that fails
//! leaves everything as it was, says so with PostgreSQL's own SQLSTATE, and its session goes on.

mod bouncer;
mod calls;
mod crash;
mod disk;
mod interrupted;
mod memory;
mod pairs;
mod programs;
mod raised;
mod storm;

use std::time::Duration;

use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::{Cluster, Options, connect};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Every table of the extension's, and the mapped one: what is locked, and what must stay as it was.
const TABLES: &str = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r'
  AND (c.relnamespace = 'hubspot'::regnamespace OR c.oid = 'deal'::regclass) ORDER BY 1";

/// A cluster of the test's own, on which nothing runs that the test did not start.
fn quiet_cluster(settings: &str) -> Result<Cluster> {
    Cluster::start_with(&Options {
        settings: format!("autovacuum = off\n{settings}\n"),
        ..Options::default()
    })
}

/// A database with the mapping `deal` and something in every state; gives its URL.
async fn prepared(cluster: &Cluster, name: &str) -> Result<String> {
    let url = cluster.create_database(name).await?;
    let sql = connect(&url).await?;
    for (number, part) in include_str!("fixture.sql").split("\n----\n").enumerate() {
        sql.batch_execute(part)
            .await
            .with_context(|| format!("part {number} of the fixture"))?;
    }
    Ok(url)
}

/// Everything that a call could change, in a form that can be compared.
struct Picture {
    query: String,
}

impl Picture {
    async fn new(sql: &Client) -> Result<Picture> {
        let mut parts: Vec<String> = sql
            .query(TABLES, &[])
            .await?
            .iter()
            .map(|row| row.get::<_, String>(0))
            .map(|table| {
                format!("SELECT '{table}' || count(*) || ' ' || md5(coalesce(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\"), '')) FROM {table} t")
            })
            .collect();
        parts.push("SELECT 'triggers ' || coalesce(string_agg(tgname || tgenabled::text, ',' ORDER BY tgname), '') FROM pg_trigger WHERE tgrelid = 'deal'::regclass".to_owned());
        parts.push("SELECT 'rights ' || md5(string_agg(coalesce(relacl::text, ''), ',' ORDER BY oid)) FROM pg_class WHERE relnamespace = 'hubspot'::regnamespace".to_owned());
        parts.push("SELECT 'rights ' || md5(string_agg(coalesce(proacl::text, ''), ',' ORDER BY oid)) FROM pg_proc WHERE pronamespace = 'hubspot'::regnamespace".to_owned());
        Ok(Picture {
            query: parts.join(" UNION ALL "),
        })
    }

    async fn take(&self, sql: &Client) -> Result<Vec<String>> {
        let rows = sql.query(&self.query, &[]).await.context("picture")?;
        let mut lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        // A plan with workers gives them in any order.
        lines.sort();
        Ok(lines)
    }
}

async fn pid(sql: &Client) -> Result<i32> {
    Ok(sql.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))
}

/// Waits until the backend waits for a lock.
async fn until_it_waits(sql: &Client, pid: i32) -> Result<()> {
    for _ in 0..3000 {
        let waits = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted";
        if sql.query_one(waits, &[&pid]).await?.get::<_, i64>(0) > 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    anyhow::bail!("backend {pid} waits for no lock")
}

/// The SQLSTATE of a failure; none when it worked, `08006` when the session ended without a word.
fn state_of<T>(result: &Result<T, tokio_postgres::Error>) -> Option<SqlState> {
    let error = result.as_ref().err()?;
    Some(error.code().cloned().unwrap_or(SqlState::CONNECTION_FAILURE))
}
