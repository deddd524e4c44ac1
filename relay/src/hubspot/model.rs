//! HubSpot's wire types. Lenient: HubSpot's guide says to treat every field of an answer as optional.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Body of `batch/read`.
#[derive(Debug, Clone, Serialize)]
pub struct BatchReadRequest {
    /// Properties whose current value is wanted.
    pub properties: Vec<String>,
    /// Properties whose history is wanted (at most 50 inputs then).
    #[serde(rename = "propertiesWithHistory")]
    pub properties_with_history: Vec<String>,
    /// The unique property the ids are values of; none for record ids.
    #[serde(rename = "idProperty", skip_serializing_if = "Option::is_none")]
    pub id_property: Option<String>,
    /// The records wanted, each once.
    pub inputs: Vec<IdInput>,
}

/// One id of a batch.
#[derive(Debug, Clone, Serialize)]
pub struct IdInput {
    /// Record id, or a value of the id property.
    pub id: String,
}

/// One record of `batch/update` or `batch/upsert`.
#[derive(Debug, Clone, Serialize)]
pub struct WriteInput {
    /// Record id, or the value of `id_property`.
    pub id: String,
    /// The unique property `id` is a value of (upsert).
    #[serde(rename = "idProperty", skip_serializing_if = "Option::is_none")]
    pub id_property: Option<String>,
    /// Our name for this input; with a unique one on each, a bad record fails alone.
    #[serde(rename = "objectWriteTraceId")]
    pub trace_id: String,
    /// Property values; an empty string clears.
    pub properties: Map<String, Value>,
}

/// Body of a batch write or archive.
#[derive(Debug, Clone, Serialize)]
pub struct Inputs<T> {
    /// The records.
    pub inputs: Vec<T>,
}

/// Answer to any batch call, whatever its status: a 2xx never means that every record was done.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct BatchResponse {
    /// Records done, in any order.
    pub results: Vec<Record>,
    /// Records refused.
    pub errors: Vec<ErrorBody>,
}

/// One record as HubSpot returns it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Record id; a string, but a number is read too.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// Current values, all strings or null.
    pub properties: Map<String, Value>,
    /// Versions by property, newest first.
    #[serde(rename = "propertiesWithHistory")]
    pub properties_with_history: BTreeMap<String, Vec<Version>>,
    /// When the record last changed.
    #[serde(rename = "updatedAt")]
    pub updated_at: Option<String>,
    /// Whether an upsert created it.
    pub new: Option<bool>,
    /// Our name of the input, if HubSpot returns it.
    #[serde(rename = "objectWriteTraceId")]
    pub trace_id: Option<String>,
}

/// One version of a property.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Version {
    /// The value.
    pub value: Value,
    /// When it was set: ISO 8601, or epoch milliseconds.
    pub timestamp: Value,
    /// What kind of client set it.
    #[serde(rename = "sourceType")]
    pub source_type: Option<String>,
    /// Which client.
    #[serde(rename = "sourceId")]
    pub source_id: Option<String>,
}

/// An error, of a whole call or of one record of a batch.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// HTTP status of a record's error where HubSpot gives a number; usually the word `error`.
    pub status: Value,
    /// For people; may hold a JSON list of refused values.
    pub message: Option<String>,
    /// Class, such as `VALIDATION_ERROR`.
    pub category: Option<String>,
    /// Which limit was hit.
    #[serde(rename = "policyName")]
    pub policy_name: Option<String>,
    /// HubSpot's name of the call, for its support.
    #[serde(rename = "correlationId")]
    pub correlation_id: Option<String>,
    /// What it is about: `ids`, `objectWriteTraceId`, `propertyName`, …
    pub context: Value,
    /// Finer errors.
    pub errors: Vec<ErrorDetail>,
}

/// A finer error.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// For people.
    pub message: Option<String>,
    /// Code, such as `INVALID_OPTION`.
    pub code: Option<String>,
    /// What it is about.
    pub context: Value,
}

/// Answer to `account-info/…/details`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AccountDetails {
    /// The portal the token belongs to.
    #[serde(rename = "portalId")]
    pub portal_id: Option<i64>,
    /// The account's time zone, in which its day of calls begins.
    #[serde(rename = "timeZone")]
    pub time_zone: Option<String>,
}

/// A page of a search's results.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SearchPage {
    /// All records that match; HubSpot shows the first 10,000 of them.
    pub total: u64,
    /// This page's records.
    pub results: Vec<Record>,
    /// Where the next page begins.
    pub paging: Option<Paging>,
}

/// Where a listing or a search goes on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Paging {
    /// None on the last page.
    pub next: Option<NextPage>,
}

/// The next page.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NextPage {
    /// The value of `after` that asks for it.
    pub after: String,
}

/// Answer to a listing of property definitions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PropertyList {
    /// The definitions.
    pub results: Vec<PropertyDefinition>,
}

/// The parts of a property definition that anyone here looks at.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PropertyDefinition {
    /// Internal name.
    pub name: String,
    /// `string`, `number`, `bool`, `enumeration`, `date`, `datetime`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// What people see.
    pub label: String,
    /// How people enter it: `text`, `select`, `booleancheckbox`, …
    #[serde(rename = "fieldType")]
    pub field_type: String,
    /// What an enumeration accepts.
    pub options: Vec<PropertyOption>,
    /// Whether it can identify a record.
    #[serde(rename = "hasUniqueValue")]
    pub has_unique_value: bool,
    /// Whether HubSpot computes it.
    pub calculated: bool,
    /// Whether values may be written.
    #[serde(rename = "modificationMetadata")]
    pub modification: ModificationMetadata,
    /// Whether it was deleted.
    pub archived: bool,
}

/// A value that an enumeration accepts.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PropertyOption {
    /// The value, not its label.
    pub value: String,
}

/// What may be changed of a property.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ModificationMetadata {
    /// Values cannot be written.
    #[serde(rename = "readOnlyValue")]
    pub read_only_value: bool,
}

/// The strings under `name` in an error's context: HubSpot gives a list, a single string is read too.
pub fn context_strings(context: &Value, name: &str) -> Vec<String> {
    match context.get(name) {
        Some(Value::Array(items)) => items.iter().filter_map(scalar_text).collect(),
        Some(other) => scalar_text(other).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A property value as text: HubSpot sends strings; numbers and booleans are read too. Null and empty are none.
pub fn value_text(value: &Value) -> Option<String> {
    scalar_text(value).filter(|text| !text.is_empty())
}

pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// An instant of HubSpot's in epoch milliseconds.
pub fn instant_ms(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => match text.parse::<i64>() {
            Ok(ms) => Some(ms),
            Err(_) => text
                .parse::<jiff::Timestamp>()
                .ok()
                .map(jiff::Timestamp::as_millisecond),
        },
        _ => None,
    }
}

pub(super) fn text_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(scalar_text(&value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_hubspot_sends() {
        let body = json!({"status":"COMPLETE","results":[{"id":512,"new":false,"properties":{"name":"A","phone":null},
            "updatedAt":"2026-11-01T08:00:00.456Z","archived":false}],
            "errors":[{"status":"error","category":"OBJECT_NOT_FOUND","context":{"ids":["999"]}}],"numErrors":1});
        let answer: BatchResponse = serde_json::from_value(body).unwrap();
        assert_eq!(answer.results[0].id, "512");
        assert_eq!(context_strings(&answer.errors[0].context, "ids"), ["999"]);
        assert_eq!(instant_ms(&json!("2026-11-01T08:00:00.456Z")), Some(1_793_520_000_456));
        assert_eq!(instant_ms(&json!("1764000000000")), Some(1_764_000_000_000));
        assert!(serde_json::from_value::<BatchResponse>(json!({})).is_ok());
    }
}
