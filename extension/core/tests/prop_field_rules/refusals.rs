//! Values that HubSpot refuses.

use crate::case::{Case, ended, v};
use hubspot_sync_core::field::{Decision, EditEnd, Observation};
use hubspot_sync_core::mapping::Strategy;

#[test]
fn a_refused_value_is_parked_until_a_retry() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.edit("new", 200, 1);
    case.send("new");
    case.f.refuse(case.f.generation, &mut case.out);
    assert_eq!(case.effects(), [ended(1, EditEnd::Failed)]);
    assert!(case.f.parked && case.f.dirty && !case.f.needs_delivery());
    assert_eq!(case.decide(&Observation::Nothing), Decision::Settled);
    case.f.retry();
    case.send("new");
    case.answer("new", "new", 400);
    case.rests("new");
    assert_eq!(case.effects(), [ended(1, EditEnd::Delivered)]);
    let before = case.f.clone();
    case.f.retry();
    assert_eq!(case.f, before, "nothing is parked");
}

#[test]
fn an_edit_frees_a_parked_field() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.edit("bad", 200, 1);
    case.send("bad");
    case.f.refuse(case.f.generation, &mut case.out);
    case.effects();
    case.edit("good", 210, 2);
    assert_eq!(case.effects(), [ended(1, EditEnd::Superseded)]);
    case.send("good");
}

#[test]
fn a_refusal_of_what_was_edited_meanwhile_parks_nothing() {
    let mut case = Case::agreed(Strategy::LatestWins);
    case.edit("bad", 200, 1);
    case.send("bad");
    let generation = case.f.generation;
    case.edit("good", 210, 2);
    case.f.refuse(generation, &mut case.out);
    assert_eq!(case.effects(), [ended(1, EditEnd::Superseded)]);
    assert!(!case.f.parked);
    case.send("good");
}

#[test]
fn hubspots_winning_edit_frees_a_parked_field() {
    for (strategy, row, parked) in [
        (Strategy::HubspotWins, "theirs", false),
        (Strategy::WarpWins, "bad", true),
    ] {
        let mut case = Case::agreed(strategy);
        case.edit("bad", 200, 1);
        case.send("bad");
        case.f.refuse(case.f.generation, &mut case.out);
        case.foreign("theirs", 300);
        assert_eq!((case.f.row.clone(), case.f.parked), (v(row), parked));
        assert!(!case.f.needs_delivery());
    }
}
