//! A field, what happens to it, and what it caused.

use hubspot_sync_core::field::{
    Decision, EditEnd, Effect, FieldState, Intake, Note, Observation, Policy, Source, Version,
};
use hubspot_sync_core::mapping::{Direction, Strategy};
use hubspot_sync_core::value::Value;

/// Every strategy.
pub const TWO_WAY: [Strategy; 4] = [
    Strategy::LatestWins,
    Strategy::WarpWins,
    Strategy::HubspotWins,
    Strategy::Manual,
];

/// A field and what it caused since it was last asked.
pub struct Case {
    pub f: FieldState,
    pub policy: Policy,
    pub out: Vec<Effect>,
}

pub fn v(text: &str) -> Value {
    Value::text(text)
}

pub fn policy(direction: Direction, strategy: Strategy) -> Policy {
    Policy {
        direction,
        strategy,
        clock_offset: 0,
        clock_uncertainty: 0,
    }
}

pub fn ended(edit: i64, end: EditEnd) -> Effect {
    Effect::EditEnded { edit, end }
}

pub fn wrote(value: &str, at: i64) -> Effect {
    Effect::WriteRow { value: v(value), at }
}

pub fn noted(note: Note, value: &str, at: i64) -> Effect {
    Effect::Noted {
        note,
        value: v(value),
        at,
    }
}

pub fn version(value: &str, at: i64, source: Source) -> Version {
    Version {
        value: v(value),
        at,
        source,
    }
}

impl Case {
    /// Nothing is agreed yet; the row's value was edited at 100.
    pub fn unmet(direction: Direction, strategy: Strategy, row: &str) -> Case {
        Case {
            f: FieldState::new(v(row), 100),
            policy: policy(direction, strategy),
            out: Vec::new(),
        }
    }

    /// Both sides hold `old`.
    pub fn agreed(strategy: Strategy) -> Case {
        let mut case = Case::unmet(Direction::Bidirectional, strategy, "old");
        case.f.base = Some(v("old"));
        case
    }

    /// Our `new`, edited at 200 as edit 1, is acknowledged as of 300.
    pub fn delivered(strategy: Strategy) -> Case {
        let mut case = Case::agreed(strategy);
        case.edit("new", 200, 1);
        case.send("new");
        case.answer("new", "new", 300);
        assert_eq!(case.effects(), [ended(1, EditEnd::Delivered)]);
        case
    }

    /// `new` (edit 1, at 200) is held against `theirs` of 300.
    pub fn held() -> Case {
        let mut case = Case::agreed(Strategy::Manual);
        case.edit("new", 200, 1);
        assert_eq!(case.foreign("theirs", 300), Intake::Taken);
        case.effects();
        assert!(case.f.held.is_some() && !case.f.needs_delivery());
        case
    }

    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.out)
    }

    pub fn edit(&mut self, value: &str, at: i64, id: i64) {
        self.f.local_edit(&self.policy, v(value), at, Some(id), &mut self.out);
    }

    pub fn foreign(&mut self, value: &str, at: i64) -> Intake {
        self.f
            .inbound(&self.policy, &v(value), at, Source::Foreign, &mut self.out)
    }

    pub fn own(&mut self, value: &str, at: i64) -> Intake {
        self.f.inbound(&self.policy, &v(value), at, Source::Own, &mut self.out)
    }

    pub fn decide(&mut self, seen: &Observation<'_>) -> Decision {
        self.f.decide(&self.policy, self.f.generation, seen, &mut self.out)
    }

    pub fn send(&mut self, value: &str) {
        assert_eq!(self.decide(&Observation::Nothing), Decision::Send(v(value)));
    }

    /// HubSpot answers the write in flight.
    pub fn answer(&mut self, sent: &str, returned: &str, at: i64) {
        let generation = self.f.in_flight.as_ref().expect("a write in flight").generation;
        self.f
            .complete(&self.policy, &v(sent), &v(returned), at, generation, &mut self.out);
    }

    #[track_caller]
    pub fn rests(&self, row: &str) {
        assert_eq!(self.f.row, v(row));
        assert!(!self.f.needs_delivery() && !self.f.dirty && self.f.held.is_none() && self.f.pending_edit.is_none());
    }
}
