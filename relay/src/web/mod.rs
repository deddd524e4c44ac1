//! The two listeners. Public: `POST /v1/webhooks/hubspot/company`, `POST /v1/webhooks/hubspot`. Private: `GET /healthz`,
//! `GET /readyz`, `GET /metrics`.

pub mod health;
pub mod signature;
pub mod webhook;
