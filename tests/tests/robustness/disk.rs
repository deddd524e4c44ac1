//! No room on the disk that the extension's tables are on.

use std::fs;
use std::io::Write as _;

use super::calls::CALLS;
use super::{Picture, prepared, programs, state_of};
use anyhow::{Context as _, Result, bail, ensure};
use hubspot_sync_tests::cluster::{Cluster, Options, connect};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// What calls that are rolled back leave behind has room, too.
const DISK_BYTES: u64 = 128 << 20;
const SPARE_BYTES: u64 = 256 << 10;

/// Takes what room is left, and gives it back when dropped.
struct Ballast(std::path::PathBuf);

impl Ballast {
    fn fill(cluster: &Cluster) -> Result<Ballast> {
        let path = cluster.small_disk().context("the small disk")?.join("ballast");
        let mut file = fs::File::create(&path)?;
        for size in [65_536, 4_096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        // Some statements are to succeed before one is refused.
        let full = file.metadata()?.len();
        file.set_len(full.saturating_sub(SPARE_BYTES))?;
        Ok(Ballast(path))
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Puts the extension's tables and indexes there.
async fn move_tables(sql: &Client, folder: &str) -> Result<()> {
    sql.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{folder}'"))
        .await?;
    sql.batch_execute(
        "DO $$ DECLARE r regclass; k \"char\"; BEGIN
           FOR r, k IN SELECT c.oid, c.relkind FROM pg_class c WHERE c.relnamespace = 'hubspot'::regnamespace AND c.relkind IN ('r', 'i') LOOP
             EXECUTE format('ALTER %s %s SET TABLESPACE small', CASE k WHEN 'r' THEN 'TABLE' ELSE 'INDEX' END, r);
           END LOOP;
         END $$",
    )
    .await
    .context("move")
}

/// The application's writes and the relay's calls fail with 53100, whole; once there is room again, all goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_calls_and_keeps_them_whole() -> Result<()> {
    let Some(cluster) = Cluster::start_on_small_disk(
        &Options {
            settings: "autovacuum = off\n".to_owned(),
            ..Options::default()
        },
        DISK_BYTES,
    )?
    else {
        println!("NOT TESTED: a small disk can be mounted by root alone");
        return Ok(());
    };
    let url = prepared(&cluster, "full").await?;
    let (caller, other) = (connect(&url).await?, connect(&url).await?);
    let folder = cluster.small_disk_path().context("folder")?;
    move_tables(&other, &folder).await?;
    let picture = Picture::new(&other).await?;
    let ballast = Ballast::fill(&cluster)?;

    let counts = "SELECT (SELECT count(*) FROM deal), (SELECT count(*) FROM hubspot.capture WHERE op = 'I')";
    let mut full = false;
    for n in 1..400 {
        let statement = format!(
            "INSERT INTO deal SELECT n, 'B-' || n, 'Name', repeat('long ', 20) FROM generate_series({n} * 10000, {n} * 10000 + 99) n"
        );
        match state_of(&caller.batch_execute(&statement).await) {
            None => (),
            Some(SqlState::DISK_FULL) => {
                full = true;
                break;
            }
            Some(other) => bail!("{}", other.code()),
        }
    }
    ensure!(full, "the disk was not filled");
    let row = caller.query_one(counts, &[]).await?;
    let (rows, captured): (i64, i64) = (row.get(0), row.get(1));
    ensure!(captured > 0, "the disk was full from the start");
    assert_eq!(rows - 8, captured, "rows that are there and rows that were captured");

    let before = picture.take(&other).await?;
    let mut refused = Vec::new();
    for (name, statement) in CALLS {
        caller.batch_execute("BEGIN").await?;
        match state_of(&caller.batch_execute(statement).await) {
            None => (),
            Some(SqlState::DISK_FULL) => refused.push(*name),
            Some(other) => bail!("{name}: {}", other.code()),
        }
        caller.batch_execute("ROLLBACK").await?;
        assert_eq!(before, picture.take(&other).await?, "{name}");
    }
    println!("refused for want of room: {refused:?}");
    // The others found room in pages that are there.
    assert!(refused.contains(&"INSERT of many") && refused.len() >= 5, "{refused:?}");

    drop(ballast);
    for (name, statement) in CALLS {
        caller.batch_execute("BEGIN").await?;
        caller.batch_execute(statement).await.context(*name)?;
        caller.batch_execute("ROLLBACK").await?;
    }
    caller
        .batch_execute("SELECT hubspot.relay_claim('r1', 10, 60000, 0)")
        .await?;
    let left: i64 = caller
        .query_one("SELECT count(*) FROM hubspot.capture", &[])
        .await?
        .get(0);
    let known: i64 = caller
        .query_one("SELECT count(*) FROM hubspot.link WHERE entity_key::int >= 1000", &[])
        .await?
        .get(0);
    ensure!(
        known > 0 && known + left >= captured,
        "{known} known, {left} captured, of {captured}"
    );
    programs::amcheck(&cluster, &url)
}
