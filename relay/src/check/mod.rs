//! `hubspot-relay check`: what an operator wants to know before `run`.

pub(crate) mod properties;
pub(crate) mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::db::contract::{Hello, Mapping};
use crate::db::pool::Db;
use crate::error::RelayError;
use crate::hubspot::client::{CallError, Client};
use crate::hubspot::error::{Failure, FailureClass};
use crate::hubspot::model::{PropertyDefinition, context_strings};
use crate::metrics::Metrics;
use crate::supervisor::relay_id;

/// Longest wait for a slot of the rate limit.
const SLOT_WAIT: Duration = Duration::from_secs(15);
/// Clocks further apart than this are a fault; `LATEST_WINS` corrects what it measures, signatures do not.
const CLOCKS_APART_MS: i64 = 5_000;

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub detail: String,
    /// How to mend it; none when nothing is wrong.
    pub mend: Option<String>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.ok { "ok" } else { "FAULT" };
        write!(f, "{word:<6}{}: {}", self.what, self.detail)?;
        match &self.mend {
            Some(mend) => write!(f, "; {mend}"),
            None => Ok(()),
        }
    }
}

pub(crate) fn good(what: impl Into<String>, detail: impl Into<String>) -> Finding {
    Finding {
        ok: true,
        what: what.into(),
        detail: detail.into(),
        mend: None,
    }
}

pub(crate) fn fault(what: impl Into<String>, detail: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding {
        ok: false,
        what: what.into(),
        detail: detail.into(),
        mend: Some(mend.into()),
    }
}

/// A call that HubSpot did not answer, or refused.
pub(crate) fn failed(what: impl Into<String>, error: &CallError) -> Finding {
    let (detail, mend) = describe(error);
    fault(what, detail, mend)
}

/// When a call that begins now gives up waiting for a slot.
pub(crate) fn soon() -> Instant {
    Instant::now() + SLOT_WAIT
}

/// Looks at database, clocks, token, scopes, mapped properties and webhook subscriptions. Nothing is changed but the relay's
/// entry in the database and what it remembers of HubSpot's property definitions.
///
/// # Errors
/// A wrong setting; everything else is a finding.
pub async fn check(config: &Config) -> Result<Vec<Finding>, RelayError> {
    let db = Db::new(&config.database)?;
    let client = Client::new(&config.hubspot, Metrics::new())?;
    let mut findings = Vec::new();
    let portal_id = token(config, &client, &mut findings).await;
    if database(config, &db, portal_id, &mut findings).await.is_some() {
        clocks(&db, &client, &mut findings).await;
        match db.mapping().await {
            Ok(mappings) => {
                scopes(&client, &mappings, &mut findings).await;
                findings.extend(exports(config, &client).await);
                mapped(&db, &client, &mappings, &mut findings).await;
                let portal_id = config.hubspot.portal_id.or(portal_id);
                findings.extend(webhooks::check(config, &client, &mappings, portal_id).await);
            }
            Err(error) => findings.push(unanswered("mappings", &error)),
        }
    }
    Ok(findings)
}

fn unanswered(what: &str, error: &crate::db::error::DbError) -> Finding {
    fault(
        what,
        error.to_string(),
        "see database.url, that CREATE EXTENSION hubspot_sync was run there, and hubspot.grant_relay",
    )
}

/// Says hello; none when the relay could do nothing with this database.
pub(crate) async fn database(
    config: &Config,
    db: &Db,
    portal_id: Option<i64>,
    findings: &mut Vec<Finding>,
) -> Option<Hello> {
    let hello = match db.hello(&relay_id(), config.hubspot.portal_id.or(portal_id)).await {
        Ok(hello) => hello,
        Err(error) => {
            findings.push(unanswered("database", &error));
            return None;
        }
    };
    findings.push(match crate::schema::refusal(hello.schema_version.as_deref()) {
        Some(reason) => fault("database", reason, "make extension and relay of one release"),
        None => good(
            "database",
            format!(
                "reachable, extension {}",
                hello.schema_version.clone().unwrap_or_default()
            ),
        ),
    });
    findings.push(match (hello.armed, hello.paused) {
        (true, false) => good("arming", "armed for this portal"),
        (true, true) => good("arming", "armed, but paused; hubspot.resume() goes on"),
        (false, _) => fault(
            "arming",
            hello.reason.clone().unwrap_or_else(|| "not armed".to_owned()),
            "when this database is the one that shall write to this portal: SELECT hubspot.arm(portal_id)",
        ),
    });
    Some(hello)
}

/// Whose token it is.
pub(crate) async fn token(config: &Config, client: &Client, findings: &mut Vec<Finding>) -> Option<i64> {
    match client.account_details(soon()).await {
        Ok(details) => {
            findings.push(match (details.portal_id, config.hubspot.portal_id) {
                (Some(is), Some(configured)) if is != configured => fault(
                    "token",
                    format!("belongs to portal {is}, but hubspot.portal_id is {configured}"),
                    "use a token of that portal, or correct hubspot.portal_id",
                ),
                (Some(is), _) => good("token", format!("accepted, portal {is}")),
                (None, _) => good("token", "accepted; HubSpot does not say for which portal"),
            });
            details.portal_id
        }
        Err(error) => {
            findings.push(failed("token", &error));
            None
        }
    }
}

/// The clocks of HubSpot and of the database beside this machine's.
async fn clocks(db: &Db, client: &Client, findings: &mut Vec<Finding>) {
    let now = || jiff::Timestamp::now().as_millisecond();
    let sent = now();
    let theirs = match db.now_ms().await {
        Ok(theirs) => theirs,
        Err(error) => return findings.push(unanswered("clock of the database", &error)),
    };
    let (offset, uncertainty) = (theirs - (sent + now()) / 2, (now() - sent) / 2);
    findings.push(clock("clock of the database", offset, uncertainty));
    if let Some(reading) = client.clock() {
        findings.push(clock("clock of HubSpot", reading.offset_ms, reading.uncertainty_ms));
    }
}

fn clock(what: &str, offset_ms: i64, uncertainty_ms: i64) -> Finding {
    let detail = format!(
        "{:.1} s {} this machine's, to within {:.1} s",
        offset_ms.abs() as f64 / 1000.0,
        if offset_ms < 0 { "behind" } else { "ahead of" },
        uncertainty_ms as f64 / 1000.0
    );
    if offset_ms.abs() > CLOCKS_APART_MS + uncertainty_ms {
        return fault(
            what,
            detail,
            "set the clocks of this machine and of the database's by NTP, such as chrony: LATEST_WINS compares times",
        );
    }
    good(what, detail)
}

/// Whether the token may read and, where fields are sent, write each mapped object type.
async fn scopes(client: &Client, mappings: &[Mapping], findings: &mut Vec<Finding>) {
    let types: BTreeSet<&str> = mappings.iter().map(|mapping| mapping.object_type.as_str()).collect();
    for object_type in types {
        let what = format!("right to read {object_type}");
        findings.push(match client.probe(object_type, soon()).await {
            Ok(()) => good(what, "granted"),
            Err(error) => failed(what, &error),
        });
        let sends = mappings
            .iter()
            .filter(|mapping| mapping.object_type == object_type)
            .any(|mapping| mapping.properties.iter().any(properties::is_sent));
        if sends {
            let what = format!("right to write {object_type}");
            findings.push(match client.may_write(object_type, soon()).await {
                Ok(()) => good(what, "granted"),
                Err(error) => failed(what, &error),
            });
        }
    }
}

/// Whether first loads may read HubSpot's exports. Without them they take longer, and that is no fault.
async fn exports(config: &Config, client: &Client) -> Option<Finding> {
    let detail = match config.backfill.export_from {
        0 => return None,
        // There is no such export: an answer that says so shows that the app may ask.
        _ => match client.export_status("0", soon()).await {
            Err(CallError::Failed(failure)) if failure.class == FailureClass::Auth => {
                "not granted: first loads read 100 records a call; the scope crm.export spares that"
            }
            Err(CallError::Failed(failure))
                if matches!(failure.class, FailureClass::NotFound | FailureClass::Invalid) =>
            {
                "granted"
            }
            Err(_) => return None,
            Ok(_) => "granted",
        },
    };
    Some(good("right to export, for first loads", detail))
}

async fn mapped(db: &Db, client: &Client, mappings: &[Mapping], findings: &mut Vec<Finding>) {
    if mappings.is_empty() {
        findings.push(fault(
            "mappings",
            "there is none",
            "see hubspot.import_mapping() and hubspot-relay init",
        ));
    }
    let mut by_type: BTreeMap<&str, Vec<&Mapping>> = BTreeMap::new();
    for mapping in mappings {
        by_type.entry(&mapping.object_type).or_default().push(mapping);
    }
    for (object_type, mappings) in by_type {
        let what = format!("properties of {object_type}");
        match client.properties(object_type, soon()).await {
            Ok(list) => {
                if let Err(error) = db.remember_properties(object_type, &list.results).await {
                    findings.push(unanswered(&what, &error));
                }
                let known: BTreeMap<&str, &PropertyDefinition> = list
                    .results
                    .iter()
                    .map(|property| (property.name.as_str(), property))
                    .collect();
                for mapping in mappings {
                    findings.extend(properties::compare(mapping, &known));
                }
            }
            Err(error) => findings.push(failed(what, &error)),
        }
    }
}

/// What went wrong with a call, and the mend.
fn describe(error: &CallError) -> (String, String) {
    let CallError::Failed(failure) = error else {
        return (
            "not asked: the rate limit has no room".to_owned(),
            "try again, or raise hubspot.requests_per_10s".to_owned(),
        );
    };
    let detail = match failure.status {
        Some(status) => format!("HubSpot answers {status}: {}", failure.message),
        None => failure.message.clone(),
    };
    let scopes = required_scopes(failure);
    let mend = match failure.class {
        FailureClass::Auth if !scopes.is_empty() => format!(
            "grant the app one of these scopes in HubSpot, and take the new token where it has one: {}",
            scopes.join(", ")
        ),
        FailureClass::Auth => "give a valid hubspot.access_token, or mend the OAuth settings".to_owned(),
        FailureClass::Unreachable | FailureClass::Timeout | FailureClass::Network | FailureClass::Server => {
            "see hubspot.base_url and the network, and HubSpot's status page; then try again".to_owned()
        }
        FailureClass::RateLimit | FailureClass::Locked | FailureClass::Migrating => "try again later".to_owned(),
        FailureClass::Invalid | FailureClass::NotFound | FailureClass::Conflict => {
            "correct the object type or property that the mapping names".to_owned()
        }
    };
    (detail, mend)
}

/// The scopes that a refusal names.
fn required_scopes(failure: &Failure) -> Vec<String> {
    failure
        .body
        .iter()
        .flat_map(|body| &body.errors)
        .flat_map(|detail| context_strings(&detail.context, "requiredGranularScopes"))
        .collect()
}
