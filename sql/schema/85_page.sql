-- What the relay's admin page shows. The relay's role reads no table: these functions answer one screen each, as JSON, a
-- page at a time. A page begins after an id (keyset), so the thousandth costs what the first does.

-- A page of open ones is read backwards along these, however many are closed.
CREATE INDEX conflicts_open_id_idx ON hubspot.conflicts (id) WHERE status = 'open';
CREATE INDEX failed_syncs_open_id_idx ON hubspot.failed_syncs (id) WHERE status = 'open';

CREATE FUNCTION hubspot.page_chrome() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_build_object('reason', hubspot.armed_reason(NULL), 'paused', b.paused, 'paused_by', b.paused_by,
    'relays_alive', (SELECT count(*) FROM hubspot.relay_status WHERE last_seen_at > now() - interval '15 seconds'),
    'conflicts', (SELECT count(*) FROM (SELECT 1 FROM hubspot.conflicts WHERE status = 'open' LIMIT 1000) x),
    'failures', (SELECT count(*) FROM (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open' LIMIT 1000) x),
    'types', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', m.entity_type, 'fields',
        (SELECT coalesce(jsonb_agg(f.field ORDER BY f.field), '[]') FROM hubspot.field_mapping f WHERE f.mapping_id = m.id)) ORDER BY m.entity_type), '[]')
      FROM hubspot.object_mapping m))
  FROM hubspot.binding b
$$;
COMMENT ON FUNCTION hubspot.page_chrome() IS 'Private: what each screen of the admin page shows besides its own: whether the relay may work, counts of open conflicts and failures (1000: that many or more), mapped types and fields.';

CREATE FUNCTION hubspot.page_overview(hours int, points int) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_build_object(
    'status', (SELECT to_jsonb(s) FROM hubspot.status() s),
    'quota', (SELECT to_jsonb(q) FROM hubspot.quota q),
    'relays', (SELECT coalesce(jsonb_agg(to_jsonb(r) || jsonb_build_object('alive', r.last_seen_at > now() - interval '15 seconds') ORDER BY r.last_seen_at DESC), '[]')
      FROM (SELECT * FROM hubspot.relay_status ORDER BY last_seen_at DESC LIMIT 20) r),
    'latency', (SELECT coalesce(jsonb_agg(to_jsonb(l)), '[]') FROM (SELECT * FROM hubspot.latency('1 hour') LIMIT 10) l),
    'history', (SELECT coalesce(jsonb_agg(to_jsonb(p) ORDER BY p.at), '[]') FROM (
      SELECT to_timestamp(floor(extract(epoch FROM h.at) / w.s) * w.s) AS at, max((h.figures->>'queue_depth')::float8) AS queue_depth,
        max((h.figures->>'oldest_waiting_seconds')::float8) AS oldest_waiting_seconds,
        max((h.figures->>'latency_p50_seconds')::float8) AS latency_p50_seconds, max((h.figures->>'latency_p95_seconds')::float8) AS latency_p95_seconds,
        sum((h.figures->>'delivered')::float8) AS delivered, sum((h.figures->>'conflicts')::float8) AS conflicts, sum((h.figures->>'failures')::float8) AS failures
      FROM hubspot.metric_history h, (SELECT greatest(60, hours * 3600 / greatest(points, 1)) AS s) w
      WHERE h.at > now() - make_interval(hours => hours) GROUP BY 1) p))
$$;
COMMENT ON FUNCTION hubspot.page_overview(int, int) IS 'Private: status, quota, relays, latency of the last hour by field, and the figures of the last hours in at most that many points: the highest of each span for depths and latencies, the sum for counts.';

CREATE FUNCTION hubspot.page_fingerprint(warp_value text, warp_changed_at timestamptz, hubspot_value text, hubspot_changed_at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT left(md5(concat_ws(chr(31), coalesce('=' || warp_value, '-'), extract(epoch FROM warp_changed_at), coalesce('=' || hubspot_value, '-'), extract(epoch FROM hubspot_changed_at))), 16)
$$;
COMMENT ON FUNCTION hubspot.page_fingerprint(text, timestamptz, text, timestamptz) IS 'Private: stands for what a person saw of a conflict: a decision about something else is refused.';

CREATE FUNCTION hubspot.page_condition(filter jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT concat_ws(' AND ', CASE filter->>'status' WHEN 'open' THEN 'x.status = ''open''' WHEN 'closed' THEN 'x.status <> ''open''' ELSE 'true' END,
    -- With a key alone, all types are named, for the index begins with the type.
    CASE WHEN filter->>'entity_type' <> '' THEN format('x.entity_type = %L', filter->>'entity_type')
      WHEN filter->>'entity_key' <> '' THEN 'x.entity_type = ANY (ARRAY(SELECT m.entity_type FROM hubspot.object_mapping m))' END,
    CASE WHEN filter->>'entity_key' <> '' THEN format('x.entity_key = %L', filter->>'entity_key') END,
    CASE WHEN filter->>'field' <> '' THEN format('x.field = %L', filter->>'field') END,
    CASE WHEN filter->>'kind' <> '' THEN format('x.kind = %L', filter->>'kind') END,
    CASE WHEN filter->>'strategy' <> '' THEN format('x.strategy::text = %L', filter->>'strategy') END)
$$;
COMMENT ON FUNCTION hubspot.page_condition(jsonb) IS 'Private: a filter of the page as a condition on conflicts or failures, here called x, so that each filter gets its own plan.';

CREATE FUNCTION hubspot.page_conflict_rows(condition text, max_rows int) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found jsonb;
BEGIN
  EXECUTE format($q$
    SELECT coalesce(jsonb_agg(to_jsonb(c) || jsonb_build_object('hubspot_id', l.hubspot_id, 'hubspot_property', f.hubspot_property, 'sync_direction', f.sync_direction,
      'enum_values', f.enum_values, 'fingerprint', hubspot.page_fingerprint(c.warp_value, c.warp_changed_at, c.hubspot_value, c.hubspot_changed_at),
      'undoable', c.status = 'resolved' AND c.resolved_generation IS NOT NULL AND c.resolved_generation = s.generation) ORDER BY c.id DESC), '[]')
    FROM (SELECT * FROM hubspot.conflicts x WHERE %s ORDER BY x.id DESC LIMIT %s) c
    LEFT JOIN hubspot.link l ON l.id = c.link_id
    LEFT JOIN hubspot.field_mapping f ON f.id = c.field_id
    LEFT JOIN hubspot.sync_state s ON s.link_id = c.link_id AND s.field_id = c.field_id$q$, condition, max_rows) INTO found;
  RETURN found;
END
$$;
COMMENT ON FUNCTION hubspot.page_conflict_rows(text, int) IS 'Private: conflicts that meet a condition on x, newest first, with what the page shows of them. Not for callers from outside: the condition is SQL.';

CREATE FUNCTION hubspot.page_conflicts(filter jsonb, before bigint, max_rows int) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  total bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM hubspot.conflicts x WHERE %s LIMIT 100001) n', hubspot.page_condition(filter)) INTO total;
  RETURN jsonb_build_object('total', total,
    'rows', hubspot.page_conflict_rows(hubspot.page_condition(filter) || coalesce(' AND x.id < ' || before, ''), max_rows));
END
$$;
COMMENT ON FUNCTION hubspot.page_conflicts(jsonb, bigint, int) IS 'Private: conflicts that match a filter (status open or closed, entity_type, entity_key, field, kind, strategy), newest first, below an id. total: how many match, 100001 for more than 100,000.';

CREATE FUNCTION hubspot.page_conflict(conflict_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT hubspot.page_conflict_rows(format('x.id = %s', coalesce(conflict_id, 0)), 1)->0
$$;
COMMENT ON FUNCTION hubspot.page_conflict(bigint) IS 'Private: one conflict. Null: there is none of that id.';

CREATE FUNCTION hubspot.page_preview(filter jsonb, conflict_ids bigint[], max_rows int) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  condition text := 'x.status = ''open'' AND ' || CASE WHEN conflict_ids IS NULL THEN hubspot.page_condition(filter) ELSE format('x.id = ANY (%L::bigint[])', conflict_ids) END;
  answer jsonb;
BEGIN
  EXECUTE format($q$
    WITH c AS MATERIALIZED (SELECT x.* FROM hubspot.conflicts x WHERE %1$s ORDER BY x.id DESC LIMIT %2$s)
    SELECT jsonb_build_object(
      'total', (SELECT count(*) FROM (SELECT 1 FROM hubspot.conflicts x WHERE %1$s LIMIT 100001) n),
      'chosen', (SELECT coalesce(jsonb_agg(c.id || ':' || hubspot.page_fingerprint(c.warp_value, c.warp_changed_at, c.hubspot_value, c.hubspot_changed_at) ORDER BY c.id DESC), '[]') FROM c),
      'groups', (SELECT coalesce(jsonb_agg(to_jsonb(g) ORDER BY g.n DESC, g.entity_type, g.field), '[]')
        FROM (SELECT c.entity_type, c.field, count(*) AS n FROM c GROUP BY 1, 2) g),
      'rows', hubspot.page_conflict_rows(%3$L, 20))$q$, condition, max_rows, condition) INTO answer;
  RETURN answer;
END
$$;
COMMENT ON FUNCTION hubspot.page_preview(jsonb, bigint[], int) IS 'Private: what a decision in bulk would be about: the newest open conflicts of the given ids, or of a filter when ids is null. chosen: id and fingerprint of each; rows: the first twenty.';

CREATE FUNCTION hubspot.page_failures(filter jsonb, before bigint, max_rows int) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  condition text := hubspot.page_condition(filter);
  answer jsonb;
BEGIN
  EXECUTE format($q$
    SELECT jsonb_build_object('total', (SELECT count(*) FROM (SELECT 1 FROM hubspot.failed_syncs x WHERE %1$s LIMIT 100001) n),
      'kinds', (SELECT coalesce(jsonb_agg(k.kind ORDER BY k.kind), '[]') FROM (SELECT DISTINCT kind FROM hubspot.failed_syncs WHERE status = 'open') k),
      'rows', (SELECT coalesce(jsonb_agg(to_jsonb(f) || jsonb_build_object('hubspot_id', l.hubspot_id, 'enum_values', m.enum_values) ORDER BY f.id DESC), '[]')
        FROM (SELECT * FROM hubspot.failed_syncs x WHERE %1$s %2$s ORDER BY x.id DESC LIMIT %3$s) f
        LEFT JOIN hubspot.link l ON l.id = f.link_id LEFT JOIN hubspot.field_mapping m ON m.id = f.field_id))$q$,
    condition, coalesce('AND x.id < ' || before, ''), max_rows) INTO answer;
  RETURN answer;
END
$$;
COMMENT ON FUNCTION hubspot.page_failures(jsonb, bigint, int) IS 'Private: failed syncs that match a filter (status open or closed, entity_type, entity_key, field, kind), newest first, below an id. total: how many match, 100001 for more than 100,000.';

CREATE FUNCTION hubspot.page_records(entity_type text, search text, before bigint, max_rows int) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  answer jsonb;
BEGIN
  EXECUTE format($q$
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', l.id, 'entity_type', m.entity_type, 'entity_key', l.entity_key, 'hubspot_id', l.hubspot_id,
      'status', l.status, 'message', l.message, 'linked_at', l.linked_at,
      'conflicts', (SELECT count(*) FROM hubspot.sync_state s WHERE s.link_id = l.id AND s.held),
      'failures', (SELECT count(*) FROM hubspot.failed_syncs f WHERE f.link_id = l.id AND f.status = 'open')) ORDER BY l.id DESC), '[]')
    FROM (SELECT * FROM hubspot.link x WHERE %s %s ORDER BY x.id DESC LIMIT %s) l JOIN hubspot.object_mapping m ON m.id = l.mapping_id$q$,
    CASE WHEN search <> '' THEN format('x.mapping_id = ANY (ARRAY(SELECT m.id FROM hubspot.object_mapping m %s)) AND (x.entity_key = %L OR x.hubspot_id = %2$L)',
        CASE WHEN entity_type <> '' THEN format('WHERE m.entity_type = %L', entity_type) ELSE '' END, search)
      WHEN entity_type <> '' THEN format('x.mapping_id = (SELECT m.id FROM hubspot.object_mapping m WHERE m.entity_type = %L)', entity_type)
      ELSE 'true' END,
    coalesce('AND x.id < ' || before, ''), max_rows) INTO answer;
  RETURN answer;
END
$$;
COMMENT ON FUNCTION hubspot.page_records(text, text, bigint, int) IS 'Private: records whose key or HubSpot id is the text searched for (empty: all), of a type (empty: any), newest first, below an id.';

CREATE FUNCTION hubspot.page_record(entity_type text, entity_key text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_build_object('entity_type', m.entity_type, 'entity_key', l.entity_key, 'hubspot_id', l.hubspot_id, 'status', l.status,
    'message', l.message, 'linked_at', l.linked_at, 'hubspot_object', m.hubspot_object, 'source_table', m.source_table::text,
    'waiting_since', (SELECT q.waiting_since FROM hubspot.queue q WHERE q.link_id = l.id),
    'fields', (SELECT coalesce(jsonb_agg(to_jsonb(f) || jsonb_build_object(
        'conflict_id', (SELECT max(c.id) FROM hubspot.conflicts c WHERE c.entity_type = m.entity_type AND c.entity_key = l.entity_key AND c.field = f.field AND c.status = 'open'),
        'failure', (SELECT to_jsonb(x) FROM hubspot.failed_syncs x WHERE x.link_id = l.id AND x.status = 'open' AND x.field = f.field ORDER BY x.id DESC LIMIT 1)) ORDER BY f.field), '[]')
      FROM hubspot.field_state f WHERE f.entity_type = m.entity_type AND f.entity_key = l.entity_key))
  FROM hubspot.link l JOIN hubspot.object_mapping m ON m.id = l.mapping_id
  WHERE m.entity_type = page_record.entity_type AND l.entity_key = page_record.entity_key
$$;
COMMENT ON FUNCTION hubspot.page_record(text, text) IS 'Private: a record with each field as hubspot.field_state has it. Null: no such record.';

CREATE FUNCTION hubspot.page_history(entity_type text, entity_key text, field text, before bigint, max_rows int) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(to_jsonb(h) ORDER BY h.id DESC), '[]') FROM (
    SELECT l.* FROM hubspot.sync_log l WHERE l.entity_type = page_history.entity_type AND l.entity_key = page_history.entity_key
      AND (page_history.field = '' OR l.field = page_history.field OR l.field IS NULL) AND (page_history.before IS NULL OR l.id < page_history.before)
    ORDER BY l.id DESC LIMIT max_rows) h
$$;
COMMENT ON FUNCTION hubspot.page_history(text, text, text, bigint, int) IS 'Private: what hubspot.explain says of a record, or of one of its fields, newest first, below an id.';

CREATE FUNCTION hubspot.page_mappings() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_build_object(
    'mappings', (SELECT coalesce(jsonb_agg(to_jsonb(m) - 'mapping' || jsonb_build_object('source_table', m.source_table::text,
        'records', (SELECT count(*) FROM (SELECT 1 FROM hubspot.link l WHERE l.mapping_id = m.id LIMIT 100001) n),
        'fields', (SELECT coalesce(jsonb_agg(to_jsonb(f) ORDER BY f.id), '[]') FROM hubspot.field_mapping f WHERE f.mapping_id = m.id AND f.active),
        'findings', (SELECT coalesce(jsonb_agg(to_jsonb(c)), '[]') FROM hubspot.check_mapping(m.entity_type) c)) ORDER BY m.entity_type), '[]')
      FROM hubspot.object_mapping m),
    'problems', (SELECT coalesce(jsonb_agg(to_jsonb(p)), '[]') FROM hubspot.mapping_problems p WHERE p.entity_type IS NULL))
$$;
COMMENT ON FUNCTION hubspot.page_mappings() IS 'Private: the mappings, their fields, what hubspot.check_mapping says of each, and what hubspot.mapping_problems says of all.';

CREATE FUNCTION hubspot.page_runs(before bigint, max_rows int) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(to_jsonb(r) - 'found' - 'position' ORDER BY r.id DESC), '[]')
  FROM (SELECT * FROM hubspot.reconciliation_runs x WHERE page_runs.before IS NULL OR x.id < page_runs.before ORDER BY x.id DESC LIMIT max_rows) r
$$;
COMMENT ON FUNCTION hubspot.page_runs(bigint, int) IS 'Private: reconciliation runs, newest first, below an id.';

CREATE FUNCTION hubspot.page_run(run_id bigint, after bigint, max_rows int) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT to_jsonb(r) || jsonb_build_object(
    'report', (SELECT coalesce(jsonb_agg(to_jsonb(p)), '[]') FROM hubspot.reconciliation_report(r.id) p),
    'progress', (SELECT to_jsonb(g) FROM hubspot.reconciliation_progress g WHERE g.id = r.id AND r.finished_at IS NULL),
    'found', (SELECT coalesce(jsonb_agg(to_jsonb(d) ORDER BY d.id), '[]') FROM (SELECT * FROM hubspot.reconciliation_discrepancies x
      WHERE x.run_id = r.id AND x.id > coalesce(after, 0) ORDER BY x.id LIMIT max_rows) d))
  FROM hubspot.reconciliation_runs r WHERE r.id = page_run.run_id
$$;
COMMENT ON FUNCTION hubspot.page_run(bigint, bigint, int) IS 'Private: a reconciliation run, its report and its findings above an id. Null: no such run.';
