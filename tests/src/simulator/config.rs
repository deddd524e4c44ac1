//! What a simulated account looks like and how strictly or quirkily it behaves.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings a [`super::Simulator`] starts with.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Static access token that never expires.
    pub token: String,
    /// App id: the `appId` of webhooks and the `sourceId` of writes made with [`SimConfig::token`].
    pub app_id: u64,
    /// Account (hub) id.
    pub portal_id: u64,
    /// OAuth client id.
    pub client_id: String,
    /// Client secret: signs webhooks and authenticates token requests.
    pub client_secret: String,
    /// The refresh token the OAuth endpoint accepts.
    pub refresh_token: String,
    /// Lifetime of OAuth access tokens.
    pub access_token_ttl: Duration,
    /// Scopes of the app; `None` grants all.
    pub scopes: Option<Vec<String>>,
    /// Whether tokens may manage the app's webhook settings and subscriptions: those of private apps may not.
    pub webhook_management: bool,
    /// Where webhooks go; `None` sends none.
    pub webhook_url: Option<String>,
    /// Delivery settings of webhooks.
    pub webhooks: WebhookConfig,
    /// Requests allowed in any rolling 10 s window, per app; 0 switches the limit off.
    pub rate_limit: u32,
    /// Requests allowed per day; `None` switches the limit off.
    pub daily_limit: Option<u64>,
    /// Search requests allowed in any rolling second; 0 switches the limit off.
    pub search_limit: u32,
    /// Seed of every random choice the simulator makes.
    pub seed: u64,
    /// Added to the system clock, in milliseconds.
    pub clock_offset_ms: i64,
    /// Adds the `warp_*` properties of the customer mapping to companies.
    pub warp: bool,
    /// Custom object types.
    pub custom_objects: Vec<CustomObject>,
    /// Keep request bodies in the request log.
    pub log_bodies: bool,
    /// Behaviour whose live form is not documented: each a switch.
    pub behaviour: Behaviour,
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: "pat-na1-00000000-0000-0000-0000-000000000000".into(),
            app_id: 54321,
            portal_id: 62515,
            client_id: "client-id".into(),
            client_secret: "11111111-2222-3333-4444-555555555555".into(),
            refresh_token: "na1-refresh-token".into(),
            access_token_ttl: Duration::from_secs(1800),
            scopes: None,
            webhook_management: false,
            webhook_url: None,
            webhooks: WebhookConfig::default(),
            rate_limit: 100,
            daily_limit: None,
            search_limit: 5,
            seed: 1,
            clock_offset_ms: 0,
            warp: false,
            custom_objects: vec![CustomObject {
                type_id: "2-1000".into(),
                name: "subscriptions".into(),
            }],
            log_bodies: false,
            behaviour: Behaviour::default(),
        }
    }
}

impl SimConfig {
    /// The default account plus the `warp_*` properties of the customer mapping.
    pub fn warp() -> Self {
        SimConfig {
            warp: true,
            ..SimConfig::default()
        }
    }
}

/// A custom object type, addressed by its name or its type id.
#[derive(Debug, Clone)]
pub struct CustomObject {
    /// `2-<n>`.
    pub type_id: String,
    /// Name used in paths.
    pub name: String,
}

/// How webhooks are delivered.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Events of a span this long are put into one request.
    pub batch_window: Duration,
    /// Most events in one request.
    pub max_batch: usize,
    /// Requests in flight at once.
    pub max_concurrent: usize,
    /// A delivery without an answer by then has failed.
    pub timeout: Duration,
    /// Pause before a failed delivery is repeated.
    pub retry_delay: Duration,
    /// Deliveries before an event is given up, the first included.
    pub max_attempts: u32,
    /// Events that [`super::Simulator::events`] remembers.
    pub max_kept_events: usize,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        WebhookConfig {
            batch_window: Duration::from_millis(10),
            max_batch: 100,
            max_concurrent: 10,
            timeout: Duration::from_secs(5),
            retry_delay: Duration::from_millis(200),
            max_attempts: 11,
            max_kept_events: 200_000,
        }
    }
}

/// Switches for behaviour that HubSpot's documentation leaves open, so that a client can be tested with either outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Behaviour {
    /// Writing an unchanged value makes a new version and an event.
    pub unchanged_creates_version: bool,
    /// Batch update names unknown ids in `errors` instead of leaving them out silently.
    pub report_unknown_ids: bool,
    /// Successful batch rows repeat their `objectWriteTraceId`.
    pub echo_trace_id: bool,
    /// Batch results come in random order.
    pub shuffle_results: bool,
    /// An empty property that was asked for is left out instead of being `null`.
    pub omit_empty: bool,
    /// Batch update honours trace ids (207); otherwise one bad row always fails the whole batch.
    pub update_trace_ids: bool,
    /// A merge keeps the primary record's id.
    pub merge_keeps_primary: bool,
    /// Milliseconds until a write is visible to search.
    pub search_lag_ms: u64,
    /// Company `domain` is lower-cased.
    pub lower_domain: bool,
    /// Company `domain` loses scheme, `www.` and path.
    pub strip_domain: bool,
    /// Numbers lose trailing zeros: `1.50` becomes `1.5`.
    pub reformat_numbers: bool,
    /// Multi-select values are put into the order of the options.
    pub reorder_multi: bool,
    /// Creating a company needs `name` or `domain`.
    pub require_company_name: bool,
    /// Looks at an export until it is complete.
    pub export_looks: u32,
    /// Exports show instants to the minute, as their files for people do.
    pub export_minutes: bool,
    /// How a webhook shows that a property was cleared.
    pub cleared_event: ClearedForm,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            unchanged_creates_version: false,
            report_unknown_ids: false,
            echo_trace_id: false,
            shuffle_results: true,
            omit_empty: false,
            update_trace_ids: true,
            merge_keeps_primary: false,
            search_lag_ms: 0,
            lower_domain: false,
            strip_domain: false,
            reformat_numbers: false,
            reorder_multi: false,
            require_company_name: true,
            export_looks: 2,
            export_minutes: true,
            cleared_event: ClearedForm::Empty,
        }
    }
}

/// Form of `propertyValue` in the event of a cleared property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClearedForm {
    /// `""`
    Empty,
    /// `null`
    Null,
    /// The field is missing.
    Absent,
}
