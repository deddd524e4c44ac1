//! JSON paths over one column, in PostgreSQL's own notation: `contact->>'email'`.
//!
//! Invariant: a path is a column name and at least one key, never SQL. Consumers bind [`JsonPath::keys`] as a `text[]`
//! for `#>>` and quote [`JsonPath::column`] themselves; the text a user typed is never spliced into a statement.
//! `parse(print(p)) == p` for every path.

mod json;
mod parse;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value::array;

pub use crate::error::PathError;

/// A column and the keys that lead to one text inside it.
///
/// Keys are text, as in `#>>`: on an array, a key that is an integer selects an element, counted from the end when
/// negative. Serialised as its printed form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JsonPath {
    column: String,
    keys: Vec<String>,
}

impl JsonPath {
    /// A path from its parts; the column is the real name, not folded or quoted.
    ///
    /// # Errors
    /// [`PathError::EmptyColumn`], [`PathError::NoKeys`], [`PathError::NulCharacter`].
    pub fn new<K: Into<String>>(
        column: impl Into<String>,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<JsonPath, PathError> {
        let column = column.into();
        let keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        if column.is_empty() {
            return Err(PathError::EmptyColumn);
        }
        if keys.is_empty() {
            return Err(PathError::NoKeys);
        }
        if column.contains('\0') || keys.iter().any(|key| key.contains('\0')) {
            return Err(PathError::NulCharacter);
        }
        Ok(JsonPath { column, keys })
    }

    /// The column's real name.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// The keys from the outermost to the last; never empty.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The text at the path, as `->>` gives it: a string raw, null and a missing key `None`, anything else as JSON.
    ///
    /// A number beyond the precision of [`serde_json::Number`] was rounded when the column's value was parsed; where that
    /// matters, read in SQL with `#>>`.
    pub fn read(&self, column_value: &serde_json::Value) -> Option<String> {
        json::read(&self.keys, column_value)
    }

    /// Puts text at the path, creating the objects that are missing on the way; `None` removes the key.
    ///
    /// The new value is a JSON string, except where a number, boolean, array or object stands now and the text is JSON of
    /// the same type that reads back as the same text: then the type stays. An array element is replaced where it is;
    /// `None` makes it null, so that its neighbours keep their places. Idempotent.
    ///
    /// # Errors
    /// [`PathError::NotAnObject`] and [`PathError::NotAnElement`] when something else stands in the way; the value is then
    /// unchanged. Needs a person.
    pub fn write(&self, column_value: &mut serde_json::Value, text: Option<&str>) -> Result<(), PathError> {
        json::write(&self.keys, column_value, text)
    }
}

impl FromStr for JsonPath {
    type Err = PathError;

    /// Reads `a->'b'->>'c'`, `a#>>'{b,c}'` and mixtures; the last operator must yield text.
    fn from_str(text: &str) -> Result<JsonPath, PathError> {
        parse::parse(text)
    }
}

impl TryFrom<String> for JsonPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<JsonPath, PathError> {
        text.parse()
    }
}

impl From<JsonPath> for String {
    fn from(path: JsonPath) -> String {
        path.to_string()
    }
}

impl fmt::Display for JsonPath {
    /// Prints the one canonical form: `a->'b'->>'c'`, or `a#>>'{b,0}'` when a key is an integer, because there the
    /// arrows would look only in objects, or only in arrays, and mean something else in SQL than the path does here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if parse::is_plain_identifier(&self.column) {
            f.write_str(&self.column)?;
        } else {
            write!(f, "\"{}\"", self.column.replace('"', "\"\""))?;
        }
        if self.keys.iter().any(|key| key.parse::<i64>().is_ok()) {
            let keys = array::print_short(self.keys.iter().map(String::as_str));
            return write!(f, "#>>'{}'", keys.replace('\'', "''"));
        }
        for (i, key) in self.keys.iter().enumerate() {
            let operator = if i + 1 == self.keys.len() { "->>" } else { "->" };
            write!(f, "{operator}'{}'", key.replace('\'', "''"))?;
        }
        Ok(())
    }
}
