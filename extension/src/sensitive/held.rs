//! HubSpot's side of open conflicts: locked, and erased as soon as the conflict is settled.

use super::key;
use crate::book::Record;
use crate::catalog::Field;
use crate::spi;
use serde_json::{Value as Json, json};

const STORE: &str = r#"
INSERT INTO hubspot.sensitive_held AS h (link_id, field_id, token, locked)
SELECT v.link_id, v.field_id, v.token, v.locked FROM json_to_recordset($1::json) AS v (link_id bigint, field_id int, token text, locked text)
ON CONFLICT (link_id, field_id) DO UPDATE SET token = excluded.token, locked = excluded.locked"#;

const ERASE: &str = r#"
DELETE FROM hubspot.sensitive_held h USING json_to_recordset($1::json) AS v (link_id bigint, field_id int)
WHERE h.link_id = v.link_id AND h.field_id = v.field_id"#;

pub(super) fn place(link_id: i64, field_id: i32) -> String {
    format!("conflict {link_id} {field_id}")
}

/// Keeps what the changed fields of these records hold for a person, and erases what is settled.
pub fn store<'a>(records: impl Iterator<Item = &'a Record>) {
    let (mut kept, mut settled) = (Vec::new(), Vec::new());
    for record in records {
        for entry in record.changed_entries().filter(|e| e.field.sensitive) {
            let at = json!({"link_id": record.link_id, "field_id": entry.field.id});
            let Some(held) = &entry.state.held else {
                settled.push(at);
                continue;
            };
            // What is not known in this call is kept already.
            let value = super::clear(&entry.field, &held.hubspot_value);
            let Some(text) = value.as_ref().and_then(|v| v.as_deref()) else {
                continue;
            };
            let locked = key().lock(&place(record.link_id, entry.field.id), text);
            kept.push(json!({"link_id": record.link_id, "field_id": entry.field.id,
                             "token": held.hubspot_value.as_deref(), "locked": locked}));
        }
    }
    for (sql, rows) in [(STORE, kept), (ERASE, settled)] {
        if !rows.is_empty() {
            spi::run(sql, &Json::Array(rows));
        }
    }
}

/// Opens HubSpot's side of a field's open conflict, so that this call can write it. Nothing happens where there is none.
pub fn recall(link_id: i64, field: &Field) {
    if !field.sensitive {
        return;
    }
    let locked = spi::call_text(
        "SELECT locked FROM hubspot.sensitive_held WHERE link_id = ($1::json->>'link')::bigint AND field_id = ($1::json->>'field')::int",
        &json!({"link": link_id, "field": field.id}),
    );
    let opened = locked.and_then(|locked| key().open(&place(link_id, field.id), &locked));
    if let Some(text) = opened {
        super::hide(field, hubspot_sync_core::value::Value::text(text));
    }
}
