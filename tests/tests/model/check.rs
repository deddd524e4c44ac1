//! The promises, by name: I1 convergence, I2 no lost edit, I3 no phantom, I4 no loop, I5 order, I6 exactly-once intake.
//!
//! I2, I3, I4 and I6 are looked at with each event; I1, I5, and the rest of I2 and I6, wherever nothing is left to do.

use super::steps::{Broken, policy};
use super::world::*;
use hubspot_sync_core::field::{EditEnd, Effect, FieldState, Note, Policy, Side};
use hubspot_sync_core::mapping::{Direction, Strategy};
use hubspot_sync_core::value::Value;

impl World {
    /// Runs one event of a field and takes its effects. `edit`: the row's value that the event itself brings.
    pub fn event<R>(
        &mut self,
        set: &Setting,
        i: usize,
        edit: Option<Val>,
        act: impl FnOnce(&mut FieldState, &Policy, &mut Vec<Effect>) -> R,
    ) -> Result<R, Broken> {
        self.cells[i].event(set, edit, false, act)
    }

    /// An event by which a person decides a conflict.
    pub fn person<R>(
        &mut self,
        set: &Setting,
        i: usize,
        act: impl FnOnce(&mut FieldState, &Policy, &mut Vec<Effect>) -> R,
    ) -> Result<R, Broken> {
        self.cells[i].event(set, None, true, act)
    }

    /// What must hold of a value that is about to be sent after `seen` was read.
    pub fn check_send(&self, set: &Setting, i: usize, sent: &Value, seen: &Seen) -> Result<(), Broken> {
        let (f, l) = (&self.cells[i].f, &self.cells[i].ledger);
        let shown = match seen {
            Seen::Nothing => None,
            Seen::Overlooked => {
                return Err("I2 no lost edit: MANUAL overwrites an edit that a look would have shown".into());
            }
            Seen::Value(v, _) => Some(*v),
            Seen::History(all) => all.last().filter(|v| **v == self.cells[i].newest()).map(|v| v.val),
        };
        if shown == Some(val(sent)) {
            return Err("I4 no loop: HubSpot is given what the read shows that it holds".into());
        }
        if l.told {
            return Err("I4 no loop: HubSpot is given again what it said that it holds".into());
        }
        let unheard = shown.is_some() && shown == l.their_last && !l.their_last_known;
        if unheard && set.direction.receives() && set.values == Values::Unique {
            return Err("I2 no lost edit: an edit that the relay saw is overwritten unheard".into());
        }
        if *sent != f.row {
            return Err("I3 no phantom: what is sent is not the row's value".into());
        }
        if !set.direction.sends() {
            return Err("direction: it never sends".into());
        }
        if f.held.is_some() {
            return Err("I2 no lost edit: an open MANUAL conflict holds HubSpot's side".into());
        }
        Ok(())
    }

    /// What must hold wherever nothing is left to do.
    pub fn check_rest(&self, set: &Setting) -> Result<(), Broken> {
        let set = &self.now_set(set);
        let repeatable = !(set.values != Values::Unique && set.rewrites == Rewrites::QuietLast);
        for cell in &self.cells {
            cell.check_converged(set)?;
            cell.check_ledger(set)?;
            // What lands late where nothing is sent any more stays: the row follows it.
            if set.direction.sends() || set.becomes.is_none() {
                cell.check_order(set)?;
            }
            if repeatable {
                cell.check_repeated(set)?;
            }
        }
        Ok(())
    }
}

impl Cell {
    fn event<R>(
        &mut self,
        set: &Setting,
        edit: Option<Val>,
        person: bool,
        act: impl FnOnce(&mut FieldState, &Policy, &mut Vec<Effect>) -> R,
    ) -> Result<R, Broken> {
        let (mut row, was_held) = (edit.unwrap_or_else(|| self.row()), self.f.held.is_some());
        let mut out = Vec::new();
        let result = act(&mut self.f, &policy(set), &mut out);
        for effect in &out {
            match effect {
                Effect::WriteRow { value, .. } => {
                    let v = val(value);
                    self.check_row_write(set, row, v, was_held, person)?;
                    row = v;
                    self.ledger.written |= 1 << v;
                    self.ledger.hear(value);
                }
                Effect::EditEnded { edit, end } => {
                    let disputed = person || out.iter().any(|e| matches!(e, Effect::Conflict { .. }));
                    self.check_end(set, *edit, *end, disputed)?;
                }
                Effect::Conflict { hubspot_value, .. } => {
                    self.ledger.disputed = true;
                    self.ledger.hear(hubspot_value);
                }
                Effect::ConflictUpdated { hubspot_value, .. } => self.ledger.hear(hubspot_value),
                Effect::Noted { note, value, .. } if !matches!(note, Note::Stale | Note::Echo) => {
                    self.ledger.hear(value)
                }
                _ => {}
            }
        }
        if row != self.row() {
            return Err("I3 no phantom: the machine and the row differ".into());
        }
        Ok(result)
    }

    fn check_row_write(&self, set: &Setting, row: Val, v: Val, held: bool, person: bool) -> Result<(), Broken> {
        if v == row {
            return Err("I4 no loop: a row is written only to change it".into());
        }
        if !set.direction.receives() && !person {
            return Err("direction: it never writes the row".into());
        }
        if person {
            return Ok(());
        }
        if held {
            return Err("I2 no lost edit: an open MANUAL conflict holds the row".into());
        }
        if self.ledger.in_hubspot & (1 << v) == 0 {
            return Err("I3 no phantom: HubSpot never held what is written to the row".into());
        }
        // Where nothing is sent any more, a late write of ours may bring a foreign value once again.
        if set.values == Values::Unique && set.becomes.is_none() && self.ledger.written & (1 << v) != 0 {
            return Err("I6 exactly-once intake: a foreign edit is written to the row twice".into());
        }
        Ok(())
    }

    fn check_end(&mut self, set: &Setting, edit: i64, end: EditEnd, disputed: bool) -> Result<(), Broken> {
        let l = &mut self.ledger;
        if end == EditEnd::Failed {
            return Ok(());
        }
        if l.ended & (1 << edit) != 0 {
            return Err(format!("I2 no lost edit: edit {edit} ends twice"));
        }
        l.ended |= 1 << edit;
        let v = l.mine[edit as usize - 1];
        let yielded = set.values == Values::Unmet && (v == EMPTY || set.direction == Direction::HubspotToWarp);
        let true_end = match end {
            EditEnd::Delivered => l.in_hubspot & (1 << v) != 0,
            EditEnd::Superseded => edit < l.mine.len() as i64 || yielded,
            EditEnd::Lost => disputed,
            EditEnd::Skipped => !set.direction.sends(),
            EditEnd::Unchanged | EditEnd::Failed => false,
        };
        match true_end {
            true => Ok(()),
            false => Err(format!(
                "I2 no lost edit: edit {edit} is said to have ended as {}",
                end.label()
            )),
        }
    }

    /// I1.
    fn check_converged(&self, set: &Setting) -> Result<(), Broken> {
        let (l, f) = (&self.ledger, &self.f);
        if f.held.is_some() {
            return match set.strategy {
                Strategy::Manual if f.in_flight.is_none() => Ok(()),
                _ => Err("I1 convergence: a conflict is open that nobody can decide".into()),
            };
        }
        if !set.direction.sends() && f.dirty {
            return Err("I1 convergence: something waits that is never sent".into());
        }
        if set.direction == Direction::None {
            return Ok(());
        }
        if set.direction == Direction::HubspotToWarp {
            // A local edit stands until HubSpot's next one, and an empty property yields at first contact.
            let empty = set.values == Values::Unmet && f.base.is_none() && self.newest().val == EMPTY;
            let theirs = (f.origin == Side::Hubspot && !l.adrift)
                || (l.newest == Some(Who::Hubspot) && !self.newest().own && !empty);
            return match theirs && self.sides_differ() {
                true => Err("I1 convergence: the row has not HubSpot's value".into()),
                false => Ok(()),
            };
        }
        if f.dirty {
            return Err("I1 convergence: something is left to deliver".into());
        }
        if set.direction == Direction::WarpToHubspot && set.values == Values::Unmet && f.row.is_null() {
            return Ok(());
        }
        if self.sides_differ() {
            return Err(format!(
                "I1 convergence: the row holds {:?}, HubSpot {:?}",
                NAMES[usize::from(self.row())],
                NAMES[usize::from(self.newest().val)]
            ));
        }
        match self.expected(set) {
            Some(v) if v != self.row() => Err(format!(
                "I1 convergence: both sides hold {:?}, the policy picks {:?}",
                NAMES[usize::from(self.row())],
                NAMES[usize::from(v)]
            )),
            _ => Ok(()),
        }
    }

    /// The value that the policy picks; `None` when what is remembered of the edits cannot tell.
    fn expected(&self, set: &Setting) -> Option<Val> {
        let l = &self.ledger;
        if set.becomes.is_some() {
            return None;
        }
        if set.values == Values::Unmet {
            return self.expected_unmet(set);
        }
        let first = l.first.0;
        let mine = l.mine.last().copied();
        if set.direction == Direction::WarpToHubspot {
            return Some(mine.unwrap_or(first));
        }
        let newest = match l.newest {
            None => Some(first),
            Some(Who::Row) => mine,
            Some(Who::Hubspot) => l.their_last,
        };
        let (Some(mine), Some(theirs)) = (mine, l.their_last) else {
            return l.chosen.or(newest);
        };
        match set.strategy {
            // A foreign version passes for ours while our newest answer names it by value and instant.
            Strategy::LatestWins if set.values == Values::Few && set.rewrites == Rewrites::QuietLast => None,
            Strategy::LatestWins => newest,
            _ if set.values == Values::Few => None,
            Strategy::Manual if l.chosen.is_some() => l.chosen,
            Strategy::Manual if l.disputed => None,
            Strategy::Manual => newest,
            // A late landing that is repaired against a new edit in HubSpot is a conflict that cannot be told from here.
            Strategy::WarpWins if l.late => None,
            Strategy::WarpWins => Some(if l.later { theirs } else { mine }),
            // A local edit made when HubSpot's last was already in the row is no conflict.
            Strategy::HubspotWins => Some(if l.informed { mine } else { theirs }),
        }
    }

    fn expected_unmet(&self, set: &Setting) -> Option<Val> {
        let l = &self.ledger;
        if l.newest.is_some() || l.chosen.is_some() {
            return None;
        }
        let (row, theirs) = l.first;
        Some(match (set.direction, row, theirs) {
            (Direction::WarpToHubspot, ..) => row,
            (_, EMPTY, _) => theirs,
            (_, _, EMPTY) => row,
            _ if set.strategy == Strategy::WarpWins || row == theirs => row,
            _ => theirs,
        })
    }

    /// I2: every local edit has its one end, but the one that an open conflict is about; HubSpot's last edit is known.
    fn check_ledger(&self, set: &Setting) -> Result<(), Broken> {
        let l = &self.ledger;
        for id in 1..=l.mine.len() as i64 {
            let waits = self.f.held.is_some() && self.f.pending_edit == Some(id);
            if !waits && l.ended & (1 << id) == 0 {
                return Err(format!("I2 no lost edit: edit {id} has no end"));
            }
        }
        if set.direction.receives() && set.values == Values::Unique && !l.their_last_known {
            return Err("I2 no lost edit: HubSpot's last edit is in no row, conflict or log".into());
        }
        Ok(())
    }

    /// I5: of our values HubSpot may end on the newest only, and so may both sides of HubSpot's.
    fn check_order(&self, set: &Setting) -> Result<(), Broken> {
        let now = self.newest().val;
        if (H1..PERSON).contains(&now) && Some(now) != self.ledger.their_last && self.f.held.is_none() {
            return Err("I5 order: HubSpot ends on an older value of its own".into());
        }
        let ours = self.ledger.mine.iter().position(|v| *v == now);
        match ours {
            Some(i) if set.values == Values::Unique && i + 1 < self.ledger.mine.len() && self.f.held.is_none() => {
                Err("I5 order: HubSpot ends on an older value of ours".into())
            }
            _ => Ok(()),
        }
    }

    /// I6: everything that HubSpot ever said, said again, changes nothing.
    fn check_repeated(&self, set: &Setting) -> Result<(), Broken> {
        let mut again = self.clone();
        for ver in self.history.iter().filter(|v| v.at > 0) {
            again.event(set, None, false, |f, p, out| {
                f.inbound(p, &value(ver.val), ver.at, ver.source(), out)
            })?;
        }
        let same = again.f.row == self.f.row && again.f.dirty == self.f.dirty && again.f.held == self.f.held;
        match same && again.f.generation == self.f.generation {
            true => Ok(()),
            false => Err("I6 exactly-once intake: a repeated webhook changes something".into()),
        }
    }
}

impl Ledger {
    /// HubSpot's value reached somebody.
    fn hear(&mut self, value: &Value) {
        self.their_last_known |= self.their_last == Some(val(value));
    }
}
