//! A world: what it is like, what it holds, and what people do in it.

use hubspot_sync_core::field::{EditEnd, Effect, FieldState, Policy, Read, Source, Version, Winner};
use hubspot_sync_core::mapping::{Direction, Strategy};
use hubspot_sync_core::value::Value;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub direction: Direction,
    pub strategy: Strategy,
    /// Half of the reads are skipped because a value is known.
    pub cached: bool,
    /// The share of webhooks that never come; reconciliation runs at the end.
    pub drop: f64,
    /// HubSpot stores some of our values in another form.
    pub forms: bool,
    /// Values repeat: the sides agree by chance, and people set old values back.
    pub few_values: bool,
    /// The two sides have not met: either may be empty, and nothing is agreed.
    pub unmet: bool,
    /// HubSpot refuses some writes; somebody asks for another try.
    pub refusals: bool,
}

impl Setting {
    pub fn new(direction: Direction, strategy: Strategy) -> Setting {
        Setting {
            direction,
            strategy,
            cached: false,
            drop: 0.0,
            forms: false,
            few_values: false,
            unmet: false,
            refusals: false,
        }
    }
}

/// The two sides that people edit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Row,
    Hubspot,
}

pub struct Edit {
    pub value: Value,
    /// The database's time, also for HubSpot's edits.
    pub t: i64,
    pub who: Who,
    /// Every foreign version was taken into account when the edit was made.
    pub informed: bool,
}

pub enum Stage {
    Fetch(Read),
    Decide(Seen),
    Send(Value),
    Complete { value: Value, returned: Value, at: i64 },
}

pub enum Seen {
    Nothing,
    Value(Value, i64),
    History(Vec<Version>),
}

pub struct Claim {
    pub generation: i64,
    pub stage: Stage,
}

/// What HubSpot does when we write the value that it holds already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rewrites {
    /// It makes a version like any other.
    Version,
    /// It makes none, and answers with the present instant.
    QuietNow,
    /// It makes none, and answers with the instant of the last version, whoever made it.
    QuietLast,
}

pub struct World {
    pub set: Setting,
    pub policy: Policy,
    pub rng: StdRng,
    pub f: FieldState,
    /// The two sides were compared; before that, webhooks wait.
    pub contacted: bool,
    /// The row as the database holds it: only local edits and [`Effect::WriteRow`] change it.
    pub row: Value,
    pub now: i64,
    pub history: Vec<Version>,
    pub hooks: Vec<Version>,
    /// Writes under way that nobody waits for any more.
    pub net: Vec<Value>,
    pub claim: Option<Claim>,
    pub edits: Vec<Edit>,
    pub ends: BTreeMap<i64, Vec<EditEnd>>,
    pub local_values: BTreeMap<i64, Value>,
    pub rewrites: Rewrites,
    pub late: usize,
    /// How often the machine decided to send, and how often it was given a reason to.
    pub sends: usize,
    pub reasons: usize,
    pub losses: usize,
    pub lost_conflicts: usize,
    pub row_writes: usize,
    pub tracing: bool,
    pub trace: Vec<String>,
}

/// How HubSpot stores a text.
pub fn stored(value: &Value, forms: bool) -> Value {
    match value.as_deref() {
        Some(text) if forms => Value::text(text.trim_end_matches(".0")),
        _ => value.clone(),
    }
}

impl World {
    pub fn new(seed: u64, set: Setting) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut init = Value::text("init");
        let mut theirs = init.clone();
        let mut base = Some(init.clone());
        let now = 1_000_000;
        let offset = [0, 0, 40, -40, 100_000, -100_000][rng.random_range(0..6)];
        if set.unmet {
            init = Value::text(["", "a", "b"][rng.random_range(0..3)]);
            theirs = Value::text(["", "a", "b"][rng.random_range(0..3)]);
            base = None;
        }
        let mut f = FieldState::new(init.clone(), 0);
        f.base = base;
        World {
            policy: Policy {
                direction: set.direction,
                strategy: set.strategy,
                clock_offset: offset,
                clock_uncertainty: 0,
            },
            rewrites: [Rewrites::Version, Rewrites::QuietNow, Rewrites::QuietLast][rng.random_range(0..3)],
            set,
            rng,
            f,
            row: init,
            contacted: !set.unmet,
            now,
            history: vec![Version {
                value: theirs,
                at: 0,
                source: Source::Foreign,
            }],
            hooks: Vec::new(),
            net: Vec::new(),
            claim: None,
            edits: Vec::new(),
            ends: BTreeMap::new(),
            local_values: BTreeMap::new(),
            late: 0,
            sends: 0,
            reasons: 0,
            losses: 0,
            lost_conflicts: 0,
            row_writes: 0,
            tracing: std::env::var_os("FIELD_TRACE").is_some(),
            trace: Vec::new(),
        }
    }

    /// Runs one event and takes its effects.
    pub fn event<R>(&mut self, what: &str, act: impl FnOnce(&mut FieldState, &Policy, &mut Vec<Effect>) -> R) -> R {
        let mut out = Vec::new();
        let before = (self.f.dirty, self.f.generation);
        let result = act(&mut self.f, &self.policy, &mut out);
        if self.f.dirty && (!before.0 || before.1 != self.f.generation) {
            self.reasons += 1;
        }
        if self.tracing {
            self.trace.push(format!("{} {what}: {:?} {out:?}", self.now, self.f));
        }
        for effect in out {
            match effect {
                Effect::WriteRow { value, .. } => {
                    assert_ne!(value, self.row, "a row is written only to change it");
                    self.row = value;
                    self.row_writes += 1;
                }
                Effect::EditEnded { edit, end } => self.ends.entry(edit).or_default().push(end),
                Effect::Conflict {
                    winner: Some(Winner::Hubspot),
                    ..
                } => self.lost_conflicts += 1,
                _ => {}
            }
        }
        assert_eq!(self.row, self.f.row, "the machine knows the row");
        result
    }

    pub fn hubspot_now(&self) -> i64 {
        self.now + self.policy.clock_offset
    }

    pub fn newest(&self) -> &Version {
        self.history.last().expect("a first version")
    }

    /// HubSpot stores a value, and says so. Gives the version that stands now.
    pub fn hubspot_set(&mut self, value: &Value, source: Source) -> Version {
        let value = stored(value, self.set.forms);
        if self.newest().value == value && source == Source::Own && self.rewrites != Rewrites::Version {
            let last = self.newest().clone();
            let quiet_last = self.rewrites == Rewrites::QuietLast && last.at > 0;
            return Version {
                at: if quiet_last { last.at } else { self.hubspot_now() },
                ..last
            };
        }
        let version = Version {
            value,
            at: self.hubspot_now(),
            source,
        };
        self.history.push(version.clone());
        let copies = match self.rng.random_bool(self.set.drop) {
            true => 0,
            false if self.rng.random_bool(0.2) => 2,
            false => 1,
        };
        for _ in 0..copies {
            self.hooks.push(version.clone());
        }
        version
    }

    pub fn pick_value(&mut self, who: Who) -> Value {
        if self.set.few_values {
            return Value::text(["a", "b", ""][self.rng.random_range(0..3)]);
        }
        let n = self.edits.len();
        let side = if who == Who::Row { 'w' } else { 'h' };
        let tail = if who == Who::Row && self.set.forms && self.rng.random_bool(0.5) {
            ".0"
        } else {
            ""
        };
        Value::text(format!("{side}{n}{tail}"))
    }

    pub fn edit(&mut self, who: Who) {
        self.now += 1;
        let value = self.pick_value(who);
        let newest_foreign = self
            .history
            .iter()
            .filter(|v| v.source == Source::Foreign)
            .map(|v| v.at)
            .max()
            .unwrap_or(0);
        let informed = newest_foreign <= self.f.seen_at;
        let t = self.now;
        match who {
            // A trigger does not capture what changes nothing; a scan may.
            Who::Row if value == self.row && self.f.dirty => {}
            Who::Row => {
                let id = self.local_values.len() as i64 + 1;
                self.local_values.insert(id, value.clone());
                let changed = value != self.row;
                self.row = value.clone();
                self.event("local edit", |f, p, out| {
                    f.local_edit(p, value.clone(), t, Some(id), out)
                });
                if changed {
                    self.edits.push(Edit {
                        value,
                        t,
                        who,
                        informed,
                    });
                }
            }
            Who::Hubspot => {
                if stored(&value, self.set.forms) != self.newest().value {
                    self.hubspot_set(&value, Source::Foreign);
                    self.edits.push(Edit {
                        value,
                        t,
                        who,
                        informed,
                    });
                }
            }
        }
    }
}
