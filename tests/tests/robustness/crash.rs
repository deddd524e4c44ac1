//! A backend that is killed where it stands takes the whole server through recovery: nothing half-done may come back.

use std::process::Command;
use std::time::Duration;

use super::calls::CALLS;
use super::{Picture, pid, prepared, programs, quiet_cluster, until_it_waits};
use anyhow::{Context as _, Result, bail, ensure};
use hubspot_sync_tests::cluster::connect;
use tokio_postgres::Client;

/// Each call with a table that it writes late.
const KILLED: &[(&str, &str)] = &[
    ("UPDATE", "hubspot.capture"),
    ("DELETE", "hubspot.capture"),
    ("relay_claim", "hubspot.queue"),
    ("relay_decide", "hubspot.sync_state"),
    ("relay_complete", "hubspot.sync_log"),
    ("relay_receive", "hubspot.webhook_events"),
    ("relay_apply", "hubspot.sync_log"),
    ("relay_reconcile", "hubspot.reconciliation_runs"),
    ("import_mapping", "hubspot.field_mapping"),
    ("resolve_conflict", "hubspot.conflicts"),
    ("forget", "hubspot.forgotten"),
];

/// Connects once the server has recovered.
pub async fn connect_again(url: &str) -> Result<Client> {
    for _ in 0..600 {
        if let Ok(sql) = connect(url).await
            && sql.batch_execute("SELECT 1").await.is_ok()
        {
            return Ok(sql);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the server did not come back")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_killed_leaves_everything_as_it_was() -> Result<()> {
    let cluster = quiet_cluster("")?;
    let url = prepared(&cluster, "killed").await?;
    let mut other = connect(&url).await?;
    let picture = Picture::new(&other).await?;
    let before = picture.take(&other).await?;
    for (name, table) in KILLED {
        let (_, statement) = CALLS.iter().find(|(listed, _)| listed == name).context("call")?;
        let caller = connect(&url).await?;
        let victim = pid(&caller).await?;
        other
            .batch_execute(&format!("BEGIN; LOCK TABLE {table} IN SHARE MODE"))
            .await?;
        let kill = async {
            until_it_waits(&other, victim).await.context(*name)?;
            let status = Command::new("kill").args(["-KILL", &victim.to_string()]).status()?;
            ensure!(status.success(), "kill");
            Ok::<_, anyhow::Error>(())
        };
        let (called, killed) = tokio::join!(caller.batch_execute(statement), kill);
        killed?;
        assert!(called.is_err(), "{name} survived");
        // The server ends all sessions before it recovers: a new one that comes before that would be ended too.
        while !other.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        other = connect_again(&url).await?;
        let after = picture.take(&other).await?;
        assert_eq!(before, after, "{name}");
    }
    // What was waiting can be done now, by all the calls in turn, for good.
    for (name, _) in KILLED {
        let (_, statement) = CALLS.iter().find(|(listed, _)| listed == name).context("call")?;
        if !["import_mapping", "forget", "DELETE"].contains(name) {
            other.batch_execute(statement).await.context(*name)?;
        }
    }
    programs::amcheck(&cluster, &url)
}
