//! The worlds that are searched, by name.

use super::world::{Rewrites, Setting, Values};
use hubspot_sync_core::mapping::{Direction, Strategy};

pub const STRATEGIES: [Strategy; 4] = [
    Strategy::LatestWins,
    Strategy::WarpWins,
    Strategy::HubspotWins,
    Strategy::Manual,
];

/// A world's name and bounds.
pub type Named = (&'static str, Setting);

/// The worlds of one direction and strategy that are small enough for every test run.
#[rustfmt::skip]
pub fn small(direction: Direction, strategy: Strategy) -> Vec<Named> {
    let plain = Setting { people: u8::from(strategy == Strategy::Manual), ..Setting::new(direction, strategy) };
    let few = |rewrites| Setting { values: Values::Few, rewrites, theirs: 2, faults: 0, cached: true, ..plain };
    let mut all = vec![
        ("tiny", Setting { mine: 1, ..plain }),
        ("unmet", Setting { values: Values::Unmet, mine: 1, cached: true, ..plain }),
        ("one fault", Setting { cached: true, ..plain }),
        ("two edits each", Setting { theirs: 2, faults: 0, cached: true, gap: true, ..plain }),
        ("two edits each, one fault", Setting { theirs: 2, ..plain }),
        ("two faults", Setting { mine: 1, faults: 2, cached: true, gap: true, ..plain }),
        ("few values", few(Rewrites::Version)),
        ("few values, quiet", few(Rewrites::QuietNow)),
        ("few values, quiet, last instant", few(Rewrites::QuietLast)),
        ("few values, one fault", Setting { theirs: 1, faults: 1, ..few(Rewrites::Version) }),
        ("few values, three edits", Setting { mine: 3, theirs: 1, ..few(Rewrites::Version) }),
        ("unmet, edits there", Setting { values: Values::Unmet, mine: 0, theirs: 2, ..plain }),
        ("two relays", Setting { second: true, ..plain }),
        ("two fields", Setting { fields: 2, mine: 1, faults: 0, ..plain }),
    ];
    let turns = match direction {
        Direction::Bidirectional => &[("turned inbound", Direction::HubspotToWarp), ("turned outbound", Direction::WarpToHubspot),
            ("turned off", Direction::None)][..],
        Direction::WarpToHubspot => &[("turned inbound", Direction::HubspotToWarp)],
        _ => &[],
    };
    all.extend(turns.iter().map(|(name, becomes)| (*name, Setting { becomes: Some(*becomes), ..plain })));
    if strategy == Strategy::WarpWins {
        // Only where no buried edit wins: an older write of ours that HubSpot does not name as such passes for an edit.
        all.push(("webhooks without an author", Setting { anonymous: true, mine: 1, faults: 0, ..plain }));
    }
    if strategy == Strategy::LatestWins {
        all.push(("few values, two edits there, one fault", Setting { theirs: 2, faults: 1, ..few(Rewrites::Version) }));
        all.push(("ties", Setting { ties: true, theirs: 2, faults: 0, ..plain }));
    }
    all
}

/// The worlds of `make model`.
#[rustfmt::skip]
pub fn large(direction: Direction, strategy: Strategy) -> Vec<Named> {
    let people = u8::from(strategy == Strategy::Manual);
    let plain = Setting { people, cached: true, ..Setting::new(direction, strategy) };
    vec![
        ("two edits each, one fault", Setting { theirs: 2, gap: true, ..plain }),
        ("two faults", Setting { faults: 2, ..plain }),
        ("three edits here", Setting { mine: 3, cached: false, ..plain }),
        ("three edits there", Setting { mine: 1, theirs: 3, ..plain }),
        ("three faults", Setting { mine: 1, faults: 3, cached: false, ..plain }),
        ("few values, two edits there, one fault", Setting { values: Values::Few, theirs: 2, ..plain }),
        ("few values, two faults", Setting { values: Values::Few, faults: 2, ..plain }),
        ("unmet, two edits there", Setting { values: Values::Unmet, mine: 1, theirs: 2, ..plain }),
        ("unmet, two faults", Setting { values: Values::Unmet, mine: 1, faults: 2, ..plain }),
        ("two fields, one fault", Setting { fields: 2, mine: 1, cached: false, ..plain }),
    ]
}
