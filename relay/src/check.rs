//! `hubspot-relay check`: what an operator wants to know before `run`.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::db::contract::{MappedProperty, Mapping};
use crate::db::pool::Db;
use crate::error::RelayError;
use crate::hubspot::client::{CallError, Client};
use crate::hubspot::model::PropertyDefinition;
use crate::metrics::Metrics;
use crate::supervisor::relay_id;

/// Longest wait for a slot of the rate limit.
const SLOT_WAIT: Duration = Duration::from_secs(15);

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was looked at.
    pub what: String,
    /// What was found, and how to mend it.
    pub detail: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<6}{}: {}",
            if self.ok { "ok" } else { "FAULT" },
            self.what,
            self.detail
        )
    }
}

fn good(what: impl Into<String>, detail: impl Into<String>) -> Finding {
    Finding {
        ok: true,
        what: what.into(),
        detail: detail.into(),
    }
}

fn fault(what: impl Into<String>, detail: impl Into<String>) -> Finding {
    Finding {
        ok: false,
        what: what.into(),
        detail: detail.into(),
    }
}

/// Looks at database, token and mapped properties. Nothing is changed but the relay's entry in the database and what it
/// remembers of HubSpot's property definitions.
///
/// # Errors
/// A wrong setting; everything else is a finding.
pub async fn check(config: &Config) -> Result<Vec<Finding>, RelayError> {
    let db = Db::new(&config.database)?;
    let client = Client::new(&config.hubspot, Metrics::new())?;
    let mut findings = Vec::new();
    let portal_id = check_token(config, &client, &mut findings).await;
    match db.hello(&relay_id(), config.hubspot.portal_id.or(portal_id)).await {
        Ok(hello) => {
            findings.push(match crate::schema::refusal(hello.schema_version.as_deref()) {
                Some(reason) => fault("database", reason),
                None => good(
                    "database",
                    format!("reachable, extension {}", hello.schema_version.unwrap_or_default()),
                ),
            });
            findings.push(match (hello.armed, hello.paused) {
                (true, false) => good("arming", "armed for this portal"),
                (true, true) => good("arming", "armed, but paused; hubspot.resume() goes on"),
                (false, _) => fault(
                    "arming",
                    hello
                        .reason
                        .unwrap_or_else(|| "not armed; see hubspot.arm()".to_owned()),
                ),
            });
            match db.mapping().await {
                Ok(mappings) => check_mappings(&db, &client, &mappings, &mut findings).await,
                Err(error) => findings.push(fault("mappings", error.to_string())),
            }
        }
        Err(error) => findings.push(fault("database", error.to_string())),
    }
    Ok(findings)
}

async fn check_token(config: &Config, client: &Client, findings: &mut Vec<Finding>) -> Option<i64> {
    match client.account_details(Instant::now() + SLOT_WAIT).await {
        Ok(details) => {
            findings.push(match (details.portal_id, config.hubspot.portal_id) {
                (Some(is), Some(configured)) if is != configured => fault(
                    "token",
                    format!("belongs to portal {is}, but hubspot.portal_id is {configured}"),
                ),
                (Some(is), _) => good("token", format!("accepted, portal {is}")),
                (None, _) => good("token", "accepted; HubSpot does not say for which portal"),
            });
            details.portal_id
        }
        Err(error) => {
            findings.push(fault("token", describe(&error)));
            None
        }
    }
}

async fn check_mappings(db: &Db, client: &Client, mappings: &[Mapping], findings: &mut Vec<Finding>) {
    if mappings.is_empty() {
        findings.push(fault("mappings", "there is none; see hubspot.import_mapping()"));
    }
    let mut by_type: BTreeMap<&str, Vec<&Mapping>> = BTreeMap::new();
    for mapping in mappings {
        by_type.entry(&mapping.object_type).or_default().push(mapping);
    }
    for (object_type, mappings) in by_type {
        match client.properties(object_type, Instant::now() + SLOT_WAIT).await {
            Ok(list) => {
                if let Err(error) = db.remember_properties(object_type, &list.results).await {
                    findings.push(fault(format!("properties of {object_type}"), error.to_string()));
                }
                let known: BTreeMap<&str, &PropertyDefinition> = list
                    .results
                    .iter()
                    .map(|property| (property.name.as_str(), property))
                    .collect();
                for mapping in mappings {
                    findings.extend(compare(mapping, &known));
                }
            }
            Err(error) => findings.push(fault(format!("properties of {object_type}"), describe(&error))),
        }
    }
}

/// A mapping against HubSpot's definitions.
fn compare(mapping: &Mapping, known: &BTreeMap<&str, &PropertyDefinition>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let subject = |name: &str| format!("{} {}.{name}", mapping.entity_type, mapping.object_type);
    if let Some(name) = &mapping.match_property {
        findings.push(match known.get(name.as_str()) {
            None => fault(subject(name), "the match property does not exist at HubSpot"),
            // HubSpot does not mark a contact's e-mail address as unique, yet it identifies a contact.
            Some(property) if property.has_unique_value || name == "email" => {
                good(subject(name), format!("match property, {}, unique", property.kind))
            }
            Some(_) => fault(
                subject(name),
                "the match property is not unique (hasUniqueValue); use another or make a new one",
            ),
        });
    }
    for property in &mapping.properties {
        let found = known.get(property.name.as_str());
        findings.push(match found {
            None => fault(
                subject(&property.name),
                "does not exist at HubSpot; create it or correct the mapping",
            ),
            Some(definition) => judge(&subject(&property.name), property, definition),
        });
    }
    findings
}

fn judge(subject: &str, property: &MappedProperty, definition: &PropertyDefinition) -> Finding {
    let sends = matches!(property.direction.as_deref(), Some("WARP_TO_HUBSPOT" | "BIDIRECTIONAL"));
    let read_only = definition.calculated || definition.modification.read_only_value;
    if sends && read_only {
        return fault(
            subject,
            "HubSpot computes it and takes no value; map it HUBSPOT_TO_WARP",
        );
    }
    let ours = property.kind.as_deref().unwrap_or("unknown");
    if fits(ours, &definition.kind) {
        good(subject, format!("{ours} here, {} there", definition.kind))
    } else {
        fault(
            subject,
            format!("{ours} here, {} there: values will be refused", definition.kind),
        )
    }
}

/// Whether values of a kind of ours can be values of a type of HubSpot's. What we do not know fits.
fn fits(ours: &str, theirs: &str) -> bool {
    match theirs {
        "number" => !matches!(ours, "bool" | "boolean" | "date" | "datetime" | "timestamp" | "set"),
        "bool" => !matches!(
            ours,
            "number" | "numeric" | "decimal" | "date" | "datetime" | "timestamp" | "set"
        ),
        "date" | "datetime" => !matches!(ours, "bool" | "boolean" | "number" | "numeric" | "decimal" | "set"),
        _ => true,
    }
}

fn describe(error: &CallError) -> String {
    match error {
        CallError::NotSent { .. } => "not asked: the rate limit has no room".to_owned(),
        CallError::Failed(failure) => match failure.status {
            Some(status) => format!("HubSpot answers {status}: {}", failure.message),
            None => failure.message.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_missing_wrong_and_read_only_properties() {
        let mapping: Mapping = serde_json::from_value(json!({"entity_type":"customer","object_type":"companies",
            "enabled":true,"match_property":"ban","properties":[
                {"name":"name","direction":"BIDIRECTIONAL","kind":"text"},
                {"name":"gone","direction":"BIDIRECTIONAL","kind":"text"},
                {"name":"sum","direction":"WARP_TO_HUBSPOT","kind":"number"},
                {"name":"since","direction":"HUBSPOT_TO_WARP","kind":"bool"}]}))
        .unwrap();
        let definitions: Vec<PropertyDefinition> = serde_json::from_value(json!([
            {"name":"ban","type":"string","hasUniqueValue":true},{"name":"name","type":"string"},
            {"name":"sum","type":"number","calculated":true},{"name":"since","type":"date"}]))
        .unwrap();
        let known = definitions
            .iter()
            .map(|property| (property.name.as_str(), property))
            .collect();
        let ok: Vec<bool> = compare(&mapping, &known).iter().map(|finding| finding.ok).collect();
        assert_eq!(ok, [true, true, false, false, false]);
    }
}
