//! The first sync: rows that were there before the mapping are put into the captured changes, page by page, read as the
//! table's owner.

use crate::book::text_expression;
use crate::catalog::{Catalog, Field};
use crate::spi;
use hubspot_sync_core::mapping::Direction;
use pgrx::spi::{quote_identifier, quote_literal};
use serde_json::{Value as Json, json};
use std::rc::Rc;

/// Rows read at a time.
const PAGE: usize = 5_000;

/// Queues all rows (or, with `only`, these newly mapped fields of all rows); gives their number. Rows whose link exists
/// already are left out unless `only` is given.
pub fn queue(entity_type: &str, only: Option<&[String]>) -> i64 {
    let catalog = Catalog::load();
    let mapping = catalog.by_entity_type(entity_type);
    let fields: Vec<Rc<Field>> = mapping
        .fields
        .iter()
        .filter(|f| f.sync_direction != Direction::None && only.is_none_or(|names| names.contains(&f.field)))
        .cloned()
        .collect();
    let paths: Json = fields
        .iter()
        .filter_map(|f| Some((format!("f{}", f.id), json!(f.path.as_ref()?))))
        .collect::<serde_json::Map<String, Json>>()
        .into();
    let keys: Vec<String> = mapping
        .keys
        .iter()
        .map(|k| format!("t.{}", quote_identifier(&k.name)))
        .collect();
    let key_texts: Vec<String> = keys.iter().map(|k| format!("(to_jsonb({k}) #>> '{{}}')")).collect();
    let entity_key = match key_texts.as_slice() {
        [one] => one.clone(),
        many => format!("array_to_json(ARRAY[{}])::text", many.join(", ")),
    };
    let pairs: Vec<String> = fields
        .iter()
        .map(|f| format!("({}, {})", quote_literal(&f.field), text_expression(f)))
        .collect();
    let changes = if pairs.is_empty() {
        "'{}'::json".to_owned()
    } else {
        // Like an insert: fields that are null are not among the changes.
        format!(
            "(SELECT coalesce(json_object_agg(p.n, json_build_array(NULL, p.v)), '{{}}'::json) FROM (VALUES {}) AS p (n, v) WHERE p.v IS NOT NULL)",
            pairs.join(", ")
        )
    };
    let at = match &mapping.updated_at_column {
        Some(column) => format!("t.{}::timestamptz", quote_identifier(column)),
        None => "NULL::timestamptz".to_owned(),
    };
    let types: Vec<String> = mapping
        .keys
        .iter()
        .enumerate()
        .map(|(i, k)| format!("($1::json->'last'->>{i})::{}", k.type_name))
        .collect();
    let select = format!(
        "SELECT json_agg(r.row)::text FROM (SELECT json_build_object('key', {entity_key}, 'parts', json_build_array({}), 'changes', {changes}, 'at', {at}) AS row
         FROM {} t WHERE ($1::json->'last') IS NULL OR ROW({}) > ROW({}) ORDER BY {} LIMIT {PAGE}) r",
        key_texts.join(", "),
        mapping.source_name,
        keys.join(", "),
        types.join(", "),
        keys.join(", "),
    );
    let mut last = Json::Null;
    let mut total = 0;
    loop {
        let mut arg = json!({"paths": paths});
        if !last.is_null() {
            arg["last"] = last.clone();
        }
        let rows = spi::as_role(mapping.owner(), || spi::rows(&select, &arg));
        let Some(end) = rows.last() else { break };
        last = end["parts"].clone();
        let full = rows.len() == PAGE;
        total += store(mapping.id, rows, only.is_some());
        if !full {
            break;
        }
    }
    total
}

fn store(mapping_id: i32, rows: Vec<Json>, known_too: bool) -> i64 {
    let sql = r#"
WITH stored AS (
  INSERT INTO hubspot.capture (mapping_id, op, entity_key, changes, captured_at, db_user, application_name)
  SELECT ($1::json->>'mapping_id')::int, CASE WHEN ($1::json->>'known_too')::boolean THEN 'U' ELSE 'F' END::"char", v.key, v.changes,
    coalesce(v.at, '-infinity'), (SELECT oid FROM pg_roles WHERE rolname = session_user), 'first sync'
  FROM json_to_recordset($1::json->'rows') AS v (key text, changes json, at timestamptz)
  WHERE ($1::json->>'known_too')::boolean OR NOT EXISTS (SELECT 1 FROM hubspot.link l
    WHERE l.mapping_id = ($1::json->>'mapping_id')::int AND l.entity_key = v.key)
  RETURNING 1)
SELECT count(*)::text FROM stored"#;
    let arg = json!({"mapping_id": mapping_id, "rows": rows, "known_too": known_too});
    spi::call_text(sql, &arg).and_then(|n| n.parse().ok()).unwrap_or(0)
}
