//! Change events and their webhook form.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::config::ClearedForm;
use super::record::Source;

/// What happened to a record.
#[derive(Debug, Clone)]
pub(crate) enum EventKind {
    Creation,
    Deletion,
    Restore,
    PrivacyDeletion,
    PropertyChange {
        name: String,
        value: String,
    },
    Merge {
        primary: u64,
        merged: Vec<u64>,
        new_id: u64,
        moved: usize,
    },
}

/// A change of one record.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) type_id: String,
    pub(crate) singular: String,
    pub(crate) object_id: u64,
    pub(crate) occurred_at: i64,
    pub(crate) source: Source,
    pub(crate) kind: EventKind,
}

impl Event {
    fn suffix(&self) -> &'static str {
        match self.kind {
            EventKind::Creation => "creation",
            EventKind::Deletion => "deletion",
            EventKind::Restore => "restore",
            EventKind::PrivacyDeletion => "privacyDeletion",
            EventKind::PropertyChange { .. } => "propertyChange",
            EventKind::Merge { .. } => "merge",
        }
    }

    /// `company.propertyChange`, or `object.propertyChange` for custom objects.
    fn subscription_type(&self) -> String {
        let custom = self.type_id.starts_with("2-");
        format!("{}.{}", if custom { "object" } else { &self.singular }, self.suffix())
    }
}

/// A subscription: its type and, for property changes, the property.
pub type Subscription = (String, Option<String>);

/// Gives events their webhook form.
#[derive(Debug)]
pub(crate) struct Formatter {
    pub(crate) portal_id: u64,
    pub(crate) app_id: u64,
    next_event: u64,
    subscription_ids: HashMap<String, u64>,
    /// `None` subscribes to everything.
    pub(crate) subscriptions: Option<Vec<Subscription>>,
}

impl Formatter {
    pub(crate) fn new(portal_id: u64, app_id: u64) -> Self {
        let subscription_ids = HashMap::new();
        Formatter {
            portal_id,
            app_id,
            next_event: 1000,
            subscription_ids,
            subscriptions: None,
        }
    }

    fn subscribed(&self, kind: &str, property: Option<&str>) -> bool {
        let Some(subscriptions) = &self.subscriptions else {
            return true;
        };
        subscriptions
            .iter()
            .any(|(subscribed, name)| subscribed == kind && name.as_deref() == property)
    }

    /// The event's JSON; `None` when nothing subscribes to it.
    pub(crate) fn format(&mut self, event: &Event, cleared: ClearedForm) -> Option<Value> {
        let kind = event.subscription_type();
        let property = match &event.kind {
            EventKind::PropertyChange { name, .. } => Some(name.clone()),
            _ => None,
        };
        if !self.subscribed(&kind, property.as_deref()) {
            return None;
        }
        self.next_event += 1;
        let known = u64::try_from(self.subscription_ids.len()).unwrap_or(0);
        let key = format!("{}/{kind}/{}", event.type_id, property.as_deref().unwrap_or_default());
        let subscription_id = *self.subscription_ids.entry(key).or_insert(2001 + known);
        let mut body = json!({
            "eventId": self.next_event, "subscriptionId": subscription_id, "portalId": self.portal_id,
            "appId": self.app_id, "occurredAt": event.occurred_at, "subscriptionType": kind, "attemptNumber": 0,
            "objectId": event.object_id,
        });
        if event.type_id.starts_with("2-") {
            body["objectTypeId"] = json!(event.type_id);
        }
        match &event.kind {
            EventKind::Creation => body["changeFlag"] = json!("CREATED"),
            EventKind::Deletion => body["changeFlag"] = json!("DELETED"),
            EventKind::Restore => body["changeFlag"] = json!("RESTORED"),
            EventKind::PrivacyDeletion => {}
            EventKind::PropertyChange { name, value } => {
                body["propertyName"] = json!(name);
                match (value.is_empty(), cleared) {
                    (true, ClearedForm::Null) => body["propertyValue"] = Value::Null,
                    (true, ClearedForm::Absent) => {}
                    _ => body["propertyValue"] = json!(value),
                }
                body["isSensitive"] = json!(false);
            }
            EventKind::Merge {
                primary,
                merged,
                new_id,
                moved,
            } => {
                body["changeFlag"] = json!("MERGED");
                body["primaryObjectId"] = json!(primary);
                body["mergedObjectIds"] = json!(merged);
                body["newObjectId"] = json!(new_id);
                body["numberOfPropertiesMoved"] = json!(moved);
            }
        }
        body["changeSource"] = json!(event.source.kind);
        body["sourceId"] = json!(event.source.id);
        Some(body)
    }
}
