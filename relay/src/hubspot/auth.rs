//! The token a call carries: a static one, or OAuth access tokens that are asked for with a refresh token, or (the app's own,
//! for the webhooks journal) with the app's name and secret alone.
//!
//! An access token is renewed when four fifths of its life are over, by one caller while the others wait for it or go on
//! with the old one; after HubSpot refused one, once, before the refusal counts. A refresh token that HubSpot replaced is
//! written back to its file before the new access token is used, so that a crash cannot lose it.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;

use super::error::{Failure, FailureClass, classify};
use crate::config::validate::read_secret;
use crate::config::{ConfigError, Hubspot};
use crate::telemetry::event;

/// Part of an access token's life after which it is renewed.
const RENEW_AT: f64 = 0.8;
/// HubSpot's documented life of an access token, should it not say.
const LIFE: u64 = 1800;

/// Where tokens come from.
#[derive(Debug)]
pub(crate) struct Auth {
    current: RwLock<Token>,
    oauth: Option<OAuth>,
    file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct Token {
    text: Option<SecretString>,
    /// Renewed from then on; none for a static token.
    renew_at: Option<Instant>,
    expires_at: Option<Instant>,
}

#[derive(Debug)]
struct OAuth {
    url: String,
    client_id: String,
    client_secret: RwLock<SecretString>,
    client_secret_file: Option<PathBuf>,
    grant: Grant,
    /// One renewal at a time.
    renewing: tokio::sync::Mutex<()>,
}

/// What a token is asked for with, beside the app's name and secret.
#[derive(Debug)]
enum Grant {
    /// For an account that installed the app.
    Refresh {
        token: RwLock<SecretString>,
        file: Option<PathBuf>,
    },
    /// For the app itself, with these scopes.
    App { scopes: &'static str },
}

/// What the token endpoint answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Issued {
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
    status: Option<String>,
    error: Option<String>,
}

impl Auth {
    /// For the settings, which were checked; `token_url` is HubSpot's token endpoint.
    pub(crate) fn new(config: &Hubspot, token_url: String) -> Result<Self, ConfigError> {
        let oauth = match (&config.client_id, &config.client_secret, &config.refresh_token) {
            (Some(client_id), Some(client_secret), Some(refresh_token)) => Some(OAuth {
                url: token_url,
                client_id: client_id.clone(),
                client_secret: RwLock::new(client_secret.clone()),
                client_secret_file: config.client_secret_file.clone(),
                grant: Grant::Refresh {
                    token: RwLock::new(refresh_token.clone()),
                    file: config.refresh_token_file.clone(),
                },
                renewing: tokio::sync::Mutex::new(()),
            }),
            _ => None,
        };
        if oauth.is_none() && config.access_token.is_none() {
            return Err(ConfigError::new(
                "hubspot.access_token",
                "this, hubspot.access_token_file, or hubspot.client_id with hubspot.refresh_token is required",
            ));
        }
        let current = Token {
            text: config.access_token.clone(),
            renew_at: None,
            expires_at: None,
        };
        Ok(Self {
            current: RwLock::new(current),
            oauth,
            file: config.access_token_file.clone(),
        })
    }

    /// The app's own token; none for an account's static token, which belongs to no OAuth app.
    pub(crate) fn of_app(config: &Hubspot, token_url: String, scopes: &'static str) -> Option<Self> {
        let (client_id, client_secret) = config.client_id.as_ref().zip(config.client_secret.as_ref())?;
        Some(Self {
            current: RwLock::new(Token {
                text: None,
                renew_at: None,
                expires_at: None,
            }),
            oauth: Some(OAuth {
                url: token_url,
                client_id: client_id.clone(),
                client_secret: RwLock::new(client_secret.clone()),
                client_secret_file: config.client_secret_file.clone(),
                grant: Grant::App { scopes },
                renewing: tokio::sync::Mutex::new(()),
            }),
            file: None,
        })
    }

    /// The header of a call, with a token that is valid as far as anybody knows.
    pub(crate) async fn header(&self, http: &reqwest::Client, timeout: Duration) -> Result<HeaderValue, Failure> {
        if let Some(oauth) = &self.oauth {
            let now = Instant::now();
            let token = self.token();
            let dead = token.text.is_none() || token.expires_at.is_some_and(|at| at <= now);
            if dead || token.renew_at.is_some_and(|at| at <= now) {
                self.renew(oauth, &token, dead, http, timeout).await?;
            }
        }
        let token = self.token();
        let text = token.text.as_ref().map_or("", |text| text.expose_secret());
        let mut header = HeaderValue::from_str(&format!("Bearer {text}"))
            .map_err(|_| failure(FailureClass::Auth, None, "the token has characters that no token has"))?;
        header.set_sensitive(true);
        Ok(header)
    }

    /// HubSpot refused the token that `header` carried. Says whether another one can be had without a person: asked for
    /// with the refresh token, or found in the file, where a rotation has put it.
    pub(crate) fn refused(&self, header: &HeaderValue) -> bool {
        if self.file.is_some() {
            self.reload();
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let carried = current
            .text
            .as_ref()
            .is_some_and(|text| header.as_bytes().strip_prefix(b"Bearer ") == Some(text.expose_secret().as_bytes()));
        if carried && self.oauth.is_some() {
            current.text = None;
        }
        self.oauth.is_some() || !carried
    }

    /// Reads secrets that stand in files again; says whether one of them changed.
    pub(crate) fn reload(&self) -> bool {
        let mut changed = false;
        if let Some(file) = &self.file
            && let Some(new) = read(file, "hubspot.access_token_file")
        {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            changed |= current.text.as_ref().is_none_or(|old| differs(old, &new));
            current.text = Some(new);
        }
        if let Some(oauth) = &self.oauth {
            let secret = (
                &oauth.client_secret_file,
                "hubspot.client_secret_file",
                &oauth.client_secret,
            );
            let refresh = match &oauth.grant {
                Grant::Refresh { token, file } => Some((file, "hubspot.refresh_token_file", token)),
                Grant::App { .. } => None,
            };
            for (file, key, place) in std::iter::once(secret).chain(refresh) {
                let Some(new) = file.as_ref().and_then(|file| read(file, key)) else {
                    continue;
                };
                let mut place = place.write().unwrap_or_else(PoisonError::into_inner);
                changed |= differs(&place, &new);
                *place = new;
            }
        }
        changed
    }

    fn token(&self) -> Token {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn renew(
        &self,
        oauth: &OAuth,
        seen: &Token,
        dead: bool,
        http: &reqwest::Client,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let _one = match oauth.renewing.try_lock() {
            Ok(one) => one,
            // Somebody is at it, and the old one still serves.
            Err(_) if !dead => return Ok(()),
            Err(_) => oauth.renewing.lock().await,
        };
        if self.token().renew_at != seen.renew_at || (dead && self.token().text.is_some() && seen.text.is_none()) {
            return Ok(());
        }
        match oauth.ask(http, timeout).await {
            Ok(token) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = token;
                tracing::info!(event = event::TOKEN_RENEWED, "HubSpot gave a new access token");
                Ok(())
            }
            Err(error) if dead => Err(error),
            Err(error) => {
                tracing::warn!(
                    event = event::TOKEN_UNRENEWED,
                    status = error.status,
                    "no new access token could be had; the old one still serves"
                );
                Ok(())
            }
        }
    }
}

impl OAuth {
    async fn ask(&self, http: &reqwest::Client, timeout: Duration) -> Result<Token, Failure> {
        let form = {
            let secret = self.client_secret.read().unwrap_or_else(PoisonError::into_inner);
            let app = [
                ("client_id", self.client_id.as_str()),
                ("client_secret", secret.expose_secret()),
            ];
            match &self.grant {
                Grant::Refresh { token, .. } => {
                    let refresh = token.read().unwrap_or_else(PoisonError::into_inner);
                    let with = [
                        ("grant_type", "refresh_token"),
                        ("refresh_token", refresh.expose_secret()),
                    ];
                    form(app.iter().chain(&with))
                }
                Grant::App { scopes } => form(
                    app.iter()
                        .chain(&[("grant_type", "client_credentials"), ("scope", scopes)]),
                ),
            }
        };
        let asked_at = Instant::now();
        let request = http
            .post(&self.url)
            .timeout(timeout)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        // Nothing of the call itself has been sent yet.
        let answer = request.send().await.map_err(|_| {
            failure(
                FailureClass::Unreachable,
                None,
                "HubSpot's token endpoint cannot be reached",
            )
        })?;
        let status = answer.status();
        let issued: Issued = answer
            .bytes()
            .await
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let Some(text) = issued.access_token.filter(|_| status.is_success()) else {
            let class = match classify(status.as_u16()) {
                FailureClass::Invalid | FailureClass::NotFound | FailureClass::Conflict => FailureClass::Auth,
                FailureClass::RateLimit => FailureClass::RateLimit,
                FailureClass::Auth => FailureClass::Auth,
                _ => FailureClass::Unreachable,
            };
            let word = issued.status.or(issued.error).unwrap_or_else(|| "no reason".to_owned());
            let with = match self.grant {
                Grant::Refresh { .. } => "the refresh token",
                Grant::App { .. } => "the app itself",
            };
            let message = format!("HubSpot gives no access token for {with} ({word})");
            return Err(failure(class, Some(status.as_u16()), &message));
        };
        if let Some(new) = issued.refresh_token {
            self.keep(SecretString::from(new));
        }
        let life = Duration::from_secs(issued.expires_in.unwrap_or(LIFE));
        Ok(Token {
            text: Some(SecretString::from(text)),
            renew_at: Some(asked_at + life.mul_f64(RENEW_AT)),
            expires_at: Some(asked_at + life),
        })
    }

    /// Takes a refresh token that HubSpot gave: into the file first, where there is one.
    fn keep(&self, new: SecretString) {
        let Grant::Refresh { token, file } = &self.grant else {
            return;
        };
        let mut place = token.write().unwrap_or_else(PoisonError::into_inner);
        if !differs(&place, &new) {
            return;
        }
        let kept = match file {
            Some(file) => write_secret(file, &new),
            None => Err(std::io::Error::other(
                "hubspot.refresh_token stands in the settings, not in a file",
            )),
        };
        if let Err(error) = kept {
            tracing::error!(
                event = event::REFRESH_TOKEN_NOT_KEPT,
                %error,
                "HubSpot replaced the refresh token, and the new one is in this process's memory alone: set hubspot.refresh_token_file to a file the relay may write"
            );
        }
        *place = new;
    }
}

fn differs(old: &SecretString, new: &SecretString) -> bool {
    old.expose_secret() != new.expose_secret()
}

fn read(file: &Path, key: &str) -> Option<SecretString> {
    match read_secret(key, file) {
        Ok(secret) => Some(secret),
        Err(error) => {
            tracing::warn!(event = event::TOKEN_UNREADABLE, %error, "a secret's file cannot be read");
            None
        }
    }
}

/// Replaces a secret's file in one step, readable by its owner alone.
fn write_secret(file: &Path, secret: &SecretString) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let new = file.with_extension("new");
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    out.write_all(secret.expose_secret().as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&new, file)
}

/// A form, urlencoded.
fn form<'a>(fields: impl Iterator<Item = &'a (&'a str, &'a str)>) -> String {
    let escape = |text: &str| {
        text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
            out
        })
    };
    let pairs: Vec<String> = fields
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    pairs.join("&")
}

fn failure(class: FailureClass, status: Option<u16>, message: &str) -> Failure {
    Failure::new("token", class, status, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secrets_file_is_replaced_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("refresh");
        std::fs::write(&file, "old").unwrap();
        write_secret(&file, &SecretString::from("new".to_owned())).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn forms_are_escaped() {
        assert_eq!(form([("a", "x y&z"), ("b", "na1-~")].iter()), "a=x%20y%26z&b=na1-~");
    }
}
