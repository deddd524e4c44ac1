//! Bringing one side's values over to the other, field by field, without an edit that asks for it.
//!
//! An empty side never wipes a filled one, what is on its way or held for a person is left alone, and an edit of HubSpot's
//! that nobody had seen is still settled by the field's policy.

use super::decide::Version;
use super::{Effect, FieldState, Policy};
use crate::value::Value;

/// What a backfill did with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backfill {
    /// Nothing: equal, empty, not of this direction, on its way, or a person has to act first.
    Nothing,
    /// Only the property's history tells whether and since when HubSpot's value stands.
    NeedsHistory,
    /// The value was brought over, or is about to be sent.
    Done,
}

impl FieldState {
    /// Has the row's value sent where HubSpot holds something else; `value` none: something this field cannot hold.
    pub fn backfill_hubspot(&mut self, policy: &Policy, value: Option<&Value>) -> Backfill {
        let equal = value.is_some_and(|value| self.same(value, &self.row));
        if !policy.direction.sends() || self.row.is_null() || equal || self.is_busy() {
            return Backfill::Nothing;
        }
        self.send_again();
        Backfill::Done
    }

    /// Gives the row HubSpot's value where it holds something else. `versions`: the property's history, once it was read.
    pub fn backfill_row(
        &mut self,
        policy: &Policy,
        value: &Value,
        versions: Option<&[Version]>,
        out: &mut Vec<Effect>,
    ) -> Backfill {
        if !policy.direction.receives() || value.is_null() || self.same(value, &self.row) || self.is_busy() {
            return Backfill::Nothing;
        }
        let Some(versions) = versions else {
            return Backfill::NeedsHistory;
        };
        let before = self.row.clone();
        self.take_unknown(policy, versions, out);
        if let Some(newest) = versions.iter().max_by_key(|v| v.at)
            && newest.at >= self.own_at.max(self.seen_at)
            && !newest.value.is_null()
            && !self.same(&newest.value, &self.row)
            && !self.is_busy()
        {
            self.write_row(newest.value.clone(), newest.at, false, out);
        }
        if self.row == before && !self.is_busy() {
            Backfill::Nothing
        } else {
            Backfill::Done
        }
    }

    /// Something is on its way, or a person has to act first.
    fn is_busy(&self) -> bool {
        self.needs_delivery() || self.held.is_some() || self.parked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Source;
    use crate::mapping::{Direction, Strategy};

    fn policy(direction: Direction) -> Policy {
        Policy {
            direction,
            strategy: Strategy::LatestWins,
            clock_offset: 0,
            clock_uncertainty: 0,
        }
    }

    fn row(value: &str) -> FieldState {
        let mut state = FieldState::new(Value::text(value), 5);
        state.base = Some(Value::text(value));
        state.seen_at = 10;
        state
    }

    #[test]
    fn towards_hubspot_what_differs_is_sent_and_empty_rows_wipe_nothing() {
        let both = policy(Direction::Bidirectional);
        let b = Value::text("B");
        assert_eq!(
            row("A").backfill_hubspot(&both, Some(&Value::text("A"))),
            Backfill::Nothing
        );
        let mut state = row("A");
        assert_eq!(state.backfill_hubspot(&both, Some(&b)), Backfill::Done);
        assert!(state.dirty);
        assert_eq!(state.backfill_hubspot(&both, Some(&b)), Backfill::Nothing);
        let mut empty = FieldState::new(Value::NULL, 0);
        assert_eq!(empty.backfill_hubspot(&both, Some(&b)), Backfill::Nothing);
        let inward = policy(Direction::HubspotToWarp);
        assert_eq!(row("A").backfill_hubspot(&inward, Some(&b)), Backfill::Nothing);
    }

    #[test]
    fn towards_the_row_hubspots_value_is_taken_as_of_its_version() {
        let both = policy(Direction::Bidirectional);
        let b = Value::text("B");
        let mut state = row("A");
        assert_eq!(
            state.backfill_row(&both, &b, None, &mut Vec::new()),
            Backfill::NeedsHistory
        );
        let history = [Version {
            value: b.clone(),
            at: 10,
            source: Source::Foreign,
        }];
        assert_eq!(
            state.backfill_row(&both, &b, Some(&history), &mut Vec::new()),
            Backfill::Done
        );
        assert_eq!((state.row.as_deref(), state.dirty), (Some("B"), false));
        let mut state = row("A");
        assert_eq!(
            state.backfill_row(&both, &Value::NULL, Some(&history), &mut Vec::new()),
            Backfill::Nothing
        );
        let out = policy(Direction::WarpToHubspot);
        assert_eq!(
            state.backfill_row(&out, &b, Some(&history), &mut Vec::new()),
            Backfill::Nothing
        );
    }

    #[test]
    fn an_old_read_brings_nothing_back() {
        let both = policy(Direction::Bidirectional);
        let mut state = row("A");
        state.own_at = 30;
        let old = [Version {
            value: Value::text("B"),
            at: 9,
            source: Source::Foreign,
        }];
        assert_eq!(
            state.backfill_row(&both, &Value::text("B"), Some(&old), &mut Vec::new()),
            Backfill::Nothing
        );
    }
}
