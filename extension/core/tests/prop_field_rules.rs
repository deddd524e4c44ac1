//! The rules of the per-field state machine one by one: what each event does to the state, and which effects it has.

use hubspot_sync_core::field::{
    ConflictKind, Decision, EditEnd, Effect, FieldState, Intake, Note, Observation, Policy, Read, Side, Source,
    Version, Winner,
};
use hubspot_sync_core::mapping::{Direction, Strategy};
use hubspot_sync_core::value::Value;

const TWO_WAY: [Strategy; 4] = [
    Strategy::LatestWins,
    Strategy::WarpWins,
    Strategy::HubspotWins,
    Strategy::Manual,
];

/// A field and what it caused since it was last asked.
struct Case {
    f: FieldState,
    policy: Policy,
    out: Vec<Effect>,
}

fn v(text: &str) -> Value {
    Value::text(text)
}

fn policy(direction: Direction, strategy: Strategy) -> Policy {
    Policy {
        direction,
        strategy,
        clock_offset: 0,
        clock_uncertainty: 0,
    }
}

fn ended(edit: i64, end: EditEnd) -> Effect {
    Effect::EditEnded { edit, end }
}

fn wrote(value: &str, at: i64) -> Effect {
    Effect::WriteRow { value: v(value), at }
}

fn noted(note: Note, value: &str, at: i64) -> Effect {
    Effect::Noted {
        note,
        value: v(value),
        at,
    }
}

fn version(value: &str, at: i64, source: Source) -> Version {
    Version {
        value: v(value),
        at,
        source,
    }
}

impl Case {
    /// Nothing is agreed yet; the row's value was edited at 100.
    fn unmet(direction: Direction, strategy: Strategy, row: &str) -> Case {
        Case {
            f: FieldState::new(v(row), 100),
            policy: policy(direction, strategy),
            out: Vec::new(),
        }
    }

    /// Both sides hold `old`.
    fn agreed(strategy: Strategy) -> Case {
        let mut case = Case::unmet(Direction::Bidirectional, strategy, "old");
        case.f.base = Some(v("old"));
        case
    }

    /// Our `new`, edited at 200 as edit 1, is acknowledged as of 300.
    fn delivered(strategy: Strategy) -> Case {
        let mut case = Case::agreed(strategy);
        case.edit("new", 200, 1);
        case.send("new");
        case.answer("new", "new", 300);
        assert_eq!(case.effects(), [ended(1, EditEnd::Delivered)]);
        case
    }

    /// `new` (edit 1, at 200) is held against `theirs` of 300.
    fn held() -> Case {
        let mut case = Case::agreed(Strategy::Manual);
        case.edit("new", 200, 1);
        assert_eq!(case.foreign("theirs", 300), Intake::Taken);
        case.effects();
        assert!(case.f.held.is_some() && !case.f.needs_delivery());
        case
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.out)
    }

    fn edit(&mut self, value: &str, at: i64, id: i64) {
        self.f.local_edit(&self.policy, v(value), at, Some(id), &mut self.out);
    }

    fn foreign(&mut self, value: &str, at: i64) -> Intake {
        self.f
            .inbound(&self.policy, &v(value), at, Source::Foreign, &mut self.out)
    }

    fn own(&mut self, value: &str, at: i64) -> Intake {
        self.f.inbound(&self.policy, &v(value), at, Source::Own, &mut self.out)
    }

    fn decide(&mut self, seen: &Observation<'_>) -> Decision {
        self.f.decide(&self.policy, self.f.generation, seen, &mut self.out)
    }

    fn send(&mut self, value: &str) {
        assert_eq!(self.decide(&Observation::Nothing), Decision::Send(v(value)));
    }

    /// HubSpot answers the write in flight.
    fn answer(&mut self, sent: &str, returned: &str, at: i64) {
        let generation = self.f.in_flight.as_ref().expect("a write in flight").generation;
        self.f
            .complete(&self.policy, &v(sent), &v(returned), at, generation, &mut self.out);
    }

    #[track_caller]
    fn rests(&self, row: &str) {
        assert_eq!(self.f.row, v(row));
        assert!(!self.f.needs_delivery() && !self.f.dirty && self.f.held.is_none() && self.f.pending_edit.is_none());
    }
}

// First contact.

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

// Manual conflicts.

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

// Refusals.

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

// Forms.

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

// Webhooks.

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

// Writes that do not go as planned.

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

// Edits and directions.

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
