//! The few PostgreSQL functions this module needs that pgrx has no bindings for.
//!
//! Their signatures are the same in every supported major version (13 to 18). Each is called behind pgrx's guard, which
//! turns a PostgreSQL error into an unwinding one.

use core::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

mod raw {
    use core::ffi::c_char;

    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        /// `commands/sequence.h`
        pub(super) fn nextval_internal(relid: pg_sys::Oid, check_permissions: bool) -> i64;
        /// `commands/async.h`
        pub(super) fn Async_Notify(channel: *const c_char, payload: *const c_char);
        /// `catalog/pg_inherits.h`
        pub(super) fn typeInheritsFrom(subclass: pg_sys::Oid, superclass: pg_sys::Oid) -> bool;
    }
}

/// The sequence's next value, without a permission check.
///
/// # Safety
/// Only inside a transaction that may write; `sequence` must be a sequence.
pub(super) unsafe fn next_value(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: the caller's promise.
    unsafe { pg_guard_ffi_boundary(|| raw::nextval_internal(sequence, false)) }
}

/// Queues a notification without payload for the end of this transaction.
///
/// # Safety
/// Only inside a transaction, before its notifications are written.
pub(super) unsafe fn notify(channel: &CStr) {
    // SAFETY: the caller's promise; both strings are copied.
    unsafe { pg_guard_ffi_boundary(|| raw::Async_Notify(channel.as_ptr(), c"".as_ptr())) }
}

/// Does one row type inherit from (or is it that of a partition of) another?
///
/// # Safety
/// Only inside a transaction; both must be types.
pub(super) unsafe fn type_inherits(subclass: pg_sys::Oid, superclass: pg_sys::Oid) -> bool {
    // SAFETY: the caller's promise.
    unsafe { pg_guard_ffi_boundary(|| raw::typeInheritsFrom(subclass, superclass)) }
}
