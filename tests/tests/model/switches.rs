//! A test of the checker: each rule of the machine is taken out, and the search must find what goes wrong.

use super::search::search;
use super::world::Setting;
use super::worlds::{large, small};
use super::{LIMIT, say, traced};
use hubspot_sync_core::field::rules::{self, Rule};
use hubspot_sync_core::mapping::Direction::{self, Bidirectional, HubspotToWarp, WarpToHubspot};
use hubspot_sync_core::mapping::Strategy::{self, HubspotWins, LatestWins, Manual, WarpWins};

/// Where the absence of a rule is punished: in this world of this direction and strategy.
type Punished = (Direction, Strategy, &'static str);

#[rustfmt::skip]
const CASES: &[(Rule, Punished)] = &[
    (Rule::StopWhenMoved, (Bidirectional, LatestWins, "few values")),
    (Rule::InFlightDurable, (Bidirectional, WarpWins, "tiny")),
    (Rule::LookAfterUnknown, (Bidirectional, WarpWins, "tiny")),
    (Rule::ForeignWaits, (Bidirectional, WarpWins, "tiny")),
    (Rule::StaleDropped, (Bidirectional, LatestWins, "tiny")),
    (Rule::BuriedDetected, (Bidirectional, LatestWins, "tiny")),
    (Rule::BuriedDeliveredBack, (Bidirectional, LatestWins, "tiny")),
    (Rule::MovedStaysDirty, (WarpToHubspot, WarpWins, "tiny")),
    (Rule::EqualNeedsNoWrite, (WarpToHubspot, WarpWins, "few values, three edits")),
    (Rule::ThereAndBackLooks, (Bidirectional, LatestWins, "few values, three edits")),
    (Rule::LateOwnWriteDirties, (Bidirectional, LatestWins, "tiny")),
    (Rule::EchoCompletes, (Bidirectional, WarpWins, "tiny")),
    (Rule::OwnWaits, (Bidirectional, LatestWins, "one fault")),
    (Rule::InFlightNewerThanOwn, (Bidirectional, LatestWins, "unmet")),
    (Rule::InFlightNewerThanRead, (Bidirectional, LatestWins, "few values, two edits there, one fault")),
    (Rule::RepairIsNoConflict, (Bidirectional, WarpWins, "two edits each, one fault")),
    (Rule::OursByInstant, (Bidirectional, LatestWins, "few values")),
    (Rule::AcknowledgedIsOurs, (Bidirectional, WarpWins, "webhooks without an author")),
    (Rule::TiesToHubspot, (Bidirectional, LatestWins, "unmet")),
    (Rule::ManualHolds, (Bidirectional, Manual, "tiny")),
    (Rule::HeldBuried, (Bidirectional, Manual, "tiny")),
    (Rule::EmptyYields, (Bidirectional, LatestWins, "unmet")),
    (Rule::FirstContactByNewest, (Bidirectional, WarpWins, "unmet, edits there")),
    (Rule::FirstContactNotBuried, (Bidirectional, WarpWins, "unmet, two faults")),
    (Rule::NewsOutdatesReads, (Bidirectional, WarpWins, "unmet")),
    (Rule::OldReadSettlesNothing, (Bidirectional, LatestWins, "unmet")),
    (Rule::EqualIsNotSent, (Bidirectional, LatestWins, "few values")),
    (Rule::EqualMayBeOld, (Bidirectional, LatestWins, "few values")),
    (Rule::DifferentNeedsHistory, (Bidirectional, LatestWins, "tiny")),
    (Rule::ManualAlwaysLooks, (Bidirectional, Manual, "one fault")),
    (Rule::GivenUpAlwaysLooks, (Bidirectional, LatestWins, "few values, two edits there, one fault")),
    (Rule::SendsByDirection, (HubspotToWarp, HubspotWins, "tiny")),
    (Rule::ReceivesByDirection, (WarpToHubspot, WarpWins, "tiny")),
    (Rule::WaitingSkipped, (Bidirectional, LatestWins, "turned inbound")),
    (Rule::BuriedNeedsSending, (Bidirectional, LatestWins, "turned inbound")),
    (Rule::OwnTakenWhereNotSent, (Bidirectional, LatestWins, "turned inbound")),
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
    let mut unpunished = Vec::new();
    for (rule, case) in CASES {
        let (direction, strategy, name) = *case;
        let mut worlds = small(direction, strategy);
        worlds.extend(large(direction, strategy));
        let (name, set) = worlds.iter().find(|w| w.0 == name).expect("a world of this name");
        if !punished(*rule, direction, strategy, name, *set, LIMIT) {
            unpunished.push(*rule);
        }
    }
    assert!(unpunished.is_empty(), "nothing goes wrong without {unpunished:?}");
    say(&format!(
        "model: {} rules, each missed when it is taken out",
        CASES.len()
    ));
}

#[test]
fn each_rule_has_its_case() {
    for (i, (rule, says)) in Rule::ALL.iter().enumerate() {
        assert_eq!(CASES[i].0, *rule, "{says}");
    }
    assert_eq!(CASES.len(), Rule::ALL.len());
}
