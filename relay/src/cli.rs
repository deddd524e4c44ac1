//! The command line's definition: help, completions and manual pages come from it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use hubspot_relay::config::DEFAULT_CONFIG_FILE;
use hubspot_relay::conflicts::Decision;
use hubspot_relay::reconcile::command::Wanted;
use hubspot_relay::telemetry::LogFormat;

/// Carries changes between a PostgreSQL database with the extension hubspot_sync and HubSpot.
///
/// Every key of the configuration file is also an environment variable HUBSPOT_RELAY_<SECTION>_<KEY>, for example
/// HUBSPOT_RELAY_HUBSPOT_ACCESS_TOKEN. HUBSPOT_RELAY_LOG sets the log filter (default: info), HUBSPOT_RELAY_LOG_FORMAT
/// text or json. Logs go to standard error, data to standard output.
#[derive(Debug, Parser)]
#[command(name = "hubspot-relay", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// How log lines are written to standard error [default: text, or HUBSPOT_RELAY_LOG_FORMAT]
    #[arg(long, global = true, value_enum)]
    pub log_format: Option<LogFormat>,
}

const EXIT_CODES: &str = "Exit codes:
  0   stopped as asked; check, provision: all is well; reconcile, backfill: finished, whatever they found
  1   failed, or stopped by a second signal; check, provision: a fault was found or left; conflicts: a decision was refused
  2   wrong arguments
  78  wrong configuration: restarting does not help

Examples:
  hubspot-relay init public.customers companies > customer.json
  hubspot-relay check --config /etc/hubspot-relay/relay.toml
  hubspot-relay check --json | jq '.[] | select(.ok | not)'
  hubspot-relay run --config /etc/hubspot-relay/relay.toml --log-format json";

#[derive(Debug, Subcommand)]
pub enum Command {
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
    #[command(
        after_help = "Examples:\n  hubspot-relay reconcile --dry-run --report today.html\n  hubspot-relay reconcile --entity-type customer --json | jq '.[].run.discrepancies'"
    )]
    Reconcile(Reconcile),
    /// Bring one side's values over to the other: first loads, and fields that were mapped later
    ///
    /// Empty values wipe nothing, and what somebody waits for goes first. Interrupted, it is gone on with by the next relay;
    /// hubspot.pause_reconciliation stops it where it stands.
    #[command(after_help = "Example:\n  hubspot-relay backfill --entity-type customer --direction warp-to-hubspot")]
    Backfill(Backfill),
    /// List conflicts that wait for a person, or decide one
    ///
    /// A decision is about what the list shows at that moment, and is on record with your name. Exit code 1: it was refused, because
    /// somebody was quicker, or the table refuses the value. The role needs the page's functions (hubspot.grant_relay).
    #[command(
        after_help = "Examples:\n  hubspot-relay conflicts --config relay.toml\n  hubspot-relay conflicts --json | jq '.rows[].id'\n  hubspot-relay conflicts --resolve 17 --keep hubspot\n  hubspot-relay conflicts --resolve 17 --value '+41 44 000 00 00'"
    )]
    Conflicts(Conflicts),
}

#[derive(Debug, clap::Args)]
pub struct Conflicts {
    #[command(flatten)]
    pub settings: Settings,
    /// Only of this entity type
    #[arg(long, value_name = "NAME", conflicts_with = "resolve")]
    entity_type: Option<String>,
    /// Only of this field
    #[arg(long, value_name = "NAME", conflicts_with = "resolve")]
    field: Option<String>,
    /// Most to list, newest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
    /// Decide this conflict
    #[arg(long, value_name = "ID", requires = "decision")]
    resolve: Option<i64>,
    /// Whose value is kept
    #[arg(long, value_enum, group = "decision", requires = "resolve")]
    keep: Option<Side>,
    /// A third value for both sides, as PostgreSQL prints it
    #[arg(
        long,
        value_name = "TEXT",
        group = "decision",
        requires = "resolve",
        allow_hyphen_values = true
    )]
    value: Option<String>,
    /// Print a JSON object: total and rows; of a decision done and refused
    #[arg(long)]
    pub json: bool,
}

/// A side of a conflict.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Side {
    /// The row's value
    Warp,
    /// HubSpot's value
    Hubspot,
}

#[derive(Debug, clap::Args)]
pub struct Backfill {
    #[command(flatten)]
    pub settings: Settings,
    /// Which entity type
    #[arg(long, value_name = "NAME")]
    entity_type: String,
    /// Whose values are brought over
    #[arg(long, value_enum)]
    direction: Direction,
    /// Print a JSON array with an object for each run: run and summary
    #[arg(long)]
    pub json: bool,
}

/// Direction of a backfill.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Direction {
    /// The rows' values go to HubSpot
    WarpToHubspot,
    /// HubSpot's values go into the rows
    HubspotToWarp,
}

#[derive(Debug, clap::Args)]
pub struct Reconcile {
    #[command(flatten)]
    pub settings: Settings,
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
    /// Print a JSON array with an object for each run: run and summary
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Configuration file (TOML)
    #[arg(long, default_value = DEFAULT_CONFIG_FILE)]
    pub config: PathBuf,
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

impl From<Conflicts> for hubspot_relay::conflicts::Wanted {
    fn from(wanted: Conflicts) -> Self {
        let decision = match (wanted.keep, wanted.value) {
            (Some(Side::Warp), _) => Decision::Warp,
            (Some(Side::Hubspot), _) => Decision::Hubspot,
            (None, value) => Decision::Value(value.unwrap_or_default()),
        };
        Self {
            entity_type: wanted.entity_type,
            field: wanted.field,
            limit: wanted.limit,
            resolve: wanted.resolve.map(|id| (id, decision)),
        }
    }
}
