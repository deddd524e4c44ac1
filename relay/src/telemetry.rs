//! Logging. The message can be read alone; `event` is the stable name that alerts match.
//!
//! Never logged: tokens, secrets, database URLs, property values, request and answer bodies, HubSpot's messages (they
//! quote values). Names of object types, properties, records and counts are.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Stable names in the field `event`.
pub mod event {
    /// The relay has bound its listeners.
    pub const STARTED: &str = "started";
    /// A stop was asked for.
    pub const STOPPING: &str = "stopping";
    /// Everything has ended.
    pub const STOPPED: &str = "stopped";
    /// A setting has no effect in this version.
    pub const CONFIG_IGNORED: &str = "config_ignored";
    /// A call to the database failed.
    pub const DATABASE_FAILED: &str = "database_failed";
    /// The database answers again.
    pub const DATABASE_BACK: &str = "database_back";
    /// The database is armed for this portal, or no longer.
    pub const ARMED_CHANGED: &str = "armed_changed";
    /// The database was paused or resumed.
    pub const PAUSED_CHANGED: &str = "paused_changed";
    /// The LISTEN connection stands.
    pub const LISTENING: &str = "listening";
    /// The LISTEN connection was lost.
    pub const LISTENER_LOST: &str = "listener_lost";
    /// A call to HubSpot failed.
    pub const CALL_FAILED: &str = "call_failed";
    /// HubSpot refuses the token or a scope: nothing is sent until it accepts.
    pub const AUTH_FAILED: &str = "auth_failed";
    /// HubSpot accepts the token again.
    pub const AUTH_RESTORED: &str = "auth_restored";
    /// HubSpot is out: nothing is sent but probes.
    pub const CIRCUIT_OPENED: &str = "circuit_opened";
    /// HubSpot is back.
    pub const CIRCUIT_CLOSED: &str = "circuit_closed";
    /// HubSpot gave a new access token for the refresh token.
    pub const TOKEN_RENEWED: &str = "token_renewed";
    /// No new access token could be had while the old one still serves.
    pub const TOKEN_UNRENEWED: &str = "token_unrenewed";
    /// HubSpot replaced the refresh token and it could not be written to a file.
    pub const REFRESH_TOKEN_NOT_KEPT: &str = "refresh_token_not_kept";
    /// HubSpot has a property or option now for want of which it refused values.
    pub const REFUSED_RELEASED: &str = "refused_released";
    /// Files with secrets were read again.
    pub const SECRETS_RELOADED: &str = "secrets_reloaded";
    /// The token file cannot be read.
    pub const TOKEN_UNREADABLE: &str = "token_unreadable";
    /// The token belongs to another portal than configured.
    pub const PORTAL_MISMATCH: &str = "portal_mismatch";
    /// Records were refused by HubSpot.
    pub const RECORDS_REFUSED: &str = "records_refused";
    /// Records used up their retries.
    pub const RECORDS_EXHAUSTED: &str = "records_exhausted";
    /// A page of records was delivered.
    pub const DELIVERED: &str = "delivered";
    /// Outcomes could not be recorded; the leases will expire and the records be looked at again.
    pub const OUTCOMES_LOST: &str = "outcomes_lost";
    /// Webhook events were stored.
    pub const WEBHOOK_STORED: &str = "webhook_stored";
    /// A webhook request was refused.
    pub const WEBHOOK_REFUSED: &str = "webhook_refused";
    /// Stored events were applied.
    pub const APPLIED: &str = "applied";
    /// Expired leases were rescued or old rows removed.
    pub const MAINTAINED: &str = "maintained";
    /// A reconciliation run was taken, or ended.
    pub const RECONCILIATION: &str = "reconciliation";
    /// An alert began; `alert` has its name.
    pub const ALERT_RAISED: &str = "alert_raised";
    /// An alert ended.
    pub const ALERT_CLEARED: &str = "alert_cleared";
    /// There is no admin page: no token is configured.
    pub const PAGE_OFF: &str = "page_off";
    /// The admin page listens beyond loopback.
    pub const PAGE_EXPOSED: &str = "page_exposed";
    /// Somebody logged in on the admin page.
    pub const PAGE_LOGIN: &str = "page_login";
    /// A wrong token was given on the admin page.
    pub const PAGE_LOGIN_REFUSED: &str = "page_login_refused";
    /// A decision was made on the admin page.
    pub const PAGE_ACTION: &str = "page_action";
    /// A screen of the admin page could not be rendered.
    pub const PAGE_FAILED: &str = "page_failed";
    /// Entries of HubSpot's webhooks journal may have been missed: everything is compared.
    pub const JOURNAL_GAP: &str = "journal_gap";
    /// A part of the relay ended on its own.
    pub const TASK_FAILED: &str = "task_failed";
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. `filter` is a `tracing` filter such as `info` or `hubspot_relay=debug`.
///
/// # Errors
/// When the filter cannot be read or logging has been started already.
pub fn init(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|_| anyhow::anyhow!("HUBSPOT_RELAY_LOG: expected a filter such as info or hubspot_relay=debug"))?;
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            registry
                .with(
                    tracing_subscriber::fmt::layer()
                        .with_writer(std::io::stderr)
                        .with_ansi(false),
                )
                .try_init()?;
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(std::io::stderr);
            registry.with(layer).try_init()?;
        }
    }
    Ok(())
}
