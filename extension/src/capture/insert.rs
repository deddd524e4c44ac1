//! Appending a row to `hubspot.capture` without the executor, at the end of the table.
//!
//! The application pays for every index, sequence and byte of this table, so it has neither index nor sequence: a heap
//! insert per captured row is all, without parsing, planning, permission checks or an executor state (the invoking user
//! needs no right on the table).
//!
//! Order comes from where a row lies. The insert goes into the block that is the table's last one at that moment, or into
//! a new one behind it, and never into an earlier block that has room. Two changes of one row are ordered by the row's
//! lock: the second transaction goes on after the first has committed, hence looks for the last block after the first has
//! put its row there. So **of two changes of one row the later one is never in an earlier block**. Within a block
//! `position` orders them: the write-ahead log's insert position, read before the insert, which rises for the same reason
//! (line pointers do not: VACUUM may free an early one). Both hold whatever isolation level, savepoint or prepared
//! transaction is involved, and a visible row's predecessors are visible as well. The absorber (`relay/backlog.rs`) reads
//! whole blocks from the front.
//!
//! Nothing reuses freed blocks; `hubspot.relay_reclaim` truncates the table once it is empty.
//!
//! Should somebody give the table an index, another trigger or another access method, rows take the executor's way
//! instead, which may use freed space: then order across blocks is no longer promised.

use core::cell::Cell;
use core::ffi::CStr;

use pgrx::pg_sys;
use pgrx::varlena::set_varsize_4b;

use super::{catalog, ffi};

/// Number of columns of `hubspot.capture`.
pub(super) const WIDTH: usize = 9;

/// Columns of `hubspot.capture` in the order of [`Row::datums`], fixed sizes first so that nothing is padded.
const COLUMNS: [&CStr; WIDTH] = [
    c"position",
    c"captured_at",
    c"mapping_id",
    c"db_user",
    c"op",
    c"entity_key",
    c"old_key",
    c"changes",
    c"application_name",
];

/// What happened to a record.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Op {
    Insert = b'I',
    Update = b'U',
    Delete = b'D',
    /// The key itself changed; fields may have changed as well.
    Rekey = b'K',
    Truncate = b'T',
}

/// One captured change. Texts are in the server's encoding.
pub(super) struct Row<'a> {
    pub(super) mapping_id: i32,
    pub(super) op: Op,
    pub(super) entity_key: Option<&'a [u8]>,
    pub(super) old_key: Option<&'a [u8]>,
    pub(super) changes: Option<&'a [u8]>,
}

/// The one trigger of `hubspot.capture` that this way of inserting leaves out: it is for rows that a restore brings.
const RESTORED: &CStr = c"restored";

thread_local! {
    /// The server's log has been told that the table is unusable.
    static NOTED: Cell<bool> = const { Cell::new(false) };
    /// `hubspot.capture`, once it was found to be as expected; `InvalidOid`: to be looked up.
    static TABLE: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// Relation cache invalidation: only marks.
pub(super) fn invalidate(relid: pg_sys::Oid) {
    if relid == pg_sys::InvalidOid || relid == TABLE.get() {
        TABLE.set(pg_sys::InvalidOid);
    }
}

/// Appends one row.
///
/// # Safety
/// Only inside a transaction that may write; memory is left to the current memory context, which must be a short one.
pub(super) unsafe fn append(row: &Row) {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut datums, mut nulls) = row.datums();
        append_datums(&mut datums, &mut nulls);
    }
}

/// Appends one row, given as the columns' values; that of `position` is put in.
///
/// # Safety
/// As for [`append`]; the values must be of the columns' types.
pub(super) unsafe fn append_datums(values: &mut [pg_sys::Datum; WIDTH], nulls: &mut [bool; WIDTH]) {
    // SAFETY: the usual sequence of opening, inserting and closing; the lock is kept until the transaction ends. An
    // error ends the (sub)transaction, which cleans up what was left open.
    unsafe {
        let Some(relid) = table() else {
            if !NOTED.replace(true) {
                pgrx::log!("hubspot_sync: hubspot.capture is missing or not as expected: nothing is captured");
            }
            return;
        };
        if !ffi::append_at_end(relid, values, nulls) {
            let relation = pg_sys::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            let tuple = pg_sys::heap_form_tuple((*relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            insert_with_executor(relation, tuple);
            pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}

/// The executor's insert, for a table that is not plain any more.
///
/// # Safety
/// `relation` must be open with a lock that allows writing, `tuple` made for it.
unsafe fn insert_with_executor(relation: pg_sys::Relation, tuple: pg_sys::HeapTuple) {
    // SAFETY: the sequence logical replication uses to apply a row; everything is allocated in the current context.
    unsafe {
        let estate = pg_sys::CreateExecutorState();
        let result: *mut pg_sys::ResultRelInfo = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
        (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
        pg_sys::InitResultRelInfo(result, relation, 1, core::ptr::null_mut(), 0);
        (*estate).es_output_cid = pg_sys::GetCurrentCommandId(true);
        pg_sys::ExecOpenIndices(result, false);
        let slot = pg_sys::table_slot_create(relation, core::ptr::null_mut());
        pg_sys::ExecForceStoreHeapTuple(tuple, slot, false);
        #[cfg(feature = "pg13")]
        {
            (*estate).es_result_relation_info = result;
            pg_sys::ExecSimpleRelationInsert(estate, slot);
        }
        #[cfg(not(feature = "pg13"))]
        pg_sys::ExecSimpleRelationInsert(result, estate, slot);
        pg_sys::ExecCloseIndices(result);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::FreeExecutorState(estate);
    }
}

impl Row<'_> {
    /// The row's columns, in the order of [`COLUMNS`]; without the position.
    ///
    /// # Safety
    /// Only inside a transaction; texts are allocated in the current memory context.
    unsafe fn datums(&self) -> ([pg_sys::Datum; WIDTH], [bool; WIDTH]) {
        // SAFETY: `application_name` is NULL or NUL-terminated; the rest reads backend-local state.
        let (captured_at, user, application) = unsafe {
            let name = pg_sys::application_name;
            let name = if name.is_null() { c"" } else { CStr::from_ptr(name) };
            (
                pg_sys::GetCurrentTimestamp(),
                pg_sys::GetOuterUserId(),
                Some(name.to_bytes()).filter(|name| !name.is_empty()),
            )
        };
        // SAFETY: the current context outlives the insert.
        let optional = unsafe { texts([self.entity_key, self.old_key, self.changes, application]) };
        let zero = pg_sys::Datum::from(0);
        let [entity_key, old_key, changes, application] = optional.map(|text| text.unwrap_or(zero));
        let [no_key, no_old_key, no_changes, no_application] = optional.map(|text| text.is_none());
        (
            [
                zero,
                pg_sys::Datum::from(captured_at),
                pg_sys::Datum::from(self.mapping_id),
                pg_sys::Datum::from(user),
                pg_sys::Datum::from(self.op as u8),
                entity_key,
                old_key,
                changes,
                application,
            ],
            [
                false,
                false,
                false,
                false,
                false,
                no_key,
                no_old_key,
                no_changes,
                no_application,
            ],
        )
    }
}

/// Makes text datums, all in one piece of memory.
///
/// # Safety
/// The current memory context must outlive their use.
unsafe fn texts<const N: usize>(texts: [Option<&[u8]>; N]) -> [Option<pg_sys::Datum>; N] {
    const HEADER: usize = size_of::<i32>();
    let sizes = texts.map(|text| text.map_or(0, |text| (HEADER + text.len()).next_multiple_of(8)));
    // SAFETY: every text gets its own aligned stretch, as long as its size says. A total beyond what one allocation may
    // hold is refused by PostgreSQL, like any value of that size.
    unsafe {
        let mut at = pg_sys::palloc(sizes.iter().sum::<usize>().max(1)).cast::<u8>();
        let mut next = sizes.into_iter();
        texts.map(|text| {
            let start = at;
            at = at.add(next.next().unwrap_or(0));
            text.map(|text| {
                set_varsize_4b(start.cast(), (HEADER + text.len()) as i32);
                core::ptr::copy_nonoverlapping(text.as_ptr(), start.add(HEADER), text.len());
                pg_sys::Datum::from(start)
            })
        })
    }
}

/// The table, looked up once per backend; none when it is not there or not as expected.
///
/// # Safety
/// Only inside a transaction.
#[inline]
unsafe fn table() -> Option<pg_sys::Oid> {
    let known = TABLE.get();
    if known != pg_sys::InvalidOid {
        return Some(known);
    }
    // SAFETY: the caller's promise.
    unsafe { look_up() }
}

/// Looks the table up and checks its columns.
///
/// # Safety
/// Only inside a transaction.
#[cold]
unsafe fn look_up() -> Option<pg_sys::Oid> {
    // SAFETY: catalogue look-ups and reads of an open relation inside a transaction.
    unsafe {
        let relid = catalog::table(c"capture");
        if relid == pg_sys::InvalidOid {
            return None;
        }
        let relation = pg_sys::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let descriptor = (*relation).rd_att;
        let expected = (*descriptor).natts == WIDTH as i32
            && COLUMNS
                .iter()
                .enumerate()
                .all(|(at, name)| catalog::column_position(descriptor, name) == Some(at));
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        if !expected {
            return None;
        }
        // Only now: taking the lock may have brought an invalidation.
        TABLE.set(relid);
        Some(relid)
    }
}

/// Is a heap insert all it takes to put a row into the table?
///
/// # Safety
/// `relation` must be open. Called behind a guard: nothing in here may have a destructor.
pub(super) unsafe fn is_plain(relation: pg_sys::Relation) -> bool {
    // SAFETY: members of an open relation; a trigger's name is NUL-terminated.
    unsafe {
        let triggers = (*relation).trigdesc;
        !(*(*relation).rd_rel).relhasindex
            && (triggers.is_null()
                || ((*triggers).numtriggers == 1 && CStr::from_ptr((*(*triggers).triggers).tgname) == RESTORED))
    }
}
