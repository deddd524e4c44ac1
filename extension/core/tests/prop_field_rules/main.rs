//! The rules of the per-field state machine one by one: what each event does to the state, and which effects it has.

mod case;
mod directions;
mod first_contact;
mod forms;
mod manual;
mod refusals;
mod webhooks;
mod writes;
