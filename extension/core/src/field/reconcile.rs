//! Comparing both sides outside of any event: what a look at HubSpot says about a field, and what is done about it.
//!
//! A comparison only ever finds what events should have told: it hands every version of the history that is not known yet
//! to [`FieldState::inbound`], as the webhook would have, and then sets right what still differs by the field's direction.

use super::decide::Version;
use super::{Effect, FieldState, Intake, Policy, Source};
use crate::mapping::Direction;
use crate::value::Value;

/// What a plain look at both sides of a field says. See [`FieldState::compare`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Both sides hold the same, or the field is tracked only.
    Equal,
    /// An edit or a write is on its way: delivery decides.
    UnderWay,
    /// The sides differ and a person has to act first: an open conflict, or a value that HubSpot refused.
    Waits,
    /// Sent only, and HubSpot holds something else: drift that is overwritten.
    DriftedThere,
    /// Received only, and the row holds something else than what HubSpot gave: drift that is overwritten.
    DriftedHere,
    /// Only the property's history can tell.
    Unclear,
}

/// What a comparison found. See [`FieldState::reconcile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// Nothing that was not known.
    Nothing,
    /// A version that nobody had told of: a webhook that never came, or a late write of ours.
    Missed,
    /// The receiving side of a field with one direction was changed.
    Drift,
    /// The sides differ though neither was changed since they agreed.
    Differs,
    /// The sides differ and a person has to act first.
    Waits,
}

impl FieldState {
    /// Compares the row with `value`, which HubSpot was seen to hold; `None`: something this field cannot hold.
    ///
    /// Equal sides of a field that flows both ways are not enough when HubSpot got a write of ours at or after
    /// `written_since`: it may have buried an edit that nobody has seen. Changes nothing.
    pub fn compare(&self, policy: &Policy, value: Option<&Value>, written_since: i64) -> Comparison {
        if policy.direction == Direction::None {
            return Comparison::Equal;
        }
        if self.needs_delivery() {
            return Comparison::UnderWay;
        }
        let is = |other: &Value| value.is_some_and(|value| self.same(value, other));
        if is(&self.row) {
            let may_hide = policy.direction.receives()
                && policy.direction.sends()
                && self.own_at > 0
                && self.own_at >= written_since;
            return if may_hide {
                Comparison::Unclear
            } else {
                Comparison::Equal
            };
        }
        let agreed = self.base.as_ref().is_some_and(is);
        if let Some(held) = &self.held {
            return if is(&held.hubspot_value) || held.buried {
                Comparison::Waits
            } else {
                Comparison::Unclear
            };
        }
        match policy.direction {
            _ if self.parked && (agreed || !policy.direction.receives()) => Comparison::Waits,
            Direction::WarpToHubspot => Comparison::DriftedThere,
            Direction::HubspotToWarp if agreed => Comparison::DriftedHere,
            _ => Comparison::Unclear,
        }
    }

    /// Sets right what [`FieldState::compare`] called drift: HubSpot is given the row's value, or the row `value`.
    pub fn undo_drift(&mut self, policy: &Policy, value: &Value, out: &mut Vec<Effect>) {
        if self.needs_delivery() {
            return;
        }
        if policy.direction.sends() {
            self.send_again();
        } else if policy.direction.receives() {
            self.skip_waiting(policy, out);
            self.write_row(value.clone(), self.seen_at, false, out);
        }
    }

    /// Takes the property's whole history into account, then sets right what still differs. A field with something on its
    /// way is left to delivery; a history that ends before what is known is too old to say anything.
    pub fn reconcile(&mut self, policy: &Policy, versions: &[Version], out: &mut Vec<Effect>) -> Found {
        if policy.direction == Direction::None || self.needs_delivery() {
            return Found::Nothing;
        }
        let (seen_at, held) = (self.seen_at, self.held.clone());
        self.take_unknown(policy, versions, out);
        let news = if self.seen_at > seen_at || self.held != held {
            Found::Missed
        } else {
            Found::Nothing
        };
        if self.needs_delivery() {
            return Found::Missed;
        }
        let Some(newest) = versions.iter().max_by_key(|v| v.at) else {
            // HubSpot does not know the property of this record at all any more: what the row holds is sent again.
            if policy.direction.sends() && !self.row.is_null() && !self.parked && self.held.is_none() {
                self.send_again();
                return Found::Differs;
            }
            return news;
        };
        if self.same(&newest.value, &self.row) || newest.at < self.own_at.max(self.seen_at) {
            return news;
        }
        if self.held.is_some() || self.parked {
            return if news == Found::Missed { news } else { Found::Waits };
        }
        self.undo_drift(policy, &newest.value, out);
        match policy.direction {
            Direction::Bidirectional => Found::Differs,
            _ => Found::Drift,
        }
    }

    /// Hands the versions that are not known yet to [`FieldState::inbound`], as their webhooks would have.
    pub(super) fn take_unknown(&mut self, policy: &Policy, versions: &[Version], out: &mut Vec<Effect>) {
        if self.base.is_none() && self.held.is_none() && policy.direction.receives() {
            self.learn(policy, versions, out);
        }
        let mut ordered: Vec<&Version> = versions.iter().collect();
        ordered.sort_by_key(|v| v.at);
        for v in ordered {
            let new = match v.source {
                Source::Own => v.at > self.own_at,
                Source::Foreign => v.at > self.seen_at,
            };
            if new {
                // Nothing is in flight: nothing has to wait.
                let _: Intake = self.inbound(policy, &v.value, v.at, v.source, out);
            }
        }
    }

    /// HubSpot must be given the row's value once more.
    pub(super) fn send_again(&mut self) {
        self.dirty = true;
        self.parked = false;
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Strategy;

    fn policy(direction: Direction) -> Policy {
        Policy {
            direction,
            strategy: Strategy::LatestWins,
            clock_offset: 0,
            clock_uncertainty: 0,
        }
    }

    /// Both sides agreed on `A`, HubSpot's at instant 10.
    fn agreed(direction: Direction) -> FieldState {
        let mut state = FieldState::new(Value::text("A"), 5);
        state.base = Some(Value::text("A"));
        match direction {
            Direction::HubspotToWarp => state.seen_at = 10,
            _ => state.own_at = 10,
        }
        state
    }

    fn version(value: &str, at: i64, source: Source) -> Version {
        Version {
            value: Value::text(value),
            at,
            source,
        }
    }

    #[test]
    fn equal_sides_need_the_history_only_after_a_write_of_ours() {
        let both = policy(Direction::Bidirectional);
        let state = agreed(Direction::Bidirectional);
        let a = Value::text("A");
        assert_eq!(state.compare(&both, Some(&a), 11), Comparison::Equal);
        assert_eq!(state.compare(&both, Some(&a), 10), Comparison::Unclear);
        let out = policy(Direction::WarpToHubspot);
        assert_eq!(state.compare(&out, Some(&a), 0), Comparison::Equal);
    }

    #[test]
    fn a_plain_look_tells_drift_of_one_direction() {
        let b = Value::text("B");
        let out = policy(Direction::WarpToHubspot);
        let mut state = agreed(Direction::WarpToHubspot);
        assert_eq!(state.compare(&out, Some(&b), 0), Comparison::DriftedThere);
        assert_eq!(state.compare(&out, None, 0), Comparison::DriftedThere);
        state.undo_drift(&out, &b, &mut Vec::new());
        assert!(state.dirty && state.row == Value::text("A"));
        assert_eq!(state.compare(&out, Some(&b), 0), Comparison::UnderWay);

        let inward = policy(Direction::HubspotToWarp);
        let mut state = agreed(Direction::HubspotToWarp);
        state.local_edit(&inward, b.clone(), 20, None, &mut Vec::new());
        assert_eq!(
            state.compare(&inward, Some(&Value::text("A")), 0),
            Comparison::DriftedHere
        );
        assert_eq!(state.compare(&inward, Some(&Value::text("C")), 0), Comparison::Unclear);
        state.undo_drift(&inward, &Value::text("A"), &mut Vec::new());
        assert!(!state.dirty && state.row == Value::text("A"));
    }

    #[test]
    fn a_missed_edit_is_taken_as_its_webhook_would_have_been() {
        let both = policy(Direction::Bidirectional);
        let mut state = agreed(Direction::Bidirectional);
        let history = [version("A", 10, Source::Own), version("B", 20, Source::Foreign)];
        assert_eq!(state.reconcile(&both, &history, &mut Vec::new()), Found::Missed);
        assert_eq!((state.row.as_deref(), state.dirty), (Some("B"), false));
        assert_eq!(state.reconcile(&both, &history, &mut Vec::new()), Found::Nothing);
    }

    #[test]
    fn an_edit_that_our_write_buried_is_found_under_equal_sides() {
        let both = policy(Direction::Bidirectional);
        let mut state = agreed(Direction::Bidirectional);
        state.own_at = 30;
        state.edited_at = 5;
        let history = [version("B", 20, Source::Foreign), version("A", 30, Source::Own)];
        let mut out = Vec::new();
        assert_eq!(state.reconcile(&both, &history, &mut out), Found::Missed);
        assert!(out.iter().any(|e| matches!(e, Effect::Conflict { .. })), "{out:?}");
    }

    #[test]
    fn what_differs_without_news_is_sent_again_and_old_reads_say_nothing() {
        let both = policy(Direction::Bidirectional);
        let mut state = agreed(Direction::Bidirectional);
        let old = [version("Z", 9, Source::Own)];
        assert_eq!(state.reconcile(&both, &old, &mut Vec::new()), Found::Nothing);
        let other = [version("Z", 10, Source::Own)];
        assert_eq!(state.reconcile(&both, &other, &mut Vec::new()), Found::Differs);
        assert!(state.dirty);
    }

    #[test]
    fn a_refused_value_waits_for_a_person() {
        let both = policy(Direction::Bidirectional);
        let mut state = agreed(Direction::Bidirectional);
        state.row = Value::text("refused");
        state.dirty = true;
        state.parked = true;
        assert_eq!(state.compare(&both, Some(&Value::text("A")), 0), Comparison::Waits);
        assert_eq!(state.compare(&both, Some(&Value::text("C")), 0), Comparison::Unclear);
    }
}
