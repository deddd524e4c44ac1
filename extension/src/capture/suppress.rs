//! What the applier has just written, so that the trigger does not take it for an edit of the application.
//!
//! The registry lives in this backend and ends with the transaction. An expectation names one record, one field and the
//! very text the trigger will see; anything else that changes in the same statement (a user's own BEFORE trigger, say)
//! is captured like any other edit.

use core::cell::{Cell, RefCell};
use std::collections::HashMap;

use hubspot_sync_core::value::{self, ValueKind};
use pgrx::pg_sys;

use super::notify;

/// One write that the trigger is to leave out.
struct Expectation {
    field: Vec<u8>,
    kind: ValueKind,
    text: Option<Vec<u8>>,
    /// Nesting level of the (sub)transaction that registered it.
    level: i32,
}

/// Expectations by mapping and record.
type Registry = HashMap<(i32, Vec<u8>), Vec<Expectation>>;

/// Per-backend state without a destructor: nothing runs when the backend exits.
struct State {
    any: Cell<bool>,
    registry: RefCell<Option<Registry>>,
}

thread_local! {
    static STATE: core::mem::ManuallyDrop<State> =
        const { core::mem::ManuallyDrop::new(State { any: Cell::new(false), registry: RefCell::new(None) }) };
}

/// Announces that this transaction is about to give `field` of a record the value `new_text`: the trigger then leaves
/// exactly that change out of `changes`, once.
///
/// `entity_key` and `new_text` are the texts the trigger prints (see the table in `datum_text`), in UTF-8.
/// Forgotten at the end of the transaction, and when the subtransaction that announced it is rolled back.
pub fn expect(mapping_id: i32, entity_key: &str, field: &str, kind: ValueKind, new_text: Option<&str>) {
    notify::register_callbacks();
    // SAFETY: reads a backend-local variable.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    STATE.with(|state| {
        let Ok(mut registry) = state.registry.try_borrow_mut() else {
            return;
        };
        state.any.set(true);
        registry
            .get_or_insert_default()
            .entry((mapping_id, entity_key.as_bytes().to_vec()))
            .or_default()
            .push(Expectation {
                field: field.as_bytes().to_vec(),
                kind,
                text: new_text.map(|t| t.as_bytes().to_vec()),
                level,
            });
    });
}

/// Forgets every expectation. Happens by itself at the end of each transaction.
pub fn clear() {
    STATE.with(|state| {
        if state.any.replace(false)
            && let Ok(mut registry) = state.registry.try_borrow_mut()
        {
            *registry = None;
        }
    });
}

/// Is anything expected at all? Costs one load, and is false outside the applier.
#[inline]
pub(super) fn any() -> bool {
    STATE.with(|state| state.any.get())
}

/// Uses up the expectation of this very change; `same` compares an expected text with the new one.
pub(super) fn take(
    mapping_id: i32,
    entity_key: &[u8],
    field: &[u8],
    new_text: Option<&[u8]>,
    same: impl Fn(&[u8], &[u8]) -> bool,
) -> bool {
    STATE.with(|state| {
        let Ok(mut registry) = state.registry.try_borrow_mut() else {
            return false;
        };
        let Some(registry) = registry.as_mut() else {
            return false;
        };
        let key = (mapping_id, entity_key.to_vec());
        let Some(list) = registry.get_mut(&key) else {
            return false;
        };
        let found = list.iter().position(|expected| {
            expected.field == field
                && match (expected.text.as_deref(), new_text) {
                    (None, None) => true,
                    (Some(text), Some(new)) => same(text, new) || same_value(expected.kind, text, new),
                    _ => false,
                }
        });
        let Some(found) = found else { return false };
        list.swap_remove(found);
        if list.is_empty() {
            registry.remove(&key);
        }
        true
    })
}

/// Two texts of one value: an instant with more digits, a set in another order.
fn same_value(kind: ValueKind, a: &[u8], b: &[u8]) -> bool {
    let canonical = |text| {
        value::from_warp(kind, core::str::from_utf8(text).ok())
            .ok()
            .filter(|v| !v.is_null())
    };
    canonical(a).is_some_and(|a| canonical(b) == Some(a))
}

/// A subtransaction at nesting `level` ended: its expectations go, or pass to its parent.
pub(super) fn end_subtransaction(level: i32, committed: bool) {
    if !any() {
        return;
    }
    STATE.with(|state| {
        let Ok(mut registry) = state.registry.try_borrow_mut() else {
            return;
        };
        let Some(registry) = registry.as_mut() else { return };
        for list in registry.values_mut() {
            if committed {
                list.iter_mut()
                    .filter(|e| e.level >= level)
                    .for_each(|e| e.level = level - 1);
            } else {
                list.retain(|e| e.level < level);
            }
        }
    });
}
