//! What is stored for one field of one record, and what its mapping says about it.

use super::rules::{self, Rule};
use crate::mapping::{Direction, Strategy};
use crate::value::Value;
use serde::{Deserialize, Serialize};

/// The side on which the row's present value was last edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Somebody changed the row.
    Warp,
    /// The value came from HubSpot.
    Hubspot,
}

/// A write that was (perhaps) sent and whose outcome is not known. Stored durably before the request leaves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InFlight {
    /// The value sent.
    pub value: Value,
    /// When that value was edited.
    pub edited_at: i64,
    /// The generation it was taken from; together with `value` it identifies the write.
    pub generation: i64,
    /// The ledger entry of the edit it carries; `None` for a repair.
    pub edit: Option<i64>,
    /// HubSpot's instant of a change that is known to have come before this write was sent; 0: none is known.
    pub after: i64,
}

/// An open `MANUAL` conflict: neither side is written until a person decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// HubSpot's side of the conflict.
    pub hubspot_value: Value,
    /// When HubSpot's value was edited, in HubSpot's time.
    pub hubspot_at: i64,
    /// HubSpot no longer holds `hubspot_value` because a write of ours landed over it: choosing it means delivering it.
    pub buried: bool,
}

/// The state of one field of one linked record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldState {
    /// The row's value (W).
    pub row: Value,
    /// When `row` was last edited (t_w): the database's clock for [`Side::Warp`], HubSpot's for [`Side::Hubspot`].
    pub edited_at: i64,
    /// Where `row` was last edited.
    pub origin: Side,
    /// Rises with every change of `row`, and with news that makes an earlier read of HubSpot out of date.
    pub generation: i64,
    /// HubSpot must be given `row`.
    pub dirty: bool,
    /// The value both sides last agreed on (B); `None` before the first agreement.
    pub base: Option<Value>,
    /// HubSpot's instant of the newest foreign edit taken into account (h_seen).
    pub seen_at: i64,
    /// HubSpot's instant of our newest write known to have landed (own_ts).
    pub own_at: i64,
    /// A write whose outcome is not known.
    pub in_flight: Option<InFlight>,
    /// The ledger entry of the local edit that waits to be delivered.
    pub pending_edit: Option<i64>,
    /// A write of ours was given up: nobody can say that it will not land yet. From then on a cached value is not enough.
    pub given_up: bool,
    /// An open `MANUAL` conflict.
    pub held: Option<Held>,
    /// HubSpot refused the value (or it could not be converted): not sent again until edited or retried.
    pub parked: bool,
    /// What HubSpot made of a value of ours when it stored it in another form: (sent, returned).
    pub form: Option<(Value, Value)>,
}

/// What the mapping says about a field, and what is known of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which way values may flow.
    pub direction: Direction,
    /// Who wins a conflict.
    pub strategy: Strategy,
    /// HubSpot's clock minus the database's, in microseconds; 0 when not measured.
    pub clock_offset: i64,
    /// How far `clock_offset` may be off, in microseconds: two edits closer than this are a tie.
    pub clock_uncertainty: i64,
}

impl FieldState {
    /// A field seen for the first time: the row holds `row`, edited at `edited_at`, and nothing is agreed yet.
    pub fn new(row: Value, edited_at: i64) -> FieldState {
        FieldState {
            row,
            edited_at,
            origin: Side::Warp,
            generation: 1,
            dirty: false,
            base: None,
            seen_at: 0,
            own_at: 0,
            in_flight: None,
            pending_edit: None,
            given_up: false,
            held: None,
            parked: false,
            form: None,
        }
    }

    /// Whether there is something for a relay to do: a value to deliver or an outcome to find out.
    pub fn needs_delivery(&self) -> bool {
        (self.dirty && !self.is_held() && !self.parked) || self.in_flight.is_some()
    }

    /// Whether a person has to decide first.
    fn is_held(&self) -> bool {
        self.held.is_some() && rules::on(Rule::ManualHolds)
    }

    /// Whether HubSpot holding `remote` means that it holds `ours`: equal, or the form HubSpot is known to give it.
    pub fn same(&self, remote: &Value, ours: &Value) -> bool {
        remote == ours || matches!(&self.form, Some((sent, returned)) if sent == ours && returned == remote)
    }

    /// Whether the row's side wins against a HubSpot edit at `hubspot_at`, for a value edited at `edited_at`.
    /// `None`: a person decides.
    pub(super) fn warp_wins(&self, policy: &Policy, edited_at: i64, hubspot_at: i64) -> Option<bool> {
        if self.origin == Side::Hubspot && rules::on(Rule::RepairIsNoConflict) {
            // We are only repairing HubSpot's own value: its newer edit is no conflict, and both times are HubSpot's.
            return Some(edited_at > hubspot_at);
        }
        match policy.strategy {
            Strategy::WarpWins => Some(true),
            Strategy::HubspotWins => Some(false),
            // Ties go to HubSpot, and so do edits closer than the clocks can be compared.
            Strategy::LatestWins if !rules::on(Rule::TiesToHubspot) => {
                Some(policy.lead(edited_at, hubspot_at) >= -policy.clock_uncertainty)
            }
            Strategy::LatestWins => Some(policy.lead(edited_at, hubspot_at) > policy.clock_uncertainty),
            Strategy::Manual => None,
        }
    }
}

impl Policy {
    /// How much later the row was edited than HubSpot, in microseconds of HubSpot's clock; negative when earlier.
    pub fn lead(&self, edited_at: i64, hubspot_at: i64) -> i64 {
        edited_at.saturating_add(self.clock_offset).saturating_sub(hubspot_at)
    }

    /// Whether the two edits are too close for the clocks to tell which came first.
    pub fn is_tie(&self, edited_at: i64, hubspot_at: i64) -> bool {
        self.lead(edited_at, hubspot_at).abs() <= self.clock_uncertainty
    }
}
