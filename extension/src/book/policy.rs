//! A mapping may name a function that decides a field's conflicts instead of a person.
//!
//! It runs as its owner, in a subtransaction: when it fails, or answers something else than it should, the conflict simply
//! stays open for a person, and the log says why.

use super::Record;
use crate::catalog::{Clock, Field};
use crate::spi;
use hubspot_sync_core::field::{Effect, Winner};
use hubspot_sync_core::value::{self, Value};
use serde_json::json;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

/// Asks the field's function about the conflict that was just opened.
pub(super) fn decide(record: &mut Record, field: &Rc<Field>, clock: Clock, now: i64) {
    let (Some(call), Some(owner)) = (&field.policy_call, field.policy_owner) else {
        return;
    };
    let state = &record.entry(field).state;
    let Some(held) = state.held.clone() else { return };
    let arg = json!({
        "warp_value": state.row, "warp_us": state.edited_at, "hubspot_value": held.hubspot_value, "hubspot_us": held.hubspot_at,
        "base_value": state.base,
    });
    let sql = format!(
        "SELECT json_build_object('winner', r.winner, 'value', r.value)::text FROM {call}(
           $1::json->>'warp_value', to_timestamp(($1::json->>'warp_us')::bigint / 1e6),
           $1::json->>'hubspot_value', to_timestamp(($1::json->>'hubspot_us')::bigint / 1e6), $1::json->>'base_value') AS r (winner, value)"
    );
    let owner = pgrx::pg_sys::Oid::from(owner);
    let answer = spi::subtransaction(AssertUnwindSafe(|| spi::as_role(owner, || spi::call(&sql, &arg))));
    let chosen = answer.ok().and_then(|answer| {
        let value = value::from_warp(field.kind, answer["value"].as_str()).ok()?;
        match answer["winner"].as_str()? {
            "WARP" => Some((Winner::Warp, Value::NULL)),
            "HUBSPOT" => Some((Winner::Hubspot, Value::NULL)),
            "VALUE" => Some((Winner::Value, value)),
            _ => None,
        }
    });
    let Some((winner, value)) = chosen else {
        record.log(
            Some(field),
            "SYNC",
            "policy_failed",
            json!({"detail": format!("{call} gave no decision: left to a person")}),
        );
        return;
    };
    record.resolved(field, winner.label(), call);
    record.event(field, clock, now, |state, _, out: &mut Vec<Effect>| {
        state.resolve(winner, &value, now, out)
    });
}
