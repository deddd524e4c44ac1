//! What the tests and the demo of hubspot_sync are made of; nothing here is linked into the product.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`mod@bench`] | what capture costs, measured |
//! | [`cluster`] | a throwaway PostgreSQL with the extension |
//! | [`demo`] | what `make demo` plays |
//! | [`documents`] | the fenced blocks of the documentation |
//! | [`program`] | the relay as a program, for tests of the command line |
//! | [`simulator`] | a stateful, strict HubSpot |
//! | [`soak`] | random edits of both sides under faults, and the rules they are checked by |
//! | [`world`] | a database, a portal and relays between them |

pub mod bench;
pub mod cluster;
pub mod demo;
pub mod documents;
pub mod program;
pub mod simulator;
pub mod soak;
pub mod world;
