//! The database: pool, the extension's private functions, and the connection that listens. Knows nothing of HubSpot.

pub mod contract;
pub mod error;
pub mod journal;
pub mod listener;
pub mod monitoring;
pub mod page;
pub mod pool;
pub mod reconcile;
pub(crate) mod tls;
