//! What a journal entry tells, sorted into what is looked up and what is taken as it is.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::hubspot::model::{instant_ms, scalar_text};

/// A record, by the id of its type and its own.
pub(super) type RecordKey = (String, String);

/// Properties that changed, each with the instant of its earliest change in the entry, epoch milliseconds.
pub(super) type Changed = BTreeMap<String, i64>;

/// An entry, sorted.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    /// Records whose properties changed.
    pub(super) changes: BTreeMap<RecordKey, Changed>,
    /// What happened to whole records, in the form of a webhook's events.
    pub(super) records: Vec<Value>,
}

/// Reads an entry's file; none when it is not one. Events of other accounts and of other kinds are left out.
pub(super) fn read(file: &Value, portal_id: i64) -> Option<Told> {
    let mut told = Told::default();
    for event in file.get("journalEvents")?.as_array()? {
        let of_this = event
            .get("portalId")
            .and_then(scalar_text)
            .is_none_or(|portal| portal == portal_id.to_string());
        if of_this && event.get("type").and_then(Value::as_str) == Some("crmObject") {
            one(&mut told, event, portal_id);
        }
    }
    Some(told)
}

fn one(told: &mut Told, event: &Value, portal_id: i64) {
    let (Some(object_type), Some(id)) = (text(event, "objectTypeId"), text(event, "objectId")) else {
        return;
    };
    let at = event.get("occurredAt").and_then(instant_ms).unwrap_or(0);
    if let Some(changed) = event.get("propertyChanges").and_then(Value::as_object) {
        let known = told.changes.entry((object_type.clone(), id.clone())).or_default();
        for name in changed.keys() {
            let earliest = known.entry(name.clone()).or_insert(at);
            *earliest = at.min(*earliest);
        }
    }
    let what = match event.get("action").and_then(Value::as_str) {
        Some("CREATE") => "creation",
        Some("DELETE") => "deletion",
        Some("RESTORE") => "restore",
        Some("MERGE") => "merge",
        Some("GDPR_DELETE") => "privacyDeletion",
        _ => return,
    };
    let mut shown = form(what, &object_type, &id, at, portal_id);
    if what == "merge" {
        // Which of them was the primary one is not said.
        let merged = event.get("mergedObjectIds").and_then(Value::as_array);
        let merged: Vec<String> = merged.into_iter().flatten().filter_map(scalar_text).collect();
        shown.insert("newObjectId".to_owned(), json!(id));
        shown.insert("mergedObjectIds".to_owned(), json!(merged));
    }
    told.records.push(Value::Object(shown));
}

/// The members every webhook event has.
pub(super) fn form(what: &str, object_type: &str, id: &str, at_ms: i64, portal_id: i64) -> Map<String, Value> {
    let members = [
        ("subscriptionType", json!(format!("object.{what}"))),
        ("objectTypeId", json!(object_type)),
        ("objectId", json!(id)),
        ("occurredAt", json!(at_ms)),
        ("portalId", json!(portal_id)),
    ];
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn text(event: &Value, name: &str) -> Option<String> {
    event.get(name).and_then(scalar_text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_sorted() {
        let file = json!({"offset": "a", "publishedAt": "2026-11-24T09:59:00Z", "journalEvents": [
            {"type": "crmObject", "portalId": 7, "occurredAt": "2026-11-24T09:58:59.123Z", "action": "UPDATE",
             "objectTypeId": "0-2", "objectId": 9001, "propertyChanges": {"name": "Acme", "phone": null}},
            {"type": "crmObject", "portalId": 7, "occurredAt": "2026-11-24T09:58:58.000Z", "action": "UPDATE",
             "objectTypeId": "0-2", "objectId": "9001", "propertyChanges": {"name": "A"}},
            {"type": "crmObject", "portalId": 8, "occurredAt": 1, "action": "DELETE", "objectTypeId": "0-2", "objectId": 1},
            {"type": "crmObject", "portalId": 7, "occurredAt": 5, "action": "MERGE", "objectTypeId": "0-2", "objectId": 9003,
             "mergedObjectIds": [9001, "9002"]},
            {"type": "association", "action": "ASSOCIATION_ADDED"}, {"type": "app_lifecycle_event"}, 3]});
        let told = read(&file, 7).unwrap();
        let changed = &told.changes[&("0-2".to_owned(), "9001".to_owned())];
        assert_eq!(changed["name"], 1_795_514_338_000);
        assert_eq!(changed["phone"], 1_795_514_339_123);
        assert_eq!(
            told.records,
            [
                json!({"subscriptionType": "object.merge", "objectTypeId": "0-2", "objectId": "9003", "occurredAt": 5,
                "portalId": 7, "newObjectId": "9003", "mergedObjectIds": ["9001", "9002"]})
            ]
        );
        for bad in [json!({}), json!({"journalEvents": 3}), json!([])] {
            assert_eq!(read(&bad, 7), None);
        }
    }
}
