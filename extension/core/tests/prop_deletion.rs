//! A deletion on one side against edits on the other, and merges.

use hubspot_sync_core::field::{
    Against, ConflictKind, Deleted, Deletion, EditEnd, Effect, FieldState, Policy, Side, Source, Version, Winner,
};
use hubspot_sync_core::mapping::{Direction, Strategy as Strategies};
use hubspot_sync_core::value::Value;
use proptest::prelude::*;

fn policy(direction: Direction, strategy: Strategies) -> Policy {
    Policy {
        direction,
        strategy,
        clock_offset: 0,
        clock_uncertainty: 0,
    }
}

fn foreign(value: &str, at: i64) -> Version {
    Version {
        value: Value::text(value),
        at,
        source: Source::Foreign,
    }
}

/// Both sides agreed on `old`, which HubSpot held since 10.
fn agreed() -> FieldState {
    FieldState {
        base: Some(Value::text("old")),
        seen_at: 10,
        ..FieldState::new(Value::text("old"), 5)
    }
}

fn edited_at(at: i64) -> FieldState {
    FieldState {
        row: Value::text("mine"),
        edited_at: at,
        dirty: true,
        pending_edit: Some(7),
        ..agreed()
    }
}

#[test]
fn each_strategy_weighs_a_deleted_row_against_an_edit_in_hubspot() {
    for (strategy, deleted_at, expected) in [
        (Strategies::WarpWins, 20, Deletion::Stands),
        (Strategies::HubspotWins, 40, Deletion::Yields),
        (Strategies::LatestWins, 40, Deletion::Stands),
        (Strategies::LatestWins, 20, Deletion::Yields),
        (Strategies::LatestWins, 30, Deletion::Yields),
        (Strategies::Manual, 40, Deletion::Waits),
    ] {
        let policy = policy(Direction::Bidirectional, strategy);
        let found = agreed().against_row_deletion(&policy, deleted_at, &[foreign("theirs", 30), foreign("older", 20)]);
        let expected = Against {
            opinion: expected,
            value: Value::text("theirs"),
            at: 30,
        };
        assert_eq!(found, Some(expected), "{strategy} {deleted_at}");
    }
}

#[test]
fn each_strategy_weighs_a_deleted_record_against_an_edit_of_the_row() {
    for (strategy, deleted_at, expected) in [
        (Strategies::WarpWins, 40, Deletion::Yields),
        (Strategies::HubspotWins, 20, Deletion::Stands),
        (Strategies::LatestWins, 20, Deletion::Yields),
        (Strategies::LatestWins, 40, Deletion::Stands),
        (Strategies::LatestWins, 30, Deletion::Stands),
        (Strategies::Manual, 20, Deletion::Waits),
    ] {
        let policy = policy(Direction::Bidirectional, strategy);
        let found = edited_at(30).against_record_deletion(&policy, deleted_at);
        assert_eq!(found.map(|f| f.opinion), Some(expected), "{strategy} {deleted_at}");
    }
}

#[test]
fn what_is_known_or_ours_or_goes_the_other_way_does_not_count() {
    let both = policy(Direction::Bidirectional, Strategies::HubspotWins);
    let state = agreed();
    // Taken into account before.
    assert_eq!(state.against_row_deletion(&both, 99, &[foreign("theirs", 10)]), None);
    // What the row held.
    assert_eq!(state.against_row_deletion(&both, 99, &[foreign("old", 30)]), None);
    // Ours.
    let own = Version {
        source: Source::Own,
        ..foreign("sent", 30)
    };
    assert_eq!(state.against_row_deletion(&both, 99, &[own]), None);
    // An acknowledged write of ours that HubSpot does not name us for.
    let sent = FieldState {
        row: Value::text("newer"),
        own_at: 30,
        ..agreed()
    };
    assert_eq!(sent.against_row_deletion(&both, 99, &[foreign("old", 30)]), None);
    // HubSpot's edits of that property are nobody's concern here.
    let out = policy(Direction::WarpToHubspot, Strategies::LatestWins);
    assert_eq!(state.against_row_deletion(&out, 99, &[foreign("theirs", 30)]), None);
    // Nothing waits; or what waits is HubSpot's own value, to be set back; or it is not sent at all.
    assert_eq!(agreed().against_record_deletion(&both, 1), None);
    let repair = FieldState {
        origin: Side::Hubspot,
        ..edited_at(30)
    };
    assert_eq!(repair.against_record_deletion(&both, 1), None);
    let inward = policy(Direction::HubspotToWarp, Strategies::HubspotWins);
    assert_eq!(edited_at(30).against_record_deletion(&inward, 1), None);
}

#[test]
fn one_edit_that_counts_more_is_enough() {
    assert!(Deletion::Stands < Deletion::Waits && Deletion::Waits < Deletion::Yields);
}

#[test]
fn the_loser_of_a_deletion_is_on_record() {
    let against = Against {
        opinion: Deletion::Stands,
        value: Value::text("mine"),
        at: 30,
    };
    for (verdict, winner, end) in [
        (Deletion::Stands, Some(Winner::Hubspot), Some(EditEnd::Lost)),
        (Deletion::Yields, Some(Winner::Warp), None),
        (Deletion::Waits, None, None),
    ] {
        let (mut state, mut out) = (edited_at(30), Vec::new());
        state.deletion_judged(Deleted::Record(40), &against, verdict, &mut out);
        let Some(Effect::Conflict {
            kind,
            warp_value,
            hubspot_value,
            winner: recorded,
            ..
        }) = out.first()
        else {
            panic!("{out:?}")
        };
        assert_eq!((*kind, recorded), (ConflictKind::DeleteUpdate, &winner));
        assert_eq!((warp_value, hubspot_value), (&Value::text("mine"), &Value::NULL));
        let ended = out.iter().find_map(|e| match e {
            Effect::EditEnded { edit: 7, end } => Some(*end),
            _ => None,
        });
        assert_eq!(ended, end);
        // An edit that did not lose still waits to be sent.
        assert_eq!(state.pending_edit.is_some(), end.is_none());
    }
    let (mut state, mut out) = (agreed(), Vec::new());
    state.deletion_judged(Deleted::Row(40), &against, Deletion::Waits, &mut out);
    assert_eq!(state.seen_at, 30, "the same edit is not weighed twice");
}

fn strategies() -> impl Strategy<Value = Strategies> {
    prop_oneof![
        Just(Strategies::WarpWins),
        Just(Strategies::HubspotWins),
        Just(Strategies::LatestWins),
        Just(Strategies::Manual),
    ]
}

fn directions() -> impl Strategy<Value = Direction> {
    prop_oneof![
        Just(Direction::Bidirectional),
        Just(Direction::WarpToHubspot),
        Just(Direction::HubspotToWarp),
    ]
}

proptest! {
    /// After a merge the two sides are equal, or what makes them equal is on its way, or a person is asked; and where two
    /// different values met, the one that is lost is on record.
    #[test]
    fn a_merge_loses_nothing(
        row in proptest::option::of("[ab]"), there in proptest::option::of("[ab]"), edited in 1i64..9, at in 1i64..9,
        seen in 0i64..9, from_hubspot: bool, dirty: bool, own: bool, strategy in strategies(), direction in directions(),
    ) {
        let value = |text: &Option<String>| text.as_deref().map_or(Value::NULL, Value::text);
        let (row, there) = (value(&row), value(&there));
        let mut state = FieldState {
            base: Some(row.clone()),
            seen_at: seen,
            origin: if from_hubspot { Side::Hubspot } else { Side::Warp },
            dirty,
            pending_edit: dirty.then_some(7),
            ..FieldState::new(row.clone(), edited)
        };
        let policy = policy(direction, strategy);
        let version = Version { source: if own { Source::Own } else { Source::Foreign }, ..foreign("", at) };
        let versions = [Version { value: there.clone(), ..version }];
        let mut out = Vec::new();
        state.merged(&policy, &versions, &mut out);
        prop_assert!(state.row == row || state.row == there, "no third value");
        let writes = out.iter().filter(|e| matches!(e, Effect::WriteRow { .. })).count();
        prop_assert_eq!(writes, usize::from(state.row != row), "the row is told");
        let settled = state.row == there || (state.dirty && direction.sends()) || state.held.is_some();
        prop_assert!(settled || direction == Direction::WarpToHubspot, "{:?}", state);
        if direction == Direction::WarpToHubspot {
            prop_assert!(state.row == there || state.dirty);
        }
        let conflicts = out.iter().filter(|e| matches!(e, Effect::Conflict { .. })).count();
        let meet = direction == Direction::Bidirectional && row != there && !row.is_null() && !there.is_null();
        prop_assert_eq!(conflicts, usize::from(meet));
        if meet {
            match strategy {
                Strategies::WarpWins => prop_assert_eq!(&state.row, &row),
                Strategies::HubspotWins => prop_assert_eq!(&state.row, &there),
                Strategies::LatestWins => prop_assert_eq!(&state.row, if edited > at { &row } else { &there }),
                Strategies::Manual => prop_assert!(state.held.is_some()),
            }
        }
        // An edit that does not wait any more has an end.
        let ended = out.iter().any(|e| matches!(e, Effect::EditEnded { edit: 7, .. }));
        prop_assert_eq!(dirty, ended || state.pending_edit == Some(7));
    }

    /// A row whose record is gone gives all it has to the next one, and nothing of the old one is taken for agreed.
    #[test]
    fn a_row_met_anew_brings_everything(row in proptest::option::of("[ab]"), dirty: bool, direction in directions()) {
        let row = row.as_deref().map_or(Value::NULL, Value::text);
        let mut state = FieldState {
            base: Some(Value::text("old")),
            own_at: 9,
            dirty,
            pending_edit: dirty.then_some(7),
            ..FieldState::new(row.clone(), 5)
        };
        let mut out = Vec::new();
        state.met_anew(&policy(direction, Strategies::LatestWins), &mut out);
        prop_assert_eq!((&state.row, &state.base, state.own_at), (&row, &None, 0));
        prop_assert_eq!(state.dirty, direction.sends() && (!row.is_null() || dirty));
        prop_assert_eq!(state.pending_edit, dirty.then_some(7));
    }
}
