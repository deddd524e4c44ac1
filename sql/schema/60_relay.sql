-- The part of the relay's contract that is plain SQL; extension/RELAY_CONTRACT.md describes all of it.

CREATE FUNCTION hubspot.relay_hello(relay_id text, version text, portal_id bigint) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  reason text := hubspot.armed_reason(portal_id);
BEGIN
  INSERT INTO hubspot.relay_status AS r (relay_id, version) VALUES (relay_hello.relay_id, relay_hello.version)
  ON CONFLICT ON CONSTRAINT relay_status_pkey DO UPDATE SET last_seen_at = clock_timestamp(), version = excluded.version;
  RETURN jsonb_build_object('schema_version', (SELECT extversion FROM pg_extension WHERE extname = 'hubspot_sync'),
    'armed', reason IS NULL, 'paused', (SELECT paused FROM hubspot.binding), 'reason', reason);
END
$$;

CREATE FUNCTION hubspot.relay_mapping() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object('entity_type', m.entity_type, 'object_type', m.hubspot_object, 'enabled', m.enabled,
    'match_property', m.match_property,
    'properties', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', f.hubspot_property, 'field', f.field,
        'direction', f.sync_direction, 'kind', f.kind, 'enum_values', f.enum_values) ORDER BY f.id), '[]') FROM hubspot.field_mapping f
      WHERE f.mapping_id = m.id AND f.active)) ORDER BY m.id), '[]')
  FROM hubspot.object_mapping m
$$;

CREATE FUNCTION hubspot.relay_release(relay_id text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  released bigint;
BEGIN
  UPDATE hubspot.reconciliation_runs r SET claimed_by = NULL, lease_expires_at = NULL WHERE r.claimed_by = relay_release.relay_id;
  UPDATE hubspot.webhook_journal j SET held_by = NULL, lease_expires_at = NULL WHERE j.held_by = relay_release.relay_id;
  WITH given_back AS (
    UPDATE hubspot.queue q SET claimed_by = NULL, lease_expires_at = NULL, due_at = clock_timestamp(), attempts = greatest(q.attempts - 1, 0)
    WHERE q.claimed_by = relay_release.relay_id
      AND NOT EXISTS (SELECT 1 FROM hubspot.sync_state s WHERE s.link_id = q.link_id AND s.flying)
      AND NOT EXISTS (SELECT 1 FROM hubspot.link l WHERE l.id = q.link_id AND l.lifecycle = 'archiving')
    RETURNING 1)
  SELECT count(*) INTO released FROM given_back;
  RETURN released;
END
$$;

CREATE FUNCTION hubspot.relay_awake() RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  -- A committer probes the lock for an instant; a try that met one is repeated.
  SELECT pg_try_advisory_lock(1213418579, 1) OR pg_try_advisory_lock(1213418579, 1) OR pg_try_advisory_lock(1213418579, 1)
$$;

CREATE FUNCTION hubspot.relay_asleep() RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = 1213418579
    AND objid = 1 AND granted) THEN pg_advisory_unlock(1213418579, 1) ELSE false END
$$;

CREATE FUNCTION hubspot.relay_maintain() RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  log_keep CONSTANT interval := interval '30 days';
  event_keep CONSTANT interval := interval '7 days';
  rescued bigint;
  purged bigint := 0;
  n bigint;
BEGIN
  PERFORM hubspot.relay_write_ids();
  PERFORM hubspot.relay_look_again();
  WITH expired AS (
    UPDATE hubspot.queue SET claimed_by = NULL, lease_expires_at = NULL, due_at = clock_timestamp()
    WHERE link_id IN (SELECT link_id FROM hubspot.queue WHERE claimed_by IS NOT NULL AND lease_expires_at < (SELECT clock_timestamp())) RETURNING 1)
  SELECT count(*) INTO rescued FROM expired;
  -- An edit whose end is not known yet is never purged.
  DELETE FROM hubspot.sync_log WHERE id IN (SELECT id FROM hubspot.sync_log
    WHERE at < now() - log_keep AND (action <> 'edit' OR outcome IS NOT NULL) ORDER BY id LIMIT 10000);
  GET DIAGNOSTICS n = ROW_COUNT; purged := purged + n;
  DELETE FROM hubspot.webhook_events WHERE id IN (SELECT id FROM hubspot.webhook_events
    WHERE received_at < now() - event_keep AND status NOT IN ('pending', 'waiting') ORDER BY id LIMIT 10000);
  GET DIAGNOSTICS n = ROW_COUNT; purged := purged + n;
  DELETE FROM hubspot.reconciliation_runs r WHERE r.finished_at < now() - CASE WHEN r.kind = 'full' OR r.discrepancies > 0 THEN interval '90 days'
      ELSE interval '1 day' END
    AND EXISTS (SELECT 1 FROM hubspot.reconciliation_runs n WHERE n.entity_type = r.entity_type AND n.kind = r.kind AND n.id > r.id
                AND n.status = 'finished' AND (r.dry_run OR NOT n.dry_run));
  DELETE FROM hubspot.brake_recent b USING hubspot.object_mapping m
  WHERE m.id = b.mapping_id AND b.at < clock_timestamp() - coalesce((m.options #>> '{brake,window_seconds}')::int, 600) * interval '1 second';
  DELETE FROM hubspot.quota_usage WHERE day < now()::date - 90;
  DELETE FROM hubspot.relay_status WHERE last_seen_at < now() - interval '1 day';
  PERFORM hubspot.sample_figures();
  RETURN jsonb_build_object('rescued', rescued, 'purged', purged);
END
$$;

CREATE FUNCTION hubspot.relay_record_calls(relay_id text, calls jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  UPDATE hubspot.relay_status r SET requests = requests + coalesce((calls->>'requests')::bigint, 0),
    rate_limited = rate_limited + coalesce((calls->>'rate_limited')::bigint, 0), failed = failed + coalesce((calls->>'failed')::bigint, 0)
  WHERE r.relay_id = relay_record_calls.relay_id
$$;
