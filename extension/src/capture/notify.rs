//! Waking the relay at commit, without serialising commits; and the other transaction callbacks of this module.
//!
//! A NOTIFY holds one lock for the whole cluster until its transaction has committed, which ends group commit. So a
//! transaction that captured something decides in its pre-commit callback, when it knows most:
//!
//! 1. A busy relay holds the advisory lock ([`CLASS`], [`RELAY_AWAKE`]) for as long as it drains and will look again
//!    before it sleeps: nobody needs waking. The lock is only looked at, not tried: a try writes to the lock table, and
//!    would get into a relay's way. Even a look takes a lock of the lock table for itself, at which many committers queue:
//!    so what a session has seen holds for [`TRUST`], and a relay looks for work a last time longer than that after it has
//!    given the lock back.
//! 2. Else the transaction tries for ([`CLASS`], [`NOTIFIER`]), which it then keeps until it has committed. Whoever does
//!    not get it relies on the notification that is already under way. So at most one commit at a time pays for NOTIFY,
//!    even when no relay runs at all or the relay is slow to become busy.
//!
//! Nobody waits. A wake-up can be missed (the relay falls asleep between its last look and a commit
//! already under way; the transaction that was going to notify is still writing its commit record): the relay polls, at
//! least every second, and that bounds the delay. Nothing is sent for a prepared transaction, which PostgreSQL would
//! refuse with a NOTIFY in it, nor while the notification queue is more than half full.

use core::cell::Cell;
use core::ffi::c_void;

use pgrx::pg_sys;

use super::{batch, ffi, moved, suppress};

/// First key of this extension's advisory locks.
const CLASS: u32 = 1_213_418_579;
/// Second key: held by a relay that is draining.
const RELAY_AWAKE: u32 = 1;
/// Second key: held by the transaction that is about to notify.
const NOTIFIER: u32 = 2;
/// `field4` of an advisory lock's tag when it has two 32-bit keys.
const TWO_KEYS: u16 = 2;

/// How long a session relies on having seen a busy relay, in microseconds. `RELAY_CONTRACT.md` tells relays.
const TRUST: i64 = 10_000;

thread_local! {
    /// When a busy relay was last seen.
    static AWAKE_SEEN: Cell<pg_sys::TimestampTz> = const { Cell::new(0) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    static CAPTURED: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this transaction captured a row. One rolled back to a savepoint may cost a needless wake-up, no more.
#[inline]
pub(super) fn captured() {
    if !CAPTURED.replace(true) {
        register_callbacks();
    }
}

/// Registers the transaction callbacks, once per backend.
pub(super) fn register_callbacks() {
    if REGISTERED.replace(true) {
        return;
    }
    // SAFETY: the callbacks are functions of this library, which is never unloaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(on_transaction), core::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction), core::ptr::null_mut());
    }
}

/// Called at each step of every transaction's end. Most have nothing to do, and are done without a guard: nothing here can
/// raise an error.
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE, XACT_EVENT_PREPARE,
    };
    let waiting = moved::any() || batch::any();
    match event {
        XACT_EVENT_PRE_COMMIT if !waiting && (!CAPTURED.get() || awake_lately()) => CAPTURED.set(false),
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            // SAFETY: in a transaction that can still write, take locks and queue notifications.
            unsafe { before_commit(event) }
        }
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE => {
            CAPTURED.set(false);
            if waiting || suppress::any() {
                // SAFETY: drops memory of this library alone.
                unsafe { forget() };
            }
        }
        _ => {}
    }
}

/// Writes what waits and sees to the wake-up.
///
/// # Safety
/// In the pre-commit or pre-prepare callback.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn before_commit(event: pg_sys::XactEvent::Type) {
    // SAFETY: the caller's promise.
    unsafe {
        moved::flush();
        batch::flush();
        if CAPTURED.replace(false) && event == pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT {
            wake();
        }
    }
}

/// Drops what the transaction has left.
///
/// # Safety
/// At a transaction's end.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget() {
    suppress::clear();
    moved::clear();
    batch::clear();
}

/// Whether this session has seen a busy relay a moment ago.
#[inline]
fn awake_lately() -> bool {
    // A clock that was set back is not relied on.
    (0..TRUST).contains(&(ffi::now() - AWAKE_SEEN.get()))
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    _subid: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    use pg_sys::SubXactEvent::{SUBXACT_EVENT_ABORT_SUB, SUBXACT_EVENT_COMMIT_SUB, SUBXACT_EVENT_PRE_COMMIT_SUB};
    if event == SUBXACT_EVENT_PRE_COMMIT_SUB {
        // SAFETY: in a subtransaction that can still write.
        unsafe { batch::flush() };
    }
    if event == SUBXACT_EVENT_ABORT_SUB || event == SUBXACT_EVENT_COMMIT_SUB {
        // SAFETY: reads a backend-local variable.
        let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
        suppress::end_subtransaction(level, event == SUBXACT_EVENT_COMMIT_SUB);
        moved::end_subtransaction(level, event == SUBXACT_EVENT_COMMIT_SUB);
        batch::end_subtransaction(level, event == SUBXACT_EVENT_COMMIT_SUB);
    }
}

/// Queues a notification unless a relay is busy or somebody else is about to notify.
///
/// # Safety
/// Only before the transaction's notifications are written, that is in the pre-commit callback.
unsafe fn wake() {
    // SAFETY: lock tags are plain values; nothing is waited for.
    unsafe {
        // How many sessions hold the lock or are about to: only relays do.
        if pg_sys::LockWaiterCount(&tag(RELAY_AWAKE)) > 0 {
            return AWAKE_SEEN.set(ffi::now());
        }
        if try_lock(&tag(NOTIFIER), pg_sys::ExclusiveLock) && queue_has_room() {
            ffi::notify(c"hubspot_outbox");
        }
    }
}

/// The tag of advisory lock ([`CLASS`], `key`) in this database.
fn tag(key: u32) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: set when the backend connected, never changed.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: CLASS,
        locktag_field3: key,
        locktag_field4: TWO_KEYS,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// Takes a transaction-level lock if it is free.
///
/// # Safety
/// Only inside a transaction.
unsafe fn try_lock(tag: &pg_sys::LOCKTAG, mode: u32) -> bool {
    // SAFETY: `tag` is complete; with `dontWait` the call does not block.
    let result = unsafe { pg_sys::LockAcquire(tag, mode as pg_sys::LOCKMODE, false, true) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// A queue that nobody empties would in the end fail every commit that notifies: stay far away from that.
///
/// # Safety
/// Only inside a transaction.
unsafe fn queue_has_room() -> bool {
    // SAFETY: the function takes no arguments and returns a double.
    let usage = unsafe { pgrx::direct_function_call::<f64>(pg_sys::pg_notification_queue_usage, &[]) };
    usage.is_none_or(|usage| usage < 0.5)
}
