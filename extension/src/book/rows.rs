//! Reading and writing the user's rows, as the table's owner.
//!
//! A row is written only when it still holds what the decision was based on: it is locked without waiting, compared, and
//! written in one statement per set of columns. A row that is locked by somebody, or that moved, makes its record *busy*:
//! the record is dropped from the call and its events are offered again after the next look at the captured changes.

use super::{Book, Record};
use crate::catalog::{Field, Mapping};
use crate::{capture, convert, sensitive, spi};
use hubspot_sync_core::value::ValueKind;
use pgrx::spi::{quote_identifier, quote_literal};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Texts of a row's mapped fields, by field id; null where the row has null.
pub type RowText = BTreeMap<i32, Option<String>>;

/// One row to write: the fields and their texts, null empties.
struct RowWrite {
    link_id: i64,
    key: String,
    sets: BTreeMap<i32, Option<String>>,
}

/// `json_to_recordset` with the key columns k0… and these columns, joined to the table.
fn join(mapping: &Mapping, columns: &[String]) -> String {
    let mut definitions = vec!["key text".to_owned()];
    let mut conditions = Vec::new();
    for (i, key) in mapping.keys.iter().enumerate() {
        definitions.push(format!("k{i} text"));
        conditions.push(format!("t.{} = v.k{i}::{}", quote_identifier(&key.name), key.type_name));
    }
    definitions.extend(columns.iter().map(|c| format!("{c} text")));
    format!(
        "json_to_recordset($1::json->'rows') AS v ({}), {} AS t WHERE {}",
        definitions.join(", "),
        mapping.source_name,
        conditions.join(" AND ")
    )
}

/// A bound array of path keys: the document carries it, so that no path is ever part of the SQL text.
fn path_parameter(field: &Field) -> String {
    format!(
        "(SELECT array_agg(e ORDER BY o) FROM json_array_elements_text($1::json->'paths'->'f{}') WITH ORDINALITY AS p (e, o))",
        field.id
    )
}

/// The text of a field of row `t`, independent of session settings.
pub fn text_expression(field: &Field) -> String {
    let column = format!("t.{}", quote_identifier(&field.column_name));
    match (&field.path, field.kind) {
        (Some(_), _) => format!(
            "jsonb_extract_path_text({column}::jsonb, VARIADIC {})",
            path_parameter(field)
        ),
        (None, ValueKind::MultiSelect) => format!("{column}::text"),
        // As text a char(n) comes without its padding.
        (None, _) if field.column_type == "bpchar" => format!("{column}::text"),
        (None, _) => format!("to_jsonb({column}) #>> '{{}}'"),
    }
}

fn document(mapping: &Mapping, keys: &[&str], fields: &[Rc<Field>]) -> Json {
    let rows: Vec<Json> = keys.iter().filter_map(|key| key_object(mapping, key)).collect();
    json!({"rows": rows, "paths": paths(fields)})
}

fn key_object(mapping: &Mapping, key: &str) -> Option<Json> {
    let parts = mapping.key_parts(key)?;
    let mut object = json!({"key": key});
    for (i, part) in parts.iter().enumerate() {
        object[format!("k{i}")] = json!(part);
    }
    Some(object)
}

fn paths(fields: &[Rc<Field>]) -> Json {
    let mut paths = json!({});
    for field in fields {
        if let Some(keys) = &field.path {
            paths[format!("f{}", field.id)] = json!(keys);
        }
    }
    paths
}

/// The texts of these fields of these rows, by key; rows that do not exist are absent. With `lock`, rows are locked
/// against change until the transaction ends, and rows locked by others are absent.
pub fn read_rows(mapping: &Mapping, keys: &[&str], fields: &[Rc<Field>], lock: bool) -> BTreeMap<String, RowText> {
    let mut found = BTreeMap::new();
    if keys.is_empty() {
        return found;
    }
    let texts: Vec<String> = fields
        .iter()
        .map(|f| format!("{}, {}", quote_literal(format!("f{}", f.id)), text_expression(f)))
        .collect();
    let sql = format!(
        "SELECT json_agg(r.row)::text FROM (SELECT json_build_object('key', v.key{}{}) AS row FROM {}{}) r",
        if texts.is_empty() { "" } else { ", " },
        texts.join(", "),
        join(mapping, &[]),
        if lock {
            " FOR NO KEY UPDATE OF t SKIP LOCKED"
        } else {
            ""
        },
    );
    let arg = document(mapping, keys, fields);
    for row in spi::as_role(mapping.owner(), || spi::rows(&sql, &arg)) {
        let Some(key) = row["key"].as_str() else { continue };
        let texts = fields
            .iter()
            .map(|f| {
                let text = row[format!("f{}", f.id)].as_str().map(str::to_owned);
                // Read for a write or a delivery: the value itself will be asked for.
                (
                    f.id,
                    if f.sensitive {
                        sensitive::row_text(f, text, true)
                    } else {
                        text
                    },
                )
            })
            .collect();
        found.insert(key.to_owned(), texts);
    }
    found
}

/// What became of the rows to write.
#[derive(Debug, Default)]
pub struct Written {
    /// Locked or moved: to be offered again.
    pub busy: BTreeSet<i64>,
    /// The table refused the row: the reason by link.
    pub refused: BTreeMap<i64, String>,
}

/// Writes what the records of the book want written into their rows.
pub(super) fn write_rows(book: &mut Book) -> Written {
    let mut written = Written::default();
    let mut by_mapping: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for record in book.records.values() {
        if !record.row_writes.is_empty() || record.write_id_back || record.delete_row {
            by_mapping.entry(record.mapping.id).or_default().push(record.link_id);
        }
    }
    for (mapping_id, links) in by_mapping {
        let Some(mapping) = book.catalog.mappings.get(&mapping_id).cloned() else {
            continue;
        };
        write_mapping(book, &mapping, &links, &mut written);
    }
    written
}

fn write_mapping(book: &mut Book, mapping: &Rc<Mapping>, links: &[i64], written: &mut Written) {
    let records: Vec<&Record> = links.iter().filter_map(|id| book.records.get(id)).collect();
    let keys: Vec<&str> = records.iter().map(|r| r.key.as_str()).collect();
    let fields: Vec<Rc<Field>> = mapping.fields.clone();
    let now_there = read_rows(mapping, &keys, &fields, true);
    let absent: Vec<&str> = keys.iter().copied().filter(|k| !now_there.contains_key(*k)).collect();
    let locked = read_rows(mapping, &absent, &[], false);
    let mut groups: BTreeMap<Vec<i32>, Vec<RowWrite>> = BTreeMap::new();
    let (mut gone, mut deletions) = (Vec::new(), Vec::new());
    for record in records {
        let Some(texts) = now_there.get(&record.key) else {
            if locked.contains_key(&record.key) {
                written.busy.insert(record.link_id);
            } else if !record.delete_row {
                gone.push(record.link_id);
            }
            continue;
        };
        if let Some(moved) = moved_fields(record, texts) {
            recapture(record, &moved);
            written.busy.insert(record.link_id);
            continue;
        }
        if record.delete_row {
            deletions.push((record.link_id, record.key.clone()));
            continue;
        }
        let mut sets: BTreeMap<i32, Option<String>> = BTreeMap::new();
        let mut known = true;
        for (id, value) in &record.row_writes {
            if let Some(entry) = record.fields.get(id) {
                match convert::to_warp(&entry.field, value) {
                    Ok(text) => {
                        sets.insert(*id, text);
                    }
                    Err(_) => known = false,
                }
            }
        }
        if !known {
            // A sensitive value that nobody showed in this call: what brings it is offered again.
            written.busy.insert(record.link_id);
            continue;
        }
        if record.write_id_back
            && let (Some(field), Some(id)) = (mapping.id_field(), &record.hubspot_id)
            && texts.get(&field.id).and_then(|t| t.as_deref()) != Some(id.as_str())
        {
            sets.insert(field.id, Some(id.clone()));
        }
        if !sets.is_empty() {
            groups
                .entry(sets.keys().copied().collect())
                .or_default()
                .push(RowWrite {
                    link_id: record.link_id,
                    key: record.key.clone(),
                    sets,
                });
        }
    }
    for link in links {
        if let Some(record) = book.records.get_mut(link)
            && record.write_id_back
            && !written.busy.contains(link)
        {
            record.id_written = true;
            record.touch_link();
        }
    }
    for link in gone {
        // The row is gone: there is nothing to write to. Its deletion is recorded when it is taken over.
        written
            .refused
            .insert(link, "the row does not exist any more".to_owned());
    }
    delete_rows(mapping, &deletions, written);
    for (ids, rows) in groups {
        write_group(mapping, &ids, &rows, written);
    }
}

/// Deletes rows that hold what the decision was based on. Somebody may hold a weaker lock that a deletion has to wait for (a
/// foreign key's): such a row is busy. One that the table keeps, by a constraint or a trigger, is refused.
fn delete_rows(mapping: &Mapping, rows: &[(i64, String)], written: &mut Written) {
    let lock = format!(
        "SELECT json_agg(r.key)::text FROM (SELECT v.key FROM {} FOR UPDATE OF t SKIP LOCKED) r",
        join(mapping, &[])
    );
    let delete = format!(
        "WITH d AS (DELETE FROM {} AS t USING {} RETURNING v.key) SELECT json_agg(d.key)::text FROM d",
        mapping.source_name,
        join(mapping, &[]).replacen(&format!(", {} AS t WHERE", mapping.source_name), " WHERE", 1)
    );
    for (link, key) in rows {
        let arg = document(mapping, &[key], &[]);
        if spi::as_role(mapping.owner(), || spi::rows(&lock, &arg)).is_empty() {
            written.busy.insert(*link);
            continue;
        }
        let outcome = spi::subtransaction(std::panic::AssertUnwindSafe(|| {
            spi::as_role(mapping.owner(), || spi::rows(&delete, &arg).len())
        }));
        match outcome {
            Ok(0) => {
                let reason = "a trigger of the table kept the row from being deleted";
                written.refused.insert(*link, reason.to_owned());
            }
            Ok(_) => {}
            Err(raised) if raised.is_contention() => {
                written.busy.insert(*link);
            }
            Err(raised) => {
                written.refused.insert(*link, reason(mapping, raised));
            }
        }
    }
}

/// Why the table refused a row. Its words may quote any column's value.
fn reason(mapping: &Mapping, raised: spi::Raised) -> String {
    match mapping.is_sensitive() {
        true => format!(
            "the table refused the row with SQLSTATE {}; its words are withheld, because {} has sensitive fields",
            raised.state, mapping.entity_type
        ),
        false => raised.message,
    }
}

/// Fields that are to be written (all, when the row is to be deleted) and do not hold what the decision was based on, with
/// what they hold.
fn moved_fields(record: &Record, texts: &RowText) -> Option<Vec<(Rc<Field>, Option<String>)>> {
    let moved: Vec<_> = record
        .fields
        .iter()
        .filter(|(id, _)| record.delete_row || record.row_writes.contains_key(id))
        .map(|(_, entry)| entry)
        .filter_map(|entry| {
            let text = texts.get(&entry.field.id)?;
            (convert::from_warp(&entry.field, text.as_deref()) != entry.loaded_row)
                .then(|| (Rc::clone(&entry.field), text.clone()))
        })
        .collect();
    (!moved.is_empty()).then_some(moved)
}

/// A row that moved without a captured change (triggers were off, replica role): it is captured now, unless a captured change
/// waits already.
pub fn recapture(record: &Record, moved: &[(Rc<Field>, Option<String>)]) {
    let mut changes = json!({});
    for (field, text) in moved {
        changes[&field.field] = json!([null, text]);
    }
    spi::run(
        r#"SELECT hubspot.append_change(($1::json->>'mapping_id')::int, 'U', $1::json->>'key', $1::json->'changes', clock_timestamp(),
                  (SELECT oid FROM pg_roles WHERE rolname = session_user), 'found without capture')
           WHERE NOT EXISTS (SELECT 1 FROM hubspot.capture c WHERE c.mapping_id = ($1::json->>'mapping_id')::int
                             AND c.entity_key = $1::json->>'key')"#,
        &json!({"mapping_id": record.mapping.id, "key": record.key, "changes": changes}),
    );
}

/// The `SET` list for these fields; several paths of one column are one assignment.
fn assignments(mapping: &Mapping, ids: &[i32]) -> String {
    let mut columns: BTreeMap<&str, String> = BTreeMap::new();
    for field in mapping.fields.iter().filter(|f| ids.contains(&f.id)) {
        let column = quote_identifier(&field.column_name);
        let expression = match &field.path {
            None => format!("v.f{}::{}", field.id, field.column_type),
            Some(keys) => {
                let start = columns.get(field.column_name.as_str()).cloned().unwrap_or_else(|| {
                    // A column that holds something else than an object is not overwritten: the write fails and is on record.
                    format!("coalesce(nullif(t.{column}::jsonb, 'null'), '{{}}')")
                });
                put(&start, field, keys.len())
            }
        };
        columns.insert(&field.column_name, expression);
    }
    let sets: Vec<String> = columns
        .iter()
        .map(|(column, expression)| {
            let field = mapping.fields.iter().find(|f| f.column_name == *column);
            let cast = match field {
                Some(f) if f.path.is_some() => format!("({expression})::{}", f.column_type),
                _ => expression.clone(),
            };
            format!("{} = {cast}", quote_identifier(column))
        })
        .collect();
    sets.join(", ")
}

/// A jsonb expression with the field's text put at its path, missing objects made on the way; null removes the key.
fn put(start: &str, field: &Field, depth: usize) -> String {
    let path = path_parameter(field);
    let mut with_parents = start.to_owned();
    for level in 1..depth {
        let parent = format!("({path})[1:{level}]");
        with_parents = format!(
            "jsonb_set({with_parents}, {parent}, coalesce(nullif({start} #> {parent}, 'null'), '{{}}'::jsonb))"
        );
    }
    format!(
        "CASE WHEN v.f{id} IS NULL THEN {start} #- {path} ELSE jsonb_set({with_parents}, {path}, to_jsonb(v.f{id})) END",
        id = field.id
    )
}

fn write_group(mapping: &Mapping, ids: &[i32], rows: &[RowWrite], written: &mut Written) {
    let fields: Vec<Rc<Field>> = mapping.fields.iter().filter(|f| ids.contains(&f.id)).cloned().collect();
    let columns: Vec<String> = ids.iter().map(|id| format!("f{id}")).collect();
    let sql = format!(
        "UPDATE {} AS t SET {} FROM {}",
        mapping.source_name,
        assignments(mapping, ids),
        {
            // The table itself is the target; only the values are joined to it.
            join(mapping, &columns).replacen(&format!(", {} AS t WHERE", mapping.source_name), " WHERE", 1)
        }
    );
    let one = |rows: &[&RowWrite]| -> Result<(), spi::Raised> {
        let documents: Vec<Json> = rows
            .iter()
            .filter_map(|row| {
                let mut object = key_object(mapping, &row.key)?;
                for (id, text) in &row.sets {
                    object[format!("f{id}")] = json!(text);
                }
                Some(object)
            })
            .collect();
        let arg = json!({"rows": documents, "paths": paths(&fields)});
        for row in rows {
            for field in &fields {
                let text = row.sets.get(&field.id).and_then(|t| t.as_deref());
                capture::suppress::expect(mapping.id, &row.key, &field.field, field.kind, text);
            }
        }
        let outcome = spi::subtransaction(std::panic::AssertUnwindSafe(|| {
            spi::as_role(mapping.owner(), || spi::run(&sql, &arg));
        }));
        capture::suppress::clear();
        outcome
    };
    let all: Vec<&RowWrite> = rows.iter().collect();
    if one(&all).is_ok() {
        return;
    }
    // Somebody's constraint or trigger refused the page: find the culprits, the others go on.
    for row in rows {
        match one(&[row]) {
            Ok(()) => {}
            Err(raised) if raised.is_contention() => {
                written.busy.insert(row.link_id);
            }
            Err(raised) => {
                written.refused.insert(row.link_id, reason(mapping, raised));
            }
        }
    }
}
