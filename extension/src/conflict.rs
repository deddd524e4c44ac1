//! What a person decides: open conflicts and parked fields.

use crate::book::{Book, Lifecycle, Queue};
use crate::catalog::Catalog;
use crate::error::{invalid, raise, unknown};
use crate::relay::{absorb_all, now_us};
use crate::{convert, sensitive, spi};
use hubspot_sync_core::field::Winner;
use hubspot_sync_core::value;
use pgrx::prelude::*;
use serde_json::{Value as Json, json};

#[pg_extern(sql = r#"
CREATE FUNCTION hubspot.resolve_conflict(conflict_id bigint, winner text, value text DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn resolve_conflict(conflict_id: Option<i64>, winner: Option<&str>, value: Option<&str>) -> String {
    let winner = match winner.map(str::to_ascii_uppercase).as_deref() {
        Some("WARP") => Winner::Warp,
        Some("HUBSPOT") => Winner::Hubspot,
        Some("VALUE") => Winner::Value,
        _ => invalid("winner is not one of WARP, HUBSPOT, VALUE".into(), "say who wins"),
    };
    if value.is_some() && winner != Winner::Value {
        invalid(
            "value is given but winner is not VALUE".into(),
            "leave value out, or use winner VALUE",
        );
    }
    absorb_all();
    let found = spi::call(
        r#"SELECT json_build_object('link', link_id, 'field', field_id, 'status', status, 'kind', kind)::text
           FROM hubspot.conflicts WHERE id = ($1::json->>'id')::bigint"#,
        &json!({"id": conflict_id}),
    );
    if found.is_null() {
        unknown(
            "there is no such conflict".into(),
            "SELECT id FROM hubspot.conflicts WHERE status = 'open'",
        );
    }
    let (Some(link), Some(field_id), true) = (
        found["link"].as_i64(),
        found["field"].as_i64(),
        found["status"] == "open",
    ) else {
        raise(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the conflict is resolved already".into(),
            "SELECT winner, resolved_by, resolved_at FROM hubspot.conflicts",
        );
    };
    let mut book = Book::open(Catalog::load(), &[link], now_us());
    let (clock, now) = (book.catalog.clock, book.now);
    let by = caller();
    let Some(record) = book.records.get_mut(&link) else {
        unknown(
            "the conflict's record does not exist any more".into(),
            "nothing is left to decide",
        );
    };
    if found["kind"] == "DELETE_UPDATE" {
        crate::relay::lifecycle::resolve(record, winner, &by, clock, now);
        write_or_raise(&mut book, link, "(the row)");
        book.flush();
        wake();
        return format!("{} wins", winner.label());
    }
    let Some(field) = record.fields.get(&(field_id as i32)).map(|e| e.field.clone()) else {
        unknown(
            "the conflict's field is not mapped any more".into(),
            "nothing is left to decide",
        );
    };
    sensitive::recall(link, &field);
    let chosen = match value::from_warp(field.kind, value) {
        Ok(chosen) => sensitive::hide(&field, chosen),
        Err(e) => invalid(
            format!("value is not valid for field {}: {e}", field.field),
            "give it as PostgreSQL prints it",
        ),
    };
    if winner == Winner::Value
        && let Err(refused) = convert::to_hubspot(&field, &chosen)
    {
        invalid(refused.0, "give a value that the field allows");
    }
    record.resolved(&field, winner.label(), &by);
    let done = record.event(&field, clock, now, |state, _, out| {
        state.resolve(winner, &chosen, now, out)
    });
    if !done {
        raise(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the conflict is settled already".into(),
            "SELECT winner, resolved_by, resolved_at FROM hubspot.conflicts",
        );
    }
    record.note_resolution(&field);
    write_or_raise(&mut book, link, &field.field);
    book.flush();
    wake();
    format!("{} wins", winner.label())
}

/// Writes the row, or tells the caller why it cannot be written.
fn write_or_raise(book: &mut Book, link: i64, field: &str) {
    let written = book.write_rows();
    if !written.busy.is_empty() {
        raise(
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            "the row is being changed by somebody else at this moment".into(),
            "look at the conflict again, then repeat the call",
        );
    }
    if let Some(reason) = written.refused.get(&link) {
        raise(
            PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
            format!("the table refused the value for field {field}"),
            &format!("choose another value; the table said: {reason}"),
        );
    }
}

#[pg_extern(sql = r#"
CREATE FUNCTION hubspot.undo_resolution(conflict_id bigint)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn undo_resolution(conflict_id: i64) -> String {
    absorb_all();
    let found = spi::call(
        r#"SELECT json_build_object('link', link_id, 'field', field_id, 'generation', resolved_generation,
             'warp_value', warp_value, 'warp_us', (extract(epoch FROM warp_changed_at) * 1000000)::bigint,
             'hubspot_value', hubspot_value, 'hubspot_us', (extract(epoch FROM hubspot_changed_at) * 1000000)::bigint)::text
           FROM hubspot.conflicts WHERE id = ($1::json->>'id')::bigint"#,
        &json!({"id": conflict_id}),
    );
    if found.is_null() {
        unknown("there is no such conflict".into(), "SELECT id FROM hubspot.conflicts");
    }
    let moved_on = || -> ! {
        raise(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the resolution cannot be undone: no person made it, or the field has moved on since".into(),
            "edit the row, or HubSpot, to the value that is wanted",
        )
    };
    let (Some(link), Some(field_id), Some(generation)) = (
        found["link"].as_i64(),
        found["field"].as_i64(),
        found["generation"].as_i64(),
    ) else {
        moved_on();
    };
    let mut book = Book::open(Catalog::load(), &[link], now_us());
    let (clock, now) = (book.catalog.clock, book.now);
    let by = caller();
    let Some(record) = book.records.get_mut(&link) else {
        moved_on()
    };
    let Some(field) = record.fields.get(&(field_id as i32)).map(|e| e.field.clone()) else {
        moved_on()
    };
    if field.sensitive {
        raise(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "the resolution cannot be undone: field {} is sensitive, and the values were not kept",
                field.field
            ),
            "edit the row, or HubSpot, to the value that is wanted",
        );
    }
    if record.entry(&field).state.generation != generation {
        moved_on();
    }
    let side = |name: &str| found[name].as_str().map_or(value::Value::NULL, value::Value::text);
    let (warp, hubspot) = (side("warp_value"), side("hubspot_value"));
    let (warp_at, hubspot_at) = (
        found["warp_us"].as_i64().unwrap_or(0),
        found["hubspot_us"].as_i64().unwrap_or(0),
    );
    let done = record.event(&field, clock, now, |state, _, out| {
        state.reopen(&warp, warp_at, &hubspot, hubspot_at, out)
    });
    if !done {
        moved_on();
    }
    record.reopened(&field, conflict_id, &by);
    write_or_raise(&mut book, link, &field.field);
    book.flush();
    "the conflict is open again".into()
}

/// Parks nothing any more: failed fields (all, or those of one failure) are tried again.
#[pg_extern(sql = r#"
CREATE FUNCTION hubspot.retry_failed(id bigint DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn retry_failed(id: Option<i64>) -> i64 {
    let retried = retry(id.map(|id| vec![id]).as_deref());
    if let (Some(id), 0) = (id, retried) {
        unknown(
            format!("there is no open failure {id}"),
            "SELECT id FROM hubspot.failed_syncs WHERE status = 'open'",
        );
    }
    retried
}

/// Tries open failures again, these or all; gives how many were open.
pub fn retry(ids: Option<&[i64]>) -> i64 {
    absorb_all();
    let failures = spi::rows(
        r#"WITH f AS (UPDATE hubspot.failed_syncs SET status = 'retried', ended_at = clock_timestamp()
             WHERE status = 'open' AND (($1::json->>'ids') IS NULL
               OR id IN (SELECT e::bigint FROM json_array_elements_text(CASE json_typeof($1::json->'ids') WHEN 'array' THEN $1::json->'ids' ELSE '[]' END) e))
             RETURNING link_id, field_id, direction, hubspot_property)
           SELECT json_agg(row_to_json(f))::text FROM f"#,
        &json!({"ids": ids}),
    );
    let ids: Vec<i64> = failures.iter().filter_map(|f| f["link_id"].as_i64()).collect();
    let mut book = Book::open(Catalog::load(), &ids, now_us());
    let (clock, now) = (book.catalog.clock, book.now);
    let by = caller();
    let mut inbound = Vec::new();
    for failure in &failures {
        let Some(record) = failure["link_id"].as_i64().and_then(|id| book.records.get_mut(&id)) else {
            continue;
        };
        if record.lifecycle == Some(Lifecycle::Refused) {
            record.set_lifecycle(Some(Lifecycle::Archive));
            record.message = None;
        }
        if matches!(record.status.as_str(), "parked" | "missing") {
            record.contacted = false;
            record.status = if record.hubspot_id.is_some() {
                "linked".into()
            } else {
                "new".into()
            };
            record.message = None;
            record.touch_link();
        }
        let field = failure["field_id"]
            .as_i64()
            .and_then(|f| record.fields.get(&(f as i32)))
            .map(|e| e.field.clone());
        record.log(field.as_deref(), "SYNC", "retried", json!({"actor": by}));
        if failure["direction"] == "inbound" {
            inbound.push(json!({"object": record.mapping.hubspot_object, "id": record.hubspot_id, "property": failure["hubspot_property"]}));
        } else if let Some(field) = field {
            record.event(&field, clock, now, |state, _, _| state.retry());
        }
        record.queue = Queue::Offer;
    }
    book.flush();
    spi::run(
        r#"UPDATE hubspot.webhook_events e SET status = 'pending' FROM json_to_recordset($1::json) AS v (object text, id text, property text)
           WHERE e.status = 'failed' AND e.hubspot_object = v.object AND e.hubspot_id = v.id AND e.event->>'propertyName' = v.property"#,
        &Json::Array(inbound),
    );
    wake();
    failures.len() as i64
}

/// Who decides: the role that called, behind SECURITY DEFINER. A service that acts for people says for whom in the
/// setting `hubspot.actor`; whoever may set it, the role stays visible beside it.
pub fn caller() -> String {
    let sql = r#"SELECT coalesce(left(nullif(current_setting('hubspot.actor', true), ''), 64) || ' (' || session_user || ')', session_user)
                 WHERE $1::text IS NOT NULL"#;
    spi::call_text(sql, &Json::Null).unwrap_or_default()
}

/// A person's decision is rare: it may notify always.
fn wake() {
    spi::run(
        "SELECT pg_notify('hubspot_outbox', '') WHERE $1::text IS NOT NULL",
        &Json::Null,
    );
}
