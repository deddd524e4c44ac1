//! No memory: the address space of one backend is bounded while it works on large values.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::crash::connect_again;
use super::{pid, prepared, programs, quiet_cluster, state_of};
use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::cluster::connect;
use tokio_postgres::error::SqlState;

/// Lets a process have that much more address space than it has, or any amount.
fn bound(pid: i32, more: Option<u64>) -> Result<()> {
    let limit = match more {
        None => "unlimited".to_owned(),
        Some(more) => {
            let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
            let pages: u64 = statm.split(' ').next().context("statm")?.parse()?;
            (pages * 4096 + more).to_string()
        }
    };
    // The soft limit alone: it can be raised again by whoever owns the process.
    // As that process's own user: root in a container may lack the right to limit others.
    let owner = std::fs::metadata(format!("/proc/{pid}"))?;
    let status = Command::new("prlimit")
        .uid(owner.uid())
        .gid(owner.gid())
        .args(["--pid", &pid.to_string(), &format!("--as={limit}:")])
        .status()?;
    ensure!(status.success(), "prlimit");
    Ok(())
}

/// A call that runs out of memory, however much it had, fails alone: with 53200, its transaction undone, the server and all
/// other sessions untouched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_memory_fails_alone() -> Result<()> {
    const MB: u64 = 1 << 20;
    let cluster = quiet_cluster("")?;
    let url = prepared(&cluster, "memory").await?;
    let bystander = connect(&url).await?;
    let born = "SELECT pg_postmaster_start_time()::text || pg_backend_pid()";
    let before: String = bystander.query_one(born, &[]).await?.get(0);
    let (mut refused, mut done) = (0, 0);
    for (name, statement) in [
        ("capture", "UPDATE deal SET note = repeat('x', 12000000) WHERE id < 5"),
        (
            "capture of JSON's escapes",
            "UPDATE deal SET note = repeat(E'\\x01', 6000000) WHERE id < 3",
        ),
        ("relay_claim", "SELECT hubspot.relay_claim('r1', 10, 60000, 0)"),
        (
            "relay_receive",
            "SELECT hubspot.relay_receive(event(11, 8, repeat('y', 12000000)))",
        ),
        ("relay_apply", "SELECT hubspot.relay_apply(10)"),
    ] {
        for more in [2, 6, 12, 20, 32, 48, 64, 96, 128, 192, 256, 384] {
            let mut caller = connect(&url).await?;
            caller
                .batch_execute("LOAD '$libdir/hubspot_sync'; SELECT count(*) FROM deal")
                .await?;
            let backend = pid(&caller).await?;
            caller.batch_execute("BEGIN").await?;
            bound(backend, Some(more * MB))?;
            let result = caller.batch_execute(statement).await;
            match state_of(&result) {
                None => done += 1,
                Some(SqlState::OUT_OF_MEMORY) => refused += 1,
                Some(other) => anyhow::bail!("{name} with {more} MB more: {}: {:?}", other.code(), result.err()),
            }
            // PostgreSQL's own refusals leave the session, ours end it.
            let ended = result
                .as_ref()
                .err()
                .and_then(|error| error.as_db_error())
                .is_some_and(|error| error.severity() == "FATAL");
            if ended {
                caller = connect(&url).await?;
            } else {
                bound(backend, None)?;
                caller.batch_execute("ROLLBACK").await?;
            }
            caller.batch_execute("SELECT hubspot.status()").await?;
        }
        // Done for good, for the next one's work.
        connect(&url).await?.batch_execute(statement).await.context(name)?;
    }
    println!("{refused} calls ran out of memory, {done} did not");
    assert!(refused >= 10 && done >= 5, "{refused} {done}");
    let after: String = bystander
        .query_one(born, &[])
        .await
        .context("the bystander's session")?
        .get(0);
    assert_eq!(before, after, "the server has restarted");
    drop(connect_again(&url).await?);
    programs::amcheck(&cluster, &url)
}
