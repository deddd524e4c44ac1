//! Checks that go beyond one key's type, and secrets that stand in files.

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{Config, ConfigError, PollMode, SignatureForm};
use crate::hubspot::paths::ApiVersion;

/// Shorter ones can be guessed.
pub(crate) const SHORTEST_ADMIN_TOKEN: usize = 16;
/// A claim lasts this long, so a request must be answered well within it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(25);

/// Shortest time between two runs: more often than HubSpot's index changes is of no use.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

impl Config {
    /// Checks everything and reads the secrets that stand in files.
    pub(super) fn validate(&mut self) -> Result<(), ConfigError> {
        self.check_database()?;
        self.check_hubspot()?;
        self.check_webhook()?;
        self.check_times()?;
        either(
            "admin.token",
            self.admin.token.is_some(),
            self.admin.token_file.is_some(),
        )?;
        if let Some(file) = &self.admin.token_file {
            self.admin.token = Some(read_secret("admin.token_file", file)?);
        }
        if self
            .admin
            .token
            .as_ref()
            .is_some_and(|token| token.expose_secret().len() < SHORTEST_ADMIN_TOKEN)
        {
            return Err(ConfigError::new(
                "admin.token",
                "expected at least 16 characters, such as `openssl rand -hex 24` gives: it lets people change customers' values",
            ));
        }
        if !self.retry.backoff_factor.is_finite() || self.retry.backoff_factor < 1.0 {
            return Err(ConfigError::new(
                "retry.backoff_factor",
                "expected a number of at least 1.0",
            ));
        }
        if self.retry.max_delay < self.retry.initial_delay {
            return Err(ConfigError::new(
                "retry.max_delay",
                "expected at least retry.initial_delay",
            ));
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        if self.poll.mode == PollMode::Journal && self.hubspot.client_id.is_none() {
            return Err(ConfigError::new(
                "poll.mode",
                "HubSpot's webhooks journal is for OAuth apps: \"journal\" needs hubspot.client_id, client_secret and refresh_token; expected \"search\" or \"off\" with an access token",
            ));
        }
        if self.poll.interval() < SHORTEST_INTERVAL {
            return Err(ConfigError::new("poll.interval", "expected at least 1s"));
        }
        let schedule = &self.schedule;
        if !schedule.incremental.is_zero() && schedule.incremental < SHORTEST_INTERVAL {
            return Err(ConfigError::new(
                "schedule.incremental",
                "expected at least 1s, or 0s for no incremental runs",
            ));
        }
        if schedule.reconcile != "off" && crate::reconcile::schedule::cron(&schedule.reconcile).is_none() {
            return Err(ConfigError::new(
                "schedule.reconcile",
                "expected a cron expression such as \"0 2 * * *\", or \"off\"",
            ));
        }
        if jiff::tz::TimeZone::get(&schedule.time_zone).is_err() {
            return Err(ConfigError::new(
                "schedule.time_zone",
                "expected the name of a time zone such as Europe/Zurich or UTC",
            ));
        }
        Ok(())
    }

    fn check_database(&self) -> Result<(), ConfigError> {
        if self.database.pool_size == 0 {
            return Err(ConfigError::new("database.pool_size", "expected at least 1"));
        }
        crate::db::pool::parse_url(&self.database.url)?;
        Ok(())
    }

    fn check_hubspot(&mut self) -> Result<(), ConfigError> {
        let hubspot = &mut self.hubspot;
        let token_file = hubspot.access_token_file.clone();
        for (key, plain, file) in [
            ("hubspot.access_token", &mut hubspot.access_token, &token_file),
            (
                "hubspot.client_secret",
                &mut hubspot.client_secret,
                &hubspot.client_secret_file,
            ),
            (
                "hubspot.refresh_token",
                &mut hubspot.refresh_token,
                &hubspot.refresh_token_file,
            ),
        ] {
            either(key, plain.is_some(), file.is_some())?;
            if let Some(file) = file {
                *plain = Some(read_secret(&format!("{key}_file"), file)?);
            }
            if plain.as_ref().is_some_and(|secret| !is_header_safe(secret)) {
                return Err(ConfigError::new(key, "expected a token without blanks"));
            }
        }
        let oauth = [
            ("hubspot.client_id", hubspot.client_id.is_some()),
            ("hubspot.client_secret", hubspot.client_secret.is_some()),
            ("hubspot.refresh_token", hubspot.refresh_token.is_some()),
        ];
        match (hubspot.access_token.is_some(), oauth.iter().any(|(_, set)| *set)) {
            (true, true) => {
                return Err(ConfigError::new(
                    "hubspot.access_token",
                    "set either an access token, or hubspot.client_id, client_secret and refresh_token for OAuth",
                ));
            }
            (false, true) => {
                if let Some((key, _)) = oauth.iter().find(|(_, set)| !set) {
                    return Err(ConfigError::new(*key, "is required for OAuth, beside the other two"));
                }
            }
            (true, false) => {}
            (false, false) => {
                return Err(ConfigError::new(
                    "hubspot.access_token",
                    "this, hubspot.access_token_file, or hubspot.client_id, client_secret and refresh_token are required",
                ));
            }
        }
        let url = reqwest::Url::parse(&hubspot.base_url)
            .map_err(|_| ConfigError::new("hubspot.base_url", "expected a URL such as https://api.hubapi.com"))?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            _ => {
                return Err(ConfigError::new(
                    "hubspot.base_url",
                    "expected https (http is for loopback addresses only)",
                ));
            }
        }
        ApiVersion::parse(&hubspot.api_version).ok_or_else(|| {
            ConfigError::new(
                "hubspot.api_version",
                format!("expected one of {}", ApiVersion::NAMES.join(", ")),
            )
        })?;
        if hubspot.timeout.is_zero() || hubspot.timeout > LONGEST_TIMEOUT {
            return Err(ConfigError::new(
                "hubspot.timeout",
                "expected more than 0s and at most 25s",
            ));
        }
        if hubspot.requests_per_day == Some(0) {
            return Err(ConfigError::new("hubspot.requests_per_day", "expected at least 1"));
        }
        if hubspot.search_per_second == 0 {
            return Err(ConfigError::new("hubspot.search_per_second", "expected at least 1"));
        }
        Ok(())
    }

    fn check_webhook(&mut self) -> Result<(), ConfigError> {
        let webhook = &mut self.webhook;
        let file = webhook.client_secret_file.clone();
        either("webhook.client_secret", webhook.client_secret.is_some(), file.is_some())?;
        if let Some(file) = &file {
            webhook.client_secret = Some(read_secret("webhook.client_secret_file", file)?);
        }
        if webhook
            .client_secret
            .as_ref()
            .is_some_and(|secret| secret.expose_secret().is_empty())
        {
            return Err(ConfigError::new(
                "webhook.client_secret",
                "expected a secret that is not empty",
            ));
        }
        if webhook.accept_signatures.is_empty() {
            return Err(ConfigError::new(
                "webhook.accept_signatures",
                "expected at least one of v3, v2, v1, sha256",
            ));
        }
        if webhook.accept_signatures.contains(&SignatureForm::V3) && webhook.max_age.is_zero() {
            return Err(ConfigError::new("webhook.max_age", "expected more than 0s"));
        }
        if let Some(url) = &webhook.public_url {
            let good = reqwest::Url::parse(url)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none());
            if !good {
                let problem = "expected a URL such as https://sync.example.com, without a query";
                return Err(ConfigError::new("webhook.public_url", problem));
            }
        }
        Ok(())
    }
}

fn either(key: &str, plain: bool, file: bool) -> Result<(), ConfigError> {
    if plain && file {
        return Err(ConfigError::new(
            key,
            format!("set either {key} or {key}_file, not both"),
        ));
    }
    Ok(())
}

fn is_header_safe(token: &SecretString) -> bool {
    let text = token.expose_secret();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Reads a secret from a file, without the white space around it.
pub(crate) fn read_secret(key: &str, file: &Path) -> Result<SecretString, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError::new(key, format!("{} cannot be read: {error}", file.display())))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(ConfigError::new(key, format!("{} is empty", file.display())));
    }
    Ok(SecretString::from(text.to_owned()))
}
