-- What would be sent, before it is: from the queue and the captured changes, without claiming or changing anything.

CREATE TABLE hubspot.property_definition (
  hubspot_object   text NOT NULL,
  name             text NOT NULL,
  type             text NOT NULL,
  field_type       text,
  options          text[],
  read_only        boolean NOT NULL,
  has_unique_value boolean NOT NULL,
  seen_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (hubspot_object, name)
);
COMMENT ON TABLE hubspot.property_definition IS
'HubSpot''s property definitions of mapped object types, as last seen by hubspot-relay check or a running relay (a minute after its start, then every six hours). Set by: hubspot.relay_properties. No rows for an object type: never seen.';
COMMENT ON COLUMN hubspot.property_definition.type IS 'string, number, bool, enumeration, date, datetime and others of HubSpot''s.';
COMMENT ON COLUMN hubspot.property_definition.options IS 'Values an enumeration accepts. Null: not an enumeration.';
COMMENT ON COLUMN hubspot.property_definition.read_only IS 'HubSpot computes it: writes are refused.';
COMMENT ON COLUMN hubspot.property_definition.has_unique_value IS 'It can identify a record.';

CREATE FUNCTION hubspot.relay_properties(object_type text, definitions jsonb) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH given AS (SELECT d->>'name' AS name, coalesce(d->>'type', 'string') AS type, d->>'fieldType' AS field_type,
      CASE WHEN d->>'type' = 'enumeration' THEN ARRAY(SELECT o->>'value' FROM jsonb_array_elements(CASE jsonb_typeof(d->'options') WHEN 'array' THEN d->'options' ELSE '[]' END) o) END AS options,
      coalesce((d->>'calculated')::boolean, false) OR coalesce((d#>>'{modificationMetadata,readOnlyValue}')::boolean, false) AS read_only,
      coalesce((d->>'hasUniqueValue')::boolean, false) AS has_unique_value
    FROM jsonb_array_elements(definitions) d WHERE d->>'name' IS NOT NULL),
  gone AS (DELETE FROM hubspot.property_definition p WHERE p.hubspot_object = object_type AND NOT EXISTS (SELECT 1 FROM given g WHERE g.name = p.name)),
  stored AS (INSERT INTO hubspot.property_definition AS p (hubspot_object, name, type, field_type, options, read_only, has_unique_value)
    SELECT DISTINCT ON (g.name) object_type, g.* FROM given g ORDER BY g.name
    ON CONFLICT ON CONSTRAINT property_definition_pkey DO UPDATE SET type = excluded.type, field_type = excluded.field_type, options = excluded.options,
      read_only = excluded.read_only, has_unique_value = excluded.has_unique_value, seen_at = excluded.seen_at
    RETURNING 1)
  SELECT count(*) FROM stored
$$;
COMMENT ON FUNCTION hubspot.relay_properties(text, jsonb) IS 'Private: remembers HubSpot''s property definitions of an object type; gives their number.';

CREATE FUNCTION hubspot.expected_refusal(f hubspot.field_mapping, hubspot_object text, value text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN value IS NOT NULL AND NOT f.sensitive AND f.enum_values IS NOT NULL AND NOT value = ANY (f.enum_values) THEN 'not one of the mapping''s enum_values'
    WHEN NOT EXISTS (SELECT 1 FROM hubspot.property_definition k WHERE k.hubspot_object = expected_refusal.hubspot_object) THEN NULL
    WHEN d.name IS NULL THEN 'HubSpot has no such property'
    WHEN d.read_only THEN 'HubSpot computes this property'
    -- A transform makes another value of it, which only delivery knows.
    -- A sensitive one is a hash here.
    WHEN value IS NULL OR f.transform IS NOT NULL OR f.sensitive THEN NULL
    WHEN d.type = 'number' AND value !~ '^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$' THEN 'not a number'
    WHEN d.type = 'bool' AND f.kind <> 'boolean' AND value NOT IN ('true', 'false') THEN 'neither true nor false'
    WHEN d.type IN ('date', 'datetime') AND f.kind NOT IN ('date', 'timestamp') AND value !~ '^\d{4}-\d\d-\d\d' AND value !~ '^-?\d+$' THEN 'not a date'
    WHEN d.type = 'enumeration' AND f.kind = 'text' AND NOT value = ANY (d.options) THEN 'not one of the property''s options'
    WHEN length(value) > 65536 THEN 'longer than 65536 characters'
  END
  FROM (SELECT 1) one LEFT JOIN hubspot.property_definition d ON d.hubspot_object = expected_refusal.hubspot_object AND d.name = f.hubspot_property
$$;
COMMENT ON FUNCTION hubspot.expected_refusal(hubspot.field_mapping, text, text) IS
'Private: why HubSpot, or the mapping''s enum_values, would refuse a value of a field; null when nothing speaks against it, or HubSpot''s definitions were never seen.';

CREATE FUNCTION hubspot.pending_records(only_mapping int, marker text)
RETURNS TABLE (mapping_id int, entity_key text, due_at timestamptz, "position" bigint, read text, operation text, fields text[], properties text[], refused bigint, refusals text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  -- Captured changes that no relay took over. marker: only those of that application name, and not the queue.
  WITH waiting AS (
    SELECT link_id, due_at, priority FROM hubspot.queue
    -- Behind a brake: what would be sent.
    UNION ALL SELECT h.link_id, clock_timestamp(), h.priority FROM hubspot.brake_held h),
  caught AS (
    -- In the order of the changes of each row: by block, and by position within it.
    SELECT row_number() OVER (ORDER BY (c.ctid::text::point)[0], c.position) AS id, c.mapping_id, c.entity_key, coalesce(c.old_key, c.entity_key) AS known_key, c.op, c.changes, c.captured_at
    FROM hubspot.capture c
    WHERE c.op <> 'T' AND (only_mapping IS NULL OR c.mapping_id = only_mapping) AND (marker IS NULL OR c.application_name = marker)),
  newest AS (SELECT DISTINCT ON (c.mapping_id, c.entity_key) c.mapping_id, c.entity_key, c.known_key, c.op FROM caught c ORDER BY 1, 2, c.id DESC),
  edits AS (
    SELECT DISTINCT ON (c.mapping_id, c.entity_key, e.key) c.mapping_id, c.entity_key, e.key AS field, e.value->>1 AS value
    FROM caught c CROSS JOIN LATERAL json_each(c.changes) e ORDER BY 1, 2, 3, c.id DESC),
  records AS (
    SELECT l.mapping_id, l.entity_key, l.id AS link_id, q.due_at, q.priority::int AS priority, false AS gone, true AS queued
    FROM waiting q JOIN hubspot.link l ON l.id = q.link_id
    WHERE marker IS NULL AND (only_mapping IS NULL OR l.mapping_id = only_mapping)
      AND NOT EXISTS (SELECT 1 FROM newest n WHERE n.mapping_id = l.mapping_id AND n.entity_key = l.entity_key)
    UNION ALL
    SELECT n.mapping_id, n.entity_key, l.id, coalesce(q.due_at, clock_timestamp()), coalesce(q.priority, 0), n.op = 'D', false
    FROM newest n LEFT JOIN hubspot.link l ON l.mapping_id = n.mapping_id AND l.entity_key = n.known_key LEFT JOIN waiting q ON q.link_id = l.id),
  known AS (
    SELECT r.*, m.hubspot_object, m.on_create, m.match_field, l.hubspot_id, coalesce(l.contacted, false) AS contacted, coalesce(l.status, 'new') AS status
    FROM records r JOIN hubspot.object_mapping m ON m.id = r.mapping_id LEFT JOIN hubspot.link l ON l.id = r.link_id
    WHERE m.enabled AND NOT r.gone AND coalesce(l.status, 'new') IN ('new', 'linked', 'deleted_here')
      AND NOT (r.queued AND l.status = 'deleted_here')),
  values_of AS (
    SELECT k.mapping_id, k.entity_key, f.id AS field_id, f.field, f.hubspot_property, f.sync_direction, f.conflict_resolution, f.update_frequency,
      s.flying, CASE WHEN e.field IS NOT NULL THEN e.value ELSE s.row_value END AS value,
      coalesce(s.hubspot_read_at, 0) > extract(epoch FROM clock_timestamp() - interval '5 minutes') * 1e6 AS fresh,
      -- To be sent for itself, whatever else the record needs.
      coalesce(CASE WHEN e.field IS NOT NULL THEN s.link_id IS NULL OR e.value IS DISTINCT FROM s.row_value OR s.dirty
        ELSE s.dirty AND NOT s.held AND NOT s.parked END, false)
        OR coalesce(s.flying, false) AS dirty,
      coalesce(s.parked AND e.field IS NULL OR s.held, false) AS stands,
      hubspot.expected_refusal(f, k.hubspot_object, CASE WHEN e.field IS NOT NULL THEN e.value ELSE s.row_value END) AS refusal
    FROM known k
    JOIN hubspot.field_mapping f ON f.mapping_id = k.mapping_id AND f.active AND f.sync_direction IN ('WARP_TO_HUBSPOT', 'BIDIRECTIONAL')
    LEFT JOIN hubspot.sync_state s ON s.link_id = k.link_id AND s.field_id = f.id
    LEFT JOIN edits e ON e.mapping_id = k.mapping_id AND e.entity_key = k.entity_key AND e.field = f.field),
  -- A record that is created carries every outbound value; otherwise the changed fields go.
  sent AS (SELECT v.* , k.hubspot_id IS NULL AS creates FROM values_of v JOIN known k USING (mapping_id, entity_key)
    WHERE NOT v.stands AND CASE WHEN k.hubspot_id IS NULL THEN v.value IS NOT NULL ELSE v.dirty END),
  summed AS (
    SELECT s.mapping_id, s.entity_key,
      array_agg(s.field ORDER BY s.field_id) AS fields,
      array_agg(s.hubspot_property ORDER BY s.field_id) AS properties,
      count(s.refusal) AS refused, count(*) FILTER (WHERE s.refusal IS NULL) AS accepted,
      array_agg(s.field || ': ' || s.refusal ORDER BY s.field_id) FILTER (WHERE s.refusal IS NOT NULL) AS refusals,
      bool_or(s.flying) AS flying, bool_and(s.update_frequency = 'batch') AS batch,
      bool_or(s.sync_direction = 'BIDIRECTIONAL' AND (NOT s.fresh OR s.conflict_resolution = 'MANUAL')) AS looks
    FROM sent s GROUP BY 1, 2)
  SELECT k.mapping_id, k.entity_key,
    CASE WHEN k.queued OR k.hubspot_id IS NULL OR NOT coalesce(s.batch, false) THEN k.due_at ELSE k.due_at + interval '15 minutes' END,
    row_number() OVER (PARTITION BY k.mapping_id ORDER BY k.due_at > clock_timestamp(), k.priority, k.due_at, k.link_id, k.entity_key),
    CASE WHEN k.hubspot_id IS NULL THEN 'match' WHEN NOT k.contacted OR s.flying THEN 'history' WHEN s.looks THEN 'values' END,
    CASE WHEN k.hubspot_id IS NULL AND k.on_create = 'ignore' THEN NULL
      WHEN k.hubspot_id IS NULL AND NOT coalesce(k.match_field = ANY (s.fields), false) THEN NULL
      WHEN k.hubspot_id IS NULL THEN 'upsert' WHEN s.accepted > 0 OR s.refused > 0 THEN 'update' END,
    s.fields, s.properties,
    coalesce(s.refused, 0) + CASE WHEN k.hubspot_id IS NULL AND NOT coalesce(k.match_field = ANY (s.fields), false) THEN 1 ELSE 0 END,
    coalesce(s.refusals, '{}') || CASE WHEN k.hubspot_id IS NULL AND NOT coalesce(k.match_field = ANY (s.fields), false)
      THEN ARRAY['the match field is empty: the record can neither be found nor created'] ELSE '{}' END
  FROM known k LEFT JOIN summed s USING (mapping_id, entity_key)
  WHERE k.hubspot_id IS NULL OR NOT k.contacted OR s.fields IS NOT NULL
$$;
COMMENT ON FUNCTION hubspot.pending_records(int, text) IS
'Private: the records that would be delivered, as hubspot.plan and hubspot.estimate count them. only_mapping null: of all mappings. marker: of captured changes with that application name alone.';

CREATE FUNCTION hubspot.pending_batches(only_mapping int, marker text)
RETURNS TABLE (mapping_id int, claim bigint, step int, operation text, batch bigint, records bigint, due_at timestamptz, properties text[], refused bigint, refusals text[], keys text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  -- A relay claims 400 records at a time and cuts what they need into HubSpot's batches: 100 records, 50 with history.
  WITH p AS MATERIALIZED (SELECT r.*, (r.position - 1) / 400 AS claim FROM hubspot.pending_records(only_mapping, marker) r),
  cut AS (SELECT c.*, (row_number() OVER (PARTITION BY c.mapping_id, c.claim, c.step, c.operation ORDER BY c.position) - 1) / c.size AS batch
    FROM (SELECT x.mapping_id, x.claim, x.step, x.operation, x.size, x.position, x.entity_key, x.due_at, x.properties, x.refused, x.refusals
          FROM (SELECT p.mapping_id, p.claim, 1 AS step, 'read: ' || p.read AS operation, CASE p.read WHEN 'history' THEN 50 ELSE 100 END AS size,
                  p.position, p.entity_key, p.due_at, p.properties, 0::bigint AS refused, '{}'::text[] AS refusals FROM p WHERE p.read IS NOT NULL
                UNION ALL
                SELECT p.mapping_id, p.claim, 2, p.operation, 100, p.position, p.entity_key, p.due_at, p.properties, p.refused, p.refusals FROM p WHERE p.operation IS NOT NULL
                UNION ALL
                SELECT p.mapping_id, p.claim, 3, 'none', 1000000000, p.position, p.entity_key, p.due_at, p.properties, p.refused, p.refusals
                FROM p WHERE p.operation IS NULL AND p.refused > 0) x) c)
  SELECT c.mapping_id, c.claim, c.step, c.operation, c.batch, count(*), min(c.due_at),
    ARRAY(SELECT DISTINCT y FROM unnest((SELECT array_agg(z) FROM unnest(string_to_array(string_agg(array_to_string(c.properties, E'\n'), E'\n'), E'\n')) z)) y WHERE y <> '' ORDER BY 1),
    sum(c.refused)::bigint,
    ARRAY(SELECT DISTINCT y FROM unnest(string_to_array(string_agg(array_to_string(c.refusals, E'\n'), E'\n'), E'\n')) y WHERE y <> '' ORDER BY 1),
    (array_agg(c.entity_key ORDER BY c.position))[1:3]
  FROM cut c GROUP BY 1, 2, 3, 4, 5
$$;
COMMENT ON FUNCTION hubspot.pending_batches(int, text) IS 'Private: hubspot.pending_records cut into calls. step: 1 reads, 2 writes, 3 neither, because the record cannot be sent.';

CREATE FUNCTION hubspot.calls_per_minute() RETURNS numeric
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((SELECT b.slots * 60000.0 / b.window_ms FROM hubspot.quota_budget b WHERE b.budget = 'general' AND b.slots > 0), 600)
$$;
COMMENT ON FUNCTION hubspot.calls_per_minute() IS 'Private: calls a minute that HubSpot''s ten-second limit allows, as the relays know it; 600 before one has run.';

CREATE FUNCTION hubspot.plan(entity_type text, OUT call bigint, OUT operation text, OUT records bigint, OUT due_in_seconds bigint, OUT done_after_minutes numeric,
  OUT properties text[], OUT expected_refusals bigint, OUT refusals text[], OUT first_keys text[])
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  mapping int;
  minute numeric := hubspot.calls_per_minute();
  left_today bigint := (SELECT q.calls_left FROM hubspot.quota q);
  midnight numeric := (SELECT extract(epoch FROM (d.here::date + interval '1 day' - d.here)) / 60 FROM (SELECT clock_timestamp() AT TIME ZONE q.zone AS here FROM hubspot.quota_day q) d);
BEGIN
  SELECT m.id INTO mapping FROM hubspot.object_mapping m WHERE m.entity_type = plan.entity_type;
  IF mapping IS NULL THEN
    RAISE EXCEPTION 'there is no mapping for entity type "%"', plan.entity_type USING ERRCODE = '42704', HINT = 'SELECT entity_type FROM hubspot.object_mapping';
  END IF;
  RETURN QUERY SELECT CASE WHEN b.step < 3 THEN row_number() OVER w END, CASE WHEN b.step < 3 THEN b.operation ELSE 'cannot be sent' END, b.records,
    greatest(0, ceil(extract(epoch FROM b.due_at - clock_timestamp())))::bigint,
    CASE WHEN b.step < 3 THEN round(greatest(extract(epoch FROM b.due_at - clock_timestamp()) / 60, 0) + row_number() OVER w / minute
      -- What the day does not allow waits for the next one.
      + CASE WHEN row_number() OVER w > left_today THEN midnight ELSE 0 END, 2) END,
    b.properties, b.refused, b.refusals, b.keys
  FROM hubspot.pending_batches(mapping, NULL) b
  WINDOW w AS (ORDER BY b.step = 3, b.due_at > clock_timestamp(), b.claim, b.step, b.operation, b.batch)
  ORDER BY b.step = 3, b.due_at > clock_timestamp(), b.claim, b.step, b.operation, b.batch;
END
$$;
COMMENT ON FUNCTION hubspot.plan(text) IS
'What would be sent to HubSpot now, one row a call, in the order of the calls; sends and locks nothing. done_after_minutes: at the present limits of ten seconds and of the day, with nothing else under way. expected_refusals: values that HubSpot''s definitions (as last seen, see hubspot.property_definition) or enum_values speak against, with reasons. Records without a link count as not known to HubSpot: those it knows need one more read each 50. A last row without a call number: records that cannot be sent. No rows: nothing waits. Raises: 42704.';
COMMENT ON COLUMN hubspot.property_definition.seen_at IS 'When it was last seen.';

CREATE FUNCTION hubspot.estimate_captured(marker text)
RETURNS TABLE (entity_type text, rows_captured bigint, records_to_send bigint, fields text[], calls bigint, minutes numeric, expected_refusals bigint, refusals text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT m.entity_type, c.n, coalesce(b.records, 0), c.fields, coalesce(b.calls, 0), round(coalesce(b.calls, 0) / hubspot.calls_per_minute(), 2), coalesce(b.refused, 0), coalesce(b.refusals, '{}')
  FROM (SELECT x.mapping_id, count(DISTINCT x.ctid) AS n, array_agg(DISTINCT k ORDER BY k) FILTER (WHERE k IS NOT NULL) AS fields
        FROM hubspot.capture x LEFT JOIN LATERAL json_object_keys(x.changes) k ON true WHERE x.application_name = marker GROUP BY 1) c
  JOIN hubspot.object_mapping m ON m.id = c.mapping_id
  LEFT JOIN LATERAL (SELECT sum(p.records) FILTER (WHERE p.step = 2)::bigint AS records, count(*) FILTER (WHERE p.step < 3) AS calls, sum(p.refused)::bigint AS refused,
      ARRAY(SELECT DISTINCT y FROM unnest(string_to_array(string_agg(array_to_string(p.refusals, E'\n'), E'\n'), E'\n')) y WHERE y <> '' ORDER BY 1) AS refusals
    FROM hubspot.pending_batches(c.mapping_id, marker) p) b ON true
$$;
COMMENT ON FUNCTION hubspot.estimate_captured(text) IS 'Private: what changes captured under an application name would cause. It shows fields and counts, no values.';

CREATE FUNCTION hubspot.estimate(statement text, OUT entity_type text, OUT rows_captured bigint, OUT records_to_send bigint, OUT fields text[], OUT calls bigint,
  OUT minutes numeric, OUT expected_refusals bigint, OUT refusals text[])
RETURNS SETOF record
-- The caller's own rights and search_path: the statement can do what the caller could do anyway.
LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $$
DECLARE
  -- The application's name of the captured changes tells them from everybody else's.
  marker CONSTANT pg_catalog.text := pg_catalog.concat('hubspot.estimate ', pg_catalog.gen_random_uuid());
  answers pg_catalog.jsonb;
  was_on pg_catalog.bool := pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on';
BEGIN
  IF was_on THEN
    RAISE EXCEPTION 'the statement has to be run to be estimated, and this transaction is read only' USING ERRCODE = '25006', HINT = 'call hubspot.estimate in a transaction that may write';
  END IF;
  BEGIN
    PERFORM pg_catalog.set_config('application_name', marker, true);
    EXECUTE statement;
    -- What deferred triggers would write at the commit belongs to it.
    SET CONSTRAINTS ALL IMMEDIATE;
    SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(e)) INTO answers FROM hubspot.estimate_captured(marker) e;
    RAISE EXCEPTION USING ERRCODE = 'HS001', MESSAGE = 'rolled back';
  EXCEPTION WHEN SQLSTATE 'HS001' THEN
    NULL;
  END;
  RETURN QUERY SELECT e.* FROM pg_catalog.jsonb_to_recordset(coalesce(answers, '[]')) AS e (entity_type pg_catalog.text, rows_captured pg_catalog.int8, records_to_send pg_catalog.int8,
    fields pg_catalog.text[], calls pg_catalog.int8, minutes pg_catalog.numeric, expected_refusals pg_catalog.int8, refusals pg_catalog.text[]);
END
$$;
COMMENT ON FUNCTION hubspot.estimate(text) IS
'Runs a statement as the caller, tells by mapping what it would send to HubSpot, and rolls it back: rows captured, records and fields to send, calls, minutes at the present limit, values expected to be refused. No rows: it changes nothing that is mapped. It takes the statement''s time and locks until it is rolled back; sequences advance, and what a statement does outside the transaction stays done. Raises: 25006 in a read-only transaction, and whatever the statement raises.';

CREATE FUNCTION hubspot.check_mapping(entity_type text, OUT severity text, OUT field text, OUT finding text, OUT mend text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  m hubspot.object_mapping;
BEGIN
  SELECT * INTO m FROM hubspot.object_mapping o WHERE o.entity_type = check_mapping.entity_type;
  IF m.id IS NULL THEN
    RAISE EXCEPTION 'there is no mapping for entity type "%"', check_mapping.entity_type USING ERRCODE = '42704', HINT = 'SELECT entity_type FROM hubspot.object_mapping';
  END IF;
  RETURN QUERY
  WITH f AS (SELECT x.*, a.attnotnull, a.atthasdef, a.attgenerated, a.atttypid, a.atttypmod, d.name AS property, d.type, d.options, d.read_only, d.has_unique_value,
      x.sync_direction IN ('WARP_TO_HUBSPOT', 'BIDIRECTIONAL') AS sends, x.sync_direction IN ('HUBSPOT_TO_WARP', 'BIDIRECTIONAL') AS receives
    FROM hubspot.field_mapping x
    LEFT JOIN pg_attribute a ON a.attrelid = m.source_table AND a.attname = x.column_name::name AND NOT a.attisdropped
    LEFT JOIN hubspot.property_definition d ON d.hubspot_object = m.hubspot_object AND d.name = x.hubspot_property
    WHERE x.mapping_id = m.id AND x.active),
  seen AS (SELECT count(*) > 0 AS yes FROM hubspot.property_definition d WHERE d.hubspot_object = m.hubspot_object),
  findings AS (
    SELECT 'error' AS severity, NULL::text AS field, p.problem || ': ' || p.detail AS finding, 'as it says' AS mend, 0 AS ord
      FROM hubspot.mapping_problems p WHERE p.entity_type = m.entity_type
    UNION ALL SELECT 'note', NULL, 'HubSpot''s property definitions were never seen: types and options are not compared', 'run hubspot-relay check', 1
      FROM seen WHERE NOT seen.yes
    UNION ALL SELECT 'error', f.field, format('HubSpot has no property %s', f.hubspot_property), 'create it in HubSpot, or correct hubspot_property', 2
      FROM f, seen WHERE seen.yes AND f.property IS NULL AND f.hubspot_property <> 'hs_object_id'
    UNION ALL SELECT 'error', f.field, format('HubSpot computes %s and takes no value', f.hubspot_property), 'make it HUBSPOT_TO_WARP', 3 FROM f WHERE f.sends AND f.read_only
    UNION ALL SELECT 'error', f.field, format('the column holds %s, the property %s', f.kind, f.type), 'change the property''s type, or register a transform', 4
      FROM f WHERE f.transform IS NULL AND f.path IS NULL AND f.sync_direction <> 'NONE' AND (
        (f.type = 'number' AND f.kind IN ('boolean', 'date', 'timestamp', 'multi_select')) OR (f.type = 'bool' AND f.kind IN ('number', 'date', 'timestamp', 'multi_select'))
        OR (f.type IN ('date', 'datetime') AND f.kind IN ('number', 'boolean', 'multi_select')))
    UNION ALL SELECT 'warning', f.field, format('the column holds any text, the property is of type %s: other texts will be refused', f.type), 'give the field enum_values, the column a check constraint, or the property the type string', 5
      FROM f WHERE f.sends AND f.kind = 'text' AND f.enum_values IS NULL AND f.transform IS NULL AND f.type IN ('number', 'bool', 'date', 'datetime', 'enumeration')
    UNION ALL SELECT 'warning', f.field, format('HubSpot has no option %s in %s', string_agg(quote_literal(v), ', ' ORDER BY v), f.hubspot_property), 'add the options in HubSpot, or take the values out of enum_values', 6
      FROM f, unnest(f.enum_values) v WHERE f.sends AND f.type = 'enumeration' AND NOT v = ANY (f.options) GROUP BY f.field, f.hubspot_property
    UNION ALL SELECT 'warning', f.field, format('HubSpot may set %s to %s, which enum_values do not allow', f.hubspot_property, string_agg(quote_literal(o), ', ' ORDER BY o)), 'add the values to enum_values, or remove the options in HubSpot', 7
      FROM f, unnest(f.options) o WHERE f.receives AND f.enum_values IS NOT NULL AND NOT o = ANY (f.enum_values) GROUP BY f.field, f.hubspot_property
    UNION ALL SELECT 'warning', f.field, format('column %I is NOT NULL, and HubSpot may empty the property: the row then refuses it', f.column_name), 'drop NOT NULL, or give the column one owner: WARP_TO_HUBSPOT', 8
      FROM f WHERE f.receives AND f.path IS NULL AND f.attnotnull
    UNION ALL SELECT 'error', f.field, format('column %I is generated and cannot take HubSpot''s value', f.column_name), 'make it WARP_TO_HUBSPOT', 9
      FROM f WHERE f.receives AND f.attgenerated <> ''
    UNION ALL SELECT 'error', string_agg(f.field, ', ' ORDER BY f.id), format('%s fields are sent to one property %s: the last one wins', count(*), f.hubspot_property), 'give each a property of its own', 10
      FROM f WHERE f.sends GROUP BY f.hubspot_property HAVING count(*) > 1
    UNION ALL SELECT 'warning', string_agg(f.field, ', ' ORDER BY f.id), format('%s fields take HubSpot''s value into one place: column %I', count(*), f.column_name), 'map each column once', 11
      FROM f WHERE f.receives GROUP BY f.column_name, f.path HAVING count(*) > 1
    UNION ALL SELECT 'warning', f.field, format('HubSpot normalises %s (%s): what comes back may differ from what was sent', f.hubspot_property,
        CASE WHEN f.hubspot_property IN ('email', 'domain', 'website', 'hs_additional_emails') THEN 'lower case, no scheme or trailing slash' WHEN f.hubspot_property LIKE '%phone%' THEN 'phone numbers are reformatted' ELSE 'states and countries are spelled its way' END),
      'none is needed: the returned form is remembered. Store it the same way to avoid edits back and forth', 12
      FROM f WHERE f.sync_direction = 'BIDIRECTIONAL' AND (f.hubspot_property IN ('email', 'domain', 'website', 'hs_additional_emails', 'state', 'country') OR f.hubspot_property LIKE '%phone%')
    UNION ALL SELECT 'warning', f.field, format('varchar(%s) is shorter than HubSpot''s texts: longer ones are refused by the row', f.atttypmod - 4), 'widen the column, or make the field WARP_TO_HUBSPOT', 13
      FROM f WHERE f.receives AND f.path IS NULL AND f.enum_values IS NULL AND f.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND f.atttypmod > 4
    UNION ALL SELECT 'error', m.match_field, format('%s is not unique in HubSpot: records cannot be matched by it', m.match_property), 'make the property unique (hasUniqueValue) when it is created, or match by another field', 14
      FROM f WHERE f.field = m.match_field AND NOT f.has_unique_value AND NOT (m.hubspot_object = 'contacts' AND f.hubspot_property = 'email')
    UNION ALL SELECT 'warning', NULL, 'there is no match field: rows that hold no HubSpot id are never created or found', 'give the option match', 15
      WHERE m.match_field IS NULL AND m.on_create = 'create'
    UNION ALL SELECT 'note', NULL, 'no updated_at_column: rows that were there before the mapping count as older than anything in HubSpot', 'name one in the options, if the table has it', 16
      WHERE m.updated_at_column IS NULL AND EXISTS (SELECT 1 FROM f WHERE f.conflict_resolution = 'LATEST_WINS')
    UNION ALL SELECT 'note', NULL, 'no field tracks hs_object_id: the HubSpot id is known to hubspot.link alone', 'map a NONE field on hs_object_id to have it in the row', 17
      WHERE NOT EXISTS (SELECT 1 FROM f WHERE f.hubspot_property = 'hs_object_id'))
  SELECT x.severity, x.field, x.finding, x.mend FROM findings x ORDER BY array_position(ARRAY['error', 'warning', 'note'], x.severity), x.ord, x.field;
END
$$;
COMMENT ON FUNCTION hubspot.check_mapping(text) IS
'Lints of a mapping, worst first: types that do not fit HubSpot''s definitions as last seen, properties that do not exist, are computed or not unique, options and enum_values that differ, NOT NULL columns fed from HubSpot, two fields on one property or column, properties HubSpot normalises. severity: error (values will be refused), warning, note. No rows: nothing to say. Raises: 42704.';
