//! The one door to SQL: a statement takes one JSON document and gives one back, so that each function of the extension
//! runs a constant number of statements however many records a call carries, and a session plans each of them once. Statements with many rows of many columns go
//! through [`tuples`].
//!
//! Errors of a statement are PostgreSQL errors and abort the calling function, except inside [`subtransaction`].

mod plans;
pub mod tuples;

use core::cell::Cell;
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde_json::Value as Json;
use std::panic::{AssertUnwindSafe, UnwindSafe};

/// Runs `sql`, whose only parameter is `$1` (text, a JSON document) and whose first column is text or null.
pub fn call_text(sql: &str, arg: &Json) -> Option<String> {
    let mut first = None;
    tuples::read_with(sql, &arg.to_string(), |row| {
        if first.is_none() {
            first = Some(row.next());
        }
    });
    first.flatten()
}

/// Runs `sql` as [`call_text`] does and parses what it returns; null and no row are JSON null.
pub fn call(sql: &str, arg: &Json) -> Json {
    match call_text(sql, arg) {
        None => Json::Null,
        Some(text) => match serde_json::from_str(&text) {
            Ok(json) => json,
            Err(e) => fault(&e),
        },
    }
}

/// Runs `sql` as [`call`] does and gives the array it returns; null is an empty one.
pub fn rows(sql: &str, arg: &Json) -> Vec<Json> {
    match call(sql, arg) {
        Json::Array(rows) => rows,
        _ => Vec::new(),
    }
}

/// Runs `sql` for its effect.
pub fn run(sql: &str, arg: &Json) {
    tuples::run_with(sql, &arg.to_string());
}

/// Runs DDL that the extension put together from quoted names.
pub fn run_ddl(sql: &str) {
    Spi::connect_mut(|client| {
        if let Err(e) = client.update(sql, None, &[]) {
            fault::<()>(&e);
        }
    });
}

/// A fault of the extension's own statements: reported as an internal error, never as a panic message.
fn fault<T>(e: &dyn std::fmt::Display) -> T {
    crate::error::raise(
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        format!("hubspot_sync: internal statement failed: {e}"),
        "report this with the server's log",
    )
}

/// What [`as_role`] forbids, and that row security which is forced on a table's owner does not hide rows from it: a row
/// that is not seen would count as deleted. Referential integrity looks at tables in the same way.
const OWNER_CONTEXT: u32 =
    pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION | pg_sys::SECURITY_NOFORCE_RLS;

/// Puts the calling role back, also when PostgreSQL's error unwinds.
struct Back(pg_sys::Oid, i32);

impl Drop for Back {
    fn drop(&mut self) {
        // SAFETY: the values are those GetUserIdAndSecContext gave.
        unsafe { pg_sys::SetUserIdAndSecContext(self.0, self.1) };
    }
}

thread_local! {
    /// Whether [`as_role`] is under way.
    static OTHER_ROLE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the running statement is about a user's tables, as their owner.
fn is_other_role() -> bool {
    OTHER_ROLE.get()
}

/// Marks a stretch of [`as_role`], also when PostgreSQL's error unwinds.
struct OtherRole(bool);

impl OtherRole {
    fn begin() -> Self {
        OtherRole(OTHER_ROLE.replace(true))
    }
}

impl Drop for OtherRole {
    fn drop(&mut self) {
        OTHER_ROLE.set(self.0);
    }
}

/// Changes the current role until the result is dropped; `more` is added to the security context.
fn become_role(role: pg_sys::Oid, more: u32) -> Back {
    let (mut user, mut context) = (pg_sys::Oid::INVALID, 0);
    // SAFETY: plain C calls on two locals; `role` is a role's oid taken from the catalogue.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | more as i32);
    }
    Back(user, context)
}

/// Runs `body` as `role`, in a context that forbids changing roles, and as nobody else afterwards.
///
/// Every read and write of a user's table goes through here, and every call of a user's function: as its owner, whatever a
/// hostile trigger, default or operator does, it gains nothing. That includes settings: a trigger may call
/// `set_config('search_path', …)`, and what the extension's own statements find would then be the trigger's. Settings are
/// therefore put back before the extension's owner goes on.
pub fn as_role<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    let _other = OtherRole::begin();
    let _back = become_role(role, OWNER_CONTEXT);
    // SAFETY: the level is closed below. An error skips that: the end of the (sub)transaction then puts the settings back.
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    let result = body();
    // SAFETY: the level that was opened above, with nothing open above it.
    unsafe { pg_sys::AtEOXact_GUC(false, level) };
    result
}

/// Runs `body` as the extension's owner and hands it the role that called the function.
///
/// For functions that ask what their caller may do. Behind `SECURITY DEFINER` they could learn only who the session is:
/// a superuser who touches a table of somebody's, whose trigger calls such a function, would lend it all rights.
pub fn as_extension<R>(body: impl FnOnce(pg_sys::Oid) -> R) -> R {
    // Triggers are made and dropped by plain calls, which a standby would refuse with an internal error.
    // SAFETY: a plain C call with a string that lives on; it raises an error or does nothing.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"a change of mappings".as_ptr()) };
    let owner = call_text(
        "SELECT extowner::text FROM pg_catalog.pg_extension WHERE extname = 'hubspot_sync' AND $1::text IS NOT NULL",
        &Json::Null,
    );
    let Some(owner) = owner.and_then(|oid| oid.parse::<u32>().ok()) else {
        return fault(&"the extension is not installed in this database");
    };
    let back = become_role(pg_sys::Oid::from(owner), pg_sys::SECURITY_LOCAL_USERID_CHANGE);
    body(back.0)
}

/// Whether `member` may act as `role`: it is that role, a member of it, or a superuser.
pub fn may_act_as(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a plain C call that looks into the catalogue.
    unsafe { pg_sys::is_member_of_role(member, role) }
}

/// An error that was caught.
#[derive(Debug)]
pub struct Raised {
    /// Its message. It may quote values.
    pub message: String,
    /// Its SQLSTATE.
    pub state: String,
    /// Somebody's code chose to raise it, with a SQLSTATE of its choice.
    chosen: bool,
}

impl Raised {
    /// Whether somebody else was in the way: the same may succeed a moment later.
    pub fn is_contention(&self) -> bool {
        !self.chosen && matches!(self.state.as_str(), "55P03" | "40001" | "40P01")
    }

    fn by(caught: &pg_sys::panic::CaughtError) -> Raised {
        let report = report(caught);
        // PostgreSQL packs five characters of six bits each.
        let code = report.sql_error_code() as i32;
        let state = (0..5).map(|at| char::from((code >> (6 * at) & 0x3F) as u8 + b'0'));
        Raised {
            message: report.message().to_owned(),
            state: state.collect(),
            chosen: is_chosen(report),
        }
    }
}

/// Runs `body` in a subtransaction: when PostgreSQL raises an error in it, its effects are undone and the error's
/// message and SQLSTATE come back. The message may quote values: it goes into `failed_syncs`, never into a log line.
///
/// An error that is not about what was done but about the moment (cancelled, out of time, no memory, no disk) is raised again:
/// it must not pass for the table's or the function's own refusal. For want of a lock see [`Raised::is_contention`]. What
/// somebody's code raises by itself is its refusal, whatever the SQLSTATE: see [`is_chosen`].
pub fn subtransaction<R>(body: impl FnOnce() -> R + UnwindSafe) -> Result<R, Raised> {
    attempt(body).map_err(|caught| match is_of_the_moment(&caught) {
        true => caught.rethrow(),
        false => Raised::by(&caught),
    })
}

/// Runs `body` in a subtransaction; whatever error is raised in it undoes its effects and comes back.
pub fn attempt<R>(body: impl FnOnce() -> R + UnwindSafe) -> Result<R, Box<pg_sys::panic::CaughtError>> {
    // SAFETY: the pattern of PL/pgSQL's exception blocks: memory context and resource owner are put back on both ways
    // out, and the subtransaction is released or rolled back exactly once.
    unsafe {
        let memory = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        let outcome = PgTryBuilder::new(AssertUnwindSafe(|| Ok(body())))
            .catch_others(|caught| Err(Box::new(caught)))
            .catch_rust_panic(|caught| Err(Box::new(caught)))
            .execute();
        match outcome {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = owner;
        outcome
    }
}

/// Functions of procedural languages that raise what a user's code tells them to, with the SQLSTATE it names.
const RAISERS: [&str; 2] = ["exec_stmt_raise", "PLy_output"];

/// Whether somebody's code raised it by itself. A trigger that says `RAISE … USING ERRCODE = 'query_canceled'` refuses its
/// row, as with any other SQLSTATE: nobody cancelled the call, and to begin it again would end in the same way for ever, with
/// every other record's events waiting behind.
fn is_chosen(report: &pg_sys::panic::ErrorReportWithLevel) -> bool {
    report.function_name().is_some_and(|name| RAISERS.contains(&name))
}

fn report(caught: &pg_sys::panic::CaughtError) -> &pg_sys::panic::ErrorReportWithLevel {
    use pg_sys::panic::CaughtError;
    match caught {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    }
}

fn is_of_the_moment(caught: &pg_sys::panic::CaughtError) -> bool {
    let report = report(caught);
    !is_chosen(report)
        && matches!(
            report.sql_error_code(),
            PgSqlErrorCode::ERRCODE_QUERY_CANCELED
                | PgSqlErrorCode::ERRCODE_DISK_FULL
                | PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
        )
}
