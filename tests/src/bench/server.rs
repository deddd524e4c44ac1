//! The server that is measured: a cluster of its own, what it is set to, and what its processes used.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio_postgres::Client;

use crate::cluster::{Cluster, Options, connect};

/// A RAM disk that every Linux has.
const RAM_DISK: &str = "/dev/shm";

/// Every flush waits this long, in place of a disk.
const FLUSH_DELAY: Duration = Duration::from_micros(60);

/// Durable commits with a flush delay instead of a disk, and nothing in the background that would disturb one run and not
/// another.
const SETTINGS: &str = "
fsync = on
synchronous_commit = on
commit_delay = 60
commit_siblings = 0
autovacuum = off
shared_buffers = 1GB
max_wal_size = 8GB
min_wal_size = 1GB
checkpoint_timeout = 1h
log_checkpoints = off
wal_level = replica
max_wal_senders = 0
";

/// What may be chosen about the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// Write full page images after a checkpoint, as PostgreSQL does unless it is told otherwise. Every run then starts
    /// with many of them, because a checkpoint comes before it.
    pub full_page_writes: bool,
    /// Connect over TCP instead of the Unix socket.
    pub tcp: bool,
}

/// The running server.
#[derive(Debug)]
pub struct Server {
    cluster: Cluster,
    choice: Choice,
    on_ram: bool,
    /// How long the wait for a flush really is.
    flush_delay: Duration,
}

impl Server {
    /// Starts it, on the RAM disk where there is one.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn start(choice: Choice) -> Result<Self> {
        let ram = Path::new(RAM_DISK);
        let on_ram = ram.is_dir() && !fs::metadata(ram)?.permissions().readonly();
        let cluster = Cluster::start_with(&Options {
            settings: format!(
                "{SETTINGS}full_page_writes = {}\n",
                if choice.full_page_writes { "on" } else { "off" }
            ),
            data_in: on_ram.then(|| ram.to_owned()),
            ..Options::default()
        })?;
        Ok(Self {
            cluster,
            choice,
            on_ram,
            flush_delay: measured_delay(),
        })
    }

    /// The conditions of the measurement, for people.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn describe(&self) -> Result<String> {
        let client = connect(&self.cluster.superuser_url("postgres")).await?;
        let version: String = client.query_one("SHOW server_version", &[]).await?.get(0);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("?");
        Ok(format!(
            "PostgreSQL {version}, {cores} cores shared with pgbench, load average at the start {load}\n\
             data on {place}; fsync on, commit_delay {set} µs with commit_siblings 0 (a wait that takes {took} µs here, in place of a disk)\n\
             shared_buffers 1 GB, full_page_writes {images}, autovacuum off (tables are vacuumed between runs), a checkpoint before each run\n\
             pgbench over {path}, prepared statements; variants take turns; a ratio is the median of the rounds' ratios",
            place = if self.on_ram {
                "a RAM disk"
            } else {
                "an ordinary disk, for there is no RAM disk: expect noise"
            },
            images = if self.choice.full_page_writes { "on" } else { "off" },
            path = if self.choice.tcp {
                "TCP on the loopback"
            } else {
                "the Unix socket"
            },
            set = FLUSH_DELAY.as_micros(),
            took = self.flush_delay.as_micros(),
        ))
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A client program of the server's own version, set to connect to it.
    pub fn client_program(&self, name: &str) -> Command {
        let mut command = Command::new(self.cluster.bin_dir().join(name));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
            .arg("--host")
            .arg(if self.choice.tcp {
                "127.0.0.1".into()
            } else {
                self.cluster.socket_dir()
            })
            .arg(format!("--port={}", self.cluster.port()));
        command
    }

    /// CPU time, user and system, that the server's processes have used so far: those that run and those that ended.
    ///
    /// # Errors
    ///
    /// When the server does not run.
    pub fn cpu(&self) -> Result<Duration> {
        let pid = fs::read_to_string(self.cluster.data_dir().join("postmaster.pid"))?;
        let postmaster: u32 = pid.lines().next().unwrap_or_default().trim().parse()?;
        let mut ticks = 0;
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process may end between the listing and the look.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            if let Some(process) = Process::parse(&stat)
                && (pid == postmaster || process.parent == postmaster)
            {
                ticks += process.ticks;
            }
        }
        Ok(Duration::from_secs_f64(ticks as f64 / ticks_per_second()))
    }
}

/// What `/proc/<pid>/stat` says that matters here.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    parent: u32,
    /// User and system, its own and that of the children that it has waited for.
    ticks: u64,
}

impl Process {
    fn parse(stat: &str) -> Option<Self> {
        // The name is in parentheses and may hold anything, parentheses too.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(1)?).ok()?,
            ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        })
    }
}

/// The unit of `/proc/<pid>/stat`: 100 on every Linux that people run, but the system is asked.
fn ticks_per_second() -> f64 {
    static TICKS: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *TICKS.get_or_init(|| {
        Command::new("getconf")
            .arg("CLK_TCK")
            .output()
            .ok()
            .and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok())
            .unwrap_or(100.0)
    })
}

/// What a sleep of [`FLUSH_DELAY`] takes: the kernel adds its timer slack.
fn measured_delay() -> Duration {
    const TIMES: u32 = 500;
    let begun = Instant::now();
    for _ in 0..TIMES {
        std::thread::sleep(FLUSH_DELAY);
    }
    begun.elapsed() / TIMES
}

/// WAL flushes since the server's start.
///
/// # Errors
///
/// When the server does not answer.
pub async fn wal_flushes(client: &Client) -> Result<i64> {
    let version: i32 = client
        .query_one("SELECT current_setting('server_version_num')::int", &[])
        .await?
        .get(0);
    // Version 18 moved the figure; 13 has none.
    let sql = match version {
        180_000.. => "SELECT coalesce(sum(fsyncs), 0)::bigint FROM pg_stat_io WHERE object = 'wal'",
        140_000.. => "SELECT wal_sync FROM pg_stat_wal",
        _ => "SELECT 0::bigint",
    };
    Ok(client.query_one(sql, &[]).await.context("WAL statistics")?.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_statistics_are_read() {
        let stat =
            "4242 (postgres: a (b) c) S 4200 4242 4242 0 -1 4194304 99 0 0 0 11 22 33 44 20 0 1 0 1461067 3133440";
        assert_eq!(
            Process::parse(stat),
            Some(Process {
                parent: 4200,
                ticks: 110
            })
        );
        assert_eq!(Process::parse("nonsense"), None);
    }
}
