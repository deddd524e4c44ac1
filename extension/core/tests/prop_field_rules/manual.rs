//! `MANUAL` conflicts: held, followed, resolved.

use crate::case::{Case, ended, noted, v, version, wrote};
use hubspot_sync_core::field::{
    ConflictKind, Decision, EditEnd, Effect, Intake, Note, Observation, Read, Side, Source, Winner,
};
use hubspot_sync_core::mapping::Strategy;
use hubspot_sync_core::value::Value;

#[test]
fn a_manual_conflict_holds_both_sides_and_follows_them() {
    let mut case = Case::agreed(Strategy::Manual);
    case.edit("new", 200, 1);
    assert_eq!(
        case.f.read_needed(&case.policy, true),
        Read::Value,
        "a cached value is not enough"
    );
    assert_eq!(
        case.decide(&Observation::Value(&v("theirs"), 0)),
        Decision::Read(Read::History)
    );
    let history = [
        version("old", 50, Source::Foreign),
        version("theirs", 150, Source::Foreign),
    ];
    case.f.seen_at = 50;
    assert_eq!(case.decide(&Observation::History(&history)), Decision::Settled);
    assert!(matches!(
        case.effects()[..],
        [Effect::Conflict {
            kind: ConflictKind::BothModified,
            winner: None,
            ..
        }]
    ));
    case.edit("newer", 210, 2);
    assert_eq!(case.foreign("theirs too", 220), Intake::Taken);
    let effects = case.effects();
    assert_eq!(effects[0], ended(1, EditEnd::Superseded));
    assert!(matches!(
        &effects[1],
        Effect::ConflictUpdated {
            warp_at: 210,
            hubspot_at: 150,
            ..
        }
    ));
    assert!(matches!(
        &effects[2],
        Effect::ConflictUpdated {
            warp_at: 210,
            hubspot_at: 220,
            ..
        }
    ));
    assert_eq!(effects.len(), 3);
    assert!(!case.f.needs_delivery());
    assert_eq!(case.f.row, v("newer"));
}

#[test]
fn a_held_conflict_settles_when_both_sides_agree_by_themselves() {
    let mut case = Case::held();
    case.foreign("new", 400);
    case.rests("new");
    assert_eq!(
        case.effects(),
        [
            Effect::ConflictSettled,
            ended(1, EditEnd::Delivered),
            noted(Note::AlreadyEqual, "new", 400)
        ]
    );
}

#[test]
fn resolving_for_the_row_delivers_it() {
    let mut case = Case::held();
    assert!(case.f.resolve(Winner::Warp, &Value::NULL, 500, &mut case.out));
    assert!(case.effects().is_empty() && case.f.held.is_none());
    assert_eq!(
        case.decide(&Observation::Value(&v("theirs"), 0)),
        Decision::Read(Read::History)
    );
    let history = [version("theirs", 300, Source::Foreign)];
    assert_eq!(case.decide(&Observation::History(&history)), Decision::Send(v("new")));
    case.answer("new", "new", 510);
    case.rests("new");
    assert_eq!(case.effects(), [ended(1, EditEnd::Delivered)]);
}

#[test]
fn resolving_for_hubspot_writes_the_row_only() {
    let mut case = Case::held();
    assert!(case.f.resolve(Winner::Hubspot, &Value::NULL, 500, &mut case.out));
    case.rests("theirs");
    assert_eq!(case.effects(), [ended(1, EditEnd::Lost), wrote("theirs", 300)]);
}

#[test]
fn resolving_for_a_third_value_writes_both() {
    let mut case = Case::held();
    assert!(case.f.resolve(Winner::Value, &v("third"), 500, &mut case.out));
    assert_eq!(case.effects(), [ended(1, EditEnd::Lost), wrote("third", 500)]);
    assert_eq!(
        case.decide(&Observation::History(&[version("theirs", 300, Source::Foreign)])),
        Decision::Send(v("third"))
    );
    case.answer("third", "third", 510);
    case.rests("third");
    assert!(case.effects().is_empty());
    // The row's own value given by name is the row's value winning.
    let mut case = Case::held();
    assert!(case.f.resolve(Winner::Value, &v("new"), 500, &mut case.out));
    assert!(case.effects().is_empty() && case.f.needs_delivery());
    assert_eq!(case.f.pending_edit, Some(1));
}

#[test]
fn resolving_for_a_buried_value_sets_hubspot_back() {
    let mut case = Case::delivered(Strategy::Manual);
    case.foreign("theirs", 250);
    assert!(case.f.held.as_ref().is_some_and(|h| h.buried) && !case.f.needs_delivery());
    case.effects();
    assert!(case.f.resolve(Winner::Hubspot, &Value::NULL, 500, &mut case.out));
    assert_eq!(case.effects(), [wrote("theirs", 250)]);
    assert_eq!(case.f.origin, Side::Hubspot);
    case.send("theirs");
    case.answer("theirs", "theirs", 510);
    case.rests("theirs");
    assert!(case.effects().is_empty());
}

#[test]
fn a_late_write_under_a_held_conflict_buries_hubspots_side() {
    let mut case = Case::held();
    assert_eq!(case.own("older", 400), Intake::Taken);
    assert!(!case.f.needs_delivery(), "still held");
    case.effects();
    assert!(case.f.resolve(Winner::Hubspot, &Value::NULL, 500, &mut case.out));
    assert_eq!(case.effects(), [ended(1, EditEnd::Lost), wrote("theirs", 300)]);
    case.send("theirs");
}

#[test]
fn nothing_to_resolve_changes_nothing() {
    let mut case = Case::delivered(Strategy::Manual);
    let before = case.f.clone();
    assert!(!case.f.resolve(Winner::Value, &v("third"), 500, &mut case.out));
    assert_eq!(case.f, before);
    assert!(case.effects().is_empty());
}
