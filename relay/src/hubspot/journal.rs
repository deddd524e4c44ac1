//! HubSpot's webhooks journal: entries in a chain of offsets, each a file behind a link of its own, and its subscriptions.
//!
//! It belongs to an OAuth app: calls carry the app's own token (client credentials), not that of the account. They count
//! against limits of their own, far above what one reader uses, so no slot of the account's limit is taken.

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::client::{Client, parse, transport_failure};
use super::error::{Failure, FailureClass};
use super::model::text_or_number;
use super::paths::segment;

/// The release whose paths are used: the journal has no other that is stable.
const RELEASE: &str = "2026-03";
/// The scopes of the app's token.
pub(super) const SCOPES: &str = "developer.webhooks_journal.read developer.webhooks_journal.subscriptions.read \
                                 developer.webhooks_journal.subscriptions.write";
/// HubSpot's files have 5 MB; a larger one is none of its.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Which entry is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// The oldest that HubSpot still has.
    Earliest,
    /// The newest.
    Latest,
    /// The one after an offset.
    After(&'a str),
}

/// Where an entry's file is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EntryLink {
    /// Its link, which needs no token and soon ends.
    pub url: String,
    /// The entry's offset.
    #[serde(rename = "currentOffset")]
    pub offset: String,
}

/// A subscription of the journal: what of which object type it tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JournalSubscription {
    /// HubSpot's id; empty in one that is only wanted.
    #[serde(skip_serializing, deserialize_with = "text_or_number")]
    pub id: String,
    /// `OBJECT`, or `GDPR_PRIVACY_DELETION`.
    pub subscription_type: String,
    /// The account.
    pub portal_id: i64,
    /// Such as `0-2`.
    pub object_type_id: String,
    /// Such as `UPDATE`.
    pub actions: Vec<String>,
    /// The properties whose changes are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<String>,
    /// Records it is limited to; empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ids: Option<Vec<Value>>,
}

impl JournalSubscription {
    /// Whether this one tells everything that `wanted` asks for.
    pub fn covers(&self, wanted: &Self) -> bool {
        self.subscription_type == wanted.subscription_type
            && self.portal_id == wanted.portal_id
            && self.object_type_id == wanted.object_type_id
            && self.object_ids.as_ref().is_none_or(Vec::is_empty)
            && wanted.actions.iter().all(|action| self.actions.contains(action))
            && wanted.properties.iter().all(|name| self.properties.contains(name))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subscriptions {
    results: Vec<JournalSubscription>,
}

impl Client {
    /// Where an entry of the account's journal is; none when there is no such entry (yet).
    pub async fn journal_entry(&self, which: Which<'_>, portal_id: i64) -> Result<Option<EntryLink>, Failure> {
        let place = match which {
            Which::Earliest => "earliest".to_owned(),
            Which::Latest => "latest".to_owned(),
            Which::After(offset) => format!("offset/{}/next", segment(offset)),
        };
        let path = format!("/webhooks-journal/journal-local/{RELEASE}/{place}?installPortalId={portal_id}");
        let link: EntryLink = self.of_app("journal_entry", Method::GET, &path, None::<&()>).await?;
        Ok(Some(link).filter(|link| !link.url.is_empty() && !link.offset.is_empty()))
    }

    /// An entry's file. Its link is another host's, so no token goes with it.
    pub async fn journal_file(&self, link: &EntryLink) -> Result<Value, Failure> {
        const OPERATION: &str = "journal_file";
        let started = Instant::now();
        let answer = self.download(OPERATION, &link.url).await;
        self.count(OPERATION, answer.as_ref().err(), started);
        answer
    }

    async fn download(&self, operation: &'static str, url: &str) -> Result<Value, Failure> {
        if !url.starts_with("https://") && !self.base_url().starts_with("http://") {
            return Err(invalid(operation, "the link to a journal entry is not https"));
        }
        let request = self.http().get(url).timeout(self.timeout());
        let mut answer = request
            .send()
            .await
            .map_err(|error| transport_failure(operation, &error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(super::client::refused(operation, status, None, None));
        }
        let mut bytes = Vec::new();
        while let Some(part) = answer
            .chunk()
            .await
            .map_err(|error| transport_failure(operation, &error))?
        {
            if (bytes.len() + part.len()) as u64 > FILE_BYTES {
                return Err(invalid(operation, "a journal entry is larger than any of HubSpot's"));
            }
            bytes.extend_from_slice(&part);
        }
        parse(operation, status, &bytes)
    }

    /// The app's journal subscriptions, of all accounts.
    pub async fn journal_subscriptions(&self) -> Result<Vec<JournalSubscription>, Failure> {
        let path = format!("/webhooks-journal/subscriptions/{RELEASE}");
        let list: Subscriptions = self
            .of_app("journal_subscriptions", Method::GET, &path, None::<&()>)
            .await?;
        Ok(list.results)
    }

    /// Makes a subscription.
    pub async fn journal_subscribe(&self, wanted: &JournalSubscription) -> Result<JournalSubscription, Failure> {
        let path = format!("/webhooks-journal/subscriptions/{RELEASE}");
        self.of_app("journal_subscribe", Method::POST, &path, Some(wanted))
            .await
    }

    /// Ends a subscription.
    pub async fn journal_unsubscribe(&self, id: &str) -> Result<(), Failure> {
        let path = format!("/webhooks-journal/subscriptions/{RELEASE}/{}", segment(id));
        self.of_app::<_, Value>("journal_unsubscribe", Method::DELETE, &path, None::<&()>)
            .await
            .map(drop)
    }

    /// A call with the app's token; once more with a new one when it is refused.
    async fn of_app<B: Serialize, T: DeserializeOwned + Default>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Failure> {
        let Some(app) = self.app_auth() else {
            return Err(invalid(
                operation,
                "the journal needs hubspot.client_id and hubspot.client_secret",
            ));
        };
        let started = Instant::now();
        let mut again = true;
        let answer = loop {
            let token = match app.header(self.http(), self.timeout()).await {
                Ok(token) => token,
                Err(failure) => break Err(failure),
            };
            match self
                .exchange(operation, method.clone(), path, body, token.clone())
                .await
            {
                Err(failure) if again && failure.status == Some(401) && app.refused(&token) => again = false,
                answer => break answer,
            }
        };
        self.count(operation, answer.as_ref().err(), started);
        answer
    }
}

fn invalid(operation: &'static str, message: &str) -> Failure {
    Failure::new(operation, FailureClass::Invalid, None, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_subscription_covers_what_is_wanted() {
        let wanted = JournalSubscription {
            subscription_type: "OBJECT".to_owned(),
            portal_id: 7,
            object_type_id: "0-2".to_owned(),
            actions: vec!["UPDATE".to_owned()],
            properties: vec!["name".to_owned()],
            object_ids: Some(Vec::new()),
            ..JournalSubscription::default()
        };
        let found: JournalSubscription = serde_json::from_value(json!({"id": 12, "subscriptionType": "OBJECT", "portalId": 7,
            "objectTypeId": "0-2", "actions": ["CREATE", "UPDATE"], "properties": ["domain", "name"], "objectIds": [], "appId": 3}))
        .unwrap();
        assert_eq!(found.id, "12");
        assert!(found.covers(&wanted));
        let mut other = found.clone();
        other.properties = vec!["domain".to_owned()];
        assert!(!other.covers(&wanted));
        let limited = JournalSubscription {
            object_ids: Some(vec![json!(1)]),
            ..found
        };
        assert!(!limited.covers(&wanted));
    }
}
