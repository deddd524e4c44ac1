//! The way of a request: log, token, limits, faults, the operation, the answer.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::Inner;
use super::dispatch::apply;
use super::errors::ApiError;
use super::faults::{FaultKind, GatePoint};
use super::limits::Policy;
use super::log::RequestLog;
use super::oauth::Refused;
use super::query::{ApiRequest, parse_form};
use super::record::Source;
use super::route::{Op, Route, route};

const MAX_BODY: usize = 64 * 1024 * 1024;
const MAX_URI: usize = 16_000;

/// An answer, or the connection closes.
enum Outcome {
    Answer {
        status: u16,
        body: Option<Value>,
        headers: Vec<(&'static str, String)>,
    },
    Close,
}

/// Takes every request of the listener.
pub(crate) async fn entry(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let arrived = Instant::now();
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return respond(
            413,
            Some(json!({"status": "error", "message": "The body is too large"})),
            &[],
        );
    };
    if let Some(action) = parts.uri.path().strip_prefix("/_sim/") {
        let (status, body) = super::control::run(&inner, action, &body).await;
        return respond(status, Some(body), &[]);
    }
    if let Some(offset) = parts.uri.path().strip_prefix(super::journal::FILES) {
        let (status, body) = inner.journal_file(offset, &parts);
        return respond(status, Some(body), &[]);
    }
    if let Some(id) = parts.uri.path().strip_prefix(super::exports::FILES) {
        return match inner.export_file(id, &parts) {
            Ok(csv) => {
                let mut response = Response::new(Body::from(csv));
                let csv_type = HeaderValue::from_static("text/csv");
                response.headers_mut().insert(header::CONTENT_TYPE, csv_type);
                response
            }
            Err((status, message)) => respond(status, Some(json!({"message": message})), &[]),
        };
    }
    // A task of its own: a client that goes away does not undo what it asked for.
    let outcome = tokio::spawn(process(inner, parts, body, arrived)).await;
    match outcome {
        Ok(Outcome::Answer { status, body, headers }) => respond(status, body, &headers),
        // Ends the connection's task without an answer.
        Ok(Outcome::Close) => resume_unwind(Box::new("connection closed by a fault")),
        Err(error) => respond(500, Some(json!({"status": "error", "message": error.to_string()})), &[]),
    }
}

fn respond(status: u16, body: Option<Value>, headers: &[(&'static str, String)]) -> Response {
    let content = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let mut response = Response::new(content);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json_type = HeaderValue::from_static("application/json;charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json_type);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

async fn process(inner: Arc<Inner>, parts: Parts, body: Bytes, arrived: Instant) -> Outcome {
    let target = parts
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str())
        .to_owned();
    let route = route(parts.method.as_str(), parts.uri.path());
    let op = route.op;
    let seq = inner.log_request(op, parts.method.as_str(), &target, &body, arrived);
    let correlation = inner.correlation_id();
    let mut outcome = run(&inner, &parts, body, route, arrived, &correlation).await;
    if let Outcome::Answer { status, headers, .. } = &mut outcome {
        headers.push(("x-hubspot-correlation-id", correlation));
        headers.push(("date", super::clock::http_date(inner.core().clock.now())));
        inner.log().set_status(seq, *status);
    }
    outcome
}

fn refuse(error: &ApiError, correlation: &str) -> Outcome {
    Outcome::Answer {
        status: error.status,
        body: Some(error.body(correlation)),
        headers: Vec::new(),
    }
}

async fn run(
    inner: &Arc<Inner>,
    parts: &Parts,
    body: Bytes,
    route: Route,
    arrived: Instant,
    correlation: &str,
) -> Outcome {
    let op = route.op;
    let content_type = header_text(parts, header::CONTENT_TYPE);
    let mut app_id = 0;
    let mut headers = Vec::new();
    if op != Op::Token {
        match authorize(inner, header_text(parts, header::AUTHORIZATION)) {
            Ok(id) => app_id = id,
            Err(error) => return refuse(&error, correlation),
        }
        if let Err(error) = right_kind(inner, op, header_text(parts, header::AUTHORIZATION)) {
            return refuse(&error, correlation);
        }
        let mut limiter = inner.limiter();
        let admitted = match op.is_journal() {
            true => Ok(()),
            false => limiter.admit(app_id, op == Op::Search, arrived),
        };
        if op != Op::Search && !op.is_journal() {
            headers = limiter.headers(app_id);
        }
        drop(limiter);
        if let Err(policy) = admitted {
            return Outcome::Answer {
                status: 429,
                body: Some(policy.body(correlation, app_id)),
                headers,
            };
        }
    }
    let fault = inner.faults().take(op);
    if let Some(outcome) = fault.and_then(|fault| instead(fault, correlation, app_id, &headers)) {
        return outcome;
    }
    let request = ApiRequest {
        query: parse_form(parts.uri.query().unwrap_or_default()),
        route,
        body: body.to_vec(),
        source: Source::app(app_id),
        host: header_text(parts, header::HOST).to_owned(),
    };
    pass(inner, op, GatePoint::BeforeApply).await;
    if let Some(FaultKind::LateApply(ms)) = fault {
        let (inner, content_type) = (Arc::clone(inner), content_type.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            let _ = apply(&inner, &content_type, &request);
        });
        return Outcome::Close;
    }
    if let Some(FaultKind::DelayBeforeApply(ms)) = fault {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    let too_long = parts
        .uri
        .path_and_query()
        .is_some_and(|target| target.as_str().len() > MAX_URI);
    let result = if too_long {
        Err(ApiError::new(414, "VALIDATION_ERROR", "URI Too Long"))
    } else {
        apply(inner, content_type, &request)
    };
    pass(inner, op, GatePoint::AfterApply).await;
    match fault {
        Some(FaultKind::CloseAfterApply) => return Outcome::Close,
        Some(FaultKind::TimeoutAfterApply) => return status_answer(524, correlation, headers),
        Some(FaultKind::StatusAfterApply(status)) => return status_answer(status, correlation, headers),
        Some(FaultKind::Delay(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
        _ => {}
    }
    match result {
        Ok(reply) => Outcome::Answer {
            status: reply.status,
            body: reply.body,
            headers,
        },
        Err(error) => Outcome::Answer {
            status: error.status,
            body: Some(error.body(correlation)),
            headers,
        },
    }
}

fn header_text(parts: &Parts, name: header::HeaderName) -> &str {
    parts
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Waits at every gate of the operation.
async fn pass(inner: &Inner, op: Op, point: GatePoint) {
    let gates = inner.faults().arrive(op, point);
    for mut gate in gates {
        let _ = gate.wait_for(|open| *open).await;
    }
}

fn authorize(inner: &Inner, header: &str) -> Result<u64, ApiError> {
    let core = inner.core();
    let token = header.strip_prefix("Bearer ").unwrap_or_default();
    core.tokens
        .check(token, core.clock.now())
        .map_err(|refused| match refused {
            Refused::Unknown => ApiError::unauthorized(),
            Refused::Expired(seconds) => ApiError::expired(seconds),
        })
}

/// The journal takes the app's own token, everything else an account's.
fn right_kind(inner: &Inner, op: Op, header: &str) -> Result<(), ApiError> {
    let core = inner.core();
    let token = header.strip_prefix("Bearer ").unwrap_or_default();
    if core.tokens.is_of_app(token) == op.is_journal() {
        return Ok(());
    }
    let needed = match op.is_journal() {
        true => op.scopes(""),
        false => vec!["oauth".to_owned()],
    };
    Err(ApiError::missing_scopes(&needed))
}

fn status_answer(status: u16, correlation: &str, headers: Vec<(&'static str, String)>) -> Outcome {
    let message = match status {
        423 => "The object is currently locked by a high volume of writes",
        502 | 504 => "HubSpot processing limits were reached",
        503 => "Service temporarily unavailable",
        524 => "A timeout occurred",
        _ => "Request failed",
    };
    let body = json!({"status": "error", "message": message, "correlationId": correlation});
    Outcome::Answer {
        status,
        body: Some(body),
        headers,
    }
}

/// The outcome of a fault that keeps the request from being applied.
fn instead(fault: FaultKind, correlation: &str, app_id: u64, headers: &[(&'static str, String)]) -> Option<Outcome> {
    let headers = headers.to_vec();
    Some(match fault {
        FaultKind::Status(status) => status_answer(status, correlation, headers),
        FaultKind::RateLimited(policy) => {
            let headers = if policy == Policy::Secondly {
                Vec::new()
            } else {
                headers
            };
            Outcome::Answer {
                status: 429,
                body: Some(policy.body(correlation, app_id)),
                headers,
            }
        }
        FaultKind::Migrating(seconds) => {
            let body = json!({"status": "error", "message": "The account is being migrated between data hosting \
                locations", "correlationId": correlation});
            Outcome::Answer {
                status: 477,
                body: Some(body),
                headers: vec![("retry-after", seconds.to_string())],
            }
        }
        FaultKind::CloseBeforeApply => Outcome::Close,
        FaultKind::Unauthorized => refuse(&ApiError::unauthorized(), correlation),
        FaultKind::Expired => refuse(&ApiError::expired(5), correlation),
        FaultKind::Forbidden => refuse(
            &ApiError::missing_scopes(&["crm.objects.companies.write".to_owned()]),
            correlation,
        ),
        _ => return None,
    })
}

impl Inner {
    fn log_request(&self, op: Op, method: &str, path: &str, body: &Bytes, arrived: Instant) -> u64 {
        let at_ms = self.core().clock.now();
        let parsed: Option<Value> = serde_json::from_slice(body).ok();
        let count = parsed
            .as_ref()
            .and_then(|body| body.get("inputs")?.as_array().map(Vec::len));
        let entry = RequestLog {
            seq: 0,
            at_ms,
            at_us: 0,
            method: method.to_owned(),
            path: path.to_owned(),
            op,
            status: 0,
            inputs: count.unwrap_or(0),
            body: parsed.filter(|_| self.config.log_bodies),
        };
        self.log().enter(entry, arrived)
    }
}
