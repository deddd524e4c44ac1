//! HubSpot's API: paths, wire types, failures, the rate limit and the client. Knows nothing of the database.

pub mod client;
pub mod error;
pub mod model;
pub mod paths;
pub mod rate_limit;
pub mod refusal;
