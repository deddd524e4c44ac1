//! The pure domain core of `hubspot_sync`: what a mapping is, how values compare, and what happens to one field of one
//! record when either side edits it.
//!
//! Nothing here reads a clock, a database or a network: callers pass instants in and get decisions and effects back, so
//! the very code that ships is driven by unit tests, property tests and model checkers.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`path`] | JSON paths inside a column: parse, print, read, write |
//! | [`value`] | one canonical form per type, so that `100.00` equals `100` |
//! | [`transform`] | pairs of inverse functions between the two sides' forms |
//! | [`mapping`] | directions, strategies and the mapping document, validated |
//! | [`field`] | the per-field state machine: edits, decisions, conflicts, echoes |
#![deny(missing_docs)]

pub mod error;
pub mod field;
pub mod mapping;
pub mod path;
pub mod transform;
pub mod value;
