//! `POST /_sim/<action>`: the person's actions, faults and counts over HTTP, JSON in and out.
//!
//! | Actions | Fields |
//! | --- | --- |
//! | `ui_set` | `object_type`, `id`, and `property` with `value`, or `properties` |
//! | `ui_create` | `object_type`, `properties` |
//! | `ui_delete` `ui_restore` `get` | `object_type`, `id` |
//! | `ui_merge` | `object_type`, `id` of the primary record, `other` |
//! | `find` | `object_type`, `property`, `value` |
//! | `history` | `object_type`, `id`, `property` |
//! | `records` | `object_type` |
//! | `fault` | `op`, `kind`, `times`: `{"op": "batch_update", "kind": {"status": 503}, "times": 1}` |
//! | `fault_by_chance` | `[op, kind, probability]` |
//! | `clear_faults` `clear_log` `requests` `events` `deliveries` `expire_tokens` `flush` | none |
//! | `gate` | `name`, `op`, `point`: `before_apply` or `after_apply` |
//! | `open_gate` | `name` |
//! | `behaviour` | fields of [`Behaviour`]; those left out take their defaults |
//! | `webhooks` | `url` (null sends none), `secret` |
//! | `webhook_faults` | `drop`, `double`, `reorder`, `delay`, `delay_ms` |
//! | `hold` `release` `held` | none |
//! | `deliver` `discard` | any of `subscription_type`, `property`, `id` |
//! | `send_event` | the event |
//! | `count` | `op` |
//! | `max_in_window` | `ms` |
//! | `rate_limit` | `limit` |
//! | `add_option` `remove_option` | `object_type`, `property`, `value` |

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::errors::ApiError;
use super::faults::{Fault, GatePoint};
use super::route::Op;
use super::{Behaviour, FaultKind, Inner, Simulator, WebhookFaults, lock};

type Answer = Result<Value, ApiError>;

/// What the actions take; each uses some of the fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    object_type: String,
    id: String,
    other: String,
    property: String,
    value: String,
    properties: Map<String, Value>,
    url: Option<String>,
    secret: Option<String>,
    name: String,
    op: Option<Op>,
    point: Option<GatePoint>,
    ms: u64,
    limit: u64,
    subscription_type: Option<String>,
}

/// Runs an action; answers with status and body.
pub(crate) async fn run(inner: &Arc<Inner>, action: &str, body: &[u8]) -> (u16, Value) {
    let address = inner.config.listen;
    let sim = Simulator {
        inner: Arc::clone(inner),
        address,
    };
    if action == "flush" {
        sim.flush().await;
        return (200, json!({}));
    }
    match act(&sim, action, body) {
        Ok(value) => (200, value),
        Err(error) => (error.status, error.body("")),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(if body.is_empty() { b"{}" } else { body }).map_err(ApiError::bad_json)
}

fn to_value(value: impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map_err(ApiError::bad_json)
}

fn act(sim: &Simulator, action: &str, body: &[u8]) -> Answer {
    match action {
        "fault" => {
            sim.fault(parse::<Fault>(body)?);
            return Ok(json!({}));
        }
        "fault_by_chance" => {
            let (op, kind, probability) = parse::<(Op, FaultKind, f64)>(body)?;
            sim.fault_by_chance(op, kind, probability);
            return Ok(json!({}));
        }
        "webhook_faults" => {
            sim.webhook_faults(parse::<WebhookFaults>(body)?);
            return Ok(json!({}));
        }
        "behaviour" => {
            let behaviour = parse::<Behaviour>(body)?;
            sim.set_behaviour(|current| *current = behaviour);
            return Ok(json!({}));
        }
        "send_event" => {
            sim.send_event(parse::<Value>(body)?);
            return Ok(json!({}));
        }
        _ => {}
    }
    let input: Input = parse(body)?;
    match action {
        action if action.starts_with("ui_") => person(sim, action, &input),
        "get" | "find" | "history" | "records" => look(sim, action, &input),
        _ => switch(sim, action, &input),
    }
}

fn person(sim: &Simulator, action: &str, input: &Input) -> Answer {
    let texts: Vec<(&str, &str)> = input
        .properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
        .collect();
    let (object_type, id) = (input.object_type.as_str(), input.id.as_str());
    match action {
        "ui_set" if texts.is_empty() => sim.ui_set(object_type, id, &input.property, &input.value)?,
        "ui_set" => sim.ui_set_many(object_type, id, &texts)?,
        "ui_create" => return Ok(json!({"id": sim.ui_create(object_type, &texts)?})),
        "ui_delete" => sim.ui_delete(object_type, id)?,
        "ui_restore" => sim.ui_restore(object_type, id)?,
        "ui_merge" => return Ok(json!({"id": sim.ui_merge(object_type, id, &input.other)?})),
        _ => return Err(unknown(action)),
    }
    Ok(json!({}))
}

fn look(sim: &Simulator, action: &str, input: &Input) -> Answer {
    let (object_type, id) = (input.object_type.as_str(), input.id.as_str());
    match action {
        "get" => to_value(sim.get(object_type, id)),
        "find" => to_value(sim.find(object_type, &input.property, &input.value)),
        "history" => to_value(sim.history(object_type, id, &input.property)),
        _ => to_value(sim.records(object_type)),
    }
}

fn switch(sim: &Simulator, action: &str, input: &Input) -> Answer {
    let wanted = |event: &Value| {
        input
            .subscription_type
            .as_ref()
            .is_none_or(|kind| event["subscriptionType"] == json!(kind))
            && (input.property.is_empty() || event["propertyName"] == json!(input.property))
            && (input.id.is_empty() || event["objectId"].as_u64() == input.id.parse().ok())
    };
    let op = input.op.unwrap_or(Op::Any);
    match action {
        "webhooks" => {
            sim.set_webhook_url(input.url.as_deref());
            if let Some(secret) = &input.secret {
                sim.set_client_secret(secret);
            }
        }
        "hold" => sim.hold_webhooks(),
        "release" => sim.release_webhooks(),
        "held" => return Ok(json!(sim.held_webhooks())),
        "deliver" => return Ok(json!({"count": sim.deliver_held(wanted)})),
        "discard" => return Ok(json!({"count": sim.discard_held(wanted)})),
        "events" => return Ok(json!(sim.events())),
        "deliveries" => return to_value(sim.deliveries()),
        "requests" => return to_value(sim.requests()),
        "count" => return Ok(json!({"count": sim.count(op)})),
        "max_in_window" => return Ok(json!({"count": sim.max_in_window(input.ms)})),
        "clear_log" => sim.clear_log(),
        "clear_faults" => sim.clear_faults(),
        "gate" => {
            let gate = match input.point {
                Some(GatePoint::BeforeApply) => sim.gate_before(op),
                _ => sim.gate(op),
            };
            lock(&sim.inner.gates).insert(input.name.clone(), gate);
        }
        "open_gate" => {
            lock(&sim.inner.gates).remove(&input.name);
        }
        "rate_limit" => sim.set_rate_limit(u32::try_from(input.limit).unwrap_or(u32::MAX)),
        "expire_tokens" => sim.expire_tokens(),
        "add_option" => sim.add_option(&input.object_type, &input.property, &input.value)?,
        "remove_option" => sim.remove_option(&input.object_type, &input.property, &input.value)?,
        _ => return Err(unknown(action)),
    }
    Ok(json!({}))
}

fn unknown(action: &str) -> ApiError {
    ApiError::not_found(format!("Action {action} does not exist"))
}
