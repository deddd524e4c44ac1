//! The private listener: `/healthz` (the process lives), `/readyz` (it does its work), `/metrics` (Prometheus).

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::Metrics;
use crate::status::Status;

/// The exposition format `prometheus-client` writes.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The private routes.
pub fn router(status: Status, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(status)
        .merge(Router::new().route("/metrics", get(render)).with_state(metrics))
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

async fn render(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics.render())
}
