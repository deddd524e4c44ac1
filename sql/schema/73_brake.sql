-- Looking at the brake, and letting it go.

CREATE VIEW hubspot.brake AS
SELECT m.entity_type, m.braked_at IS NOT NULL AS braked, m.braked_at, m.brake_reason AS reason,
  (m.options #>> '{brake,records}')::bigint AS max_records, (m.options #>> '{brake,percent}')::numeric AS max_percent,
  coalesce((m.options #>> '{brake,window_seconds}')::int, 600) AS window_seconds,
  (SELECT count(*) FROM hubspot.brake_held h JOIN hubspot.link l ON l.id = h.link_id WHERE l.mapping_id = m.id) AS held,
  r.changed, r.emptied, r.deleted
FROM hubspot.object_mapping m
CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE b.kind = 'changed') AS changed, count(*) FILTER (WHERE b.kind = 'emptied') AS emptied,
    count(*) FILTER (WHERE b.kind = 'deleted') AS deleted FROM hubspot.brake_recent b WHERE b.mapping_id = m.id) r
WHERE m.braked_at IS NOT NULL OR m.options ? 'brake';
COMMENT ON VIEW hubspot.brake IS
'One row per mapping that has a brake: whether it stopped the outbound side, why, how many records it holds, and what it counted of late. hubspot.plan shows what would be sent, hubspot.release sends it.';
COMMENT ON COLUMN hubspot.brake.held IS 'Records that would be sent.';
COMMENT ON COLUMN hubspot.brake.changed IS 'Records of the window by what their last change did: changed, emptied, deleted.';

CREATE FUNCTION hubspot.release(entity_type text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  m record;
  sent bigint;
BEGIN
  SELECT o.id, o.braked_at INTO m FROM hubspot.object_mapping o WHERE o.entity_type = release.entity_type;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no mapping for entity type "%"', release.entity_type USING ERRCODE = '42704',
      HINT = 'SELECT entity_type FROM hubspot.object_mapping';
  END IF;
  IF m.braked_at IS NULL THEN
    RAISE EXCEPTION 'the mapping of "%" is not braked', release.entity_type USING ERRCODE = '55000', HINT = 'SELECT entity_type, reason FROM hubspot.brake WHERE braked';
  END IF;
  PERFORM pg_advisory_xact_lock(1213418579, 12);
  UPDATE hubspot.object_mapping o SET braked_at = NULL, brake_reason = NULL WHERE o.id = m.id;
  -- What was looked at does not count again.
  DELETE FROM hubspot.brake_recent b WHERE b.mapping_id = m.id;
  WITH back AS (DELETE FROM hubspot.brake_held h USING hubspot.link l WHERE l.id = h.link_id AND l.mapping_id = m.id
    RETURNING h.link_id, h.priority, h.waiting_since)
  INSERT INTO hubspot.queue AS q (link_id, priority, waiting_since, due_at)
  SELECT back.link_id, back.priority, back.waiting_since, clock_timestamp() FROM back ON CONFLICT ON CONSTRAINT queue_pkey DO NOTHING;
  GET DIAGNOSTICS sent = ROW_COUNT;
  PERFORM pg_notify('hubspot_outbox', '');
  RETURN format('%s records of %s are sent', sent, release.entity_type);
END
$$;
COMMENT ON FUNCTION hubspot.release(text) IS
'Lets a mapping go on that its brake stopped: what it held is sent, and counting begins anew. Raises: 42704 no such mapping, 55000 it is not braked. Locks: waits for the relay''s calls.';
