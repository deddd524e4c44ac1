//! Calls that set an account up: property groups and definitions, and an app's webhook settings and subscriptions.
//!
//! Only the commands `check` and `provision` make them.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{CallError, Client};
use super::error::FailureClass;
use super::model::Inputs;

/// A webhook subscription of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(default)]
pub struct Subscription {
    /// HubSpot's id; empty in one that is only wanted.
    #[serde(skip_serializing)]
    pub id: String,
    /// Such as `company.propertyChange`.
    #[serde(rename = "eventType")]
    pub event_type: String,
    /// The property of a `propertyChange`.
    #[serde(rename = "propertyName", skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// The custom object type, with the event types `object.…`.
    #[serde(rename = "objectTypeId", skip_serializing_if = "Option::is_none")]
    pub object_type_id: Option<String>,
    /// Whether HubSpot sends anything for it; it makes paused ones unless told otherwise.
    pub active: bool,
}

impl Subscription {
    /// Whether both ask for the same events.
    pub fn same_events(&self, other: &Self) -> bool {
        let custom = self.event_type.starts_with("object.");
        self.event_type == other.event_type
            && self.property == other.property
            && (!custom || self.object_type_id == other.object_type_id)
    }
}

impl std::fmt::Display for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.event_type)?;
        if let Some(object_type) = &self.object_type_id {
            write!(f, " of {object_type}")?;
        }
        match &self.property {
            Some(property) => write!(f, " of {property}"),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subscriptions {
    results: Vec<Subscription>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WebhookSettings {
    #[serde(rename = "targetUrl")]
    target_url: Option<String>,
}

/// None where HubSpot knows nothing of that name.
fn absent_is_none<T>(answer: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(CallError::Failed(failure)) if failure.class == FailureClass::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Client {
    /// Asks for the right to write records of a type by an update of no record: HubSpot looks at the scopes first.
    ///
    /// # Errors
    /// The refusal of the token. That HubSpot minds the empty list is none.
    pub async fn may_write(&self, object_type: &str, deadline: Instant) -> Result<(), CallError> {
        let nothing = Inputs::<Value> { inputs: Vec::new() };
        let path = format!("{}/batch/update", self.version().objects(object_type));
        match self
            .call::<_, Value>("may_write", Method::POST, &path, Some(&nothing), deadline)
            .await
        {
            Err(CallError::Failed(failure)) if failure.class.is_refusal() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Whether an object type has a property group of that name.
    pub async fn has_group(&self, object_type: &str, name: &str, deadline: Instant) -> Result<bool, CallError> {
        let path = format!("{}/{name}", self.version().groups(object_type));
        let found = absent_is_none(self.get::<Value>("group", &path, deadline).await)?;
        Ok(found.is_some())
    }

    /// Makes a property group.
    pub async fn create_group(&self, object_type: &str, group: &Value, deadline: Instant) -> Result<(), CallError> {
        let path = self.version().groups(object_type);
        self.call::<_, Value>("create_group", Method::POST, &path, Some(group), deadline)
            .await
            .map(drop)
    }

    /// Makes a property.
    pub async fn create_property(&self, object_type: &str, body: &Value, deadline: Instant) -> Result<(), CallError> {
        let path = self.version().properties(object_type);
        self.call::<_, Value>("create_property", Method::POST, &path, Some(body), deadline)
            .await
            .map(drop)
    }

    /// Adds options to an enumeration, behind those it has. HubSpot replaces the whole list, so it is read right before.
    pub async fn add_options(
        &self,
        object_type: &str,
        name: &str,
        added: &[String],
        deadline: Instant,
    ) -> Result<(), CallError> {
        let path = self.version().property(object_type, name);
        let definition: Value = self.get("property", &path, deadline).await?;
        let mut options = definition["options"].as_array().cloned().unwrap_or_default();
        for value in added {
            if !options.iter().any(|option| option["value"] == json!(value)) {
                options.push(option(value, options.len()));
            }
        }
        let change = json!({"options": options});
        self.call::<_, Value>("update_property", Method::PATCH, &path, Some(&change), deadline)
            .await
            .map(drop)
    }

    /// The app's webhook subscriptions.
    pub async fn subscriptions(&self, app_id: i64, deadline: Instant) -> Result<Vec<Subscription>, CallError> {
        let path = format!("{}/subscriptions", self.version().webhooks(app_id));
        let list: Subscriptions = self.get("subscriptions", &path, deadline).await?;
        Ok(list.results)
    }

    /// Makes a subscription.
    pub async fn create_subscription(
        &self,
        app_id: i64,
        wanted: &Subscription,
        deadline: Instant,
    ) -> Result<(), CallError> {
        let path = format!("{}/subscriptions", self.version().webhooks(app_id));
        self.call::<_, Value>("create_subscription", Method::POST, &path, Some(wanted), deadline)
            .await
            .map(drop)
    }

    /// Switches a paused subscription on.
    pub async fn activate_subscription(&self, app_id: i64, id: &str, deadline: Instant) -> Result<(), CallError> {
        let path = format!("{}/subscriptions/{id}", self.version().webhooks(app_id));
        let on = json!({"active": true});
        self.call::<_, Value>("update_subscription", Method::PATCH, &path, Some(&on), deadline)
            .await
            .map(drop)
    }

    /// Where HubSpot sends the app's webhooks; none when that was never set.
    pub async fn webhook_target(&self, app_id: i64, deadline: Instant) -> Result<Option<String>, CallError> {
        let path = format!("{}/settings", self.version().webhooks(app_id));
        let found = absent_is_none(self.get::<WebhookSettings>("webhook_settings", &path, deadline).await)?;
        Ok(found.and_then(|settings| settings.target_url))
    }

    /// Sets where HubSpot sends the app's webhooks.
    pub async fn set_webhook_target(&self, app_id: i64, url: &str, deadline: Instant) -> Result<(), CallError> {
        let path = format!("{}/settings", self.version().webhooks(app_id));
        let settings = json!({"targetUrl": url, "throttling": {"maxConcurrentRequests": 10}});
        self.call::<_, Value>("set_webhook_settings", Method::PUT, &path, Some(&settings), deadline)
            .await
            .map(drop)
    }
}

/// An option whose label is its value.
pub fn option(value: &str, place: usize) -> Value {
    json!({"label": value, "value": value, "displayOrder": place, "hidden": false})
}
