//! Past the cap: which records changed, instead of what changed in them.
//!
//! While HubSpot or the relay is down, captured changes pile up. When what waits is larger than the cap
//! (`hubspot.set_capture_limit`), a change leaves only a mark in `hubspot.capture_shed`, one per record; the relay reads the
//! marked rows again once it has taken over what was captured before (`relay/shed.rs`). What is lost is the history in
//! between, not the value.
//!
//! A mark that is there already is locked against being taken away (`KEY SHARE`) until this transaction ends: who takes it
//! away reads the row, and must see what this transaction did. Nobody waits for anybody: a mark that is just being taken
//! away is skipped, and another one made.
//!
//! How much waits is asked once in [`EVERY`] changes of a session, so that the usual way pays nothing.

use core::cell::Cell;

use pgrx::pg_sys;
use serde_json::json;

use super::{catalog, insert};
use crate::spi;

/// Changes from one look at the size to the next.
const EVERY: u32 = 256;
/// The same, once the cap was reached.
const EVERY_WHEN_FULL: u32 = 32;

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(0) };
    static FULL: Cell<bool> = const { Cell::new(false) };
}

/// What lies before the mark was taken over.
const LOOK: &str = "SELECT 'full' FROM hubspot.binding b WHERE $1::text IS NOT NULL AND b.capture_limit <
  pg_relation_size('hubspot.capture') - coalesce((SELECT m.block * current_setting('block_size')::bigint
    FROM hubspot.capture_mark m WHERE m.filenode = pg_relation_filenode('hubspot.capture')), 0)";

/// The record's mark, kept where it is.
const KEEP: &str = "SELECT 'kept' FROM hubspot.capture_shed WHERE mapping_id = ($1::json->>'mapping')::int
  AND entity_key = $1::json->>'key' LIMIT 1 FOR KEY SHARE SKIP LOCKED";

const MARK: &str = "INSERT INTO hubspot.capture_shed (mapping_id, entity_key)
  VALUES (($1::json->>'mapping')::int, $1::json->>'key')";

/// Whether the cap is reached.
///
/// # Safety
/// Only inside a transaction that may write.
#[inline]
pub(super) unsafe fn full() -> bool {
    let left = LEFT.get();
    if left > 0 {
        LEFT.set(left - 1);
        return FULL.get();
    }
    // SAFETY: the caller's promise.
    unsafe { look() }
}

/// # Safety
/// As for [`full`].
#[cold]
unsafe fn look() -> bool {
    // Without SQL as long as the whole table is not larger: planning two statements would cost as much as capturing ten rows.
    // SAFETY: the caller's promise.
    let full = unsafe {
        let limit = catalog::capture_limit();
        limit.is_some_and(|limit| limit < insert::bytes())
            && as_owner(|| spi::call_text(LOOK, &json!({})).is_some()).unwrap_or(false)
    };
    FULL.set(full);
    LEFT.set(if full { EVERY_WHEN_FULL } else { EVERY });
    full
}

/// Marks a record. False, and nothing done, when its name cannot be kept: then the change has to be captured.
///
/// # Safety
/// Only inside a transaction that may write.
#[cold]
pub(super) unsafe fn mark(mapping_id: i32, entity_key: &[u8]) -> bool {
    let Ok(key) = core::str::from_utf8(entity_key) else {
        return false;
    };
    let mark = json!({"mapping": mapping_id, "key": key});
    let marked = || {
        // SAFETY: reads a backend-local variable.
        let one_snapshot = unsafe { pg_sys::XactIsoLevel } >= pg_sys::XACT_REPEATABLE_READ as i32;
        let kept = if one_snapshot {
            // There a mark that was taken away meanwhile is an error, which is not the application's.
            spi::attempt(|| spi::call_text(KEEP, &mark).is_some()).unwrap_or(false)
        } else {
            spi::call_text(KEEP, &mark).is_some()
        };
        if !kept {
            spi::run(MARK, &mark);
        }
    };
    // SAFETY: the caller's promise.
    unsafe { as_owner(marked) }.is_some()
}

/// Runs SQL as the owner of the extension's tables; none when they are not there.
///
/// # Safety
/// Only inside a transaction.
unsafe fn as_owner<R>(body: impl FnOnce() -> R) -> Option<R> {
    // SAFETY: the relation is open while its catalogue row is read.
    let owner = unsafe {
        let relid = catalog::table(c"capture_shed");
        if relid == pg_sys::InvalidOid {
            return None;
        }
        let relation = pg_sys::table_open(relid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let owner = (*(*relation).rd_rel).relowner;
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        owner
    };
    Some(spi::as_role(owner, body))
}
