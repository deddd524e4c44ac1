//! A person's decision about an open conflict.

use super::{EditEnd, Effect, FieldState, Held, Side, Winner};
use crate::value::Value;

impl FieldState {
    /// Resolves the open conflict. `value` is used with [`Winner::Value`] only; `at` is the database's clock.
    ///
    /// Returns false, and changes nothing, when no conflict is open.
    pub fn resolve(&mut self, winner: Winner, value: &Value, at: i64, out: &mut Vec<Effect>) -> bool {
        let Some(held) = self.held.take() else { return false };
        match winner {
            Winner::Warp => self.decided_here(at),
            Winner::Value => {
                if *value != self.row {
                    self.end_pending(EditEnd::Lost, out);
                    out.push(Effect::WriteRow {
                        value: value.clone(),
                        at,
                    });
                    self.row = value.clone();
                }
                self.decided_here(at);
            }
            Winner::Hubspot => {
                self.end_pending(EditEnd::Lost, out);
                self.write_row(held.hubspot_value, held.hubspot_at, held.buried, out);
            }
        }
        true
    }

    /// Opens a resolved conflict again: the row gets its side's value back, and the field is held. Nothing may have happened
    /// to the field since; the caller compares [`FieldState::generation`].
    ///
    /// Returns false, and changes nothing, while a write is on its way or a conflict is open.
    pub fn reopen(
        &mut self,
        warp_value: &Value,
        warp_at: i64,
        hubspot_value: &Value,
        hubspot_at: i64,
        out: &mut Vec<Effect>,
    ) -> bool {
        if self.in_flight.is_some() || self.held.is_some() {
            return false;
        }
        if *warp_value != self.row {
            out.push(Effect::WriteRow {
                value: warp_value.clone(),
                at: warp_at,
            });
            self.row = warp_value.clone();
        }
        self.end_pending(EditEnd::Superseded, out);
        self.edited_at = warp_at;
        self.origin = Side::Warp;
        self.generation += 1;
        self.dirty = true;
        // When our side was delivered meanwhile, choosing HubSpot's means delivering it.
        let buried = self.own_at > hubspot_at;
        self.held = Some(Held {
            hubspot_value: hubspot_value.clone(),
            hubspot_at,
            buried,
        });
        true
    }

    /// The row's value is what a person chose, now.
    fn decided_here(&mut self, at: i64) {
        self.edited_at = at;
        self.origin = Side::Warp;
        self.generation += 1;
        self.dirty = true;
        self.parked = false;
    }
}
