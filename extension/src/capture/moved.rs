//! An UPDATE that moves a row to another partition.
//!
//! PostgreSQL fires it as a DELETE on one partition and an INSERT on another. Taken at face value that would delete a
//! record and make a new one; so the delete is held back until its insert comes, right after it, and the two are one
//! change. Should the insert never come (a BEFORE trigger swallowed it), the delete is captured when the mapping's next
//! event on that level arrives, at the latest just before commit.

use core::cell::{Cell, RefCell};

use pgrx::pg_sys;

use super::insert::{self, Op, Row};
use super::notify;

/// `HEAP_COMBOCID`: the tuple's command id stands for two.
const COMBO_CID: u16 = 0x0020;
/// `MovedPartitionsOffsetNumber`: where the row went, when it went to another partition.
const MOVED_OFFSET: u16 = 0xFFFD;

/// A row that has left its partition.
pub(super) struct Moved {
    mapping_id: i32,
    pub(super) entity_key: Vec<u8>,
    /// Each field with its text.
    texts: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The command that moved it, where the tuple tells.
    command: Option<pg_sys::CommandId>,
    /// How deep the trigger call was nested.
    depth: i32,
    /// Nesting level of the (sub)transaction that moved it.
    level: i32,
}

impl Moved {
    /// The text a field had.
    pub(super) fn text(&self, field: &[u8]) -> Option<&[u8]> {
        self.texts
            .iter()
            .find(|(name, _)| name == field)
            .and_then(|(_, text)| text.as_deref())
    }
}

/// Per-backend state without a destructor: nothing runs when the backend exits.
struct State {
    any: Cell<bool>,
    moved: RefCell<Vec<Moved>>,
}

thread_local! {
    static STATE: core::mem::ManuallyDrop<State> =
        const { core::mem::ManuallyDrop::new(State { any: Cell::new(false), moved: RefCell::new(Vec::new()) }) };
}

/// Is anything held back? Costs one load.
#[inline]
pub(super) fn any() -> bool {
    STATE.with(|state| state.any.get())
}

/// Was this deleted row moved to another partition?
///
/// # Safety
/// `tuple` must be valid.
#[inline]
pub(super) unsafe fn is_moved(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: the caller's promise.
    let place = unsafe { (*(*tuple).t_data).t_ctid };
    place.ip_posid == MOVED_OFFSET && place.ip_blkid.bi_hi == u16::MAX && place.ip_blkid.bi_lo == u16::MAX
}

/// The command id in a tuple's header, unless it stands for two commands.
///
/// # Safety
/// `tuple` must be valid.
unsafe fn command(tuple: pg_sys::HeapTuple) -> Option<pg_sys::CommandId> {
    // SAFETY: a tuple of a table has these header fields.
    unsafe {
        let header = (*tuple).t_data;
        ((*header).t_infomask & COMBO_CID == 0).then(|| (*header).t_choice.t_heap.t_field3.t_cid)
    }
}

/// How deep the current trigger call is nested in others.
///
/// # Safety
/// Only inside a transaction.
unsafe fn depth() -> i32 {
    // SAFETY: the function takes no arguments and returns an integer.
    unsafe { pgrx::direct_function_call::<i32>(pg_sys::pg_trigger_depth, &[]) }.unwrap_or(0)
}

/// Holds a moved row's delete back.
///
/// # Safety
/// `tuple` must be the deleted row, valid, inside a transaction.
pub(super) unsafe fn hold(
    mapping_id: i32,
    entity_key: Vec<u8>,
    texts: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    tuple: pg_sys::HeapTuple,
) {
    notify::register_callbacks();
    // SAFETY: the caller's promise.
    let (command, depth, level) = unsafe { (command(tuple), depth(), pg_sys::GetCurrentTransactionNestLevel()) };
    STATE.with(|state| {
        if let Ok(mut moved) = state.moved.try_borrow_mut() {
            moved.push(Moved {
                mapping_id,
                entity_key,
                texts,
                command,
                depth,
                level,
            });
            state.any.set(true);
        }
    });
}

/// What the mapping holds back, if anything: paired with the row inserted by the same command, captured as a delete
/// otherwise. `inserted` is the event's row when it is an insert.
///
/// # Safety
/// Only inside a transaction that may write; `inserted` must be valid.
#[inline]
pub(super) unsafe fn settle(mapping_id: i32, inserted: Option<pg_sys::HeapTuple>) -> Option<Moved> {
    if !any() {
        return None;
    }
    // What another trigger of the same row does in between, deeper down, neither pairs nor ends the wait.
    // SAFETY: the caller's promise.
    let depth = unsafe { depth() };
    let held = take(|moved| moved.mapping_id == mapping_id && moved.depth >= depth);
    let mut pair = None;
    for moved in held {
        // SAFETY: the caller's promise.
        let inserting = inserted.map(|tuple| unsafe { command(tuple) });
        let same_command = match (inserting, moved.command) {
            (Some(Some(inserting)), Some(moving)) => inserting == moving,
            (Some(_), _) => true,
            (None, _) => false,
        };
        if same_command && pair.is_none() {
            pair = Some(moved);
        } else {
            // SAFETY: the caller's promise.
            unsafe { delete(&moved) };
        }
    }
    pair
}

/// Captures what is still held back as deletes.
///
/// # Safety
/// Only in a transaction's pre-commit callback.
pub(super) unsafe fn flush() {
    if !any() {
        return;
    }
    for moved in take(|_| true) {
        // SAFETY: the transaction can still write.
        unsafe { delete(&moved) };
    }
}

/// Forgets everything, at the end of a transaction.
pub(super) fn clear() {
    if any() {
        drop(take(|_| true));
    }
}

/// A subtransaction at nesting `level` ended: what it held back goes, or passes to its parent.
pub(super) fn end_subtransaction(level: i32, committed: bool) {
    STATE.with(|state| {
        if let Ok(mut moved) = state.moved.try_borrow_mut() {
            if committed {
                moved
                    .iter_mut()
                    .filter(|m| m.level >= level)
                    .for_each(|m| m.level = level - 1);
            } else {
                moved.retain(|m| m.level < level);
            }
        }
    });
}

/// Takes those held back for which `wanted` says so.
fn take(wanted: impl Fn(&Moved) -> bool) -> Vec<Moved> {
    STATE.with(|state| {
        let Ok(mut moved) = state.moved.try_borrow_mut() else {
            return Vec::new();
        };
        let (taken, kept) = moved.drain(..).partition(|moved| wanted(moved));
        *moved = kept;
        state.any.set(!moved.is_empty());
        taken
    })
}

/// Captures a delete that had been held back.
///
/// # Safety
/// Only inside a transaction that may write.
unsafe fn delete(moved: &Moved) {
    let row = Row {
        mapping_id: moved.mapping_id,
        op: Op::Delete,
        entity_key: Some(&moved.entity_key),
        old_key: None,
        changes: None,
    };
    // SAFETY: the caller's promise.
    unsafe { insert::append_now(&row) };
    notify::captured();
}
