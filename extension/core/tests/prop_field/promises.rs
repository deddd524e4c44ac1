//! What must hold once edits and faults have stopped: I1 to I4.

use crate::world::{Rewrites, Who, World, stored};
use hubspot_sync_core::field::{EditEnd, Intake, Source};
use hubspot_sync_core::mapping::Strategy;
use hubspot_sync_core::value::Value;
use rand::seq::SliceRandom;

impl World {
    /// A person's version passes for our own for as long as our newest answer named it by value and instant; later it is
    /// news. Only convergence is promised then.
    pub fn may_be_mistaken(&self) -> bool {
        self.set.few_values && self.rewrites == Rewrites::QuietLast
    }

    /// I1: both sides hold the same, and nothing is left to do.
    pub fn assert_converged(&self) {
        let newest = &self.newest().value;
        assert_eq!(
            stored(&self.row, self.set.forms),
            *newest,
            "the sides differ; {:?}",
            self.f
        );
        assert!(
            !self.f.dirty && self.f.in_flight.is_none() && self.f.held.is_none(),
            "work is left: {:?}",
            self.f
        );
    }

    /// I2: each local edit has one end, except the one an open conflict is about; and the ends are true.
    pub fn assert_ledger(&self) {
        let last = self.local_values.len() as i64;
        let mut lost = 0;
        for (id, value) in &self.local_values {
            let ends = self.ends.get(id).map_or(&[][..], Vec::as_slice);
            let finals: Vec<_> = ends.iter().filter(|e| **e != EditEnd::Failed).collect();
            if self.f.pending_edit == Some(*id) {
                assert!(self.f.held.is_some(), "edit {id} waits for nothing: {:?}", self.f);
                assert!(finals.is_empty(), "edit {id} ended and waits: {ends:?}");
                continue;
            }
            assert!(finals.len() == 1, "edit {id} has not one end: {ends:?}");
            assert!(
                matches!(ends.last(), Some(e) if *e != EditEnd::Failed),
                "edit {id} failed after its end: {ends:?}"
            );
            match finals[0] {
                EditEnd::Delivered => assert!(
                    self.history.iter().any(|v| v.value == stored(value, self.set.forms)),
                    "edit {id} was never delivered"
                ),
                EditEnd::Superseded =>
                // An empty row yields to HubSpot's value at first contact.
                {
                    assert!(
                        *id < last || (self.set.unmet && value.is_null()),
                        "edit {id} was superseded by nothing"
                    )
                }
                EditEnd::Lost => lost += 1,
                EditEnd::Skipped => assert!(!self.set.direction.sends()),
                EditEnd::Unchanged => assert!(self.set.few_values),
                EditEnd::Failed => {}
            }
        }
        assert!(
            lost <= self.lost_conflicts,
            "{lost} edits lost {} conflicts",
            self.lost_conflicts
        );
    }

    /// I3: nobody's value is nowhere.
    pub fn assert_no_phantom(&self, extra: &[Value]) {
        let known = |v: &Value| {
            self.set.unmet
                || v.as_deref() == Some("init")
                || v.as_deref().is_some_and(|t| t.starts_with('p'))
                || extra.contains(v)
                || self
                    .edits
                    .iter()
                    .any(|e| e.value == *v || stored(&e.value, self.set.forms) == *v)
        };
        assert!(
            self.history.iter().all(|v| known(&v.value)) && known(&self.row),
            "a value that nobody wrote"
        );
    }

    /// I4: a write has a reason, and everything HubSpot ever said, said again, changes nothing.
    pub fn assert_no_loop(&mut self) {
        assert!(
            self.sends <= self.reasons + self.losses + self.late,
            "{} sends for {} reasons, {} losses, {} late",
            self.sends,
            self.reasons,
            self.losses,
            self.late
        );
        if self.may_be_mistaken() {
            return;
        }
        let before = (
            self.f.row.clone(),
            self.f.dirty,
            self.f.generation,
            self.f.held.clone(),
            self.row_writes,
        );
        let mut again = self.history.clone();
        again.shuffle(&mut self.rng);
        for v in again {
            let intake = self.event("again", |f, p, out| f.inbound(p, &v.value, v.at, v.source, out));
            assert_eq!(intake, Intake::Taken);
        }
        let after = (
            self.f.row.clone(),
            self.f.dirty,
            self.f.generation,
            self.f.held.clone(),
            self.row_writes,
        );
        assert_eq!(before, after, "a repeated webhook changed something");
    }

    /// The value that the policy picks; `None` when the record of edits cannot tell.
    pub fn expected(&self) -> Option<Value> {
        let last = |who: Who| self.edits.iter().rev().find(|e| e.who == who);
        let newest = self.edits.last().map_or(Value::text("init"), |e| e.value.clone());
        if self.set.unmet {
            return None;
        }
        let (Some(mine), Some(theirs)) = (last(Who::Row), last(Who::Hubspot)) else {
            return Some(newest);
        };
        match self.set.strategy {
            Strategy::LatestWins if self.may_be_mistaken() => None,
            Strategy::LatestWins => Some(newest),
            _ if self.set.few_values => None,
            Strategy::Manual => None,
            // When a late landing is repaired against a new HubSpot edit, that is a conflict nobody can see from here.
            Strategy::WarpWins if self.late > 0 => None,
            // A landing whose form nobody recognised cannot be told from one that did not happen.
            Strategy::WarpWins if self.set.forms && self.losses > 0 => None,
            Strategy::WarpWins => {
                // An edit made in HubSpot after our last one had landed is no conflict.
                let value = stored(&mine.value, self.set.forms);
                let landed = self
                    .history
                    .iter()
                    .find(|v| v.source == Source::Own && v.value == value);
                let later = landed.is_some_and(|v| theirs.t + self.policy.clock_offset > v.at);
                Some(if later {
                    theirs.value.clone()
                } else {
                    mine.value.clone()
                })
            }
            Strategy::HubspotWins => {
                // A local edit made when HubSpot's last was already in the row is no conflict.
                Some(if mine.informed && mine.t > theirs.t {
                    mine.value.clone()
                } else {
                    theirs.value.clone()
                })
            }
        }
    }
}
