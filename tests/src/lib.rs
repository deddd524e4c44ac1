//! What the tests and the demo of hubspot_sync are made of; nothing here is linked into the product.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`cluster`] | a throwaway PostgreSQL with the extension |
//! | [`simulator`] | a stateful, strict HubSpot |
//! | [`world`] | a database, a portal and relays between them |

pub mod cluster;
pub mod simulator;
pub mod world;
