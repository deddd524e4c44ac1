//! The relay's functions: its private contract with the extension, described in `extension/RELAY_CONTRACT.md`.
//!
//! Lock order, everywhere: [`one_at_a_time`], links in order of id, the queue, rows of users' tables without waiting.

mod absorb;
mod apply;
mod archive;
mod backlog;
mod brake;
mod claim;
mod collision;
mod complete;
mod decide;
pub mod lifecycle;
mod maintain;
mod receive;
mod reconcile;
mod refusals;
mod rekey;
mod shed;

use absorb::absorb;
pub use receive::lock_event;

use crate::book::Book;
use crate::catalog::Catalog;
use crate::spi;
use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::{Value as Json, json};

/// A JSON array of objects of type `T`, or an error that says which argument is wrong.
fn parse<T: serde::de::DeserializeOwned>(argument: &str, json: &Json) -> T {
    match serde_json::from_value(json.clone()) {
        Ok(parsed) => parsed,
        // serde's message may quote a value: the position is enough.
        Err(_) => crate::error::invalid(
            format!("argument {argument} does not have the documented form"),
            "see extension/RELAY_CONTRACT.md; relay and extension may be of different versions",
        ),
    }
}

/// The database's clock, microseconds since 1970.
pub fn now_us() -> i64 {
    /// PostgreSQL's epoch is 2000-01-01.
    const EPOCH_DIFFERENCE_US: i64 = 946_684_800_000_000;
    // SAFETY: a plain C call without arguments.
    unsafe { pg_sys::GetCurrentTimestamp() + EPOCH_DIFFERENCE_US }
}

/// Calls that change states run one at a time per database: taken first of all locks and held until the transaction
/// ends, it rules out deadlocks among relays, and keeps changes and events of a field in order. A call is short: no
/// transaction is open while HubSpot is asked.
pub fn one_at_a_time() {
    spi::run(
        "SELECT pg_advisory_xact_lock(1213418579, 12) WHERE $1::text IS NOT NULL",
        &json!({}),
    );
}

/// Whether the relay may work: armed for this database, and not paused.
fn may_work() -> bool {
    spi::call_text("SELECT (hubspot.armed_reason(NULL) IS NULL AND NOT paused)::text FROM hubspot.binding WHERE $1::text IS NOT NULL", &json!({}))
        .as_deref()
        == Some("true")
}

/// The table refused HubSpot's value (a constraint, a trigger): on record, with the table's own words.
fn refused_by_table(link: i64, property: Option<&str>, value: Option<String>, at_us: i64, reason: &str) {
    let mut book = Book::open(Catalog::load(), &[link], now_us());
    if let Some(record) = book.records.get_mut(&link) {
        let field = property.and_then(|p| record.mapping.by_property(p)).cloned();
        record.fail(field.as_ref(), "inbound", "row", reason, json!({"value": value}));
        if let Some(field) = &field {
            let now = now_us();
            record.entry(field).note_remote(value, at_us, now);
        }
    }
    book.flush();
}

/// See the contract.
#[pg_extern(name = "relay_write_ids", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_write_ids() -> i64 {
    maintain::write_ids()
}

#[pg_extern(name = "relay_claim", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_claim(relay_id: &str, max_records: i32, lease_ms: i32, cache_ttl_ms: i32) -> JsonB {
    JsonB(claim::claim(relay_id, max_records, lease_ms, cache_ttl_ms))
}

#[pg_extern(name = "relay_decide", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_decide(relay_id: &str, observations: JsonB) -> JsonB {
    JsonB(decide::decide(relay_id, &observations.0))
}

#[pg_extern(name = "relay_complete", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_complete(relay_id: &str, results: JsonB) -> JsonB {
    JsonB(complete::complete(relay_id, &results.0))
}

#[pg_extern(name = "relay_receive", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_receive(events: JsonB) -> i64 {
    receive::receive(&events.0)
}

#[pg_extern(name = "relay_apply", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_apply(max_events: i32) -> JsonB {
    JsonB(apply::apply(max_events))
}

#[pg_extern(name = "relay_reconcile", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_reconcile(relay_id: &str, done: Option<JsonB>, changes: bool, lease_ms: i32) -> Option<JsonB> {
    let answer = reconcile::reconcile(relay_id, done.as_ref().map(|d| &d.0), changes, lease_ms);
    (!answer.is_null()).then_some(JsonB(answer))
}

/// See the contract.
#[pg_extern(name = "relay_reclaim", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_reclaim() -> i64 {
    backlog::reclaim()
}

#[pg_extern(name = "relay_refusals", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_refusals() -> JsonB {
    JsonB(refusals::refusals())
}

#[pg_extern(name = "relay_retry", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_retry(ids: JsonB) -> i64 {
    crate::conflict::retry(Some(&parse::<Vec<i64>>("ids", &ids.0)))
}

/// Takes over every captured change; gives their number.
pub fn absorb_all() -> i64 {
    let mut total = 0;
    loop {
        let taken = absorb(absorb::PAGE);
        total += taken;
        if taken < absorb::PAGE {
            return total;
        }
    }
}
