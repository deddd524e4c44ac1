//! Every error the core can return.
//!
//! Invariant: no message carries a cell value. Names of keys, columns, positions and limits are fine; what was found in
//! a row or in a HubSpot record is not, because errors end in logs. Nothing here is retryable: each needs a person, or
//! another value.

use std::fmt;

use crate::value::ValueKind;

/// Why a JSON path could not be read from text, built, or written through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathError {
    /// The text is not a path.
    Syntax {
        /// Where, counted in characters from 1; one past the end when the text stopped too early.
        position: usize,
        /// What would have been right there.
        expected: &'static str,
    },
    /// The column name is empty.
    EmptyColumn,
    /// The path names a column and no key in it.
    NoKeys,
    /// The column name or a key contains a NUL character, which PostgreSQL cannot store.
    NulCharacter,
    /// On the way to the last key stands a string, number or boolean, which has no keys.
    NotAnObject {
        /// The key that cannot be looked up.
        key: String,
    },
    /// The key stands on an array but is not the index of one of its elements.
    NotAnElement {
        /// The key that cannot be looked up.
        key: String,
    },
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathError::Syntax { position, expected } => write!(f, "at character {position}: expected {expected}"),
            PathError::EmptyColumn => f.write_str("expected a column name before the first operator"),
            PathError::NoKeys => f.write_str("expected at least one key after the column, as in contact->>'email'"),
            PathError::NulCharacter => f.write_str("expected names without NUL characters"),
            PathError::NotAnObject { key } => {
                write!(
                    f,
                    "expected an object that can hold the key {key:?}, found a plain value"
                )
            }
            PathError::NotAnElement { key } => {
                write!(
                    f,
                    "expected the index of an existing array element, found the key {key:?}"
                )
            }
        }
    }
}

impl std::error::Error for PathError {}

/// Why a value has no canonical form of its kind, or no form on the other side. Never contains the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// The text is not of the kind at all.
    Malformed {
        /// The kind that was asked for.
        kind: ValueKind,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// The text is of the kind, but outside what both sides can hold.
    OutOfRange {
        /// The kind that was asked for.
        kind: ValueKind,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// The text is longer than HubSpot stores.
    TooLong {
        /// The kind that was asked for.
        kind: ValueKind,
        /// The longest that is accepted, in characters.
        limit: usize,
    },
    /// The text contains a NUL character, which PostgreSQL cannot store.
    NulCharacter {
        /// The kind that was asked for.
        kind: ValueKind,
    },
}

impl ValueError {
    /// The kind the value was meant to have.
    pub fn kind(&self) -> ValueKind {
        match *self {
            ValueError::Malformed { kind, .. }
            | ValueError::OutOfRange { kind, .. }
            | ValueError::TooLong { kind, .. }
            | ValueError::NulCharacter { kind } => kind,
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueError::Malformed { kind, expected } => write!(f, "not a {}: expected {expected}", kind.name()),
            ValueError::OutOfRange { kind, expected } => {
                write!(f, "{} out of range: expected {expected}", kind.name())
            }
            ValueError::TooLong { kind, limit } => {
                write!(f, "{} too long: expected at most {limit} characters", kind.name())
            }
            ValueError::NulCharacter { kind } => write!(f, "{}: expected no NUL character", kind.name()),
        }
    }
}

impl std::error::Error for ValueError {}

/// Why a transform could not be applied. Never contains the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransformError {
    /// The transform shifts decimals and the value is not a number in range.
    NotANumber {
        /// The transform's name.
        transform: &'static str,
    },
    /// The transform negates and the value is not `true` or `false`.
    NotABoolean {
        /// The transform's name.
        transform: &'static str,
    },
}

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransformError::NotANumber { transform } => {
                write!(f, "transform {transform} expected a finite decimal number")
            }
            TransformError::NotABoolean { transform } => write!(f, "transform {transform} expected true or false"),
        }
    }
}

impl std::error::Error for TransformError {}

/// A word that is none of an enum's labels. The word itself is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLabel {
    /// The mapping key the word was given for, such as `sync_direction`.
    pub what: &'static str,
    /// Every label that is accepted, in the strategy's order.
    pub allowed: &'static [&'static str],
}

impl fmt::Display for UnknownLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} expected one of {}", self.what, self.allowed.join(", "))
    }
}

impl std::error::Error for UnknownLabel {}
