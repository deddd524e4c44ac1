//! `hubspot-relay`: the stateless service between a PostgreSQL database with the extension `hubspot_sync` and HubSpot.
//!
//! The extension decides, the relay carries. It claims changed records, reads what HubSpot holds of them, sends what the
//! extension decided, stores HubSpot's webhooks and has them applied. Everything that matters is in the database: kill
//! the relay at any instruction, start another on another host, and nothing is lost.
//!
//! `db` and `hubspot` do not know each other; `deliver`, `ingest` and `web` bring them together; `supervisor` starts and
//! stops all.

mod admin;
mod alerts;
pub mod check;
pub mod config;
pub mod conflicts;
pub mod db;
mod definitions;
mod deliver;
pub mod error;
pub mod figures;
mod gate;
pub mod hubspot;
mod ingest;
pub mod init;
mod journal;
mod lend;
pub mod liveness;
pub mod metrics;
mod portal;
pub mod provision;
pub mod reconcile;
mod refused;
pub mod report;
pub mod retry;
mod schema;
mod secrets;
pub mod status;
pub mod supervisor;
mod systemd;
pub mod telemetry;
pub mod web;

pub use config::Config;
pub use error::RelayError;
pub use supervisor::{Relay, run};

/// Makes `ring` the process's TLS provider. Harmless when one is installed already.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
