//! The per-field state machine on random schedules: once edits and faults stop, both sides hold the value the policy
//! picks, and each captured edit has one end.
//!
//! A world is one field, HubSpot as the history of one property, one relay, and a pool of webhooks. Webhooks are doubled,
//! reordered, delayed and dropped; the relay dies at any step; a write is lost, lands unanswered, lands much later, or is
//! refused. Everything a world does follows from its seed, which a failure prints.

use hubspot_sync_core::field::{
    Decision, EditEnd, Effect, FieldState, Intake, Observation, Policy, Read, Side, Source, Version, Winner,
};
use hubspot_sync_core::mapping::{Direction, Strategy};
use hubspot_sync_core::value::Value;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

/// Schedules per setting, a third of it where it matters less; `FIELD_RUNS` asks for more, `FIELD_SEED` for one.
const RUNS: u64 = 3000;

/// What a world is like.
#[derive(Clone, Copy, Debug)]
struct Setting {
    direction: Direction,
    strategy: Strategy,
    /// Half of the reads are skipped because a value is known.
    cached: bool,
    /// The share of webhooks that never come; reconciliation runs at the end.
    drop: f64,
    /// HubSpot stores some of our values in another form.
    forms: bool,
    /// Values repeat: the sides agree by chance, and people set old values back.
    few_values: bool,
    /// The two sides have not met: either may be empty, and nothing is agreed.
    unmet: bool,
    /// HubSpot refuses some writes; somebody asks for another try.
    refusals: bool,
}

impl Setting {
    fn new(direction: Direction, strategy: Strategy) -> Setting {
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
enum Who {
    Row,
    Hubspot,
}

struct Edit {
    value: Value,
    /// The database's time, also for HubSpot's edits.
    t: i64,
    who: Who,
    /// Every foreign version was taken into account when the edit was made.
    informed: bool,
}

enum Stage {
    Fetch(Read),
    Decide(Seen),
    Send(Value),
    Complete { value: Value, returned: Value, at: i64 },
}

enum Seen {
    Nothing,
    Value(Value, i64),
    History(Vec<Version>),
}

struct Claim {
    generation: i64,
    stage: Stage,
}

/// What HubSpot does when we write the value that it holds already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rewrites {
    /// It makes a version like any other.
    Version,
    /// It makes none, and answers with the present instant.
    QuietNow,
    /// It makes none, and answers with the instant of the last version, whoever made it.
    QuietLast,
}

struct World {
    set: Setting,
    policy: Policy,
    rng: StdRng,
    f: FieldState,
    /// The two sides were compared; before that, webhooks wait.
    contacted: bool,
    /// The row as the database holds it: only local edits and [`Effect::WriteRow`] change it.
    row: Value,
    now: i64,
    history: Vec<Version>,
    hooks: Vec<Version>,
    /// Writes under way that nobody waits for any more.
    net: Vec<Value>,
    claim: Option<Claim>,
    edits: Vec<Edit>,
    ends: BTreeMap<i64, Vec<EditEnd>>,
    local_values: BTreeMap<i64, Value>,
    rewrites: Rewrites,
    late: usize,
    /// How often the machine decided to send, and how often it was given a reason to.
    sends: usize,
    reasons: usize,
    losses: usize,
    lost_conflicts: usize,
    row_writes: usize,
    tracing: bool,
    trace: Vec<String>,
}

/// How HubSpot stores a text.
fn stored(value: &Value, forms: bool) -> Value {
    match value.as_deref() {
        Some(text) if forms => Value::text(text.trim_end_matches(".0")),
        _ => value.clone(),
    }
}

impl World {
    fn new(seed: u64, set: Setting) -> World {
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
    fn event<R>(&mut self, what: &str, act: impl FnOnce(&mut FieldState, &Policy, &mut Vec<Effect>) -> R) -> R {
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

    fn hubspot_now(&self) -> i64 {
        self.now + self.policy.clock_offset
    }

    fn newest(&self) -> &Version {
        self.history.last().expect("a first version")
    }

    /// HubSpot stores a value, and says so. Gives the version that stands now.
    fn hubspot_set(&mut self, value: &Value, source: Source) -> Version {
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

    fn pick_value(&mut self, who: Who) -> Value {
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

    fn edit(&mut self, who: Who) {
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

    fn relay(&mut self) {
        let Some(Claim { generation, stage }) = self.claim.take() else {
            if !self.contacted {
                self.claim = Some(Claim {
                    generation: 0,
                    stage: Stage::Fetch(Read::History),
                });
            } else if self.f.needs_delivery() {
                let fresh = self.set.cached && self.rng.random_bool(0.5);
                let read = self.f.read_needed(&self.policy, fresh);
                self.claim = Some(Claim {
                    generation: self.f.generation,
                    stage: Stage::Fetch(read),
                });
            }
            return;
        };
        self.now += 1;
        if self.rng.random_bool(0.07) {
            // Dies; the lease runs out. A request may have been on its way.
            match stage {
                Stage::Send(value) => {
                    self.losses += 1;
                    if self.rng.random_bool(0.3) {
                        self.net.push(value);
                    }
                }
                // Only the answer tells that HubSpot gave a value another form, or held it already: the history does
                // not, so it has to be sent again.
                Stage::Complete { .. } if self.set.forms || self.set.few_values => self.losses += 1,
                _ => {}
            }
            return;
        }
        let next = match stage {
            Stage::Fetch(read) => Some(Stage::Decide(match read {
                Read::Nothing => Seen::Nothing,
                Read::Value => Seen::Value(self.newest().value.clone(), self.newest().at),
                Read::History => {
                    let mut all = self.history.clone();
                    all.shuffle(&mut self.rng);
                    Seen::History(all)
                }
            })),
            Stage::Decide(Seen::History(all)) if !self.contacted => {
                self.contacted = true;
                let newest = all.iter().max_by_key(|v| v.at).expect("a first version").clone();
                self.event("first contact", |f, p, out| {
                    f.first_contact(p, &newest.value, newest.at, out)
                });
                None
            }
            Stage::Decide(seen) => {
                let decision = self.event("decide", |f, p, out| {
                    let seen = match &seen {
                        Seen::Nothing => Observation::Nothing,
                        Seen::Value(value, at) => Observation::Value(value, *at),
                        Seen::History(all) => Observation::History(all),
                    };
                    f.decide(p, generation, &seen, out)
                });
                match decision {
                    Decision::Settled => None,
                    Decision::Read(read) => Some(Stage::Fetch(read)),
                    Decision::Send(value) => {
                        self.sends += 1;
                        assert_eq!(value, self.row, "what is sent is the row's value");
                        assert!(self.set.direction.sends(), "this direction never sends");
                        Some(Stage::Send(value))
                    }
                }
            }
            Stage::Send(value) => self.send(value, generation),
            Stage::Complete { value, returned, at } => {
                self.event("complete", |f, p, out| {
                    f.complete(p, &value, &returned, at, generation, out)
                });
                None
            }
        };
        self.claim = next.map(|stage| Claim { generation, stage });
    }

    fn send(&mut self, value: Value, generation: i64) -> Option<Stage> {
        let r: f64 = self.rng.random();
        if r < 0.1 {
            // Lost; half of these land later.
            self.losses += 1;
            if self.rng.random_bool(0.5) {
                self.net.push(value);
            }
            return None;
        }
        if self.set.refusals && r > 0.7 {
            if r > 0.8 {
                self.event("refuse", |f, _, out| f.refuse(generation, out));
            } else {
                self.event("not sent", |f, _, out| f.forget_in_flight(out));
            }
            self.losses += 1;
            return None;
        }
        let version = self.hubspot_set(&value, Source::Own);
        if r < 0.25 {
            // Landed, and nobody knows.
            self.losses += 1;
            return None;
        }
        Some(Stage::Complete {
            value,
            returned: version.value,
            at: version.at,
        })
    }

    fn webhook(&mut self) {
        if self.hooks.is_empty() || !self.contacted {
            return;
        }
        let i = self.rng.random_range(0..self.hooks.len());
        self.now += 1;
        let v = self.hooks[i].clone();
        let intake = self.event("hook", |f, p, out| f.inbound(p, &v.value, v.at, v.source, out));
        if intake == Intake::Taken {
            self.hooks.swap_remove(i);
        } else {
            assert!(self.f.in_flight.is_some(), "nothing waits but for an outcome");
        }
    }

    fn land_late(&mut self) {
        if !self.net.is_empty() {
            self.now += 1;
            self.late += 1;
            let value = self.net.remove(0);
            self.hubspot_set(&value, Source::Own);
        }
    }

    /// Nightly, with nothing in flight: the record and its history.
    fn reconcile(&mut self) {
        let history = self.history.clone();
        self.event("reconcile", |f, p, out| f.reconcile(p, &history, out));
    }

    fn settle(&mut self) {
        for _ in 0..5000 {
            if self.hooks.is_empty()
                && self.claim.is_none()
                && self.contacted
                && !self.f.needs_delivery()
                && !self.f.parked
            {
                return;
            }
            if self.f.parked && self.claim.is_none() && self.rng.random_bool(0.3) {
                self.event("retry", |f, _, _| f.retry());
                self.reasons += 1;
            }
            if self.rng.random_bool(0.5) {
                self.relay()
            } else {
                self.webhook()
            }
        }
        panic!("never settles: {:?}", self.f);
    }

    fn random_steps(&mut self) {
        for _ in 0..self.rng.random_range(5..60) {
            let k: f64 = self.rng.random();
            match k {
                _ if k < 0.15 => self.edit(Who::Row),
                _ if k < 0.3 => self.edit(Who::Hubspot),
                _ if k < 0.7 => self.relay(),
                _ => self.webhook(),
            }
            if self.rng.random_bool(0.1) {
                self.land_late();
            }
            if self.f.held.is_some() && self.rng.random_bool(0.05) {
                self.resolve();
            }
            if self.f.parked && self.rng.random_bool(0.1) {
                self.event("retry", |f, _, _| f.retry());
                self.reasons += 1;
            }
        }
    }

    fn calm_down(&mut self) {
        while !self.net.is_empty() {
            self.land_late();
        }
        self.settle();
        if self.set.drop > 0.0 {
            self.reconcile();
            self.settle();
        }
    }

    /// A person decides the open conflict; gives the value chosen.
    fn resolve(&mut self) -> Value {
        self.now += 1;
        let held = self.f.held.clone().expect("an open conflict");
        let third = Value::text(format!("p{}", self.now));
        let (winner, chosen) = match self.rng.random_range(0..3) {
            0 => (Winner::Warp, self.row.clone()),
            1 => (Winner::Hubspot, held.hubspot_value),
            _ => (Winner::Value, third.clone()),
        };
        let t = self.now;
        assert!(self.event("resolve", |f, _, out| f.resolve(winner, &third, t, out)));
        self.lost_conflicts += 1;
        self.reasons += 1;
        chosen
    }

    /// A person's version passes for our own for as long as our newest answer named it by value and instant; later it is
    /// news. Only convergence is promised then.
    fn may_be_mistaken(&self) -> bool {
        self.set.few_values && self.rewrites == Rewrites::QuietLast
    }

    /// I1: both sides hold the same, and nothing is left to do.
    fn assert_converged(&self) {
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
    fn assert_ledger(&self) {
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
    fn assert_no_phantom(&self, extra: &[Value]) {
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
    fn assert_no_loop(&mut self) {
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
    fn expected(&self) -> Option<Value> {
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

/// Runs a world per seed; what fails names its seed, and `FIELD_TRACE=1` tells what happened there.
fn each_seed(set: Setting, check: impl Fn(&mut World) + std::panic::RefUnwindSafe) {
    let plain = !(set.forms || set.refusals || set.unmet) && set.direction == Direction::Bidirectional;
    let usual = if plain { RUNS } else { RUNS / 3 };
    let first = std::env::var("FIELD_SEED").ok().and_then(|s| s.parse::<u64>().ok());
    let runs = std::env::var("FIELD_RUNS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(usual);
    for seed in first.map_or(0..runs, |s| s..s + 1) {
        let mut world = World::new(seed, set);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut world)));
        if let Err(cause) = outcome {
            for line in &world.trace {
                eprintln!("{line}");
            }
            eprintln!(
                "seed {seed}, {set:?}, {:?}, clock offset {}",
                world.rewrites, world.policy.clock_offset
            );
            std::panic::resume_unwind(cause);
        }
    }
}

/// Every mix of caching and dropping, and of the extras given.
fn settings(direction: Direction, strategy: Strategy, extras: impl Fn(&mut Setting)) -> Vec<Setting> {
    let mut all = Vec::new();
    for cached in [false, true] {
        for drop in [0.0, 0.3] {
            let mut set = Setting {
                cached,
                drop,
                ..Setting::new(direction, strategy)
            };
            extras(&mut set);
            all.push(set);
        }
    }
    all
}

fn two_way(strategy: Strategy, extras: impl Fn(&mut Setting)) {
    for set in settings(Direction::Bidirectional, strategy, extras) {
        each_seed(set, |w| {
            w.random_steps();
            w.calm_down();
            w.assert_converged();
            if let Some(expected) = w.expected() {
                assert_eq!(
                    stored(&w.row, set.forms),
                    stored(&expected, set.forms),
                    "not the value the policy picks"
                );
            }
            w.assert_ledger();
            w.assert_no_phantom(&[]);
            w.assert_no_loop();
        });
    }
}

fn manual(extras: impl Fn(&mut Setting)) {
    for set in settings(Direction::Bidirectional, Strategy::Manual, extras) {
        each_seed(set, |w| {
            w.random_steps();
            w.calm_down();
            w.assert_ledger();
            w.assert_no_loop();
            let mut decided = 0;
            while w.f.held.is_some() {
                assert!(w.f.dirty && w.f.in_flight.is_none());
                // A person decides, and that is the end of it, unless an edit passed for our own until now.
                let chosen = w.resolve();
                decided += 1;
                w.calm_down();
                let value = stored(&w.row, set.forms);
                assert!(
                    w.may_be_mistaken() || value == stored(&chosen, set.forms),
                    "{value:?}, chosen {chosen:?}"
                );
                w.assert_ledger();
                w.assert_no_loop();
                assert!(decided == 1 || (w.may_be_mistaken() && decided < 9));
            }
            w.assert_converged();
            w.assert_no_phantom(&[]);
        });
    }
}

#[test]
fn latest_wins_converges() {
    two_way(Strategy::LatestWins, |_| {});
}

#[test]
fn warp_wins_converges() {
    two_way(Strategy::WarpWins, |_| {});
}

#[test]
fn hubspot_wins_converges() {
    two_way(Strategy::HubspotWins, |_| {});
}

#[test]
fn manual_converges_or_waits_for_a_person() {
    manual(|_| {});
}

#[test]
fn refused_writes_converge_after_a_retry() {
    for strategy in [Strategy::LatestWins, Strategy::WarpWins, Strategy::HubspotWins] {
        two_way(strategy, |s| s.refusals = true);
    }
    manual(|s| s.refusals = true);
}

#[test]
fn other_forms_of_a_value_converge() {
    for strategy in [Strategy::LatestWins, Strategy::WarpWins, Strategy::HubspotWins] {
        two_way(strategy, |s| s.forms = true);
    }
    manual(|s| s.forms = true);
}

#[test]
fn repeated_values_converge() {
    for strategy in [Strategy::LatestWins, Strategy::WarpWins, Strategy::HubspotWins] {
        two_way(strategy, |s| s.few_values = true);
    }
    manual(|s| s.few_values = true);
}

#[test]
fn sides_that_never_met_converge() {
    for strategy in [Strategy::LatestWins, Strategy::WarpWins, Strategy::HubspotWins] {
        two_way(strategy, |s| (s.unmet, s.few_values) = (true, true));
    }
    manual(|s| (s.unmet, s.few_values) = (true, true));
}

#[test]
fn warp_to_hubspot_ends_on_the_newest_local_value() {
    for few_values in [false, true] {
        for mut set in settings(Direction::WarpToHubspot, Strategy::WarpWins, |s| {
            s.few_values = few_values
        }) {
            // Drift is for reconciliation to overwrite.
            set.drop = set.drop.max(0.01);
            set.refusals = set.cached;
            each_seed(set, |w| {
                w.random_steps();
                w.calm_down();
                assert_eq!(w.row_writes, 0, "this direction never writes the row");
                let last = w.edits.iter().rev().find(|e| e.who == Who::Row);
                assert_eq!(w.row, last.map_or(Value::text("init"), |e| e.value.clone()));
                w.assert_converged();
                w.assert_ledger();
                w.assert_no_loop();
            });
        }
    }
}

#[test]
fn hubspot_to_warp_never_sends() {
    for few_values in [false, true] {
        for set in settings(Direction::HubspotToWarp, Strategy::HubspotWins, |s| {
            s.few_values = few_values
        }) {
            each_seed(set, |w| {
                w.random_steps();
                w.calm_down();
                assert_eq!(w.sends, 0);
                assert!(!w.f.needs_delivery());
                // A local edit is drift until HubSpot's next edit.
                if w.f.origin == Side::Hubspot || w.edits.last().is_some_and(|e| e.who == Who::Hubspot) {
                    assert_eq!(w.row, w.newest().value);
                }
                w.assert_ledger();
                w.assert_no_loop();
            });
        }
    }
}
