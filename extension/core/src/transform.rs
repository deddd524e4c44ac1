//! Built-in transforms: pairs of inverse functions on canonical values.
//!
//! Invariant: for every value of the transform's kind, `to_hubspot(to_warp(v)) == v` and the other way round, exactly.
//! That is why there is no lower-casing here: it cannot be undone, and an edit would come back as another edit. NULL
//! stays NULL. Transforms made by users are SQL functions that the extension knows; this crate knows only these.

use crate::value::{Value, ValueKind, number};

pub use crate::error::TransformError;

/// A built-in transform. Its name says what HubSpot holds and what the row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transform {
    /// HubSpot holds cents, the row dollars.
    CentsToDollars,
    /// HubSpot holds dollars, the row cents.
    DollarsToCents,
    /// HubSpot holds per cent (12.5), the row a fraction (0.125).
    PercentToFraction,
    /// HubSpot holds a fraction, the row per cent.
    FractionToPercent,
    /// HubSpot holds milliseconds, the row seconds.
    MillisecondsToSeconds,
    /// HubSpot holds seconds, the row milliseconds.
    SecondsToMilliseconds,
    /// HubSpot holds the opposite (opted out), the row the plain statement (opted in).
    Negated,
}

impl Transform {
    /// Every built-in transform.
    pub const ALL: [Transform; 7] = [
        Transform::CentsToDollars,
        Transform::DollarsToCents,
        Transform::PercentToFraction,
        Transform::FractionToPercent,
        Transform::MillisecondsToSeconds,
        Transform::SecondsToMilliseconds,
        Transform::Negated,
    ];

    /// The transform of that name, as a mapping's `transform` gives it.
    pub fn by_name(name: &str) -> Option<Transform> {
        Transform::ALL.into_iter().find(|transform| transform.name() == name)
    }

    /// The name that mappings use.
    pub fn name(self) -> &'static str {
        match self {
            Transform::CentsToDollars => "hubspot_value_in_cents_to_dollars",
            Transform::DollarsToCents => "hubspot_value_in_dollars_to_cents",
            Transform::PercentToFraction => "hubspot_value_in_percent_to_fraction",
            Transform::FractionToPercent => "hubspot_value_in_fraction_to_percent",
            Transform::MillisecondsToSeconds => "hubspot_value_in_milliseconds_to_seconds",
            Transform::SecondsToMilliseconds => "hubspot_value_in_seconds_to_milliseconds",
            Transform::Negated => "hubspot_value_negated",
        }
    }

    /// The kind of value the transform takes and gives, on both sides.
    pub fn kind(self) -> ValueKind {
        match self.action() {
            Action::Shift(_) => ValueKind::Number,
            Action::Negate => ValueKind::Boolean,
        }
    }

    /// The row's value for HubSpot's.
    ///
    /// # Errors
    /// When the value is not of [`Transform::kind`]. Needs a person.
    pub fn to_warp(self, value: &Value) -> Result<Value, TransformError> {
        self.apply(value, 1)
    }

    /// HubSpot's value for the row's.
    ///
    /// # Errors
    /// When the value is not of [`Transform::kind`]. Needs a person.
    pub fn to_hubspot(self, value: &Value) -> Result<Value, TransformError> {
        self.apply(value, -1)
    }

    fn apply(self, value: &Value, sign: i32) -> Result<Value, TransformError> {
        let transform = self.name();
        let Some(text) = value.as_deref() else {
            return Ok(Value::NULL);
        };
        match self.action() {
            Action::Shift(places) => number::canonical(text, sign * places)
                .map(Value::text)
                .map_err(|_| TransformError::NotANumber { transform }),
            Action::Negate => match text {
                "true" => Ok(Value::text("false")),
                "false" => Ok(Value::text("true")),
                _ => Err(TransformError::NotABoolean { transform }),
            },
        }
    }

    fn action(self) -> Action {
        match self {
            Transform::CentsToDollars | Transform::PercentToFraction => Action::Shift(-2),
            Transform::DollarsToCents | Transform::FractionToPercent => Action::Shift(2),
            Transform::MillisecondsToSeconds => Action::Shift(-3),
            Transform::SecondsToMilliseconds => Action::Shift(3),
            Transform::Negated => Action::Negate,
        }
    }
}

/// What a transform does on the way to the row.
enum Action {
    /// Times ten to this power.
    Shift(i32),
    /// The opposite.
    Negate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_are_hundredths() {
        let transform = Transform::by_name("hubspot_value_in_cents_to_dollars").unwrap();
        for (cents, dollars) in [
            ("10000", "100"),
            ("1", "0.01"),
            ("-12345", "-123.45"),
            ("0", "0"),
            ("0.5", "0.005"),
        ] {
            assert_eq!(transform.to_warp(&Value::text(cents)), Ok(Value::text(dollars)));
            assert_eq!(transform.to_hubspot(&Value::text(dollars)), Ok(Value::text(cents)));
        }
        assert_eq!(transform.to_warp(&Value::NULL), Ok(Value::NULL));
    }

    #[test]
    fn names_are_distinct_and_found() {
        for transform in Transform::ALL {
            assert_eq!(Transform::by_name(transform.name()), Some(transform));
        }
        assert_eq!(Transform::by_name("lower"), None);
    }

    #[test]
    fn wrong_kinds_are_errors_without_the_value() {
        for transform in Transform::ALL {
            let error = transform.to_warp(&Value::text("sekrit")).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("sekrit") && shown.contains(transform.name()), "{shown}");
        }
    }
}
