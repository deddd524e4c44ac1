-- Questions people ask.

CREATE FUNCTION hubspot.export_mapping(entity_type text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found jsonb;
BEGIN
  SELECT m.mapping INTO found FROM hubspot.object_mapping m WHERE m.entity_type = export_mapping.entity_type;
  IF found IS NULL THEN
    RAISE EXCEPTION 'there is no mapping for entity type "%"', export_mapping.entity_type USING ERRCODE = '42704',
      HINT = 'SELECT entity_type FROM hubspot.object_mapping';
  END IF;
  RETURN found;
END
$$;
COMMENT ON FUNCTION hubspot.export_mapping(text) IS 'The mapping document as it was imported. Raises: 42704 for an entity type that is not mapped.';

CREATE FUNCTION hubspot.status(OUT armed boolean, OUT portal_id bigint, OUT paused boolean, OUT reason text, OUT relays_alive bigint,
  OUT queue_depth bigint, OUT oldest_waiting_seconds bigint, OUT conflicts_open bigint, OUT failed_open bigint,
  OUT webhook_events_pending bigint, OUT links bigint, OUT last_webhook_at timestamptz, OUT last_incremental_at timestamptz, OUT last_reconcile_at timestamptz,
  OUT quota_used_today bigint, OUT quota_left_today bigint, OUT warnings text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT hubspot.armed_reason(NULL) IS NULL, b.portal_id, b.paused, hubspot.armed_reason(NULL),
    (SELECT count(*) FROM hubspot.relay_status WHERE last_seen_at > now() - interval '15 seconds'),
    (SELECT count(*) FROM hubspot.capture) + (SELECT count(*) FROM hubspot.queue),
    (SELECT greatest(0, extract(epoch FROM clock_timestamp() - min(t)))::bigint FROM (
       SELECT min(captured_at) AS t FROM hubspot.capture WHERE op <> 'F' UNION ALL SELECT min(waiting_since) FROM hubspot.queue) w),
    (SELECT count(*) FROM hubspot.conflicts WHERE status = 'open'),
    (SELECT count(*) FROM hubspot.failed_syncs WHERE status = 'open'),
    (SELECT count(*) FROM hubspot.webhook_events WHERE status IN ('pending', 'waiting')),
    (SELECT count(*) FROM hubspot.link WHERE status = 'linked'),
    (SELECT max(received_at) FROM hubspot.webhook_events),
    (SELECT max(finished_at) FROM hubspot.reconciliation_runs WHERE kind = 'incremental' AND status = 'finished'),
    (SELECT max(finished_at) FROM hubspot.reconciliation_runs WHERE kind = 'full' AND status = 'finished'),
    (SELECT used FROM hubspot.quota), (SELECT calls_left FROM hubspot.quota),
    (SELECT array_agg(concat_ws(': ', concat_ws('.', p.entity_type, p.field), p.detail)) FROM (SELECT p.entity_type, p.field, p.detail FROM hubspot.mapping_problems p
       UNION ALL SELECT k.entity_type, NULL, format('the brake is on, nothing is sent: %s; look at hubspot.brake and hubspot.plan(%L), then call hubspot.release(%2$L)', k.reason, k.entity_type)
       FROM hubspot.brake k WHERE k.braked) p)
  FROM hubspot.binding b
$$;
COMMENT ON FUNCTION hubspot.status() IS 'One row that an operator reads first. reason: why relays may not work; null when they may. oldest_waiting_seconds: null when nothing waits. last_incremental_at, last_reconcile_at: when the newest incremental and the newest full comparison of any mapping were finished; null when none is on record. warnings: brakes that are on, and what hubspot.mapping_problems says; null when nothing.';

CREATE FUNCTION hubspot.explain(entity_type text, entity_key text, field text)
RETURNS TABLE (at timestamptz, side text, action text, warp_value text, hubspot_value text, edited_at timestamptz, outcome text, actor text, detail text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT l.at, l.side, l.action, l.warp_value, l.hubspot_value, l.edited_at, l.outcome, l.actor, l.detail
  FROM hubspot.sync_log l
  WHERE l.entity_type = explain.entity_type AND l.entity_key = explain.entity_key AND (l.field = explain.field OR l.field IS NULL)
  ORDER BY l.id
$$;
COMMENT ON FUNCTION hubspot.explain(text, text, text) IS 'The history of one value: every edit, who made it, when, what was decided and why, as far back as sync_log reaches. Empty: nothing is known of that field.';

CREATE FUNCTION hubspot.resolve_conflicts(winner text, entity_type text DEFAULT NULL, field text DEFAULT NULL,
  detected_before timestamptz DEFAULT NULL, max_conflicts int DEFAULT 1000, OUT resolved bigint, OUT left_open bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  c record;
BEGIN
  IF resolve_conflicts.winner IS NULL OR upper(resolve_conflicts.winner) NOT IN ('WARP', 'HUBSPOT') THEN
    RAISE EXCEPTION 'winner is not one of WARP, HUBSPOT' USING ERRCODE = '22023', HINT = 'a third value is given one conflict at a time, with hubspot.resolve_conflict';
  END IF;
  resolved := 0;
  left_open := 0;
  FOR c IN SELECT k.id FROM hubspot.conflicts k WHERE k.status = 'open'
      AND (resolve_conflicts.entity_type IS NULL OR k.entity_type = resolve_conflicts.entity_type)
      AND (resolve_conflicts.field IS NULL OR k.field = resolve_conflicts.field)
      AND (detected_before IS NULL OR k.detected_at < detected_before)
    ORDER BY k.id LIMIT max_conflicts LOOP
    BEGIN
      PERFORM hubspot.resolve_conflict(c.id, resolve_conflicts.winner);
      resolved := resolved + 1;
    EXCEPTION WHEN lock_not_available OR object_not_in_prerequisite_state OR check_violation THEN
      left_open := left_open + 1;
    END;
  END LOOP;
END
$$;
COMMENT ON FUNCTION hubspot.resolve_conflicts(text, text, text, timestamptz, int) IS
'Resolves open conflicts in bulk, oldest first: those of an entity type, a field, detected before an instant; null filters nothing. left_open counts conflicts that could not be resolved now (row locked, table refuses the value). Raises: 22023.';
