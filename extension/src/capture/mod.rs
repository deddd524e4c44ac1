//! The capture trigger: what an application changed, as one row of `hubspot.capture` per changed row.
//!
//! `hubspot.capture_change()` is an AFTER trigger, for each row on INSERT, UPDATE and DELETE, and for each statement on
//! TRUNCATE. It runs inside the application's transaction, so it has two duties: to cost little and never to be the
//! reason a statement fails.
//!
//! - The mapping is resolved once per backend (`plan`).
//! - An UPDATE compares the mapped columns by their stored bytes and returns when none differs (`tuple`).
//! - Only what differs is detoasted and turned into text, a JSON path is compared at the path (`datum_text`, `json_path`).
//! - One row per change goes to the end of a table without index, without the executor (`insert`, `capture_tuple`), many of one
//!   command page by page (`batch`); it is there if and only if the transaction commits.
//! - A row that moves to another partition is one change, not a delete and an insert (`moved`).
//! - Past a cap of what waits, records are marked instead (`shed`).
//! - What the applier writes itself is left out (`suppress`); a sleeping relay is woken at commit (`notify`).
//!
//! A record is named by its key columns: the text of the only one, or a JSON array of the texts of several. A row whose
//! key holds a NULL does not exist for the mapping: giving it a key counts as an insert, taking the key as a delete.

mod batch;
mod capture_tuple;
mod catalog;
mod datum_text;
mod ffi;
mod insert;
mod json_out;
mod json_path;
mod moved;
mod notify;
mod number_text;
mod plan;
mod row;
mod shed;
mod sql;
pub mod suppress;
mod text;
mod tuple;

pub use catalog::column;

/// Writes what this transaction has captured and not written yet.
///
/// # Safety
/// Only inside a transaction that may write.
pub unsafe fn flush() {
    // SAFETY: the caller's promise.
    unsafe { batch::flush() }
}
