//! Errors people get: the SQLSTATE, what was wrong, and the mend.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Raises `message` with `code` and a hint that says what to do. Does not return.
pub fn raise(code: PgSqlErrorCode, message: String, hint: &str) -> ! {
    ErrorReport::new(code, message, "hubspot_sync")
        .set_hint(hint.to_owned())
        .report(PgLogLevel::ERROR);
    unreachable!("an error report does not return")
}

/// Bad input: SQLSTATE 22023.
pub fn invalid(message: String, hint: &str) -> ! {
    raise(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message, hint)
}

/// Something named does not exist: SQLSTATE 42704.
pub fn unknown(message: String, hint: &str) -> ! {
    raise(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message, hint)
}

/// The caller lacks a right: SQLSTATE 42501.
pub fn forbidden(message: String, hint: &str) -> ! {
    raise(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message, hint)
}
