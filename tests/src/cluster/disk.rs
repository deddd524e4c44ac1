//! A server that sees a small disk of its own, to fill it.

use super::{Cluster, Options};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Runs the rest of its arguments as another user, in a mount namespace that has a small disk. The mount goes away with the
/// last process that sees it, however that ends.
const IN_NAMESPACE: &str = r#"
mount -t tmpfs -o "size=$1,uid=$2,gid=$3,mode=700" none "$4"
uid=$2 gid=$3
shift 4
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups "$@"
"#;

impl Cluster {
    /// As [`Cluster::start_with`]; the server finds a disk of that size at [`Cluster::small_disk_path`]. It is empty after
    /// every start. None when we may not mount.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn start_on_small_disk(options: &Options, bytes: u64) -> Result<Option<Self>> {
        let may = Command::new("unshare").args(["--mount", "true"]).output();
        if !may.is_ok_and(|output| output.status.success()) || super::unprivileged_user()?.is_none() {
            return Ok(None);
        }
        let options = Options {
            small_disk: Some(bytes),
            ..options.clone()
        };
        Self::start_with(&options).map(Some)
    }

    /// Where the server sees its small disk.
    pub fn small_disk_path(&self) -> Option<String> {
        self.small_disk
            .map(|_| self.disk_folder().join("space").display().to_string())
    }

    /// Where we reach it, as long as the server runs.
    pub fn small_disk(&self) -> Option<PathBuf> {
        let lock = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?;
        let folder = self.disk_folder();
        let inside = folder.strip_prefix("/").ok()?;
        let root = PathBuf::from(format!("/proc/{}/root", lock.lines().next()?.trim()));
        self.small_disk.map(|_| root.join(inside))
    }

    fn disk_folder(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// The same command with the small disk before its eyes.
    pub(super) fn with_small_disk(&self, command: Command, bytes: u64) -> Result<Command> {
        let user = self.user.context("not root")?;
        fs::create_dir_all(self.disk_folder())?;
        let mut inside = Command::new("unshare");
        inside
            .args(["--mount", "--propagation=private", "sh", "-euc", IN_NAMESPACE, "sh"])
            .args([bytes.to_string(), user.uid.to_string(), user.gid.to_string()])
            .arg(self.disk_folder())
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(&self.dir);
        for (name, value) in command.get_envs() {
            if value.is_none() {
                inside.env_remove(name);
            }
        }
        Ok(inside)
    }

    /// The folder on the small disk that a tablespace may have: the disk's own would not be empty.
    pub(super) fn make_space(&self) -> Result<()> {
        if let Some(disk) = self.small_disk() {
            fs::create_dir(disk.join("space"))?;
            self.give_to_user(&disk.join("space"))?;
        }
        Ok(())
    }
}
