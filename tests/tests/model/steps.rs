//! What may happen next in a world.
//!
//! The relay's steps are those of the extension's relay API: a claim notes the generations, a read serves the whole
//! record, a decision ends, asks for more or sends, an answer completes. A relay that dies leaves its claim to the next
//! one, and the fencing token keeps its own later calls out; so all that a second relay adds is a request of the first one
//! that lands late. A death before anything was decided leaves no trace and is not a step of its own.

use super::world::*;
use hubspot_sync_core::field::{Found, Intake, Policy, Source, Version, Winner};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Action {
    Start(u8),
    EditRow { field: u8, value: Val, tie: bool },
    EditHubspot { field: u8, value: Val },
    Claim { cached: bool },
    Fetch,
    Decide,
    Landed,
    LandedUnanswered,
    RequestLost,
    RequestLate,
    NotSent,
    Complete,
    Webhook { field: u8, index: u8 },
    WebhookDoubled { field: u8, index: u8 },
    WebhookDropped { field: u8, index: u8 },
    LandLate(u8),
    Reconcile,
    Resolve { field: u8, winner: u8 },
    Stall,
    StalledLands,
    StalledIsHeard,
    StalledIsRefused,
    Turn,
}

/// A broken promise, in words.
pub type Broken = String;

pub fn policy(set: &Setting) -> Policy {
    Policy {
        direction: set.direction,
        strategy: set.strategy,
        clock_offset: 0,
        clock_uncertainty: 0,
    }
}

impl World {
    /// Takes a step.
    pub fn step(&self, set: &Setting, action: Action) -> Result<World, Broken> {
        let mut next = self.clone();
        next.act(&self.now_set(set), action)?;
        next.normalise(set);
        Ok(next)
    }

    fn fault(&mut self) {
        self.faults -= 1;
        // A lost request is sent again for each of its fields.
        self.credit += self.cells.len() as i8;
    }

    fn act(&mut self, set: &Setting, action: Action) -> Result<(), Broken> {
        match action {
            Action::Start(_) => {}
            Action::EditRow { field, value, tie } => self.edit_row(set, usize::from(field), value, tie)?,
            Action::EditHubspot { field, value } => self.edit_hubspot(usize::from(field), value),
            Action::Claim { cached } => self.begin(set, cached)?,
            Action::Fetch => self.fetch(set),
            Action::Decide => self.decide(set)?,
            Action::Landed => {
                let answers = self.land(set)?;
                let claim = self.claim.as_mut().expect("a claim");
                claim.stage = Stage::Answered(answers);
            }
            Action::LandedUnanswered => {
                self.fault();
                self.land(set)?;
                self.relay_dies();
            }
            Action::RequestLost => {
                self.fault();
                self.relay_dies();
            }
            Action::RequestLate => {
                self.fault();
                let sent = self.sent();
                self.net.push(sent);
                self.relay_dies();
            }
            Action::NotSent => {
                self.fault();
                for (i, _) in self.sent() {
                    self.event(set, i, None, |f, _, out| f.forget_in_flight(out))?;
                }
                self.claim = None;
            }
            Action::Complete => self.complete(set)?,
            Action::Webhook { field, index } => {
                if self.webhook(set, usize::from(field), usize::from(index))? == Intake::Taken {
                    self.cells[usize::from(field)].hooks.remove(usize::from(index));
                }
            }
            Action::WebhookDoubled { field, index } => {
                self.fault();
                self.webhook(set, usize::from(field), usize::from(index))?;
            }
            Action::WebhookDropped { field, index } => {
                self.fault();
                self.cells[usize::from(field)].hooks.remove(usize::from(index));
                self.dropped = true;
            }
            Action::LandLate(i) => {
                // Lost, it was sent again; landed, what it overwrote is.
                let sent = self.net.remove(usize::from(i));
                self.credit += sent.len() as i8;
                for (i, _) in &sent {
                    self.cells[*i].ledger.late = true;
                }
                self.hubspot_takes(set, &sent);
            }
            Action::Reconcile => self.reconcile(set)?,
            Action::Turn => {
                self.turned = true;
                // What was edited before is compared by nobody any more: it is drift until the next edit.
                for c in &mut self.cells {
                    (c.ledger.newest, c.ledger.adrift) = (None, c.f.dirty);
                }
            }
            Action::Stall => {
                self.fault();
                self.stalled = self.claim.take();
                self.relay_dies();
            }
            Action::StalledLands => self.stalled_lands(set),
            // The fencing token keeps a late report out. The machine does not depend on that.
            Action::StalledIsRefused => self.stalled = None,
            Action::StalledIsHeard => {
                let claim = self.stalled.take();
                self.report(set, claim)?;
            }
            Action::Resolve { field, winner } => self.resolve(set, usize::from(field), winner)?,
        }
        Ok(())
    }

    fn edit_row(&mut self, set: &Setting, i: usize, v: Val, tie: bool) -> Result<(), Broken> {
        if !tie {
            self.now += 1;
        }
        self.credit += 1;
        let now = self.now;
        let cell = &mut self.cells[i];
        let l = &mut cell.ledger;
        l.mine.push(v);
        let foreign = cell.history.iter().filter(|x| !x.own).map(|x| x.at).max();
        l.informed = foreign.unwrap_or(0) <= cell.f.seen_at;
        // Ties go to HubSpot, unless the row's editor had HubSpot's edit before them.
        l.newest = Some(if tie && !l.informed { Who::Hubspot } else { Who::Row });
        (l.landed, l.later, l.chosen, l.told) = (false, false, None, false);
        let id = l.mine.len() as i64;
        self.event(set, i, Some(v), |f, p, out| {
            f.local_edit(p, value(v), now, Some(id), out)
        })
    }

    fn edit_hubspot(&mut self, i: usize, v: Val) {
        self.now += 1;
        self.credit += 1;
        let now = self.now;
        let l = &mut self.cells[i].ledger;
        l.theirs += 1;
        (l.their_last, l.their_last_known) = (Some(v), false);
        (l.later, l.informed, l.chosen, l.newest) = (l.landed, false, None, Some(Who::Hubspot));
        self.cells[i].stores(Ver {
            at: now,
            val: v,
            own: false,
        });
    }

    fn webhook(&mut self, set: &Setting, i: usize, index: usize) -> Result<Intake, Broken> {
        let ver = self.cells[i].hooks[index];
        let source = if set.anonymous { Source::Foreign } else { ver.source() };
        self.event(set, i, None, |f, p, out| {
            f.inbound(p, &value(ver.val), ver.at, source, out)
        })
    }

    /// The record and its history, with nothing in flight.
    fn reconcile(&mut self, set: &Setting) -> Result<(), Broken> {
        self.dropped = false;
        for i in 0..self.cells.len() {
            let history: Vec<Version> = self.cells[i].history.iter().map(|ver| ver.version()).collect();
            if !set.direction.sends() {
                // A row that was edited where nothing is sent is given HubSpot's value once more.
                let newest = self.cells[i].newest().val;
                self.cells[i].ledger.written &= !(1 << newest);
            }
            let found = self.event(set, i, None, |f, p, out| f.reconcile(p, &history, out))?;
            // What differs without news is sent once more.
            if matches!(found, Found::Drift | Found::Differs) && set.direction.sends() {
                self.credit += 1;
            }
        }
        Ok(())
    }

    fn resolve(&mut self, set: &Setting, i: usize, winner: u8) -> Result<(), Broken> {
        self.people -= 1;
        self.credit += 1;
        self.now += 1;
        let (now, cell) = (self.now, &mut self.cells[i]);
        let held = cell.f.held.clone().expect("an open conflict");
        let (winner, chosen) = match winner {
            0 => (Winner::Warp, cell.row()),
            1 => (Winner::Hubspot, val(&held.hubspot_value)),
            _ => (Winner::Value, PERSON),
        };
        // Who chose without knowing of HubSpot's last edit may be asked again.
        cell.ledger.chosen = cell.ledger.their_last_known.then_some(chosen);
        self.person(set, i, |f, _, out| f.resolve(winner, &value(PERSON), now, out))?;
        // What a person chose cannot be sent any more either.
        self.cells[i].ledger.adrift |= self.turned && self.cells[i].f.dirty;
        Ok(())
    }
}

impl Cell {
    /// HubSpot's history grows, and a webhook says so.
    pub fn stores(&mut self, ver: Ver) {
        self.history.push(ver);
        (self.ledger.told, self.ledger.adrift) = (false, false);
        self.hooks.push(ver);
        self.hooks.sort_unstable();
        self.ledger.in_hubspot |= 1 << ver.val;
    }
}
