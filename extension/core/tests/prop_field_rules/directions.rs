//! Edits and directions.

use crate::case::{Case, TWO_WAY, ended, noted, v, version, wrote};
use hubspot_sync_core::field::{Decision, EditEnd, Effect, Intake, Note, Observation, Read, Source};
use hubspot_sync_core::mapping::{Direction, Strategy};

#[test]
fn edits_end_once_each() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.edit("old", 150, 1);
    assert_eq!(case.effects(), [ended(1, EditEnd::Unchanged)]);
    case.edit("a", 160, 2);
    case.edit("b", 170, 3);
    assert_eq!(case.effects(), [ended(2, EditEnd::Superseded)]);
    case.send("b");
    case.edit("c", 180, 4);
    assert!(case.effects().is_empty(), "the outcome of the write will tell");
    case.answer("b", "b", 300);
    assert_eq!(case.effects(), [ended(3, EditEnd::Delivered)]);
    case.foreign("theirs", 310);
    let effects = case.effects();
    assert_eq!(effects[1..], [ended(4, EditEnd::Lost), wrote("theirs", 310)]);
    case.rests("theirs");
}

#[test]
fn latest_wins_compares_across_the_clocks() {
    for (offset, at, warp) in [
        (0, 199, true),
        (0, 200, false),
        (50, 249, true),
        (50, 250, false),
        (-50, 149, true),
    ] {
        let mut case = Case::agreed(Strategy::LatestWins);
        case.policy.clock_offset = offset;
        case.edit("new", 200, 1);
        case.foreign("theirs", at);
        assert_eq!(case.f.row == v("new"), warp, "offset {offset}, HubSpot at {at}");
    }
}

#[test]
fn one_way_directions_keep_to_their_way() {
    let mut case = Case::delivered(Strategy::WarpWins);
    case.policy.direction = Direction::WarpToHubspot;
    case.foreign("theirs", 400);
    assert_eq!(case.effects(), [noted(Note::SkippedByDirection, "theirs", 400)]);
    case.rests("new");
    case.edit("newer", 500, 2);
    assert_eq!(case.f.read_needed(&case.policy, false), Read::Nothing);
    case.send("newer");
    assert_eq!(
        case.foreign("theirs", 600),
        Intake::Taken,
        "nothing waits that is not taken"
    );

    let mut case = Case::agreed(Strategy::HubspotWins);
    case.policy.direction = Direction::HubspotToWarp;
    case.edit("mine", 200, 1);
    assert_eq!(case.effects(), [ended(1, EditEnd::Skipped)]);
    assert!(!case.f.needs_delivery());
    case.foreign("theirs", 150);
    assert_eq!(case.effects(), [wrote("theirs", 150)]);
    case.rests("theirs");
}

#[test]
fn an_older_echo_does_not_tell_an_outcome_where_nothing_is_received() {
    let mut case = Case::delivered(Strategy::WarpWins);
    case.policy.direction = Direction::WarpToHubspot;
    case.foreign("theirs", 400);
    case.own("again", 350);
    case.edit("again", 500, 2);
    case.send("again");
    let old = [
        version("again", 350, Source::Own),
        version("theirs", 400, Source::Foreign),
    ];
    assert_eq!(case.decide(&Observation::History(&old)), Decision::Send(v("again")));
}

#[test]
fn a_parked_value_that_hubspot_was_given_by_others_settles() {
    for strategy in TWO_WAY {
        let mut case = Case::agreed(strategy);
        case.edit("new", 200, 1);
        case.send("new");
        case.f.refuse(case.f.generation, &mut case.out);
        case.foreign("new", 150);
        assert!(!case.f.parked);
        if case.f.needs_delivery() {
            assert_eq!(case.decide(&Observation::Value(&v("new"), 0)), Decision::Settled);
        }
        case.rests("new");
        let ends: Vec<_> = case
            .effects()
            .into_iter()
            .filter(|e| matches!(e, Effect::EditEnded { .. }))
            .collect();
        assert_eq!(ends, [ended(1, EditEnd::Failed), ended(1, EditEnd::Delivered)]);
    }
}
