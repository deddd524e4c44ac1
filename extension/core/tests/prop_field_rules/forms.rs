//! Values that HubSpot stores in another form.

use crate::case::{Case, ended, noted, v, version};
use hubspot_sync_core::field::{Decision, EditEnd, Intake, Note, Observation, Source};
use hubspot_sync_core::mapping::Strategy;

#[test]
fn another_form_of_our_value_is_our_value() {
    // The echo first (it waits), or the answer first.
    for echo_first in [true, false] {
        let mut case = Case::agreed(Strategy::LatestWins);
        case.edit("+1 555", 200, 1);
        case.send("+1 555");
        if echo_first {
            assert_eq!(case.own("+1555", 300), Intake::Wait);
        }
        case.answer("+1 555", "+1555", 300);
        assert_eq!(case.effects(), [ended(1, EditEnd::Delivered)]);
        case.rests("+1 555");
        assert_eq!(case.own("+1555", 300), Intake::Taken);
        assert_eq!(
            case.foreign("+1555", 300),
            Intake::Taken,
            "an echo that does not say whose it is"
        );
        assert_eq!(
            case.effects(),
            [noted(Note::Echo, "+1555", 300), noted(Note::Echo, "+1555", 300)]
        );
        case.rests("+1 555");
        // Seen by reconciliation or a read, it is no drift either.
        assert!(case.f.same(&v("+1555"), &case.f.row));
    }
}

#[test]
fn a_known_form_tells_an_outcome() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.f.form = Some((v("+1 555"), v("+1555")));
    case.edit("+1 555", 200, 1);
    case.send("+1 555");
    assert_eq!(case.own("+1555", 300), Intake::Taken);
    assert_eq!(
        case.effects(),
        [ended(1, EditEnd::Delivered), noted(Note::Echo, "+1555", 300)]
    );
    case.rests("+1 555");
    // And in a history, when the answer is lost.
    let mut case = Case::agreed(Strategy::LatestWins);
    case.f.form = Some((v("+1 555"), v("+1555")));
    case.edit("+1 555", 200, 1);
    case.send("+1 555");
    assert_eq!(
        case.decide(&Observation::History(&[version("+1555", 300, Source::Own)])),
        Decision::Settled
    );
    case.rests("+1 555");
}

#[test]
fn an_unheard_form_is_sent_again_and_then_known() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.edit("+1 555", 200, 1);
    case.send("+1 555");
    let history = [version("+1555", 300, Source::Own)];
    assert_eq!(
        case.decide(&Observation::History(&history)),
        Decision::Send(v("+1 555"))
    );
    case.answer("+1 555", "+1555", 310);
    case.own("+1555", 300);
    case.own("+1555", 310);
    case.rests("+1 555");
}
