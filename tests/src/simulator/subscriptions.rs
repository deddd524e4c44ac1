//! An app's webhook settings and subscriptions, for apps whose owner may manage them through the API.

use serde_json::{Value, json};

use super::Inner;
use super::clock::iso;
use super::errors::ApiError;
use super::query::{ApiRequest, Reply, required, string};
use super::route::Op;

type Answer = Result<Reply, ApiError>;

/// A subscription as the API shows it.
#[derive(Debug, Clone)]
struct Entry {
    id: u64,
    event_type: String,
    property: Option<String>,
    object_type_id: Option<String>,
    active: bool,
    created_at: i64,
}

impl Entry {
    fn to_json(&self) -> Value {
        json!({"id": self.id.to_string(), "eventType": self.event_type, "propertyName": self.property,
            "objectTypeId": self.object_type_id, "active": self.active, "createdAt": iso(self.created_at)})
    }
}

/// The subscriptions that were made through the API. With the first of them, events that none asks for are sent no more.
#[derive(Debug, Default)]
pub(crate) struct Managed {
    entries: Vec<Entry>,
    issued: u64,
}

impl Inner {
    /// Runs an operation on webhook settings or subscriptions.
    pub(crate) fn manage_webhooks(&self, request: &ApiRequest) -> Answer {
        if !self.config.webhook_management {
            return Err(ApiError::missing_scopes(&[
                "developers-read".to_owned(),
                "developers-write".to_owned(),
            ]));
        }
        if request.route.object_type != self.config.app_id.to_string() {
            return Err(ApiError::not_found("There is no such app"));
        }
        let now = self.core().clock.now();
        let mut managed = super::lock(&self.managed);
        let reply = match request.route.op {
            Op::WebhookSettings => self.webhook_settings(),
            Op::WebhookSettingsSet => self.set_webhook_settings(&request.json()?),
            Op::SubscriptionList => {
                let results: Vec<Value> = managed.entries.iter().map(Entry::to_json).collect();
                Ok(Reply::json(200, json!({"results": results})))
            }
            Op::SubscriptionCreate => self.subscribe(&mut managed, &request.json()?, now),
            Op::SubscriptionUpdate => managed.switch(&request.route.id, &request.json()?),
            _ => Err(ApiError::not_found("The requested resource does not exist")),
        }?;
        if !managed.entries.is_empty() {
            let active = managed.entries.iter().filter(|entry| entry.active);
            let active = active.map(|entry| (entry.event_type.clone(), entry.property.clone()));
            self.webhooks.lock().formatter.subscriptions = Some(active.collect());
        }
        Ok(reply)
    }

    fn webhook_settings(&self) -> Answer {
        let Some(url) = self.webhooks.lock().url.clone() else {
            return Err(ApiError::not_found("The app has no webhook settings"));
        };
        Ok(Reply::json(
            200,
            json!({"targetUrl": url, "throttling": {"maxConcurrentRequests": self.config.webhooks.max_concurrent}}),
        ))
    }

    fn set_webhook_settings(&self, body: &Value) -> Answer {
        let url = required(body, "targetUrl")?;
        if !body["throttling"]["maxConcurrentRequests"].is_u64() {
            return Err(ApiError::bad_json(
                "some required fields were not set: [throttling.maxConcurrentRequests]",
            ));
        }
        self.webhooks.lock().url = Some(url);
        self.webhook_settings()
    }

    fn subscribe(&self, managed: &mut Managed, body: &Value, now: i64) -> Answer {
        if self.webhooks.lock().url.is_none() {
            return Err(ApiError::validation("The app has no webhook settings"));
        }
        let event_type = required(body, "eventType")?;
        let property = string(body, "propertyName")?;
        if event_type.ends_with(".propertyChange") != property.is_some() {
            return Err(ApiError::validation(
                "propertyName belongs to propertyChange, and only there",
            ));
        }
        let object_type_id = string(body, "objectTypeId")?;
        if event_type.starts_with("object.") && object_type_id.is_none() {
            return Err(ApiError::validation(
                "objectTypeId is required for generic subscriptions",
            ));
        }
        let (kind, named, typed) = (&event_type, &property, &object_type_id);
        let twice =
            |entry: &Entry| &entry.event_type == kind && &entry.property == named && &entry.object_type_id == typed;
        if managed.entries.iter().any(twice) {
            return Err(ApiError::new(
                409,
                "OBJECT_ALREADY_EXISTS",
                "Subscription already exists",
            ));
        }
        managed.issued += 1;
        let entry = Entry {
            id: managed.issued,
            event_type,
            property,
            object_type_id,
            // Paused unless told otherwise.
            active: body["active"].as_bool().unwrap_or(false),
            created_at: now,
        };
        let reply = Reply::json(201, entry.to_json());
        managed.entries.push(entry);
        Ok(reply)
    }
}

impl Managed {
    fn switch(&mut self, id: &str, body: &Value) -> Answer {
        let active = body["active"]
            .as_bool()
            .ok_or_else(|| ApiError::bad_json("some required fields were not set: [active]"))?;
        let entry = self.entries.iter_mut().find(|entry| entry.id.to_string() == id);
        let entry = entry.ok_or_else(|| ApiError::not_found("There is no such subscription"))?;
        entry.active = active;
        Ok(Reply::json(200, entry.to_json()))
    }
}
