//! Physical copies of a cluster: base backups, standbys, recovery to a point in time.

use super::{Cluster, Mutex, free_port, run, set_mode, start_watchdog};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

impl Cluster {
    /// Takes a base backup of the running server into a cluster of its own, which is not started yet. It runs the program
    /// files of this one, which must therefore outlive it.
    ///
    /// # Errors
    ///
    /// When the server does not run or the backup fails.
    pub fn base_backup(&self) -> Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("hubspot_sync-").tempdir()?;
        set_mode(dir.path(), 0o755)?;
        let root = dir.path().canonicalize()?;
        let data_dir = root.join("data");
        let watchdog = start_watchdog(&root, &data_dir)?;
        let _ = dir.keep();
        let mut copy = Cluster {
            bin_dir: self.bin_dir.clone(),
            port: free_port()?,
            user: self.user,
            small_disk: None,
            watchdog: Mutex::new(Some(watchdog)),
            template: tokio::sync::OnceCell::new(),
            dir: root,
            data_dir,
        };
        for path in [copy.data_dir.clone(), copy.socket_dir()] {
            fs::create_dir(&path)?;
            set_mode(&path, 0o700)?;
            copy.give_to_user(&path)?;
        }
        fs::write(copy.log_path(), "")?;
        copy.give_to_user(&copy.log_path())?;
        let mut backup = copy.command("pg_basebackup");
        backup
            .arg("--pgdata")
            .arg(copy.data_dir())
            .args([
                "--host=127.0.0.1",
                "--username=postgres",
                "--checkpoint=fast",
                "--wal-method=stream",
                "--no-sync",
            ])
            .arg(format!("--port={}", self.port));
        run(backup)?;
        let socket = format!("unix_socket_directories = '{}'", copy.socket_dir().display());
        copy.configure(&socket)?;
        copy.port = free_port()?;
        Ok(copy)
    }

    /// Adds lines to the configuration, for the next start.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let path = self.data_dir().join("postgresql.conf");
        let conf = fs::read_to_string(&path)?;
        fs::write(&path, format!("{conf}\n{lines}\n"))?;
        self.give_to_user(&path)
    }

    /// Makes the next start a standby of `primary`.
    ///
    /// # Errors
    ///
    /// When files cannot be written.
    pub fn follow(&self, primary: &Cluster) -> Result<()> {
        self.configure(&format!(
            "primary_conninfo = 'host=127.0.0.1 port={} user=postgres'",
            primary.port
        ))?;
        self.signal("standby.signal")
    }

    /// Makes the next start recover from the log in a folder to a target (a setting), and then accept writes.
    ///
    /// # Errors
    ///
    /// When files cannot be written.
    pub fn recover_to(&self, log: &Path, target: &str) -> Result<()> {
        self.configure(&format!(
            "restore_command = 'cp {}/%f %p'\n{target}\nrecovery_target_action = 'promote'",
            log.display()
        ))?;
        self.signal("recovery.signal")
    }

    fn signal(&self, name: &str) -> Result<()> {
        let path = self.data_dir().join(name);
        fs::write(&path, "")?;
        self.give_to_user(&path)
    }

    /// Promotes a standby and waits until it accepts writes.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn promote(&self) -> Result<()> {
        let _guard = self.running()?;
        run(self.pg_ctl("promote")).map(drop)
    }

    /// Runs one of PostgreSQL's client programs against a database, as superuser; an error has its output.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn client(&self, program: &str, database: &str, args: &[&str]) -> Result<Output> {
        let mut command: Command = self.command(program);
        command
            .arg(format!("--dbname={}", self.superuser_url(database)))
            .args(args);
        run(command)
    }

    /// A folder in which the server's user may write files.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<std::path::PathBuf> {
        let path: &Path = &self.dir.join("scratch");
        if !path.exists() {
            fs::create_dir(path)?;
            self.give_to_user(path)?;
        }
        ensure!(path.is_dir(), "{} is no folder", path.display());
        path.canonicalize().context("scratch")
    }
}
