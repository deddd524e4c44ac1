//! Storing what a call decided: one statement per table, none where nothing changed.

use super::{Book, Entry, Lifecycle, Queue, Record};
use crate::spi::tuples::{self, Cell};
use crate::{sensitive, spi};
use core::ffi::CStr;
use hubspot_sync_core::field::Side;
use hubspot_sync_core::value::Value;
use serde_json::{Value as Json, json};

/// States that were not there before. Nobody else makes them: whoever has loaded a record holds its link's lock.
const NEW_STATES: &str = "INSERT INTO hubspot.sync_state SELECT n.* FROM unnest($1) AS n";

const CHANGED_STATES: &str = r#"
UPDATE hubspot.sync_state s SET
  row_value = n.row_value, edited_at = n.edited_at, origin = n.origin, generation = n.generation,
  dirty = n.dirty, agreed = n.agreed, base_value = n.base_value, seen_at = n.seen_at,
  own_at = n.own_at, flying = n.flying,
  flight_value = n.flight_value, flight_edited_at = n.flight_edited_at,
  flight_generation = n.flight_generation, flight_edit = n.flight_edit,
  flight_after = n.flight_after,
  pending_edit = n.pending_edit, given_up = n.given_up, held = n.held, held_value = n.held_value,
  held_at = n.held_at, held_buried = n.held_buried, parked = n.parked, formed = n.formed,
  form_sent = n.form_sent, form_returned = n.form_returned, claim_generation = n.claim_generation,
  conflict_id = n.conflict_id, hubspot_value = n.hubspot_value,
  hubspot_changed_at = n.hubspot_changed_at, hubspot_read_at = n.hubspot_read_at,
  synced_at = n.synced_at, winner = n.winner, message = n.message
FROM unnest($1) AS n WHERE s.link_id = n.link_id AND s.field_id = n.field_id"#;

const STATE_COLUMNS: [&CStr; 35] = [
    c"link_id",
    c"field_id",
    c"row_value",
    c"edited_at",
    c"origin",
    c"generation",
    c"dirty",
    c"agreed",
    c"base_value",
    c"seen_at",
    c"own_at",
    c"flying",
    c"flight_value",
    c"flight_edited_at",
    c"flight_generation",
    c"flight_edit",
    c"flight_after",
    c"pending_edit",
    c"given_up",
    c"held",
    c"held_value",
    c"held_at",
    c"held_buried",
    c"parked",
    c"formed",
    c"form_sent",
    c"form_returned",
    c"claim_generation",
    c"conflict_id",
    c"hubspot_value",
    c"hubspot_changed_at",
    c"hubspot_read_at",
    c"synced_at",
    c"winner",
    c"message",
];

const STORE_LINKS: &str = r#"
UPDATE hubspot.link l SET hubspot_id = v.hubspot_id, status = v.status, contacted = v.contacted, id_written = v.id_written, message = v.message,
  lifecycle = v.lifecycle, deleted_at = v.deleted_at, life_at = v.life_at, gone_id = v.gone_id,
  linked_at = CASE WHEN v.status = 'linked' THEN coalesce(l.linked_at, clock_timestamp()) ELSE l.linked_at END
FROM unnest($1) AS v WHERE l.id = v.id"#;

const LINK_COLUMNS: [&CStr; 10] = [
    c"id",
    c"hubspot_id",
    c"status",
    c"contacted",
    c"id_written",
    c"message",
    c"lifecycle",
    c"deleted_at",
    c"life_at",
    c"gone_id",
];

/// Looking up the sequence costs more than a number of it: it is done once.
const STORE_LOGS: &str = r#"
INSERT INTO hubspot.sync_log (id, entity_type, entity_key, field, side, action, warp_value, hubspot_value, edited_at, outcome,
                              outcome_at, actor, application_name, detail)
SELECT coalesce(v.id, nextval((SELECT pg_get_serial_sequence('hubspot.sync_log', 'id')::regclass))), v.entity_type, v.entity_key, v.field,
       v.side, v.action, v.warp_value, v.hubspot_value, v.edited_at, v.outcome,
       CASE WHEN v.outcome IS NOT NULL THEN clock_timestamp() END, v.actor, v.application_name, v.detail
FROM unnest($1) AS v"#;

const LOG_COLUMNS: [&CStr; 13] = [
    c"id",
    c"edited_at",
    c"entity_type",
    c"entity_key",
    c"field",
    c"side",
    c"action",
    c"warp_value",
    c"hubspot_value",
    c"outcome",
    c"actor",
    c"application_name",
    c"detail",
];

const STORE_ENDS: &str = r#"
UPDATE hubspot.sync_log l SET outcome = v.outcome, outcome_at = clock_timestamp()
FROM json_to_recordset($1::json) AS v (id bigint, outcome text) WHERE l.id = v.id"#;

const NEW_CONFLICTS: &str = r#"
WITH v AS (SELECT * FROM json_to_recordset($1::json) AS v (id bigint, link_id bigint, field_id int, entity_type text,
  entity_key text, field text, kind text, warp_value text, warp_us bigint, warp_edit bigint, hubspot_value text, hubspot_us bigint,
  hubspot_by text, base_value text, strategy hubspot.conflict_resolution, winner text, reason text))
INSERT INTO hubspot.conflicts (id, entity_type, entity_key, field, kind, warp_value, warp_changed_at, warp_changed_by,
  hubspot_value, hubspot_changed_at, hubspot_changed_by, base_value, strategy, status, winner, reason, resolved_by, resolved_at, link_id, field_id)
SELECT v.id, v.entity_type, v.entity_key, v.field, v.kind, v.warp_value, to_timestamp(nullif(v.warp_us, 0) / 1e6),
  CASE WHEN v.kind = 'DELETE_UPDATE' AND v.warp_value IS NULL
    THEN (SELECT l.actor FROM hubspot.sync_log l WHERE l.entity_type = v.entity_type AND l.entity_key = v.entity_key AND l.field IS NULL
            AND l.side = 'WARP' AND l.action = 'deleted' ORDER BY l.id DESC LIMIT 1)
    ELSE (SELECT concat_ws(' ', l.actor, nullif(l.application_name, '')) FROM hubspot.sync_log l WHERE l.id = v.warp_edit) END,
  v.hubspot_value, to_timestamp(nullif(v.hubspot_us, 0) / 1e6), v.hubspot_by, v.base_value, v.strategy,
  CASE WHEN v.winner IS NULL THEN 'open' ELSE 'resolved' END, v.winner, v.reason,
  CASE WHEN v.winner IS NOT NULL THEN 'policy' END, CASE WHEN v.winner IS NOT NULL THEN clock_timestamp() END,
  v.link_id, v.field_id
FROM v"#;

const CHANGED_CONFLICTS: &str = r#"
UPDATE hubspot.conflicts c SET
  warp_value = CASE WHEN v.what = 'update' THEN v.warp_value ELSE c.warp_value END,
  warp_changed_at = CASE WHEN v.what = 'update' THEN to_timestamp(nullif(v.warp_us, 0) / 1e6) ELSE c.warp_changed_at END,
  hubspot_value = CASE WHEN v.what = 'update' THEN v.hubspot_value ELSE c.hubspot_value END,
  hubspot_changed_at = CASE WHEN v.what = 'update' THEN to_timestamp(nullif(v.hubspot_us, 0) / 1e6) ELSE c.hubspot_changed_at END,
  status = CASE v.what WHEN 'resolve' THEN 'resolved' WHEN 'reopen' THEN 'open' ELSE c.status END,
  winner = CASE v.what WHEN 'resolve' THEN v.winner WHEN 'reopen' THEN NULL ELSE c.winner END,
  reason = CASE v.what WHEN 'resolve' THEN v.reason WHEN 'reopen' THEN 'opened again' ELSE c.reason END,
  resolved_by = CASE v.what WHEN 'resolve' THEN v.resolved_by WHEN 'reopen' THEN NULL ELSE c.resolved_by END,
  resolved_at = CASE v.what WHEN 'resolve' THEN clock_timestamp() WHEN 'reopen' THEN NULL ELSE c.resolved_at END,
  resolved_generation = v.resolved_generation
FROM (SELECT DISTINCT ON (id) *
      FROM ROWS FROM (json_to_recordset($1::json) AS (id bigint, what text, warp_value text, warp_us bigint,
        hubspot_value text, hubspot_us bigint, winner text, resolved_by text, reason text, resolved_generation bigint)) WITH ORDINALITY
        AS v (id, what, warp_value, warp_us, hubspot_value, hubspot_us, winner, resolved_by, reason, resolved_generation, ord)
      ORDER BY id, what = 'resolve' DESC, ord DESC) v
WHERE c.id = v.id"#;

const STORE_FAILURES: &str = r#"
WITH v AS (SELECT * FROM json_to_recordset($1::json) AS v (link_id bigint, field_id int, entity_type text, entity_key text,
    field text, direction text, hubspot_property text, kind text, http_status int, message text, value text)),
again AS (UPDATE hubspot.failed_syncs f SET attempts = f.attempts + 1, failed_at = clock_timestamp(), message = v.message,
    kind = v.kind, http_status = v.http_status, value = v.value
  FROM v WHERE f.link_id = v.link_id AND f.field_id IS NOT DISTINCT FROM v.field_id AND f.direction = v.direction
    AND f.status = 'open' RETURNING f.link_id, f.field_id, f.direction)
INSERT INTO hubspot.failed_syncs (link_id, field_id, entity_type, entity_key, field, direction, hubspot_property, kind,
  http_status, message, value)
SELECT v.link_id, v.field_id, v.entity_type, v.entity_key, v.field, v.direction, v.hubspot_property, v.kind, v.http_status,
  v.message, v.value
FROM v WHERE NOT EXISTS (SELECT 1 FROM again a WHERE a.link_id = v.link_id AND a.field_id IS NOT DISTINCT FROM v.field_id
  AND a.direction = v.direction)"#;

const END_FAILURES: &str = r#"
UPDATE hubspot.failed_syncs f SET status = 'resolved', ended_at = clock_timestamp()
FROM json_to_recordset($1::json) AS v (link_id bigint, field_id int)
WHERE f.link_id = v.link_id AND f.field_id IS NOT DISTINCT FROM v.field_id AND f.status = 'open'"#;

const OFFER: &str = r#"
INSERT INTO hubspot.queue AS q (link_id, priority, waiting_since, due_at)
SELECT v.link_id, v.priority, clock_timestamp(), clock_timestamp() + v.delay_ms * interval '1 millisecond'
FROM json_to_recordset($1::json) AS v (link_id bigint, priority smallint, delay_ms bigint)
ON CONFLICT (link_id) DO UPDATE SET priority = least(q.priority, excluded.priority), due_at = least(q.due_at, excluded.due_at)
WHERE q.claimed_by IS NULL AND q.attempts = 0"#;

const REMOVE: &str =
    "DELETE FROM hubspot.queue WHERE link_id IN (SELECT e::bigint FROM json_array_elements_text($1::json) e)";

/// A braked mapping's records wait elsewhere: claims do not step over them.
const HOLD: &str = r#"
INSERT INTO hubspot.brake_held (link_id, priority, waiting_since)
SELECT v.link_id, v.priority, coalesce((SELECT q.waiting_since FROM hubspot.queue q WHERE q.link_id = v.link_id), clock_timestamp())
FROM json_to_recordset($1::json) AS v (link_id bigint, priority smallint) ON CONFLICT (link_id) DO NOTHING"#;

const RELEASE: &str = r#"
UPDATE hubspot.queue q SET claimed_by = NULL, lease_expires_at = NULL,
  due_at = clock_timestamp() + v.delay_ms * interval '1 millisecond',
  priority = coalesce(v.priority, q.priority),
  attempts = CASE v.attempts WHEN 'reset' THEN 0 WHEN 'unspent' THEN greatest(q.attempts - 1, 0) ELSE q.attempts END
FROM json_to_recordset($1::json) AS v (link_id bigint, delay_ms bigint, attempts text, priority smallint)
WHERE q.link_id = v.link_id"#;

/// Events that waited for the outcome of a write, or for their record to be linked, are offered again.
const WAKE_EVENTS: &str = r#"
UPDATE hubspot.webhook_events e SET status = 'pending'
FROM json_to_recordset($1::json) AS v (hubspot_object text, hubspot_id text)
WHERE e.hubspot_object = v.hubspot_object AND e.hubspot_id = v.hubspot_id AND e.status IN ('waiting', 'unmatched')"#;

/// Milliseconds until a record with only batch fields is due: the strategy's incremental sync interval.
const BATCH_DELAY_MS: i64 = 15 * 60 * 1000;

impl Book {
    /// Stores everything. The book is used up.
    pub fn flush(self) {
        let (mut logs, mut ends) = (vec![], vec![]);
        let (mut new_conflicts, mut changed_conflicts, mut failures, mut mended) = (vec![], vec![], vec![], vec![]);
        let (mut offers, mut removals, mut releases, mut wakes, mut holds) = (vec![], vec![], vec![], vec![], vec![]);
        let mut ids = ConflictIds::reserve(self.records.values().flat_map(|r| &r.conflicts));
        let mut records: Vec<Record> = self.records.into_values().collect();
        for record in &mut records {
            for mut conflict in std::mem::take(&mut record.conflicts) {
                place_conflict(record, &mut conflict, &mut ids);
                match conflict["what"] == "new" {
                    true => new_conflicts.push(conflict),
                    false => changed_conflicts.push(conflict),
                }
            }
            queue(record, &mut offers, &mut removals, &mut releases, &mut holds);
            if let Some(id) = &record.hubspot_id
                && matches!(record.status.as_str(), "linked" | "deleted_here")
                && record.lifecycle != Some(Lifecycle::Archiving)
                && (record.queue == Queue::Finish || record.link_changed || record.fields.values().any(|e| e.changed))
                && record.fields.values().all(|e| e.state.in_flight.is_none())
            {
                wakes.push(json!({"hubspot_object": record.mapping.hubspot_object, "hubspot_id": id}));
            }
            if record.link_changed
                && matches!(
                    record.status.as_str(),
                    "linked" | "new" | "deleted_here" | "deleted_there"
                )
                && record.message.is_none()
                && record.failures.is_empty()
            {
                mended.push(json!({"link_id": record.link_id, "field_id": null}));
            }
            let failed_now: Vec<i64> = record.failures.iter().filter_map(|f| f["field_id"].as_i64()).collect();
            for entry in record.fields.values_mut().filter(|e| e.changed) {
                if !entry.state.parked && entry.message.is_some() && !failed_now.contains(&i64::from(entry.field.id)) {
                    entry.message = None;
                    mended.push(json!({"link_id": record.link_id, "field_id": entry.field.id}));
                }
            }
            logs.append(&mut record.logs);
            ends.append(&mut record.ends);
            failures.append(&mut record.failures);
        }
        let links = records.iter().filter(|r| r.link_changed).map(link_row);
        tuples::write(STORE_LINKS, c"link", &LINK_COLUMNS, links);
        // Conflicts name who made the edit, from its line in the log.
        tuples::write(STORE_LOGS, c"sync_log", &LOG_COLUMNS, logs.iter().map(log_row));
        store(vec![
            (NEW_CONFLICTS, new_conflicts),
            (CHANGED_CONFLICTS, changed_conflicts),
        ]);
        for (sql, stored) in [(NEW_STATES, false), (CHANGED_STATES, true)] {
            let states = records.iter().flat_map(|record| {
                let changed = record.fields.values().filter(move |e| e.changed && e.stored == stored);
                changed.map(|entry| state_row(record.link_id, entry))
            });
            tuples::write(sql, c"sync_state", &STATE_COLUMNS, states);
        }
        sensitive::store_held(records.iter());
        store(vec![
            (STORE_ENDS, ends),
            (END_FAILURES, mended),
            (STORE_FAILURES, failures),
            (OFFER, offers),
            (HOLD, holds),
            (REMOVE, removals),
            (RELEASE, releases),
            (WAKE_EVENTS, wakes),
        ]);
    }
}

/// Runs the statements that have rows.
fn store(statements: Vec<(&str, Vec<Json>)>) {
    for (sql, rows) in statements {
        if !rows.is_empty() {
            spi::run(sql, &Json::Array(rows));
        }
    }
}

/// Ids for new conflicts, taken from the sequence in one statement, so that a field's state can name its conflict.
struct ConflictIds(Vec<i64>);

impl ConflictIds {
    fn reserve<'a>(conflicts: impl Iterator<Item = &'a Json>) -> ConflictIds {
        let count = conflicts.filter(|c| c["what"] == "new").count();
        if count == 0 {
            return ConflictIds(Vec::new());
        }
        let ids = spi::rows(
            "SELECT json_agg(nextval(pg_get_serial_sequence('hubspot.conflicts', 'id')))::text FROM generate_series(1, ($1::json->>'n')::int)",
            &json!({"n": count}),
        );
        ConflictIds(ids.iter().filter_map(Json::as_i64).collect())
    }
}

/// Gives a conflict its id and its record's names.
fn place_conflict(record: &mut Record, conflict: &mut Json, ids: &mut ConflictIds) {
    let field_id = conflict["field_id"]
        .as_i64()
        .and_then(|id| i32::try_from(id).ok())
        .unwrap_or(0);
    let Some(entry) = record.fields.get_mut(&field_id) else {
        return;
    };
    if conflict["what"] == "new" {
        let id = ids.0.pop();
        if conflict["winner"].is_null() {
            entry.conflict_id = id;
        }
        conflict["id"] = json!(id);
        conflict["link_id"] = json!(record.link_id);
        conflict["entity_type"] = json!(record.mapping.entity_type);
        conflict["entity_key"] = json!(record.key);
    } else if conflict["id"].is_null() {
        conflict["id"] = json!(entry.conflict_id);
    }
}

fn queue(
    record: &Record,
    offers: &mut Vec<Json>,
    removals: &mut Vec<Json>,
    releases: &mut Vec<Json>,
    holds: &mut Vec<Json>,
) {
    let needed = record.needs_delivery();
    // A record as a whole (to be archived, to be looked up) does not wait for a batch.
    let batch = record.contacted
        && record.lifecycle.is_none()
        && record
            .fields
            .values()
            .filter(|e| e.state.needs_delivery())
            .all(|e| e.field.is_batch() && e.state.in_flight.is_none());
    let (priority, delay) = match (batch, record.background) {
        (true, _) => (1, BATCH_DELAY_MS),
        (false, true) => (1, 0),
        (false, false) => (0, 0),
    };
    let hold = json!({"link_id": record.link_id, "priority": priority});
    match record.queue {
        Queue::Keep => {}
        Queue::Offer if needed && record.mapping.braked => holds.push(hold),
        Queue::Hold | Queue::Finish | Queue::Retry { .. } if record.mapping.braked => {
            removals.push(json!(record.link_id));
            if needed {
                holds.push(hold);
            }
        }
        Queue::Offer if needed => {
            offers.push(json!({"link_id": record.link_id, "priority": priority, "delay_ms": delay}))
        }
        Queue::Offer => {}
        Queue::Finish if needed => releases
            .push(json!({"link_id": record.link_id, "delay_ms": delay, "attempts": "reset", "priority": priority})),
        Queue::Finish | Queue::Hold => removals.push(json!(record.link_id)),
        Queue::Retry { delay_ms, spent } => releases.push(json!({"link_id": record.link_id, "delay_ms": delay_ms,
            "attempts": if spent { "spent" } else { "unspent" }})),
    }
}

/// In the order of [`LINK_COLUMNS`].
fn link_row(record: &Record) -> [Cell<'_>; LINK_COLUMNS.len()] {
    [
        Cell::Long(record.link_id),
        Cell::text(record.hubspot_id.as_deref()),
        Cell::Text(&record.status),
        Cell::Bool(record.contacted),
        Cell::Bool(record.id_written),
        Cell::text(record.message.as_deref()),
        Cell::text(record.lifecycle.map(Lifecycle::label)),
        Cell::Long(record.deleted_at),
        Cell::Long(record.life_at),
        Cell::text(record.gone_id.as_deref()),
    ]
}

/// In the order of [`LOG_COLUMNS`].
fn log_row(line: &Json) -> [Cell<'_>; LOG_COLUMNS.len()] {
    let text = |key: &str| Cell::text(line[key].as_str());
    let edited_us = line["edited_us"].as_i64().filter(|us| *us != 0);
    [
        Cell::long(line["id"].as_i64()),
        edited_us.map_or(Cell::Null, Cell::Instant),
        text("entity_type"),
        text("entity_key"),
        text("field"),
        text("side"),
        text("action"),
        text("warp_value"),
        text("hubspot_value"),
        text("outcome"),
        text("actor"),
        text("application_name"),
        text("detail"),
    ]
}

/// In the order of [`STATE_COLUMNS`].
fn state_row(link_id: i64, entry: &Entry) -> [Cell<'_>; STATE_COLUMNS.len()] {
    let s = &entry.state;
    let flight = s.in_flight.as_ref();
    let held = s.held.as_ref();
    fn value(value: Option<&Value>) -> Cell<'_> {
        Cell::text(value.and_then(Value::as_deref))
    }
    [
        Cell::Long(link_id),
        Cell::Int(entry.field.id),
        value(Some(&s.row)),
        Cell::Long(s.edited_at),
        Cell::Char(if s.origin == Side::Hubspot { b'h' } else { b'w' }),
        Cell::Long(s.generation),
        Cell::Bool(s.dirty),
        Cell::Bool(s.base.is_some()),
        value(s.base.as_ref()),
        Cell::Long(s.seen_at),
        Cell::Long(s.own_at),
        Cell::Bool(flight.is_some()),
        value(flight.map(|f| &f.value)),
        Cell::long(flight.map(|f| f.edited_at)),
        Cell::long(flight.map(|f| f.generation)),
        Cell::long(flight.and_then(|f| f.edit)),
        Cell::long(flight.map(|f| f.after)),
        Cell::long(s.pending_edit),
        Cell::Bool(s.given_up),
        Cell::Bool(held.is_some()),
        value(held.map(|h| &h.hubspot_value)),
        Cell::long(held.map(|h| h.hubspot_at)),
        held.map_or(Cell::Null, |h| Cell::Bool(h.buried)),
        Cell::Bool(s.parked),
        Cell::Bool(s.form.is_some()),
        value(s.form.as_ref().map(|f| &f.0)),
        value(s.form.as_ref().map(|f| &f.1)),
        Cell::long(entry.claim_generation),
        Cell::long(entry.conflict_id),
        Cell::text(entry.hubspot_value.as_deref()),
        Cell::Long(entry.hubspot_changed_at),
        Cell::Long(entry.hubspot_read_at),
        Cell::Long(entry.synced_at),
        Cell::text(entry.winner.as_deref()),
        Cell::text(entry.message.as_deref()),
    ]
}
