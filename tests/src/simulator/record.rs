//! One record: the versions of its properties and its JSON form.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::clock::iso;
use super::config::Behaviour;
use super::schema::ObjectType;

/// Who wrote a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// `INTEGRATION`, `CRM_UI` ...
    pub(crate) kind: String,
    /// App id or `userId:<n>`.
    pub(crate) id: String,
}

impl Source {
    pub(crate) fn person() -> Self {
        Source {
            kind: "CRM_UI".into(),
            id: "userId:77".into(),
        }
    }

    pub(crate) fn app(app_id: u64) -> Self {
        Source {
            kind: "INTEGRATION".into(),
            id: app_id.to_string(),
        }
    }
}

/// One version of a property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The value; empty when it was cleared.
    pub value: String,
    /// When it was written, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// `INTEGRATION`, `CRM_UI` ...
    pub source_type: String,
    /// App id or `userId:<n>`.
    pub source_id: String,
}

impl Version {
    pub(crate) fn to_json(&self) -> Value {
        let mut body = json!({"value": self.value, "timestamp": iso(self.timestamp_ms),
            "sourceType": self.source_type, "sourceId": self.source_id});
        let user = self
            .source_id
            .strip_prefix("userId:")
            .and_then(|id| id.parse::<u64>().ok());
        if let Some(user) = user {
            body["updatedByUserId"] = json!(user);
        }
        body
    }
}

/// A record as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Type id, for example `0-2`.
    pub object_type: String,
    /// Record id.
    pub id: String,
    /// Every property that has a value.
    pub properties: BTreeMap<String, String>,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it was changed last, in milliseconds since 1970.
    pub updated_at_ms: i64,
    /// Deleted.
    pub archived: bool,
}

impl Record {
    /// The value of a property; `None` when it is empty.
    pub fn value(&self, property: &str) -> Option<&str> {
        self.properties.get(property).map(String::as_str)
    }
}

/// A stored record.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) id: u64,
    /// Versions by property, oldest first.
    pub(crate) history: BTreeMap<String, Vec<Version>>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) archived_at: Option<i64>,
}

impl Stored {
    pub(crate) fn new(id: u64, at: i64) -> Self {
        Stored {
            id,
            history: BTreeMap::new(),
            created_at: at,
            updated_at: at,
            archived_at: None,
        }
    }

    /// The present value; empty when there is none.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.history
            .get(name)
            .and_then(|versions| versions.last())
            .map_or("", |version| version.value.as_str())
    }

    /// The value at an instant.
    fn value_at(&self, name: &str, at: i64) -> &str {
        let versions = self.history.get(name).map_or(&[][..], Vec::as_slice);
        versions
            .iter()
            .rev()
            .find(|version| version.timestamp_ms <= at)
            .map_or("", |version| version.value.as_str())
    }

    /// Any property, those kept by the system included, at an instant.
    pub(crate) fn read(&self, object_type: &ObjectType, name: &str, at: Option<i64>) -> String {
        if name == "hs_object_id" {
            self.id.to_string()
        } else if name == object_type.created_property {
            iso(self.created_at)
        } else if name == object_type.modified_property {
            iso(self.updated_at)
        } else {
            at.map_or_else(|| self.value(name), |at| self.value_at(name, at))
                .to_owned()
        }
    }

    /// Versions of a property, newest first.
    pub(crate) fn versions(&self, object_type: &ObjectType, name: &str) -> Vec<Version> {
        let system = |timestamp_ms: i64| {
            let value = self.read(object_type, name, None);
            vec![Version {
                value,
                timestamp_ms,
                source_type: "CRM".into(),
                source_id: String::new(),
            }]
        };
        if name == "hs_object_id" || name == object_type.created_property {
            system(self.created_at)
        } else if name == object_type.modified_property {
            system(self.updated_at)
        } else {
            self.history
                .get(name)
                .map(|versions| versions.iter().rev().cloned().collect())
                .unwrap_or_default()
        }
    }

    pub(crate) fn to_record(&self, object_type: &ObjectType) -> Record {
        let names = object_type
            .properties
            .values()
            .filter(|it| !it.archived)
            .map(|it| it.name.clone());
        let values = names.map(|name| {
            let value = self.read(object_type, &name, None);
            (name, value)
        });
        Record {
            object_type: object_type.type_id.clone(),
            id: self.id.to_string(),
            properties: values.filter(|(_, value)| !value.is_empty()).collect(),
            created_at_ms: self.created_at,
            updated_at_ms: self.updated_at,
            archived: self.archived_at.is_some(),
        }
    }
}

/// Which parts of a record a response shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) properties: Vec<String>,
    pub(crate) history: Vec<String>,
    /// Show the values of this instant.
    pub(crate) at: Option<i64>,
    pub(crate) portal_id: u64,
}

impl View {
    /// The JSON form of a record.
    pub(crate) fn render(&self, object_type: &ObjectType, behaviour: &Behaviour, record: &Stored) -> Value {
        let defaults = object_type.default_properties.iter().map(|name| (*name).to_owned());
        let mut names: Vec<String> = if self.properties.is_empty() {
            defaults.collect()
        } else {
            self.properties.clone()
        };
        names.extend(
            [
                object_type.created_property,
                object_type.modified_property,
                "hs_object_id",
            ]
            .map(str::to_owned),
        );
        let mut properties = Map::new();
        for name in names.iter().filter(|name| object_type.property(name).is_some()) {
            let value = record.read(object_type, name, self.at);
            if !value.is_empty() {
                properties.insert(name.clone(), Value::String(value));
            } else if !behaviour.omit_empty {
                properties.insert(name.clone(), Value::Null);
            }
        }
        let path = format!(
            "contacts/{}/record/{}/{}",
            self.portal_id, object_type.type_id, record.id
        );
        let mut body = json!({
            "id": record.id.to_string(),
            "properties": properties,
            "createdAt": iso(record.created_at),
            "updatedAt": iso(record.updated_at),
            "archived": record.archived_at.is_some(),
            "url": format!("https://app.hubspot.com/{path}"),
        });
        if let Some(at) = record.archived_at {
            body["archivedAt"] = json!(iso(at));
        }
        if !self.history.is_empty() {
            let shown = self.history.iter().filter(|name| object_type.property(name).is_some());
            let lists: Map<String, Value> = shown
                .map(|name| {
                    let versions = record.versions(object_type, name);
                    (name.clone(), versions.iter().map(Version::to_json).collect())
                })
                .collect();
            body["propertiesWithHistory"] = Value::Object(lists);
        }
        body
    }
}
