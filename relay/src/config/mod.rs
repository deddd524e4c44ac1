//! The relay's settings: one TOML file, each key also an environment variable, secrets also from files.
//!
//! Order, later wins: built-in default, systemd credential, file, environment variable. A wrong or unknown key stops the
//! start with the key's full name and what was expected. Error texts never carry a value, because a value may be a secret.

mod load;
pub(crate) mod validate;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

/// Where `--config` points when it is not given.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/hubspot-relay/relay.toml";

/// Exit code for a configuration that is refused (`EX_CONFIG` of sysexits.h), so that systemd can be told not to retry.
pub const EXIT_CONFIG: u8 = 78;

/// What is wrong with the configuration: the key, and what was expected of it.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {key}: {problem}")]
pub struct ConfigError {
    /// The key's full name, such as `hubspot.access_token`, or the file for a fault of the file as a whole.
    pub key: String,
    /// What was expected and how to mend it; never a value.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

/// All settings, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The PostgreSQL database that has the extension.
    pub database: Database,
    /// HubSpot's API and the account.
    pub hubspot: Hubspot,
    /// Intake of HubSpot's webhooks.
    #[serde(default)]
    pub webhook: Webhook,
    /// Pull intake for databases no webhook can reach.
    #[serde(default)]
    pub poll: Poll,
    /// The private listener: health and metrics.
    #[serde(default)]
    pub admin: Admin,
    /// Times of the incremental sync and of reconciliation.
    #[serde(default)]
    pub schedule: Schedule,
    /// Waits between tries.
    #[serde(default)]
    pub retry: Retry,
    /// How long a value read from HubSpot may be used again.
    #[serde(default)]
    pub cache: Cache,
    /// First loads.
    #[serde(default)]
    pub backfill: Backfill,
}

/// `[database]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// A libpq URL. With several hosts the one that accepts writes is used. Secret, because it may hold a password.
    pub url: SecretString,
    /// Connections for calls, besides the one that listens. Default 4, at least 1.
    #[serde(default = "four")]
    pub pool_size: u32,
}

/// `[hubspot]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hubspot {
    /// Scheme and host of the API. Plain `http` is accepted for loopback addresses only.
    #[serde(default = "default_base_url")]
    pub base_url: String,
    /// Family of API paths: `2026-03` (default), `v3`, `2025-09` or `2026-09`.
    #[serde(default = "default_api_version")]
    pub api_version: String,
    /// Token of a private app, project app or service key.
    pub access_token: Option<SecretString>,
    /// File with the token; read again when HubSpot refuses it, so that a rotated token is picked up without a restart.
    pub access_token_file: Option<PathBuf>,
    /// OAuth: the app's client id. With `client_secret` and `refresh_token` instead of an access token.
    pub client_id: Option<String>,
    /// OAuth: the app's client secret.
    pub client_secret: Option<SecretString>,
    /// File with the client secret; read again when it changes.
    pub client_secret_file: Option<PathBuf>,
    /// OAuth: the refresh token of the app's installation in the portal.
    pub refresh_token: Option<SecretString>,
    /// File with the refresh token. The relay replaces it when HubSpot gives another one, so the folder must be writable.
    pub refresh_token_file: Option<PathBuf>,
    /// The app's id at HubSpot.
    pub app_id: Option<i64>,
    /// The portal this relay is for. When missing, HubSpot is asked which portal the token belongs to.
    pub portal_id: Option<i64>,
    /// Most requests in any ten seconds, default 100; `"auto"` follows the allowance HubSpot's answers name.
    #[serde(default)]
    pub requests_per_10s: RequestsPer10s,
    /// Most requests in any 24 hours; missing means no limit of our own.
    pub requests_per_day: Option<u64>,
    /// Most search requests a second, default 4: the incremental run and polling search.
    #[serde(default = "four")]
    pub search_per_second: u32,
    /// How long to wait for an answer, default 10s; more than 0 and less than 25s, because a claim lasts 30s.
    #[serde(default = "ten_seconds", with = "humantime_serde")]
    pub timeout: Duration,
}

/// `hubspot.requests_per_10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestsPer10s {
    /// Follow `X-HubSpot-RateLimit-Max`; 100 until the first answer.
    Auto,
    /// This many.
    Fixed(u32),
}

impl Default for RequestsPer10s {
    fn default() -> Self {
        Self::Fixed(100)
    }
}

impl<'de> Deserialize<'de> for RequestsPer10s {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = RequestsPer10s;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number from 1 to 10000, or \"auto\"")
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Self::Value, E> {
                match u32::try_from(v) {
                    Ok(n @ 1..=10_000) => Ok(RequestsPer10s::Fixed(n)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Signed(v), &self)),
                }
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Self::Value, E> {
                self.visit_i64(i64::try_from(v).unwrap_or(-1))
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Self::Value, E> {
                match v.trim() {
                    "auto" => Ok(RequestsPer10s::Auto),
                    text => match text.parse::<i64>() {
                        Ok(n) => self.visit_i64(n),
                        Err(_) => Err(E::invalid_value(serde::de::Unexpected::Str(v), &self)),
                    },
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `[webhook]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhook {
    /// Address of the public listener, default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Scheme, host and path prefix under which HubSpot reaches the listener, without `/v1/…`. Signatures v2 and v3 cover
    /// the URL, so set this behind a proxy. When missing, it is taken from the request's Host header.
    pub public_url: Option<String>,
    /// The app's client secret, with which HubSpot signs. Without it every webhook is refused with 503.
    pub client_secret: Option<SecretString>,
    /// File with the client secret.
    pub client_secret_file: Option<PathBuf>,
    /// Signature forms that are accepted: `v3`, `v2`, `v1` (default) and `sha256` (the `sha256=<hex>` form, which HubSpot
    /// itself does not send).
    pub accept_signatures: Vec<SignatureForm>,
    /// Oldest accepted time stamp of a v3 signature, default 5m.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            client_secret: None,
            client_secret_file: None,
            accept_signatures: vec![SignatureForm::V3, SignatureForm::V2, SignatureForm::V1],
            max_age: Duration::from_secs(300),
        }
    }
}

/// A form of webhook signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureForm {
    /// HMAC over method, URL, body and time stamp.
    V3,
    /// SHA-256 over secret, method, URL and body.
    V2,
    /// SHA-256 over secret and body.
    V1,
    /// `X-HubSpot-Signature: sha256=<hex HMAC of the body>`.
    Sha256,
}

/// `[poll]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Poll {
    /// `off` (default), `search` or `journal`.
    pub mode: PollMode,
    /// Time between two looks, at least 1s. Default 1m for `search`, 5s for `journal`.
    #[serde(with = "humantime_serde")]
    pub interval: Option<Duration>,
}

impl Poll {
    /// The time between two looks at HubSpot: as set, or what suits the mode.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(match self.mode {
            PollMode::Journal => Duration::from_secs(5),
            PollMode::Off | PollMode::Search => Duration::from_secs(60),
        })
    }
}

/// `poll.mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PollMode {
    /// No polling: webhooks bring HubSpot's changes.
    #[default]
    Off,
    /// HubSpot's search by the time of the last change, for databases that no webhook can reach.
    Search,
    /// HubSpot's webhooks journal, for an OAuth app whose database no webhook can reach.
    Journal,
}

/// `[admin]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address of the private listener, default `127.0.0.1:8081`.
    pub listen: SocketAddr,
    /// Token of the admin pages; health and metrics need none.
    pub token: Option<SecretString>,
    /// File with that token.
    pub token_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            token: None,
            token_file: None,
        }
    }
}

/// `[schedule]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Time between two incremental runs, default 15m; 0s: none.
    #[serde(with = "humantime_serde")]
    pub incremental: Duration,
    /// When full reconciliations begin: a cron expression of five fields, default `0 2 * * *`; `off`: never by themselves.
    pub reconcile: String,
    /// Time zone of that expression, such as `Europe/Zurich`. Default `UTC`.
    pub time_zone: String,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            incremental: Duration::from_secs(15 * 60),
            reconcile: "0 2 * * *".to_owned(),
            time_zone: "UTC".to_owned(),
        }
    }
}

/// `[retry]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries after the first; 0 means none. Default 3.
    pub max_retries: u32,
    /// Wait before the first retry, default 1s.
    #[serde(with = "humantime_serde")]
    pub initial_delay: Duration,
    /// Longest wait, default 30s.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    /// Each wait is this many times the one before, default 2.0, at least 1.0.
    pub backoff_factor: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_retries: 3,
            initial_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(30),
            backoff_factor: 2.0,
        }
    }
}

/// `[cache]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long a value known from HubSpot spares a read before a write, default 5m; 0s reads every time.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
        }
    }
}

/// `[backfill]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backfill {
    /// A backfill from HubSpot of at least this many records reads an export of HubSpot's instead of 100 records a call, where
    /// the app has the scope `crm.export`. Default 10000; 0: never.
    pub export_from: u64,
}

impl Default for Backfill {
    fn default() -> Self {
        Self { export_from: 10_000 }
    }
}

fn four<T: From<u8>>() -> T {
    T::from(4)
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn default_base_url() -> String {
    "https://api.hubapi.com".to_owned()
}

fn default_api_version() -> String {
    "2026-03".to_owned()
}
