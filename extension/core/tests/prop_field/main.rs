//! The per-field state machine on random schedules: once edits and faults stop, both sides hold the value the policy
//! picks, and each captured edit has one end.
//!
//! A world is one field, HubSpot as the history of one property, one relay, and a pool of webhooks. Webhooks are doubled,
//! reordered, delayed and dropped; the relay dies at any step; a write is lost, lands unanswered, lands much later, or is
//! refused. Everything a world does follows from its seed, which a failure prints.

mod promises;
mod steps;
mod world;

use crate::world::{Setting, Who, World, stored};
use hubspot_sync_core::field::Side;
use hubspot_sync_core::mapping::{Direction, Strategy};
use hubspot_sync_core::value::Value;

const RUNS: u64 = 3000;

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
