//! The command `hubspot-relay`. Settings, logging and exit codes here; everything else is in the library.

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use hubspot_relay::check::Finding;
use hubspot_relay::config::EXIT_CONFIG;
use hubspot_relay::reconcile::command::Wanted;
use hubspot_relay::telemetry::{self, LogFormat};
use hubspot_relay::{Config, RelayError};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    // Phase 1, without a runtime: arguments, logging, settings.
    let cli = Cli::parse();
    let (run, settings) = match &cli.command {
        Command::Run(settings) => (true, settings),
        Command::Reconcile(wanted) => (false, &wanted.settings),
        Command::Backfill(wanted) => (false, &wanted.settings),
        Command::Conflicts(wanted) => (false, &wanted.settings),
        Command::Check { settings, .. } | Command::Provision { settings, .. } | Command::Init { settings, .. } => {
            (false, settings)
        }
        Command::Completions { shell } => {
            let name = "hubspot-relay";
            clap_complete::generate(*shell, &mut Cli::command(), name, &mut std::io::stdout());
            return ExitCode::SUCCESS;
        }
        Command::Man { command } => return manual(command.as_deref()),
    };
    if let Err(error) = start_logging(cli.log_format, run) {
        eprintln!("hubspot-relay: {error:#}");
        return ExitCode::from(EXIT_CONFIG);
    }
    hubspot_relay::install_crypto_provider();
    let config = match Config::load(&settings.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("hubspot-relay: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    // Phase 2.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hubspot-relay: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match cli.command {
        Command::Check { json, .. } => {
            let findings = runtime.block_on(hubspot_relay::check::check(&config));
            findings.map(|findings| show(&findings, json))
        }
        Command::Provision { dry_run, json, .. } => {
            let findings = runtime.block_on(hubspot_relay::provision::provision(&config, dry_run));
            findings.map(|findings| show(&findings, json))
        }
        Command::Init {
            table,
            object_type,
            json,
            ..
        } => {
            return match runtime.block_on(hubspot_relay::init::init(&config, &table, &object_type)) {
                Ok(draft) => show_draft(&draft, json),
                Err(error) => {
                    eprintln!("hubspot-relay: {error}");
                    ExitCode::FAILURE
                }
            };
        }
        Command::Reconcile(wanted) => runtime.block_on(compare(config, wanted.json, wanted.into())),
        Command::Backfill(wanted) => runtime.block_on(compare(config, wanted.json, wanted.into())),
        Command::Conflicts(wanted) => runtime.block_on(decide(config, wanted.json, wanted.into())),
        Command::Run(_) | Command::Completions { .. } | Command::Man { .. } => runtime.block_on(serve(config)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hubspot-relay: {error}");
            if matches!(error, RelayError::Config(_)) {
                ExitCode::from(EXIT_CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn start_logging(format: Option<LogFormat>, run: bool) -> anyhow::Result<()> {
    let format = match (format, std::env::var("HUBSPOT_RELAY_LOG_FORMAT").ok().as_deref()) {
        (Some(format), _) => format,
        (None, None | Some("" | "text")) => LogFormat::Text,
        (None, Some("json")) => LogFormat::Json,
        (None, Some(_)) => anyhow::bail!("HUBSPOT_RELAY_LOG_FORMAT: expected text or json"),
    };
    // The report of `check` is its output; its log only says more when asked to.
    let filter = std::env::var("HUBSPOT_RELAY_LOG").unwrap_or_else(|_| if run { "info" } else { "error" }.to_owned());
    telemetry::init(format, &filter)
}

async fn serve(config: Config) -> Result<ExitCode, RelayError> {
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(shutdown.clone()));
    hubspot_relay::run(config, shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

fn show_draft(draft: &hubspot_relay::init::Draft, json: bool) -> ExitCode {
    if json {
        let both = serde_json::json!({"mapping": draft.mapping, "notes": draft.notes});
        println!("{both:#}");
    } else {
        println!("{:#}", draft.mapping);
        for note in &draft.notes {
            eprintln!("{note}");
        }
    }
    ExitCode::SUCCESS
}

/// Prints the manual page of the whole or of one command.
fn manual(name: Option<&str>) -> ExitCode {
    let mut whole = Cli::command();
    whole.build();
    let page = match name {
        None => whole.clone(),
        Some(name) => match whole.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                eprintln!("hubspot-relay: there is no command {name}");
                return ExitCode::from(2);
            }
        },
    };
    match clap_mangen::Man::new(page).render(&mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hubspot-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints findings; any fault makes the exit code 1.
fn show(findings: &[Finding], json: bool) -> ExitCode {
    if json {
        println!("{:#}", serde_json::json!(findings));
    } else {
        for finding in findings {
            println!("{finding}");
        }
    }
    let ok = findings.iter().all(|finding| finding.ok);
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn compare(config: Config, json: bool, wanted: Wanted) -> Result<ExitCode, RelayError> {
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    let reports = hubspot_relay::reconcile::command::run(config, wanted, stop).await?;
    if json {
        println!("{:#}", hubspot_relay::report::summed_up(&reports));
    } else {
        println!("{}", hubspot_relay::report::summary(&reports));
    }
    Ok(ExitCode::SUCCESS)
}

async fn decide(config: Config, json: bool, wanted: hubspot_relay::conflicts::Wanted) -> Result<ExitCode, RelayError> {
    let answer = hubspot_relay::conflicts::run(&config, wanted).await?;
    if json {
        println!("{:#}", answer.json());
    } else {
        println!("{answer}");
    }
    Ok(if answer.ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Cancels `shutdown` at SIGTERM or SIGINT. A second signal ends the process at once.
async fn stop_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        eprintln!("hubspot-relay: signals cannot be caught; the default action applies");
        return;
    };
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next().await;
    shutdown.cancel();
    next().await;
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        super::Cli::command().debug_assert();
    }
}
