//! What a failed database call means.

use tokio_postgres::error::SqlState;

/// A database call that failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// No connection could be had in time.
    #[error("no database connection: {0}")]
    NoConnection(String),
    /// PostgreSQL refused, or the connection broke.
    #[error("{}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// No answer in time.
    #[error("the database did not answer {function} in time")]
    TooSlow {
        /// The function called.
        function: &'static str,
    },
    /// The extension's answer is not what the contract says: extension and relay are of different versions.
    #[error("{function} returned something this relay does not understand ({problem}); extension and relay must match")]
    Contract {
        /// The function called.
        function: &'static str,
        /// Where the answer differs.
        problem: String,
    },
}

impl DbError {
    /// Whether the same call may succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoConnection(_) | Self::TooSlow { .. } => true,
            Self::Contract { .. } => false,
            Self::Postgres(error) => match error.code() {
                None => true,
                Some(code) => {
                    code.code().starts_with("08")
                        || matches!(
                            *code,
                            SqlState::T_R_SERIALIZATION_FAILURE
                                | SqlState::T_R_DEADLOCK_DETECTED
                                | SqlState::LOCK_NOT_AVAILABLE
                                | SqlState::ADMIN_SHUTDOWN
                                | SqlState::CRASH_SHUTDOWN
                                | SqlState::CANNOT_CONNECT_NOW
                                | SqlState::READ_ONLY_SQL_TRANSACTION
                        )
                }
            },
        }
    }

    /// Whether the connection went to a server that has become a standby.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Postgres(error) if Self::is_read_only_code(error))
    }

    pub(super) fn is_read_only_code(error: &tokio_postgres::Error) -> bool {
        error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
    }
}

/// Message and SQLSTATE without DETAIL, which may quote rows.
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let hint = match *db.code() {
                SqlState::UNDEFINED_FUNCTION | SqlState::INVALID_SCHEMA_NAME => {
                    "; is the extension hubspot_sync installed in this database, in the relay's version?"
                }
                SqlState::INSUFFICIENT_PRIVILEGE => "; give the relay's role its rights with hubspot.grant_relay(role)",
                _ => "",
            };
            format!("{} (SQLSTATE {}){hint}", db.message(), db.code().code())
        }
        None => {
            use std::error::Error as _;
            error
                .source()
                .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        }
    }
}
