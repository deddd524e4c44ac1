//! A private PostgreSQL for the tests and the demo: its own program files, its own cluster, its own port.
//!
//! # Why a private tree
//!
//! An extension lives in PostgreSQL's own folders, and installing it there would change the machine. PostgreSQL, however,
//! finds those folders relative to its `postgres` binary (`make_relative_path` in its sources). So the harness copies the
//! binaries, the libraries and the share folder (some 20 MB) into a temporary folder, lays the built extension over them,
//! and runs that copy.
//!
//! # Why a watchdog
//!
//! A test process can end without running any destructor: `std::process::exit`, a static, an abort, SIGKILL. A small shell
//! process therefore waits for the end of a pipe whose other end only this process holds. The kernel closes it however we
//! end; the watchdog then stops the server and removes the folder.
//!
//! # Use
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use hubspot_sync_tests::cluster;
//! let url = cluster::shared().create_database("orders").await?;
//! let client = cluster::connect(&url).await?;
//! client.batch_execute("SELECT 1").await?;
//! # Ok(())
//! # }
//! ```
//!
//! Environment: `HUBSPOT_SYNC_PG_CONFIG` names another PostgreSQL's `pg_config` and `HUBSPOT_SYNC_PACKAGE` the folder that
//! `make ext` filled.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};

mod copy;
mod disk;
mod upgrade;
mod valgrind;

pub use upgrade::Server;

/// Debian's PostgreSQL 15.
const DEFAULT_PG_CONFIG: &str = "/usr/lib/postgresql/15/bin/pg_config";

/// The database with the extension that [`Cluster::create_database`] copies.
const TEMPLATE: &str = "hubspot_sync_template";

/// Below Linux's range for outgoing connections (from 32768), so that nobody's connection takes the port while the server
/// restarts.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Settings of the cluster. Speed comes from not syncing files: that is safe against a crash of the server, which the
/// tests provoke, and unsafe only against a crash of the machine, after which the folder is gone anyway. Commits stay
/// synchronous, because `synchronous_commit = off` would lose them in an immediate shutdown.
const SETTINGS: &str = "\
fsync = off
full_page_writes = off
synchronous_commit = on
shared_preload_libraries = ''
listen_addresses = '127.0.0.1'
max_connections = 200
max_prepared_transactions = 20
shared_buffers = 64MB
# The private tree has no bitcode.
jit = off
timezone = 'Etc/UTC'
log_timezone = 'Etc/UTC'
lc_messages = 'C'
log_line_prefix = '%m [%p] %q%a@%d '
";

/// What the watchdog does; its arguments are the temporary folder, the data folder and the folder that the data folder is
/// in where that is another one. It kills by the number in
/// `postmaster.pid`, because `pg_ctl` refuses to run as root. It looks again until the folder stays away: we may have been
/// killed in the middle of starting the server.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for _ in 1 2 3 4 5; do
  read -r pid 2>/dev/null <"$2/postmaster.pid" || pid=
  if [ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null; then
    n=0
    while kill -0 "$pid" 2>/dev/null; do
      n=$((n + 1))
      [ "$n" -lt 100 ] || kill -KILL "$pid" 2>/dev/null
      [ "$n" -lt 110 ] || break
      sleep 0.1
    done
  fi
  rm -rf "$1" ${3:+"$3"} && [ ! -e "$1" ] && break
  sleep 0.5
done
"#;

/// How the server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Clients are disconnected, their transactions rolled back, and everything is written: `pg_ctl -m fast`.
    Fast,
    /// As after a crash: the next start recovers from the write-ahead log: `pg_ctl -m immediate`.
    Immediate,
}

impl StopMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

/// The unprivileged user that PostgreSQL runs as when we are root.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

/// What a cluster may differ in from the tests' own.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Lines of `postgresql.conf` that come last and so win.
    pub settings: String,
    /// A folder to make the data folder in, a RAM disk for instance.
    pub data_in: Option<PathBuf>,
    /// Bytes of a disk of the server's own; set by [`Cluster::start_on_small_disk`].
    pub small_disk: Option<u64>,
    /// Another PostgreSQL than the environment's.
    pub server: Option<Server>,
    /// More arguments of `initdb`.
    pub initdb: Vec<String>,
}

/// A running PostgreSQL cluster of our own. Dropping it stops the server and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    /// Everything is in here: `tree`, `data` (unless it is elsewhere), `socket` and `log`.
    dir: PathBuf,
    data_dir: PathBuf,
    bin_dir: PathBuf,
    port: u16,
    user: Option<User>,
    small_disk: Option<u64>,
    /// `None` after [`Cluster::stop`]. Also the lock that keeps stops and starts apart.
    watchdog: Mutex<Option<Child>>,
    template: tokio::sync::OnceCell<()>,
}

/// The cluster of this test process, started at first use. It goes away with the process.
///
/// # Panics
///
/// When the cluster cannot be started, with the reason; so for every test of the process.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    match SHARED.get_or_init(|| Cluster::start().map_err(|error| format!("{error:#}"))) {
        Ok(cluster) => cluster,
        Err(error) => panic!("the tests' PostgreSQL cluster did not start: {error}"),
    }
}

/// Connect to `url` without TLS and drive the connection in a background task, which ends with the client.
///
/// # Errors
///
/// When the server refuses the connection.
pub async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .with_context(|| format!("cannot connect to {url}"))?;
    tokio::spawn(async move {
        // The client's own calls report the same error; tests that stop the server expect it.
        let _ = connection.await;
    });
    Ok(client)
}

impl Cluster {
    /// Build the private tree with the extension, create a cluster and start it. Blocks for about two seconds.
    ///
    /// # Errors
    ///
    /// When PostgreSQL or the built extension is missing, or the server does not start; the message says what to do.
    pub fn start() -> Result<Self> {
        Self::start_with(&Options::default())
    }

    /// The same with settings and a place of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn start_with(options: &Options) -> Result<Self> {
        let server = match &options.server {
            Some(server) => server.clone(),
            None => Server::of_environment()?,
        };

        let dir = tempfile::Builder::new()
            .prefix("hubspot_sync-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        set_mode(dir.path(), 0o755)?;
        // PostgreSQL resolves symbolic links in its own path.
        let root = dir.path().canonicalize()?;
        let elsewhere = options.data_in.as_ref().map(|parent| {
            tempfile::Builder::new()
                .prefix("hubspot_sync-")
                .tempdir_in(parent)
                .with_context(|| format!("cannot create a folder in {}", parent.display()))
        });
        let elsewhere = elsewhere.transpose()?;
        let data_dir = match &elsewhere {
            Some(place) => {
                set_mode(place.path(), 0o755)?;
                place.path().canonicalize()?.join("data")
            }
            None => root.join("data"),
        };
        let watchdog = start_watchdog(&root, &data_dir)?;
        // From here on the watchdog removes the folders, whatever happens.
        let _ = dir.keep();
        let _ = elsewhere.map(tempfile::TempDir::keep);
        let cluster = Self {
            bin_dir: PathBuf::new(),
            port: 0,
            user: None,
            small_disk: options.small_disk,
            watchdog: Mutex::new(Some(watchdog)),
            template: tokio::sync::OnceCell::new(),
            dir: root,
            data_dir,
        };
        // An error drops `cluster`, which cleans up.
        cluster.set_up(&server, options)
    }

    fn set_up(mut self, server: &Server, options: &Options) -> Result<Self> {
        let package = &server.package;
        let tree = self.dir.join("tree");
        self.bin_dir = copy_postgresql(&server.pg_config, &tree)?;
        copy_tree(package, &tree).with_context(|| format!("cannot copy the extension from {}", package.display()))?;

        self.user = unprivileged_user()?;
        for path in [self.data_dir().to_owned(), self.socket_dir()] {
            fs::create_dir(&path)?;
            set_mode(&path, 0o700)?;
            self.give_to_user(&path)?;
        }
        fs::write(self.log_path(), "")?;
        self.give_to_user(&self.log_path())?;

        let data = self.data_dir().to_owned();
        let mut initdb = self.command("initdb");
        initdb.arg("--pgdata").arg(&data);
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]);
        initdb.args(&options.initdb);
        run(initdb)?;
        let mut conf = fs::read_to_string(data.join("postgresql.conf"))?;
        conf.push_str(SETTINGS);
        conf.push_str(&format!(
            "unix_socket_directories = '{}'\n",
            self.socket_dir().display()
        ));
        conf.push_str(&options.settings);
        fs::write(data.join("postgresql.conf"), conf)?;

        // Another process may take the port between our look and the server's start: then try another one.
        for attempt in 1.. {
            self.port = free_port()?;
            match self.start_server() {
                Ok(()) => break,
                Err(_) if attempt < 5 && self.log_tail().contains("Address already in use") => {
                    fs::write(self.log_path(), "")?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self)
    }

    /// `postgres://` URL of a database, as the superuser `postgres`, over TCP. It stays valid across restarts.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url("postgres", database)
    }

    /// `postgres://` URL of a database for a role; every role may log in without a password.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@{}:{}/{database}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Folder of the Unix socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Folder of the private PostgreSQL's programs, for `psql`, `pg_dump` and others.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// Create a database with the extension installed, and return its superuser URL. Its name is unique and starts with
    /// `name_hint`, as far as that is a plain identifier. It is a copy of a template, which is faster than
    /// `CREATE EXTENSION`.
    ///
    /// # Errors
    ///
    /// When the server is stopped or the extension cannot be created.
    pub async fn create_database(&self, name_hint: &str) -> Result<String> {
        self.template().await?;
        self.create_from(name_hint, TEMPLATE).await
    }

    /// Create a database without the extension, for tests of its installation and of upgrades.
    ///
    /// # Errors
    ///
    /// When the server is stopped.
    pub async fn create_empty_database(&self, name_hint: &str) -> Result<String> {
        // Not template1: nothing of ours may be in there by accident.
        self.create_from(name_hint, "template0").await
    }

    /// Create the template database unless it exists.
    async fn template(&self) -> Result<()> {
        self.template
            .get_or_try_init(|| async {
                let postgres = connect(&self.superuser_url("postgres")).await?;
                // A first attempt may have failed half-way.
                postgres
                    .batch_execute(&format!("DROP DATABASE IF EXISTS {TEMPLATE}"))
                    .await
                    .map_err(explain)?;
                postgres
                    .batch_execute(&format!("CREATE DATABASE {TEMPLATE} TEMPLATE template0"))
                    .await
                    .map_err(explain)?;
                let (client, connection) =
                    tokio_postgres::connect(&self.superuser_url(TEMPLATE), tokio_postgres::NoTls).await?;
                let connection = tokio::spawn(connection);
                let created = client.batch_execute("CREATE EXTENSION hubspot_sync").await;
                // A database cannot be copied while somebody is connected to it: wait until we are not.
                drop(client);
                let _ = connection.await;
                created
                    .map_err(explain)
                    .context("CREATE EXTENSION hubspot_sync failed")?;
                let gone =
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'";
                for _ in 0..200 {
                    if postgres.query_one(gone, &[&TEMPLATE]).await?.get::<_, i64>(0) == 0 {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        Ok(())
    }

    async fn create_from(&self, name_hint: &str, template: &str) -> Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{}_{}", identifier(name_hint), NEXT.fetch_add(1, Ordering::Relaxed));
        let client = connect(&self.superuser_url("postgres")).await?;
        client
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .await
            .map_err(explain)
            .with_context(|| format!("cannot create the database {name}"))?;
        Ok(self.superuser_url(&name))
    }

    /// Stop the server and start it again on the same port, as after an update (`Fast`) or a crash (`Immediate`).
    ///
    /// # Errors
    ///
    /// When the server does not come back; the message has the end of its log.
    pub fn restart(&self, mode: StopMode) -> Result<()> {
        self.stop_server(mode)?;
        self.start_server()
    }

    /// Stop the server but keep its data, to play an outage; [`Cluster::start_server`] ends it.
    ///
    /// # Errors
    ///
    /// When the server is not running or does not stop within a minute.
    pub fn stop_server(&self, mode: StopMode) -> Result<()> {
        let _guard = self.running()?;
        let mut stop = self.pg_ctl("stop");
        stop.args(["--mode", mode.as_str()]);
        run(stop).map(drop)
    }

    /// Start the server after [`Cluster::stop_server`] and wait until it accepts connections.
    ///
    /// # Errors
    ///
    /// When it does not start; the message has the end of its log.
    pub fn start_server(&self) -> Result<()> {
        let _guard = self.running()?;
        let mut start = self.pg_ctl("start");
        start
            .arg("--log")
            .arg(self.log_path())
            .arg("--options")
            .arg(format!("-p {}", self.port));
        if let Some(bytes) = self.small_disk {
            start = self.with_small_disk(start, bytes)?;
        }
        // Not `run`: the server inherits its output, and reading that would wait for the server's end.
        let status = start
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(
            status.success(),
            "PostgreSQL does not start; the end of its log:\n{}",
            self.log_tail()
        );
        self.make_space()
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The whole server log, to look for messages.
    ///
    /// # Errors
    ///
    /// When the cluster has been removed.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.log_path())?).into_owned())
    }

    /// Stop the server at once and remove everything. Does nothing the second time.
    pub fn stop(&self) {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = watchdog.take() {
            // `wait` closes our end of the pipe first, which is the watchdog's signal.
            let _ = child.wait();
        }
    }

    /// The lock for stopping and starting; an error after [`Cluster::stop`].
    fn running(&self) -> Result<std::sync::MutexGuard<'_, Option<Child>>> {
        let guard = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(guard.is_some(), "the cluster has been stopped");
        Ok(guard)
    }

    /// Folder of the data.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn pg_ctl(&self, action: &str) -> Command {
        let mut command = self.command("pg_ctl");
        command
            .arg(action)
            .arg("--pgdata")
            .arg(self.data_dir())
            .args(["--wait", "--timeout", "60", "--silent"]);
        command
    }

    /// A program of the private tree, to be run as the unprivileged user and without PostgreSQL's environment variables.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin_dir.join(program));
        // The current folder may be closed to the unprivileged user.
        command.current_dir(&self.dir);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Some(user) = self.user {
            // Setting the user also drops root's supplementary groups.
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    fn give_to_user(&self, path: &Path) -> Result<()> {
        if let Some(user) = self.user {
            std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start_watchdog(dir: &Path, data: &Path) -> Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", WATCHDOG, "hubspot_sync-watchdog"])
        .arg(dir)
        .arg(data)
        .args(data.parent().filter(|parent| *parent != dir))
        // Our end of this pipe is closed on exec, so no other child keeps it open.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // Ctrl-C in the terminal goes to the whole process group and must not reach the watchdog.
        .process_group(0)
        .spawn()
        .context("cannot start /bin/sh")
}

/// The folder that `make ext` filled: from the environment, else in Cargo's target folder, in which our binary is too.
fn find_package() -> Result<PathBuf> {
    let candidates = match std::env::var_os("HUBSPOT_SYNC_PACKAGE") {
        Some(package) => vec![PathBuf::from(package)],
        None => {
            let exe = std::env::current_exe().unwrap_or_default();
            let mut candidates: Vec<_> = exe
                .ancestors()
                .skip(1)
                .take(4)
                .map(|dir| dir.join("pgrx-package"))
                .collect();
            candidates.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pgrx-package"));
            candidates
        }
    };
    match candidates.iter().find(|path| path.is_dir()) {
        Some(path) => Ok(path.clone()),
        None => bail!(
            "the built extension is not in {}: run `make ext`",
            candidates
                .last()
                .map(|path| path.display().to_string())
                .unwrap_or_default()
        ),
    }
}

/// Copy what `pg_config` describes to the same paths below `tree`, and return the copy's `bin` folder.
fn copy_postgresql(pg_config: &Path, tree: &Path) -> Result<PathBuf> {
    let ask = |option: &str| -> Result<PathBuf> {
        let output = Command::new(pg_config).arg(option).output().with_context(|| {
            format!(
                "cannot run {}: run `make setup`, or set HUBSPOT_SYNC_PG_CONFIG",
                pg_config.display()
            )
        })?;
        ensure!(output.status.success(), "{} {option} failed", pg_config.display());
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
    };
    let mut bin_dir = PathBuf::new();
    for option in ["--bindir", "--pkglibdir", "--sharedir"] {
        let source = ask(option)?;
        let target = tree.join(source.strip_prefix("/").context("pg_config gave a relative path")?);
        copy_tree(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
        if option == "--bindir" {
            bin_dir = target;
        }
    }
    Ok(bin_dir)
}

/// Copy a folder, following symbolic links, readable by everybody. Leaves out what only a compiler needs, which is half of
/// PostgreSQL.
fn copy_tree(source: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let Ok(metadata) = fs::metadata(&from) else { continue }; // a dangling link, of manual pages for instance
        if metadata.is_dir() {
            if !["bitcode", "pgxs"].iter().any(|skipped| entry.file_name() == *skipped) {
                copy_tree(&from, &to)?;
            }
        } else if from.extension().is_none_or(|extension| extension != "a") {
            fs::copy(&from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o644 | (metadata.mode() & 0o111)))?;
        }
    }
    // After the files: a folder's own mode may come from a strict umask.
    set_mode(target, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// PostgreSQL refuses to run as root: then it runs as `postgres`, which Debian's package creates.
fn unprivileged_user() -> Result<Option<User>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let ask = |option: &str| -> Result<u32> {
        let mut id = Command::new("id");
        id.args([option, "postgres"]);
        let output = run(id).context("there is no user postgres: run `make setup`")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    };
    Ok(Some(User {
        uid: ask("-u")?,
        gid: ask("-g")?,
    }))
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    (0..1000)
        .map(|_| rand::random_range(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| anyhow!("no free port between {} and {}", PORTS.start, PORTS.end))
}

/// Run a command to its end; an error has its output.
fn run(mut command: Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// A lower-case identifier that needs no quotes and leaves room for a suffix.
fn identifier(hint: &str) -> String {
    let plain: String = hint
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .take(40)
        .collect();
    format!("t_{plain}")
}

/// `tokio_postgres::Error` prints only "db error": add the server's message.
fn explain(error: tokio_postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(db) => anyhow!(
            "{db}{}",
            db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default()
        ),
        None => error.into(),
    }
}
