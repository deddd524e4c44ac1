//! The load generator: pgbench of the same PostgreSQL, with prepared statements and a script of our own.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::server::Server;

/// What to run.
#[derive(Clone, Debug)]
pub struct Load {
    /// pgbench's script.
    pub script: String,
    /// pgbench variables, given to statements as parameters. Unlike `\set` they may be texts.
    pub variables: Vec<(&'static str, String)>,
    /// Concurrent sessions.
    pub clients: u32,
    /// How long.
    pub seconds: u64,
    /// Seed of the script's random numbers.
    pub seed: u64,
}

/// What pgbench said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Transactions.
    pub transactions: u64,
    /// Transactions per second without the time of connecting.
    pub tps: f64,
    /// Mean latency.
    pub latency_ms: f64,
}

/// Runs it against `database`.
///
/// # Errors
///
/// When pgbench cannot be run or a transaction failed.
pub fn run(server: &Server, database: &str, load: &Load) -> Result<Outcome> {
    // In a folder of its own: root may read it, and nobody else has to.
    let mut script = tempfile::NamedTempFile::new().context("cannot write pgbench's script")?;
    std::io::Write::write_all(&mut script, load.script.as_bytes())?;
    let mut command = server.client_program("pgbench");
    command
        .args(["--no-vacuum", "--protocol=prepared", "--username=postgres"])
        .arg(format!("--client={}", load.clients))
        // The machine's other core is the server's: two threads are plenty for sixty sessions that wait.
        .arg(format!("--jobs={}", load.clients.min(2)))
        .arg(format!("--time={}", load.seconds))
        .arg(format!("--random-seed={}", load.seed))
        .arg("--file")
        .arg(script.path());
    for (name, value) in &load.variables {
        command.arg("--define").arg(format!("{name}={value}"));
    }
    command.arg(database);
    let output = finish(command)?;
    parse(&output).with_context(|| format!("pgbench's output was not understood:\n{output}"))
}

fn finish(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("cannot run pgbench")?;
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    ensure!(
        output.status.success() && !complained.contains("aborted"),
        "pgbench failed ({}):\n{said}{complained}",
        output.status
    );
    Ok(said)
}

/// Reads pgbench's summary; versions differ in how they word the rest.
fn parse(output: &str) -> Option<Outcome> {
    let after = |label: &str| {
        output
            .lines()
            .find_map(|line| line.trim().strip_prefix(label))
            .and_then(|rest| {
                let number = rest.trim_start_matches([':', ' ', '=']);
                number.split([' ', '/']).next()?.parse::<f64>().ok()
            })
    };
    Some(Outcome {
        transactions: after("number of transactions actually processed")? as u64,
        // Version 13 prints two such lines, the second without connections: later ones only the second.
        tps: output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("tps = "))
            .filter_map(|rest| rest.split(' ').next()?.parse().ok())
            .next_back()?,
        latency_ms: after("latency average")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read() {
        let of_15 = "pgbench (15.10)\ntransaction type: /tmp/x\nnumber of transactions actually processed: 51234\n\
            number of failed transactions: 0 (0.000%)\nlatency average = 0.624 ms\ninitial connection time = 12.1 ms\n\
            tps = 12811.506131 (without initial connection time)\n";
        assert_eq!(
            parse(of_15),
            Some(Outcome {
                transactions: 51234,
                tps: 12811.506131,
                latency_ms: 0.624
            })
        );
        let of_13 = "number of transactions actually processed: 10/10\nlatency average = 1.000 ms\n\
            tps = 90.0 (including connections establishing)\ntps = 100.0 (excluding connections establishing)\n";
        assert_eq!(parse(of_13).map(|o| (o.transactions, o.tps)), Some((10, 100.0)));
        assert_eq!(parse("pgbench: error: connection failed"), None);
    }
}
