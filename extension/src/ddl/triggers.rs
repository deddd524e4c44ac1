//! The capture triggers of a mapping, on its table and on the partitions and children whose rows belong to it.
//!
//! PostgreSQL copies a row trigger of a partitioned table to its partitions, but neither a statement trigger (TRUNCATE of
//! one partition) nor anything to inheritance children: those get triggers of their own.

use crate::spi;
use pgrx::pg_sys;
use serde::Deserialize;
use serde_json::json;

/// A table of the mapping and what it has.
#[derive(Deserialize)]
struct Member {
    /// Quoted, schema-qualified.
    name: String,
    /// Its row trigger is a copy that PostgreSQL made.
    is_partition: bool,
    row_trigger: bool,
    truncate_trigger: bool,
}

const MEMBERS: &str = r#"
SELECT json_agg(json_build_object('name', format('%I.%I', n.nspname, c.relname), 'is_partition', f.is_partition AND NOT f.is_source,
  'row_trigger', EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = format('!hubspot_capture_%s', f.mapping_id)::name),
  'truncate_trigger', EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = format('hubspot_truncate_%s', f.mapping_id)::name))
  ORDER BY NOT f.is_source, c.oid)::text
FROM hubspot.mapped_tables f JOIN pg_class c ON c.oid = f.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE f.mapping_id = ($1::json->>'id')::int"#;

fn members(mapping_id: i32) -> Vec<Member> {
    spi::rows(MEMBERS, &json!({"id": mapping_id}))
        .into_iter()
        .filter_map(|row| serde_json::from_value(row).ok())
        .collect()
}

/// The row trigger's name. Triggers of one event fire in the order of their names: ours must see a change before a user's
/// AFTER trigger can change the row again, or the two would be captured in the wrong order. No name in use sorts before `!`.
fn row_trigger(mapping_id: i32) -> String {
    format!("!hubspot_capture_{mapping_id}")
}

/// Makes the triggers that are missing; each table that gets one is locked against writers until the transaction ends.
/// `always`: they fire in sessions that apply replicated changes as well.
pub fn make(mapping_id: i32, always: bool) {
    let row = row_trigger(mapping_id);
    let truncate = format!("hubspot_truncate_{mapping_id}");
    for member in members(mapping_id) {
        // Asked again before each: a parent's trigger brings its partitions' copies, and the event triggers, which our own
        // ALTER TABLE fires, make what is missing too.
        if !member.row_trigger && !has_trigger(&member.name, &row) {
            create(
                &row,
                "INSERT OR UPDATE OR DELETE",
                &member.name,
                "ROW",
                mapping_id,
                always,
            );
        }
        if !member.truncate_trigger && !has_trigger(&member.name, &truncate) {
            create(&truncate, "TRUNCATE", &member.name, "STATEMENT", mapping_id, always);
        }
    }
}

/// Drops the triggers of a mapping.
pub fn drop_all(mapping_id: i32) {
    let row = row_trigger(mapping_id);
    let truncate = format!("hubspot_truncate_{mapping_id}");
    for member in members(mapping_id) {
        if member.row_trigger && !member.is_partition {
            drop_one(&row, &member.name);
        }
        if member.truncate_trigger {
            drop_one(&truncate, &member.name);
        }
    }
}

/// Drops capture triggers of tables that do not belong to their mapping any more: a partition or child that was detached.
/// One that cannot be dropped now stays; it captures nothing.
pub fn drop_leftovers(touched: pg_sys::Oid) {
    let found = spi::rows(
        r#"SELECT json_agg(json_build_array(g.tgname, format('%I.%I', n.nspname, c.relname)))::text
           FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE g.tgfoid = to_regproc('hubspot.capture_change') AND g.tgparentid = 0 AND g.tgname ~ '^!?hubspot_(capture|truncate)_[0-9]{1,9}$'
             AND ($1::json->>'touched') IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM hubspot.mapped_tables f
               WHERE f.relid = g.tgrelid AND f.mapping_id = substring(g.tgname FROM '[0-9]+$')::int)"#,
        &json!({"touched": touched.to_u32()}),
    );
    for row in found {
        if let (Some(trigger), Some(table)) = (row[0].as_str(), row[1].as_str()) {
            let _ = spi::subtransaction(std::panic::AssertUnwindSafe(|| drop_one(trigger, table)));
        }
    }
}

fn has_trigger(table: &str, name: &str) -> bool {
    spi::call_text(
        "SELECT 'yes' FROM pg_trigger WHERE tgname = ($1::json->>'name')::name AND tgrelid = ($1::json->>'table')::regclass",
        &json!({"name": name, "table": table}),
    )
    .is_some()
}

/// Makes one trigger.
fn create(name: &str, when: &str, table: &str, level: &str, mapping_id: i32, always: bool) {
    spi::run_ddl(&format!(
        r#"CREATE TRIGGER "{name}" AFTER {when} ON {table} FOR EACH {level} EXECUTE FUNCTION hubspot.capture_change('{mapping_id}')"#
    ));
    if always {
        spi::run_ddl(&format!(r#"ALTER TABLE {table} ENABLE ALWAYS TRIGGER "{name}""#));
    }
}

fn drop_one(name: &str, table: &str) {
    spi::run_ddl(&format!(r#"DROP TRIGGER IF EXISTS "{name}" ON {table}"#));
}
