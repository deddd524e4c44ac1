//! The field machine that ships, searched exhaustively in small worlds: one record with one or two fields, people on both
//! sides, a relay whose requests are lost, land late or go unanswered, and webhooks that are doubled, reordered or dropped.
//!
//! Each world is searched whole and must keep the promises I1 to I6 (`check.rs`). Then the rules are taken out one by one,
//! and for each the search must find what goes wrong: that tests the checker. `make model` searches larger worlds.
//! `MODEL_TRACE=1` prints the way to what was found.

mod check;
mod possible;
mod relay;
mod search;
mod steps;
mod switches;
mod world;
mod worlds;

use hubspot_sync_core::mapping::{Direction, Strategy};
use search::{Report, search};
use std::io::Write;
use worlds::Named;

/// More states than this mean that a world was made too large.
const LIMIT: usize = 50_000_000;

/// A line of the test's output, also of a test that passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn traced(report: &Report) {
    let Some(found) = &report.found else { return };
    if std::env::var_os("MODEL_TRACE").is_some() {
        found.steps.iter().for_each(|step| say(&format!("model:     {step:?}")));
    }
}

/// Searches each world whole; nothing may be found.
fn nothing_found(direction: Direction, strategy: Strategy, worlds: &[Named]) {
    let who = format!("{} {}", strategy.label(), direction.label());
    let (mut states, mut time) = (0, std::time::Duration::ZERO);
    for (name, set) in worlds {
        let report = search(set, LIMIT);
        say(&format!(
            "model: {who}, {name}: {} states, {} at rest, {} steps deep, {:.1?}; {} field(s), edits {}+{}, {} fault(s)",
            report.states, report.rests, report.depth, report.time, set.fields, set.mine, set.theirs, set.faults
        ));
        if let Some(found) = &report.found {
            found.steps.iter().for_each(|step| say(&format!("model:     {step:?}")));
            panic!("{who}, {name}: {}", found.what);
        }
        assert!(report.whole, "{who}, {name}: more than {LIMIT} states");
        states += report.states;
        time += report.time;
    }
    say(&format!("model: {who} {states} states in {time:.1?}, nothing found"));
}

fn small(direction: Direction, strategy: Strategy) {
    nothing_found(direction, strategy, &worlds::small(direction, strategy));
}

#[test]
fn latest_wins() {
    small(Direction::Bidirectional, Strategy::LatestWins);
}

#[test]
fn warp_wins() {
    small(Direction::Bidirectional, Strategy::WarpWins);
}

#[test]
fn hubspot_wins() {
    small(Direction::Bidirectional, Strategy::HubspotWins);
}

#[test]
fn manual() {
    small(Direction::Bidirectional, Strategy::Manual);
}

#[test]
fn one_way_and_no_way() {
    for strategy in worlds::STRATEGIES {
        for direction in [Direction::WarpToHubspot, Direction::HubspotToWarp, Direction::None] {
            small(direction, strategy);
        }
    }
}

#[test]
#[ignore = "minutes: make model"]
fn larger_worlds() {
    for strategy in worlds::STRATEGIES {
        nothing_found(
            Direction::Bidirectional,
            strategy,
            &worlds::large(Direction::Bidirectional, strategy),
        );
    }
    let strategy = Strategy::WarpWins;
    for direction in [Direction::WarpToHubspot, Direction::HubspotToWarp, Direction::None] {
        nothing_found(direction, strategy, &worlds::large(direction, strategy));
    }
}
