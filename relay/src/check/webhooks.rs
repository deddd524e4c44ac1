//! The webhook subscriptions that the mappings need, against those the app has.

use std::collections::BTreeSet;

use super::properties::is_received;
use super::{Finding, failed, fault, good, soon};
use crate::config::{Config, PollMode};
use crate::db::contract::Mapping;
use crate::hubspot::client::{CallError, Client};
use crate::hubspot::error::FailureClass;
use crate::hubspot::journal::Which;
use crate::hubspot::setup::Subscription;

/// Singular names of the object types that events name; the others are `object` with an id.
pub(crate) const NAMED: [(&str, &str, &str); 6] = [
    ("contacts", "0-1", "contact"),
    ("companies", "0-2", "company"),
    ("deals", "0-3", "deal"),
    ("tickets", "0-5", "ticket"),
    ("products", "0-7", "product"),
    ("line_items", "0-8", "line_item"),
];

/// What happens to whole records.
const RECORD_EVENTS: [&str; 3] = ["deletion", "restore", "merge"];

/// What the app must be subscribed to, for the enabled mappings that receive anything.
pub(crate) fn needed(mappings: &[Mapping]) -> BTreeSet<Subscription> {
    let mut needed = BTreeSet::new();
    for mapping in mappings.iter().filter(|mapping| mapping.enabled) {
        let object_type = mapping.object_type.to_ascii_lowercase();
        let named = NAMED
            .iter()
            .find(|(plural, id, singular)| [*plural, *id, *singular].contains(&object_type.as_str()));
        let prefix = named.map_or("object", |(_, _, singular)| *singular);
        let of = |event: &str, property: Option<&str>| Subscription {
            id: String::new(),
            event_type: format!("{prefix}.{event}"),
            property: property.map(str::to_owned),
            object_type_id: named.is_none().then(|| mapping.object_type.clone()),
            active: true,
        };
        let received = mapping.properties.iter().filter(|property| is_received(property));
        needed.extend(received.map(|property| of("propertyChange", Some(&property.name))));
        needed.extend(RECORD_EVENTS.map(|event| of(event, None)));
        if prefix == "contact" {
            needed.insert(of("privacyDeletion", None));
        }
    }
    needed
}

/// Where HubSpot has to send them, when `webhook.public_url` says it.
pub(crate) fn target(config: &Config) -> Option<String> {
    let url = config.webhook.public_url.as_deref()?.trim_end_matches('/');
    Some(format!("{url}/v1/webhooks/hubspot"))
}

/// Whether a URL leads to this relay's intake: both of its paths take every object type.
pub(crate) fn leads_here(url: &str, target: &str) -> bool {
    let url = url.trim_end_matches('/');
    url == target || url.strip_suffix("/company") == Some(target)
}

/// Whether HubSpot does not let this token see an app's subscriptions: those of private and project apps are not managed
/// through its API.
pub(crate) fn not_managed(error: &CallError) -> bool {
    match error {
        CallError::Failed(failure) => matches!(failure.class, FailureClass::Auth | FailureClass::NotFound),
        CallError::NotSent { .. } => false,
    }
}

/// The list for somebody who has to make them by hand.
pub(crate) fn by_hand(needed: &BTreeSet<Subscription>, target: Option<&str>) -> String {
    let list: Vec<String> = needed.iter().map(ToString::to_string).collect();
    format!(
        "in the app's settings, or in its project file and hs project upload: {}; to {}",
        list.join(", "),
        target.unwrap_or("https://<webhook.public_url>/v1/webhooks/hubspot")
    )
}

/// How HubSpot's changes come in, and whether they can.
pub(super) async fn check(
    config: &Config,
    client: &Client,
    mappings: &[Mapping],
    portal_id: Option<i64>,
) -> Vec<Finding> {
    let needed = needed(mappings);
    match config.poll.mode {
        _ if needed.is_empty() => return Vec::new(),
        PollMode::Search => return Vec::new(),
        PollMode::Journal => return journal(client, mappings, portal_id).await,
        PollMode::Off => {}
    }
    if config.webhook.client_secret.is_none() {
        return vec![fault(
            "webhooks",
            "refused, because webhook.client_secret is not set, and poll.mode is off: HubSpot's changes are found by reconciling only",
            "set webhook.client_secret to the app's client secret, or poll.mode to search",
        )];
    }
    let Some(app_id) = config.hubspot.app_id else {
        return vec![fault(
            "webhooks",
            "the app is not known, so neither its subscriptions nor its own writes are",
            "set hubspot.app_id",
        )];
    };
    let target = target(config);
    let existing = match client.subscriptions(app_id, soon()).await {
        Ok(existing) => existing,
        Err(error) if not_managed(&error) => {
            return vec![good(
                "webhooks",
                format!(
                    "not looked at: HubSpot does not show this token the subscriptions. They belong {}",
                    by_hand(&needed, target.as_deref())
                ),
            )];
        }
        Err(error) => return vec![failed("webhooks", &error)],
    };
    let mut findings: Vec<Finding> = needed
        .iter()
        .map(|wanted| {
            let what = format!("webhook {wanted}");
            let mend = "run hubspot-relay provision";
            match existing
                .iter()
                .filter(|found| found.same_events(wanted))
                .map(|found| found.active)
                .max()
            {
                Some(true) => good(what, "subscribed"),
                Some(false) => fault(what, "paused", mend),
                None => fault(what, "not subscribed", mend),
            }
        })
        .collect();
    findings.push(match (client.webhook_target(app_id, soon()).await, target) {
        (Err(error), _) => failed("webhook target", &error),
        (Ok(None), _) => fault(
            "webhook target",
            "not set",
            "set webhook.public_url and run hubspot-relay provision",
        ),
        (Ok(Some(url)), Some(target)) if !leads_here(&url, &target) => fault(
            "webhook target",
            format!("HubSpot sends to {url}, webhook.public_url leads to {target}"),
            "set the app's target URL in HubSpot, or correct webhook.public_url",
        ),
        (Ok(Some(url)), _) => good("webhook target", url),
    });
    findings
}

/// Whether the app may read the webhooks journal. Its subscriptions the running relay makes itself.
async fn journal(client: &Client, mappings: &[Mapping], portal_id: Option<i64>) -> Vec<Finding> {
    // What the token is of was reported before.
    let Some(portal_id) = portal_id else {
        return Vec::new();
    };
    let what = "webhooks journal";
    let mend = "poll.mode journal needs an OAuth app that is installed in the account, with the scopes developer.webhooks_journal.read and developer.webhooks_journal.subscriptions.read and .write";
    let looked = async {
        client.journal_entry(Which::Latest, portal_id).await?;
        client.journal_subscriptions().await
    };
    vec![match looked.await {
        Ok(existing) => {
            let wanted = crate::journal::subscriptions::needed(mappings, portal_id);
            let missing = wanted
                .iter()
                .filter(|wanted| !existing.iter().any(|found| found.covers(wanted)));
            good(
                what,
                format!(
                    "readable; {} of {} subscriptions are still to be made, which the relay does as it runs",
                    missing.count(),
                    wanted.len()
                ),
            )
        }
        Err(failure) => fault(
            what,
            format!("{} (HTTP {:?})", failure.class.kind(), failure.status),
            mend,
        ),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_received_needs_a_subscription() {
        let mappings: Vec<Mapping> = serde_json::from_value(json!([
            {"entity_type":"person","object_type":"contacts","enabled":true,"properties":[
                {"name":"email","direction":"BIDIRECTIONAL"},{"name":"warp_id","direction":"WARP_TO_HUBSPOT"}]},
            {"entity_type":"line","object_type":"2-17","enabled":true,"properties":[{"name":"tariff","direction":"HUBSPOT_TO_WARP"}]},
            {"entity_type":"off","object_type":"deals","enabled":false,"properties":[{"name":"amount","direction":"BIDIRECTIONAL"}]}]))
        .unwrap();
        let said: Vec<String> = needed(&mappings).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "contact.deletion",
                "contact.merge",
                "contact.privacyDeletion",
                "contact.propertyChange of email",
                "contact.restore",
                "object.deletion of 2-17",
                "object.merge of 2-17",
                "object.propertyChange of 2-17 of tariff",
                "object.restore of 2-17"
            ]
        );
    }

    #[test]
    fn both_paths_lead_here() {
        let target = "https://sync.example.com/v1/webhooks/hubspot";
        assert!(leads_here(
            "https://sync.example.com/v1/webhooks/hubspot/company",
            target
        ));
        assert!(leads_here("https://sync.example.com/v1/webhooks/hubspot/", target));
        assert!(!leads_here("https://other.example.com/v1/webhooks/hubspot", target));
    }
}
