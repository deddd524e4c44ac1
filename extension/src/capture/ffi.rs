//! The few PostgreSQL functions this module needs that pgrx has no bindings for, and those of the insert, which are called
//! together: pgrx guards each call of its own bindings by itself, which costs as much as some of these functions do.
//!
//! Their signatures are the same in every supported major version (13 to 18). All are called behind pgrx's guard, which
//! turns a PostgreSQL error into an unwinding one; nothing with a destructor may live inside it.

use core::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::{capture_tuple, insert};

mod raw {
    use core::ffi::{c_char, c_int};

    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        /// `commands/async.h`
        pub(super) fn Async_Notify(channel: *const c_char, payload: *const c_char);
        /// `catalog/pg_inherits.h`
        pub(super) fn typeInheritsFrom(subclass: pg_sys::Oid, superclass: pg_sys::Oid) -> bool;
        /// `access/table.h`
        pub(super) fn table_open(relid: pg_sys::Oid, mode: pg_sys::LOCKMODE) -> pg_sys::Relation;
        /// `access/table.h`
        pub(super) fn table_close(relation: pg_sys::Relation, mode: pg_sys::LOCKMODE);
        /// `access/heapam.h`
        pub(super) fn GetHeapamTableAmRoutine() -> *const pg_sys::TableAmRoutine;
        /// `access/xlog.h`
        pub(super) fn GetXLogInsertRecPtr() -> pg_sys::XLogRecPtr;
        /// `utils/timestamp.h`
        pub(super) fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
        /// `miscadmin.h`
        pub(super) fn GetOuterUserId() -> pg_sys::Oid;
        /// `access/heapam.h`
        pub(super) fn heap_insert(
            relation: pg_sys::Relation,
            tuple: pg_sys::HeapTuple,
            command: pg_sys::CommandId,
            options: c_int,
            state: pg_sys::BulkInsertState,
        );
        /// `access/heapam.h`
        pub(super) fn heap_multi_insert(
            relation: pg_sys::Relation,
            slots: *mut *mut pg_sys::TupleTableSlot,
            count: c_int,
            command: pg_sys::CommandId,
            options: c_int,
            state: pg_sys::BulkInsertState,
        );
        /// `access/xact.h`
        pub(super) fn GetCurrentCommandId(used: bool) -> pg_sys::CommandId;
        /// `utils/palloc.h`
        pub(super) fn MemoryContextReset(context: pg_sys::MemoryContext);
    }
}

/// What is put into a captured row at the last moment.
pub(super) struct Moment {
    /// The write-ahead log's insert position.
    pub(super) position: u64,
    pub(super) at: pg_sys::TimestampTz,
    /// Who runs the statement, whatever function it is in.
    pub(super) user: pg_sys::Oid,
}

impl Moment {
    /// Now.
    ///
    /// # Safety
    /// Only inside a transaction.
    pub(super) unsafe fn now() -> Self {
        // SAFETY: none of these can raise an error.
        unsafe {
            Self {
                position: raw::GetXLogInsertRecPtr(),
                at: now(),
                user: raw::GetOuterUserId(),
            }
        }
    }
}

/// The number of the current command, whether it has written anything or not.
///
/// # Safety
/// Only inside a transaction.
pub(super) unsafe fn command() -> pg_sys::CommandId {
    // SAFETY: asked without marking it as used it cannot raise an error.
    unsafe { raw::GetCurrentCommandId(false) }
}

/// The clock's time.
#[inline]
pub(super) fn now() -> pg_sys::TimestampTz {
    // SAFETY: reads the clock; cannot raise an error.
    unsafe { raw::GetCurrentTimestamp() }
}

/// The access method of heaps.
pub(super) fn heap() -> *const pg_sys::TableAmRoutine {
    // SAFETY: gives the address of a constant.
    unsafe { raw::GetHeapamTableAmRoutine() }
}

/// What inserting many rows at once takes.
pub(super) struct Many {
    /// [`super::batch::MOST`] slots for heap tuples, with the table's descriptor.
    pub(super) slots: *mut *mut pg_sys::TupleTableSlot,
    /// Emptied afterwards.
    pub(super) scratch: pg_sys::MemoryContext,
}

/// Inserts laid out tuples at the table's end, page by page, in their order. False, and nothing done, when a heap insert is
/// not all that the table needs.
///
/// # Safety
/// As for [`append_at_end`]; no more tuples than `many` has slots.
pub(super) unsafe fn append_many(relid: pg_sys::Oid, tuples: &mut [pg_sys::HeapTupleData], many: &Many) -> bool {
    // SAFETY: the caller's promise; the closure holds nothing that has to be dropped.
    unsafe {
        pg_guard_ffi_boundary(|| {
            let relation = raw::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            let plain = insert::takes_heap_insert(relation);
            if plain {
                let old = pg_sys::MemoryContextSwitchTo(many.scratch);
                // The records that follow take more bytes than there are tuples: whatever is captured next is behind.
                let position = raw::GetXLogInsertRecPtr();
                for (at, tuple) in tuples.iter_mut().enumerate() {
                    capture_tuple::set_position(tuple.t_data.cast(), position + at as u64);
                    let slot: *mut pg_sys::HeapTupleTableSlot = (*many.slots.add(at)).cast();
                    (*slot).tuple = tuple;
                    // As if the slot owned it: then it is not copied. It is taken out again below.
                    (*slot).base.tts_flags = pg_sys::TTS_FLAG_SHOULDFREE as u16;
                }
                forget_block(relation);
                raw::heap_multi_insert(
                    relation,
                    many.slots,
                    tuples.len() as core::ffi::c_int,
                    raw::GetCurrentCommandId(true),
                    pg_sys::TABLE_INSERT_SKIP_FSM as core::ffi::c_int,
                    core::ptr::null_mut(),
                );
                for at in 0..tuples.len() {
                    let slot: *mut pg_sys::HeapTupleTableSlot = (*many.slots.add(at)).cast();
                    (*slot).tuple = core::ptr::null_mut();
                    (*slot).base.tts_flags = pg_sys::TTS_FLAG_EMPTY as u16;
                }
                pg_sys::MemoryContextSwitchTo(old);
                raw::MemoryContextReset(many.scratch);
            }
            raw::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            plain
        })
    }
}

/// Without a remembered block and without the free space map, the last block is tried and then a new one made.
///
/// # Safety
/// `relation` must be open.
unsafe fn forget_block(relation: pg_sys::Relation) {
    // SAFETY: a member of an open relation.
    unsafe {
        let storage = (*relation).rd_smgr;
        if !storage.is_null() {
            (*storage).smgr_targblock = pg_sys::InvalidBlockNumber;
        }
    }
}

/// Inserts the tuple that `make` gives into the table's last block, or into a new one behind it (see `insert`). False, and
/// nothing done, when a heap insert is not all that the table needs.
///
/// # Safety
/// Only inside a transaction that may write; the tuple must be one of the table. `make` runs where an error of PostgreSQL
/// does not unwind: nothing that it leaves behind may have a destructor. The current memory context must be a short one.
pub(super) unsafe fn append_at_end(relid: pg_sys::Oid, make: impl FnOnce(&Moment) -> pg_sys::HeapTupleData) -> bool {
    // SAFETY: the caller's promise; the closure holds nothing that has to be dropped.
    unsafe {
        pg_guard_ffi_boundary(|| {
            let relation = raw::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            let plain = insert::takes_heap_insert(relation);
            if plain {
                let mut tuple = make(&Moment::now());
                forget_block(relation);
                raw::heap_insert(
                    relation,
                    &mut tuple,
                    raw::GetCurrentCommandId(true),
                    pg_sys::TABLE_INSERT_SKIP_FSM as core::ffi::c_int,
                    core::ptr::null_mut(),
                );
            }
            raw::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            plain
        })
    }
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
