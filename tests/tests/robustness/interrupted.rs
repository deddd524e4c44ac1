//! Every call, stopped at each table it touches.
//!
//! A lock on a table stops a call exactly there: at its first look with the strongest lock, at its first write with a lock
//! that only writers wait for. So each call is tried at some ten points of its way, none of them left to chance.

use std::collections::BTreeSet;

use super::calls::CALLS;
use super::{Picture, TABLES, pid, prepared, quiet_cluster, state_of, until_it_waits};
use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::cluster::connect;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Everything that waits, then nothing else than writers.
const MODES: [&str; 2] = ["ACCESS EXCLUSIVE", "SHARE"];

/// A call under test.
struct Bench {
    url: String,
    /// Who calls.
    caller: Client,
    pid: i32,
    /// Who holds locks, cancels and looks.
    other: Client,
    picture: Picture,
    before: Vec<String>,
}

impl Bench {
    async fn new(url: String) -> Result<Bench> {
        let (caller, other) = (connect(&url).await?, connect(&url).await?);
        let picture = Picture::new(&other).await?;
        Ok(Bench {
            pid: pid(&caller).await?,
            before: picture.take(&other).await?,
            picture,
            url,
            caller,
            other,
        })
    }

    /// Calls in a transaction that is rolled back; gives how it failed.
    async fn call(&self, statement: &str) -> Result<Option<SqlState>> {
        self.caller.batch_execute("BEGIN").await?;
        let state = state_of(&self.caller.batch_execute(statement).await);
        // A session that was ended has rolled back.
        let _ = self.caller.batch_execute("ROLLBACK").await;
        Ok(state)
    }

    async fn set(&self, setting: &str) -> Result<()> {
        self.caller.batch_execute(setting).await.context("setting")
    }

    async fn lock(&self, table: &str, mode: &str) -> Result<()> {
        self.other
            .batch_execute(&format!("BEGIN; LOCK TABLE {table} IN {mode} MODE"))
            .await
            .context("lock")
    }

    async fn unlock(&self) -> Result<()> {
        self.other.batch_execute("ROLLBACK").await.context("unlock")
    }

    /// Nothing is changed, and no lock is left.
    async fn untouched(&self, what: &str) -> Result<()> {
        let after = self.picture.take(&self.other).await?;
        let changed: Vec<_> = after.iter().filter(|line| !self.before.contains(line)).collect();
        ensure!(changed.is_empty(), "{what}: changed: {changed:?}");
        Ok(())
    }

    /// The session goes on: the same call works now.
    async fn works(&self, name: &str, statement: &str) -> Result<()> {
        let state = self.call(statement).await?;
        ensure!(state.is_none(), "{name}: {state:?} where nothing is in its way");
        Ok(())
    }

    /// Where it waits: each table and mode at which a call with a short lock time-out fails.
    async fn points(&self, name: &str, statement: &str, tables: &[String]) -> Result<Vec<(String, &'static str)>> {
        let mut points = Vec::new();
        self.set("SET lock_timeout = '15ms'").await?;
        for table in tables {
            for mode in MODES {
                self.lock(table, mode).await?;
                let state = self.call(statement).await?;
                self.unlock().await?;
                match state {
                    None => break, // What gets past the strongest lock gets past the other.
                    Some(SqlState::LOCK_NOT_AVAILABLE) => {
                        self.untouched(&format!("{name} without a lock on {table}")).await?;
                        points.push((table.clone(), mode));
                    }
                    Some(other) => anyhow::bail!("{name}, {table} locked: {}", other.code()),
                }
            }
        }
        self.set("RESET lock_timeout").await?;
        self.works(name, statement).await?;
        Ok(points)
    }

    /// Calls while a table is locked, and does something to the call once it waits there.
    async fn stop_at(&self, (table, mode): &(String, &str), statement: &str, how: &str) -> Result<Option<SqlState>> {
        self.lock(table, mode).await?;
        let stop = async {
            until_it_waits(&self.other, self.pid).await?;
            self.other.query_one(how, &[&self.pid]).await?;
            Ok::<_, anyhow::Error>(())
        };
        let (called, stopped) = tokio::join!(self.call(statement), stop);
        self.unlock().await?;
        stopped?;
        called
    }
}

async fn tables(sql: &Client) -> Result<Vec<String>> {
    Ok(sql.query(TABLES, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// A new function that a role may call needs a line in the list.
#[tokio::test]
async fn every_function_that_a_role_may_call_is_in_the_list() -> Result<()> {
    let cluster = quiet_cluster("")?;
    let sql = connect(&prepared(&cluster, "listed").await?).await?;
    sql.batch_execute("CREATE ROLE caller; SELECT hubspot.grant_relay('caller'), hubspot.grant_admin('caller')")
        .await?;
    let callable: BTreeSet<String> = sql
        .query(
            "SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace = 'hubspot'::regnamespace AND has_function_privilege('caller', oid, 'EXECUTE')",
            &[],
        )
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let listed: BTreeSet<String> = CALLS
        .iter()
        .filter_map(|(name, _)| name.split(' ').next())
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = callable.difference(&listed).collect();
    assert!(missing.is_empty(), "not in calls.rs: {missing:?}");
    Ok(())
}

/// lock_timeout at every point; statement_timeout, pg_cancel_backend and pg_terminate_backend at the first and the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_stopped_leaves_everything_as_it_was() -> Result<()> {
    let cluster = quiet_cluster("")?;
    let mut bench = Bench::new(prepared(&cluster, "interrupted").await?).await?;
    let tables = tables(&bench.other).await?;
    let (mut tried, mut waiting) = (0, BTreeSet::new());
    for (name, statement) in CALLS {
        bench.works(name, statement).await?;
        bench.untouched(&format!("{name}, rolled back")).await?;
        let points = bench.points(name, statement, &tables).await?;
        tried += points.len();
        let ends: Vec<_> = match points.as_slice() {
            [] => continue,
            [only] => vec![only],
            [first, .., last] => vec![first, last],
        };
        waiting.insert(*name);
        for point in ends {
            let (table, mode) = point;
            bench.set("SET statement_timeout = '15ms'").await?;
            bench.lock(table, mode).await?;
            let state = bench.call(statement).await?;
            bench.unlock().await?;
            bench.set("RESET statement_timeout").await?;
            assert_eq!(state, Some(SqlState::QUERY_CANCELED), "{name}, time-out at {table}");
            bench.untouched(&format!("{name} out of time at {table}")).await?;

            let state = bench.stop_at(point, statement, "SELECT pg_cancel_backend($1)").await?;
            assert_eq!(state, Some(SqlState::QUERY_CANCELED), "{name}, cancelled at {table}");
            bench.untouched(&format!("{name} cancelled at {table}")).await?;
            bench.works(name, statement).await?;

            let state = bench
                .stop_at(point, statement, "SELECT pg_terminate_backend($1)")
                .await?;
            assert_eq!(state, Some(SqlState::ADMIN_SHUTDOWN), "{name}, terminated at {table}");
            bench.caller = connect(&bench.url).await?;
            bench.pid = pid(&bench.caller).await?;
            bench.untouched(&format!("{name} terminated at {table}")).await?;
            tried += 3;
        }
    }
    println!("{tried} interruptions of {} calls", waiting.len());
    // The list has some calls that touch no table; that most wait somewhere shows that the locks are where they are thought.
    assert!(waiting.len() > 60, "{waiting:?}");
    Ok(())
}
