//! The harness itself: private tree, cluster, databases, restarts, and that nothing is left behind.

use std::path::Path;
use std::process::Command;

use hubspot_sync_tests::cluster::{self, Cluster, StopMode, connect};

#[tokio::test]
async fn databases_have_the_extension_and_are_separate() {
    let cluster = cluster::shared();
    let first = cluster.create_database("Same name!").await.unwrap();
    let second = cluster.create_database("Same name!").await.unwrap();
    assert_ne!(first, second);
    for url in [&first, &second] {
        let client = connect(url).await.unwrap();
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int, extversion FROM pg_extension WHERE extname = 'hubspot_sync'",
                &[],
            )
            .await
            .unwrap();
        assert!(row.get::<_, i32>(0) >= 130_000);
        assert_eq!(row.get::<_, String>(1), env!("CARGO_PKG_VERSION"));
        client.batch_execute("CREATE TABLE only_here ()").await.unwrap();
    }
}

#[tokio::test]
async fn parallel_creation_works() {
    let cluster = cluster::shared();
    let mut created = tokio::task::JoinSet::new();
    for _ in 0..8 {
        created.spawn(async { cluster.create_database("parallel").await });
    }
    let mut urls = created
        .join_all()
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    urls.sort();
    urls.dedup();
    assert_eq!(urls.len(), 8);
}

#[tokio::test]
async fn the_server_runs_from_the_private_tree() {
    let cluster = cluster::shared();
    let client = connect(&cluster.create_empty_database("tree").await.unwrap())
        .await
        .unwrap();
    let query = "SELECT setting FROM pg_config WHERE name IN ('SHAREDIR', 'PKGLIBDIR')";
    for row in client.query(query, &[]).await.unwrap() {
        let path: String = row.get(0);
        assert!(
            Path::new(&path).starts_with(cluster.socket_dir().parent().unwrap()),
            "{path}"
        );
    }
    let query = "SELECT count(*) FROM pg_available_extensions WHERE name IN ('plpgsql', 'hubspot_sync')";
    assert_eq!(client.query_one(query, &[]).await.unwrap().get::<_, i64>(0), 2);
    let query = "SELECT ('2026-07-01 12:00+00'::timestamptz AT TIME ZONE 'Europe/Berlin')::text";
    assert_eq!(
        client.query_one(query, &[]).await.unwrap().get::<_, String>(0),
        "2026-07-01 14:00:00"
    );
}

#[tokio::test]
async fn restarts_keep_data_and_stop_removes_everything() {
    // Its own cluster: restarting the shared one would disturb the other tests.
    let cluster = Cluster::start().unwrap();
    let dir = cluster.socket_dir().parent().unwrap().to_owned();
    let url = cluster.create_database("restart").await.unwrap();
    connect(&url)
        .await
        .unwrap()
        .batch_execute("CREATE TABLE kept AS SELECT 42 AS answer")
        .await
        .unwrap();
    for mode in [StopMode::Immediate, StopMode::Fast] {
        cluster.restart(mode).unwrap();
        let row = connect(&url)
            .await
            .unwrap()
            .query_one("SELECT answer FROM kept", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i32>(0), 42, "after {mode:?}");
    }
    assert!(cluster.log_tail().contains("ready to accept connections"));
    cluster.stop_server(StopMode::Fast).unwrap();
    assert!(connect(&url).await.is_err());
    cluster.start_server().unwrap();
    cluster.stop();
    assert!(!dir.exists());
    assert!(cluster.start_server().is_err());
    cluster.stop();
}

/// What the test below kills: this test binary, running only this test.
#[tokio::test]
#[ignore = "started by a_killed_process_leaves_nothing"]
async fn victim() {
    let cluster = Cluster::start().unwrap();
    let path = std::env::var_os("HUBSPOT_SYNC_VICTIM").expect("HUBSPOT_SYNC_VICTIM names a file");
    let part = Path::new(&path).with_extension("part");
    std::fs::write(&part, cluster.socket_dir().parent().unwrap().to_str().unwrap()).unwrap();
    std::fs::rename(part, path).unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn a_killed_process_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let report = scratch.path().join("report");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored"])
        .env("HUBSPOT_SYNC_VICTIM", &report)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = eventually(|| report.exists());
    let dir = started.then(|| std::path::PathBuf::from(std::fs::read_to_string(&report).unwrap()));
    let pid = dir.as_ref().map(|dir| {
        let pid = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap();
        Path::new("/proc").join(pid.lines().next().unwrap())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let (dir, pid) = (
        dir.expect("the cluster started"),
        pid.expect("the server has a process number"),
    );
    assert!(eventually(|| !dir.exists()), "{} is left", dir.display());
    assert!(eventually(|| !pid.exists()), "the server still runs: {}", pid.display());
}

fn eventually(condition: impl Fn() -> bool) -> bool {
    (0..600).any(|_| {
        let done = condition();
        if !done {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        done
    })
}
