//! The properties API.

use serde_json::{Value, json};

use super::errors::ApiError;
use super::query::{ApiRequest, Reply, inputs, required, string};
use super::schema::{PropertyDef, PropertyOption};
use super::store::Core;

type Answer = Result<Reply, ApiError>;

const KINDS: [&str; 7] = [
    "bool",
    "date",
    "datetime",
    "enumeration",
    "number",
    "phone_number",
    "string",
];
const FIELD_TYPES: [&str; 12] = [
    "booleancheckbox",
    "calculation_equation",
    "checkbox",
    "date",
    "file",
    "html",
    "number",
    "phonenumber",
    "radio",
    "select",
    "text",
    "textarea",
];
/// Most unique properties of one object type.
const MAX_UNIQUE: usize = 10;

fn unknown_property(name: &str) -> ApiError {
    ApiError::not_found(format!("Property {name} does not exist"))
}

impl Core {
    pub(crate) fn property_list(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let archived = request.archived();
        let sensitivity = request
            .query
            .get("dataSensitivity")
            .map_or("non_sensitive", String::as_str);
        let definitions = self.schemas.get(type_id)?.properties.values();
        let shown = definitions.filter(|it| it.archived == archived && sensitivity == "non_sensitive");
        let results: Vec<Value> = shown.map(PropertyDef::to_json).collect();
        Ok(Reply::json(200, json!({"results": results})))
    }

    pub(crate) fn property_get(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let name = &request.route.id;
        let definition = self.schemas.get(type_id)?.properties.get(name);
        let definition = definition.filter(|it| it.archived == request.archived());
        definition
            .map(|it| Reply::json(200, it.to_json()))
            .ok_or_else(|| unknown_property(name))
    }

    pub(crate) fn property_create(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let made = self.make_property(type_id, &request.json()?)?;
        Ok(Reply::json(201, made))
    }

    pub(crate) fn make_property(&mut self, type_id: &str, body: &Value) -> Result<Value, ApiError> {
        let now = self.clock.now();
        let mut definition = definition(body)?;
        (definition.created_at, definition.updated_at) = (now, now);
        let object_type = self.schemas.get_mut(type_id)?;
        if object_type.property(&definition.name).is_some() {
            let message = format!("Property named {} already exists.", definition.name);
            let error = ApiError::new(409, "OBJECT_ALREADY_EXISTS", message);
            return Err(error.with_sub_category("Properties.PROPERTY_WITH_NAME_EXISTS"));
        }
        if !object_type.groups.contains_key(&definition.group) {
            let message = format!("Property group {} does not exist", definition.group);
            return Err(ApiError::validation(message));
        }
        let unique = object_type
            .properties
            .values()
            .filter(|it| it.unique && !it.archived && !it.hubspot_defined);
        if definition.unique && unique.count() >= MAX_UNIQUE {
            let message = format!("At most {MAX_UNIQUE} properties with unique values are supported");
            return Err(ApiError::validation(message));
        }
        let body = definition.to_json();
        object_type.add(definition);
        Ok(body)
    }

    pub(crate) fn property_update(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let body = request.json()?;
        let name = &request.route.id;
        let now = self.clock.now();
        let object_type = self.schemas.get_mut(type_id)?;
        let known = object_type.properties.get(name).filter(|it| !it.archived);
        let mut changed = known.cloned().ok_or_else(|| unknown_property(name))?;
        if body.get("options").is_some() {
            if changed.hubspot_defined {
                return Err(ApiError::validation(format!("Options of {name} are read only")));
            }
            changed.options = options(&body)?;
        }
        if let Some(label) = string(&body, "label")? {
            changed.label = label;
        }
        if let Some(description) = string(&body, "description")? {
            changed.description = description;
        }
        if let Some(group) = string(&body, "groupName")? {
            changed.group = group;
        }
        if let Some(field_type) = string(&body, "fieldType")? {
            check_one_of("fieldType", &field_type, &FIELD_TYPES)?;
            changed.field_type = field_type;
        }
        if let Some(hidden) = body.get("hidden").and_then(Value::as_bool) {
            changed.hidden = hidden;
        }
        changed.updated_at = now;
        let reply = changed.to_json();
        object_type.properties.insert(name.clone(), changed);
        Ok(Reply::json(200, reply))
    }

    pub(crate) fn property_delete(&mut self, type_id: &str, name: &str) -> Answer {
        let now = self.clock.now();
        let known = self
            .schemas
            .get_mut(type_id)?
            .properties
            .get_mut(name)
            .filter(|it| !it.archived);
        let known = known.ok_or_else(|| unknown_property(name))?;
        if known.hubspot_defined {
            return Err(ApiError::validation(format!(
                "Property {name} came with the account and cannot be deleted"
            )));
        }
        known.archived = true;
        known.updated_at = now;
        Ok(Reply::empty())
    }

    pub(crate) fn property_batch_create(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let mut results = Vec::new();
        let mut errors = Vec::new();
        for input in inputs(&request.json()?, 100)? {
            match self.make_property(type_id, &input) {
                Ok(made) => results.push(made),
                Err(error) => {
                    let name = string(&input, "name")?.unwrap_or_default();
                    errors.push(error.with_context("name", [name]).batch_entry());
                }
            }
        }
        Ok(self.property_batch(201, results, errors))
    }

    pub(crate) fn property_batch_read(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let body = request.json()?;
        let archived = body.get("archived").and_then(Value::as_bool).unwrap_or(false);
        let object_type = self.schemas.get(type_id)?;
        let mut results = Vec::new();
        let mut errors = Vec::new();
        for input in inputs(&body, 100)? {
            let name = required(&input, "name")?;
            match object_type.properties.get(&name).filter(|it| it.archived == archived) {
                Some(definition) => results.push(definition.to_json()),
                None => errors.push(unknown_property(&name).with_context("name", [name]).batch_entry()),
            }
        }
        Ok(self.property_batch(200, results, errors))
    }

    pub(crate) fn property_batch_archive(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        for input in inputs(&request.json()?, 100)? {
            // Answers 204 whatever the state before.
            let _ = self.property_delete(type_id, &required(&input, "name")?);
        }
        Ok(Reply::empty())
    }

    fn property_batch(&self, status: u16, results: Vec<Value>, errors: Vec<Value>) -> Reply {
        let now = super::clock::iso(self.clock.now());
        let mut body = json!({"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now});
        if errors.is_empty() {
            return Reply::json(status, body);
        }
        body["numErrors"] = json!(errors.len());
        body["errors"] = json!(errors);
        Reply::json(207, body)
    }
}

fn check_one_of(key: &str, value: &str, allowed: &[&str]) -> Result<(), ApiError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(ApiError::bad_json(format!(
        "{key} must be one of [{}], it was {value}",
        allowed.join(", ")
    )))
}

fn definition(body: &Value) -> Result<PropertyDef, ApiError> {
    let (name, kind) = (required(body, "name")?, required(body, "type")?);
    let field_type = required(body, "fieldType")?;
    check_one_of("type", &kind, &KINDS)?;
    check_one_of("fieldType", &field_type, &FIELD_TYPES)?;
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(legal) {
        let message = format!("{name} must start with a letter and hold lower case letters, digits and _ only");
        return Err(ApiError::validation(message));
    }
    let flag = |key: &str| body.get(key).and_then(Value::as_bool).unwrap_or(false);
    Ok(PropertyDef {
        label: required(body, "label")?,
        group: required(body, "groupName")?,
        description: string(body, "description")?.unwrap_or_default(),
        options: options(body)?,
        unique: flag("hasUniqueValue"),
        hidden: flag("hidden"),
        form_field: flag("formField"),
        calculated: field_type == "calculation_equation",
        field_type,
        ..PropertyDef::new(&name, &kind)
    })
}

fn options(body: &Value) -> Result<Vec<PropertyOption>, ApiError> {
    let list = match body.get("options") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(list) => list,
    };
    for option in list.as_array().into_iter().flatten() {
        for key in ["label", "value", "displayOrder", "hidden"] {
            if option.get(key).is_none_or(Value::is_null) {
                return Err(ApiError::bad_json(format!(
                    "some required fields were not set: [options.{key}]"
                )));
            }
        }
    }
    let parsed: Vec<PropertyOption> = serde_json::from_value(list.clone()).map_err(ApiError::bad_json)?;
    let mut seen = std::collections::HashSet::new();
    match parsed.iter().find(|option| !seen.insert(option.value.clone())) {
        Some(twice) => Err(ApiError::validation(format!(
            "Option value {} is given twice",
            twice.value
        ))),
        None => Ok(parsed),
    }
}
