-- What people SELECT from.

CREATE FUNCTION hubspot.instant(us bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ SELECT to_timestamp(nullif(us, 0) / 1e6) $$;
COMMENT ON FUNCTION hubspot.instant(bigint) IS 'Microseconds since 1970-01-01 UTC as an instant; null for 0 and null. Private.';

CREATE VIEW hubspot.field_state AS
SELECT m.entity_type, l.entity_key, f.field,
  CASE
    WHEN l.lifecycle = 'held' THEN 'conflict'
    WHEN l.status IN ('missing', 'deleted_here', 'deleted_there') THEN l.status
    WHEN s.held THEN 'conflict'
    WHEN s.parked OR EXISTS (SELECT 1 FROM hubspot.failed_syncs x WHERE x.link_id = s.link_id AND x.field_id = s.field_id AND x.status = 'open') THEN 'failed'
    WHEN s.flying THEN 'in_flight'
    WHEN l.status = 'parked' THEN 'unlinked'
    WHEN s.dirty THEN 'pending'
    WHEN NOT s.agreed AND f.sync_direction <> 'HUBSPOT_TO_WARP' THEN 'new'
    ELSE 'in_sync'
  END AS status,
  CASE WHEN f.sensitive AND s.row_value IS NOT NULL THEN 'hidden' ELSE s.row_value END AS warp_value, s.hubspot_value,
  CASE WHEN f.sensitive AND s.base_value IS NOT NULL THEN 'hidden' ELSE s.base_value END AS base_value,
  CASE s.origin WHEN 'w' THEN hubspot.instant(s.edited_at) ELSE hubspot.instant(s.edited_at) END AS warp_changed_at,
  hubspot.instant(s.hubspot_changed_at) AS hubspot_changed_at, hubspot.instant(s.synced_at) AS synced_at, s.winner,
  CASE s.origin WHEN 'w' THEN 'WARP' ELSE 'HUBSPOT' END AS last_edited_in,
  f.sync_direction, f.conflict_resolution, f.hubspot_property, l.hubspot_id, s.message
FROM hubspot.sync_state s
JOIN hubspot.link l ON l.id = s.link_id
JOIN hubspot.field_mapping f ON f.id = s.field_id
JOIN hubspot.object_mapping m ON m.id = l.mapping_id;
COMMENT ON VIEW hubspot.field_state IS 'One row per field of each known record: what each side holds, what both last agreed on, and what is going on.';
COMMENT ON COLUMN hubspot.field_state.status IS 'in_sync; new: never agreed; pending: waits to be sent; in_flight: sent, outcome not known; conflict: held for a person; failed: parked, see failed_syncs; unlinked; missing, deleted_here, deleted_there: the record''s.';
COMMENT ON COLUMN hubspot.field_state.warp_value IS 'The row''s value in canonical form; hidden: of a sensitive field. Null: empty.';
COMMENT ON COLUMN hubspot.field_state.hubspot_value IS 'What HubSpot was last known to hold, in HubSpot''s own form. Null: empty or never learnt.';
COMMENT ON COLUMN hubspot.field_state.base_value IS 'What both sides last agreed on, in the row''s form.';
COMMENT ON COLUMN hubspot.field_state.warp_changed_at IS 'When the row''s value was last edited; for a value that came from HubSpot, when it was edited there. Null: before the mapping.';
COMMENT ON COLUMN hubspot.field_state.synced_at IS 'When both sides last came to agree. Null: never.';
COMMENT ON COLUMN hubspot.field_state.winner IS 'Who won the field''s newest conflict. Null: there was none, or it is open.';

CREATE VIEW hubspot.outbox AS
SELECT c.position AS id, m.entity_type, c.entity_key, 'captured'::text AS state, c.op::text AS op,
  ARRAY(SELECT json_object_keys(c.changes)) AS fields, c.captured_at AS waiting_since, NULL::timestamptz AS due_at, 0 AS attempts,
  NULL::text AS claimed_by, NULL::timestamptz AS lease_expires_at, c.application_name
FROM hubspot.capture c JOIN hubspot.object_mapping m ON m.id = c.mapping_id
UNION ALL
SELECT NULL, m.entity_type, l.entity_key,
  CASE WHEN q.claimed_by IS NOT NULL THEN 'claimed' WHEN q.attempts > 0 THEN 'retrying' ELSE 'waiting' END, NULL,
  ARRAY(SELECT f.field FROM hubspot.sync_state s JOIN hubspot.field_mapping f ON f.id = s.field_id
        WHERE s.link_id = l.id AND (s.flying OR (s.dirty AND NOT s.held AND NOT s.parked)) ORDER BY f.id),
  q.waiting_since, q.due_at, q.attempts, q.claimed_by, q.lease_expires_at, NULL
FROM hubspot.queue q JOIN hubspot.link l ON l.id = q.link_id JOIN hubspot.object_mapping m ON m.id = l.mapping_id
UNION ALL
SELECT NULL, m.entity_type, l.entity_key, 'held', NULL,
  ARRAY(SELECT f.field FROM hubspot.sync_state s JOIN hubspot.field_mapping f ON f.id = s.field_id
        WHERE s.link_id = l.id AND (s.flying OR (s.dirty AND NOT s.held AND NOT s.parked)) ORDER BY f.id),
  h.waiting_since, NULL, 0, NULL, NULL, NULL
FROM hubspot.brake_held h JOIN hubspot.link l ON l.id = h.link_id JOIN hubspot.object_mapping m ON m.id = l.mapping_id
UNION ALL
SELECT NULL, m.entity_type, s.entity_key, 'shed', NULL, NULL, s.since, NULL, 0, NULL, NULL, NULL
FROM hubspot.capture_shed s JOIN hubspot.object_mapping m ON m.id = s.mapping_id;
COMMENT ON VIEW hubspot.outbox IS 'Everything that committed and is not delivered yet: captured row changes that no relay took over, then records that wait, are claimed or are being retried, then (state held) those of mappings whose brake is on, then (state shed) records whose changes were past hubspot.set_capture_limit.';
COMMENT ON COLUMN hubspot.outbox.id IS 'Position among the captured changes: rises with the changes of one row, is unique only in practice, and 0 after a restore. Null: a record in the queue.';
COMMENT ON COLUMN hubspot.outbox.op IS 'I insert, U update, D delete, K key change, T truncate, F first sync. Null: a record in the queue.';

CREATE VIEW hubspot.ledger AS
SELECT l.id AS edit, l.at AS captured_at, l.entity_type, l.entity_key, l.field, l.warp_value, l.edited_at, l.actor, l.application_name,
  coalesce(l.outcome, CASE WHEN EXISTS (
    SELECT 1 FROM hubspot.object_mapping m JOIN hubspot.link k ON k.mapping_id = m.id JOIN hubspot.sync_state s ON s.link_id = k.id
    WHERE m.entity_type = l.entity_type AND k.entity_key = l.entity_key AND (s.pending_edit = l.id OR s.flight_edit = l.id))
    THEN 'waiting' ELSE 'unaccounted' END) AS ending, l.outcome_at AS ended_at
FROM hubspot.sync_log l WHERE l.action = 'edit';
COMMENT ON VIEW hubspot.ledger IS 'Every captured edit of a row with its end: delivered, superseded, lost_conflict, failed, skipped, unchanged, or waiting. None is ever unaccounted.';

CREATE VIEW hubspot.metrics AS
SELECT 'queue_depth' AS name, (SELECT count(*) FROM hubspot.capture) + (SELECT count(*) FROM hubspot.queue) AS value
UNION ALL SELECT 'brakes_on', count(*) FROM hubspot.object_mapping WHERE braked_at IS NOT NULL
UNION ALL SELECT 'brake_held', count(*) FROM hubspot.brake_held
UNION ALL SELECT 'conflicts_open', count(*) FROM hubspot.conflicts WHERE status = 'open'
UNION ALL SELECT 'failed_open', count(*) FROM hubspot.failed_syncs WHERE status = 'open'
UNION ALL SELECT 'webhook_events_pending', count(*) FROM hubspot.webhook_events WHERE status = 'pending'
UNION ALL SELECT 'webhook_events_waiting', count(*) FROM hubspot.webhook_events WHERE status = 'waiting'
UNION ALL SELECT 'links', count(*) FROM hubspot.link WHERE status = 'linked'
UNION ALL SELECT 'relays_alive', count(*) FROM hubspot.relay_status WHERE last_seen_at > now() - interval '15 seconds'
UNION ALL SELECT 'api_requests_total', coalesce(sum(requests), 0)::bigint FROM hubspot.relay_status
UNION ALL SELECT 'api_requests_rate_limited_total', coalesce(sum(rate_limited), 0)::bigint FROM hubspot.relay_status
UNION ALL SELECT 'api_requests_failed_total', coalesce(sum(failed), 0)::bigint FROM hubspot.relay_status
UNION ALL SELECT 'quota_used_today', used FROM hubspot.quota
UNION ALL SELECT 'quota_left_today', calls_left FROM hubspot.quota
UNION ALL SELECT 'quota_forecast_today', forecast FROM hubspot.quota
UNION ALL SELECT 'quota_slots_held', coalesce(sum(held), 0)::bigint FROM hubspot.quota_holder WHERE budget = 'general' AND lease_expires_at > now();
COMMENT ON VIEW hubspot.metrics IS 'Figures for monitoring, one a row. Names that end in _total only rise while the relays run.';
