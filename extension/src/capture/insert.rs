//! Appending a row to `hubspot.capture` without the executor.
//!
//! The table belongs to the extension; its one index is a plain btree on a bigint. So a heap insert and one index insert
//! per row do what an INSERT would, without parsing, planning, permission checks or an executor state: the invoking user
//! needs no right on it. Should somebody give the table a partial or expression index, a trigger or another access
//! method, rows take the executor's way instead.
//!
//! The sequence is to be declared without CACHE: ids of one record then rise in the order in which its row was locked.

use core::cell::{Cell, RefCell};
use core::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::varlena::set_varsize_4b;

use super::{catalog, ffi};

/// Columns of `hubspot.capture` in the order of [`Row::datums`].
const COLUMNS: [&CStr; 9] = [
    c"id",
    c"mapping_id",
    c"op",
    c"entity_key",
    c"old_key",
    c"changes",
    c"captured_at",
    c"db_user",
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

/// `hubspot.capture`, resolved once per backend.
struct Target {
    relid: pg_sys::Oid,
    sequence: pg_sys::Oid,
    /// Position of each of [`COLUMNS`].
    positions: [usize; 9],
    columns: usize,
    indexes: Vec<Index>,
    /// Whether a heap insert and an index insert are all it takes.
    plain: bool,
    valid: Cell<bool>,
    context: pg_sys::MemoryContext,
}

/// One index of `hubspot.capture`.
struct Index {
    oid: pg_sys::Oid,
    /// Zero-based table positions of its columns.
    keys: Vec<usize>,
    unique: bool,
    /// In the target's context.
    info: *mut pg_sys::IndexInfo,
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: the context was made for this target and nothing else points into it.
        unsafe { pg_sys::MemoryContextDelete(self.context) };
    }
}

thread_local! {
    /// The server's log has been told that the table is unusable.
    static NOTED: Cell<bool> = const { Cell::new(false) };
    /// Without a destructor: nothing runs when the backend exits.
    static TARGET: core::mem::ManuallyDrop<RefCell<Option<Rc<Target>>>> =
        const { core::mem::ManuallyDrop::new(RefCell::new(None)) };
}

/// Relation cache invalidation: only marks.
pub(super) fn invalidate(relid: pg_sys::Oid) {
    TARGET.with(|target| {
        if let Ok(target) = target.try_borrow()
            && let Some(target) = target.as_ref()
            && (relid == pg_sys::InvalidOid || relid == target.relid)
        {
            target.valid.set(false);
        }
    });
}

/// Appends one row.
///
/// # Safety
/// Only inside a transaction that may write; memory is left to the current memory context, which must be a short one.
pub(super) unsafe fn append(row: &Row) {
    // SAFETY: the usual sequence of opening, inserting and closing; the lock is kept until the transaction ends. An
    // error ends the (sub)transaction, which cleans up what was left open.
    unsafe {
        let Some(target) = target() else {
            if !NOTED.replace(true) {
                pgrx::log!("hubspot_sync: hubspot.capture is missing or not as expected: nothing is captured");
            }
            return;
        };
        let relation = pg_sys::table_open(target.relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let (datums, nulls) = row.datums(target.sequence);
        let mut values = [pg_sys::Datum::from(0); MAX_COLUMNS];
        let mut is_null = [true; MAX_COLUMNS];
        for (at, &position) in target.positions.iter().enumerate() {
            values[position] = datums[at];
            is_null[position] = nulls[at];
        }
        let tuple = pg_sys::heap_form_tuple((*relation).rd_att, values.as_mut_ptr(), is_null.as_mut_ptr());
        if target.plain {
            insert_plain(relation, &target, tuple, &values, &is_null);
        } else {
            insert_with_executor(relation, tuple);
        }
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
    }
}

/// More columns than the table has; one with more is not used.
const MAX_COLUMNS: usize = 32;

/// Heap insert and index inserts.
///
/// # Safety
/// `relation` must be open with a lock that allows writing, `tuple` made for it, `values` and `is_null` its columns.
unsafe fn insert_plain(
    relation: pg_sys::Relation,
    target: &Target,
    tuple: pg_sys::HeapTuple,
    values: &[pg_sys::Datum; MAX_COLUMNS],
    is_null: &[bool; MAX_COLUMNS],
) {
    // SAFETY: the caller's promise; index columns are plain columns of the table.
    unsafe {
        pg_sys::simple_heap_insert(relation, tuple);
        for index in &target.indexes {
            let mut keys = [pg_sys::Datum::from(0); MAX_COLUMNS];
            let mut key_nulls = [true; MAX_COLUMNS];
            for (at, &position) in index.keys.iter().enumerate() {
                keys[at] = values[position];
                key_nulls[at] = is_null[position];
            }
            let check = if index.unique {
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES
            } else {
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO
            };
            let opened = pg_sys::index_open(index.oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            #[cfg(feature = "pg13")]
            pg_sys::index_insert(
                opened,
                keys.as_mut_ptr(),
                key_nulls.as_mut_ptr(),
                &mut (*tuple).t_self,
                relation,
                check,
                index.info,
            );
            #[cfg(not(feature = "pg13"))]
            pg_sys::index_insert(
                opened,
                keys.as_mut_ptr(),
                key_nulls.as_mut_ptr(),
                &mut (*tuple).t_self,
                relation,
                check,
                false,
                index.info,
            );
            pg_sys::index_close(opened, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}

/// The executor's insert, for a table that is not plain any more.
///
/// # Safety
/// As for [`insert_plain`].
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
    /// The row's columns, in the order of [`COLUMNS`].
    ///
    /// # Safety
    /// Only inside a transaction; texts are allocated in the current memory context.
    unsafe fn datums(&self, sequence: pg_sys::Oid) -> ([pg_sys::Datum; 9], [bool; 9]) {
        // SAFETY: `application_name` is NULL or NUL-terminated; the rest reads backend-local state.
        let (id, captured_at, user, application) = unsafe {
            let name = pg_sys::application_name;
            let name = if name.is_null() { c"" } else { CStr::from_ptr(name) };
            (
                ffi::next_value(sequence),
                pg_sys::GetCurrentTimestamp(),
                pg_sys::GetOuterUserId(),
                Some(name.to_bytes()).filter(|name| !name.is_empty()),
            )
        };
        // SAFETY: the current context outlives the insert.
        let [entity_key, old_key, changes, application] =
            unsafe { texts([self.entity_key, self.old_key, self.changes, application]) };
        let zero = pg_sys::Datum::from(0);
        (
            [
                pg_sys::Datum::from(id),
                pg_sys::Datum::from(self.mapping_id),
                pg_sys::Datum::from(self.op as u8),
                entity_key.unwrap_or(zero),
                old_key.unwrap_or(zero),
                changes.unwrap_or(zero),
                pg_sys::Datum::from(captured_at),
                pg_sys::Datum::from(user),
                application.unwrap_or(zero),
            ],
            [
                false,
                false,
                false,
                entity_key.is_none(),
                old_key.is_none(),
                changes.is_none(),
                false,
                false,
                application.is_none(),
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

/// The table, from the cache where it is still valid; none when the extension's table is not there or not as expected.
///
/// # Safety
/// Only inside a transaction.
unsafe fn target() -> Option<Rc<Target>> {
    let cached = TARGET.with(|target| target.try_borrow().ok().and_then(|target| target.clone()));
    if let Some(target) = cached.filter(|target| target.valid.get()) {
        return Some(target);
    }
    // SAFETY: the caller's promise; no borrow is held.
    let fresh = unsafe { resolve() }.map(Rc::new);
    let stale = TARGET.with(|target| {
        target
            .try_borrow_mut()
            .ok()
            .and_then(|mut t| core::mem::replace(&mut *t, fresh.clone()))
    });
    drop(stale);
    fresh
}

/// Looks the table up.
///
/// # Safety
/// Only inside a transaction.
unsafe fn resolve() -> Option<Target> {
    // SAFETY: catalogue look-ups and reads of open relations inside a transaction.
    unsafe {
        let relid = catalog::table(c"capture");
        let sequence = catalog::table(c"capture_id_seq");
        if relid == pg_sys::InvalidOid || sequence == pg_sys::InvalidOid {
            return None;
        }
        let relation = pg_sys::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let descriptor = (*relation).rd_att;
        let columns = usize::try_from((*descriptor).natts).unwrap_or(0);
        let mut positions = [0; 9];
        let mut complete = columns <= MAX_COLUMNS;
        for (at, name) in COLUMNS.iter().enumerate() {
            match catalog::column_position(descriptor, name) {
                Some(position) => positions[at] = position,
                None => complete = false,
            }
        }
        if !complete {
            pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            return None;
        }
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"hubspot_sync capture target".as_ptr(),
            0,
            1024,
            8192,
        );
        let mut target = Target {
            relid,
            sequence,
            positions,
            columns,
            indexes: Vec::new(),
            plain: (*relation).rd_tableam == pg_sys::GetHeapamTableAmRoutine() && (*relation).trigdesc.is_null(),
            valid: Cell::new(true),
            context,
        };
        let list = pg_sys::RelationGetIndexList(relation);
        let oids = pgrx::PgList::<pg_sys::Oid>::from_pg(list);
        for oid in oids.iter_oid() {
            target.add_index(oid);
        }
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        Some(target)
    }
}

impl Target {
    /// Adds an index, or notes that it needs the executor.
    ///
    /// # Safety
    /// `oid` must be an index of the table, which must be locked.
    unsafe fn add_index(&mut self, oid: pg_sys::Oid) {
        // SAFETY: reads of an open index; what is kept is allocated in the target's context.
        unsafe {
            let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            let old = pg_sys::MemoryContextSwitchTo(self.context);
            let info = pg_sys::BuildIndexInfo(index);
            pg_sys::MemoryContextSwitchTo(old);
            let count = usize::try_from((*info).ii_NumIndexAttrs).unwrap_or(0);
            let keys: Vec<usize> = (&(*info).ii_IndexAttrNumbers)[..count.min(MAX_COLUMNS)]
                .iter()
                .filter_map(|&number| usize::try_from(number - 1).ok().filter(|&at| at < self.columns))
                .collect();
            let plain = keys.len() == count
                && (*info).ii_ReadyForInserts
                && (*info).ii_Expressions.is_null()
                && (*info).ii_Predicate.is_null()
                && (*info).ii_ExclusionOps.is_null()
                && (*(*index).rd_index).indimmediate;
            let unique = (*(*index).rd_index).indisunique;
            pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            self.plain &= plain;
            self.indexes.push(Index {
                oid,
                keys,
                unique,
                info,
            });
        }
    }
}
