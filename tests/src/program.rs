//! The relay's program, for tests of the command line.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::documents::repository;

/// The folder with the relay's program, built as the tests were.
///
/// # Errors
/// When it does not build.
pub fn relay_folder() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--locked", "-p", "hubspot-relay"])
        .current_dir(repository())
        .status()?;
    ensure!(built.success(), "hubspot-relay does not build");
    Ok(target.join("debug").canonicalize()?)
}
