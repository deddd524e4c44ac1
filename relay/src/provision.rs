//! `hubspot-relay provision`: makes what HubSpot lacks for the mappings, and nothing else.
//!
//! Made are: properties whose names begin with `warp_`, in a group of their own; missing options of such properties; and the
//! app's webhook subscriptions, where HubSpot lets the token manage them. Nothing that exists is changed besides. Run again, it
//! finds nothing left to do.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::check::properties::{OWN_PREFIX, lacking_options};
use crate::check::webhooks::{by_hand, leads_here, needed, not_managed, target};
use crate::check::{self, Finding, failed, fault, good, soon};
use crate::config::Config;
use crate::db::contract::{MappedProperty, Mapping};
use crate::db::pool::Db;
use crate::error::RelayError;
use crate::hubspot::client::{CallError, Client};
use crate::hubspot::error::FailureClass;
use crate::hubspot::model::PropertyDefinition;
use crate::hubspot::setup::option;
use crate::metrics::Metrics;

/// The property group that is made for the properties.
const GROUP: &str = "warp_sync";
const GROUP_LABEL: &str = "Warp sync";

/// Makes what is missing and says what was done; with `dry_run` only says what would be.
///
/// # Errors
/// A wrong setting; everything else is a finding.
pub async fn provision(config: &Config, dry_run: bool) -> Result<Vec<Finding>, RelayError> {
    let db = Db::new(&config.database)?;
    let client = Client::new(&config.hubspot, Metrics::new())?;
    let mut findings = Vec::new();
    let portal_id = check::token(config, &client, &mut findings).await;
    check::database(config, &db, portal_id, &mut findings).await;
    // In the wrong portal nothing is made.
    if findings.iter().any(|finding| !finding.ok) {
        return Ok(findings);
    }
    match db.mapping().await {
        Ok(mappings) => {
            let mut maker = Maker {
                client,
                dry_run,
                findings,
            };
            maker.properties(&mappings).await;
            maker.webhooks(config, &mappings).await;
            Ok(maker.findings)
        }
        Err(error) => {
            findings.push(fault("mappings", error.to_string(), "run hubspot-relay check"));
            Ok(findings)
        }
    }
}

struct Maker {
    client: Client,
    dry_run: bool,
    findings: Vec<Finding>,
}

/// A property that some mapping of an object type names.
struct Wanted {
    property: MappedProperty,
    unique: bool,
}

/// The properties of an object type by name, each once.
fn wanted<'a>(mappings: impl Iterator<Item = &'a Mapping>) -> BTreeMap<String, Wanted> {
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    for mapping in mappings {
        for property in &mapping.properties {
            let unique = mapping.match_property.as_ref() == Some(&property.name);
            let entry = wanted.entry(property.name.clone()).or_insert_with(|| Wanted {
                property: property.clone(),
                unique: false,
            });
            entry.unique |= unique;
        }
    }
    wanted
}

/// HubSpot's definition of a property for values of that kind; a fault names what the mapping lacks.
fn definition(wanted: &Wanted) -> Result<Value, &'static str> {
    let property = &wanted.property;
    let values = property.enum_values.as_deref().unwrap_or_default();
    let options: Vec<Value> = values
        .iter()
        .enumerate()
        .map(|(place, value)| option(value, place))
        .collect();
    let (kind, field_type, options) = match property.kind.as_deref() {
        Some("number") => ("number", "number", Vec::new()),
        Some("boolean") => ("bool", "booleancheckbox", vec![option("true", 0), option("false", 1)]),
        Some("date") => ("date", "date", Vec::new()),
        Some("timestamp") => ("datetime", "date", Vec::new()),
        Some("multi_select") if options.is_empty() => {
            return Err("list its enum_values in the mapping: a set of values needs options at HubSpot");
        }
        Some("multi_select") => ("enumeration", "checkbox", options),
        _ if options.is_empty() => ("string", "text", Vec::new()),
        _ => ("enumeration", "select", options),
    };
    let label = property.name.trim_start_matches(OWN_PREFIX).replace('_', " ");
    let mut body = json!({"groupName": GROUP, "name": property.name, "label": format!("Warp {label}"), "type": kind,
        "fieldType": field_type, "hasUniqueValue": wanted.unique, "formField": false});
    if !options.is_empty() {
        body["options"] = json!(options);
    }
    Ok(body)
}

impl Maker {
    /// Notes what came of a step; `done` is in the past tense.
    fn note(&mut self, what: String, done: &str, result: Result<(), CallError>) {
        self.findings.push(match result {
            Ok(()) if self.dry_run => good(what, format!("would be {done}")),
            Ok(()) => good(what, done),
            // Somebody else was faster.
            Err(CallError::Failed(failure)) if failure.class == FailureClass::Conflict => good(what, "exists"),
            Err(error) => failed(what, &error),
        });
    }

    async fn properties(&mut self, mappings: &[Mapping]) {
        let types: std::collections::BTreeSet<&str> =
            mappings.iter().map(|mapping| mapping.object_type.as_str()).collect();
        for object_type in types {
            match self.client.properties(object_type, soon()).await {
                Ok(list) => {
                    let of_type = mappings.iter().filter(|mapping| mapping.object_type == object_type);
                    self.properties_of(object_type, wanted(of_type), &list.results).await;
                }
                Err(error) => self
                    .findings
                    .push(failed(format!("properties of {object_type}"), &error)),
            }
        }
    }

    async fn properties_of(
        &mut self,
        object_type: &str,
        wanted: BTreeMap<String, Wanted>,
        known: &[PropertyDefinition],
    ) {
        let mut group = false;
        for (name, wanted) in wanted {
            let what = format!("property {object_type}.{name}");
            let found = known.iter().find(|definition| definition.name == name);
            match found {
                Some(definition) => self.options(object_type, what, &wanted, definition).await,
                None if !name.starts_with(OWN_PREFIX) => self.findings.push(fault(
                    what,
                    "does not exist at HubSpot",
                    format!("create it there, or correct the mapping: only {OWN_PREFIX} properties are made"),
                )),
                None => match definition(&wanted) {
                    Err(mend) => self.findings.push(fault(what, "not created", mend)),
                    Ok(body) => {
                        if !group && !self.group(object_type).await {
                            return;
                        }
                        group = true;
                        let result = match self.dry_run {
                            true => Ok(()),
                            false => self.client.create_property(object_type, &body, soon()).await,
                        };
                        self.note(what, "created", result);
                    }
                },
            }
        }
    }

    /// Whether the group is there now.
    async fn group(&mut self, object_type: &str) -> bool {
        let what = format!("property group {object_type}.{GROUP}");
        let result = match self.client.has_group(object_type, GROUP, soon()).await {
            Ok(true) => return true,
            Ok(false) if self.dry_run => Ok(()),
            Ok(false) => {
                let body = json!({"name": GROUP, "label": GROUP_LABEL, "displayOrder": -1});
                self.client.create_group(object_type, &body, soon()).await
            }
            Err(error) => Err(error),
        };
        self.note(what, "created", result);
        self.findings.last().is_some_and(|finding| finding.ok)
    }

    async fn options(&mut self, object_type: &str, what: String, wanted: &Wanted, definition: &PropertyDefinition) {
        let name = &definition.name;
        if wanted.unique && !definition.has_unique_value && name.starts_with(OWN_PREFIX) {
            return self.findings.push(fault(
                what,
                "exists, but is not unique (hasUniqueValue), and HubSpot cannot make it so afterwards",
                "map the match field to another name beginning with warp_, and run this again",
            ));
        }
        let lacking = lacking_options(&wanted.property, definition);
        if lacking.is_empty() || !name.starts_with(OWN_PREFIX) {
            return self.findings.push(good(what, "exists"));
        }
        let result = match self.dry_run {
            true => Ok(()),
            false => self.client.add_options(object_type, name, &lacking, soon()).await,
        };
        self.note(what, &format!("given the options {}", lacking.join(", ")), result);
    }

    async fn webhooks(&mut self, config: &Config, mappings: &[Mapping]) {
        let needed = needed(mappings);
        if needed.is_empty() {
            return;
        }
        let target = target(config);
        let Some(app_id) = config.hubspot.app_id else {
            return self
                .findings
                .push(fault("webhooks", "the app is not known", "set hubspot.app_id"));
        };
        let existing = match self.client.subscriptions(app_id, soon()).await {
            Ok(existing) => existing,
            Err(error) if not_managed(&error) => {
                return self.findings.push(good(
                    "webhooks",
                    format!(
                        "not made: HubSpot does not let this token manage the app's subscriptions. Make them {}",
                        by_hand(&needed, target.as_deref())
                    ),
                ));
            }
            Err(error) => return self.findings.push(failed("webhooks", &error)),
        };
        // First where to, then what: HubSpot refuses subscriptions without a target.
        if !self.target(app_id, target).await {
            return;
        }
        for wanted in &needed {
            let what = format!("webhook {wanted}");
            let found: Vec<_> = existing.iter().filter(|found| found.same_events(wanted)).collect();
            let paused = found.first().filter(|_| !found.iter().any(|found| found.active));
            let (done, result) = match (found.is_empty(), paused) {
                (true, _) if self.dry_run => ("subscribed", Ok(())),
                (true, _) => (
                    "subscribed",
                    self.client.create_subscription(app_id, wanted, soon()).await,
                ),
                (false, Some(_)) if self.dry_run => ("switched on", Ok(())),
                (false, Some(paused)) => (
                    "switched on",
                    self.client.activate_subscription(app_id, &paused.id, soon()).await,
                ),
                (false, None) => {
                    self.findings.push(good(what, "exists"));
                    continue;
                }
            };
            self.note(what, done, result);
        }
    }

    /// Whether the app's target leads here now. One that leads elsewhere may be another environment's, and is left.
    async fn target(&mut self, app_id: i64, target: Option<String>) -> bool {
        let what = "webhook target".to_owned();
        let is = match self.client.webhook_target(app_id, soon()).await {
            Ok(is) => is,
            Err(error) => {
                self.findings.push(failed(what, &error));
                return false;
            }
        };
        match (is, target) {
            (None, None) => self.findings.push(fault(
                what,
                "not set, and no address to set it to",
                "set webhook.public_url and run this again",
            )),
            (Some(url), Some(target)) if !leads_here(&url, &target) => self.findings.push(fault(
                what,
                format!(
                    "HubSpot sends to {url}, which may be somebody else's, and webhook.public_url leads to {target}"
                ),
                "set the app's target URL in HubSpot, or correct webhook.public_url",
            )),
            (Some(url), _) => self.findings.push(good(what, format!("exists: {url}"))),
            (None, Some(target)) => {
                let result = match self.dry_run {
                    true => Ok(()),
                    false => self.client.set_webhook_target(app_id, &target, soon()).await,
                };
                self.note(what, &format!("set to {target}"), result);
            }
        }
        self.findings.last().is_some_and(|finding| finding.ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(property: Value, unique: bool) -> Result<Value, &'static str> {
        let property = serde_json::from_value(property).unwrap();
        definition(&Wanted { property, unique })
    }

    #[test]
    fn each_kind_has_its_property() {
        for (kind, values, expected) in [
            ("text", json!(null), ("string", "text", 0)),
            ("number", json!(null), ("number", "number", 0)),
            ("boolean", json!(null), ("bool", "booleancheckbox", 2)),
            ("date", json!(null), ("date", "date", 0)),
            ("timestamp", json!(null), ("datetime", "date", 0)),
            ("text", json!(["A", "B"]), ("enumeration", "select", 2)),
            ("multi_select", json!(["A"]), ("enumeration", "checkbox", 1)),
        ] {
            let body = made(
                json!({"name": "warp_x", "kind": kind, "enum_values": values}),
                kind == "text",
            )
            .unwrap();
            let options = body["options"].as_array().map_or(0, Vec::len);
            assert_eq!(
                (
                    body["type"].as_str().unwrap(),
                    body["fieldType"].as_str().unwrap(),
                    options
                ),
                expected
            );
            assert_eq!(body["hasUniqueValue"], json!(kind == "text"));
        }
        assert!(made(json!({"name": "warp_x", "kind": "multi_select"}), false).is_err());
    }
}
