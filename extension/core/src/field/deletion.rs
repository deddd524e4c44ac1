//! A deletion of the whole record on one side against an edit of a field on the other, and the merge of two records.
//!
//! A deletion concerns all fields at once: each field that was edited on the other side says what its policy makes of it
//! ([`FieldState::against_row_deletion`], [`FieldState::against_record_deletion`]), the strongest opinion counts for the
//! record, and each of these fields is told the outcome ([`FieldState::deletion_judged`]), so that no edit ends unrecorded.

use super::rules::{self, Rule};
use super::{ConflictKind, EditEnd, Effect, FieldState, Held, Policy, Side, Source, Version, Winner};
use crate::mapping::{Direction, Strategy};
use crate::value::Value;

/// What becomes of a deletion; of two opinions the greater one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deletion {
    /// It stands: the other side's record goes too.
    Stands,
    /// A person has to say.
    Waits,
    /// An edit on the other side outweighs it: the record stays.
    Yields,
}

/// An edit on the side where the record was not deleted, and what the field's policy makes of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Against {
    /// The opinion of the field's policy.
    pub opinion: Deletion,
    /// The edited value.
    pub value: Value,
    /// When it was edited, on the clock of the side where it was.
    pub at: i64,
}

/// The side on which the record was deleted, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deleted {
    /// The row, at an instant of the database's clock.
    Row(i64),
    /// HubSpot's record, at an instant of HubSpot's clock.
    Record(i64),
}

impl FieldState {
    /// Whether HubSpot holding `remote` means that nobody but us matters there: it is what was agreed, or what the row held.
    pub fn is_known(&self, remote: &Value) -> bool {
        self.same(remote, &self.row) || self.base.as_ref().is_some_and(|b| self.same(remote, b))
    }

    /// The row was deleted at `deleted_at`; HubSpot reports these versions of the property. The newest foreign one that was
    /// not taken into account before, if there is one, is an edit against the deletion.
    pub fn against_row_deletion(&self, policy: &Policy, deleted_at: i64, versions: &[Version]) -> Option<Against> {
        if !policy.direction.receives() {
            return None;
        }
        let newest = versions
            .iter()
            .filter(|v| v.source == Source::Foreign && v.at > self.seen_at && !self.acknowledged(v))
            .max_by_key(|v| v.at)?;
        let opinion = match policy.strategy {
            Strategy::WarpWins => Deletion::Stands,
            Strategy::HubspotWins => Deletion::Yields,
            Strategy::LatestWins if policy.lead(deleted_at, newest.at) > policy.clock_uncertainty => Deletion::Stands,
            Strategy::LatestWins => Deletion::Yields,
            Strategy::Manual => Deletion::Waits,
        };
        Some(Against {
            opinion,
            value: newest.value.clone(),
            at: newest.at,
        })
    }

    /// The record was deleted in HubSpot at `deleted_at`. An edit of the row that was not delivered is an edit against the
    /// deletion; setting HubSpot's own value back is none.
    pub fn against_record_deletion(&self, policy: &Policy, deleted_at: i64) -> Option<Against> {
        let edited = self.dirty || self.parked || self.in_flight.is_some();
        if !edited || self.origin == Side::Hubspot || !policy.direction.sends() {
            return None;
        }
        let opinion = match policy.strategy {
            Strategy::WarpWins => Deletion::Yields,
            Strategy::HubspotWins => Deletion::Stands,
            Strategy::LatestWins if policy.lead(self.edited_at, deleted_at) > policy.clock_uncertainty => {
                Deletion::Yields
            }
            Strategy::LatestWins => Deletion::Stands,
            Strategy::Manual => Deletion::Waits,
        };
        Some(Against {
            opinion,
            value: self.row.clone(),
            at: self.edited_at,
        })
    }

    /// The record's deletion was judged: the field's edit against it goes on record as a conflict, open when a person has to
    /// say.
    pub fn deletion_judged(&mut self, deleted: Deleted, against: &Against, verdict: Deletion, out: &mut Vec<Effect>) {
        if self.held.take().is_some() {
            out.push(Effect::ConflictSettled);
        }
        let (warp_value, warp_at, hubspot_value, hubspot_at, winner) = match deleted {
            Deleted::Row(at) => {
                self.seen_at = self.seen_at.max(against.at);
                (
                    Value::NULL,
                    at,
                    against.value.clone(),
                    against.at,
                    [Winner::Warp, Winner::Hubspot],
                )
            }
            Deleted::Record(at) => (
                against.value.clone(),
                against.at,
                Value::NULL,
                at,
                [Winner::Hubspot, Winner::Warp],
            ),
        };
        out.push(Effect::Conflict {
            kind: ConflictKind::DeleteUpdate,
            warp_value,
            warp_at,
            hubspot_value,
            hubspot_at,
            base: self.base.clone(),
            winner: match verdict {
                Deletion::Stands => Some(winner[0]),
                Deletion::Yields => Some(winner[1]),
                Deletion::Waits => None,
            },
        });
        if matches!(deleted, Deleted::Record(_)) && verdict == Deletion::Stands {
            self.forget_in_flight(out);
            self.end_pending(EditEnd::Lost, out);
        }
    }

    /// The record of HubSpot's that this state told of is gone, and the row's values are to be given to another one, which
    /// is found or created: nothing is agreed with that.
    pub fn met_anew(&mut self, policy: &Policy, out: &mut Vec<Effect>) {
        self.forget_in_flight(out);
        if self.held.take().is_some() {
            out.push(Effect::ConflictSettled);
        }
        self.base = None;
        self.form = None;
        self.own_at = 0;
        self.parked = false;
        self.generation += 1;
        self.dirty = policy.direction.sends() && (self.pending_edit.is_some() || !self.row.is_null());
    }

    /// HubSpot merged the record with another one. `versions` is the history of the property in the surviving record, whose
    /// value may be older than what was seen in the record that is gone: two values that differ are a conflict, whatever
    /// their age and wherever the row's came from, because one of them would be lost.
    pub fn merged(&mut self, policy: &Policy, versions: &[Version], out: &mut Vec<Effect>) {
        if policy.direction == Direction::None {
            return;
        }
        if let Some(flight) = &self.in_flight.clone() {
            let landed = versions.iter().filter(|v| {
                v.source == Source::Own && self.may_be_in_flight(flight, v.at) && self.same(&v.value, &flight.value)
            });
            match landed.max_by_key(|v| v.at) {
                Some(v) => self.complete(policy, &flight.value, &v.value, v.at, flight.generation, out),
                None => self.forget_in_flight(out),
            }
        }
        let newest = versions.iter().max_by_key(|v| v.at);
        let (value, at) = newest.map_or((Value::NULL, 0), |v| (v.value.clone(), v.at));
        match newest.map(|v| v.source) {
            Some(Source::Own) => self.own_at = self.own_at.max(at),
            _ => self.seen_at = self.seen_at.max(at),
        }
        if self.same(&value, &self.row) {
            self.agree(out);
        } else if policy.direction == Direction::HubspotToWarp
            || (self.row.is_null() && policy.direction.receives() && rules::on(Rule::EmptyYields))
        {
            self.end_pending(EditEnd::Superseded, out);
            self.write_row(value, at, false, out);
        } else if !policy.direction.receives() || (value.is_null() && rules::on(Rule::EmptyYields)) {
            self.dirty = policy.direction.sends();
            self.generation += 1;
        } else {
            self.merge_conflict(policy, value, at, out);
        }
    }

    fn merge_conflict(&mut self, policy: &Policy, value: Value, at: i64, out: &mut Vec<Effect>) {
        let warp_wins = match policy.strategy {
            Strategy::WarpWins => Some(true),
            Strategy::HubspotWins => Some(false),
            // Both are instants of HubSpot's.
            Strategy::LatestWins if self.origin == Side::Hubspot => Some(self.edited_at > at),
            Strategy::LatestWins => Some(policy.lead(self.edited_at, at) > policy.clock_uncertainty),
            Strategy::Manual => None,
        };
        if self.held.take().is_some() {
            out.push(Effect::ConflictSettled);
        }
        out.push(Effect::Conflict {
            kind: ConflictKind::BothModified,
            warp_value: self.row.clone(),
            warp_at: self.edited_at,
            hubspot_value: value.clone(),
            hubspot_at: at,
            base: self.base.clone(),
            winner: warp_wins.map(|w| if w { Winner::Warp } else { Winner::Hubspot }),
        });
        match warp_wins {
            Some(false) => {
                self.end_pending(EditEnd::Lost, out);
                self.write_row(value, at, false, out);
            }
            Some(true) => {
                self.dirty = true;
                self.parked = false;
                self.generation += 1;
            }
            None => {
                self.dirty = true;
                self.generation += 1;
                self.held = Some(Held {
                    hubspot_value: value,
                    hubspot_at: at,
                    buried: false,
                });
            }
        }
    }

    /// A version that is a write of ours which HubSpot acknowledged, or what the row held: nobody else's edit.
    fn acknowledged(&self, version: &Version) -> bool {
        (version.at == self.own_at
            && version.at != 0
            && self.base.as_ref().is_some_and(|b| self.same(&version.value, b)))
            || self.same(&version.value, &self.row)
    }
}
