//! A value HubSpot reports, from a webhook, a read, a poll or reconciliation.

use super::rules::{self, Rule};
use super::{ConflictKind, EditEnd, Effect, FieldState, Held, InFlight, Note, Policy, Side, Winner};
use crate::mapping::Direction;
use crate::value::Value;

/// Who made the version that HubSpot reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// HubSpot says this app wrote it.
    Own,
    /// Anybody else.
    Foreign,
}

/// What became of a reported version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intake {
    /// It is dealt with.
    Taken,
    /// It must be offered again once the outcome of the write in flight is known: only then is it clear whether it came
    /// before that write (a conflict) or after it (an edit by someone who saw our value).
    Wait,
}

impl FieldState {
    /// HubSpot reports that the property holds (or held) `value` since `at`.
    pub fn inbound(
        &mut self,
        policy: &Policy,
        value: &Value,
        at: i64,
        source: Source,
        out: &mut Vec<Effect>,
    ) -> Intake {
        let known = self.seen_at;
        let intake = self.take_in(policy, value, at, source, out);
        if self.seen_at > known
            && self.dirty
            && self.in_flight.is_none()
            && policy.direction.receives()
            && rules::on(Rule::NewsOutdatesReads)
        {
            // What a relay read before this was heard of is out of date.
            self.generation += 1;
        }
        intake
    }

    /// [`FieldState::inbound`] for a version that a relay has just read.
    pub(super) fn take_in(
        &mut self,
        policy: &Policy,
        value: &Value,
        at: i64,
        source: Source,
        out: &mut Vec<Effect>,
    ) -> Intake {
        // An equal value alone is not enough to be ours (we write A, then B; a person sets A back: that is an edit);
        // value and instant of an acknowledged write are.
        let acknowledged = (at == self.own_at || !rules::on(Rule::OursByInstant))
            && at != 0
            && self.base.as_ref().is_some_and(|b| self.same(value, b))
            && rules::on(Rule::AcknowledgedIsOurs);
        match source {
            Source::Own => self.inbound_own(policy, value, at, out),
            Source::Foreign if acknowledged => self.inbound_own(policy, value, at, out),
            Source::Foreign => self.inbound_foreign(policy, value, at, out),
        }
    }

    fn inbound_own(&mut self, policy: &Policy, value: &Value, at: i64, out: &mut Vec<Effect>) -> Intake {
        if let Some(f) = &self.in_flight
            && self.may_be_in_flight(f, at)
            && rules::on(Rule::EchoCompletes)
        {
            if !self.same(value, &f.value) && rules::on(Rule::OwnWaits) {
                // Either HubSpot gave our value another form or an older write landed: the answer will tell.
                return Intake::Wait;
            }
            if self.same(value, &f.value) {
                // The echo tells the outcome before the answer does.
                let (sent, generation) = (f.value.clone(), f.generation);
                self.complete(policy, &sent, value, at, generation, out);
                out.push(Effect::Noted {
                    note: Note::Echo,
                    value: value.clone(),
                    at,
                });
                return Intake::Taken;
            }
        }
        let mut note = Note::Echo;
        if at > self.own_at {
            self.own_at = at;
            if at > self.seen_at {
                if let Some(held) = &mut self.held
                    && rules::on(Rule::HeldBuried)
                {
                    held.buried = true;
                }
                if !self.same(value, &self.row) {
                    note = self.late_write(policy, value, at, out);
                }
            }
        }
        out.push(Effect::Noted {
            note,
            value: value.clone(),
            at,
        });
        Intake::Taken
    }

    /// A late write of ours has overwritten something newer: that is sent again, or taken where nothing is sent.
    fn late_write(&mut self, policy: &Policy, value: &Value, at: i64, out: &mut Vec<Effect>) -> Note {
        if policy.direction.sends() && rules::on(Rule::LateOwnWriteDirties) {
            self.dirty = true;
            self.generation += 1;
            return Note::LateWrite;
        }
        if policy.direction == Direction::HubspotToWarp && self.held.is_none() && rules::on(Rule::OwnTakenWhereNotSent)
        {
            self.skip_waiting(policy, out);
            self.write_row(value.clone(), at, false, out);
        }
        Note::Echo
    }

    /// Whether a version of ours of this instant can be the write in flight: newer than every write known to have landed,
    /// and not older than the last change that the read before it showed.
    pub(super) fn may_be_in_flight(&self, flight: &InFlight, at: i64) -> bool {
        (at >= flight.after || !rules::on(Rule::InFlightNewerThanRead))
            && (at > self.own_at || !rules::on(Rule::InFlightNewerThanOwn))
    }

    fn inbound_foreign(&mut self, policy: &Policy, value: &Value, at: i64, out: &mut Vec<Effect>) -> Intake {
        if at <= self.seen_at && rules::on(Rule::StaleDropped) {
            out.push(Effect::Noted {
                note: Note::Stale,
                value: value.clone(),
                at,
            });
            return Intake::Taken;
        }
        if !policy.direction.receives() && rules::on(Rule::ReceivesByDirection) {
            self.seen_at = at;
            out.push(Effect::Noted {
                note: Note::SkippedByDirection,
                value: value.clone(),
                at,
            });
            return Intake::Taken;
        }
        if self.in_flight.is_some() && rules::on(Rule::ForeignWaits) {
            return Intake::Wait;
        }
        self.seen_at = at;
        self.skip_waiting(policy, out);
        if at < self.own_at && rules::on(Rule::BuriedDetected) {
            self.buried(policy, value, at, out);
        } else if !self.dirty {
            // Made after what HubSpot last got from us: no conflict.
            self.write_row(value.clone(), at, false, out);
        } else if self.same(value, &self.row) {
            if self.held.is_some()
                || self.warp_wins(policy, self.edited_at, at) == Some(false)
                || !rules::on(Rule::EqualMayBeOld)
            {
                // Both sides were given the same value: they agree, and nothing needs to be sent.
                self.agree(out);
            } else {
                // Equal then, but perhaps not now: a newer foreign edit would lose to the row's. The next decision looks.
                self.parked = false;
            }
            out.push(Effect::Noted {
                note: Note::AlreadyEqual,
                value: value.clone(),
                at,
            });
        } else {
            self.dispute(policy, value, at, false, out);
        }
        Intake::Taken
    }

    /// Our write landed over a foreign edit that we had not seen: a conflict found afterwards.
    fn buried(&mut self, policy: &Policy, value: &Value, at: i64, out: &mut Vec<Effect>) {
        // Where nothing is sent it could not be set back: the row follows what HubSpot holds, which is our write.
        let stays_buried = !policy.direction.sends() && self.held.is_none() && rules::on(Rule::BuriedNeedsSending);
        if self.same(value, &self.row) || stays_buried {
            out.push(Effect::Noted {
                note: Note::Buried,
                value: value.clone(),
                at,
            });
        } else {
            self.dispute(policy, value, at, true, out);
        }
    }

    /// The row's value and HubSpot's `value` disagree: the policy picks.
    fn dispute(&mut self, policy: &Policy, value: &Value, at: i64, buried: bool, out: &mut Vec<Effect>) {
        let edited_at = self.edited_at;
        if let Some(held) = &mut self.held {
            *held = Held {
                hubspot_value: value.clone(),
                hubspot_at: at,
                buried,
            };
            out.push(Effect::ConflictUpdated {
                warp_value: self.row.clone(),
                warp_at: edited_at,
                hubspot_value: value.clone(),
                hubspot_at: at,
            });
            return;
        }
        let wins = self.warp_wins(policy, edited_at, at);
        if self.origin == Side::Hubspot {
            let note = if wins == Some(true) {
                Note::Buried
            } else {
                Note::RepairOvertaken
            };
            out.push(Effect::Noted {
                note,
                value: value.clone(),
                at,
            });
        } else {
            out.push(Effect::Conflict {
                kind: if self.base.is_none() {
                    ConflictKind::InitialMismatch
                } else {
                    ConflictKind::BothModified
                },
                warp_value: self.row.clone(),
                warp_at: edited_at,
                hubspot_value: value.clone(),
                hubspot_at: at,
                base: self.base.clone(),
                winner: wins.map(|w| if w { Winner::Warp } else { Winner::Hubspot }),
            });
        }
        match wins {
            Some(true) => {}
            Some(false) => {
                self.end_pending(EditEnd::Lost, out);
                self.write_row(value.clone(), at, buried && rules::on(Rule::BuriedDeliveredBack), out);
            }
            None => {
                self.dirty = true;
                self.held = Some(Held {
                    hubspot_value: value.clone(),
                    hubspot_at: at,
                    buried,
                });
            }
        }
    }

    /// Both sides hold the row's value.
    pub(super) fn agree(&mut self, out: &mut Vec<Effect>) {
        self.dirty = false;
        self.parked = false;
        self.base = Some(self.row.clone());
        if self.held.take().is_some() {
            out.push(Effect::ConflictSettled);
        }
        self.end_pending(EditEnd::Delivered, out);
    }

    /// Whether first contact needs the property's history, or its present `value` is enough.
    ///
    /// Times and authors matter where two values compete, where HubSpot's goes into the row, and where both sides were in
    /// contact before (a write whose answer was lost, a record that became another one by a merge). They do not where both
    /// sides hold the same, where HubSpot's side is empty, and where HubSpot's value does not count.
    pub fn first_contact_needs_history(&self, policy: &Policy, value: &Value) -> bool {
        if policy.direction == Direction::None {
            return false;
        }
        self.in_flight.is_some()
            || self.base.is_some()
            || !(self.held.is_some()
                || self.same(value, &self.row)
                || policy.direction == Direction::WarpToHubspot
                || value.is_null())
    }

    /// First contact of a row with an existing HubSpot record, which holds `value` since `at` (0: unknown).
    ///
    /// A side that is empty yields to one that is not: an empty column never wipes what HubSpot knows, nor the reverse.
    /// Two different values are a conflict of kind `INITIAL_MISMATCH`.
    pub fn first_contact(&mut self, policy: &Policy, value: &Value, at: i64, out: &mut Vec<Effect>) {
        if self.base.is_some() || self.held.is_some() || policy.direction == Direction::None {
            return;
        }
        self.seen_at = self.seen_at.max(at);
        if self.same(value, &self.row) {
            self.agree(out);
        } else if policy.direction == Direction::WarpToHubspot || (value.is_null() && rules::on(Rule::EmptyYields)) {
            self.dirty = policy.direction.sends() && !self.row.is_null();
            if !self.dirty {
                self.end_pending(EditEnd::Superseded, out);
            }
        } else if policy.direction == Direction::HubspotToWarp || (self.row.is_null() && rules::on(Rule::EmptyYields)) {
            self.end_pending(EditEnd::Superseded, out);
            self.write_row(value.clone(), at, false, out);
        } else {
            self.dirty = true;
            self.dispute(policy, value, at, false, out);
        }
    }
}
