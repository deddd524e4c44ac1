//! The faults of requests that a soak plays: a deck of cards, shuffled and drawn to its end, again and again, so that each
//! is played whatever chance says.

use std::collections::BTreeSet;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::trouble::LONGEST_LATE;
use crate::simulator::{FaultKind, Op, Policy};

/// Longest time of an answer that comes late, but in time.
const LATE_MS: u64 = 300;

/// What goes wrong with writes, and how often among the others. Times are drawn anew for each card.
const WRITES: [(FaultKind, usize); 15] = [
    (FaultKind::CloseAfterApply, 6),
    (FaultKind::TimeoutAfterApply, 5),
    (FaultKind::StatusAfterApply(502), 3),
    (FaultKind::LateApply(0), 7),
    (FaultKind::CloseBeforeApply, 3),
    (FaultKind::Status(408), 1),
    (FaultKind::Status(423), 2),
    (FaultKind::Status(500), 1),
    (FaultKind::Status(503), 2),
    (FaultKind::Status(504), 1),
    (FaultKind::Status(521), 1),
    (FaultKind::Delay(0), 2),
    (FaultKind::DelayBeforeApply(0), 3),
    (FaultKind::RateLimited(Policy::Secondly), 1),
    (FaultKind::Migrating(1), 1),
];

/// The same with reads.
const READS: [(FaultKind, usize); 5] = [
    (FaultKind::Status(503), 2),
    (FaultKind::Status(423), 1),
    (FaultKind::CloseBeforeApply, 2),
    (FaultKind::Delay(0), 1),
    (FaultKind::RateLimited(Policy::Secondly), 1),
];

/// What silences a relay for ten seconds or more. A soak plays some of them, once each: with all of them the relays would
/// do little else than wait. Any five seeds in a row play them all.
const SILENCING: [FaultKind; 5] = [
    FaultKind::RateLimited(Policy::TenSecondlyRolling),
    FaultKind::RateLimited(Policy::Daily),
    FaultKind::Unauthorized,
    FaultKind::Expired,
    FaultKind::Forbidden,
];

/// How HubSpot is out.
pub(crate) const OUTAGES: [FaultKind; 4] = [
    FaultKind::Status(502),
    FaultKind::Status(503),
    FaultKind::Status(521),
    FaultKind::CloseBeforeApply,
];

/// A fault of requests.
pub(crate) type Card = (Op, FaultKind);

/// The deck.
pub(crate) struct Deck {
    rng: StdRng,
    cards: Vec<Card>,
    /// What is to be met in the end.
    due: BTreeSet<String>,
}

impl Deck {
    /// The deck of a seed; a relay that is silenced is of use only where another one is crashed and replaced soon.
    pub(crate) fn new(seed: u64, silencing: bool, rng: StdRng) -> Self {
        let mut deck = Deck {
            rng,
            cards: Vec::new(),
            due: BTreeSet::new(),
        };
        deck.shuffle();
        if silencing {
            for kind in silenced(seed) {
                // Among the first: a fault needs a request that meets it.
                let at = deck.rng.random_range(deck.cards.len() / 2..=deck.cards.len());
                deck.cards.insert(at, (Op::BatchUpdate, kind));
            }
        }
        deck.due = deck.cards.iter().map(|card| label(*card)).collect();
        deck
    }

    fn shuffle(&mut self) {
        let writes = WRITES.iter().map(|card| (Op::BatchUpdate, card));
        let reads = READS.iter().map(|card| (Op::BatchRead, card));
        for (op, (kind, count)) in writes.chain(reads) {
            self.cards.extend(std::iter::repeat_n((op, *kind), *count));
        }
        self.cards.shuffle(&mut self.rng);
    }

    /// The next fault.
    pub(crate) fn draw(&mut self) -> Card {
        loop {
            if let Some((op, kind)) = self.cards.pop() {
                return (op, self.timed(kind));
            }
            self.shuffle();
        }
    }

    /// One of the ways HubSpot is out, and for how long, milliseconds.
    pub(crate) fn outage(&mut self) -> (FaultKind, u64) {
        let way = self.rng.random_range(0..OUTAGES.len());
        (OUTAGES[way], self.rng.random_range(300..1_500))
    }

    fn timed(&mut self, kind: FaultKind) -> FaultKind {
        let late = u64::try_from(LONGEST_LATE.as_millis()).unwrap_or(LATE_MS);
        match kind {
            FaultKind::LateApply(_) => FaultKind::LateApply(self.rng.random_range(20..late)),
            FaultKind::Delay(_) => FaultKind::Delay(self.rng.random_range(20..LATE_MS)),
            FaultKind::DelayBeforeApply(_) => FaultKind::DelayBeforeApply(self.rng.random_range(20..LATE_MS)),
            as_it_is => as_it_is,
        }
    }

    /// The faults that are to be met, by [`label`].
    pub(crate) fn due(&self) -> &BTreeSet<String> {
        &self.due
    }
}

/// The faults of a seed that silence a relay.
fn silenced(seed: u64) -> [FaultKind; 2] {
    let count = SILENCING.len() as u64;
    [seed % count, (seed % count + 2) % count].map(|at| SILENCING[usize::try_from(at).unwrap_or(0)])
}

/// A card in words.
pub(crate) fn label((op, kind): Card) -> String {
    let what = match op {
        Op::BatchUpdate => "write",
        Op::BatchRead => "read",
        _ => "other",
    };
    format!("{what}: {}", kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// The kinds that serde knows, which are all there are.
    fn every_kind() -> BTreeSet<String> {
        let error = serde_json::from_str::<FaultKind>("\"?\"").unwrap_err().to_string();
        let names = error.split('`').skip(3).step_by(2);
        names.map(str::to_owned).collect()
    }

    #[test]
    fn five_seeds_play_every_fault_the_simulator_knows() {
        let kinds = every_kind();
        assert!(kinds.len() > 10 && kinds.contains("late_apply"), "{kinds:?}");
        for first in [1, 7, u64::MAX - 4] {
            let played: BTreeSet<String> = (first..=first + 4)
                .flat_map(|seed| {
                    let deck = Deck::new(seed, true, StdRng::seed_from_u64(seed));
                    let cards = deck.cards.into_iter();
                    cards.map(|(_, kind)| kind.name()).collect::<Vec<_>>()
                })
                .collect();
            let named: BTreeSet<String> = played
                .iter()
                .filter_map(|name| name.split(' ').next().map(str::to_owned))
                .collect();
            assert_eq!(named, kinds);
            for policy in [Policy::Secondly, Policy::TenSecondlyRolling, Policy::Daily] {
                assert!(played.contains(&FaultKind::RateLimited(policy).name()), "{policy:?}");
            }
        }
    }

    #[test]
    fn a_deck_is_drawn_to_its_end_and_shuffled_again() {
        let mut deck = Deck::new(3, true, StdRng::seed_from_u64(3));
        let due = deck.due().clone();
        let cards = deck.cards.len();
        let drawn: BTreeSet<String> = (0..cards).map(|_| label(deck.draw())).collect();
        assert_eq!(drawn, due);
        let again: BTreeSet<String> = (0..cards).map(|_| label(deck.draw())).collect();
        assert!(
            again.is_subset(&due) && again.len() == due.len() - 2,
            "what silences is played once"
        );
    }
}
