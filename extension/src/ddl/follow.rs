//! Comparing the mappings of a table with the table as it is now.

use super::{document, triggers};
use crate::mapping::import::field_row;
use crate::mapping::table::{Column, Table};
use crate::mapping::{refresh_plans, source_exists};
use crate::spi;
use hubspot_sync_core::mapping::parse_mapping;
use pgrx::pg_sys;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

const LOAD: &str = r#"
SELECT json_agg(json_build_object('id', m.id, 'entity_type', m.entity_type, 'enabled', m.enabled, 'is_source', f.is_source,
  'key_columns', m.key_columns, 'updated_at_column', m.updated_at_column, 'mapping', m.mapping, 'options', m.options,
  'numbers', m.column_numbers,
  'fields', (SELECT coalesce(json_agg(json_build_object('id', x.id, 'field', x.field, 'column', x.column_name, 'kind', x.kind,
      'active', x.active, 'reason', x.disabled_reason) ORDER BY x.id), '[]') FROM hubspot.field_mapping x
    WHERE x.mapping_id = m.id AND (x.active OR x.disabled_reason IS NOT NULL))) ORDER BY m.id)::text
FROM hubspot.mapped_tables f JOIN hubspot.object_mapping m ON m.id = f.mapping_id WHERE f.relid = ($1::json->>'oid')::oid"#;

const STORE: &str = r#"
WITH m AS (
  UPDATE hubspot.object_mapping o SET mapping = ($1::jsonb->'mapping'), options = ($1::jsonb->'options'),
    key_columns = ARRAY(SELECT jsonb_array_elements_text($1::jsonb->'key_columns')), updated_at_column = $1::jsonb->>'updated_at_column',
    column_numbers = $1::jsonb->'numbers', enabled = o.enabled AND ($1::jsonb->>'reason') IS NULL,
    disabled_reason = coalesce($1::jsonb->>'reason', o.disabled_reason),
    look_from = CASE WHEN ($1::jsonb->>'look')::boolean THEN '[]' ELSE o.look_from END
  WHERE o.id = ($1::jsonb->>'id')::int RETURNING 1),
f AS (
  UPDATE hubspot.field_mapping f SET column_name = v.column_name, kind = v.kind, active = v.active, disabled_reason = v.reason
  FROM jsonb_to_recordset($1::jsonb->'fields') AS v (id int, column_name text, kind text, active boolean, reason text)
  WHERE f.id = v.id RETURNING 1)
SELECT ((SELECT count(*) FROM m) + (SELECT count(*) FROM f))::text"#;

/// The entry of the numbers that holds the table's oid: no column has an empty name.
const TABLE: &str = "";

#[derive(Deserialize)]
struct Followed {
    id: i32,
    entity_type: String,
    enabled: bool,
    /// The table is the mapping's own, not a partition or child.
    is_source: bool,
    key_columns: Vec<String>,
    updated_at_column: Option<String>,
    mapping: Json,
    options: Json,
    numbers: Map<String, Json>,
    fields: Vec<FollowedField>,
}

#[derive(Deserialize, Clone, PartialEq)]
struct FollowedField {
    id: i32,
    field: String,
    column: String,
    kind: String,
    active: bool,
    reason: Option<String>,
}

/// Makes the mappings of a table, and of what it is a partition or child of, true again. With `revive`, fields that were
/// disabled because of their columns are taken in again when the columns fit.
pub fn follow(oid: pg_sys::Oid, revive: bool) {
    if !source_exists(oid) {
        return table_dropped(oid);
    }
    let Some(table) = Table::load(oid) else { return };
    for row in spi::rows(LOAD, &json!({"oid": oid.to_u32()})) {
        let Ok(mut mapping) = serde_json::from_value::<Followed>(row) else {
            continue;
        };
        let mut go_on = mapping.enabled;
        if mapping.is_source {
            go_on &= follow_columns(&mut mapping, &table, revive);
        }
        if go_on {
            triggers::make(mapping.id, mapping.options["capture_replicated"] == true);
        }
    }
}

/// Follows columns; false when the mapping cannot go on.
fn follow_columns(mapping: &mut Followed, table: &Table, revive: bool) -> bool {
    let before = (
        mapping.fields.clone(),
        mapping.numbers.clone(),
        mapping.key_columns.clone(),
    );
    let updated_before = mapping.updated_at_column.clone();
    rename(mapping, table);
    let lost_key = mapping
        .key_columns
        .iter()
        .find(|name| table.column(name).is_none())
        .cloned();
    let reason = lost_key.map(|name| {
        format!(
            "key column \"{name}\" of {} was dropped: add it again, then call hubspot.enable('{entity}'); or import the mapping with other key_columns",
            table.name, entity = mapping.entity_type
        )
    });
    if mapping
        .updated_at_column
        .as_ref()
        .is_some_and(|name| table.column(name).is_none())
    {
        mapping.updated_at_column = None;
        if let Some(options) = mapping.options.as_object_mut() {
            options.remove("updated_at_column");
        }
    }
    let look = check_fields(mapping, table, revive);
    mapping.numbers = numbers(mapping, table);
    let unchanged = before
        == (
            mapping.fields.clone(),
            mapping.numbers.clone(),
            mapping.key_columns.clone(),
        )
        && updated_before == mapping.updated_at_column
        && reason.is_none();
    if unchanged {
        return true;
    }
    let fields: Vec<Json> = mapping
        .fields
        .iter()
        .filter(|f| !before.0.contains(f))
        .map(|f| json!({"id": f.id, "column_name": f.column, "kind": f.kind, "active": f.active, "reason": f.reason}))
        .collect();
    for field in mapping.fields.iter().filter(|f| !before.0.contains(f)) {
        if let Some(reason) = &field.reason {
            pgrx::warning!(
                "hubspot_sync: field {} of {} is disabled: {reason}",
                field.field,
                mapping.entity_type
            );
        }
    }
    if let Some(reason) = &reason {
        pgrx::warning!("hubspot_sync: {} is disabled: {reason}", mapping.entity_type);
        triggers::drop_all(mapping.id);
    }
    spi::run(
        STORE,
        &json!({"id": mapping.id, "mapping": mapping.mapping, "options": mapping.options, "key_columns": mapping.key_columns,
                "updated_at_column": mapping.updated_at_column, "numbers": mapping.numbers, "reason": reason, "look": look,
                "fields": fields}),
    );
    refresh_plans(table.oid());
    reason.is_none()
}

/// Names that are gone, and whose numbers still belong to a column, were renamed. Numbers that were taken of another table, in
/// the database that a dump is of, say nothing.
fn rename(mapping: &mut Followed, table: &Table) {
    if mapping.numbers.get(TABLE).and_then(Json::as_u64) != Some(u64::from(table.oid().to_u32())) {
        return;
    }
    let renamed: Vec<(String, String)> = mapping
        .numbers
        .iter()
        .filter(|(name, _)| *name != TABLE && table.column(name).is_none())
        .filter_map(|(name, number)| {
            let column = table.columns.iter().find(|c| Some(c.number) == number.as_i64())?;
            Some((name.clone(), column.name.clone()))
        })
        .collect();
    for (old, new) in renamed {
        document::rename_column(&mut mapping.mapping, &old, &new);
        document::rename_in_options(&mut mapping.options, &old, &new);
        let names = mapping
            .fields
            .iter_mut()
            .map(|f| &mut f.column)
            .chain(&mut mapping.key_columns)
            .chain(&mut mapping.updated_at_column);
        names
            .filter(|name| **name == old)
            .for_each(|name| name.clone_from(&new));
    }
}

/// Checks each field against its column, by the rules of `hubspot.import_mapping`. True when rows have to be compared: a
/// field's kind changed, or one came back.
fn check_fields(mapping: &mut Followed, table: &Table, revive: bool) -> bool {
    // The stored document was accepted once; should it not be any more, its fields stay as they are.
    let Ok(declared) = parse_mapping(&mapping.mapping) else {
        return false;
    };
    let mut look = false;
    for field in &mut mapping.fields {
        let Some(declared) = declared.iter().find(|d| d.field == field.field) else {
            continue;
        };
        if !field.active && !revive {
            continue;
        }
        let mut faults = Vec::new();
        let row = field_row(declared, table, &mut faults);
        match (row, faults.first()) {
            (Some(row), None) => {
                let kind = row["kind"].as_str().unwrap_or(&field.kind).to_owned();
                look |= !field.active || kind != field.kind;
                field.kind = kind;
                field.active = true;
                field.reason = None;
            }
            (_, fault) => {
                let problem = fault.map_or("its column does not fit", |f| &f.problem);
                field.active = false;
                field.reason = Some(format!(
                    "{problem}: add such a column or give it a type that fits, then call hubspot.enable('{entity}'); or import the mapping without the field",
                    entity = mapping.entity_type
                ));
            }
        }
    }
    look
}

/// The numbers of all columns the mapping names.
fn numbers(mapping: &Followed, table: &Table) -> Map<String, Json> {
    let names = mapping
        .fields
        .iter()
        .filter(|f| f.active)
        .map(|f| &f.column)
        .chain(&mapping.key_columns)
        .chain(&mapping.updated_at_column);
    let mut found: Vec<&Column> = names.filter_map(|name| table.column(name)).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let columns = found.iter().map(|c| (c.name.clone(), json!(c.number)));
    columns
        .chain([(TABLE.to_owned(), json!(table.oid().to_u32()))])
        .collect()
}

/// The mapped table is gone, and its triggers with it.
fn table_dropped(oid: pg_sys::Oid) {
    spi::run(
        r#"UPDATE hubspot.object_mapping m SET enabled = false, look_from = NULL,
             disabled_reason = format('its table was dropped: call hubspot.import_mapping(%L, <another table>, …)', m.entity_type)
           WHERE m.source_table::oid = ($1::json->>'oid')::oid"#,
        &json!({"oid": oid.to_u32()}),
    );
    spi::run(
        "SELECT hubspot.invalidate_plans(($1::json->>'oid')::oid)",
        &json!({"oid": oid.to_u32()}),
    );
}
