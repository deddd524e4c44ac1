//! Which steps are possible in a world.

use super::steps::Action;
use super::world::*;
use hubspot_sync_core::mapping::Direction;

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

    pub fn field_actions(&self, set: &Setting, field: u8, cell: &Cell, all: &mut Vec<Action>) {
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

    pub fn relay_actions(&self, set: &Setting, all: &mut Vec<Action>) {
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
