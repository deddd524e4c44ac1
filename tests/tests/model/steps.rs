//! What may happen next in a world.
//!
//! The relay's steps are those of the extension's relay API: a claim notes the generations, a read serves the whole
//! record, a decision ends, asks for more or sends, an answer completes. A relay that dies leaves its claim to the next
//! one, and the fencing token keeps its own later calls out; so all that a second relay adds is a request of the first one
//! that lands late. A death before anything was decided leaves no trace and is not a step of its own.

use super::world::*;
use hubspot_sync_core::field::rules::{self, Rule};
use hubspot_sync_core::field::{
    Decision, Effect, FieldState, Found, Intake, Observation, Policy, Read, Source, Version, Winner,
};
use hubspot_sync_core::mapping::{Direction, Strategy};

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
    /// Every step that is possible here.
    pub fn actions(&self, set: &Setting) -> Vec<Action> {
        let set = &self.now_set(set);
        let mut all = Vec::new();
        if set.becomes.is_some() && !self.turned {
            all.push(Action::Turn);
        }
        for (i, cell) in self.cells.iter().enumerate() {
            self.field_actions(set, i as u8, cell, &mut all);
        }
        self.relay_actions(set, &mut all);
        all.extend((0..self.net.len()).map(|i| Action::LandLate(i as u8)));
        // Reconciliation repairs what webhooks could not tell, and nothing else: the rest is the machine's own business.
        let skipped = |c: &Cell| c.sides_differ() && !c.newest().own && !c.f.dirty;
        let drift = set.direction == Direction::WarpToHubspot && self.cells.iter().any(skipped);
        if self.is_idle() && self.contacted && (self.dropped || drift) {
            all.push(Action::Reconcile);
        }
        all
    }

    /// Nothing is under way and nobody has anything to deliver.
    pub fn is_idle(&self) -> bool {
        self.claim.is_none()
            && self.stalled.is_none()
            && self.net.is_empty()
            && self.cells.iter().all(|c| c.hooks.is_empty() && !c.f.needs_delivery())
    }

    fn field_actions(&self, set: &Setting, field: u8, cell: &Cell, all: &mut Vec<Action>) {
        let l = &cell.ledger;
        if l.mine.len() < usize::from(set.mine) {
            let newest = cell.newest();
            for value in choices(set, W1 + l.mine.len() as u8).filter(|v| *v != cell.row()) {
                all.push(Action::EditRow {
                    field,
                    value,
                    tie: false,
                });
                if set.ties && !newest.own && newest.at == self.now && newest.at > cell.f.edited_at {
                    all.push(Action::EditRow {
                        field,
                        value,
                        tie: true,
                    });
                }
            }
        }
        if l.theirs < set.theirs {
            let values = choices(set, H1 + l.theirs).filter(|v| *v != cell.newest().val);
            all.extend(values.map(|value| Action::EditHubspot { field, value }));
        }
        for (i, hook) in cell.hooks.iter().enumerate() {
            let (index, again) = (i as u8, i > 0 && cell.hooks[i - 1] == *hook);
            if again {
                continue;
            }
            if self.contacted {
                all.push(Action::Webhook { field, index });
            }
            if self.faults > 0 {
                if self.contacted {
                    all.push(Action::WebhookDoubled { field, index });
                }
                all.push(Action::WebhookDropped { field, index });
            }
        }
        if cell.f.held.is_some() && self.people > 0 && self.is_idle() {
            all.extend((0..3).map(|winner| Action::Resolve { field, winner }));
        }
    }

    /// What is set now: the mapping may have been given its other direction.
    pub fn now_set(&self, set: &Setting) -> Setting {
        let direction = set.becomes.filter(|_| self.turned).unwrap_or(set.direction);
        Setting { direction, ..*set }
    }

    fn relay_actions(&self, set: &Setting, all: &mut Vec<Action>) {
        match self.stalled.as_ref().map(|c| &c.stage) {
            Some(Stage::Send(_)) => all.push(Action::StalledLands),
            Some(_) => all.extend([Action::StalledIsHeard, Action::StalledIsRefused]),
            None => {}
        }
        let (stage, may) = (self.claim.as_ref().map(|c| &c.stage), set.second && self.faults > 0);
        if may && self.stalled.is_none() && matches!(stage, Some(Stage::Send(_) | Stage::Answered(_))) {
            all.push(Action::Stall);
        }
        match self.claim.as_ref().map(|c| &c.stage) {
            None if !self.contacted || self.cells.iter().any(|c| c.f.needs_delivery()) => {
                all.push(Action::Claim { cached: false });
                if set.cached && self.contacted {
                    all.push(Action::Claim { cached: true });
                }
            }
            None => {}
            Some(Stage::Fetch(_)) => all.push(Action::Fetch),
            Some(Stage::Decide(_)) => all.push(Action::Decide),
            Some(Stage::Send(_)) => {
                all.push(Action::Landed);
                if self.faults > 0 {
                    all.extend([
                        Action::LandedUnanswered,
                        Action::RequestLost,
                        Action::RequestLate,
                        Action::NotSent,
                    ]);
                }
            }
            Some(Stage::Answered(_)) => all.push(Action::Complete),
        }
    }

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

    fn begin(&mut self, set: &Setting, cached: bool) -> Result<(), Broken> {
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

    fn fetch(&mut self, set: &Setting) {
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

    fn decide(&mut self, set: &Setting) -> Result<(), Broken> {
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

    fn waiting(&self) -> Vec<usize> {
        (0..self.cells.len())
            .filter(|i| self.cells[*i].f.needs_delivery())
            .collect()
    }

    /// What the claim is sending.
    fn sent(&self) -> Vec<(usize, Val)> {
        match self.claim.as_ref().map(|c| &c.stage) {
            Some(Stage::Send(sent)) => sent.clone(),
            _ => Vec::new(),
        }
    }

    fn land(&mut self, set: &Setting) -> Result<Vec<(usize, Val, Ver)>, Broken> {
        let sent = self.sent();
        Ok(self.hubspot_takes(set, &sent))
    }

    /// HubSpot stores one request's values, all at one instant.
    fn hubspot_takes(&mut self, set: &Setting, sent: &[(usize, Val)]) -> Vec<(usize, Val, Ver)> {
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
    fn relay_dies(&mut self) {
        self.claim = None;
        if !rules::on(Rule::InFlightDurable) {
            for cell in &mut self.cells {
                cell.f.in_flight = None;
            }
        }
    }

    /// The request of a relay that stalled lands: HubSpot knows nothing of leases.
    fn stalled_lands(&mut self, set: &Setting) {
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

    fn complete(&mut self, set: &Setting) -> Result<(), Broken> {
        let claim = self.claim.take();
        self.report(set, claim)
    }

    /// A relay reports what HubSpot answered.
    fn report(&mut self, set: &Setting, claim: Option<Claim>) -> Result<(), Broken> {
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
    fn stores(&mut self, ver: Ver) {
        self.history.push(ver);
        (self.ledger.told, self.ledger.adrift) = (false, false);
        self.hooks.push(ver);
        self.hooks.sort_unstable();
        self.ledger.in_hubspot |= 1 << ver.val;
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

/// The values from which the next edit chooses.
fn choices(set: &Setting, unique: Val) -> impl Iterator<Item = Val> {
    let all: &[Val] = match set.values {
        Values::Unique => &[],
        Values::Few => &[A, B],
        Values::Unmet => &[EMPTY, A],
    };
    let one = (set.values == Values::Unique).then_some(unique);
    one.into_iter().chain(all.iter().copied())
}
