//! The webhooks journal: a chain of entries, each a file behind a link that needs no token and soon ends.

use std::collections::BTreeMap;

use axum::http::header;
use axum::http::request::Parts;
use serde_json::{Map, Value, json};

use super::Inner;
use super::clock::iso;
use super::errors::ApiError;
use super::events::{Event, EventKind};
use super::query::{ApiRequest, Reply, parse_form, required};
use super::route::Op;

type Answer = Result<Reply, ApiError>;

/// Where the files are.
pub(crate) const FILES: &str = "/journal-files/";
/// HubSpot keeps entries for three days.
const RETENTION_MS: i64 = 3 * 24 * 60 * 60 * 1000;
/// How long a link lives.
const LINK_MS: i64 = 60_000;

#[derive(Debug)]
struct Entry {
    offset: String,
    published_at: i64,
    events: Vec<Value>,
}

/// Subscriptions and the entries that came of them.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Vec<Entry>,
    subscriptions: Vec<Value>,
    issued: u64,
    /// Files that will be garbage.
    pub(crate) spoiled: u32,
}

impl Journal {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn forget(&mut self) {
        self.entries.clear();
    }

    /// Writes an entry of what a call changed, if any subscription asks for it.
    pub(crate) fn publish(&mut self, events: &[Event], portal_id: u64, now: i64) {
        if self.subscriptions.is_empty() {
            return;
        }
        let mut changes: BTreeMap<(String, u64, i64), Map<String, Value>> = BTreeMap::new();
        let mut shown = Vec::new();
        for event in events {
            let action = match &event.kind {
                EventKind::PropertyChange { name, value } => {
                    if self.asks(&event.type_id, "UPDATE", Some(name)) {
                        let key = (event.type_id.clone(), event.object_id, event.occurred_at);
                        changes.entry(key).or_default().insert(name.clone(), json!(value));
                    }
                    continue;
                }
                EventKind::Creation => "CREATE",
                EventKind::Deletion => "DELETE",
                EventKind::Restore => "RESTORE",
                EventKind::PrivacyDeletion => "GDPR_DELETE",
                EventKind::Merge { .. } => "MERGE",
            };
            if self.asks(&event.type_id, action, None) {
                let mut body = form(&event.type_id, event.object_id, event.occurred_at, action, portal_id);
                if let EventKind::Merge { primary, merged, .. } = &event.kind {
                    let ids: Vec<u64> = std::iter::once(*primary).chain(merged.iter().copied()).collect();
                    body["mergedObjectIds"] = json!(ids);
                }
                shown.push(body);
            }
        }
        for ((type_id, id, at), properties) in changes {
            let mut body = form(&type_id, id, at, "UPDATE", portal_id);
            body["propertyChanges"] = Value::Object(properties);
            shown.push(body);
        }
        if !shown.is_empty() {
            self.issued += 1;
            // Nothing can be told from an offset, not even which is newer.
            let scattered = self.issued.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.entries.push(Entry {
                offset: format!("{:08x}-0000-4000-8000-{:012x}", scattered >> 32, self.issued),
                published_at: now,
                events: shown,
            });
        }
    }

    fn asks(&self, type_id: &str, action: &str, property: Option<&str>) -> bool {
        let holds = |subscription: &Value, list: &str, wanted: &str| {
            let items = subscription[list].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).any(|item| item == wanted)
        };
        self.subscriptions.iter().any(|subscription| {
            subscription["objectTypeId"] == json!(type_id)
                && holds(subscription, "actions", action)
                && property.is_none_or(|name| holds(subscription, "properties", name))
        })
    }

    fn find(&self, place: &str, offset: &str) -> Result<Option<&Entry>, ApiError> {
        match place {
            "earliest" => Ok(self.entries.first()),
            "latest" => Ok(self.entries.last()),
            _ => {
                let known = self.entries.iter().position(|entry| entry.offset == offset);
                let known = known.ok_or_else(|| ApiError::not_found("There is no such offset"))?;
                Ok(self.entries.get(known + 1))
            }
        }
    }

    fn subscribe(&mut self, body: &Value, now: i64) -> Answer {
        let kind = required(body, "subscriptionType")?;
        let needed: &[&str] = match kind.as_str() {
            "OBJECT" => &["actions", "objectIds", "objectTypeId", "portalId", "properties"],
            "GDPR_PRIVACY_DELETION" => &["actions", "objectTypeId", "portalId"],
            _ => {
                return Err(ApiError::validation(
                    "subscriptionType is not one of the allowed values",
                ));
            }
        };
        if let Some(missing) = needed.iter().find(|name| body.get(**name).is_none()) {
            return Err(ApiError::bad_json(format!(
                "some required fields were not set: [{missing}]"
            )));
        }
        self.issued += 1;
        let mut made = body.clone();
        made["id"] = json!(self.issued);
        made["createdAt"] = json!(iso(now));
        self.subscriptions.push(made.clone());
        Ok(Reply::json(200, made))
    }
}

fn form(type_id: &str, id: u64, at: i64, action: &str, portal_id: u64) -> Value {
    json!({"type": "crmObject", "portalId": portal_id, "occurredAt": iso(at), "action": action,
        "objectTypeId": type_id, "objectId": id})
}

impl Inner {
    /// Runs an operation of the journal.
    pub(crate) fn journal(&self, request: &ApiRequest) -> Answer {
        let (now, scopes) = {
            let core = self.core();
            (core.clock.now(), core.tokens.scopes.clone())
        };
        let needed = request.route.op.scopes("");
        if scopes.is_some_and(|granted| !needed.iter().any(|scope| granted.contains(scope))) {
            return Err(ApiError::missing_scopes(&needed));
        }
        let mut journal = super::lock(&self.journal);
        journal.entries.retain(|entry| entry.published_at > now - RETENTION_MS);
        match request.route.op {
            Op::JournalEntry => {
                let portal = request.query.get("installPortalId");
                if portal.is_some_and(|portal| *portal != self.config.portal_id.to_string()) {
                    return Ok(Reply {
                        status: 204,
                        body: None,
                    });
                }
                let Some(entry) = journal.find(&request.route.object_type, &request.route.id)? else {
                    return Ok(Reply {
                        status: 204,
                        body: None,
                    });
                };
                let expires = now + LINK_MS;
                let url = format!("http://{}{FILES}{}?expires={expires}", request.host, entry.offset);
                Ok(Reply::json(
                    200,
                    json!({"url": url, "expiresAt": iso(expires), "currentOffset": entry.offset}),
                ))
            }
            Op::JournalSubscriptionList => Ok(Reply::json(200, json!({"results": journal.subscriptions}))),
            Op::JournalSubscriptionCreate => journal.subscribe(&request.json()?, now),
            Op::JournalSubscriptionDelete => {
                let id = request.route.id.as_str();
                let other = |known: &Value| known["id"].as_u64().is_none_or(|it| it.to_string() != id);
                journal.subscriptions.retain(other);
                Ok(Reply {
                    status: 204,
                    body: None,
                })
            }
            _ => Err(ApiError::not_found("The requested resource does not exist")),
        }
    }

    /// An entry's file, for whoever has its link; a token has no business there.
    pub(crate) fn journal_file(&self, offset: &str, parts: &Parts) -> (u16, Value) {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            return (400, json!({"message": "only one kind of authorization is allowed"}));
        }
        let now = self.core().clock.now();
        let query = parse_form(parts.uri.query().unwrap_or_default());
        let expires = query.get("expires").and_then(|text| text.parse::<i64>().ok());
        if expires.is_none_or(|at| at <= now) {
            return (403, json!({"message": "Request has expired"}));
        }
        let mut journal = super::lock(&self.journal);
        if journal.spoiled > 0 {
            journal.spoiled -= 1;
            return (200, json!("garbage"));
        }
        match journal.entries.iter().find(|entry| entry.offset == offset) {
            Some(entry) => (
                200,
                json!({"offset": entry.offset, "publishedAt": iso(entry.published_at), "journalEvents": entry.events}),
            ),
            None => (404, json!({"message": "no such file"})),
        }
    }
}
