//! What the journal has to tell: one subscription for each mapped object type, with the properties that flow in.

use std::collections::{BTreeMap, BTreeSet};

use super::Trouble;
use crate::check::properties::is_received;
use crate::check::webhooks::NAMED;
use crate::db::contract::Mapping;
use crate::deliver::Context;
use crate::hubspot::journal::JournalSubscription;

/// HubSpot's id of an object type that a mapping names: `companies` is `0-2`; a custom type's name is its id.
pub(crate) fn type_id(object_type: &str) -> String {
    let name = object_type.to_ascii_lowercase();
    NAMED
        .iter()
        .find(|(plural, id, singular)| [*plural, *id, *singular].contains(&name.as_str()))
        .map_or(object_type, |(_, id, _)| *id)
        .to_owned()
}

/// The subscriptions that the enabled mappings need.
pub(crate) fn needed(mappings: &[Mapping], portal_id: i64) -> Vec<JournalSubscription> {
    let mut types: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for mapping in mappings.iter().filter(|mapping| mapping.enabled) {
        let received = mapping.properties.iter().filter(|property| is_received(property));
        types
            .entry(type_id(&mapping.object_type))
            .or_default()
            .extend(received.map(|property| property.name.clone()));
    }
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let mut needed = Vec::new();
    for (object_type_id, properties) in types {
        let contact = object_type_id == "0-1";
        needed.push(JournalSubscription {
            subscription_type: "OBJECT".to_owned(),
            portal_id,
            object_type_id: object_type_id.clone(),
            actions: texts(&["CREATE", "UPDATE", "DELETE", "MERGE", "RESTORE"]),
            properties: properties.into_iter().collect(),
            object_ids: Some(Vec::new()),
            ..JournalSubscription::default()
        });
        if contact {
            needed.push(JournalSubscription {
                subscription_type: "GDPR_PRIVACY_DELETION".to_owned(),
                portal_id,
                object_type_id,
                actions: texts(&["GDPR_DELETE"]),
                ..JournalSubscription::default()
            });
        }
    }
    needed
}

/// Makes the subscriptions that are missing. A new one comes before the one it replaces ends, so that nothing is left out;
/// what both tell is stored once.
pub(super) async fn ensure(context: &Context, portal_id: i64) -> Result<(), Trouble> {
    let mappings = context.db.mapping().await?;
    let existing = context.client.journal_subscriptions().await?;
    for wanted in needed(&mappings, portal_id) {
        if existing.iter().any(|found| found.covers(&wanted)) {
            continue;
        }
        let made = context.client.journal_subscribe(&wanted).await?;
        let replaced = existing.iter().filter(|found| {
            found.subscription_type == wanted.subscription_type
                && found.portal_id == portal_id
                && found.object_type_id == wanted.object_type_id
                && found.id != made.id
        });
        for old in replaced {
            context.client.journal_unsubscribe(&old.id).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_for_each_type() {
        let mappings: Vec<Mapping> = serde_json::from_value(json!([
            {"entity_type": "a", "object_type": "contacts", "enabled": true, "properties": [
                {"name": "email", "direction": "BIDIRECTIONAL"}, {"name": "warp_id", "direction": "WARP_TO_HUBSPOT"}]},
            {"entity_type": "b", "object_type": "0-1", "enabled": true, "properties": [{"name": "phone", "direction": "HUBSPOT_TO_WARP"}]},
            {"entity_type": "c", "object_type": "2-17", "enabled": false, "properties": [{"name": "x", "direction": "BIDIRECTIONAL"}]}]))
        .unwrap();
        let needed = needed(&mappings, 7);
        assert_eq!(needed.len(), 2);
        assert_eq!(needed[0].object_type_id, "0-1");
        assert_eq!(needed[0].properties, ["email", "phone"]);
        assert_eq!(needed[1].subscription_type, "GDPR_PRIVACY_DELETION");
        assert_eq!(type_id("company"), "0-2");
        assert_eq!(type_id("2-17"), "2-17");
    }
}
