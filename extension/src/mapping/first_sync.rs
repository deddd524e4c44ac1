//! The first sync of newly mapped fields: every row is put into the captured changes with them.

use super::scan::{self, Scan};
use crate::catalog::{Catalog, Field};
use serde_json::{Map, Value as Json, json};
use std::rc::Rc;

/// Queues all rows with these newly mapped fields; gives the number of rows. Like an insert: fields that are null are not
/// among the changes.
pub fn queue(entity_type: &str, only: &[String]) -> usize {
    let catalog = Catalog::load();
    let mapping = catalog.by_entity_type(entity_type);
    let fields: Vec<Rc<Field>> = scan::captured_fields(mapping)
        .into_iter()
        .filter(|f| only.contains(&f.field))
        .collect();
    let mut scan = Scan::after(mapping, &fields, Json::Null);
    let mut total = 0;
    while !scan.finished {
        let rows: Vec<Json> = scan
            .page()
            .into_iter()
            .map(|row| {
                // The value is new to the mapping, not to the row: without a column that tells, it counts as old.
                let at = if row.at.is_null() { json!("-infinity") } else { row.at };
                json!({"op": "U", "key": row.key, "changes": filled(&row.texts), "at": at})
            })
            .collect();
        total += rows.len();
        scan::store(mapping.id, &rows, "first sync");
    }
    total
}

/// Changes from nothing to these texts.
pub fn filled(texts: &Map<String, Json>) -> Map<String, Json> {
    let filled = texts.iter().filter(|(_, text)| !text.is_null());
    filled.map(|(name, text)| (name.clone(), json!([null, text]))).collect()
}
