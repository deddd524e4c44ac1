//! The per-field state machine: one field of one linked record, both sides, every event.
//!
//! HubSpot has no conditional write, so a foreign edit can be buried between our look and our write. The machine's
//! promise is therefore *detect and repair*: once edits and faults stop, both sides hold the value the policy picks (or
//! a conflict is open), and each edit has a recorded end.
//!
//! - [`FieldState`] is what the database stores.
//! - [`FieldState::local_edit`], [`FieldState::decide`], [`FieldState::complete`], [`FieldState::inbound`] and the few
//!   others are the events. Each changes the state and appends [`Effect`]s; nothing else happens.
//! - [`Policy`] is what the mapping says about the field.
//!
//! Instants are microseconds since the Unix epoch; 0 means never. HubSpot's instants are compared with each other;
//! only `LATEST_WINS` compares a database instant with one of HubSpot's, corrected by the measured clock offset.

mod backfill;
mod decide;
mod deletion;
mod effect;
mod inbound;
mod local;
mod manual;
mod outcome;
mod reconcile;
pub mod rules;
mod state;

pub use backfill::Backfill;
pub use decide::{Decision, Observation, Read, Version};
pub use deletion::{Against, Deleted, Deletion};
pub use effect::{ConflictKind, EditEnd, Effect, Note, Winner};
pub use inbound::{Intake, Source};
pub use reconcile::{Comparison, Found};
pub use state::{FieldState, Held, InFlight, Policy, Side};
