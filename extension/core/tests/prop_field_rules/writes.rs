//! Writes that do not go as planned.

use crate::case::{Case, ended, noted, v, version, wrote};
use hubspot_sync_core::field::{Decision, EditEnd, Effect, Intake, Note, Observation, Read, Source};
use hubspot_sync_core::mapping::{Direction, Strategy};

#[test]
fn a_buried_edit_is_found_and_the_policy_picks() {
    for (strategy, hubspot_wins) in [
        (Strategy::LatestWins, true),
        (Strategy::HubspotWins, true),
        (Strategy::WarpWins, false),
    ] {
        let mut case = Case::delivered(strategy);
        case.foreign("theirs", 250);
        let effects = case.effects();
        assert!(matches!(
            &effects[0],
            Effect::Conflict {
                warp_at: 200,
                hubspot_at: 250,
                ..
            }
        ));
        if hubspot_wins {
            assert_eq!(effects[1..], [wrote("theirs", 250)]);
            case.send("theirs");
            // HubSpot's later edit of what is being set back is no conflict.
            case.f.forget_in_flight(&mut case.out);
            case.foreign("theirs too", 400);
            assert_eq!(
                case.effects(),
                [
                    noted(Note::RepairOvertaken, "theirs too", 400),
                    wrote("theirs too", 400)
                ]
            );
            case.rests("theirs too");
        } else {
            case.rests("new");
        }
    }
}

#[test]
fn a_late_write_is_overwritten() {
    let mut case = Case::delivered(Strategy::LatestWins);
    case.own("ancient", 350);
    assert_eq!(case.effects(), [noted(Note::LateWrite, "ancient", 350)]);
    case.send("new");
    case.answer("new", "new", 400);
    case.rests("new");
}

#[test]
fn an_older_landing_under_a_write_waits_and_is_sent_over() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.edit("new", 200, 1);
    case.send("new");
    // An older write of ours landed at 350, after this one at 300. Its version is told first, and waits for the outcome.
    assert_eq!(case.own("older", 350), Intake::Wait);
    case.answer("new", "new", 300);
    assert_eq!(case.effects(), [ended(1, EditEnd::Delivered)]);
    assert_eq!(case.own("older", 350), Intake::Taken);
    assert_eq!(case.effects(), [noted(Note::LateWrite, "older", 350)]);
    case.send("new");
}

#[test]
fn our_newest_instant_never_goes_back() {
    let mut case = Case::delivered(Strategy::LatestWins);
    case.edit("newer", 400, 2);
    case.send("newer");
    // HubSpot's clocks disagree by a little: the later write bears the earlier instant.
    case.answer("newer", "newer", 299);
    case.rests("newer");
    assert_eq!(
        (case.effects(), case.f.own_at),
        (vec![ended(2, EditEnd::Delivered)], 300)
    );
    assert_eq!(case.own("new", 300), Intake::Taken);
    case.rests("newer");
}

#[test]
fn what_waits_is_skipped_when_the_direction_no_longer_sends() {
    for direction in [Direction::HubspotToWarp, Direction::None] {
        let mut case = Case::agreed(Strategy::LatestWins);
        case.edit("new", 200, 1);
        case.policy.direction = direction;
        assert_eq!(case.decide(&Observation::Value(&v("old"), 0)), Decision::Settled);
        assert_eq!(case.effects(), [ended(1, EditEnd::Skipped)]);
        case.rests("new");
    }
    // A write under way is still looked up, and then nothing more is sent.
    let mut case = Case::agreed(Strategy::WarpWins);
    case.edit("new", 200, 1);
    case.send("new");
    case.policy.direction = Direction::HubspotToWarp;
    assert_eq!(case.decide(&Observation::Nothing), Decision::Read(Read::History));
    let nothing_landed = [version("old", 50, Source::Foreign)];
    case.f.seen_at = 50;
    assert_eq!(case.decide(&Observation::History(&nothing_landed)), Decision::Settled);
    assert_eq!(case.effects(), [ended(1, EditEnd::Skipped)]);
    case.rests("new");
    // HubSpot's edit reaches the row whatever the strategy.
    assert_eq!(case.foreign("theirs", 300), Intake::Taken);
    case.rests("theirs");
}

#[test]
fn where_nothing_is_sent_the_row_follows_what_our_late_write_left() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.policy.direction = Direction::HubspotToWarp;
    assert_eq!(case.own("ours", 300), Intake::Taken);
    case.rests("ours");
    // A foreign edit that this write buried is no news: nobody could set HubSpot back to it.
    assert_eq!(case.foreign("theirs", 250), Intake::Taken);
    case.rests("ours");
}

#[test]
fn an_answer_for_an_older_generation_is_only_evidence() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.edit("one", 200, 1);
    case.send("one");
    let first = case.f.generation;
    case.edit("two", 210, 2);
    // The first write's outcome is looked up and not found; the second leaves.
    assert_eq!(case.decide(&Observation::History(&[])), Decision::Send(v("two")));
    assert_eq!(case.effects(), [ended(1, EditEnd::Superseded)]);
    case.f
        .complete(&case.policy, &v("one"), &v("one"), 300, first, &mut case.out);
    assert!(case.f.in_flight.is_some(), "the second is still under way");
    case.answer("two", "two", 310);
    case.rests("two");
    assert_eq!(case.effects(), [ended(2, EditEnd::Delivered)]);
    // Settled meanwhile, and landing last: HubSpot must be set right.
    case.f
        .complete(&case.policy, &v("one"), &v("one"), 400, first, &mut case.out);
    assert_eq!(case.effects(), [noted(Note::LateWrite, "one", 400)]);
    case.send("two");
}

#[test]
fn an_older_version_of_ours_does_not_tell_an_outcome() {
    let mut case = Case::delivered(Strategy::LatestWins);
    case.foreign("theirs", 400);
    case.edit("again", 500, 2);
    case.effects();
    assert_eq!(
        case.decide(&Observation::Value(&v("theirs"), 400)),
        Decision::Send(v("again"))
    );
    // Ours, of the same value, but from before an edit that was read when the write left.
    let old = [
        version("again", 350, Source::Own),
        version("theirs", 400, Source::Foreign),
    ];
    assert_eq!(case.own("again", 350), Intake::Taken);
    assert!(case.f.in_flight.is_some());
    assert_eq!(case.decide(&Observation::History(&old)), Decision::Send(v("again")));
}

#[test]
fn once_a_write_was_given_up_a_cached_value_is_not_enough() {
    let mut case = Case::agreed(Strategy::LatestWins);
    assert_eq!(case.f.read_needed(&case.policy, true), Read::Nothing);
    case.edit("new", 200, 1);
    case.send("new");
    assert_eq!(
        case.decide(&Observation::History(&[version("old", 50, Source::Foreign)])),
        Decision::Send(v("new")),
        "it has not landed: it is sent again"
    );
    assert_eq!(case.own("new", 300), Intake::Taken);
    case.rests("new");
    assert_eq!(case.f.read_needed(&case.policy, true), Read::Value);
}

#[test]
fn a_lost_answer_is_found_in_the_history() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.edit("new", 200, 1);
    case.send("new");
    assert_eq!(case.f.read_needed(&case.policy, true), Read::History);
    assert_eq!(case.decide(&Observation::Nothing), Decision::Read(Read::History));
    assert_eq!(
        case.decide(&Observation::Value(&v("new"), 0)),
        Decision::Read(Read::History)
    );
    let history = [version("new", 300, Source::Own), version("old", 50, Source::Foreign)];
    case.f.seen_at = 50;
    assert_eq!(case.decide(&Observation::History(&history)), Decision::Settled);
    case.rests("new");
    assert_eq!(case.effects(), [ended(1, EditEnd::Delivered)]);
}

#[test]
fn a_deleted_row_ends_everything() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.edit("new", 200, 1);
    case.send("new");
    let generation = case.f.generation;
    case.edit("newer", 210, 2);
    case.f.abandon(&mut case.out);
    assert_eq!(
        case.effects(),
        [ended(1, EditEnd::Superseded), ended(2, EditEnd::Superseded)]
    );
    assert!(!case.f.needs_delivery() && case.f.pending_edit.is_none() && case.f.in_flight.is_none());
    case.f
        .complete(&case.policy, &v("new"), &v("new"), 300, generation, &mut case.out);
    assert!(
        !case.out.iter().any(|e| matches!(e, Effect::EditEnded { .. })),
        "an end is an end"
    );

    let mut case = Case::held();
    case.f.abandon(&mut case.out);
    assert_eq!(case.effects(), [ended(1, EditEnd::Superseded), Effect::ConflictSettled]);
    assert!(case.f.held.is_none());
}
