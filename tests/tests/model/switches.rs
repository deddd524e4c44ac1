//! A test of the checker: each rule of the machine is taken out, and the search must find what goes wrong.
//!
//! A rule whose absence no world can punish is named with the reason why it stays.

use super::search::search;
use super::world::Setting;
use super::worlds::{large, small};
use super::{LIMIT, say, traced};
use hubspot_sync_core::field::rules::{self, Rule};
use hubspot_sync_core::mapping::Direction::{self, Bidirectional, HubspotToWarp, WarpToHubspot};
use hubspot_sync_core::mapping::Strategy::{self, HubspotWins, LatestWins, Manual, WarpWins};

/// Where the absence of a rule is punished.
enum Punished {
    /// In this small world.
    In(Direction, Strategy, &'static str),
    /// In none that is searched; why the rule stays.
    Nowhere(&'static str),
}
use Punished::{In, Nowhere};

#[rustfmt::skip]
const CASES: &[(Rule, Punished)] = &[
    (Rule::StopWhenMoved, In(Bidirectional, LatestWins, "few values")),
    (Rule::InFlightDurable, In(Bidirectional, WarpWins, "tiny")),
    (Rule::LookAfterUnknown, In(Bidirectional, WarpWins, "tiny")),
    (Rule::ForeignWaits, In(Bidirectional, WarpWins, "tiny")),
    (Rule::StaleDropped, In(Bidirectional, LatestWins, "tiny")),
    (Rule::BuriedDetected, In(Bidirectional, LatestWins, "tiny")),
    (Rule::BuriedDeliveredBack, In(Bidirectional, LatestWins, "tiny")),
    (Rule::BuriedComparesDelivered, Nowhere(
        "a clean field's edit time is that of what was delivered: the two never differ where it is used")),
    (Rule::OlderLandingStaysDirty, Nowhere(
        "another version of ours waits while a write is in flight, and the fencing token keeps late answers out")),
    (Rule::MovedStaysDirty, In(WarpToHubspot, WarpWins, "tiny")),
    (Rule::EqualNeedsNoWrite, Nowhere("it saves a write or a read and keeps no promise")),
    (Rule::ThereAndBackLooks, In(Bidirectional, LatestWins, "few values, three edits")),
    (Rule::LateOwnWriteDirties, In(Bidirectional, LatestWins, "tiny")),
    (Rule::EchoCompletes, In(Bidirectional, WarpWins, "tiny")),
    (Rule::InFlightNewerThanOwn, In(Bidirectional, LatestWins, "unmet")),
    (Rule::InFlightNewerThanSeen, In(Bidirectional, HubspotWins, "few values, two faults")),
    (Rule::RepairIsNoConflict, In(Bidirectional, WarpWins, "two edits each, one fault")),
    (Rule::OursByInstant, In(HubspotToWarp, HubspotWins, "few values")),
    (Rule::AcknowledgedIsOurs, In(Bidirectional, WarpWins, "webhooks without an author")),
    (Rule::TiesToHubspot, In(Bidirectional, LatestWins, "unmet")),
    (Rule::ManualHolds, In(Bidirectional, Manual, "tiny")),
    (Rule::HeldBuried, In(Bidirectional, Manual, "tiny")),
    (Rule::EmptyYields, In(Bidirectional, LatestWins, "unmet")),
    (Rule::FirstContactByNewest, Nowhere("it spares a conflict with values that HubSpot no longer holds")),
    (Rule::FirstContactNotBuried, In(Bidirectional, WarpWins, "unmet, two faults")),
    (Rule::NewsOutdatesReads, In(Bidirectional, WarpWins, "unmet")),
    (Rule::OldReadSettlesNothing, In(Bidirectional, LatestWins, "unmet")),
    (Rule::EqualIsNotSent, In(Bidirectional, LatestWins, "few values")),
    (Rule::EqualMayBeOld, In(Bidirectional, LatestWins, "few values")),
    (Rule::DifferentNeedsHistory, In(Bidirectional, LatestWins, "tiny")),
    (Rule::ManualAlwaysLooks, Nowhere(
        "it narrows the time in which a foreign edit is buried under MANUAL; what is buried is found and held all the same")),
    (Rule::SendsByDirection, In(HubspotToWarp, HubspotWins, "tiny")),
    (Rule::ReceivesByDirection, In(WarpToHubspot, WarpWins, "tiny")),
];

/// Searches without the rule; tells of what is found.
fn punished(rule: Rule, direction: Direction, strategy: Strategy, name: &str, set: Setting, limit: usize) -> bool {
    rules::without(Some(rule));
    let report = search(
        &Setting {
            without: Some(rule),
            ..set
        },
        limit,
    );
    rules::without(None);
    if let Some(found) = &report.found {
        say(&format!(
            "model: without {rule:?}: {} steps, {} states to \"{}\" ({} {}, {name})",
            found.steps.len() - 1,
            report.states,
            found.what,
            strategy.label(),
            direction.label()
        ));
        traced(&report);
    }
    report.found.is_some()
}

#[test]
fn each_rule_is_missed() {
    for (rule, case) in CASES {
        match case {
            In(direction, strategy, name) => {
                let mut worlds = small(*direction, *strategy);
                worlds.extend(large(*direction, *strategy));
                let (name, set) = worlds.iter().find(|w| w.0 == *name).expect("a world of this name");
                let found = punished(*rule, *direction, *strategy, name, *set, LIMIT);
                assert!(found, "nothing goes wrong without {rule:?}");
            }
            Nowhere(why) => say(&format!("model: without {rule:?}: nothing to find: {why}")),
        }
    }
}

#[test]
fn each_rule_has_its_case() {
    for (i, (rule, says)) in Rule::ALL.iter().enumerate() {
        assert_eq!(CASES[i].0, *rule, "{says}");
    }
    assert_eq!(CASES.len(), Rule::ALL.len());
}

/// Tells whether a larger world misses one of the rules that the small ones do not.
#[test]
#[ignore = "minutes: make model"]
fn what_larger_worlds_miss() {
    for (rule, _) in CASES.iter().rev().filter(|c| matches!(c.1, Nowhere(_))) {
        let missed = super::worlds::STRATEGIES.iter().any(|s| {
            let mut worlds = large(Bidirectional, *s).into_iter();
            worlds.any(|(name, set)| punished(*rule, Bidirectional, *s, name, set, 100_000))
        });
        if !missed {
            say(&format!(
                "model: without {rule:?}: nothing found in the first 100000 states of the larger worlds"
            ));
        }
    }
}
