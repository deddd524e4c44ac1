//! PgBouncer between the application and the database: nothing of capture depends on a session.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hubspot_sync_tests::cluster::{self, Cluster, connect};
use hubspot_sync_tests::world::World;
use tokio_postgres::Client;

/// Debian's place and everybody's.
const PROGRAMS: [&str; 2] = ["/usr/sbin/pgbouncer", "pgbouncer"];

/// A pooler in front of a cluster.
struct Bouncer {
    child: Child,
    port: u16,
    _config: tempfile::TempDir,
}

impl Bouncer {
    /// None where there is no PgBouncer.
    async fn start(cluster: &Cluster, mode: &str, more: &str) -> Result<Option<Bouncer>> {
        let Some(program) = PROGRAMS.iter().find(|program| {
            let asked = Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            asked.is_ok_and(|status| status.success())
        }) else {
            println!("NOT TESTED: PgBouncer is not installed (make setup installs it)");
            return Ok(None);
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let ini = folder.path().join("pgbouncer.ini");
        write!(
            std::fs::File::create(&ini)?,
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 2\nmax_client_conn = 100\n{more}\n",
            cluster.port()
        )?;
        let mut command = Command::new(program);
        // It refuses to run as root.
        if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?) == 0 {
            command.args(["--user", "postgres"]);
        }
        let child = command
            .arg(&ini)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let bouncer = Bouncer {
            child,
            port,
            _config: folder,
        };
        for _ in 0..500 {
            if connect(&bouncer.url("postgres", "test")).await.is_ok() {
                return Ok(Some(bouncer));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("PgBouncer does not answer")
    }

    fn url(&self, database: &str, application: &str) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/{database}?application_name={application}",
            self.port
        )
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Transactions of three clients take turns on two server sessions: each is captured with its own application's name, what
/// is rolled back is not, and other clients' changes of tables and mappings between two of them are seen.
async fn takes_turns(more: &str, name: &str) -> Result<()> {
    let mut world = World::without_relay(name, |_| ()).await?;
    let Some(bouncer) = Bouncer::start(cluster::shared(), "transaction", more).await? else {
        return Ok(());
    };
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..3 {
        clients.push(connect(&bouncer.url(&database, &format!("app{number}"))).await?);
    }
    for round in 0..10 {
        for (number, client) in clients.iter().enumerate() {
            let ban = format!("B-{number}-{round}");
            client
                .batch_execute(&format!("INSERT INTO customers (ban, company_name, contact, address) VALUES ('{ban}', 'First', '{{}}', '{{}}')"))
                .await?;
            client
                .batch_execute(&format!(
                    "BEGIN; SET LOCAL DateStyle = 'German'; UPDATE customers SET company_name = 'Second', credit_limit = {round} WHERE ban = '{ban}';
                     SAVEPOINT s; UPDATE customers SET company_name = 'Never' WHERE ban = '{ban}'; ROLLBACK TO s; COMMIT"
                ))
                .await?;
            client
                .batch_execute(&format!("BEGIN; DELETE FROM customers WHERE ban = '{ban}'; ROLLBACK"))
                .await?;
        }
        if round == 4 {
            // Server sessions have plans of the table by now.
            world
                .sql
                .batch_execute(
                    "ALTER TABLE customers ADD COLUMN later text; ALTER TABLE customers RENAME company_name TO firm",
                )
                .await?;
            world
                .sql
                .batch_execute("ALTER TABLE customers RENAME firm TO company_name")
                .await?;
        }
    }
    let sessions = "SELECT count(DISTINCT application_name)::text || ' ' || count(*) || ' ' || count(*) FILTER (WHERE changes::text LIKE '%Never%' OR op = 'D') FROM hubspot.capture";
    assert_eq!(world.text(sessions).await?.as_deref(), Some("3 60 0"));
    let mixed = "SELECT count(*)::text FROM hubspot.capture k JOIN customers c ON c.id::text = k.entity_key WHERE c.ban NOT LIKE 'B-' || right(k.application_name, 1) || '-%'";
    assert_eq!(
        world.text(mixed).await?.as_deref(),
        Some("0"),
        "captured under another application's name"
    );
    // The relay itself reaches the database directly.
    world.start_relay("").await?;
    world.settle().await?;
    for number in 0..3 {
        for round in 0..10 {
            let found = world.sim.find("companies", "warp_ban", &format!("B-{number}-{round}"));
            assert_eq!(
                found.iter().map(|record| record.value("name")).collect::<Vec<_>>(),
                [Some("Second")]
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_may_use_transaction_pooling() -> Result<()> {
    takes_turns("", "pooled").await
}

/// With everything that a session holds discarded after each transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_may_discard_its_sessions() -> Result<()> {
    takes_turns(
        "server_reset_query = DISCARD ALL\nserver_reset_query_always = 1",
        "discarded",
    )
    .await
}

/// The relay needs sessions of its own (LISTEN, a session's advisory lock, prepared statements): session pooling gives them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_may_use_session_pooling() -> Result<()> {
    let mut world = World::without_relay("session_pooled", |_| ()).await?;
    let Some(bouncer) = Bouncer::start(cluster::shared(), "session", "default_pool_size = 20").await? else {
        return Ok(());
    };
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    let url = format!("postgres://postgres@127.0.0.1:{}/{database}", bouncer.port);
    let config = hubspot_relay::Config::from_toml(&world.config_toml(&url, "")).context("settings")?;
    let relay = World::run_config(config).await?;
    world.adopt_relay(relay);
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.person_sets(&id, "name", "Acme 3")?;
    world.settle().await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Acme 3"));
    if let Some(relay) = world.take_relay() {
        relay.stop().await;
    }
    Ok(())
}
