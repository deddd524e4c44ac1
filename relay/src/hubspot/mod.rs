//! HubSpot's API: paths, wire types, failures, the limits and the client. Knows nothing of the database.

pub(crate) mod auth;
pub mod client;
pub mod error;
pub(crate) mod export;
pub mod journal;
pub mod model;
pub mod paths;
pub mod quota;
pub mod refusal;
pub mod setup;
