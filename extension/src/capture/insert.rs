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
//! To ask for the last block costs a system call, and a row its own write-ahead log record: so only a command's first row is
//! inserted by itself, and those that follow are written together (`batch`).
//!
//! Nothing reuses freed blocks; `hubspot.relay_reclaim` truncates the table once it is empty.
//!
//! Should somebody give the table an index, another trigger or another access method, rows take the executor's way
//! instead, which may use freed space: then order across blocks is no longer promised.

use core::cell::Cell;
use core::ffi::CStr;

use pgrx::pg_sys;
use smallvec::SmallVec;

use super::capture_tuple::{self, Stamp};
use super::ffi::Moment;
use super::{batch, catalog, ffi, plan};

/// Number of columns of `hubspot.capture`.
pub(super) const WIDTH: usize = 9;

/// Columns of `hubspot.capture` in their order, fixed sizes first so that nothing is padded; `capture_tuple` knows it too.
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
    /// The transaction and the command that the last row was captured in.
    static LAST: Cell<(u32, pg_sys::CommandId)> = const { Cell::new((0, 0)) };
    /// Whether [`TABLE`] takes no more than a heap insert.
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Whether the last row was captured by this command, too; from now on the last one is.
///
/// # Safety
/// Only inside a transaction.
unsafe fn same_command() -> bool {
    // SAFETY: the caller's promise.
    let command = unsafe { ffi::command() };
    // SAFETY: the caller's promise; it is a number that no other transaction of this backend has.
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    let transaction = unsafe { (*pg_sys::MyProc).vxid.lxid };
    // SAFETY: as above.
    #[cfg(not(any(feature = "pg17", feature = "pg18")))]
    let transaction = unsafe { (*pg_sys::MyProc).lxid };
    LAST.replace((transaction, command)) == (transaction, command)
}

/// Relation cache invalidation: only marks.
pub(super) fn invalidate(relid: pg_sys::Oid) {
    if relid == pg_sys::InvalidOid || relid == TABLE.get() {
        TABLE.set(pg_sys::InvalidOid);
        batch::invalidate();
    }
}

/// Appends one row: at once the first one of a command, the others with those that follow.
///
/// # Safety
/// Only in a trigger call of a transaction that may write; memory is left to the current memory context, which must be a
/// short one.
pub(super) unsafe fn append(row: &Row) {
    // SAFETY: the caller's promise.
    unsafe {
        let again = same_command();
        if !again {
            batch::flush();
        }
        // What is left belongs to an outer level: then this one has to wait behind it.
        if again || batch::any() {
            let moment = Moment::now();
            if batch::push(row, &stamp(row, &moment), application()) {
                return;
            }
        }
        append_now(row);
    }
}

/// Appends one row at once, behind whatever waits.
///
/// # Safety
/// As for [`append`], but outside of a trigger call as well.
pub(super) unsafe fn append_now(row: &Row) {
    // SAFETY: the caller's promise.
    unsafe { batch::flush() };
    // SAFETY: the caller's promise. The closure leaves nothing behind; the buffer stays where it is until the insert is done.
    unsafe {
        let application = application();
        let mut words: SmallVec<[u64; 64]> = SmallVec::from_elem(0, capture_tuple::most_words(row, application));
        let bytes = capture_tuple::lay_out(&mut words, row, application);
        let tuple = words.as_mut_ptr();
        insert(|moment| {
            capture_tuple::stamp(tuple, &stamp(row, moment));
            capture_tuple::head(tuple, bytes)
        });
    }
}

/// What a row says besides its texts.
#[inline]
fn stamp(row: &Row, moment: &Moment) -> Stamp {
    Stamp {
        position: moment.position,
        captured_at: moment.at,
        mapping_id: row.mapping_id,
        db_user: moment.user.to_u32(),
        op: row.op as u8,
    }
}

/// The session's application name; empty where there is none.
///
/// # Safety
/// The result is good until the setting changes.
#[inline]
unsafe fn application<'a>() -> &'a [u8] {
    // SAFETY: `application_name` is NULL or NUL-terminated.
    unsafe {
        let name = pg_sys::application_name;
        if name.is_null() {
            b""
        } else {
            CStr::from_ptr(name).to_bytes()
        }
    }
}

/// Inserts rows in their order; their positions are put in.
///
/// # Safety
/// As for [`append_now`]; they must be laid out for the table, no more than [`batch::MOST`].
pub(super) unsafe fn insert_many(tuples: &mut [pg_sys::HeapTupleData]) {
    // SAFETY: the caller's promise. An error ends the (sub)transaction, which cleans up what was left open.
    unsafe {
        let Some(relid) = table() else {
            return missing();
        };
        let mut done = false;
        batch::with_slots(relid, |many| done = ffi::append_many(relid, tuples, many));
        if done {
            return;
        }
        let relation = pg_sys::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        for tuple in tuples {
            capture_tuple::set_position(tuple.t_data.cast(), pg_sys::GetXLogInsertRecPtr());
            insert_with_executor(relation, tuple);
        }
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
    }
}

/// Bytes of the table; 0 where there is none.
///
/// # Safety
/// Only inside a transaction.
pub(super) unsafe fn bytes() -> i64 {
    // SAFETY: the caller's promise; the relation is open while it is asked.
    unsafe {
        let Some(relid) = table() else { return 0 };
        let relation = pg_sys::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        i64::from(blocks) * i64::from(pg_sys::BLCKSZ)
    }
}

/// Appends one row, given as the columns' values; that of `position` is put in.
///
/// # Safety
/// As for [`append_now`]; the values must be of the columns' types.
pub(super) unsafe fn append_datums(values: &mut [pg_sys::Datum; WIDTH], nulls: &mut [bool; WIDTH]) {
    // SAFETY: the caller's promise; the tuple is in the current memory context.
    unsafe {
        batch::flush();
        let Some(relid) = table() else {
            return missing();
        };
        values[0] = pg_sys::Datum::from(pg_sys::GetXLogInsertRecPtr());
        let relation = pg_sys::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let tuple = pg_sys::heap_form_tuple((*relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        insert(|_| *tuple);
    }
}

/// Inserts the tuple that `make` gives; the lock on the table is kept until the transaction ends.
///
/// # Safety
/// As for [`append_now`] and [`ffi::append_at_end`].
unsafe fn insert(mut make: impl FnMut(&Moment) -> pg_sys::HeapTupleData) {
    // SAFETY: the caller's promise. An error ends the (sub)transaction, which cleans up what was left open.
    unsafe {
        let Some(relid) = table() else {
            return missing();
        };
        if ffi::append_at_end(relid, &mut make) {
            return;
        }
        let mut tuple = make(&Moment::now());
        let relation = pg_sys::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        insert_with_executor(relation, &mut tuple);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
    }
}

/// Tells the server's log, once per session, that nothing can be captured.
#[cold]
fn missing() {
    if !NOTED.replace(true) {
        pgrx::log!("hubspot_sync: hubspot.capture is missing or not as expected: nothing is captured");
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
        // What is found here is kept until an invalidation says otherwise.
        plan::register_invalidation();
        let relation = pg_sys::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let descriptor = (*relation).rd_att;
        let expected = (*descriptor).natts == WIDTH as i32
            && COLUMNS
                .iter()
                .enumerate()
                .all(|(at, name)| catalog::column_position(descriptor, name) == Some(at));
        let plain = is_plain(relation);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        if !expected {
            return None;
        }
        // Only now: taking the lock may have brought an invalidation.
        TABLE.set(relid);
        PLAIN.set(plain);
        Some(relid)
    }
}

/// Is a heap insert all it takes to put a row into the table? Asked with a lock on it: what was found before holds unless an
/// invalidation has come since.
///
/// # Safety
/// `relation` must be open. Called behind a guard: nothing in here may have a destructor.
#[inline]
pub(super) unsafe fn takes_heap_insert(relation: pg_sys::Relation) -> bool {
    // SAFETY: a member of an open relation.
    if TABLE.get() == unsafe { (*relation).rd_id } {
        return PLAIN.get();
    }
    // SAFETY: the caller's promise.
    unsafe { is_plain(relation) }
}

/// # Safety
/// `relation` must be open; nothing in here may have a destructor.
#[cold]
unsafe fn is_plain(relation: pg_sys::Relation) -> bool {
    // SAFETY: members of an open relation; a trigger's name is NUL-terminated.
    unsafe {
        let triggers = (*relation).trigdesc;
        (*relation).rd_tableam == ffi::heap()
            && !(*(*relation).rd_rel).relhasindex
            && (triggers.is_null()
                || ((*triggers).numtriggers == 1 && CStr::from_ptr((*(*triggers).triggers).tgname) == RESTORED))
    }
}
