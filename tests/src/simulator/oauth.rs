//! Access tokens: the static one and those of the OAuth token endpoint.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::config::SimConfig;
use super::query::parse_form;

/// What a token may do and until when.
#[derive(Debug, Clone)]
struct Grant {
    app_id: u64,
    /// Milliseconds since 1970; `None` never expires.
    expires_at: Option<i64>,
    /// The app's own, for the webhooks journal and nothing else.
    of_app: bool,
}

/// Why a token is refused.
#[derive(Debug)]
pub(crate) enum Refused {
    Unknown,
    /// Seconds since it ran out.
    Expired(i64),
}

/// Tokens the account accepts.
#[derive(Debug)]
pub(crate) struct Tokens {
    grants: HashMap<String, Grant>,
    client_id: String,
    client_secret: String,
    pub(crate) refresh_token: String,
    /// Given out with the next refresh, and from then on the only one that is accepted.
    pub(crate) next_refresh_token: Option<String>,
    ttl_ms: i64,
    app_id: u64,
    portal_id: u64,
    pub(crate) scopes: Option<Vec<String>>,
    issued: u64,
}

impl Tokens {
    pub(crate) fn new(config: &SimConfig) -> Self {
        let grant = Grant {
            app_id: config.app_id,
            expires_at: None,
            of_app: false,
        };
        Tokens {
            grants: HashMap::from([(config.token.clone(), grant)]),
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            refresh_token: config.refresh_token.clone(),
            next_refresh_token: None,
            ttl_ms: i64::try_from(config.access_token_ttl.as_millis()).unwrap_or(i64::MAX),
            app_id: config.app_id,
            portal_id: config.portal_id,
            scopes: config.scopes.clone(),
            issued: 0,
        }
    }

    /// Accepts another static token, whose writes carry `app_id` as source.
    pub(crate) fn add(&mut self, token: &str, app_id: u64) {
        self.grants.insert(
            token.to_owned(),
            Grant {
                app_id,
                expires_at: None,
                of_app: false,
            },
        );
    }

    pub(crate) fn revoke(&mut self, token: &str) {
        self.grants.remove(token);
    }

    /// Ends every token that has a lifetime.
    pub(crate) fn expire(&mut self, now: i64) {
        for grant in self.grants.values_mut().filter(|grant| grant.expires_at.is_some()) {
            grant.expires_at = Some(now - 1_000);
        }
    }

    /// Whether it is an app's own token.
    pub(crate) fn is_of_app(&self, token: &str) -> bool {
        self.grants.get(token).is_some_and(|grant| grant.of_app)
    }

    /// The app a bearer token belongs to.
    pub(crate) fn check(&self, token: &str, now: i64) -> Result<u64, Refused> {
        let grant = self.grants.get(token).ok_or(Refused::Unknown)?;
        match grant.expires_at {
            Some(at) if at <= now => Err(Refused::Expired((now - at) / 1000)),
            _ => Ok(grant.app_id),
        }
    }

    /// Answers a token request with status and body.
    pub(crate) fn issue(&mut self, content_type: &str, body: &[u8], now: i64) -> (u16, Value) {
        if !content_type.starts_with("application/x-www-form-urlencoded") {
            let message = "Unsupported Media Type: the body must be form-urlencoded";
            return (415, json!({"status": "error", "message": message}));
        }
        let form = parse_form(&String::from_utf8_lossy(body));
        let field = |key: &str| form.get(key).map_or("", String::as_str);
        if field("client_id") != self.client_id {
            return refusal("invalid_client", "BAD_CLIENT_ID", "missing or unknown client id");
        }
        if field("client_secret") != self.client_secret {
            return refusal(
                "invalid_client",
                "BAD_CLIENT_SECRET",
                "missing or invalid client secret",
            );
        }
        let refresh = match field("grant_type") {
            "refresh_token" if field("refresh_token") == self.refresh_token => true,
            "refresh_token" => {
                return refusal("invalid_grant", "BAD_REFRESH_TOKEN", "missing or invalid refresh token");
            }
            "client_credentials" => false,
            _ => return refusal("unsupported_grant_type", "BAD_GRANT_TYPE", "unknown grant type"),
        };
        self.issued += 1;
        let token = format!("access-{}-{now}", self.issued);
        let grant = Grant {
            app_id: self.app_id,
            expires_at: Some(now.saturating_add(self.ttl_ms)),
            of_app: !refresh,
        };
        self.grants.insert(token.clone(), grant);
        let scopes = self.scopes.clone().unwrap_or_else(|| vec!["oauth".to_owned()]);
        let mut reply = json!({"token_type": "bearer", "access_token": token, "expires_in": self.ttl_ms / 1000,
            "hub_id": self.portal_id, "user_id": 77, "scopes": scopes, "token_use": "access_token"});
        if refresh {
            if let Some(next) = self.next_refresh_token.take() {
                self.refresh_token = next;
            }
            reply["refresh_token"] = json!(self.refresh_token);
        }
        (200, reply)
    }
}

fn refusal(error: &str, status: &str, message: &str) -> (u16, Value) {
    let body = json!({"error": error, "error_description": message, "status": status, "message": message});
    (400, body)
}
