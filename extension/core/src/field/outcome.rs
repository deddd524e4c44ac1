//! Outcomes of a write: HubSpot acknowledged it, refused it, or nobody knows.

use super::local::end;
use super::rules::{self, Rule};
use super::{EditEnd, Effect, FieldState, Intake, Policy, Source};
use crate::value::Value;

impl FieldState {
    /// HubSpot holds the write identified by `value` and `generation` as of `at`, and stored it as `returned`.
    ///
    /// When that write is not the one in flight it was settled before, and all that is left is evidence that it landed.
    pub fn complete(
        &mut self,
        policy: &Policy,
        value: &Value,
        returned: &Value,
        at: i64,
        generation: i64,
        out: &mut Vec<Effect>,
    ) {
        let flight = match self.in_flight.take() {
            Some(f) if &f.value == value && f.generation == generation => f,
            other => {
                self.in_flight = other;
                let _: Intake = self.inbound(policy, value, at, Source::Own, out);
                return;
            }
        };
        if value != returned {
            self.form = Some((value.clone(), returned.clone()));
        }
        // An older write of ours that landed after this one is not known yet: its version waits while a write is in flight.
        // So a smaller instant only means that HubSpot's clocks disagree.
        self.own_at = self.own_at.max(at);
        self.base = Some(flight.value.clone());
        end(flight.edit, EditEnd::Delivered, out);
        if self.pending_edit == flight.edit {
            self.pending_edit = None;
        }
        // Only when the row moved under the write is there anything left to deliver. Moved there and back, it is equal but
        // edited later than what HubSpot got: a foreign edit in between is a conflict, so the next decision looks.
        self.dirty = self.generation != generation
            && rules::on(Rule::MovedStaysDirty)
            && (self.row != flight.value
                || !rules::on(Rule::EqualNeedsNoWrite)
                || (policy.direction.receives()
                    && self.edited_at != flight.edited_at
                    && rules::on(Rule::ThereAndBackLooks)));
        if !self.dirty {
            // Also when it had been given up: a write whose outcome was unknown was found to have landed.
            self.parked = false;
            self.end_pending(EditEnd::Delivered, out);
        }
    }

    /// It is certain that the write in flight did not land (HubSpot refused the call, or it was never sent).
    pub fn forget_in_flight(&mut self, out: &mut Vec<Effect>) {
        if let Some(f) = self.in_flight.take()
            && f.edit != self.pending_edit
        {
            end(f.edit, EditEnd::Superseded, out);
        }
    }

    /// HubSpot refuses this value: the field is parked until it is edited or retried; other fields go on.
    pub fn refuse(&mut self, generation: i64, out: &mut Vec<Effect>) {
        self.forget_in_flight(out);
        if self.generation == generation {
            self.parked = true;
            end(self.pending_edit, EditEnd::Failed, out);
        }
    }

    /// A person (or a mended property) asks for a parked field to be tried again.
    pub fn retry(&mut self) {
        if self.parked {
            self.parked = false;
            self.dirty = true;
        }
    }
}
