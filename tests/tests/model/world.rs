//! The state of a small world: one record with one or two fields, HubSpot, the network between, one claim.
//!
//! Everything in [`World`] takes part in telling two states apart, so it holds nothing that does not matter later: times
//! and generations are renumbered after each step (only their order is ever looked at), and versions of HubSpot's history
//! that no reader can tell from absent ones are left out.

use hubspot_sync_core::field::rules::Rule;
use hubspot_sync_core::field::{FieldState, Read, Source, Version};
use hubspot_sync_core::mapping::{Direction, Strategy};
use hubspot_sync_core::value::Value;

/// A value by its place in [`NAMES`].
pub type Val = u8;

/// Every value of every world.
pub const NAMES: [&str; 11] = ["", "init", "a", "b", "w1", "w2", "w3", "h1", "h2", "h3", "person"];
pub const EMPTY: Val = 0;
pub const INIT: Val = 1;
pub const A: Val = 2;
pub const B: Val = 3;
/// The first local edit's value; the others follow.
pub const W1: Val = 4;
/// The first foreign edit's value.
pub const H1: Val = 7;
pub const PERSON: Val = 10;

pub fn value(v: Val) -> Value {
    Value::text(NAMES[usize::from(v)])
}

pub fn val(value: &Value) -> Val {
    let text = value.as_deref().unwrap_or_default();
    NAMES.iter().position(|n| *n == text).expect("a known value") as Val
}

/// Which values people write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// Each edit has a value of its own, so that the policy's pick can be told.
    Unique,
    /// Two values only: the sides agree by chance, and people set old values back.
    Few,
    /// As `Few`, and the two sides have not met.
    Unmet,
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

/// The bounds of a world.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub direction: Direction,
    pub strategy: Strategy,
    pub fields: usize,
    /// Edits of each field's row, and of each property.
    pub mine: u8,
    pub theirs: u8,
    /// Faults in all: lost, late or unanswered requests, dead relays, webhooks doubled or dropped.
    pub faults: u8,
    /// Conflicts that a person decides.
    pub people: u8,
    /// A read may be skipped because a value is known.
    pub cached: bool,
    /// Things may happen between the claim and the read.
    pub gap: bool,
    /// A local edit may bear the very instant of HubSpot's newest version.
    pub ties: bool,
    /// Webhooks do not name this app as the author of its writes.
    pub anonymous: bool,
    /// A relay may stall with a request to send or an answer to report, go on after its lease, and be heard or not.
    pub second: bool,
    /// The mapping may be given this direction at any time.
    pub becomes: Option<Direction>,
    pub values: Values,
    pub rewrites: Rewrites,
    pub without: Option<Rule>,
}

impl Setting {
    pub const fn new(direction: Direction, strategy: Strategy) -> Setting {
        Setting {
            direction,
            strategy,
            fields: 1,
            mine: 2,
            theirs: 1,
            faults: 1,
            people: 0,
            cached: false,
            gap: false,
            ties: false,
            anonymous: false,
            second: false,
            becomes: None,
            values: Values::Unique,
            rewrites: Rewrites::Version,
            without: None,
        }
    }
}

/// One version of a property.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ver {
    pub at: i64,
    pub val: Val,
    pub own: bool,
}

impl Ver {
    pub fn source(self) -> Source {
        if self.own { Source::Own } else { Source::Foreign }
    }

    pub fn version(self) -> Version {
        Version {
            value: value(self.val),
            at: self.at,
            source: self.source(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Who {
    Row,
    Hubspot,
}

/// What an observer of both sides knows of one field, and the machine does not.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// The values of the local edits; their numbers in the ledger are 1, 2, …
    pub mine: Vec<Val>,
    /// How many foreign edits there were, and the last one's value.
    pub theirs: u8,
    pub their_last: Option<Val>,
    /// HubSpot's last edit reached the row, a conflict or the log.
    pub their_last_known: bool,
    pub newest: Option<Who>,
    /// The last edit is the row's, and was made when HubSpot's edits were all taken into account.
    pub informed: bool,
    /// The last local edit's value has landed; HubSpot's last edit came after that.
    pub landed: bool,
    pub later: bool,
    /// Some request landed late.
    pub late: bool,
    /// Where nothing is received: HubSpot said that it holds the row's value, and nothing happened since.
    pub told: bool,
    /// Something waited to be sent when the mapping was turned, and HubSpot's value is the same since: drift.
    pub adrift: bool,
    /// There was a conflict.
    pub disputed: bool,
    /// What a person chose, until the next edit.
    pub chosen: Option<Val>,
    /// Local edits that have their end; values that HubSpot ever held; values that were written to the row. As bits.
    pub ended: u16,
    pub in_hubspot: u16,
    pub written: u16,
    /// What the two sides held when they had not met.
    pub first: (Val, Val),
}

/// One field on both sides.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cell {
    pub f: FieldState,
    /// Oldest first.
    pub history: Vec<Ver>,
    /// Webhooks under way, sorted.
    pub hooks: Vec<Ver>,
    pub ledger: Ledger,
}

/// What the relay saw of a field.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Seen {
    Nothing,
    /// Nothing, under `MANUAL`, when a look would have shown an edit that nobody here knows.
    Overlooked,
    Value(Val, i64),
    History(Vec<Ver>),
}

/// Where the relay stands with its claim.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    Fetch(Read),
    Decide(Vec<Seen>),
    /// Fields and their values: one request.
    Send(Vec<(usize, Val)>),
    /// Fields, what was sent, and what HubSpot made of it.
    Answered(Vec<(usize, Val, Ver)>),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Claim {
    /// By field, noted when it was claimed; `None`: it had nothing to deliver then.
    pub generations: Vec<Option<i64>>,
    pub stage: Stage,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub cells: Vec<Cell>,
    /// Requests under way that nobody waits for any more.
    pub net: Vec<Vec<(usize, Val)>>,
    pub claim: Option<Claim>,
    /// The claim of a relay that stalled and whose lease ran out.
    pub stalled: Option<Claim>,
    /// The mapping was given its other direction.
    pub turned: bool,
    /// The two sides were compared; before that, webhooks wait.
    pub contacted: bool,
    pub now: i64,
    pub faults: u8,
    pub people: u8,
    /// A webhook was dropped since the last reconciliation.
    pub dropped: bool,
    /// How many sends are accounted for: one for each edit, fault, decision of a person and drift.
    pub credit: i8,
}

impl Cell {
    fn new(row: Val, theirs: Val, met: bool) -> Cell {
        let mut f = FieldState::new(value(row), 0);
        f.base = met.then(|| value(row));
        Cell {
            f,
            history: vec![Ver {
                at: 0,
                val: theirs,
                own: false,
            }],
            hooks: Vec::new(),
            ledger: Ledger {
                mine: Vec::new(),
                theirs: 0,
                their_last: None,
                their_last_known: true,
                newest: None,
                informed: false,
                landed: false,
                later: false,
                late: false,
                told: false,
                adrift: false,
                disputed: false,
                chosen: None,
                ended: 0,
                in_hubspot: 1 << theirs,
                written: 0,
                first: (row, theirs),
            },
        }
    }

    pub fn row(&self) -> Val {
        val(&self.f.row)
    }

    /// HubSpot's present version.
    pub fn newest(&self) -> Ver {
        *self.history.last().expect("a first version")
    }

    pub fn sides_differ(&self) -> bool {
        self.row() != self.newest().val
    }

    /// Leaves out of the history what is not the present version and is not newer than what is known.
    fn forget_history(&mut self) {
        let (seen, own, newest) = (self.f.seen_at, self.f.own_at, self.newest());
        self.history
            .retain(|v| *v == newest || v.at > if v.own { own } else { seen });
    }
}

impl World {
    /// Every way in which this world may begin.
    pub fn initial(set: &Setting) -> Vec<World> {
        let starts: &[(Val, Val)] = match set.values {
            Values::Unique => &[(INIT, INIT)],
            Values::Few => &[(A, A)],
            Values::Unmet => &[(EMPTY, EMPTY), (EMPTY, A), (A, EMPTY), (A, A), (A, B)],
        };
        let met = set.values != Values::Unmet;
        let world = |&(row, theirs): &(Val, Val)| World {
            cells: vec![Cell::new(row, theirs, met); set.fields],
            net: Vec::new(),
            claim: None,
            stalled: None,
            turned: false,
            contacted: met,
            now: 0,
            faults: set.faults,
            people: set.people,
            dropped: false,
            // Two sides that meet are a reason to write.
            credit: if met { 0 } else { set.fields as i8 },
        };
        starts.iter().map(world).collect()
    }

    /// One name for all states that differ only in the distances between instants, or between generations.
    pub fn normalise(&mut self, set: &Setting) {
        if set.without.is_none() {
            self.cells.iter_mut().for_each(Cell::forget_history);
        }
        let mut times = vec![];
        self.each_time(|t| times.push(*t));
        times.sort_unstable();
        times.dedup();
        times.retain(|t| *t != 0);
        let rank = |t: i64| times.binary_search(&t).map_or(0, |i| i as i64 + 1);
        self.each_time(|t| *t = rank(*t));
        self.now = times.len() as i64;
        for i in 0..self.cells.len() {
            let mut generations = vec![];
            self.each_generation(i, |g| generations.push(*g));
            generations.sort_unstable();
            generations.dedup();
            self.each_generation(i, |g| {
                *g = generations.binary_search(g).expect("it was listed") as i64 + 1
            });
        }
        self.net.sort_unstable();
    }

    fn each_time(&mut self, mut go: impl FnMut(&mut i64)) {
        for c in &mut self.cells {
            for t in [&mut c.f.edited_at, &mut c.f.seen_at, &mut c.f.own_at] {
                go(t);
            }
            if let Some(f) = &mut c.f.in_flight {
                go(&mut f.edited_at);
                go(&mut f.after);
            }
            if let Some(h) = &mut c.f.held {
                go(&mut h.hubspot_at);
            }
            c.history.iter_mut().chain(&mut c.hooks).for_each(|v| go(&mut v.at));
        }
        for claim in self.claim.iter_mut().chain(&mut self.stalled) {
            match &mut claim.stage {
                Stage::Decide(seen) => {
                    for s in seen {
                        match s {
                            Seen::History(all) => all.iter_mut().for_each(|v| go(&mut v.at)),
                            Seen::Value(_, at) => go(at),
                            Seen::Nothing | Seen::Overlooked => {}
                        }
                    }
                }
                Stage::Answered(answers) => answers.iter_mut().for_each(|a| go(&mut a.2.at)),
                _ => {}
            }
        }
    }

    fn each_generation(&mut self, i: usize, mut go: impl FnMut(&mut i64)) {
        go(&mut self.cells[i].f.generation);
        if let Some(f) = &mut self.cells[i].f.in_flight {
            go(&mut f.generation);
        }
        for claim in self.claim.iter_mut().chain(&mut self.stalled) {
            claim.generations[i].iter_mut().for_each(&mut go);
        }
    }
}
