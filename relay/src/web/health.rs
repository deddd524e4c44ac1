//! The private listener: `/healthz` (the process's loops turn), `/readyz` (it can do its work), `/metrics` (Prometheus).
//!
//! `/healthz` is for whoever restarts processes: a restart mends what it complains about. `/readyz` is for whoever directs
//! traffic or rolls out a new version: what it complains about lies outside the process.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode_eof;

use crate::figures::FigureSource;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::status::Status;

/// The exposition format `prometheus-client` writes.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The private routes.
pub fn router(status: Status, liveness: Liveness, metrics: Metrics, figures: FigureSource) -> Router {
    let health = Router::new().route("/healthz", get(alive)).with_state(liveness);
    let readiness = Router::new().route("/readyz", get(ready)).with_state(status);
    let scrape = Router::new()
        .route("/metrics", get(render))
        .with_state((metrics, figures));
    health.merge(readiness).merge(scrape)
}

async fn alive(State(liveness): State<Liveness>) -> Response {
    let stuck = liveness.stuck();
    if stuck.is_empty() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    let lines: String = stuck
        .iter()
        .map(|(part, age)| format!("{part} has not turned for {} s\n", age.as_secs()))
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn ready(State(status): State<Status>) -> Response {
    let snapshot = status.snapshot();
    let code = if snapshot.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({
        "ready": snapshot.is_ready(),
        "database_up": snapshot.database_up,
        "armed": snapshot.armed,
        "paused": snapshot.paused,
        "reason": snapshot.reason,
        "auth_failed": snapshot.auth_failed,
        "circuit_open": snapshot.circuit_open,
        "portal_checked": snapshot.portal_checked,
    });
    (code, axum::Json(body)).into_response()
}

async fn render(State((metrics, figures)): State<(Metrics, FigureSource)>) -> impl IntoResponse {
    let mut text = metrics.render();
    text.push_str(&figures.render().await);
    // Writing to a String cannot fail.
    let _ = encode_eof(&mut text);
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text)
}
