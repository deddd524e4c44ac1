//! Breadth-first search of everything that may happen; what is found first is a shortest way to it.
//!
//! A dozen lines do for this what a checker's library would: states are told apart by a 64-bit fingerprint, and only the
//! fingerprint and the step that led there are kept of a state that was looked at.

use super::steps::{Action, Broken};
use super::world::{Setting, World};
use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

/// A broken promise and the way to it.
pub struct Found {
    pub what: Broken,
    pub steps: Vec<Action>,
}

pub struct Report {
    pub states: usize,
    /// States in which nothing was left to do.
    pub rests: usize,
    /// Every state was looked at.
    pub whole: bool,
    pub depth: usize,
    pub time: Duration,
    pub found: Option<Found>,
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

type Visited = HashMap<u64, (u64, Action), BuildHasherDefault<AsIs>>;

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn way(visited: &Visited, mut at: u64, last: Option<Action>) -> Vec<Action> {
    let mut steps: Vec<Action> = last.into_iter().collect();
    while let Some((before, action)) = visited.get(&at) {
        steps.push(*action);
        if matches!(action, Action::Start(_)) {
            break;
        }
        at = *before;
    }
    steps.reverse();
    steps
}

/// Looks at every state of the world, or up to the first one that breaks a promise. `limit`: so many states at most.
pub fn search(set: &Setting, limit: usize) -> Report {
    let begun = Instant::now();
    let mut visited = Visited::default();
    let mut frontier = Vec::new();
    for (i, world) in World::initial(set).into_iter().enumerate() {
        visited.insert(fingerprint(&world), (0, Action::Start(i as u8)));
        frontier.push(world);
    }
    let (mut depth, mut rests, mut whole) = (0, 0, true);
    let found = 'search: loop {
        if frontier.is_empty() {
            break None;
        }
        depth += 1;
        let mut next = Vec::new();
        for world in frontier {
            let here = fingerprint(&world);
            let broken = |what, action| {
                let steps = way(&visited, here, action);
                Some(Found { what, steps })
            };
            let actions = world.actions(set);
            if world.contacted && world.is_idle() && !actions.contains(&Action::Reconcile) {
                rests += 1;
                if let Err(what) = world.check_rest(set) {
                    break 'search broken(what, None);
                }
            } else if actions.is_empty() {
                break 'search broken("I1 convergence: nothing can happen any more".into(), None);
            }
            for action in actions {
                match world.step(set, action) {
                    Err(what) => {
                        break 'search Some(Found {
                            what,
                            steps: way(&visited, here, Some(action)),
                        });
                    }
                    Ok(after) => {
                        if let Entry::Vacant(place) = visited.entry(fingerprint(&after)) {
                            place.insert((here, action));
                            next.push(after);
                        }
                    }
                }
            }
            if visited.len() > limit {
                whole = false;
                break 'search None;
            }
        }
        frontier = next;
    };
    Report {
        states: visited.len(),
        rests,
        whole,
        depth,
        time: begun.elapsed(),
        found,
    }
}
