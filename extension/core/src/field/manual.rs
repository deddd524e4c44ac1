//! A person's decision about an open conflict.

use super::{EditEnd, Effect, FieldState, Side, Winner};
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

    /// The row's value is what a person chose, now.
    fn decided_here(&mut self, at: i64) {
        self.edited_at = at;
        self.origin = Side::Warp;
        self.generation += 1;
        self.dirty = true;
        self.parked = false;
    }
}
