//! Reading a mapped table page by page in the order of its key, as the table's owner.

use crate::book::text_expression;
use crate::catalog::{Field, KeyColumn, Mapping};
use crate::sensitive;
use crate::spi;
use hubspot_sync_core::mapping::Direction;
use pgrx::spi::{quote_identifier, quote_literal};
use serde_json::{Map, Value as Json, json};
use std::rc::Rc;

/// Rows read at a time.
pub const PAGE: usize = 5_000;

/// One row: its key, its captured fields as texts, and when it was edited, where a column tells.
pub struct Row {
    /// As capture writes it.
    pub key: String,
    /// Texts of fields by name; null where the row has null.
    pub texts: Map<String, Json>,
    /// The value of `updated_at_column`.
    pub at: Json,
}

/// A table that is being read.
pub struct Scan<'a> {
    mapping: &'a Mapping,
    select: String,
    paths: Json,
    sensitive: Vec<Rc<Field>>,
    /// Parts of the last key that was read; null before the first page.
    pub last: Json,
    /// Only rows whose `updated_at_column` is not before this instant. Unit: microseconds since 1970.
    pub since_us: Option<i64>,
    /// The whole table was read.
    pub finished: bool,
}

impl<'a> Scan<'a> {
    /// A scan that starts after the key with the parts `last`; null or an empty array: at the first row.
    pub fn after(mapping: &'a Mapping, fields: &[Rc<Field>], last: Json) -> Scan<'a> {
        let paths: Map<String, Json> = fields
            .iter()
            .filter_map(|f| Some((format!("f{}", f.id), json!(f.path.as_ref()?))))
            .collect();
        let keys: Vec<String> = mapping
            .keys
            .iter()
            .map(|k| format!("t.{}", quote_identifier(&k.name)))
            .collect();
        let key_texts: Vec<String> = mapping
            .keys
            .iter()
            .zip(&keys)
            .map(|(k, column)| key_text(k, column))
            .collect();
        let entity_key = match key_texts.as_slice() {
            [one] => one.clone(),
            many => format!("array_to_json(ARRAY[{}])::text", many.join(", ")),
        };
        let pairs: Vec<String> = fields
            .iter()
            .map(|f| format!("({}, {})", quote_literal(&f.field), text_expression(f)))
            .collect();
        let texts = if pairs.is_empty() {
            "'{}'::json".to_owned()
        } else {
            format!(
                "(SELECT json_object_agg(p.n, p.v) FROM (VALUES {}) AS p (n, v))",
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
        // A row whose key holds a null does not exist for the mapping.
        let whole: Vec<String> = keys.iter().map(|k| format!("{k} IS NOT NULL")).collect();
        let since = match &mapping.updated_at_column {
            Some(_) => {
                format!("(($1::json->'since') IS NULL OR {at} >= to_timestamp(($1::json->>'since')::bigint / 1e6))")
            }
            None => "true".to_owned(),
        };
        let select = format!(
            "SELECT json_agg(r.row)::text FROM (SELECT json_build_object('key', {entity_key}, 'parts', json_build_array({}), 'texts', {texts}, 'at', {at}) AS row
             FROM {} t WHERE (($1::json->'last') IS NULL OR ROW({}) > ROW({})) AND {} AND {since} ORDER BY {} LIMIT {PAGE}) r",
            key_texts.join(", "),
            mapping.source_name,
            keys.join(", "),
            types.join(", "),
            whole.join(" AND "),
            keys.join(", "),
        );
        let last = if last.as_array().is_some_and(|parts| parts.len() == keys.len()) {
            last
        } else {
            Json::Null
        };
        Scan {
            mapping,
            select,
            paths: paths.into(),
            sensitive: fields.iter().filter(|f| f.sensitive).cloned().collect(),
            last,
            since_us: None,
            finished: false,
        }
    }

    /// The next page; empty at the end.
    pub fn page(&mut self) -> Vec<Row> {
        if self.finished {
            return Vec::new();
        }
        let mut arg = json!({"paths": self.paths});
        if !self.last.is_null() {
            arg["last"] = self.last.clone();
        }
        if let Some(since) = self.since_us {
            arg["since"] = json!(since);
        }
        let rows = spi::as_role(self.mapping.owner(), || spi::rows(&self.select, &arg));
        self.finished = rows.len() < PAGE;
        if let Some(end) = rows.last() {
            self.last = end["parts"].clone();
        }
        rows.into_iter()
            .filter_map(|mut row| {
                Some(Row {
                    key: row["key"].as_str()?.to_owned(),
                    at: row["at"].take(),
                    texts: match row["texts"].take() {
                        Json::Object(texts) => self.hidden(texts),
                        _ => Map::new(),
                    },
                })
            })
            .collect()
    }
}

impl Scan<'_> {
    /// Sensitive texts as capture writes them.
    fn hidden(&self, mut texts: Map<String, Json>) -> Map<String, Json> {
        for field in &self.sensitive {
            if let Some(text) = texts.get_mut(&field.field) {
                *text = json!(sensitive::row_text(field, text.as_str().map(str::to_owned), false));
            }
        }
        texts
    }
}

/// A key column's text as capture prints it (`capture/datum_text.rs`).
fn key_text(key: &KeyColumn, column: &str) -> String {
    if key.type_name.starts_with("timestamp") {
        let utc = if key.type_name.contains("with time zone") {
            format!("{column} AT TIME ZONE 'UTC'")
        } else {
            column.to_owned()
        };
        format!("to_char({utc}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    } else if key.type_name.starts_with("character(") || key.type_name == "bpchar" {
        format!("{column}::text")
    } else {
        format!("(to_jsonb({column}) #>> '{{}}')")
    }
}

/// The fields whose changes are captured.
pub fn captured_fields(mapping: &Mapping) -> Vec<Rc<Field>> {
    let captured = mapping.fields.iter().filter(|f| f.sync_direction != Direction::None);
    captured.cloned().collect()
}

/// Puts changes where captured ones wait. Each is `{op, key, changes, at}`; without `at` an edit counts as made now, a row
/// that was not known as older than anything.
pub fn store(mapping_id: i32, rows: &[Json], application: &str) {
    if rows.is_empty() {
        return;
    }
    spi::run(
        // What is the same for all rows is taken out of the document once: a kept plan would read all of it for each row.
        r#"WITH of_all AS MATERIALIZED (SELECT ($1::json->>'mapping_id')::int AS mapping_id, $1::json->>'application' AS application,
             (SELECT oid FROM pg_roles WHERE rolname = session_user) AS who)
           SELECT count(hubspot.append_change(a.mapping_id, v.op::"char", v.key, v.changes,
             coalesce(v.at, CASE v.op WHEN 'F' THEN '-infinity' ELSE clock_timestamp() END), a.who, a.application))
           FROM of_all a, json_to_recordset($1::json->'rows') AS v (op text, key text, changes json, at timestamptz)"#,
        &json!({"mapping_id": mapping_id, "rows": rows, "application": application}),
    );
}
