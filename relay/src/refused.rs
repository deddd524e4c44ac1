//! Refused values that wait for HubSpot to get a property or an option: tried again by themselves once it is there.
//!
//! Only what HubSpot refused for that reason is looked at; every other refusal waits for an edit or a person. The property
//! definitions are read as often as a cached value lives (`cache.ttl`), and only while there is something to look for.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db::contract::Refusal;
use crate::db::pool::Db;
use crate::hubspot::client::Client;
use crate::hubspot::model::PropertyDefinition;
use crate::status::Status;
use crate::telemetry::event;

/// Shortest time between two looks.
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest wait for a slot of the rate limit.
const SLOT_WAIT: Duration = Duration::from_secs(15);

/// Runs until `stop`.
pub(crate) async fn run(db: Db, client: Client, status: Status, every: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every.max(SHORTEST)) => {}
        }
        let seen = status.snapshot();
        if seen.may_claim() && !seen.auth_failed && !seen.circuit_open {
            look(&db, &client).await;
        }
    }
}

async fn look(db: &Db, client: &Client) {
    let refusals = match db.refusals().await {
        Ok(refusals) => refusals,
        Err(error) => {
            tracing::warn!(event = event::DATABASE_FAILED, function = "relay_refusals", %error, "not looked");
            return;
        }
    };
    let mut by_type: BTreeMap<&str, Vec<&Refusal>> = BTreeMap::new();
    for refusal in refusals.iter().filter(|refusal| cause(&refusal.message).is_some()) {
        by_type.entry(&refusal.object_type).or_default().push(refusal);
    }
    for (object_type, refusals) in by_type {
        // A call that fails is looked at again next time.
        let Ok(list) = client.properties(object_type, Instant::now() + SLOT_WAIT).await else {
            continue;
        };
        let known: BTreeMap<&str, &PropertyDefinition> = list.results.iter().map(|p| (p.name.as_str(), p)).collect();
        let mended: Vec<i64> = refusals
            .into_iter()
            .filter(|refusal| known.get(refusal.property.as_str()).is_some_and(|p| takes(p, refusal)))
            .map(|refusal| refusal.id)
            .collect();
        if mended.is_empty() {
            continue;
        }
        match db.retry(&mended).await {
            Ok(records) => tracing::info!(
                event = event::REFUSED_RELEASED,
                object_type,
                records,
                "HubSpot has the property or option now: refused values are tried again"
            ),
            Err(error) => {
                tracing::warn!(event = event::DATABASE_FAILED, function = "relay_retry", %error, "not released");
            }
        }
    }
}

/// What HubSpot lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Property,
    Option,
}

/// Why HubSpot refused, as far as its message tells.
fn cause(message: &str) -> Option<Cause> {
    if message.contains("PROPERTY_DOESNT_EXIST") || message.contains("does not exist") {
        Some(Cause::Property)
    } else if message.contains("INVALID_OPTION") || message.contains("allowed options") {
        Some(Cause::Option)
    } else {
        None
    }
}

/// Whether the property as it is now takes the value.
fn takes(property: &PropertyDefinition, refusal: &Refusal) -> bool {
    if property.archived {
        return false;
    }
    let options = || {
        let parts = refusal.value.split(';').map(str::trim).filter(|part| !part.is_empty());
        parts
            .into_iter()
            .all(|part| property.options.iter().any(|option| option.value == part))
    };
    match cause(&refusal.message) {
        Some(Cause::Property) => property.options.is_empty() || options(),
        Some(Cause::Option) => options(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_the_property_takes_now_is_released() {
        let property: PropertyDefinition = serde_json::from_value(json!({"name": "tier", "type": "enumeration",
            "options": [{"value": "A"}, {"value": "B"}]}))
        .unwrap();
        let refusal = |value: &str, message: &str| Refusal {
            id: 1,
            object_type: "companies".to_owned(),
            property: "tier".to_owned(),
            value: value.to_owned(),
            message: message.to_owned(),
        };
        assert!(takes(
            &property,
            &refusal("A;B", "C was not one of the allowed options")
        ));
        assert!(!takes(
            &property,
            &refusal("A;C", "C was not one of the allowed options")
        ));
        assert!(takes(&property, &refusal("A", "Property \"tier\" does not exist")));
        assert!(!takes(&property, &refusal("A", "was not a valid long")));
    }
}
