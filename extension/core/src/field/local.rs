//! Events of the row's side: a captured edit, and HubSpot's value written into the row.

use super::rules::{self, Rule};
use super::{EditEnd, Effect, FieldState, Policy, Side};
use crate::value::Value;

impl FieldState {
    /// Somebody changed the row's value. `edit` is the ledger entry to be told how the edit ended.
    ///
    /// A value that is known already (the row was read after the edit) ends as unchanged. For a direction that does
    /// not send, the edit ends as skipped.
    pub fn local_edit(&mut self, policy: &Policy, value: Value, at: i64, edit: Option<i64>, out: &mut Vec<Effect>) {
        if value == self.row && !self.dirty {
            end(edit, EditEnd::Unchanged, out);
            return;
        }
        self.row = value;
        self.edited_at = at;
        self.origin = Side::Warp;
        self.generation += 1;
        if !policy.direction.sends() && rules::on(Rule::SendsByDirection) {
            end(edit, EditEnd::Skipped, out);
            return;
        }
        self.dirty = true;
        self.parked = false;
        self.supersede_pending(out);
        self.pending_edit = edit;
        let Some(held) = &self.held else { return };
        if held.hubspot_value == self.row {
            // Both sides hold the same value again: nobody has to decide. When a write of ours had buried HubSpot's value,
            // it is delivered back.
            if held.buried {
                self.held = None;
                out.push(Effect::ConflictSettled);
            } else {
                self.agree(out);
            }
            return;
        }
        out.push(Effect::ConflictUpdated {
            warp_value: self.row.clone(),
            warp_at: at,
            hubspot_value: held.hubspot_value.clone(),
            hubspot_at: held.hubspot_at,
        });
    }

    /// The row must hold HubSpot's `value`, edited there at `at`. With `deliver`, HubSpot itself must be set back to it.
    pub(super) fn write_row(&mut self, value: Value, at: i64, deliver: bool, out: &mut Vec<Effect>) {
        if value != self.row {
            out.push(Effect::WriteRow {
                value: value.clone(),
                at,
            });
        }
        self.row = value;
        self.edited_at = at;
        self.origin = Side::Hubspot;
        self.dirty = deliver;
        self.parked = false;
        self.generation += 1;
        self.held = None;
        if !deliver {
            self.base = Some(self.row.clone());
        }
    }

    /// When the direction does not send (any more), what waits to be sent is skipped. An open conflict keeps its edit.
    pub(super) fn skip_waiting(&mut self, policy: &Policy, out: &mut Vec<Effect>) {
        if policy.direction.sends() || self.held.is_some() || !rules::on(Rule::WaitingSkipped) {
            return;
        }
        self.dirty = false;
        self.parked = false;
        self.end_pending(EditEnd::Skipped, out);
    }

    /// The row is gone: whatever waited or was under way for it ends as superseded by the deletion.
    pub fn abandon(&mut self, out: &mut Vec<Effect>) {
        self.forget_in_flight(out);
        self.end_pending(EditEnd::Superseded, out);
        self.dirty = false;
        self.parked = false;
        self.generation += 1;
        if self.held.take().is_some() {
            out.push(Effect::ConflictSettled);
        }
    }

    /// Ends the waiting edit as superseded, unless it is the one in flight, whose outcome will tell.
    fn supersede_pending(&mut self, out: &mut Vec<Effect>) {
        let flying = self.in_flight.as_ref().and_then(|f| f.edit);
        if self.pending_edit != flying {
            end(self.pending_edit, EditEnd::Superseded, out);
        }
        self.pending_edit = None;
    }

    /// Ends the waiting edit, if there is one.
    pub(super) fn end_pending(&mut self, how: EditEnd, out: &mut Vec<Effect>) {
        end(self.pending_edit.take(), how, out);
    }
}

pub(super) fn end(edit: Option<i64>, end: EditEnd, out: &mut Vec<Effect>) {
    if let Some(edit) = edit {
        out.push(Effect::EditEnded { edit, end });
    }
}
