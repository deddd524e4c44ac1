//! Rows of a command that captures many: kept in memory and written page by page.
//!
//! The first captured row of a command is inserted at once (`insert`). The ones that follow it wait here and go into the
//! table a hundred at a time, one write-ahead log record a page, before the command ends: when enough of them wait, and when
//! the memory of the query goes in which the triggers run. So what a statement changed is in the table when the statement
//! has ended, and a row never waits into another command. Should a query's memory live longer (a COPY whose portal a
//! driver keeps open), the rows are written before the next captured one, and before the commit at the latest.
//!
//! Order holds: a later change is written later, and always before its transaction commits, while the changed row is locked.
//! A row belongs to the subtransaction that changed it and is written in it, or in its parent once it has succeeded; with
//! one that is rolled back its rows go. While rows of an outer level wait, all others wait behind them.

use core::cell::{Cell, RefCell};
use core::ffi::c_void;
use core::mem::ManuallyDrop;

use pgrx::pg_sys;

use super::capture_tuple::{self, Stamp};
use super::ffi::Many;
use super::insert::{self, Row};
use super::notify;

/// Rows that are written together.
pub(super) const MOST: usize = 128;
/// Words that are written together, of eight bytes.
const MOST_WORDS: usize = 16 * 1024;

/// A row that waits.
struct Held {
    /// Its first word.
    start: usize,
    bytes: usize,
    /// Nesting level of the (sub)transaction that captured it.
    level: i32,
}

/// The rows in the order in which they were captured; levels never fall.
#[derive(Default)]
struct Waiting {
    words: Vec<u64>,
    rows: Vec<Held>,
}

/// Per-backend state without a destructor: nothing runs when the backend exits.
struct State {
    any: Cell<bool>,
    waiting: RefCell<Waiting>,
}

thread_local! {
    static STATE: ManuallyDrop<State> = const {
        ManuallyDrop::new(State {
            any: Cell::new(false),
            waiting: RefCell::new(Waiting { words: Vec::new(), rows: Vec::new() }),
        })
    };
}

/// Does any row wait? Costs one load.
#[inline]
pub(super) fn any() -> bool {
    STATE.with(|state| state.any.get())
}

/// Keeps a row until it is written with others. False, and nothing done, where its writing in time is not certain.
///
/// # Safety
/// Only in a trigger call of a transaction that may write.
pub(super) unsafe fn push(row: &Row, stamp: &Stamp, application: &[u8]) -> bool {
    // SAFETY: the caller's promise.
    if !any() && !unsafe { write_at_the_end_of_the_query() } {
        return false;
    }
    // SAFETY: reads a backend-local variable.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    let enough = STATE.with(|state| {
        let Ok(mut waiting) = state.waiting.try_borrow_mut() else {
            return None;
        };
        let Waiting { words, rows } = &mut *waiting;
        let start = words.len();
        words.resize(start + capture_tuple::most_words(row, application), 0);
        let bytes = capture_tuple::lay_out(&mut words[start..], row, application);
        words.truncate(start + bytes.div_ceil(size_of::<u64>()));
        // SAFETY: laid out just now.
        unsafe { capture_tuple::stamp(words.as_mut_ptr().add(start), stamp) };
        rows.push(Held { start, bytes, level });
        state.any.set(true);
        Some(rows.len() >= MOST || words.len() >= MOST_WORDS)
    });
    if enough == Some(true) {
        // SAFETY: the caller's promise.
        unsafe { flush() };
    }
    enough.is_some()
}

/// Writes what waits, unless some of it belongs to an outer level.
///
/// # Safety
/// Only inside a transaction that may write.
pub(super) unsafe fn flush() {
    if !any() {
        return;
    }
    // SAFETY: reads a backend-local variable.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    let taken = STATE.with(|state| {
        let mut waiting = state.waiting.try_borrow_mut().ok()?;
        if waiting.rows.first().is_some_and(|row| row.level < level) {
            return None;
        }
        state.any.set(false);
        Some(core::mem::take(&mut *waiting))
    });
    let Some(mut taken) = taken else { return };
    // SAFETY: the caller's promise. An error ends the level that all of these rows belong to.
    unsafe { write(&mut taken) };
    if taken.words.capacity() > 2 * MOST_WORDS {
        return;
    }
    taken.words.clear();
    taken.rows.clear();
    STATE.with(|state| {
        // Empty, unless an index that somebody made on the table has changed a mapped row.
        if let Ok(mut waiting) = state.waiting.try_borrow_mut()
            && waiting.rows.is_empty()
        {
            *waiting = taken;
        }
    });
}

/// # Safety
/// As for [`flush`].
unsafe fn write(taken: &mut Waiting) {
    let first = taken.words.as_mut_ptr();
    let mut heads: Vec<pg_sys::HeapTupleData> = taken
        .rows
        .iter()
        // SAFETY: each row was laid out there.
        .map(|row| capture_tuple::head(unsafe { first.add(row.start) }, row.bytes))
        .collect();
    for some in heads.chunks_mut(MOST) {
        // SAFETY: the caller's promise.
        unsafe { insert::insert_many(some) };
    }
}

/// Has [`flush`] called when the query's memory goes, in which the trigger runs. False: it is not known which that is.
///
/// # Safety
/// Only in a trigger call.
unsafe fn write_at_the_end_of_the_query() -> bool {
    notify::register_callbacks();
    // SAFETY: triggers run in a context of their own below the query's. The callback lies in that context and is called
    // before it is freed.
    unsafe {
        let query = (*pg_sys::CurrentMemoryContext).parent;
        if query.is_null() || query == pg_sys::TopMemoryContext {
            return false;
        }
        let callback: *mut pg_sys::MemoryContextCallback =
            pg_sys::MemoryContextAlloc(query, size_of::<pg_sys::MemoryContextCallback>()).cast();
        (*callback).func = Some(on_end_of_query);
        (*callback).arg = core::ptr::null_mut();
        pg_sys::MemoryContextRegisterResetCallback(query, callback);
    }
    true
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_end_of_query(_arg: *mut c_void) {
    // A query that failed loses its memory while its (sub)transaction is rolled back, and its rows with it.
    // SAFETY: reads of backend-local variables; a transaction in progress may write.
    unsafe {
        if any() && pg_sys::IsTransactionState() && !pg_sys::CurrentResourceOwner.is_null() {
            flush();
        }
    }
}

/// Forgets everything, at the end of a transaction.
pub(super) fn clear() {
    if any() {
        cut(0);
    }
}

/// A subtransaction at nesting `level` ended: its rows go, or pass to its parent.
pub(super) fn end_subtransaction(level: i32, committed: bool) {
    if !any() {
        return;
    }
    if !committed {
        return cut(level);
    }
    STATE.with(|state| {
        if let Ok(mut waiting) = state.waiting.try_borrow_mut() {
            waiting
                .rows
                .iter_mut()
                .filter(|row| row.level >= level)
                .for_each(|row| row.level = level - 1);
        }
    });
}

/// Takes the rows of `level` and below it away.
fn cut(level: i32) {
    STATE.with(|state| {
        if let Ok(mut waiting) = state.waiting.try_borrow_mut() {
            let keep = waiting.rows.partition_point(|row| row.level < level);
            let words = waiting.rows.get(keep).map(|row| row.start);
            waiting.rows.truncate(keep);
            if let Some(words) = words {
                waiting.words.truncate(words);
            }
            state.any.set(keep > 0);
        }
    });
}

/// Slots to hand rows over in, made once for a table's form and used again.
pub(super) struct Slots {
    /// Owns the slots; what an insert allocates besides goes into a child of it.
    context: pg_sys::MemoryContext,
    scratch: pg_sys::MemoryContext,
    slots: [*mut pg_sys::TupleTableSlot; MOST],
}

thread_local! {
    static SLOTS: Cell<Option<ManuallyDrop<Box<Slots>>>> = const { Cell::new(None) };
    static STALE: Cell<bool> = const { Cell::new(false) };
}

/// The table's form may have changed: only marks.
pub(super) fn invalidate() {
    STALE.set(true);
}

/// Runs `body` with slots for the table's rows.
///
/// # Safety
/// Only inside a transaction; the table must be locked.
pub(super) unsafe fn with_slots(relid: pg_sys::Oid, body: impl FnOnce(&Many)) {
    let stale = STALE.replace(false);
    let mut kept = SLOTS.take();
    if stale && let Some(old) = kept.take() {
        // SAFETY: the context was made for these slots; nothing else points into it.
        unsafe { pg_sys::MemoryContextDelete(old.context) };
        drop(ManuallyDrop::into_inner(old));
    }
    let slots = kept.unwrap_or_else(|| {
        // SAFETY: the caller's promise.
        ManuallyDrop::new(Box::new(unsafe { make_slots(relid) }))
    });
    body(&Many {
        slots: slots.slots.as_ptr().cast_mut(),
        scratch: slots.scratch,
    });
    // After an error they are not put back: a few kilobytes stay until the session ends.
    SLOTS.set(Some(slots));
}

/// # Safety
/// As for [`with_slots`].
unsafe fn make_slots(relid: pg_sys::Oid) -> Slots {
    // SAFETY: the descriptor is copied, so that nothing has to be released at a transaction's end.
    unsafe {
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"hubspot_sync captured rows".as_ptr(),
            0,
            8192,
            64 * 1024,
        );
        let scratch = pg_sys::AllocSetContextCreateInternal(
            context,
            c"hubspot_sync captured rows, insert".as_ptr(),
            0,
            8192,
            64 * 1024,
        );
        let old = pg_sys::MemoryContextSwitchTo(context);
        let relation = pg_sys::table_open(relid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let descriptor = pg_sys::CreateTupleDescCopy((*relation).rd_att);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        let slots =
            core::array::from_fn(|_| pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsHeapTuple));
        pg_sys::MemoryContextSwitchTo(old);
        Slots {
            context,
            scratch,
            slots,
        }
    }
}
