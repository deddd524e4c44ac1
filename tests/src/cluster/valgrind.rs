//! The server under valgrind, whose reports name what a library reads or writes outside of its memory.

use super::{Cluster, set_mode};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

impl Cluster {
    /// Starts the stopped server with every one of its processes under valgrind's memcheck; gives the folder of the reports,
    /// one file a process. Everything takes some thirty times as long.
    ///
    /// # Errors
    ///
    /// When valgrind is missing or the server does not start.
    pub fn start_under_valgrind(&self, suppressions: &Path) -> Result<PathBuf> {
        let reports = self.scratch()?.join("valgrind");
        fs::create_dir(&reports)?;
        self.give_to_user(&reports)?;
        // The server's user may not be able to read the repository.
        let rules = reports.join("suppressions");
        fs::copy(suppressions, &rules).with_context(|| suppressions.display().to_string())?;
        set_mode(&rules, 0o644)?;
        let program = self.dir.join("postgres-under-valgrind");
        fs::write(
            &program,
            format!(
                "#!/bin/sh\nexec valgrind --quiet --trace-children=yes --track-origins=yes --num-callers=40 --suppressions={} --log-file={}/%p.log {}/postgres \"$@\"\n",
                rules.display(),
                reports.display(),
                self.bin_dir.display()
            ),
        )?;
        set_mode(&program, 0o755)?;
        let status = self
            .pg_ctl("start")
            .args(["--timeout", "600"])
            .arg("-p")
            .arg(&program)
            .arg("--log")
            .arg(self.log_path())
            .arg("--options")
            .arg(format!("-p {}", self.port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(
            status.success(),
            "PostgreSQL does not start under valgrind; the end of its log:\n{}",
            self.log_tail()
        );
        Ok(reports)
    }
}
