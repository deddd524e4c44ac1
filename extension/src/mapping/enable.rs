//! Switching a mapping on and off: its triggers, and a look at the rows that are there already.

use super::{look, table};
use crate::catalog::Catalog;
use crate::ddl::{follow, triggers};
use crate::{relay, spi};
use pgrx::pg_sys;
use serde_json::json;

/// Creates the capture triggers (the table is locked against writers while that happens, for an instant), and queues
/// every row that is not known yet, and all that changed since nothing was captured. Idempotent.
pub fn enable(entity_type: &str, caller: pg_sys::Oid) -> String {
    let (id, source) = checked(entity_type, caller);
    if look::has_records(id) {
        // Before any lock on the table: a relay's call that holds this lock may wait for the table.
        relay::one_at_a_time();
    }
    spi::run(
        "UPDATE hubspot.object_mapping SET disabled_reason = NULL, look_from = NULL WHERE id = ($1::json->>'id')::int",
        &json!({"id": id}),
    );
    follow::follow(source, true);
    refuse_disabled(id);
    spi::run(
        "UPDATE hubspot.object_mapping SET enabled = true, look_from = NULL WHERE id = ($1::json->>'id')::int",
        &json!({"id": id}),
    );
    triggers::drop_all(id);
    triggers::make(id, capture_replicated(id));
    refresh_plans(source);
    if look::has_records(id) {
        // The table is locked against writers by now: nothing more is captured, and rows are compared with what is known.
        relay::absorb_all();
    }
    let catalog = Catalog::load();
    let queued = look::whole(catalog.by_entity_type(entity_type));
    format!("{entity_type} is enabled; {queued} rows queued")
}

/// Drops the capture triggers: nothing is captured or delivered any more. States and links stay. Idempotent.
pub fn disable(entity_type: &str, caller: pg_sys::Oid) -> String {
    let known = spi::call_text(
        "SELECT m.id::text FROM hubspot.object_mapping m WHERE m.entity_type = $1::json->>'e'
         AND NOT EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = m.source_table)",
        &json!({"e": entity_type}),
    );
    let id = match known.and_then(|id| id.parse::<i32>().ok()) {
        // The table is gone, and its triggers and owner with it.
        Some(id) => id,
        None => {
            let (id, source) = checked(entity_type, caller);
            triggers::drop_all(id);
            refresh_plans(source);
            id
        }
    };
    spi::run(
        "UPDATE hubspot.object_mapping SET enabled = false WHERE id = ($1::json->>'id')::int",
        &json!({"id": id}),
    );
    format!("{entity_type} is disabled; changes made from now on are found when it is enabled again")
}

/// The mapping's id and table; raises an error when there is no such mapping, its table is gone, or the caller has no
/// right to it.
fn checked(entity_type: &str, caller: pg_sys::Oid) -> (i32, pg_sys::Oid) {
    let found = spi::call(
        "SELECT json_build_array(id, source_table::oid::bigint)::text FROM hubspot.object_mapping WHERE entity_type = $1::json->>'e'",
        &json!({"e": entity_type}),
    );
    let id = found[0].as_i64().and_then(|id| i32::try_from(id).ok());
    let oid = found[1].as_u64().and_then(|oid| u32::try_from(oid).ok());
    let (Some(id), Some(oid)) = (id, oid) else {
        // Raises the error that names the mappings there are.
        let catalog = Catalog::load();
        let mapping = catalog.by_entity_type(entity_type);
        return (mapping.id, pg_sys::Oid::from(mapping.source_oid));
    };
    let source = pg_sys::Oid::from(oid);
    table::Table::describe(source, caller);
    (id, source)
}

/// A mapping that cannot work as its table is now.
fn refuse_disabled(id: i32) {
    let reason = spi::call_text(
        "SELECT disabled_reason FROM hubspot.object_mapping WHERE id = ($1::json->>'id')::int",
        &json!({"id": id}),
    );
    if let Some(reason) = reason {
        crate::error::raise(
            pgrx::PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the mapping cannot be enabled".into(),
            &reason,
        );
    }
}

fn capture_replicated(id: i32) -> bool {
    spi::call_text(
        "SELECT 'yes' FROM hubspot.object_mapping WHERE id = ($1::json->>'id')::int AND options->'capture_replicated' = 'true'",
        &json!({"id": id}),
    )
    .is_some()
}

/// Is there such a table?
pub fn source_exists(table: pg_sys::Oid) -> bool {
    spi::call_text(
        "SELECT 'yes' FROM pg_class WHERE oid = ($1::json->>'table')::oid",
        &json!({"table": table.to_u32()}),
    )
    .is_some()
}

/// Makes every backend load its capture plans anew once this transaction has committed.
pub fn refresh_plans(table: pg_sys::Oid) {
    spi::run(
        "SELECT hubspot.invalidate_plans(($1::json->>'table')::oid)",
        &json!({"table": table.to_u32().to_string()}),
    );
}
