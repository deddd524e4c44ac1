//! Secrets that stand in files are read again when a file changes, and at SIGHUP: a rotation needs no restart.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::config::Config;
use crate::config::validate::{SHORTEST_ADMIN_TOKEN, read_secret};
use crate::gate::Gate;
use crate::hubspot::client::Client;
use crate::telemetry::event;
use crate::web::webhook::Secrets;

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);

/// What a file looked like: a rename into place changes at least one of them.
type Look = Option<(SystemTime, u64, u64)>;

/// The watched files and who uses what is in them.
pub(crate) struct Watch {
    client: Client,
    gate: Gate,
    webhook: Arc<Secrets>,
    webhook_file: Option<PathBuf>,
    page: Option<(admin::Token, PathBuf)>,
    files: Vec<PathBuf>,
}

impl Watch {
    /// For the settings.
    pub(crate) fn new(
        config: &Config,
        client: Client,
        gate: Gate,
        webhook: Arc<Secrets>,
        page: Option<admin::Token>,
    ) -> Self {
        let files = [
            &config.hubspot.access_token_file,
            &config.hubspot.client_secret_file,
            &config.hubspot.refresh_token_file,
            &config.webhook.client_secret_file,
            &config.admin.token_file,
        ];
        Self {
            client,
            gate,
            webhook,
            webhook_file: config.webhook.client_secret_file.clone(),
            page: page.zip(config.admin.token_file.clone()),
            files: files.into_iter().flatten().cloned().collect(),
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
        let mut seen = self.look();
        loop {
            let asked = async {
                match &mut hangup {
                    Some(signal) => drop(signal.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = asked => {
                    seen = self.look();
                    self.reload();
                }
                () = tokio::time::sleep(LOOK), if !self.files.is_empty() => {
                    let now = self.look();
                    if now != seen {
                        seen = now;
                        self.reload();
                    }
                }
            }
        }
    }

    fn look(&self) -> BTreeMap<&PathBuf, Look> {
        use std::os::unix::fs::MetadataExt as _;
        let one = |file: &PathBuf| {
            let data = std::fs::metadata(file).ok()?;
            Some((data.modified().ok()?, data.len(), data.ino()))
        };
        self.files.iter().map(|file| (file, one(file))).collect()
    }

    fn reload(&self) {
        let mut changed = self.client.reload_token();
        if changed {
            self.gate.hurry();
        }
        if let Some(file) = &self.webhook_file {
            match read_secret("webhook.client_secret_file", file) {
                Ok(secret) => changed |= self.webhook.replace(secret),
                Err(error) => tracing::warn!(event = event::TOKEN_UNREADABLE, %error, "a secret's file cannot be read"),
            }
        }
        if let Some((token, file)) = &self.page {
            match read_secret("admin.token_file", file) {
                Ok(secret) if secret.expose_secret().len() >= SHORTEST_ADMIN_TOKEN => changed |= token.replace(secret),
                Ok(_) => tracing::warn!(
                    event = event::TOKEN_UNREADABLE,
                    key = "admin.token_file",
                    "the file holds fewer than 16 characters: the former token stays"
                ),
                Err(error) => tracing::warn!(event = event::TOKEN_UNREADABLE, %error, "a secret's file cannot be read"),
            }
        }
        tracing::info!(
            event = event::SECRETS_RELOADED,
            changed,
            "the files with secrets were read again"
        );
    }
}

/// Whether two secrets are the same.
pub(crate) fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
