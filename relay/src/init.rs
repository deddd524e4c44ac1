//! `hubspot-relay init`: a mapping draft from a table's columns and HubSpot's property list.
//!
//! A draft is a start, not a decision: it proposes a property for each column, by name or label, and says what it could not
//! find. Somebody has to read it before `hubspot.import_mapping` gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::config::Config;
use crate::db::error::DbError;
use crate::db::pool::Db;
use crate::error::RelayError;
use crate::hubspot::client::{CallError, Client};
use crate::hubspot::model::PropertyDefinition;
use crate::metrics::Metrics;

/// Longest wait for a slot of the rate limit.
const SLOT_WAIT: Duration = Duration::from_secs(15);

/// The catalog is readable by every role: `init` needs no right to the table's rows.
const COLUMNS: &str = "
select coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, null), 'generated', a.attgenerated <> '' or a.attidentity = 'a',
    'key', exists (select from pg_index i where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any (i.indkey)),
    'unique', exists (select from pg_index i where i.indrelid = a.attrelid and i.indisunique and not i.indisprimary and i.indnkeyatts = 1
                      and i.indpred is null and i.indkey[0] = a.attnum)) order by a.attnum), '[]')
from pg_attribute a where a.attrelid = to_regclass($1::text) and a.attnum > 0 and not a.attisdropped";

/// A column of the table.
#[derive(Debug, Clone, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as PostgreSQL prints it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The table computes it.
    #[serde(default)]
    pub generated: bool,
    /// Part of the primary key.
    #[serde(default)]
    pub key: bool,
    /// Unique by itself.
    #[serde(default)]
    pub unique: bool,
}

/// What `init` made.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The mapping document.
    pub mapping: Value,
    /// What somebody should look at, one sentence each.
    pub notes: Vec<String>,
}

/// Why there is no draft.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A wrong setting.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The database does not answer.
    #[error("the database: {0}")]
    Database(#[from] DbError),
    /// HubSpot does not answer, or refuses.
    #[error("HubSpot's properties of {object_type}: {problem}")]
    Hubspot {
        /// The object type that was asked for.
        object_type: String,
        /// What HubSpot said.
        problem: String,
    },
    /// There is no such table.
    #[error("there is no table {0} in the database; name it with its schema, such as public.customers")]
    NoTable(String),
}

/// Reads the table's columns and HubSpot's properties, and drafts a mapping.
///
/// # Errors
/// See [`InitError`].
pub async fn init(config: &Config, table: &str, object_type: &str) -> Result<Draft, InitError> {
    let db = Db::new(&config.database).map_err(RelayError::from)?;
    let columns: Vec<Column> = db.call("columns", COLUMNS, &[&table]).await?;
    if columns.is_empty() {
        return Err(InitError::NoTable(table.to_owned()));
    }
    let client = Client::new(&config.hubspot, Metrics::new()).map_err(RelayError::from)?;
    let properties = client
        .properties(object_type, Instant::now() + SLOT_WAIT)
        .await
        .map_err(|error| InitError::Hubspot {
            object_type: object_type.to_owned(),
            problem: match error {
                CallError::NotSent { .. } => "not asked: the rate limit has no room".to_owned(),
                CallError::Failed(failure) => failure.message,
            },
        })?;
    Ok(draft(&columns, &properties.results))
}

/// Only letters and digits, in lower case, so that `Company name` is `company_name`.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether a column's type can be mapped whole.
fn mappable(kind: &str) -> bool {
    !matches!(kind, "json" | "jsonb" | "bytea" | "xml" | "point" | "interval")
        && (!kind.ends_with("[]") || kind.starts_with("text") || kind.starts_with("character"))
}

/// Proposes a property for each column that can be mapped.
pub fn draft(columns: &[Column], properties: &[PropertyDefinition]) -> Draft {
    let by_name: BTreeMap<String, &PropertyDefinition> = properties.iter().map(|p| (plain(&p.name), p)).collect();
    let by_label: BTreeMap<String, &PropertyDefinition> = properties.iter().map(|p| (plain(&p.label), p)).collect();
    let mut taken = BTreeSet::new();
    let mut mapping = Map::new();
    let mut notes = Vec::new();
    let mut matches = false;
    for column in columns {
        if column.kind == "json" || column.kind == "jsonb" {
            notes.push(format!(
                "{}: map single texts inside it with warp_field_path, such as {}->>'email'",
                column.name, column.name
            ));
            continue;
        }
        if !mappable(&column.kind) {
            notes.push(format!("{}: {} cannot be mapped", column.name, column.kind));
            continue;
        }
        let found = by_name
            .get(&plain(&format!("warp_{}", column.name)))
            .or_else(|| by_name.get(&plain(&column.name)))
            .or_else(|| by_label.get(&plain(&column.name)))
            .copied()
            .filter(|p| taken.insert(p.name.clone()));
        let Some(property) = found else {
            if column.key {
                continue;
            }
            notes.push(format!(
                "{}: HubSpot has no property for it; create one, such as warp_{}, or leave the column out",
                column.name, column.name
            ));
            continue;
        };
        let computed = property.calculated || property.modification.read_only_value;
        let (direction, resolution) = match (computed, column.generated || column.key || column.unique) {
            (true, true) => {
                notes.push(format!(
                    "{}: both sides compute it, nothing can be synchronised",
                    column.name
                ));
                continue;
            }
            (true, false) => ("HUBSPOT_TO_WARP", "HUBSPOT_WINS"),
            (false, true) => ("WARP_TO_HUBSPOT", "WARP_WINS"),
            (false, false) => ("BIDIRECTIONAL", "LATEST_WINS"),
        };
        let mut entry = json!({"hubspot_property": property.name, "warp_field": column.name,
            "sync_direction": direction, "conflict_resolution": resolution});
        if property.kind == "enumeration" && !property.options.is_empty() && column.kind == "text" {
            entry["enum_values"] = property.options.iter().map(|o| o.value.as_str()).collect();
        }
        matches |= direction == "WARP_TO_HUBSPOT" && column.unique && property.has_unique_value;
        mapping.insert(column.name.clone(), entry);
    }
    if !matches {
        notes.push(
            "no unique column is mapped to a unique property (hasUniqueValue): records can be neither found nor created. \
             Map one, or name it in the option match"
                .to_owned(),
        );
    }
    Draft {
        mapping: Value::Object(mapping),
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposes_by_name_prefix_and_label_and_says_what_is_missing() {
        let columns: Vec<Column> = serde_json::from_value(json!([
            {"name": "id", "type": "bigint", "key": true}, {"name": "ban", "type": "text", "unique": true},
            {"name": "company_name", "type": "text"}, {"name": "tier", "type": "text"}, {"name": "score", "type": "integer"},
            {"name": "contact", "type": "jsonb"}, {"name": "photo", "type": "bytea"}, {"name": "notes", "type": "text"}]))
        .unwrap();
        let properties: Vec<PropertyDefinition> = serde_json::from_value(json!([
            {"name": "warp_ban", "type": "string", "hasUniqueValue": true}, {"name": "name", "label": "Company name", "type": "string"},
            {"name": "warp_tier", "type": "enumeration", "options": [{"value": "GOLD"}]},
            {"name": "score", "type": "number", "calculated": true}]))
        .unwrap();
        let draft = draft(&columns, &properties);
        assert_eq!(
            draft.mapping,
            json!({
                "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
                "company_name": {"hubspot_property": "name", "warp_field": "company_name", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS"},
                "tier": {"hubspot_property": "warp_tier", "warp_field": "tier", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS", "enum_values": ["GOLD"]},
                "score": {"hubspot_property": "score", "warp_field": "score", "sync_direction": "HUBSPOT_TO_WARP", "conflict_resolution": "HUBSPOT_WINS"}})
        );
        let notes = draft.notes.join("\n");
        for said in ["contact: map single", "photo: bytea", "notes: HubSpot has no property"] {
            assert!(notes.contains(said), "{said} is not in {notes}");
        }
        assert!(!notes.contains("hasUniqueValue"), "{notes}");
    }
}
