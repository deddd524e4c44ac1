//! Between the claim and the write: what was seen in HubSpot, and whether to send.

use super::local::end;
use super::rules::{self, Rule};
use super::{EditEnd, Effect, FieldState, InFlight, Intake, Note, Policy, Source};
use crate::mapping::{Direction, Strategy};
use crate::value::Value;

/// One version of a property in HubSpot's history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The value.
    pub value: Value,
    /// HubSpot's instant.
    pub at: i64,
    /// Who wrote it.
    pub source: Source,
}

/// How much of HubSpot's side must be read before a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Read {
    /// Nothing.
    Nothing,
    /// The present value.
    Value,
    /// The property's history.
    History,
}

/// What a relay saw of the property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation<'a> {
    /// Nothing was read: a value younger than the cache's time to live is known, or none is needed.
    Nothing,
    /// The present value, and HubSpot's instant of the record's last change as that read shows it (0: not known).
    Value(&'a Value, i64),
    /// The history, in any order.
    History(&'a [Version]),
}

/// What to do next with the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it moved since the claim, was settled meanwhile, or is equal on both sides.
    Settled,
    /// Read more, then decide again.
    Read(Read),
    /// Send this value; [`FieldState::in_flight`] is set and must be durable before the request leaves.
    Send(Value),
}

impl FieldState {
    /// What has to be read for this field before it can be decided. `fresh`: HubSpot's value is known and younger than
    /// the cache's time to live.
    pub fn read_needed(&self, policy: &Policy, fresh: bool) -> Read {
        if self.in_flight.is_some() && rules::on(Rule::LookAfterUnknown) {
            // An earlier outcome is unknown: look, and look at the history.
            Read::History
        } else if matches!(policy.direction, Direction::WarpToHubspot | Direction::None)
            || (fresh && !self.always_looks(policy))
        {
            Read::Nothing
        } else {
            Read::Value
        }
    }

    /// Decides what to do with the field, claimed at `generation`, after `seen` was read.
    pub fn decide(
        &mut self,
        policy: &Policy,
        generation: i64,
        seen: &Observation<'_>,
        out: &mut Vec<Effect>,
    ) -> Decision {
        if self.moved_since(generation) || !self.needs_delivery() {
            return Decision::Settled;
        }
        if self.in_flight.is_none() {
            self.skip_waiting(policy, out);
        }
        match seen {
            _ if !self.needs_delivery() => {}
            Observation::History(versions) => self.learn(policy, versions, out),
            _ if self.in_flight.is_some() && rules::on(Rule::LookAfterUnknown) => return Decision::Read(Read::History),
            Observation::Nothing => {}
            Observation::Value(value, _) => {
                if self.same(value, &self.row) && rules::on(Rule::EqualIsNotSent) {
                    self.agree(out);
                    out.push(Effect::Noted {
                        note: Note::AlreadyEqual,
                        value: (*value).clone(),
                        at: 0,
                    });
                } else if policy.direction.receives()
                    && !self.base.as_ref().is_some_and(|b| self.same(value, b))
                    && rules::on(Rule::DifferentNeedsHistory)
                {
                    // Neither ours nor what was agreed: who wrote it, and when?
                    return Decision::Read(Read::History);
                }
            }
        }
        if self.in_flight.is_none() {
            self.skip_waiting(policy, out);
        }
        if self.moved_since(generation) || !self.needs_delivery() {
            return Decision::Settled;
        }
        if let Observation::History(versions) = seen
            && let Some(newest) = versions.iter().max_by_key(|v| v.at)
            && (newest.at >= self.own_at.max(self.seen_at) || !rules::on(Rule::OldReadSettlesNothing))
            && self.same(&newest.value, &self.row)
            && rules::on(Rule::EqualIsNotSent)
        {
            self.agree(out);
            out.push(Effect::Noted {
                note: Note::AlreadyEqual,
                value: newest.value.clone(),
                at: newest.at,
            });
            return Decision::Settled;
        }
        self.in_flight = Some(InFlight {
            value: self.row.clone(),
            edited_at: self.edited_at,
            generation,
            edit: self.pending_edit,
            after: match seen {
                Observation::Nothing => 0,
                Observation::Value(_, changed_at) => *changed_at,
                Observation::History(versions) => versions.iter().map(|v| v.at).max().unwrap_or(0),
            },
        });
        Decision::Send(self.row.clone())
    }

    /// Whether what was claimed at `generation` is out of date.
    fn moved_since(&self, generation: i64) -> bool {
        self.generation != generation && rules::on(Rule::StopWhenMoved)
    }

    /// Whether a cached value is never enough.
    fn always_looks(&self, policy: &Policy) -> bool {
        (policy.strategy == Strategy::Manual && rules::on(Rule::ManualAlwaysLooks))
            || (self.given_up && rules::on(Rule::GivenUpAlwaysLooks))
    }

    /// Takes a property's history into account: the outcome of the write in flight first, then every foreign version
    /// that is new, in order.
    pub fn learn(&mut self, policy: &Policy, versions: &[Version], out: &mut Vec<Effect>) {
        let mut ordered: Vec<&Version> = versions.iter().collect();
        ordered.sort_by_key(|v| v.at);
        if let Some(flight) = &self.in_flight.clone() {
            let landed = ordered.iter().rev().find(|v| {
                v.source == Source::Own && self.may_be_in_flight(flight, v.at) && self.same(&v.value, &flight.value)
            });
            match landed {
                Some(v) => self.complete(policy, &flight.value, &v.value, v.at, flight.generation, out),
                None => {
                    self.given_up = true;
                    self.forget_in_flight(out);
                }
            }
        }
        if let Some(newest) = ordered.last()
            && self.base.is_none()
            && self.held.is_none()
            && policy.direction.receives()
            && rules::on(Rule::FirstContactByNewest)
            && (newest.at > self.own_at || self.own_at == 0 || !rules::on(Rule::FirstContactNotBuried))
        {
            // Before the first agreement only what HubSpot holds now matters, not how it came about; unless a write of ours
            // is known to have landed over it.
            if newest.source == Source::Foreign && newest.at > self.seen_at {
                self.first_contact(policy, &newest.value, newest.at, out);
            }
            return;
        }
        let seen_at = self.seen_at;
        for v in ordered.iter().filter(|v| v.source == Source::Foreign && v.at > seen_at) {
            let taken = self.take_in(policy, &v.value, v.at, Source::Foreign, out);
            debug_assert_eq!(taken, Intake::Taken, "nothing is in flight here");
        }
    }

    /// A record was created (or found empty) in HubSpot: a field that was not sent is empty on both sides.
    pub fn created_empty(&mut self, out: &mut Vec<Effect>) {
        if self.base.is_none() && self.row.is_null() && self.in_flight.is_none() {
            self.base = Some(Value::NULL);
            self.dirty = false;
            end(self.pending_edit.take(), EditEnd::Delivered, out);
        }
    }
}
