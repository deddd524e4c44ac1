//! Clusters of other PostgreSQL versions than the environment's, and `pg_upgrade` between two.

use super::{Cluster, DEFAULT_PG_CONFIG, find_package, run};
use anyhow::{Context as _, Result};
use std::path::PathBuf;

/// A PostgreSQL, and the extension as it was built for it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its `pg_config`.
    pub pg_config: PathBuf,
    /// The folder that `make ext` filled.
    pub package: PathBuf,
}

impl Server {
    /// The one that the tests run on.
    pub(super) fn of_environment() -> Result<Server> {
        Ok(Server {
            pg_config: std::env::var_os("HUBSPOT_SYNC_PG_CONFIG")
                .map_or_else(|| DEFAULT_PG_CONFIG.into(), PathBuf::from),
            package: find_package()?,
        })
    }

    /// The older one of a test of `pg_upgrade`, which has to be named.
    ///
    /// # Errors
    ///
    /// When the environment does not name it.
    pub fn older() -> Result<Server> {
        let named = |variable: &str| {
            std::env::var_os(variable)
                .map(PathBuf::from)
                .with_context(|| format!("{variable} is not set: make test-pg-upgrade sets it"))
        };
        Ok(Server {
            pg_config: named("HUBSPOT_SYNC_OLD_PG_CONFIG")?,
            package: named("HUBSPOT_SYNC_OLD_PACKAGE")?,
        })
    }
}

impl Cluster {
    /// Takes over everything of a cluster of an older major version with `pg_upgrade`. Both are stopped, this one is new.
    /// The files are copied: the old one may go away.
    ///
    /// # Errors
    ///
    /// When it fails; the message has its output.
    pub fn upgrade_from(&self, old: &Cluster) -> Result<()> {
        let scratch = self.scratch()?;
        let mut upgrade = self.command("pg_upgrade");
        upgrade
            // It writes where it is called.
            .current_dir(&scratch)
            .args(["--username=postgres", "--no-sync"])
            .arg(format!("--old-datadir={}", old.data_dir.display()))
            .arg(format!("--new-datadir={}", self.data_dir.display()))
            .arg(format!("--old-bindir={}", old.bin_dir.display()))
            .arg(format!("--new-bindir={}", self.bin_dir.display()))
            .arg(format!("--old-port={}", old.port))
            .arg(format!("--new-port={}", self.port))
            .arg(format!("--socketdir={}", scratch.display()));
        run(upgrade).map(drop)
    }
}
