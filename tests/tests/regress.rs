//! The regression suite (`tests/regress`) and the isolation schedules (`tests/isolation`), by PostgreSQL's own programs, against
//! a private server. `make installcheck` runs the same on an installed one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::cluster::{self, Cluster, StopMode};

/// One of PostgreSQL's test programs, from the package with the server's headers.
fn program(path: &str) -> Result<PathBuf> {
    let pg_config =
        std::env::var("HUBSPOT_SYNC_PG_CONFIG").unwrap_or_else(|_| "/usr/lib/postgresql/15/bin/pg_config".into());
    let pgxs = Command::new(&pg_config).arg("--pgxs").output().context(pg_config)?;
    let makefile = PathBuf::from(String::from_utf8(pgxs.stdout)?.trim());
    let source = makefile.ancestors().nth(2).context("pg_config --pgxs")?;
    let program = source.join("test").join(path);
    ensure!(
        program.exists(),
        "{} is missing: it is in postgresql-server-dev",
        program.display()
    );
    Ok(program)
}

/// Runs every file of a suite in one fresh database; a difference is an error that shows it.
fn run(cluster: &Cluster, test_program: &str, suite: &str, sources: &str) -> Result<()> {
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join(suite);
    let schedule = fs::read_to_string(input.join("schedule"))?;
    for entry in fs::read_dir(input.join(sources))? {
        let name = entry?
            .path()
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        ensure!(
            schedule.contains(&format!("test: {name}\n")),
            "{name} is not in {suite}/schedule"
        );
    }
    let output = tempfile::tempdir()?;
    let result = Command::new(program(test_program)?)
        .args(["--host=127.0.0.1", "--user=postgres", "--load-extension=hubspot_sync"])
        .arg(format!("--port={}", cluster.port()))
        .arg(format!("--bindir={}", cluster.bin_dir().display()))
        .arg(format!("--dbname=regress_{suite}"))
        .arg(format!("--inputdir={}", input.display()))
        .arg(format!("--outputdir={}", output.path().display()))
        .arg(format!("--schedule={}", input.join("schedule").display()))
        .current_dir(output.path())
        .output()?;
    let said = String::from_utf8_lossy(&result.stdout);
    println!("{said}");
    if let Some(keep) = std::env::var_os("HUBSPOT_SYNC_KEEP_RESULTS") {
        // For whoever wrote a new test: results become expected output once a person has read them.
        for entry in fs::read_dir(output.path().join("results"))? {
            let entry = entry?;
            let to = Path::new(&keep).join(suite);
            fs::create_dir_all(&to)?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    let differences = fs::read_to_string(output.path().join("regression.diffs")).unwrap_or_default();
    ensure!(
        result.status.success(),
        "{said}{}{differences}",
        String::from_utf8_lossy(&result.stderr)
    );
    Ok(())
}

#[test]
fn the_regression_suite_passes() -> Result<()> {
    run(cluster::shared(), "regress/pg_regress", "regress", "sql")
}

#[test]
fn concurrent_functions_keep_out_of_each_others_way() -> Result<()> {
    run(
        cluster::shared(),
        "isolation/pg_isolation_regress",
        "isolation",
        "specs",
    )
}

/// Reports in which a function of ours is on the stack, each with its first lines.
fn reports_of_ours(folder: &Path) -> Result<(usize, Vec<String>)> {
    let (mut processes, mut ours) = (0, Vec::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "log") {
            continue;
        }
        processes += 1;
        // "==123== " before every line, and nothing else on the line between two reports.
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.splitn(3, "==").nth(2).unwrap_or(line).trim_start())
            .collect();
        ours.extend(
            lines
                .split(|line| line.is_empty())
                .map(|report| report.join("\n"))
                .filter(|report| report.contains("hubspot_sync")),
        );
    }
    Ok((processes, ours))
}

#[test]
#[ignore = "takes valgrind and some ten minutes: make test-valgrind"]
fn valgrind_finds_nothing_of_ours_in_the_regression_suite() -> Result<()> {
    let cluster = Cluster::start()?;
    cluster.stop_server(StopMode::Fast)?;
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup/valgrind.supp");
    let reports = cluster.start_under_valgrind(&rules)?;
    run(&cluster, "regress/pg_regress", "regress", "sql")?;
    cluster.stop_server(StopMode::Fast)?;
    let (processes, ours) = reports_of_ours(&reports)?;
    println!("{processes} processes of the server ran under valgrind");
    ensure!(processes > 6, "only {processes} processes ran under valgrind");
    ensure!(ours.is_empty(), "{} reports:\n{}", ours.len(), ours.join("\n\n"));
    Ok(())
}
