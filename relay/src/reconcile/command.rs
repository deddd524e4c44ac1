//! `hubspot-relay reconcile` and `backfill`: ask for runs, wait for their end, and write a report.
//!
//! The command is a relay for as long as it runs: it does the work itself when no other relay does, inside the limit that
//! all relays share. Stopped in the middle, it leaves its run to the next relay.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, PollMode};
use crate::db::error::DbError;
use crate::db::pool::Db;
use crate::db::reconcile::{Run, RunReport};
use crate::error::RelayError;
use crate::report;
use crate::supervisor::Relay;

/// Time between two looks at a run.
const LOOK: Duration = Duration::from_millis(500);
/// Without a terminal: time between two lines.
const LINE: Duration = Duration::from_secs(10);
/// Discrepancies fetched at a time.
const PAGE: i32 = 2_000;

/// What was asked for on the command line.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of one entity type; none: of all enabled ones.
    pub entity_type: Option<String>,
    /// Only report.
    pub dry_run: bool,
    /// Bring one side's values over to the other, in this direction; then `entity_type` is needed.
    pub backfill: Option<String>,
    /// An earlier run, to be reported only.
    pub run: Option<i64>,
    /// Files to write; their names' endings say in which form.
    pub reports: Vec<PathBuf>,
}

/// Does what was asked for; returns the runs with what they found.
///
/// # Errors
/// A wrong setting or file name, a database that does not answer or refuses, a run that failed, a file that cannot be written.
pub async fn run(config: Config, wanted: Wanted, stop: CancellationToken) -> Result<Vec<RunReport>, RelayError> {
    for file in &wanted.reports {
        report::Form::of(file)?;
    }
    let db = Db::new(&config.database)?;
    let runs = match wanted.run {
        Some(run) => vec![run],
        None => compare(config, &db, &wanted, stop).await?,
    };
    let mut reports = Vec::new();
    for run in runs {
        reports.push(fetch(&db, run).await.map_err(refused)?);
    }
    for file in &wanted.reports {
        report::write(file, &reports)?;
    }
    Ok(reports)
}

fn refused(error: DbError) -> RelayError {
    RelayError::Command {
        problem: error.to_string(),
    }
}

/// Asks for the runs and works until they have ended.
async fn compare(config: Config, db: &Db, wanted: &Wanted, stop: CancellationToken) -> Result<Vec<i64>, RelayError> {
    let runs = match (&wanted.backfill, &wanted.entity_type) {
        (Some(direction), Some(entity_type)) => db.backfill_request(entity_type, direction).await.map(|run| vec![run]),
        (Some(_), None) => {
            return Err(RelayError::Command {
                problem: "a backfill needs --entity-type".to_owned(),
            });
        }
        (None, entity_type) => db.reconcile_request(entity_type.as_deref(), wanted.dry_run).await,
    }
    .map_err(refused)?;
    let working = CancellationToken::new();
    let relay = Relay::bind(helper(config)).await?;
    let work = tokio::spawn(relay.run(working.clone()));
    let watched = watch(db, &runs, &stop).await;
    working.cancel();
    let _ = work.await;
    watched?;
    Ok(runs)
}

/// A relay that takes no webhooks, shows nothing and schedules nothing.
fn helper(mut config: Config) -> Config {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    config.webhook.listen = anywhere;
    config.admin.listen = anywhere;
    config.poll.mode = PollMode::Off;
    config.schedule.incremental = Duration::ZERO;
    config.schedule.reconcile = "off".to_owned();
    config
}

async fn watch(db: &Db, runs: &[i64], stop: &CancellationToken) -> Result<(), RelayError> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{prefix:>12} {bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    for run in runs {
        let mut quiet = LINE;
        loop {
            let seen = db.reconcile_report(*run, 0, None).await.map_err(refused)?.run;
            bar.set_prefix(seen.entity_type.clone());
            bar.set_length(seen.expected.max(seen.records));
            bar.set_position(seen.records);
            bar.set_message(doing(&seen));
            match seen.status.as_str() {
                "waiting" | "running" | "paused" => {}
                "finished" => break,
                how => {
                    bar.abandon();
                    let why = seen.message.unwrap_or_default();
                    return Err(RelayError::Command {
                        problem: format!("run {run} of {}: {how}: {why}", seen.entity_type),
                    });
                }
            }
            if bar.is_hidden() && quiet >= LINE {
                eprintln!(
                    "{}: {} of {} records; {}",
                    seen.entity_type,
                    seen.records,
                    seen.expected,
                    doing(&seen)
                );
                quiet = Duration::ZERO;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => quiet += LOOK,
                () = stop.cancelled() => {
                    bar.abandon();
                    return Err(RelayError::Command {
                        problem: format!("stopped: another relay goes on with run {run}; hubspot.cancel_reconciliation({run}) ends it"),
                    });
                }
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn doing(run: &Run) -> String {
    let phase = match run.phase.as_deref() {
        _ if run.status == "paused" => "paused: hubspot.resume_reconciliation goes on",
        None => "waiting for a relay",
        Some("rows") => "comparing rows",
        Some("gone") => "looking for deleted rows",
        Some("export") => "waiting for HubSpot's export",
        Some("linked") => "comparing with HubSpot",
        Some("listing") => "looking through HubSpot's records",
        Some(_) => "ending",
    };
    if run.kind == "backfill" {
        return format!("{phase}, {} fields brought over", run.found.values().sum::<u64>());
    }
    format!("{phase}, {} differences", run.discrepancies)
}

async fn fetch(db: &Db, run: i64) -> Result<RunReport, DbError> {
    let mut whole = db.reconcile_report(run, 0, Some(PAGE)).await?;
    let mut page = whole.discrepancies.len();
    while page == PAGE as usize {
        let after = whole.discrepancies.last().map_or(i64::MAX, |last| last.id);
        let next = db.reconcile_report(run, after, Some(PAGE)).await?;
        page = next.discrepancies.len();
        whole.discrepancies.extend(next.discrepancies);
    }
    Ok(whole)
}
