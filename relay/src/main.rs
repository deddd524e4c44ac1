//! The command `hubspot-relay`. Settings, logging and exit codes here; everything else is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use hubspot_relay::check::Finding;
use hubspot_relay::config::{DEFAULT_CONFIG_FILE, EXIT_CONFIG};
use hubspot_relay::reconcile::command::Wanted;
use hubspot_relay::telemetry::{self, LogFormat};
use hubspot_relay::{Config, RelayError};
use tokio_util::sync::CancellationToken;

/// Carries changes between a PostgreSQL database with the extension hubspot_sync and HubSpot.
///
/// Every key of the configuration file is also an environment variable HUBSPOT_RELAY_<SECTION>_<KEY>, for example
/// HUBSPOT_RELAY_HUBSPOT_ACCESS_TOKEN. HUBSPOT_RELAY_LOG sets the log filter (default: info), HUBSPOT_RELAY_LOG_FORMAT
/// text or json. Logs go to standard error, data to standard output.
#[derive(Debug, Parser)]
#[command(name = "hubspot-relay", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How log lines are written to standard error [default: text, or HUBSPOT_RELAY_LOG_FORMAT]
    #[arg(long, global = true, value_enum)]
    log_format: Option<LogFormat>,
}

const EXIT_CODES: &str = "Exit codes:
  0   stopped as asked; check, provision: all is well
  1   failed, or stopped by a second signal; check, provision: a fault was found or left
  2   wrong arguments
  78  wrong configuration: restarting does not help

Examples:
  hubspot-relay init public.customers companies > customer.json
  hubspot-relay check --config /etc/hubspot-relay/relay.toml
  hubspot-relay check --json | jq '.[] | select(.ok | not)'
  hubspot-relay run --config /etc/hubspot-relay/relay.toml --log-format json";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay until SIGTERM or SIGINT
    #[command(after_help = "Example:\n  HUBSPOT_RELAY_LOG=hubspot_relay=debug hubspot-relay run --config relay.toml")]
    Run(Settings),
    /// Look at database, clocks, token, scopes, mapped properties and webhook subscriptions; exit with 1 if anything is wrong
    ///
    /// Nothing is changed but the relay's entry in hubspot.relay_status and the property definitions that hubspot.plan and
    /// hubspot.check_mapping use.
    #[command(
        after_help = "Examples:\n  hubspot-relay check --config relay.toml\n  hubspot-relay check --json | jq '.[] | select(.ok | not)'"
    )]
    Check {
        #[command(flatten)]
        settings: Settings,
        /// Print a JSON array of objects with ok, what, detail and mend
        #[arg(long)]
        json: bool,
    },
    /// Create what HubSpot lacks for the mappings: warp_* properties, their group and options, webhook subscriptions
    ///
    /// Nothing else is changed in HubSpot, and nothing at all unless the database is armed for the token's portal. Exit code 1: something
    /// could not be made; each line names the mend. Run again, it finds nothing left to do.
    #[command(
        after_help = "Examples:\n  hubspot-relay provision --dry-run --config relay.toml\n  hubspot-relay provision --json | jq '.[] | select(.ok | not)'"
    )]
    Provision {
        #[command(flatten)]
        settings: Settings,
        /// Change nothing, only say what would be made
        #[arg(long)]
        dry_run: bool,
        /// Print a JSON array of objects with ok, what, detail and mend
        #[arg(long)]
        json: bool,
    },
    /// Draft a mapping from a table's columns and HubSpot's properties
    ///
    /// The mapping document goes to standard output, what to look at to standard error. Read it before you give it to
    /// hubspot.import_mapping. The table's rows are not read.
    #[command(after_help = "Example:\n  hubspot-relay init public.customers companies > customer.json")]
    Init {
        /// The table, with its schema
        table: String,
        /// HubSpot's object type: companies, contacts, deals, … or an id such as 2-123
        object_type: String,
        #[command(flatten)]
        settings: Settings,
        /// Print one JSON object with mapping and notes instead
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  hubspot-relay completions bash > /etc/bash_completion.d/hubspot-relay")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, of hubspot-relay or of one of its commands
    #[command(after_help = "Example:\n  hubspot-relay man | man -l -")]
    Man {
        /// One command's page
        command: Option<String>,
    },
    /// Compare every row and record of both sides now, set right what differs, and report it
    ///
    /// The work is shared with the relays that run, and done by this command itself where none runs. Interrupted, it is gone on with
    /// by the next relay. Exit code 0: the comparison is finished, whatever it found.
    Reconcile(Reconcile),
    /// Bring one side's values over to the other: first loads, and fields that were mapped later
    ///
    /// Empty values wipe nothing, and what somebody waits for goes first. Interrupted, it is gone on with by the next relay;
    /// hubspot.pause_reconciliation stops it where it stands.
    Backfill(Backfill),
}

#[derive(Debug, clap::Args)]
struct Backfill {
    #[command(flatten)]
    settings: Settings,
    /// Which entity type
    #[arg(long, value_name = "NAME")]
    entity_type: String,
    /// Whose values are brought over
    #[arg(long, value_enum)]
    direction: Direction,
}

/// Direction of a backfill.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Direction {
    /// The rows' values go to HubSpot
    WarpToHubspot,
    /// HubSpot's values go into the rows
    HubspotToWarp,
}

#[derive(Debug, clap::Args)]
struct Reconcile {
    #[command(flatten)]
    settings: Settings,
    /// Only this entity type [default: every enabled mapping]
    #[arg(long, value_name = "NAME")]
    entity_type: Option<String>,
    /// Change nothing on either side, only report
    #[arg(long)]
    dry_run: bool,
    /// Report an earlier run instead of making one
    #[arg(long, value_name = "ID", conflicts_with_all = ["entity_type", "dry_run"])]
    run: Option<i64>,
    /// Write a report, may be given several times; the name's ending says the form: .html, .json or .csv. It holds customers' values
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Settings {
    /// Configuration file (TOML)
    #[arg(long, default_value = DEFAULT_CONFIG_FILE)]
    config: PathBuf,
}

fn main() -> ExitCode {
    // Phase 1, without a runtime: arguments, logging, settings.
    let cli = Cli::parse();
    let (run, settings) = match &cli.command {
        Command::Run(settings) => (true, settings),
        Command::Reconcile(wanted) => (false, &wanted.settings),
        Command::Backfill(wanted) => (false, &wanted.settings),
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
        Command::Reconcile(wanted) => runtime.block_on(compare(config, wanted.into())),
        Command::Backfill(wanted) => runtime.block_on(compare(config, wanted.into())),
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

impl From<Reconcile> for Wanted {
    fn from(wanted: Reconcile) -> Self {
        Self {
            entity_type: wanted.entity_type,
            dry_run: wanted.dry_run,
            run: wanted.run,
            reports: wanted.report,
            ..Self::default()
        }
    }
}

impl From<Backfill> for Wanted {
    fn from(wanted: Backfill) -> Self {
        let direction = match wanted.direction {
            Direction::WarpToHubspot => "WARP_TO_HUBSPOT",
            Direction::HubspotToWarp => "HUBSPOT_TO_WARP",
        };
        Self {
            entity_type: Some(wanted.entity_type),
            backfill: Some(direction.to_owned()),
            ..Self::default()
        }
    }
}

async fn compare(config: Config, wanted: Wanted) -> Result<ExitCode, RelayError> {
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    let reports = hubspot_relay::reconcile::command::run(config, wanted, stop).await?;
    println!("{}", hubspot_relay::report::summary(&reports));
    Ok(ExitCode::SUCCESS)
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
