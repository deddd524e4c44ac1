//! What tells a server's files from a copy of them.

use pgrx::prelude::*;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::UNIX_EPOCH;

/// The control file is made once, by `initdb` or by whatever restores a backup, and from then on only written in place. Its
/// number in the file system alone could be the same on two fresh disks; the moment it was made, to the nanosecond, is not.
/// A server process works in its data folder, so the path is a relative one. `None` where the file cannot be looked at.
#[pg_extern(name = "files", stable, parallel_restricted)]
fn files() -> Option<String> {
    let control = fs::metadata("global/pg_control").ok()?;
    // Some file systems do not keep the moment.
    let made = control
        .created()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |age| age.as_nanos());
    Some(format!("{} {made}", control.ino()))
}
