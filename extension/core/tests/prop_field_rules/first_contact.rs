//! First contact of two sides that never agreed.

use crate::case::{Case, ended, v, version};
use hubspot_sync_core::field::{ConflictKind, EditEnd, Effect, Source, Winner};
use hubspot_sync_core::mapping::{Direction, Strategy};
use hubspot_sync_core::value::Value;

/// What is left after first contact: the row, whether HubSpot must be given it, what is agreed, whether it is held.
type Met = (&'static str, bool, Option<&'static str>, bool);

#[test]
fn first_contact_matrix() {
    use Direction::{Bidirectional as Both, HubspotToWarp as In, None as Off, WarpToHubspot as Out};
    use Strategy::{HubspotWins, LatestWins, Manual, WarpWins};
    // Direction, strategy, row, HubSpot's value and instant; the row was edited at 100.
    let table: [(Direction, Strategy, &'static str, &'static str, i64, Met); 23] = [
        (Both, WarpWins, "a", "a", 50, ("a", false, Some("a"), false)),
        (Both, Manual, "", "", 50, ("", false, Some(""), false)),
        (Both, HubspotWins, "a", "", 150, ("a", true, None, false)),
        (Both, LatestWins, "a", "", 150, ("a", true, None, false)),
        (Both, Manual, "a", "", 150, ("a", true, None, false)),
        (Both, WarpWins, "", "b", 50, ("b", false, Some("b"), false)),
        (Both, LatestWins, "", "b", 50, ("b", false, Some("b"), false)),
        (Both, Manual, "", "b", 50, ("b", false, Some("b"), false)),
        (Both, WarpWins, "a", "b", 150, ("a", true, None, false)),
        (Both, HubspotWins, "a", "b", 50, ("b", false, Some("b"), false)),
        (Both, LatestWins, "a", "b", 50, ("a", true, None, false)),
        (Both, LatestWins, "a", "b", 100, ("b", false, Some("b"), false)),
        (Both, LatestWins, "a", "b", 150, ("b", false, Some("b"), false)),
        (Both, Manual, "a", "b", 150, ("a", true, None, true)),
        (Out, WarpWins, "a", "b", 150, ("a", true, None, false)),
        (Out, WarpWins, "a", "a", 150, ("a", false, Some("a"), false)),
        (Out, WarpWins, "", "b", 150, ("", false, None, false)),
        (Out, WarpWins, "a", "", 150, ("a", true, None, false)),
        (In, HubspotWins, "a", "b", 50, ("b", false, Some("b"), false)),
        (In, HubspotWins, "", "b", 50, ("b", false, Some("b"), false)),
        (In, HubspotWins, "a", "", 50, ("a", false, None, false)),
        (In, HubspotWins, "a", "a", 50, ("a", false, Some("a"), false)),
        (Off, WarpWins, "a", "b", 50, ("a", false, None, false)),
    ];
    for (direction, strategy, row, value, at, met) in table {
        let mut case = Case::unmet(direction, strategy, row);
        case.f.first_contact(&case.policy, &v(value), at, &mut case.out);
        let base = case.f.base.as_ref().map(|b| b.as_deref().unwrap_or(""));
        let got = (
            case.f.row.as_deref().unwrap_or(""),
            case.f.dirty,
            base,
            case.f.held.is_some(),
        );
        assert_eq!(
            got, met,
            "{direction:?} {strategy:?} row {row:?} HubSpot {value:?} at {at}"
        );
        let conflicts: Vec<_> = case
            .effects()
            .into_iter()
            .filter(|e| matches!(e, Effect::Conflict { .. }))
            .collect();
        let differ = direction == Both && !row.is_empty() && !value.is_empty() && row != value;
        assert_eq!(
            conflicts.len(),
            usize::from(differ),
            "{direction:?} {strategy:?} {row:?} {value:?}"
        );
        for conflict in conflicts {
            let Effect::Conflict { kind, winner, base, .. } = conflict else {
                unreachable!()
            };
            assert_eq!((kind, base), (ConflictKind::InitialMismatch, None));
            let expected = match strategy {
                Manual => None,
                _ if met.1 => Some(Winner::Warp),
                _ => Some(Winner::Hubspot),
            };
            assert_eq!(winner, expected);
        }
    }
}

#[test]
fn first_contact_ends_the_waiting_edit_in_every_direction() {
    for (direction, row, value, end) in [
        (Direction::Bidirectional, "a", "a", Some(EditEnd::Delivered)),
        (Direction::Bidirectional, "", "b", Some(EditEnd::Superseded)),
        (Direction::Bidirectional, "a", "", None),
        (Direction::WarpToHubspot, "a", "b", None),
        (Direction::WarpToHubspot, "", "b", Some(EditEnd::Superseded)),
    ] {
        let mut case = Case::unmet(direction, Strategy::WarpWins, "before");
        case.edit(row, 110, 1);
        case.f.first_contact(&case.policy, &v(value), 50, &mut case.out);
        let ends: Vec<_> = case
            .effects()
            .into_iter()
            .filter(|e| matches!(e, Effect::EditEnded { .. }))
            .collect();
        assert_eq!(
            ends,
            end.map(|e| ended(1, e)).into_iter().collect::<Vec<_>>(),
            "{direction:?} {row:?} {value:?}"
        );
        assert_eq!(case.f.pending_edit, end.is_none().then_some(1));
        assert_eq!(case.f.needs_delivery(), end.is_none());
    }
}

#[test]
fn first_contact_happens_once() {
    let mut case = Case::agreed(Strategy::HubspotWins);
    case.f.first_contact(&case.policy, &v("theirs"), 900, &mut case.out);
    case.rests("old");
    let mut case = Case::held();
    let before = case.f.clone();
    case.f.first_contact(&case.policy, &v("other"), 900, &mut case.out);
    assert_eq!(case.f, before);
    assert!(case.effects().is_empty());
}

#[test]
fn a_history_seen_before_the_first_agreement_counts_by_its_newest_version_only() {
    let mut case = Case::unmet(Direction::Bidirectional, Strategy::HubspotWins, "a");
    let history = [
        version("y", 20, Source::Foreign),
        version("z", 30, Source::Foreign),
        version("x", 10, Source::Foreign),
    ];
    case.f.learn(&case.policy, &history, &mut case.out);
    case.rests("z");
    assert_eq!(case.effects().len(), 2, "a conflict and a row");
}

#[test]
fn a_created_record_is_empty_on_both_sides() {
    let mut case = Case::unmet(Direction::Bidirectional, Strategy::WarpWins, "a");
    case.edit("", 110, 1);
    case.f.created_empty(&mut case.out);
    case.rests("");
    assert_eq!(case.f.base, Some(Value::NULL));
    assert_eq!(case.effects(), [ended(1, EditEnd::Delivered)]);
}
