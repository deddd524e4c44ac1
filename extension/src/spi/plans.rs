//! Plans that a session keeps: the relay's functions run the same few statements in every call, and planning them again
//! each time costs more than running them.
//!
//! A kept plan is PostgreSQL's own: it is made anew when a table, a function or the search path it was made under changed.

use super::fault;
use core::cell::RefCell;
use pgrx::pg_sys;
use std::collections::HashMap;
use std::ffi::CString;

/// Most plans a session keeps. Some statements are made for a mapping, and are others after it changed; what is beyond
/// this is planned each time.
const MOST: usize = 512;

/// A plan and the types of its parameters.
type Kept = (Vec<pg_sys::Oid>, pg_sys::SPIPlanPtr);

thread_local! {
    /// By statement: few come with other types another time.
    static KEPT: RefCell<HashMap<String, Vec<Kept>>> = RefCell::new(HashMap::new());
}

fn kept(sql: &str, types: &[pg_sys::Oid]) -> Option<pg_sys::SPIPlanPtr> {
    KEPT.with_borrow(|all| {
        let plans = all.get(sql)?;
        plans.iter().find(|(of, _)| of == types).map(|(_, plan)| *plan)
    })
}

/// The plan of a statement with parameters of these types.
///
/// # Safety
/// Only inside SPI. What is not kept is gone when SPI is left.
pub(super) unsafe fn plan(sql: &str, types: &[pg_sys::Oid]) -> pg_sys::SPIPlanPtr {
    if let Some(plan) = kept(sql, types) {
        return plan;
    }
    let Ok(text) = CString::new(sql) else {
        return fault(&"a statement holds a zero byte");
    };
    let mut own = types.to_vec();
    // SAFETY: as many types as parameters; they are copied.
    let plan = unsafe { pg_sys::SPI_prepare(text.as_ptr(), own.len() as i32, own.as_mut_ptr()) };
    if plan.is_null() {
        // SAFETY: a variable of this backend's.
        let status = unsafe { pg_sys::SPI_result };
        return fault(&format!("SPI status {status}"));
    }
    if KEPT.with_borrow(|all| all.len()) < MOST {
        // SAFETY: the plan was just made; it is never freed, for a statement may run inside itself.
        let status = unsafe { pg_sys::SPI_keepplan(plan) };
        if status == 0 {
            KEPT.with_borrow_mut(|all| all.entry(sql.to_owned()).or_default().push((own, plan)));
        }
    }
    plan
}

/// Planner settings for the extension's own tables.
///
/// A plan is kept for a long time, and may have been made while its tables were empty, or nobody had looked at them for
/// statistics: reading a whole table looks cheapest then, and is not when a backlog has come. All that the statements look
/// for has an index. Without an index such a plan would seem costly enough to be compiled, which takes longer than it.
pub(super) struct ByIndex(i32);

impl ByIndex {
    /// # Safety
    /// Only inside a transaction.
    pub(super) unsafe fn begin() -> Self {
        // SAFETY: settings of PostgreSQL's that any role may change; the nest level is closed by `end`, or by the
        // end of the (sub)transaction.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            for name in [c"enable_seqscan", c"jit"] {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    c"off".as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
            ByIndex(level)
        }
    }

    /// Puts the settings back.
    ///
    /// # Safety
    /// Nothing that was begun later may still be open. Not after an error: that puts them back itself.
    pub(super) unsafe fn end(self) {
        // SAFETY: the level that was opened above.
        unsafe { pg_sys::AtEOXact_GUC(false, self.0) };
    }
}
