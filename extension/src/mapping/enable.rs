//! Switching a mapping on and off: its triggers, and the first sync of the rows that are there already.

use super::first_sync;
use crate::catalog::Catalog;
use crate::spi;
use pgrx::pg_sys;
use serde_json::json;

/// Creates the capture triggers (the table is locked against writers while that happens, for an instant) and queues
/// every row that is not known yet. Idempotent.
pub fn enable(entity_type: &str) -> String {
    let catalog = Catalog::load();
    let mapping = catalog.by_entity_type(entity_type);
    super::table::Table::describe(pg_sys::Oid::from(mapping.source_oid));
    let (id, table) = (mapping.id, &mapping.source_name);
    spi::run(
        "UPDATE hubspot.object_mapping SET enabled = true WHERE id = ($1::json->>'id')::int",
        &json!({"id": id}),
    );
    for (name, when) in triggers(id) {
        let level = if when == "TRUNCATE" { "STATEMENT" } else { "ROW" };
        drop_trigger(&name, table);
        spi::run_ddl(&format!(
            "CREATE TRIGGER {name} AFTER {when} ON {table} FOR EACH {level} EXECUTE FUNCTION hubspot.capture_change('{id}')"
        ));
    }
    refresh_plans(pg_sys::Oid::from(mapping.source_oid));
    let queued = first_sync::queue(entity_type, None);
    format!("{entity_type} is enabled; {queued} rows queued for their first sync")
}

/// Drops the capture triggers: nothing is captured or delivered any more. States and links stay. Idempotent.
pub fn disable(entity_type: &str) -> String {
    let catalog = Catalog::load();
    let mapping = catalog.by_entity_type(entity_type);
    super::table::Table::describe(pg_sys::Oid::from(mapping.source_oid));
    for (name, _) in triggers(mapping.id) {
        drop_trigger(&name, &mapping.source_name);
    }
    spi::run(
        "UPDATE hubspot.object_mapping SET enabled = false WHERE id = ($1::json->>'id')::int",
        &json!({"id": mapping.id}),
    );
    refresh_plans(pg_sys::Oid::from(mapping.source_oid));
    format!("{entity_type} is disabled; changes made from now on are not captured")
}

/// Makes every backend load its capture plans anew once this transaction has committed.
pub fn refresh_plans(table: pg_sys::Oid) {
    spi::run(
        "SELECT hubspot.invalidate_plans(($1::json->>'table')::oid)",
        &json!({"table": table.to_u32().to_string()}),
    );
}

fn triggers(mapping_id: i32) -> [(String, &'static str); 2] {
    [
        (format!("hubspot_capture_{mapping_id}"), "INSERT OR UPDATE OR DELETE"),
        (format!("hubspot_truncate_{mapping_id}"), "TRUNCATE"),
    ]
}

fn drop_trigger(name: &str, table: &str) {
    let exists = spi::call_text(
        "SELECT 'yes' FROM pg_trigger WHERE tgname = ($1::json->>'name')::name AND tgrelid = ($1::json->>'table')::regclass",
        &json!({"name": name, "table": table}),
    );
    if exists.is_none() {
        return;
    }
    spi::run_ddl(&format!("DROP TRIGGER IF EXISTS {name} ON {table}"));
}
