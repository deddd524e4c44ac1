//! Values in one canonical text form per kind, and the way there from each side and back.
//!
//! Invariant: two texts that mean the same on their side have the same [`Value`], whatever the DateStyle, time zone,
//! locale or number formatting that printed them, so the state machine compares with `==` and nothing else. NULL,
//! HubSpot's empty string and an absent property are one value. Called by the extension around every read and write of a
//! row and by the relay never: it carries text. Nothing panics; text that has no canonical form is an error that does not
//! repeat the text.

pub(crate) mod array;
pub(crate) mod number;
mod time;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use crate::error::ValueError;

/// The longest text HubSpot stores in a property, in characters. HubSpot limit.
pub const MAX_TEXT_CHARS: usize = 65_536;

/// Stands in JSON documents for U+0000, which PostgreSQL's text cannot hold: a noncharacter that no text may carry. A value
/// with it is refused as one with the NUL itself.
pub const NUL_STAND_IN: char = '\u{FDD0}';

/// What separates the options of a multi-select on HubSpot's wire.
const OPTION_SEPARATOR: char = ';';

/// How a field's values are compared and printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// Text as it is: nothing is trimmed or folded.
    Text,
    /// Exact decimal, any number of digits.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A day without a zone.
    Date,
    /// An instant, to the millisecond.
    Timestamp,
    /// A set of options.
    MultiSelect,
}

impl ValueKind {
    /// The kind of a PostgreSQL type, by the name `format_type` prints; a length or precision in parentheses and the
    /// schema of a built-in type or of `citext` are ignored.
    ///
    /// `None` for types that have no form on HubSpot's side, or print differently by setting (`money`, `interval`,
    /// `bytea`), and for names this crate cannot know: the caller decides that an enum type is text and that a domain is
    /// its base type.
    pub fn from_pg_type(name: &str) -> Option<ValueKind> {
        let plain = strip_typmod(name.trim()).to_ascii_lowercase();
        if let Some(element) = plain.strip_suffix("[]") {
            return (text_type(element)).then_some(ValueKind::MultiSelect);
        }
        let base = plain.strip_prefix("pg_catalog.").unwrap_or(&plain);
        match base {
            "smallint" | "integer" | "bigint" | "int" | "int2" | "int4" | "int8" | "numeric" | "decimal" | "real"
            | "double precision" | "float4" | "float8" => Some(ValueKind::Number),
            "boolean" | "bool" => Some(ValueKind::Boolean),
            "date" => Some(ValueKind::Date),
            "timestamp with time zone" | "timestamp without time zone" | "timestamptz" | "timestamp" => {
                Some(ValueKind::Timestamp)
            }
            "uuid" | "json" | "jsonb" | "inet" | "cidr" | "macaddr" | "macaddr8" => Some(ValueKind::Text),
            _ => text_type(&plain).then_some(ValueKind::Text),
        }
    }

    /// The kind's name for messages and for storage.
    pub fn name(self) -> &'static str {
        match self {
            ValueKind::Text => "text",
            ValueKind::Number => "number",
            ValueKind::Boolean => "boolean",
            ValueKind::Date => "date",
            ValueKind::Timestamp => "timestamp",
            ValueKind::MultiSelect => "multi_select",
        }
    }
}

fn text_type(name: &str) -> bool {
    let base = name.strip_prefix("pg_catalog.").unwrap_or(name);
    matches!(
        base,
        "text" | "character varying" | "varchar" | "character" | "char" | "\"char\"" | "bpchar" | "name"
    ) || base.rsplit('.').next() == Some("citext")
}

/// `timestamp(3) with time zone` without its `(3)`.
fn strip_typmod(name: &str) -> String {
    match (name.find('('), name.find(')')) {
        (Some(open), Some(close)) if open < close => format!("{}{}", name[..open].trim_end(), &name[close + 1..]),
        _ => name.to_owned(),
    }
}

/// A value in canonical form; `None` inside is NULL, and an empty text never stands inside.
///
/// As JSON it is a string or null.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Option<String>", into = "Option<String>")]
pub struct Value(Option<String>);

impl Value {
    /// No value: SQL NULL, HubSpot's empty string, an absent property.
    pub const NULL: Value = Value(None);

    /// A value from text that is canonical already; empty text is [`Value::NULL`].
    pub fn text(text: impl Into<String>) -> Value {
        let text = text.into();
        Value((!text.is_empty()).then_some(text))
    }

    /// The canonical text, or `None` for NULL.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }

    /// The canonical text, or `None` for NULL.
    pub fn into_option(self) -> Option<String> {
        self.0
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Value {
        text.map_or(Value::NULL, Value::text)
    }
}

impl From<Value> for Option<String> {
    fn from(value: Value) -> Option<String> {
        value.0
    }
}

/// The canonical form of what PostgreSQL's output function printed, or a JSON path gave.
///
/// Dates must be in ISO DateStyle. A timestamp without an offset is taken as UTC, and what is finer than a millisecond is
/// dropped. NULL elements and empty elements of an array are dropped, because HubSpot cannot hold them. Blanks around
/// kinds other than text and arrays are ignored.
///
/// # Errors
/// When the text is not of the kind, or beyond what both sides hold: NaN and infinities, an exponent beyond 1,000, a year
/// outside 1 to 9999, an array of several dimensions, an option that contains `;`, a NUL character. Needs a person.
pub fn from_warp(kind: ValueKind, text: Option<&str>) -> Result<Value, ValueError> {
    let Some(text) = given(kind, text)? else {
        return Ok(Value::NULL);
    };
    match kind {
        ValueKind::Text => Ok(Value::text(text)),
        ValueKind::Number => number(text),
        ValueKind::Boolean if text.eq_ignore_ascii_case("t") => Ok(Value::text("true")),
        ValueKind::Boolean if text.eq_ignore_ascii_case("f") => Ok(Value::text("false")),
        ValueKind::Boolean => boolean(text),
        ValueKind::Date => moment(kind, time::date(text)),
        ValueKind::Timestamp => moment(kind, time::instant(text)),
        ValueKind::MultiSelect => {
            let elements = array::parse(&text.chars().collect::<Vec<_>>());
            let elements = elements.map_err(|(_, expected)| ValueError::Malformed { kind, expected })?;
            let options: Vec<String> = elements.into_iter().flatten().collect();
            if options.iter().any(|option| option.contains(OPTION_SEPARATOR)) {
                return Err(ValueError::OutOfRange {
                    kind,
                    expected: "options without a semicolon",
                });
            }
            Ok(option_set(options.iter().map(String::as_str)))
        }
    }
}

/// The canonical form of a property value as HubSpot's API or webhooks give it.
///
/// # Errors
/// As for [`from_warp`], and a date given as an instant that is not midnight UTC. Needs a person.
pub fn from_hubspot(kind: ValueKind, text: Option<&str>) -> Result<Value, ValueError> {
    let Some(text) = given(kind, text)? else {
        return Ok(Value::NULL);
    };
    match kind {
        ValueKind::Text => Ok(Value::text(text)),
        ValueKind::Number => number(text),
        ValueKind::Boolean => boolean(text),
        ValueKind::Date => moment(kind, time::hubspot_date(text)),
        ValueKind::Timestamp => moment(kind, time::hubspot_instant(text)),
        ValueKind::MultiSelect => Ok(option_set(text.split(OPTION_SEPARATOR))),
    }
}

/// What goes on the wire to HubSpot; the empty string clears the property.
///
/// A multi-select never starts with `;`, which would append instead of replacing.
///
/// # Errors
/// When the value is not of the kind (a transform may have made it), longer than [`MAX_TEXT_CHARS`], or contains a NUL
/// character. Needs a person.
pub fn to_hubspot(kind: ValueKind, value: &Value) -> Result<String, ValueError> {
    let text = from_hubspot(kind, value.as_deref())?.into_option().unwrap_or_default();
    if text.chars().count() > MAX_TEXT_CHARS {
        return Err(ValueError::TooLong {
            kind,
            limit: MAX_TEXT_CHARS,
        });
    }
    Ok(text)
}

/// The text that PostgreSQL's input function of the kind's types accepts; `None` is NULL.
///
/// Arrays come as a literal with every element quoted. The empty set is NULL, like every other empty value.
pub fn to_warp(kind: ValueKind, value: &Value) -> Option<String> {
    let text = value.as_deref()?;
    Some(match kind {
        ValueKind::Text | ValueKind::Number | ValueKind::Boolean | ValueKind::Date | ValueKind::Timestamp => {
            text.to_owned()
        }
        ValueKind::MultiSelect => array::print(text.split(OPTION_SEPARATOR)),
    })
}

/// The text to read, without the blanks that mean nothing for its kind; `None` when there is no value.
fn given(kind: ValueKind, text: Option<&str>) -> Result<Option<&str>, ValueError> {
    let Some(text) = text else { return Ok(None) };
    if text.contains(['\0', NUL_STAND_IN]) {
        return Err(ValueError::NulCharacter { kind });
    }
    let text = match kind {
        ValueKind::Text | ValueKind::MultiSelect => text,
        ValueKind::Number | ValueKind::Boolean | ValueKind::Date | ValueKind::Timestamp => text.trim_ascii(),
    };
    Ok((!text.is_empty()).then_some(text))
}

fn number(text: &str) -> Result<Value, ValueError> {
    let kind = ValueKind::Number;
    match number::canonical(text, 0) {
        Ok(text) => Ok(Value::text(text)),
        Err(number::Fault::Malformed) => Err(ValueError::Malformed {
            kind,
            expected: "a finite decimal such as -1234.5 or 1.2345e3",
        }),
        Err(number::Fault::Exponent) => Err(ValueError::OutOfRange {
            kind,
            expected: "an exponent between -1000 and 1000",
        }),
    }
}

fn boolean(text: &str) -> Result<Value, ValueError> {
    if text.eq_ignore_ascii_case("true") {
        Ok(Value::text("true"))
    } else if text.eq_ignore_ascii_case("false") {
        Ok(Value::text("false"))
    } else {
        Err(ValueError::Malformed {
            kind: ValueKind::Boolean,
            expected: "true or false",
        })
    }
}

fn moment(kind: ValueKind, text: Result<String, time::Fault>) -> Result<Value, ValueError> {
    let expected = match kind {
        ValueKind::Date => "a date as YYYY-MM-DD",
        _ => "an instant as YYYY-MM-DDTHH:MM:SS.mmmZ",
    };
    match text {
        Ok(text) => Ok(Value::text(text)),
        Err(time::Fault::Malformed) => Err(ValueError::Malformed { kind, expected }),
        Err(time::Fault::Range) => Err(ValueError::OutOfRange {
            kind,
            expected: "a year from 1 to 9999",
        }),
        Err(time::Fault::NotMidnight) => Err(ValueError::OutOfRange {
            kind,
            expected: "a date, or midnight UTC",
        }),
    }
}

/// Options sorted, each once, empty ones left out.
fn option_set<'a>(options: impl Iterator<Item = &'a str>) -> Value {
    let set: BTreeSet<&str> = options.filter(|option| !option.is_empty()).collect();
    Value::text(set.into_iter().collect::<Vec<_>>().join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_postgres_types() {
        for (kind, names) in [
            (
                ValueKind::Text,
                &[
                    "text",
                    "character varying",
                    "varchar(20)",
                    "\"char\"",
                    "name",
                    "citext",
                    "public.citext",
                    "uuid",
                    "jsonb",
                ][..],
            ),
            (
                ValueKind::Number,
                &[
                    "numeric",
                    "numeric(10,2)",
                    "integer",
                    "bigint",
                    "double precision",
                    "pg_catalog.int4",
                ],
            ),
            (ValueKind::Boolean, &["boolean"]),
            (ValueKind::Date, &["date"]),
            (
                ValueKind::Timestamp,
                &[
                    "timestamp with time zone",
                    "timestamp(3) without time zone",
                    "timestamptz",
                ],
            ),
            (
                ValueKind::MultiSelect,
                &["text[]", "character varying[]", "character varying(5)[]", "citext[]"],
            ),
        ] {
            for name in names {
                assert_eq!(ValueKind::from_pg_type(name), Some(kind), "{name}");
            }
        }
        for name in [
            "",
            "money",
            "interval",
            "bytea",
            "integer[]",
            "text[][]",
            "app.status",
            "app.date",
            "app.text",
        ] {
            assert_eq!(ValueKind::from_pg_type(name), None, "{name}");
        }
    }

    #[test]
    fn no_value_has_one_form() {
        for kind in [
            ValueKind::Text,
            ValueKind::Number,
            ValueKind::Boolean,
            ValueKind::Date,
            ValueKind::Timestamp,
            ValueKind::MultiSelect,
        ] {
            for text in [None, Some("")] {
                assert_eq!(from_warp(kind, text), Ok(Value::NULL));
                assert_eq!(from_hubspot(kind, text), Ok(Value::NULL));
            }
            assert_eq!(to_hubspot(kind, &Value::NULL), Ok(String::new()));
            assert_eq!(to_warp(kind, &Value::NULL), None);
        }
        assert_eq!(from_warp(ValueKind::MultiSelect, Some("{}")), Ok(Value::NULL));
        assert_eq!(from_warp(ValueKind::MultiSelect, Some("{NULL,\"\"}")), Ok(Value::NULL));
        assert_eq!(from_hubspot(ValueKind::MultiSelect, Some(";;")), Ok(Value::NULL));
        assert_eq!(serde_json::from_str::<Value>("\"\"").unwrap(), Value::NULL);
        assert_eq!(serde_json::to_string(&Value::NULL).unwrap(), "null");
    }

    #[test]
    fn both_sides_meet() {
        for (kind, warp, hubspot) in [
            (ValueKind::Text, " a ", " a "),
            (ValueKind::Number, "100.00", "1e2"),
            (ValueKind::Boolean, "t", "true"),
            (ValueKind::Date, "2026-02-28", "1772236800000"),
            (
                ValueKind::Timestamp,
                "2026-01-05 11:00:00.1239+01",
                "2026-01-05T10:00:00.123Z",
            ),
            (ValueKind::MultiSelect, "{c,NULL,\"b d\",c}", ";b d;c;c"),
        ] {
            let value = from_warp(kind, Some(warp)).unwrap();
            assert_eq!(from_hubspot(kind, Some(hubspot)), Ok(value.clone()));
            assert_eq!(from_warp(kind, to_warp(kind, &value).as_deref()), Ok(value.clone()));
            assert_eq!(from_hubspot(kind, Some(&to_hubspot(kind, &value).unwrap())), Ok(value));
        }
    }

    #[test]
    fn limits() {
        let text = |n| Value::text("é".repeat(n));
        assert!(to_hubspot(ValueKind::Text, &text(MAX_TEXT_CHARS)).is_ok());
        let too_long = ValueError::TooLong {
            kind: ValueKind::Text,
            limit: MAX_TEXT_CHARS,
        };
        assert_eq!(to_hubspot(ValueKind::Text, &text(MAX_TEXT_CHARS + 1)), Err(too_long));
        let nul = ValueError::NulCharacter { kind: ValueKind::Text };
        assert_eq!(to_hubspot(ValueKind::Text, &Value::text("a\0b")), Err(nul));
        assert_eq!(from_hubspot(ValueKind::Text, Some("\0")), Err(nul));
        assert!(from_warp(ValueKind::MultiSelect, Some("{a;b}")).is_err());
        assert!(from_warp(ValueKind::Number, Some("NaN")).is_err());
    }

    #[test]
    fn errors_do_not_repeat_the_value() {
        for kind in [
            ValueKind::Number,
            ValueKind::Boolean,
            ValueKind::Date,
            ValueKind::Timestamp,
            ValueKind::MultiSelect,
        ] {
            let error = from_warp(kind, Some("sekrit")).unwrap_err();
            assert_eq!(error.kind(), kind);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("sekrit") && shown.contains("expected"), "{shown}");
        }
    }
}
