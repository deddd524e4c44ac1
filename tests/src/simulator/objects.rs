//! Operations on one record, and the list.

use serde_json::{Value, json};

use super::errors::ApiError;
use super::query::{ApiRequest, Reply, properties, required, string};
use super::record::{Stored, View};
use super::store::{Changes, Claims, Core};

type Answer = Result<Reply, ApiError>;

pub(crate) fn not_found(id: &str) -> ApiError {
    ApiError::not_found(format!(
        "Object not found. objectId are usually numeric. objectId: {id}"
    ))
}

impl Core {
    /// The record a single-record path names, whether deleted or not.
    fn named(&self, type_id: &str, request: &ApiRequest) -> Result<Option<&Stored>, ApiError> {
        let id = &request.route.id;
        match request.query.get("idProperty").filter(|name| *name != "hs_object_id") {
            None => Ok(self.follow(type_id, id)),
            Some(property) if self.schemas.get(type_id)?.identifies(property) => {
                Ok(self.by_unique(type_id, property, id))
            }
            Some(property) => Err(non_unique("read", type_id, property)),
        }
    }

    pub(crate) fn get_one(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let archived = request.archived();
        let record = self.named(type_id, request)?;
        let record = record.filter(|record| record.archived_at.is_some() == archived);
        let record = record.ok_or_else(|| not_found(&request.route.id))?;
        let view = View {
            properties: request.list("properties"),
            history: request.list("propertiesWithHistory"),
            ..self.view()
        };
        Ok(Reply::json(
            200,
            view.render(self.schemas.get(type_id)?, &self.behaviour, record),
        ))
    }

    pub(crate) fn list(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let view = View {
            properties: request.list("properties"),
            history: request.list("propertiesWithHistory"),
            ..self.view()
        };
        let max = if view.history.is_empty() { 100 } else { 50 };
        let limit = number(request, "limit")?.unwrap_or(10);
        if limit < 1 || limit > max {
            return Err(ApiError::validation(format!(
                "limit must be between 1 and {max}, it was {limit}"
            )));
        }
        let after = number(request, "after")?.unwrap_or(0);
        let (archived, object_type) = (request.archived(), self.schemas.get(type_id)?);
        let records = self.records.get(type_id);
        let mut found = records
            .into_iter()
            .flat_map(|records| records.range(after..))
            .map(|(_, record)| record)
            .filter(|record| record.archived_at.is_some() == archived);
        let take = usize::try_from(limit).unwrap_or(10);
        let results: Vec<Value> = found
            .by_ref()
            .take(take)
            .map(|record| view.render(object_type, &self.behaviour, record))
            .collect();
        let mut body = json!({"results": results});
        if let Some(next) = found.next() {
            let link = format!(
                "https://api.hubapi.com/crm/v3/objects/{}?after={}",
                object_type.plural, next.id
            );
            body["paging"] = json!({"next": {"after": next.id.to_string(), "link": link}});
        }
        Ok(Reply::json(200, body))
    }

    pub(crate) fn create_one(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let wanted = properties(&request.json()?)?;
        let changes = self.check_values(type_id, None, &wanted)?;
        self.check_required(type_id, &changes)?;
        self.check_unique(type_id, None, &changes, &mut Claims::new())?;
        let at = self.clock.tick();
        let id = self.create(type_id, &changes, &request.source, at);
        Ok(Reply::json(201, self.written(type_id, id, &changes)?))
    }

    pub(crate) fn update_one(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let wanted = properties(&request.json()?)?;
        let record = self
            .named(type_id, request)?
            .filter(|record| record.archived_at.is_none());
        let record = record.ok_or_else(|| not_found(&request.route.id))?;
        let id = record.id;
        let changes = self.check_values(type_id, Some(record), &wanted)?;
        self.check_unique(type_id, Some(id), &changes, &mut Claims::new())?;
        let at = self.clock.tick();
        self.write(type_id, id, &changes, &request.source, at);
        Ok(Reply::json(200, self.written(type_id, id, &changes)?))
    }

    pub(crate) fn archive_one(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        if let Ok(id) = request.route.id.parse() {
            let at = self.clock.tick();
            self.archive(type_id, id, &request.source, at);
        }
        Ok(Reply::empty())
    }

    pub(crate) fn merge_two(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let body = request.json()?;
        let (primary, other) = (required(&body, "primaryObjectId")?, required(&body, "objectIdToMerge")?);
        let id = |text: &str| {
            self.follow(type_id, text)
                .map(|record| record.id)
                .ok_or_else(|| not_found(text))
        };
        let (primary, other) = (id(&primary)?, id(&other)?);
        let id = self.merge(type_id, primary, other, &request.source)?;
        Ok(Reply::json(200, self.written(type_id, id, &Changes::new())?))
    }

    pub(crate) fn gdpr_delete(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        if type_id != "0-1" {
            return Err(ApiError::validation("Only contacts can be deleted for privacy"));
        }
        let body = request.json()?;
        let id = required(&body, "objectId")?;
        let record = match string(&body, "idProperty")? {
            Some(property) => self.by_unique(type_id, &property, &id),
            None => self.follow(type_id, &id),
        };
        if let Some(id) = record.map(|record| record.id) {
            self.erase(type_id, id, &request.source);
        }
        Ok(Reply::empty())
    }

    /// A record in the form of a write's response.
    pub(crate) fn written(&self, type_id: &str, id: u64, changes: &Changes) -> Result<Value, ApiError> {
        let object_type = self.schemas.get(type_id)?;
        let record = self.record(type_id, id).ok_or_else(|| not_found(&id.to_string()))?;
        let mut properties: Vec<String> = changes.iter().map(|(name, _)| name.clone()).collect();
        let filled = object_type
            .default_properties
            .iter()
            .filter(|name| !record.value(name).is_empty());
        properties.extend(filled.map(|name| (*name).to_owned()));
        Ok(View {
            properties,
            ..self.view()
        }
        .render(object_type, &self.behaviour, record))
    }
}

pub(crate) fn non_unique(verb: &str, type_id: &str, property: &str) -> ApiError {
    ApiError::validation(format!(
        "Unable to perform {verb} by non-unique {type_id} property {property}"
    ))
}

fn number(request: &ApiRequest, key: &str) -> Result<Option<u64>, ApiError> {
    let text = request.query.get(key).filter(|text| !text.is_empty());
    text.map(|text| {
        text.parse()
            .map_err(|_| ApiError::validation(format!("{key} must be a number, it was {text}")))
    })
    .transpose()
}
