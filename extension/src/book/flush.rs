//! Storing what a call decided: one statement per table, none where nothing changed.

use super::{Book, Entry, Lifecycle, Queue, Record};
use crate::spi;
use hubspot_sync_core::field::Side;
use serde_json::{Value as Json, json};

const STORE_STATES: &str = r#"
INSERT INTO hubspot.sync_state
SELECT s.* FROM json_populate_recordset(NULL::hubspot.sync_state, $1::json) s
ON CONFLICT (link_id, field_id) DO UPDATE SET
  row_value = excluded.row_value, edited_at = excluded.edited_at, origin = excluded.origin, generation = excluded.generation,
  dirty = excluded.dirty, agreed = excluded.agreed, base_value = excluded.base_value, seen_at = excluded.seen_at,
  own_at = excluded.own_at, flying = excluded.flying,
  flight_value = excluded.flight_value, flight_edited_at = excluded.flight_edited_at,
  flight_generation = excluded.flight_generation, flight_edit = excluded.flight_edit,
  flight_after = excluded.flight_after,
  pending_edit = excluded.pending_edit, given_up = excluded.given_up, held = excluded.held, held_value = excluded.held_value,
  held_at = excluded.held_at, held_buried = excluded.held_buried, parked = excluded.parked, formed = excluded.formed,
  form_sent = excluded.form_sent, form_returned = excluded.form_returned, claim_generation = excluded.claim_generation,
  conflict_id = excluded.conflict_id, hubspot_value = excluded.hubspot_value,
  hubspot_changed_at = excluded.hubspot_changed_at, hubspot_read_at = excluded.hubspot_read_at,
  synced_at = excluded.synced_at, winner = excluded.winner, message = excluded.message"#;

const STORE_LINKS: &str = r#"
UPDATE hubspot.link l SET hubspot_id = v.hubspot_id, status = v.status, contacted = v.contacted, id_written = v.id_written, message = v.message,
  lifecycle = v.lifecycle, deleted_at = v.deleted_at, life_at = v.life_at, gone_id = v.gone_id,
  linked_at = CASE WHEN v.status = 'linked' THEN coalesce(l.linked_at, clock_timestamp()) ELSE l.linked_at END
FROM json_to_recordset($1::json) AS v (link_id bigint, hubspot_id text, status text, contacted boolean, id_written boolean, message text,
  lifecycle text, deleted_at bigint, life_at bigint, gone_id text)
WHERE l.id = v.link_id"#;

const STORE_LOGS: &str = r#"
INSERT INTO hubspot.sync_log (id, entity_type, entity_key, field, side, action, warp_value, hubspot_value, edited_at, outcome,
                              outcome_at, actor, application_name, detail)
SELECT coalesce(v.id, nextval(pg_get_serial_sequence('hubspot.sync_log', 'id'))), v.entity_type, v.entity_key, v.field, v.side,
       v.action, v.warp_value, v.hubspot_value, to_timestamp(nullif(v.edited_us, 0) / 1e6), v.outcome,
       CASE WHEN v.outcome IS NOT NULL THEN clock_timestamp() END, v.actor, v.application_name, v.detail
FROM json_to_recordset($1::json) AS v (id bigint, entity_type text, entity_key text, field text, side text, action text,
  warp_value text, hubspot_value text, edited_us bigint, outcome text, actor text, application_name text, detail text)"#;

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
        let (mut states, mut links, mut logs, mut ends) = (vec![], vec![], vec![], vec![]);
        let (mut new_conflicts, mut changed_conflicts, mut failures, mut mended) = (vec![], vec![], vec![], vec![]);
        let (mut offers, mut removals, mut releases, mut wakes) = (vec![], vec![], vec![], vec![]);
        let mut ids = ConflictIds::reserve(self.records.values().flat_map(|r| &r.conflicts));
        for record in self.records.into_values() {
            let mut record = record;
            for mut conflict in std::mem::take(&mut record.conflicts) {
                place_conflict(&mut record, &mut conflict, &mut ids);
                match conflict["what"] == "new" {
                    true => new_conflicts.push(conflict),
                    false => changed_conflicts.push(conflict),
                }
            }
            queue(&record, &mut offers, &mut removals, &mut releases);
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
                states.push(state_row(record.link_id, entry));
            }
            if record.link_changed {
                links.push(json!({"link_id": record.link_id, "hubspot_id": record.hubspot_id, "status": record.status,
                                  "contacted": record.contacted, "id_written": record.id_written, "message": record.message,
                                  "lifecycle": record.lifecycle.map(Lifecycle::label), "deleted_at": record.deleted_at,
                                  "life_at": record.life_at, "gone_id": record.gone_id}));
            }
            logs.append(&mut record.logs);
            ends.append(&mut record.ends);
            failures.append(&mut record.failures);
        }
        for (sql, rows) in [
            (STORE_LINKS, links),
            // Conflicts name who made the edit, from its line in the log.
            (STORE_LOGS, logs),
            (NEW_CONFLICTS, new_conflicts),
            (CHANGED_CONFLICTS, changed_conflicts),
            (STORE_STATES, states),
            (STORE_ENDS, ends),
            (END_FAILURES, mended),
            (STORE_FAILURES, failures),
            (OFFER, offers),
            (REMOVE, removals),
            (RELEASE, releases),
            (WAKE_EVENTS, wakes),
        ] {
            if !rows.is_empty() {
                spi::run(sql, &Json::Array(rows));
            }
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

fn queue(record: &Record, offers: &mut Vec<Json>, removals: &mut Vec<Json>, releases: &mut Vec<Json>) {
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
    match record.queue {
        Queue::Keep => {}
        Queue::Offer if needed => {
            offers.push(json!({"link_id": record.link_id, "priority": priority, "delay_ms": delay}))
        }
        Queue::Offer => {}
        Queue::Finish if needed => releases
            .push(json!({"link_id": record.link_id, "delay_ms": delay, "attempts": "reset", "priority": priority})),
        Queue::Finish => removals.push(json!(record.link_id)),
        Queue::Retry { delay_ms, spent } => releases.push(json!({"link_id": record.link_id, "delay_ms": delay_ms,
            "attempts": if spent { "spent" } else { "unspent" }})),
    }
}

fn state_row(link_id: i64, entry: &Entry) -> Json {
    let s = &entry.state;
    let flight = s.in_flight.as_ref();
    let held = s.held.as_ref();
    json!({
        "link_id": link_id, "field_id": entry.field.id, "row_value": s.row, "edited_at": s.edited_at,
        "origin": if s.origin == Side::Hubspot { "h" } else { "w" }, "generation": s.generation, "dirty": s.dirty,
        "agreed": s.base.is_some(), "base_value": s.base, "seen_at": s.seen_at, "own_at": s.own_at,
        "flying": flight.is_some(), "flight_value": flight.map(|f| &f.value),
        "flight_edited_at": flight.map(|f| f.edited_at), "flight_generation": flight.map(|f| f.generation),
        "flight_edit": flight.and_then(|f| f.edit), "flight_after": flight.map(|f| f.after), "pending_edit": s.pending_edit, "given_up": s.given_up, "held": held.is_some(),
        "held_value": held.map(|h| &h.hubspot_value), "held_at": held.map(|h| h.hubspot_at),
        "held_buried": held.map(|h| h.buried), "parked": s.parked, "formed": s.form.is_some(),
        "form_sent": s.form.as_ref().map(|f| &f.0), "form_returned": s.form.as_ref().map(|f| &f.1),
        "claim_generation": entry.claim_generation, "conflict_id": entry.conflict_id,
        "hubspot_value": entry.hubspot_value, "hubspot_changed_at": entry.hubspot_changed_at,
        "hubspot_read_at": entry.hubspot_read_at, "synced_at": entry.synced_at, "winner": entry.winner,
        "message": entry.message,
    })
}
