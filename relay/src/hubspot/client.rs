//! The HTTP client: every call takes a slot of the rate limit, carries the token, and ends in an answer or a [`Failure`].
//!
//! It does not retry: the retry schedule is kept in the database, so that a restart does not forget it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::auth::Auth;
use super::error::{Failure, FailureClass, RatePolicy, classify, parse_retry_after, rate_policy};
use super::model::{
    AccountDetails, BatchReadRequest, BatchResponse, ErrorBody, IdInput, Inputs, PropertyList, SearchPage, WriteInput,
};
use super::paths::ApiVersion;
use super::quota::{Budget, Purpose, RateLimiter};
use crate::config::{ConfigError, Hubspot, RequestsPer10s};
use crate::metrics::Metrics;
use crate::retry::relay_pause;
use crate::telemetry::event;

/// Until HubSpot's first answer names the allowance (`requests_per_10s = "auto"`): the smallest HubSpot grants.
const AUTO_START: u32 = 100;
/// Connecting takes milliseconds; waiting longer only eats the lease.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The operation that HubSpot counts by itself.
const SEARCH: &str = "search";
/// Messages longer than this are cut before they go to the database.
const MESSAGE_CHARS: usize = 2_000;

/// Why a call brought no answer.
#[derive(Debug, Clone)]
pub enum CallError {
    /// No slot of the rate limit came before the deadline: nothing was sent.
    NotSent {
        /// How long a slot is away at least.
        wait: Duration,
    },
    /// Sent (or tried), and failed.
    Failed(Failure),
}

/// A call that HubSpot did not do, and whether there is another token to try it with.
struct Refusal {
    failure: Failure,
    another: bool,
}

/// Connection to HubSpot. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    purpose: Purpose,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    base_url: String,
    version: ApiVersion,
    auth: Auth,
    /// The app's own token, for the webhooks journal.
    app: Option<Auth>,
    timeout: Duration,
    auto: bool,
    limiter: RateLimiter,
    metrics: Metrics,
    /// The newest answer's `Date`, and when its request was sent and answered, in milliseconds. Read only when asked for.
    dated: Mutex<Option<(HeaderValue, i64, i64)>>,
}

/// How HubSpot's clock compares with this machine's. HubSpot gives whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// HubSpot's clock minus this machine's, in milliseconds.
    pub offset_ms: i64,
    /// How far that may be off, in milliseconds.
    pub uncertainty_ms: i64,
}

impl ClockReading {
    /// From the `Date` of an answer to a request that was sent and answered at those times of this machine, in milliseconds.
    fn from_date(date: &str, sent_ms: i64, answered_ms: i64) -> Option<Self> {
        let date = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_millisecond();
        let round_trip = (answered_ms - sent_ms).max(0);
        // The header was cut to the second: on average half of one is missing.
        Some(Self {
            offset_ms: date + 500 - (sent_ms + round_trip / 2),
            uncertainty_ms: 500 + round_trip / 2,
        })
    }
}

impl Client {
    /// A client for the settings.
    ///
    /// # Errors
    /// When the TLS roots cannot be loaded or a setting slipped past the configuration's checks.
    pub fn new(config: &Hubspot, metrics: Metrics) -> Result<Self, ConfigError> {
        Self::with_limiter(config, metrics, RateLimiter::local)
    }

    /// A client whose slots the database lends (`crate::lend`).
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn shared(config: &Hubspot, metrics: Metrics) -> Result<Self, ConfigError> {
        Self::with_limiter(config, metrics, RateLimiter::shared)
    }

    fn with_limiter(
        config: &Hubspot,
        metrics: Metrics,
        limiter: fn(u32, u32, Option<u64>) -> RateLimiter,
    ) -> Result<Self, ConfigError> {
        crate::install_crypto_provider();
        let mut builder = reqwest::Client::builder()
            // A redirect would carry the token elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            .user_agent(concat!("hubspot-relay/", env!("CARGO_PKG_VERSION")));
        if config.base_url.starts_with("http://") {
            // A simulator on the loopback: neither a proxy nor the system's certificates are its business.
            builder = builder.no_proxy().tls_certs_only(std::iter::empty());
        }
        let http = builder
            .build()
            .map_err(|error| ConfigError::new("hubspot.base_url", format!("no HTTPS client: {error}")))?;
        let version = ApiVersion::parse(&config.api_version)
            .ok_or_else(|| ConfigError::new("hubspot.api_version", "is not known"))?;
        let base_url = config.base_url.trim_end_matches('/').to_owned();
        let auth = Auth::new(config, format!("{base_url}{}", version.token()))?;
        // The journal's release, whatever that of the records: later ones issue no such tokens.
        let app_token = format!("{base_url}{}", ApiVersion::Dated("2026-03").token());
        let app = Auth::of_app(config, app_token, super::journal::SCOPES);
        let (limit, auto) = match config.requests_per_10s {
            RequestsPer10s::Fixed(limit) => (limit, false),
            RequestsPer10s::Auto => (AUTO_START, true),
        };
        let inner = Inner {
            http,
            base_url,
            version,
            auth,
            app,
            timeout: config.timeout,
            auto,
            limiter: limiter(limit, config.search_per_second, config.requests_per_day),
            metrics,
            dated: Mutex::new(None),
        };
        Ok(Self {
            inner: Arc::new(inner),
            purpose: Purpose::Live,
        })
    }

    /// The same client whose calls are for `purpose`: they wait and are counted as such. A new client's are live.
    #[must_use]
    pub fn with_purpose(&self, purpose: Purpose) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            purpose,
        }
    }

    /// The rate limit all calls share.
    pub fn limiter(&self) -> &RateLimiter {
        &self.inner.limiter
    }

    /// The family of paths.
    pub(super) fn version(&self) -> ApiVersion {
        self.inner.version
    }

    /// HubSpot's clock minus this machine's, as the newest answer showed it; none before the first.
    pub fn clock(&self) -> Option<ClockReading> {
        let dated = self.inner.dated.lock().unwrap_or_else(PoisonError::into_inner);
        let (date, sent_ms, answered_ms) = dated.as_ref()?;
        ClockReading::from_date(date.to_str().ok()?, *sent_ms, *answered_ms)
    }

    /// How long a call waits for its answer.
    pub fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    /// Reads secrets that stand in files again, for a token that was rotated; says whether one changed.
    pub fn reload_token(&self) -> bool {
        let of_app = self.inner.app.as_ref().is_some_and(Auth::reload);
        self.inner.auth.reload() || of_app
    }

    /// The app's own token; none without an OAuth app.
    pub(super) fn app_auth(&self) -> Option<&Auth> {
        self.inner.app.as_ref()
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }

    pub(super) fn base_url(&self) -> &str {
        &self.inner.base_url
    }

    /// Counts a call that takes no slot of the account's limit, and logs its failure.
    pub(super) fn count(&self, operation: &'static str, failure: Option<&Failure>, started: Instant) {
        let class = failure.map(|failure| failure.class);
        self.inner.metrics.request(operation, class, started.elapsed());
        if let Some(failure) = failure {
            warn_of(operation, failure);
        }
    }

    /// Facts of the account the token belongs to.
    pub async fn account_details(&self, deadline: Instant) -> Result<AccountDetails, CallError> {
        self.get("account_details", &self.inner.version.account_details(), deadline)
            .await
    }

    /// The cheapest call that shows whether the records of a type can be reached.
    pub async fn probe(&self, object_type: &str, deadline: Instant) -> Result<(), CallError> {
        let path = format!("{}?limit=1", self.inner.version.objects(object_type));
        self.get::<serde_json::Value>("probe", &path, deadline).await.map(drop)
    }

    /// The property definitions of an object type.
    pub async fn properties(&self, object_type: &str, deadline: Instant) -> Result<PropertyList, CallError> {
        self.get("properties", &self.inner.version.properties(object_type), deadline)
            .await
    }

    /// Reads up to 100 records, or 50 with history. Records that do not exist are missing from the results.
    pub async fn batch_read(
        &self,
        object_type: &str,
        request: &BatchReadRequest,
        deadline: Instant,
    ) -> Result<BatchResponse, CallError> {
        self.batch("batch_read", object_type, "read", request, deadline).await
    }

    /// Updates up to 100 records by id.
    pub async fn batch_update(
        &self,
        object_type: &str,
        inputs: Vec<WriteInput>,
        deadline: Instant,
    ) -> Result<BatchResponse, CallError> {
        self.batch("batch_update", object_type, "update", &Inputs { inputs }, deadline)
            .await
    }

    /// Creates or updates up to 100 records by a unique property.
    pub async fn batch_upsert(
        &self,
        object_type: &str,
        inputs: Vec<WriteInput>,
        deadline: Instant,
    ) -> Result<BatchResponse, CallError> {
        self.batch("batch_upsert", object_type, "upsert", &Inputs { inputs }, deadline)
            .await
    }

    /// Archives up to 100 records. HubSpot answers 204 with an empty body, for unknown ids too.
    pub async fn batch_archive(
        &self,
        object_type: &str,
        inputs: Vec<IdInput>,
        deadline: Instant,
    ) -> Result<BatchResponse, CallError> {
        self.batch("batch_archive", object_type, "archive", &Inputs { inputs }, deadline)
            .await
    }

    /// Searches the records of a type: `request` is HubSpot's search document, the answer its page. Has its own budget.
    pub async fn search(
        &self,
        object_type: &str,
        request: &serde_json::Value,
        deadline: Instant,
    ) -> Result<SearchPage, CallError> {
        let path = format!("{}/search", self.inner.version.objects(object_type));
        self.call(SEARCH, Method::POST, &path, Some(request), deadline).await
    }

    /// One page of the records of a type in order of their ids, at most 100, from the id `after` on; archived ones are left
    /// out.
    pub async fn list(
        &self,
        object_type: &str,
        after: Option<&str>,
        properties: &[String],
        deadline: Instant,
    ) -> Result<SearchPage, CallError> {
        let path = self.inner.version.listing(object_type, after, properties);
        self.get("list", &path, deadline).await
    }

    async fn batch<B: Serialize>(
        &self,
        operation: &'static str,
        object_type: &str,
        verb: &str,
        body: &B,
        deadline: Instant,
    ) -> Result<BatchResponse, CallError> {
        let path = format!("{}/batch/{verb}", self.inner.version.objects(object_type));
        self.call(operation, Method::POST, &path, Some(body), deadline).await
    }

    pub(super) async fn get<T: DeserializeOwned + Default>(
        &self,
        operation: &'static str,
        path: &str,
        deadline: Instant,
    ) -> Result<T, CallError> {
        self.call(operation, Method::GET, path, None::<&()>, deadline).await
    }

    pub(super) async fn call<B: Serialize, T: DeserializeOwned + Default>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<&B>,
        deadline: Instant,
    ) -> Result<T, CallError> {
        let budget = if operation == SEARCH {
            Budget::Search
        } else {
            Budget::General
        };
        let slot = self
            .inner
            .limiter
            .acquire(budget, self.purpose, deadline)
            .await
            .map_err(|late| CallError::NotSent { wait: late.wait })?;
        let started = Instant::now();
        let mut outcome = self.authorized(operation, method.clone(), path, body).await;
        if let Err(Refusal { another: true, .. }) = &outcome
            // An access token may end before its time, and a static one be rotated: once more with the new one, which takes
            // a slot of its own.
            && let Ok(_second) = self.inner.limiter.acquire(budget, self.purpose, deadline).await
        {
            outcome = self.authorized(operation, method, path, body).await;
        }
        let outcome = outcome.map_err(|refusal| refusal.failure);
        drop(slot);
        let class = outcome.as_ref().err().map(|failure| failure.class);
        self.inner.metrics.request(operation, class, started.elapsed());
        outcome.map_err(|failure| {
            if let Some(pause) = relay_pause(&failure) {
                match failure.policy {
                    RatePolicy::Secondly => self.inner.limiter.pause_budget(Budget::Search, pause),
                    RatePolicy::TenSecondly => self.inner.limiter.pause_budget(Budget::General, pause),
                    RatePolicy::Daily | RatePolicy::Unknown => self.inner.limiter.pause(pause),
                }
            }
            warn_of(operation, &failure);
            CallError::Failed(failure)
        })
    }

    /// [`Client::exchange`] with a token; a refusal says whether there is another one now.
    async fn authorized<B: Serialize, T: DeserializeOwned + Default>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Refusal> {
        let auth = &self.inner.auth;
        let final_one = |failure| Refusal {
            failure,
            another: false,
        };
        let token = auth
            .header(&self.inner.http, self.inner.timeout)
            .await
            .map_err(final_one)?;
        self.exchange(operation, method, path, body, token.clone())
            .await
            .map_err(|failure| Refusal {
                another: failure.status == Some(401) && auth.refused(&token),
                failure,
            })
    }

    /// One request and its answer, the answer's body included in the time limit.
    pub(super) async fn exchange<B: Serialize, T: DeserializeOwned + Default>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<&B>,
        authorization: HeaderValue,
    ) -> Result<T, Failure> {
        let url = format!("{}{path}", self.inner.base_url);
        let mut request = self.inner.http.request(method, url).timeout(self.inner.timeout);
        request = request.header(AUTHORIZATION, authorization);
        if let Some(body) = body {
            request = request.json(body);
        }
        let sent_ms = jiff::Timestamp::now().as_millisecond();
        let answer = request
            .send()
            .await
            .map_err(|error| transport_failure(operation, &error))?;
        let answered_ms = jiff::Timestamp::now().as_millisecond();
        if let Some(date) = answer.headers().get(reqwest::header::DATE) {
            let dated = (date.clone(), sent_ms, answered_ms);
            *self.inner.dated.lock().unwrap_or_else(PoisonError::into_inner) = Some(dated);
        }
        let status = answer.status();
        self.follow_allowance(answer.headers());
        let retry_after = header(answer.headers(), "retry-after").and_then(parse_retry_after);
        let bytes = answer.bytes().await;
        if status.is_success() {
            let bytes = bytes.map_err(|error| transport_failure(operation, &error))?;
            return parse(operation, status, &bytes);
        }
        let body: Option<ErrorBody> = bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Err(refused(operation, status, retry_after, body))
    }

    fn follow_allowance(&self, headers: &HeaderMap) {
        let number = |name| header(headers, name).and_then(|text| text.parse::<u64>().ok());
        if let (Some(limit), Some(left)) = (
            number("x-hubspot-ratelimit-daily"),
            number("x-hubspot-ratelimit-daily-remaining"),
        ) {
            self.inner.limiter.note_day(limit, left);
        }
        if !self.inner.auto {
            return;
        }
        let ten_seconds = header(headers, "x-hubspot-ratelimit-interval-milliseconds").is_none_or(|ms| ms == "10000");
        let max = header(headers, "x-hubspot-ratelimit-max").and_then(|text| text.parse::<u32>().ok());
        if let (true, Some(max)) = (ten_seconds, max) {
            self.inner.limiter.set_limit(max);
        }
    }
}

/// Names and numbers only: HubSpot's message may quote a customer's values.
fn warn_of(operation: &'static str, failure: &Failure) {
    tracing::warn!(
        event = event::CALL_FAILED,
        operation,
        kind = failure.class.kind(),
        status = failure.status,
        retry_after_ms = failure.retry_after.map(|time| time.as_millis() as u64),
        correlation_id = failure.body.as_ref().and_then(|body| body.correlation_id.as_deref()),
        "a call to HubSpot failed"
    );
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Reads the body of a success. An empty one (204) is an empty answer; an unreadable one leaves the outcome unknown.
pub(super) fn parse<T: DeserializeOwned + Default>(
    operation: &'static str,
    status: StatusCode,
    bytes: &[u8],
) -> Result<T, Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(bytes).map_err(|_| Failure {
        operation,
        class: FailureClass::Network,
        status: Some(status.as_u16()),
        retry_after: None,
        policy: RatePolicy::Unknown,
        message: "the answer's body is not the JSON expected".to_owned(),
        body: None,
    })
}

pub(super) fn refused(
    operation: &'static str,
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Option<ErrorBody>,
) -> Failure {
    let message = body
        .as_ref()
        .and_then(|body| body.message.as_deref())
        .map_or_else(|| format!("HubSpot answered {}", status.as_u16()), cut);
    Failure {
        operation,
        class: classify(status.as_u16()),
        status: Some(status.as_u16()),
        retry_after,
        policy: rate_policy(body.as_ref().and_then(|body| body.policy_name.as_deref())),
        message,
        body: body.map(Box::new),
    }
}

/// A message short enough to keep.
pub(crate) fn cut(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS).collect()
}

pub(super) fn transport_failure(operation: &'static str, error: &reqwest::Error) -> Failure {
    let class = if error.is_connect() {
        FailureClass::Unreachable
    } else if error.is_timeout() {
        FailureClass::Timeout
    } else {
        FailureClass::Network
    };
    let message = match class {
        FailureClass::Unreachable => "no connection to HubSpot",
        FailureClass::Timeout => "no answer within hubspot.timeout",
        _ => "the connection broke before the answer was complete",
    };
    Failure::new(operation, class, None, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_tells_hubspots_clock_to_the_second() {
        let reading = ClockReading::from_date("Tue, 24 Nov 2026 10:00:00 GMT", 1_795_514_390_000, 1_795_514_391_000);
        let expected = ClockReading {
            offset_ms: 10_000,
            uncertainty_ms: 1_000,
        };
        assert_eq!(reading, Some(expected));
        assert_eq!(ClockReading::from_date("yesterday", 0, 0), None);
    }
}
