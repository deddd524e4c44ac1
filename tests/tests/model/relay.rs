//! The relay's steps: claim, read, decide, send, report.

use super::steps::{Broken, policy};
use super::world::*;
use hubspot_sync_core::field::rules::{self, Rule};
use hubspot_sync_core::field::{Decision, Effect, FieldState, Observation, Read};
use hubspot_sync_core::mapping::Strategy;

impl World {
    pub fn begin(&mut self, set: &Setting, cached: bool) -> Result<(), Broken> {
        let mut read = if self.contacted { Read::Nothing } else { Read::History };
        let mut generations = vec![None; self.cells.len()];
        for (i, cell) in self.cells.iter().enumerate().filter(|(_, c)| c.f.needs_delivery()) {
            if !set.direction.sends() && !self.turned && cell.f.in_flight.is_none() {
                return Err("I4 no loop: a relay is called for an edit that is never sent".into());
            }
            generations[i] = Some(cell.f.generation);
            read = read.max(cell.f.read_needed(&policy(set), cached));
        }
        self.claim = Some(Claim {
            generations,
            stage: Stage::Fetch(read),
        });
        if !set.gap || read == Read::Nothing {
            self.fetch(set);
        }
        Ok(())
    }

    pub fn fetch(&mut self, set: &Setting) {
        let claim = self.claim.as_mut().expect("a claim");
        let Stage::Fetch(read) = claim.stage else { return };
        let looks = set.strategy == Strategy::Manual && set.direction.receives();
        // The record's last change, as a read shows it without any history.
        let changed = self.cells.iter().map(|c| c.newest().at).max().unwrap_or(0);
        let see = |c: &Cell| match read {
            Read::Nothing if looks && !c.newest().own && c.newest().at > c.f.seen_at => Seen::Overlooked,
            Read::Nothing => Seen::Nothing,
            Read::Value => Seen::Value(c.newest().val, changed),
            Read::History => Seen::History(c.history.clone()),
        };
        claim.stage = Stage::Decide(self.cells.iter().map(see).collect());
    }

    pub fn decide(&mut self, set: &Setting) -> Result<(), Broken> {
        let Some(Claim {
            generations,
            stage: Stage::Decide(seen),
        }) = self.claim.take()
        else {
            return Ok(());
        };
        if !self.contacted {
            self.contacted = true;
            for (i, seen) in seen.iter().enumerate() {
                let Seen::History(all) = seen else { continue };
                let newest = *all.last().expect("a first version");
                self.event(set, i, None, |f, p, out| {
                    f.first_contact(p, &value(newest.val), newest.at, out)
                })?;
            }
            return Ok(());
        }
        let (mut sends, waiting) = (Vec::new(), self.waiting());
        for i in waiting {
            let generation = generations[i].unwrap_or(-1);
            let history: Vec<_>;
            let shown: hubspot_sync_core::value::Value;
            let observation = match &seen[i] {
                Seen::Nothing | Seen::Overlooked => Observation::Nothing,
                Seen::Value(v, at) => {
                    shown = value(*v);
                    Observation::Value(&shown, *at)
                }
                Seen::History(all) => {
                    history = all.iter().map(|v| v.version()).collect();
                    Observation::History(&history)
                }
            };
            let before = self.cells[i].f.clone();
            let mut phantom = false;
            let decision = self.event(set, i, None, |f, p, out| {
                let decision = f.decide(p, generation, &observation, out);
                phantom = out.iter().any(|e| disputes_the_past(&before, &seen[i], e));
                decision
            })?;
            if phantom {
                return Err("I3 no phantom: first contact is with a value that HubSpot no longer holds".into());
            }
            match decision {
                Decision::Settled => {
                    let f = &self.cells[i].f;
                    if before == *f && f.needs_delivery() && f.generation == generation {
                        return Err("I4 no loop: a field is claimed again and again and nothing happens".into());
                    }
                }
                Decision::Read(read) => {
                    for (i, _) in sends {
                        self.event(set, i, None, |f, _, out| f.forget_in_flight(out))?;
                    }
                    if matches!((&seen[i], read), (Seen::History(_), _) | (Seen::Value(..), Read::Value)) {
                        return Err("I4 no loop: the same is read again and again".into());
                    }
                    self.claim = Some(Claim {
                        generations,
                        stage: Stage::Fetch(read),
                    });
                    if !set.gap {
                        self.fetch(set);
                    }
                    return Ok(());
                }
                Decision::Send(v) => {
                    self.check_send(set, i, &v, &seen[i])?;
                    sends.push((i, val(&v)));
                }
            }
        }
        if !sends.is_empty() {
            self.credit -= sends.len() as i8;
            if self.credit < 0 {
                return Err("I4 no loop: a write without a reason".into());
            }
            self.claim = Some(Claim {
                generations,
                stage: Stage::Send(sends),
            });
        }
        Ok(())
    }

    pub fn waiting(&self) -> Vec<usize> {
        (0..self.cells.len())
            .filter(|i| self.cells[*i].f.needs_delivery())
            .collect()
    }

    /// What the claim is sending.
    pub fn sent(&self) -> Vec<(usize, Val)> {
        match self.claim.as_ref().map(|c| &c.stage) {
            Some(Stage::Send(sent)) => sent.clone(),
            _ => Vec::new(),
        }
    }

    pub fn land(&mut self, set: &Setting) -> Result<Vec<(usize, Val, Ver)>, Broken> {
        let sent = self.sent();
        Ok(self.hubspot_takes(set, &sent))
    }

    /// HubSpot stores one request's values, all at one instant.
    pub fn hubspot_takes(&mut self, set: &Setting, sent: &[(usize, Val)]) -> Vec<(usize, Val, Ver)> {
        self.now += 1;
        let now = self.now;
        let mut answers = Vec::new();
        for &(i, v) in sent {
            let cell = &mut self.cells[i];
            let last = cell.newest();
            let answer = if last.val != v || set.rewrites == Rewrites::Version {
                let ver = Ver {
                    at: now,
                    val: v,
                    own: true,
                };
                cell.stores(ver);
                ver
            } else if set.rewrites == Rewrites::QuietLast && last.at > 0 {
                last
            } else {
                Ver { at: now, ..last }
            };
            if cell.ledger.mine.last() == Some(&v) {
                cell.ledger.landed = true;
            }
            answers.push((i, v, answer));
        }
        answers
    }

    /// The lease runs out and another relay may claim.
    pub fn relay_dies(&mut self) {
        self.claim = None;
        if !rules::on(Rule::InFlightDurable) {
            for cell in &mut self.cells {
                cell.f.in_flight = None;
            }
        }
    }

    /// The request of a relay that stalled lands: HubSpot knows nothing of leases.
    pub fn stalled_lands(&mut self, set: &Setting) {
        let Some(Claim {
            generations,
            stage: Stage::Send(sent),
        }) = self.stalled.take()
        else {
            return;
        };
        self.credit += sent.len() as i8;
        for (i, _) in &sent {
            self.cells[*i].ledger.late = true;
        }
        let stage = Stage::Answered(self.hubspot_takes(set, &sent));
        self.stalled = Some(Claim { generations, stage });
    }

    pub fn complete(&mut self, set: &Setting) -> Result<(), Broken> {
        let claim = self.claim.take();
        self.report(set, claim)
    }

    /// A relay reports what HubSpot answered.
    pub fn report(&mut self, set: &Setting, claim: Option<Claim>) -> Result<(), Broken> {
        let Some(Claim {
            generations,
            stage: Stage::Answered(answers),
        }) = claim
        else {
            return Ok(());
        };
        for (i, sent, ver) in answers {
            let generation = generations[i].unwrap_or(-1);
            let (sent, returned) = (value(sent), value(ver.val));
            let waited = self.cells[i].f.in_flight.as_ref();
            let waited = waited.is_some_and(|f| f.generation == generation && f.value == sent);
            self.event(set, i, None, |f, p, out| {
                f.complete(p, &sent, &returned, ver.at, generation, out)
            })?;
            let cell = &mut self.cells[i];
            cell.ledger.told = waited && !set.direction.receives() && cell.newest() == ver && !cell.sides_differ();
        }
        Ok(())
    }
}

/// Whether this is a conflict of two sides that never agreed with a value that the history read shows as past.
fn disputes_the_past(before: &FieldState, seen: &Seen, effect: &Effect) -> bool {
    let (Seen::History(all), Effect::Conflict { hubspot_value, .. }) = (seen, effect) else {
        return false;
    };
    let newest = all.last().expect("a first version");
    let agreed = before.base.is_some() || all.iter().any(|v| v.own && v.at > before.own_at);
    !agreed && newest.at > before.own_at && newest.val != val(hubspot_value)
}
