//! Upgrades: an upgraded schema is the fresh one, its data survives, and relays say what to do about a schema they do not know.

mod relay;
mod released;
mod server;
mod snapshot;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::cluster::Cluster;

/// The folder in which the private tree looks for extensions.
fn extension_folder(cluster: &Cluster) -> Result<PathBuf> {
    let output = Command::new(cluster.bin_dir().join("pg_config"))
        .arg("--sharedir")
        .output()?;
    ensure!(output.status.success(), "pg_config");
    Ok(Path::new(String::from_utf8(output.stdout)?.trim()).join("extension"))
}

/// The version that this build installs.
fn present() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The install script of the present version.
fn install_script(cluster: &Cluster) -> Result<String> {
    let path = extension_folder(cluster)?.join(format!("hubspot_sync--{}.sql", present()));
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Adds a script to the private tree.
fn add_script(cluster: &Cluster, name: &str, text: &str) -> Result<()> {
    fs::write(
        extension_folder(cluster)?.join(format!("hubspot_sync--{name}.sql")),
        text,
    )
    .context("script")
}
