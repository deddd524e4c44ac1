//! A switch per rule of the machine, for its model checker only: the checker takes one rule out and must find what goes
//! wrong. Without the feature `rule-switches` every rule is always on and nothing of this is left in the build.

/// One rule of the machine that can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rustfmt::skip]
#[allow(missing_docs)] // `Rule::ALL` says what each is.
pub enum Rule {
    StopWhenMoved, InFlightDurable, LookAfterUnknown, ForeignWaits, StaleDropped, BuriedDetected, BuriedDeliveredBack,
    MovedStaysDirty, EqualNeedsNoWrite, ThereAndBackLooks,
    LateOwnWriteDirties, EchoCompletes, OwnWaits, InFlightNewerThanOwn, InFlightNewerThanRead, RepairIsNoConflict,
    OursByInstant, AcknowledgedIsOurs, TiesToHubspot, ManualHolds, HeldBuried, EmptyYields, FirstContactByNewest, FirstContactNotBuried,
    NewsOutdatesReads, OldReadSettlesNothing, EqualIsNotSent, EqualMayBeOld, DifferentNeedsHistory, ManualAlwaysLooks, GivenUpAlwaysLooks,
    SendsByDirection, ReceivesByDirection, WaitingSkipped, BuriedNeedsSending, OwnTakenWhereNotSent,
}

impl Rule {
    /// Every rule and what it says.
    #[rustfmt::skip]
    pub const ALL: [(Rule, &'static str); 36] = [
        (Rule::StopWhenMoved, "a decision ends when the generation moved since the claim"),
        (Rule::InFlightDurable, "a write is recorded durably before its request leaves"),
        (Rule::LookAfterUnknown, "after an unknown outcome the history is read before anything is sent"),
        (Rule::ForeignWaits, "a foreign edit waits while the outcome of a write is unknown"),
        (Rule::StaleDropped, "a foreign version not newer than h_seen is dropped"),
        (Rule::BuriedDetected, "a foreign version older than own_ts was buried: a conflict"),
        (Rule::BuriedDeliveredBack, "a buried edit that wins is delivered back to HubSpot"),
        (Rule::MovedStaysDirty, "a field that moved under its write stays dirty"),
        (Rule::EqualNeedsNoWrite, "a field that moved under its write and is equal needs no other write"),
        (Rule::ThereAndBackLooks, "a field that moved there and back under its write is looked at once more"),
        (Rule::LateOwnWriteDirties, "a late write of ours over something newer makes the field dirty"),
        (Rule::EchoCompletes, "the echo tells the outcome before the answer does"),
        (Rule::OwnWaits, "a version of ours of another value waits while the outcome of a write is unknown"),
        (Rule::InFlightNewerThanOwn, "a version not newer than own_ts is not the write in flight"),
        (Rule::InFlightNewerThanRead, "a version older than the last change that was read before a write is not that write"),
        (Rule::RepairIsNoConflict, "HubSpot's newer edit of a value we only set back wins and is no conflict"),
        (Rule::OursByInstant, "an equal value alone is not ours: the instant must be that of our write"),
        (Rule::AcknowledgedIsOurs, "value and instant of an acknowledged write are ours, whoever HubSpot names"),
        (Rule::TiesToHubspot, "LATEST_WINS: a tie goes to HubSpot"),
        (Rule::ManualHolds, "a MANUAL conflict holds both sides"),
        (Rule::HeldBuried, "a late write of ours under an open conflict buries HubSpot's side of it"),
        (Rule::EmptyYields, "at first contact an empty side yields to a filled one"),
        (Rule::FirstContactByNewest, "before the first agreement only HubSpot's newest version counts"),
        (Rule::FirstContactNotBuried, "a version that a write of ours is known to have buried is no first contact"),
        (Rule::NewsOutdatesReads, "news of a dirty field makes earlier reads of HubSpot out of date"),
        (Rule::OldReadSettlesNothing, "a history that ends before what is known settles nothing"),
        (Rule::EqualIsNotSent, "what HubSpot holds already is not sent"),
        (Rule::EqualMayBeOld, "an equal foreign edit that would lose settles nothing: HubSpot may hold a later one"),
        (Rule::DifferentNeedsHistory, "a plain read that shows neither W nor B asks for the history"),
        (Rule::ManualAlwaysLooks, "MANUAL never skips the read for a cached value"),
        (Rule::GivenUpAlwaysLooks, "once a write was given up, a cached value is not enough to send over"),
        (Rule::SendsByDirection, "a direction that does not send skips local edits"),
        (Rule::ReceivesByDirection, "a direction that does not receive skips foreign edits"),
        (Rule::WaitingSkipped, "what waits to be sent is skipped when the direction no longer sends"),
        (Rule::BuriedNeedsSending, "a buried edit changes nothing where it could not be delivered back"),
        (Rule::OwnTakenWhereNotSent, "where nothing is sent, the row is given what a late write of ours left in HubSpot"),
    ];
}

#[cfg(feature = "rule-switches")]
thread_local! {
    static OFF: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Takes a rule out on this thread; `None` puts all of them back.
#[cfg(feature = "rule-switches")]
pub fn without(rule: Option<Rule>) {
    OFF.set(rule);
}

/// Whether the rule holds on this thread.
#[cfg(feature = "rule-switches")]
pub fn on(rule: Rule) -> bool {
    OFF.get() != Some(rule)
}

/// Whether the rule holds: it does.
#[cfg(not(feature = "rule-switches"))]
#[inline(always)]
pub(crate) const fn on(_: Rule) -> bool {
    true
}
