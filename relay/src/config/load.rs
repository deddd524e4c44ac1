//! Reading the settings from file, environment and systemd credentials.

use std::path::Path;

use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile};

use super::{Config, ConfigError};

/// Prefix of every environment variable that is a setting.
const PREFIX: &str = "HUBSPOT_RELAY_";

/// Variables with the prefix that are not keys of the file: logging is set up before the file is read.
const NOT_KEYS: [&str; 2] = ["HUBSPOT_RELAY_LOG", "HUBSPOT_RELAY_LOG_FORMAT"];

/// How the text of an environment variable becomes a value of the file's type.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Whole,
    Fraction,
    List,
}

/// Every key, section by section: keys contain underscores, so a variable's name alone does not say where to split.
const KEYS: &[(&str, &str, Form)] = &[
    ("database", "url", Form::Text),
    ("database", "pool_size", Form::Whole),
    ("hubspot", "base_url", Form::Text),
    ("hubspot", "api_version", Form::Text),
    ("hubspot", "access_token", Form::Text),
    ("hubspot", "access_token_file", Form::Text),
    ("hubspot", "client_id", Form::Text),
    ("hubspot", "client_secret", Form::Text),
    ("hubspot", "client_secret_file", Form::Text),
    ("hubspot", "refresh_token", Form::Text),
    ("hubspot", "refresh_token_file", Form::Text),
    ("hubspot", "app_id", Form::Whole),
    ("hubspot", "portal_id", Form::Whole),
    ("hubspot", "requests_per_10s", Form::Text),
    ("hubspot", "requests_per_day", Form::Whole),
    ("hubspot", "search_per_second", Form::Whole),
    ("hubspot", "timeout", Form::Text),
    ("webhook", "listen", Form::Text),
    ("webhook", "public_url", Form::Text),
    ("webhook", "client_secret", Form::Text),
    ("webhook", "client_secret_file", Form::Text),
    ("webhook", "accept_signatures", Form::List),
    ("webhook", "max_age", Form::Text),
    ("poll", "mode", Form::Text),
    ("poll", "interval", Form::Text),
    ("admin", "listen", Form::Text),
    ("admin", "token", Form::Text),
    ("admin", "token_file", Form::Text),
    ("schedule", "incremental", Form::Text),
    ("schedule", "reconcile", Form::Text),
    ("schedule", "time_zone", Form::Text),
    ("retry", "max_retries", Form::Whole),
    ("retry", "initial_delay", Form::Text),
    ("retry", "max_delay", Form::Text),
    ("retry", "backoff_factor", Form::Fraction),
    ("cache", "ttl", Form::Text),
    ("backfill", "export_from", Form::Whole),
];

/// Keys a systemd credential may carry: a file of that name in `$CREDENTIALS_DIRECTORY`.
const CREDENTIALS: [(&str, &str); 6] = [
    ("database", "url"),
    ("hubspot", "access_token"),
    ("hubspot", "client_secret"),
    ("hubspot", "refresh_token"),
    ("webhook", "client_secret"),
    ("admin", "token"),
];

impl Config {
    /// The full names of all keys, such as `hubspot.access_token`.
    pub fn keys() -> impl Iterator<Item = String> {
        KEYS.iter().map(|(section, key, _)| format!("{section}.{key}"))
    }

    /// Reads the settings from `file`, the process's environment and `$CREDENTIALS_DIRECTORY`.
    ///
    /// A missing file is an error unless it is the default one and the environment says everything.
    ///
    /// # Errors
    /// The first wrong key, by its full name.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && file == Path::new(super::DEFAULT_CONFIG_FILE) =>
            {
                String::new()
            }
            Err(error) => {
                return Err(ConfigError::new(
                    file.display().to_string(),
                    format!("cannot be read: {error}"),
                ));
            }
        };
        Self::from_parts(&text, &environment)
    }

    /// Settings from the text of a TOML file alone, for tests and embedding.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::from_parts(text, &[])
    }

    /// Settings from the text of a TOML file and a list of environment variables.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_parts(text: &str, environment: &[(String, String)]) -> Result<Self, ConfigError> {
        let credentials = credentials(environment)?;
        let variables = variables(environment)?;
        let mut config: Self = Figment::from(Serialized::defaults(credentials))
            .merge(Toml::string(text))
            .merge(Serialized::from(variables, Profile::Default))
            .extract()
            .map_err(|error| explain(&error))?;
        config.validate()?;
        Ok(config)
    }
}

fn insert(tree: &mut Dict, section: &str, key: &str, value: Value) {
    let entry = tree
        .entry(section.to_owned())
        .or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, dict) = entry {
        dict.insert(key.to_owned(), value);
    }
}

fn variables(environment: &[(String, String)]) -> Result<Dict, ConfigError> {
    let mut tree = Dict::new();
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if NOT_KEYS.contains(&name.as_str()) {
            continue;
        }
        let wanted = rest.to_ascii_lowercase();
        let Some((section, key, form)) = KEYS
            .iter()
            .find(|(section, key, _)| wanted == format!("{section}_{key}"))
        else {
            return Err(ConfigError::new(name, "no such setting; unset it or correct its name"));
        };
        let text = text.trim();
        let value = match form {
            Form::Text => Value::from(text),
            Form::Whole => Value::from(
                text.parse::<i64>()
                    .map_err(|_| ConfigError::new(name, "expected a whole number of at least 0"))?,
            ),
            Form::Fraction => Value::from(
                text.parse::<f64>()
                    .map_err(|_| ConfigError::new(name, "expected a number"))?,
            ),
            Form::List => Value::from(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(Value::from)
                    .collect::<Vec<_>>(),
            ),
        };
        insert(&mut tree, section, key, value);
    }
    Ok(tree)
}

fn credentials(environment: &[(String, String)]) -> Result<Dict, ConfigError> {
    let mut tree = Dict::new();
    let Some((_, folder)) = environment.iter().find(|(name, _)| name == "CREDENTIALS_DIRECTORY") else {
        return Ok(tree);
    };
    for (section, key) in CREDENTIALS {
        let file = Path::new(folder).join(format!("{section}.{key}"));
        match std::fs::read_to_string(&file) {
            Ok(text) => insert(&mut tree, section, key, Value::from(text.trim())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let problem = format!("the systemd credential cannot be read: {error}");
                return Err(ConfigError::new(format!("{section}.{key}"), problem));
            }
        }
    }
    Ok(tree)
}

/// A figment error in our words: the key's full name and what was expected, without the value.
fn explain(error: &figment::Error) -> ConfigError {
    let path = error.path.join(".");
    let (key, problem) = match &error.kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => (path, format!("expected {expected}")),
        Kind::UnknownVariant(_, known) => (path, format!("expected one of {}", known.join(", "))),
        Kind::UnknownField(name, known) => {
            // figment's path of an unknown key may or may not end in the key itself.
            let parent = path.strip_suffix(name.as_str()).unwrap_or(&path).trim_end_matches('.');
            let full = if parent.is_empty() {
                name.clone()
            } else {
                format!("{parent}.{name}")
            };
            (full, format!("no such key; known here: {}", known.join(", ")))
        }
        Kind::MissingField(name) => {
            let full = if path.is_empty() {
                name.to_string()
            } else {
                format!("{path}.{name}")
            };
            (full, "is required".to_owned())
        }
        Kind::Message(text) if path.is_empty() => {
            // A syntax error quotes the offending line, which may hold a secret: keep where and what only.
            let kept: Vec<&str> = text.lines().filter(|line| !line.contains('|')).map(str::trim).collect();
            ("file".to_owned(), kept.join(" "))
        }
        Kind::Message(_) => (
            path,
            "is not valid; see the settings table in the operator guide".to_owned(),
        ),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => (path, "is out of range".to_owned()),
        _ => (
            path,
            "has the wrong form; see the settings table in the operator guide".to_owned(),
        ),
    };
    ConfigError::new(key, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RequestsPer10s, SignatureForm};
    use secrecy::ExposeSecret;

    const MINIMAL: &str = "[database]\nurl = 'postgres://relay@localhost/app'\n[hubspot]\naccess_token = 'pat-x'\n";

    fn fault(text: &str, environment: &[(&str, &str)]) -> String {
        let environment: Vec<_> = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        match Config::from_parts(text, &environment) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = Config::from_toml(MINIMAL).unwrap();
        assert_eq!(config.database.pool_size, 4);
        assert_eq!(config.hubspot.base_url, "https://api.hubapi.com");
        assert_eq!(config.hubspot.api_version, "2026-03");
        assert_eq!(config.hubspot.requests_per_10s, RequestsPer10s::Fixed(100));
        assert_eq!(config.hubspot.timeout.as_secs(), 10);
        assert_eq!(config.webhook.listen.port(), 8080);
        assert_eq!(config.admin.listen.port(), 8081);
        assert_eq!(config.retry.max_retries, 3);
        assert_eq!(config.cache.ttl.as_secs(), 300);
    }

    #[test]
    fn environment_wins_and_every_key_has_a_variable() {
        let environment: Vec<(String, String)> = [
            ("HUBSPOT_RELAY_HUBSPOT_ACCESS_TOKEN", "12345"),
            ("HUBSPOT_RELAY_HUBSPOT_REQUESTS_PER_10S", "auto"),
            ("HUBSPOT_RELAY_WEBHOOK_ACCEPT_SIGNATURES", "v3, sha256"),
            ("HUBSPOT_RELAY_RETRY_BACKOFF_FACTOR", "1.5"),
            ("HUBSPOT_RELAY_DATABASE_POOL_SIZE", "9"),
        ]
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
        let config = Config::from_parts(MINIMAL, &environment).unwrap();
        assert_eq!(config.hubspot.access_token.as_ref().unwrap().expose_secret(), "12345");
        assert_eq!(config.hubspot.requests_per_10s, RequestsPer10s::Auto);
        assert_eq!(
            config.webhook.accept_signatures,
            [SignatureForm::V3, SignatureForm::Sha256]
        );
        assert!((config.retry.backoff_factor - 1.5).abs() < f64::EPSILON);
        assert_eq!(config.database.pool_size, 9);
    }

    #[test]
    fn faults_name_the_key_and_no_value() {
        assert!(fault("[database]\nurl='postgres://x@h/d'\n[hubspot]\n", &[]).contains("hubspot.access_token"));
        assert!(fault(&format!("{MINIMAL}tmeout = '3s'\n"), &[]).contains("hubspot.tmeout: no such key"));
        assert!(fault(&format!("{MINIMAL}timeout = 'soon'\n"), &[]).contains("hubspot.timeout"));
        assert!(fault(&format!("{MINIMAL}requests_per_10s = 0\n"), &[]).contains("hubspot.requests_per_10s"));
        assert!(fault(&format!("{MINIMAL}[retry]\nmax_retries = -1\n"), &[]).contains("retry.max_retries"));
        assert!(fault(MINIMAL, &[("HUBSPOT_RELAY_HUBSPOT_TOKEN", "s3cret")]).contains("HUBSPOT_RELAY_HUBSPOT_TOKEN"));
        assert!(
            fault(&format!("{MINIMAL}[poll]\nmode='journal'\n"), &[])
                .contains("poll.mode: HubSpot's webhooks journal is for OAuth apps")
        );
        assert!(fault(&format!("{MINIMAL}[poll]\ninterval='5ms'\n"), &[]).contains("poll.interval"));
        for (key, value) in [
            ("reconcile", "at night"),
            ("time_zone", "Mars/Olympus"),
            ("incremental", "1ms"),
        ] {
            let text = format!("{MINIMAL}[schedule]\n{key}='{value}'\n");
            assert!(fault(&text, &[]).contains(&format!("schedule.{key}")), "{key}");
        }
        assert!(fault(&format!("{MINIMAL}client_id='a'\n"), &[]).contains("hubspot.client_id"));
        for text in [
            "[hubspot]\naccess_token = \"s3cret\n",
            "[hubspot]\naccess_token = ['s3cret']\n",
        ] {
            assert!(!fault(text, &[]).contains("s3cret"), "{}", fault(text, &[]));
        }
    }

    #[test]
    fn secrets_come_from_files_and_credentials() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "pat-file\n").unwrap();
        std::fs::write(folder.path().join("hubspot.access_token"), "pat-credential\n").unwrap();
        let database = "[database]\nurl='postgres://x@h/d'\n";
        let text = format!(
            "{database}[hubspot]\naccess_token_file='{}'\n",
            folder.path().join("token").display()
        );
        assert!(Config::from_toml(&text).is_ok());
        let environment = [("CREDENTIALS_DIRECTORY".to_owned(), folder.path().display().to_string())];
        let config = Config::from_parts(&format!("{database}[hubspot]\n"), &environment).unwrap();
        assert_eq!(config.hubspot.access_token.unwrap().expose_secret(), "pat-credential");
        let gone = format!("{database}[hubspot]\naccess_token_file='/nonexistent/token'\n");
        assert!(fault(&gone, &[]).contains("hubspot.access_token_file"));
    }

    #[test]
    fn debug_output_hides_secrets() {
        let shown = format!("{:?}", Config::from_toml(MINIMAL).unwrap());
        assert!(!shown.contains("pat-x") && !shown.contains("postgres://"), "{shown}");
    }
}
