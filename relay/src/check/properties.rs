//! Mapped properties against HubSpot's definitions.

use std::collections::BTreeMap;

use super::{Finding, fault, good};
use crate::db::contract::{MappedProperty, Mapping};
use crate::hubspot::model::PropertyDefinition;

/// Properties with this prefix are ours: `provision` makes them.
pub(crate) const OWN_PREFIX: &str = "warp_";

/// Whether its values go to HubSpot.
pub(super) fn is_sent(property: &MappedProperty) -> bool {
    matches!(property.direction.as_deref(), Some("WARP_TO_HUBSPOT" | "BIDIRECTIONAL"))
}

/// Whether its values come from HubSpot.
pub(crate) fn is_received(property: &MappedProperty) -> bool {
    matches!(property.direction.as_deref(), Some("HUBSPOT_TO_WARP" | "BIDIRECTIONAL"))
}

/// A mapping against HubSpot's definitions.
pub(super) fn compare(mapping: &Mapping, known: &BTreeMap<&str, &PropertyDefinition>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let subject = |name: &str| format!("{} {}.{name}", mapping.entity_type, mapping.object_type);
    if let Some(name) = &mapping.match_property {
        findings.push(match known.get(name.as_str()) {
            None => fault(subject(name), "the match property does not exist at HubSpot", create(name)),
            // HubSpot does not mark a contact's e-mail address as unique, yet it identifies a contact.
            Some(property) if property.has_unique_value || name == "email" => {
                good(subject(name), format!("match property, {}, unique", property.kind))
            }
            Some(_) => fault(
                subject(name),
                "the match property is not unique (hasUniqueValue), and HubSpot cannot make it so afterwards",
                "name another in the mapping's option match, or map a new warp_ property and run hubspot-relay provision",
            ),
        });
    }
    for property in &mapping.properties {
        let found = known.get(property.name.as_str());
        findings.push(match found {
            None => fault(
                subject(&property.name),
                "does not exist at HubSpot",
                create(&property.name),
            ),
            Some(definition) => judge(&subject(&property.name), property, definition),
        });
    }
    findings
}

fn judge(subject: &str, property: &MappedProperty, definition: &PropertyDefinition) -> Finding {
    let sends = is_sent(property);
    let read_only = definition.calculated || definition.modification.read_only_value;
    if sends && read_only {
        return fault(
            subject,
            "HubSpot computes it and takes no value",
            "map it HUBSPOT_TO_WARP",
        );
    }
    let ours = property.kind.as_deref().unwrap_or("unknown");
    if !fits(ours, &definition.kind) {
        return fault(
            subject,
            format!("{ours} here, {} there: values will be refused", definition.kind),
            "map the field to a property of its type, or give it a transform",
        );
    }
    let lacking = lacking_options(property, definition);
    if sends && !lacking.is_empty() {
        return fault(
            subject,
            format!(
                "HubSpot's options lack {}: such values will be refused",
                lacking.join(", ")
            ),
            format!(
                "add them in HubSpot{}, or take them out of enum_values",
                provisioned(&property.name)
            ),
        );
    }
    good(subject, format!("{ours} here, {} there", definition.kind))
}

/// Those of the mapping's `enum_values` that an enumeration of HubSpot's does not take.
pub(crate) fn lacking_options(property: &MappedProperty, definition: &PropertyDefinition) -> Vec<String> {
    if definition.kind != "enumeration" {
        return Vec::new();
    }
    let known = |value: &&String| !definition.options.iter().any(|option| &option.value == *value);
    property.enum_values.iter().flatten().filter(known).cloned().collect()
}

fn create(name: &str) -> String {
    format!("create it in HubSpot{}, or correct the mapping", provisioned(name))
}

/// What `provision` can do about a property of that name.
fn provisioned(name: &str) -> &'static str {
    if name.starts_with(OWN_PREFIX) {
        " or run hubspot-relay provision"
    } else {
        ""
    }
}

/// Whether values of a kind of ours can be values of a type of HubSpot's. What we do not know fits.
fn fits(ours: &str, theirs: &str) -> bool {
    match theirs {
        "number" => !matches!(ours, "boolean" | "date" | "timestamp" | "multi_select"),
        "bool" => !matches!(ours, "number" | "date" | "timestamp" | "multi_select"),
        "date" | "datetime" => !matches!(ours, "boolean" | "number" | "multi_select"),
        _ => true,
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
                {"name":"since","direction":"HUBSPOT_TO_WARP","kind":"boolean"},
                {"name":"tier","direction":"BIDIRECTIONAL","kind":"text","enum_values":["A","B"]}]}))
        .unwrap();
        let definitions: Vec<PropertyDefinition> = serde_json::from_value(json!([
            {"name":"ban","type":"string","hasUniqueValue":true},{"name":"name","type":"string"},
            {"name":"sum","type":"number","calculated":true},{"name":"since","type":"date"},
            {"name":"tier","type":"enumeration","options":[{"value":"A"}]}]))
        .unwrap();
        let known = definitions
            .iter()
            .map(|property| (property.name.as_str(), property))
            .collect();
        let findings = compare(&mapping, &known);
        let ok: Vec<bool> = findings.iter().map(|finding| finding.ok).collect();
        assert_eq!(ok, [true, true, false, false, false, false]);
        assert!(findings.iter().all(|finding| finding.ok == finding.mend.is_none()));
        assert!(findings[5].detail.contains("lack B:"), "{}", findings[5].detail);
    }
}
