//! Who changed what: the histories of the records a journal entry names, as a webhook's events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Trouble;
use super::entry::{Changed, RecordKey, form};
use super::subscriptions::type_id;
use crate::check::properties::is_received;
use crate::db::contract::Mapping;
use crate::deliver::Context;
use crate::deliver::batch::HISTORY_BATCH;
use crate::hubspot::client::CallError;
use crate::hubspot::error::FailureClass;
use crate::hubspot::model::{BatchReadRequest, IdInput, Record, instant_ms, value_text};

/// Records whose events are stored at a time.
pub(super) const PART: usize = 500;
/// An entry's instants and a history's may be rounded differently. What is stored twice for it is stored once.
const SLACK_MS: i64 = 1_000;
/// Shortest wait after a read that failed.
const WAIT: Duration = Duration::from_secs(2);

/// A record and the properties of it that are looked up.
pub(super) type Wanted = (RecordKey, Changed);

/// The changes of mapped properties that flow in; of the others nothing is read.
pub(super) fn wanted(changes: BTreeMap<RecordKey, Changed>, mappings: &[Mapping]) -> Vec<Wanted> {
    let mut received: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for mapping in mappings.iter().filter(|mapping| mapping.enabled) {
        let names = mapping
            .properties
            .iter()
            .filter(|property| is_received(property))
            .map(|property| property.name.as_str());
        received.entry(type_id(&mapping.object_type)).or_default().extend(names);
    }
    let of_interest = |((object_type, id), mut changed): Wanted| {
        let names = received.get(&object_type)?;
        changed.retain(|name, _| names.contains(name.as_str()));
        (!changed.is_empty()).then_some(((object_type, id), changed))
    };
    changes.into_iter().filter_map(of_interest).collect()
}

/// Reads the histories of these records and gives every version since the changes told of.
pub(super) async fn events(
    context: &Context,
    portal_id: i64,
    wanted: Vec<Wanted>,
    lease: Duration,
) -> Result<Vec<Value>, Trouble> {
    let mut by_type: BTreeMap<String, Vec<(String, Changed)>> = BTreeMap::new();
    for ((object_type, id), changed) in wanted {
        by_type.entry(object_type).or_default().push((id, changed));
    }
    let send_by = Instant::now() + lease.saturating_sub(context.client.timeout());
    let mut events = Vec::new();
    for (object_type, records) in by_type {
        for page in records.chunks(HISTORY_BATCH) {
            let answer = context.client.batch_read(&object_type, &request(page), send_by).await;
            let found = match answer {
                Ok(found) => found,
                Err(CallError::NotSent { wait }) => return Err(Trouble::NotNow(wait.clamp(WAIT, lease))),
                Err(CallError::Failed(failure)) => {
                    context.gate.judge(&failure, &object_type).await;
                    // The type or a property is not there any more: what is left of it the comparison finds.
                    match failure.class {
                        FailureClass::Invalid | FailureClass::NotFound => continue,
                        _ => return Err(Trouble::HubSpot(failure)),
                    }
                }
            };
            let known: BTreeMap<&str, &Record> = found
                .results
                .iter()
                .map(|record| (record.id.as_str(), record))
                .collect();
            for (id, changed) in page {
                // A record that is gone has an event of its own; a merged one answers under its new id, and with it.
                if let Some(record) = known.get(id.as_str()) {
                    of_record(&mut events, record, &object_type, changed, portal_id, context.app_id);
                }
            }
        }
    }
    Ok(events)
}

fn request(page: &[(String, Changed)]) -> BatchReadRequest {
    let names: BTreeSet<&String> = page.iter().flat_map(|(_, changed)| changed.keys()).collect();
    BatchReadRequest {
        properties: Vec::new(),
        properties_with_history: names.into_iter().cloned().collect(),
        id_property: None,
        inputs: page.iter().map(|(id, _)| IdInput { id: id.clone() }).collect(),
    }
}

/// Every version of the changed properties since the change, and at least the newest one.
fn of_record(
    events: &mut Vec<Value>,
    record: &Record,
    object_type: &str,
    changed: &Changed,
    portal_id: i64,
    app_id: Option<i64>,
) {
    for (name, since) in changed {
        let versions = record.properties_with_history.get(name).into_iter().flatten();
        let mut dated: Vec<_> = versions
            .filter_map(|version| Some((instant_ms(&version.timestamp)?, version)))
            .collect();
        // Oldest first; HubSpot gives the newest first, and of one millisecond too.
        dated.reverse();
        dated.sort_by_key(|(at, _)| *at);
        let newest = dated.len().saturating_sub(1);
        let new = dated
            .iter()
            .enumerate()
            .filter(|(place, (at, _))| *at >= since - SLACK_MS || *place == newest);
        for (_, (at, version)) in new {
            let mut event = form("propertyChange", object_type, &record.id, *at, portal_id);
            event.insert("propertyName".to_owned(), json!(name));
            event.insert(
                "propertyValue".to_owned(),
                json!(value_text(&version.value).unwrap_or_default()),
            );
            event.insert("changeSource".to_owned(), json!(version.source_type));
            event.insert("sourceId".to_owned(), json!(version.source_id));
            event.insert("appId".to_owned(), json!(app_id));
            events.push(Value::Object(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_since_the_change_and_at_least_the_newest() {
        let record: Record = serde_json::from_value(json!({"id": "5", "propertiesWithHistory": {
            "name": [{"value": "C", "timestamp": "1970-01-01T00:01:30Z", "sourceType": "INTEGRATION", "sourceId": "9"},
                     {"value": "B", "timestamp": "1970-01-01T00:01:20Z", "sourceType": "CRM_UI", "sourceId": "userId:1"},
                     {"value": "A", "timestamp": "1970-01-01T00:00:01Z"}],
            "phone": [{"value": "", "timestamp": "1970-01-01T00:00:02Z"}]}}))
        .unwrap();
        let mut events = Vec::new();
        let changed = Changed::from([("name".to_owned(), 80_500), ("phone".to_owned(), 99_000)]);
        of_record(&mut events, &record, "0-2", &changed, 7, Some(9));
        let short: Vec<(&Value, &Value, &Value)> = events
            .iter()
            .map(|event| (&event["propertyName"], &event["propertyValue"], &event["sourceId"]))
            .collect();
        assert_eq!(
            short,
            [
                (&json!("name"), &json!("B"), &json!("userId:1")),
                (&json!("name"), &json!("C"), &json!("9")),
                (&json!("phone"), &json!(""), &Value::Null)
            ]
        );
    }

    #[test]
    fn only_what_flows_in_is_looked_up() {
        let mappings: Vec<Mapping> = serde_json::from_value(json!([{"entity_type": "c", "object_type": "companies", "enabled": true,
            "properties": [{"name": "name", "direction": "BIDIRECTIONAL"}, {"name": "ban", "direction": "WARP_TO_HUBSPOT"}]}]))
        .unwrap();
        let key = |id: &str| ("0-2".to_owned(), id.to_owned());
        let changes = BTreeMap::from([
            (key("1"), Changed::from([("name".to_owned(), 1), ("ban".to_owned(), 1)])),
            (key("2"), Changed::from([("phone".to_owned(), 1)])),
        ]);
        assert_eq!(
            wanted(changes, &mappings),
            [(key("1"), Changed::from([("name".to_owned(), 1)]))]
        );
    }
}
