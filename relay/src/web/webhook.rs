//! Intake of HubSpot's webhooks: verify, store, and only then say 2xx.
//!
//! HubSpot retries whatever is not 2xx for a day, so 503 is the honest answer while the database is away. It waits five
//! seconds for an answer; storing gets four of them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use secrecy::SecretString;
use serde_json::Value;
use tokio::sync::Notify;

use super::signature::{Refused, Signed, Verifier};
use crate::config::{SignatureForm, Webhook};
use crate::db::pool::Db;
use crate::metrics::Metrics;
use crate::secrets::same;
use crate::telemetry::event;

/// How long a rotated client secret's predecessor is still accepted.
const ROTATION: Duration = Duration::from_secs(600);
/// HubSpot's hundred events take well under a tenth of this.
const BODY_BYTES: usize = 5 * 1024 * 1024;
/// HubSpot sends at most a hundred events a request; a little more is no reason to lose them.
const EVENTS: usize = 1_000;
/// Longest wait for the body: a slow sender must not hold a connection.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for the commit.
const STORE_WAIT: Duration = Duration::from_secs(4);

/// What the intake needs.
#[derive(Debug)]
pub struct Intake {
    secrets: Arc<Secrets>,
    public_url: Option<String>,
    db: Db,
    metrics: Metrics,
    /// Wakes the applier.
    wake: Arc<Notify>,
}

impl Intake {
    /// An intake for the settings.
    pub(crate) fn new(config: &Webhook, secrets: Arc<Secrets>, db: Db, metrics: Metrics, wake: Arc<Notify>) -> Self {
        let public_url = config
            .public_url
            .as_ref()
            .map(|url| url.trim_end_matches('/').to_owned());
        Self {
            secrets,
            public_url,
            db,
            metrics,
            wake,
        }
    }
}

/// The app's client secret, and for a while the one it replaced: HubSpot and the relay do not learn of a rotation at the
/// same moment.
#[derive(Debug)]
pub(crate) struct Secrets {
    accept: Vec<SignatureForm>,
    max_age: Duration,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    present: Option<SecretString>,
    former: Option<(SecretString, Instant)>,
}

impl Secrets {
    /// As the settings have it.
    pub(crate) fn new(config: &Webhook) -> Self {
        Self {
            accept: config.accept_signatures.clone(),
            max_age: config.max_age,
            known: RwLock::new(Known {
                present: config.client_secret.clone(),
                former: None,
            }),
        }
    }

    /// Takes a rotated secret; says whether it is another one.
    pub(crate) fn replace(&self, secret: SecretString) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.present.as_ref().is_some_and(|present| same(present, &secret)) {
            return false;
        }
        let former = known.present.replace(secret);
        known.former = former.map(|former| (former, Instant::now() + ROTATION));
        true
    }

    fn verifiers(&self) -> Vec<Verifier> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let former = known.former.as_ref().filter(|(_, until)| *until > Instant::now());
        known
            .present
            .iter()
            .chain(former.map(|(secret, _)| secret))
            .map(|secret| Verifier::new(secret.clone(), self.accept.clone(), self.max_age))
            .collect()
    }
}

/// The public routes.
pub fn router(intake: Intake) -> Router {
    Router::new()
        .route("/v1/webhooks/hubspot/company", post(receive))
        .route("/v1/webhooks/hubspot", post(receive))
        .with_state(Arc::new(intake))
}

/// How a request ends: the word for the metric, the status, the number of events.
struct Answer {
    result: &'static str,
    status: StatusCode,
    events: usize,
}

impl Answer {
    fn refuse(result: &'static str, status: StatusCode) -> Self {
        Self {
            result,
            status,
            events: 0,
        }
    }
}

async fn receive(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let answer = match intake.handle(request).await {
        Ok(answer) | Err(answer) => answer,
    };
    intake.metrics.webhook(answer.result, answer.events);
    if !answer.status.is_success() {
        tracing::warn!(
            event = event::WEBHOOK_REFUSED,
            reason = answer.result,
            status = answer.status.as_u16(),
            "a webhook request is refused"
        );
    }
    (answer.status, format!("{}\n", answer.result)).into_response()
}

impl Intake {
    async fn handle(&self, request: Request) -> Result<Answer, Answer> {
        let (parts, body) = request.into_parts();
        let verifiers = self.secrets.verifiers();
        if verifiers.is_empty() {
            return Err(Answer::refuse("unconfigured", StatusCode::SERVICE_UNAVAILABLE));
        }
        let body = read_body(body).await?;
        let uris = self.uris(&parts.uri, &parts.headers);
        let signed = Signed {
            method: parts.method.as_str(),
            uris: &uris,
            body: &body,
        };
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let mut verdict = Err(Refused::Missing);
        for verifier in &verifiers {
            verdict = verifier.verify(&parts.headers, signed, now_ms);
            if !matches!(verdict, Err(Refused::Wrong)) {
                break;
            }
        }
        verdict.map_err(|refused| {
            let result = match refused {
                Refused::Missing | Refused::Wrong => "signature",
                Refused::Stale => "stale_signature",
            };
            Answer::refuse(result, StatusCode::UNAUTHORIZED)
        })?;
        let (events, count) =
            parse_events(&body).ok_or_else(|| Answer::refuse("malformed", StatusCode::BAD_REQUEST))?;
        self.store(&events, count).await
    }

    async fn store(&self, events: &Value, count: usize) -> Result<Answer, Answer> {
        let stored = match tokio::time::timeout(STORE_WAIT, self.db.receive(events)).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(error)) => {
                self.metrics.database_failed();
                tracing::warn!(event = event::DATABASE_FAILED, function = "relay_receive", %error, "storing failed");
                return Err(Answer::refuse("unavailable", StatusCode::SERVICE_UNAVAILABLE));
            }
            Err(_) => {
                self.metrics.database_failed();
                return Err(Answer::refuse("unavailable", StatusCode::SERVICE_UNAVAILABLE));
            }
        };
        tracing::debug!(
            event = event::WEBHOOK_STORED,
            events = count,
            new = stored,
            "webhook events are stored"
        );
        self.wake.notify_one();
        Ok(Answer {
            result: "stored",
            status: StatusCode::OK,
            events: count,
        })
    }

    /// The URLs HubSpot may have called. Without `webhook.public_url` the Host header names the host, and whether a
    /// proxy ended TLS is not known: both schemes are tried.
    fn uris(&self, uri: &Uri, headers: &HeaderMap) -> Vec<String> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        match &self.public_url {
            Some(url) => vec![format!("{url}{path}")],
            None => {
                let host = headers
                    .get(header::HOST)
                    .and_then(|host| host.to_str().ok())
                    .unwrap_or_default();
                vec![format!("https://{host}{path}"), format!("http://{host}{path}")]
            }
        }
    }
}

async fn read_body(body: Body) -> Result<Bytes, Answer> {
    match tokio::time::timeout(BODY_WAIT, axum::body::to_bytes(body, BODY_BYTES)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(Answer::refuse("too_large", StatusCode::PAYLOAD_TOO_LARGE)),
        Err(_) => Err(Answer::refuse("too_slow", StatusCode::REQUEST_TIMEOUT)),
    }
}

/// The events and their number; none when the body is not an array of objects or one object.
pub fn parse_events(body: &[u8]) -> Option<(Value, usize)> {
    let events: Value = serde_json::from_slice(body).ok()?;
    match &events {
        Value::Object(_) => Some((Value::Array(vec![events]), 1)),
        Value::Array(items) if items.len() <= EVENTS && items.iter().all(Value::is_object) => {
            let count = items.len();
            Some((events, count))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        assert_eq!(parse_events(b"[{\"eventId\":1},{\"eventId\":2}]").unwrap().1, 2);
        assert_eq!(
            parse_events(b"{\"eventId\":1}").unwrap().0,
            serde_json::json!([{"eventId":1}])
        );
        assert_eq!(parse_events(b"[]").unwrap().1, 0);
        for bad in [&b""[..], b"[1]", b"\"x\"", b"[{", b"null"] {
            assert!(parse_events(bad).is_none());
        }
    }
}
