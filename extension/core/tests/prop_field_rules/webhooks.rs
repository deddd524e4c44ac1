//! What HubSpot reports: echoes, edits, stale and doubled events.

use crate::case::{Case, TWO_WAY, ended, noted, v, wrote};
use hubspot_sync_core::field::{Decision, EditEnd, Effect, Intake, Note, Observation, Source, Winner};
use hubspot_sync_core::mapping::Strategy;

#[test]
fn stale_and_doubled_webhooks_change_nothing() {
    for strategy in TWO_WAY {
        let mut case = Case::agreed(strategy);
        case.foreign("theirs", 300);
        assert_eq!(case.effects(), [wrote("theirs", 300)]);
        let before = case.f.clone();
        for (value, at) in [("theirs", 300), ("older", 200), ("old", 1)] {
            assert_eq!(case.foreign(value, at), Intake::Taken);
            assert_eq!(case.effects(), [noted(Note::Stale, value, at)]);
        }
        assert_eq!(case.f, before);
    }
}

#[test]
fn an_echo_causes_nothing() {
    for strategy in TWO_WAY {
        let mut case = Case::delivered(strategy);
        let before = case.f.clone();
        for source in [Source::Own, Source::Foreign] {
            assert_eq!(
                case.f.inbound(&case.policy, &v("new"), 300, source, &mut case.out),
                Intake::Taken
            );
            assert_eq!(case.effects(), [noted(Note::Echo, "new", 300)]);
        }
        assert_eq!(case.f, before);
    }
}

#[test]
fn the_echo_may_tell_the_outcome_before_the_answer() {
    let mut case = Case::agreed(Strategy::Manual);
    case.edit("new", 200, 1);
    case.send("new");
    let generation = case.f.generation;
    case.own("new", 300);
    case.rests("new");
    assert_eq!(
        case.effects(),
        [ended(1, EditEnd::Delivered), noted(Note::Echo, "new", 300)]
    );
    let before = case.f.clone();
    case.f
        .complete(&case.policy, &v("new"), &v("new"), 300, generation, &mut case.out);
    assert_eq!(case.f, before, "the answer brings nothing new");
    assert_eq!(case.effects(), [noted(Note::Echo, "new", 300)]);
}

#[test]
fn foreign_edits_wait_for_the_outcome_of_a_write() {
    for strategy in TWO_WAY {
        let mut case = Case::agreed(strategy);
        case.edit("new", 200, 1);
        case.send("new");
        let before = case.f.clone();
        assert_eq!(case.foreign("theirs", 310), Intake::Wait);
        assert_eq!(case.own("another", 305), Intake::Wait);
        assert_eq!(case.f, before);
        assert!(case.effects().is_empty());
        // Afterwards it is by someone who saw our value: no conflict, whoever wins conflicts.
        case.answer("new", "new", 300);
        assert_eq!(case.foreign("theirs", 310), Intake::Taken);
        assert_eq!(case.effects(), [ended(1, EditEnd::Delivered), wrote("theirs", 310)]);
        case.rests("theirs");
    }
}

#[test]
fn a_person_may_set_our_earlier_value_back() {
    for strategy in TWO_WAY {
        let mut case = Case::delivered(strategy);
        case.edit("newer", 400, 2);
        case.send("newer");
        case.answer("newer", "newer", 500);
        case.effects();
        assert_eq!(case.foreign("new", 600), Intake::Taken);
        assert_eq!(case.effects(), [wrote("new", 600)]);
        case.rests("new");
    }
}

#[test]
fn a_row_set_back_under_a_write_is_looked_at_once_more() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.edit("new", 200, 1);
    case.send("new");
    case.edit("other", 400, 2);
    case.edit("new", 410, 3);
    case.answer("new", "new", 300);
    assert_eq!(
        case.effects(),
        [ended(2, EditEnd::Superseded), ended(1, EditEnd::Delivered)]
    );
    // A foreign edit between the write and the last edit is a conflict, and older.
    let mut between = Case {
        f: case.f.clone(),
        policy: case.policy,
        out: Vec::new(),
    };
    between.foreign("theirs", 350);
    assert!(matches!(
        between.effects()[..],
        [Effect::Conflict {
            winner: Some(Winner::Warp),
            ..
        }]
    ));
    between.send("new");
    // Nothing else happened: nothing is sent.
    assert_eq!(case.decide(&Observation::Value(&v("new"), 0)), Decision::Settled);
    assert_eq!(
        case.effects(),
        [ended(3, EditEnd::Delivered), noted(Note::AlreadyEqual, "new", 0)]
    );
    case.rests("new");
}

#[test]
fn a_foreign_edit_with_our_waiting_value_agrees() {
    // HubSpot wins, or its edit is later: nothing is sent.
    for (strategy, at) in [(Strategy::HubspotWins, 150), (Strategy::LatestWins, 250)] {
        let mut case = Case::agreed(strategy);
        case.edit("new", 200, 1);
        case.foreign("new", at);
        assert_eq!(
            case.effects(),
            [ended(1, EditEnd::Delivered), noted(Note::AlreadyEqual, "new", at)]
        );
        case.rests("new");
    }
    // Otherwise a newer foreign edit would lose: no conflict, and the next read settles it.
    for (strategy, at) in [
        (Strategy::WarpWins, 250),
        (Strategy::LatestWins, 150),
        (Strategy::Manual, 250),
    ] {
        let mut case = Case::agreed(strategy);
        case.edit("new", 200, 1);
        case.foreign("new", at);
        assert_eq!(case.effects(), [noted(Note::AlreadyEqual, "new", at)]);
        assert_eq!(case.decide(&Observation::Value(&v("new"), 0)), Decision::Settled);
        assert_eq!(
            case.effects(),
            [ended(1, EditEnd::Delivered), noted(Note::AlreadyEqual, "new", 0)]
        );
        case.rests("new");
    }
}

#[test]
fn a_read_from_before_a_foreign_edit_settles_nothing() {
    let mut case = Case::agreed(Strategy::WarpWins);
    case.edit("new", 200, 1);
    let generation = case.f.generation;
    case.foreign("theirs", 210);
    case.effects();
    let decision = case.f.decide(
        &case.policy,
        generation,
        &Observation::Value(&v("new"), 0),
        &mut case.out,
    );
    assert_eq!(decision, Decision::Settled);
    assert!(case.f.needs_delivery() && case.effects().is_empty());
}
