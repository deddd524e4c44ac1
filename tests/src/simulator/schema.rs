//! Object types and their property definitions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::clock::iso;
use super::config::SimConfig;
use super::defaults;
use super::errors::ApiError;

/// One option of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PropertyOption {
    /// Text shown to people.
    pub label: String,
    /// Internal value.
    pub value: String,
    /// Position.
    #[serde(default)]
    pub display_order: i64,
    /// Not offered to people.
    #[serde(default)]
    pub hidden: bool,
    /// Text that explains the option.
    #[serde(default)]
    pub description: String,
}

/// Definition of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyDef {
    /// Internal name.
    pub name: String,
    /// Text shown to people.
    pub label: String,
    /// `string`, `number`, `bool`, `enumeration`, `date`, `datetime`, `phone_number`
    pub kind: String,
    /// `text`, `select`, `checkbox` ...
    pub field_type: String,
    /// Group it is shown in.
    pub group: String,
    /// Explanation.
    pub description: String,
    /// Options of an enumeration.
    pub options: Vec<PropertyOption>,
    /// Two records cannot hold the same value.
    pub unique: bool,
    /// Values cannot be written.
    pub read_only: bool,
    /// Values are computed.
    pub calculated: bool,
    /// Not shown to people.
    pub hidden: bool,
    /// May be used in forms.
    pub form_field: bool,
    /// Position.
    pub display_order: i64,
    /// Came with the account.
    pub hubspot_defined: bool,
    /// Deleted.
    pub archived: bool,
    /// When it was made.
    pub created_at: i64,
    /// When it was changed last.
    pub updated_at: i64,
}

impl PropertyDef {
    /// A writable property of a type with its usual field type.
    pub fn new(name: &str, kind: &str) -> Self {
        let field_type = match kind {
            "number" => "number",
            "bool" => "booleancheckbox",
            "enumeration" => "select",
            "date" | "datetime" => "date",
            "phone_number" => "phonenumber",
            _ => "text",
        };
        PropertyDef {
            name: name.to_owned(),
            label: name.to_owned(),
            kind: kind.to_owned(),
            field_type: field_type.to_owned(),
            group: "information".to_owned(),
            description: String::new(),
            options: Vec::new(),
            unique: false,
            read_only: false,
            calculated: false,
            hidden: false,
            form_field: false,
            display_order: -1,
            hubspot_defined: false,
            archived: false,
            created_at: 0,
            updated_at: 0,
        }
    }

    /// Makes values unique among records.
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Gives an enumeration its options.
    pub fn options(mut self, values: &[&str]) -> Self {
        self.options = values.iter().enumerate().map(|(at, value)| option(value, at)).collect();
        self
    }

    /// Sets the field type, for example `checkbox` for a multi-select.
    pub fn field_type(mut self, field_type: &str) -> Self {
        self.field_type = field_type.to_owned();
        self
    }

    /// Refuses writes.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Is it a multi-select?
    pub fn is_multi(&self) -> bool {
        self.kind == "enumeration" && self.field_type == "checkbox"
    }

    /// The JSON form of the properties API.
    pub fn to_json(&self) -> Value {
        let mut body = json!({
            "name": self.name, "label": self.label, "type": self.kind, "fieldType": self.field_type,
            "description": self.description, "groupName": self.group, "options": self.options,
            "displayOrder": self.display_order, "calculated": self.calculated, "externalOptions": false,
            "hasUniqueValue": self.unique, "hidden": self.hidden, "formField": self.form_field,
            "hubspotDefined": self.hubspot_defined, "archived": self.archived, "dataSensitivity": "non_sensitive",
            "createdAt": iso(self.created_at), "updatedAt": iso(self.updated_at),
            "modificationMetadata": {"archivable": !self.hubspot_defined, "readOnlyDefinition": self.hubspot_defined,
                "readOnlyOptions": self.hubspot_defined, "readOnlyValue": self.read_only || self.calculated},
        });
        if self.archived {
            body["archivedAt"] = json!(iso(self.updated_at));
        }
        body
    }
}

fn option(value: &str, at: usize) -> PropertyOption {
    PropertyOption {
        label: value.to_owned(),
        value: value.to_owned(),
        display_order: i64::try_from(at).unwrap_or(0),
        hidden: false,
        description: String::new(),
    }
}

/// A group of properties.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) label: String,
    pub(crate) display_order: i64,
}

/// One object type of the account.
#[derive(Debug)]
pub(crate) struct ObjectType {
    /// `0-2`
    pub(crate) type_id: String,
    /// `companies`
    pub(crate) plural: String,
    /// `company`
    pub(crate) singular: String,
    /// Name of the property that holds the time of creation.
    pub(crate) created_property: &'static str,
    /// Name of the last-modified property.
    pub(crate) modified_property: &'static str,
    /// Returned when no properties are asked for.
    pub(crate) default_properties: Vec<&'static str>,
    pub(crate) properties: BTreeMap<String, PropertyDef>,
    pub(crate) groups: BTreeMap<String, Group>,
}

impl ObjectType {
    pub(crate) fn is_custom(&self) -> bool {
        self.type_id.starts_with("2-")
    }

    /// The part of scopes that names this type.
    pub(crate) fn scope(&self) -> &str {
        if self.is_custom() { "custom" } else { &self.plural }
    }

    /// The definition of a live property.
    pub(crate) fn property(&self, name: &str) -> Option<&PropertyDef> {
        self.properties.get(name).filter(|definition| !definition.archived)
    }

    /// May the property name records in batch calls?
    pub(crate) fn identifies(&self, name: &str) -> bool {
        self.property(name).is_some_and(|definition| definition.unique)
    }

    pub(crate) fn add(&mut self, definition: PropertyDef) {
        self.groups.entry(definition.group.clone()).or_insert_with(|| Group {
            label: definition.group.clone(),
            display_order: -1,
        });
        self.properties.insert(definition.name.clone(), definition);
    }
}

/// All object types.
#[derive(Debug)]
pub(crate) struct Schemas {
    pub(crate) types: BTreeMap<String, ObjectType>,
}

impl Schemas {
    pub(crate) fn new(config: &SimConfig, now: i64) -> Self {
        let mut types = vec![defaults::companies(config.warp), defaults::contacts()];
        types.extend(
            config
                .custom_objects
                .iter()
                .map(|custom| defaults::custom(&custom.type_id, &custom.name)),
        );
        for object_type in &mut types {
            for definition in object_type.properties.values_mut() {
                definition.created_at = now;
                definition.updated_at = now;
            }
        }
        Schemas {
            types: types.into_iter().map(|it| (it.type_id.clone(), it)).collect(),
        }
    }

    /// Finds a type by id, plural or singular name.
    pub(crate) fn resolve(&self, name: &str) -> Result<String, ApiError> {
        let lower = name.to_lowercase();
        self.types
            .values()
            .find(|it| it.type_id == lower || it.plural.to_lowercase() == lower || it.singular.to_lowercase() == lower)
            .map(|it| it.type_id.clone())
            .ok_or_else(|| ApiError::validation(format!("Unable to infer object type from: {name}")))
    }

    pub(crate) fn get(&self, type_id: &str) -> Result<&ObjectType, ApiError> {
        self.types.get(type_id).ok_or_else(|| unknown(type_id))
    }

    pub(crate) fn get_mut(&mut self, type_id: &str) -> Result<&mut ObjectType, ApiError> {
        self.types.get_mut(type_id).ok_or_else(|| unknown(type_id))
    }
}

fn unknown(type_id: &str) -> ApiError {
    ApiError::validation(format!("Unable to infer object type from: {type_id}"))
}
