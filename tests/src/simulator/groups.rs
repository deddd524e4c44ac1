//! Property groups, and the list of custom object schemas.

use serde_json::{Value, json};

use super::errors::ApiError;
use super::query::{ApiRequest, Reply, required, string};
use super::schema::Group;
use super::store::Core;

type Answer = Result<Reply, ApiError>;

fn to_json(name: &str, group: &Group) -> Value {
    json!({"name": name, "label": group.label, "displayOrder": group.display_order, "archived": false})
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("Property group {name} does not exist"))
}

impl Core {
    pub(crate) fn group_list(&mut self, type_id: &str) -> Answer {
        let groups = &self.schemas.get(type_id)?.groups;
        let results: Vec<Value> = groups.iter().map(|(name, group)| to_json(name, group)).collect();
        Ok(Reply::json(200, json!({"results": results})))
    }

    pub(crate) fn group_get(&mut self, type_id: &str, name: &str) -> Answer {
        let group = self
            .schemas
            .get(type_id)?
            .groups
            .get(name)
            .ok_or_else(|| unknown(name))?;
        Ok(Reply::json(200, to_json(name, group)))
    }

    pub(crate) fn group_create(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let body = request.json()?;
        let (name, label) = (required(&body, "name")?, required(&body, "label")?);
        let groups = &mut self.schemas.get_mut(type_id)?.groups;
        if groups.contains_key(&name) {
            let message = format!("Property group named {name} already exists.");
            return Err(ApiError::new(409, "OBJECT_ALREADY_EXISTS", message));
        }
        let display_order = body.get("displayOrder").and_then(Value::as_i64).unwrap_or(-1);
        let group = Group { label, display_order };
        let reply = to_json(&name, &group);
        groups.insert(name, group);
        Ok(Reply::json(201, reply))
    }

    pub(crate) fn group_update(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let (body, name) = (request.json()?, &request.route.id);
        let group = self
            .schemas
            .get_mut(type_id)?
            .groups
            .get_mut(name)
            .ok_or_else(|| unknown(name))?;
        if let Some(label) = string(&body, "label")? {
            group.label = label;
        }
        Ok(Reply::json(200, to_json(name, group)))
    }

    pub(crate) fn group_delete(&mut self, type_id: &str, name: &str) -> Answer {
        let object_type = self.schemas.get_mut(type_id)?;
        if object_type
            .properties
            .values()
            .any(|it| !it.archived && it.group == name)
        {
            let error = ApiError::validation(format!("Property group {name} still has active properties"));
            return Err(error.with_sub_category("PropertyGroupError.GROUP_WITH_ACTIVE_PROPERTIES"));
        }
        object_type.groups.remove(name).ok_or_else(|| unknown(name))?;
        Ok(Reply::empty())
    }

    pub(crate) fn schema_list(&mut self) -> Answer {
        let custom = self.schemas.types.values().filter(|it| it.is_custom());
        let results: Vec<Value> = custom
            .map(|it| {
                let properties: Vec<Value> = it.properties.values().map(|property| property.to_json()).collect();
                json!({"id": it.type_id.trim_start_matches("2-"), "objectTypeId": it.type_id, "name": it.plural,
                    "fullyQualifiedName": format!("p{}_{}", self.portal_id, it.plural),
                    "labels": {"singular": it.singular, "plural": it.plural}, "properties": properties,
                    "requiredProperties": [], "searchableProperties": [], "archived": false})
            })
            .collect();
        Ok(Reply::json(200, json!({"results": results})))
    }
}
