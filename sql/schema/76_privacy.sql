-- Forgetting a record: its values go from every table, a proof without values stays.

CREATE TABLE hubspot.forgotten (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  forgotten_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  forgotten_by   text NOT NULL,
  entity_type    text NOT NULL,
  key_digest     bytea NOT NULL,
  hubspot_object text NOT NULL,
  hubspot_ids    text[] NOT NULL,
  table_row      text NOT NULL CONSTRAINT forgotten_table_row_check CHECK (table_row IN ('kept', 'deleted', 'absent')),
  scrubbed       jsonb NOT NULL DEFAULT '{}',
  ignoring       boolean NOT NULL DEFAULT true
);
CREATE INDEX forgotten_key_idx ON hubspot.forgotten (entity_type, key_digest) WHERE ignoring;
CREATE INDEX forgotten_hubspot_idx ON hubspot.forgotten USING gin (hubspot_ids);
COMMENT ON TABLE hubspot.forgotten IS
'Proof of each privacy deletion: who asked, when, and how much was scrubbed where; no values. Never purged. Set by: hubspot.forget and HubSpot''s privacyDeletion events.';
COMMENT ON COLUMN hubspot.forgotten.id IS 'What is left in sync_log, conflicts, failed_syncs and reconciliation_discrepancies goes by the key "forgotten <id>".';
COMMENT ON COLUMN hubspot.forgotten.forgotten_by IS 'The role that called hubspot.forget, after the name in its setting hubspot.actor if there is one; or HubSpot privacyDeletion.';
COMMENT ON COLUMN hubspot.forgotten.key_digest IS 'SHA-256 of the row''s key in UTF-8: whoever knows the key can tell that its record was forgotten.';
COMMENT ON COLUMN hubspot.forgotten.hubspot_ids IS 'The HubSpot records the row had: events about them are stored without their values from then on. Empty: none.';
COMMENT ON COLUMN hubspot.forgotten.table_row IS 'What became of the user''s row. kept: it stays, and its changes are ignored. deleted: by on_hubspot_delete delete. absent: there was none.';
COMMENT ON COLUMN hubspot.forgotten.scrubbed IS 'How many rows of each table were scrubbed or removed, by the table''s name.';
COMMENT ON COLUMN hubspot.forgotten.ignoring IS 'Changes of a row under that key are dropped. False once the row was deleted, or a new one was inserted under the key: that one is another record.';

CREATE FUNCTION hubspot.scrub(link_id bigint, by text, table_row text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  l record;
  proof bigint;
  name text;
  ids text[];
  n bigint;
  counts jsonb := '{}'::jsonb;
BEGIN
  SELECT k.id, k.mapping_id, k.entity_key, k.hubspot_id, k.gone_id, m.entity_type, m.hubspot_object INTO l
  FROM hubspot.link k JOIN hubspot.object_mapping m ON m.id = k.mapping_id WHERE k.id = scrub.link_id;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  ids := array_remove(ARRAY[l.hubspot_id, nullif(l.gone_id, l.hubspot_id)], NULL);
  INSERT INTO hubspot.forgotten (forgotten_by, entity_type, key_digest, hubspot_object, hubspot_ids, table_row, ignoring)
  VALUES (scrub.by, l.entity_type, sha256(convert_to(l.entity_key, 'UTF8')), l.hubspot_object, ids, scrub.table_row, scrub.table_row <> 'absent')
  RETURNING id INTO proof;
  name := 'forgotten ' || proof;

  UPDATE hubspot.sync_log t SET entity_key = name, warp_value = NULL, hubspot_value = NULL,
    detail = CASE WHEN t.detail IN ('insert', 'update', 'first sync') THEN t.detail END,
    outcome = CASE WHEN t.action = 'edit' THEN coalesce(t.outcome, 'forgotten') ELSE t.outcome END,
    outcome_at = CASE WHEN t.action = 'edit' THEN coalesce(t.outcome_at, clock_timestamp()) ELSE t.outcome_at END
  WHERE t.entity_type = l.entity_type AND t.entity_key = l.entity_key;
  GET DIAGNOSTICS n = ROW_COUNT; counts := counts || jsonb_build_object('sync_log', n);

  UPDATE hubspot.conflicts t SET entity_key = name, warp_value = NULL, hubspot_value = NULL, base_value = NULL,
    status = 'resolved', resolved_at = coalesce(t.resolved_at, clock_timestamp()), resolved_by = coalesce(t.resolved_by, 'forgotten'),
    reason = CASE WHEN t.status = 'open' THEN 'forgotten' ELSE t.reason END, resolved_generation = NULL
  WHERE t.link_id = l.id OR (t.entity_type = l.entity_type AND t.entity_key = l.entity_key);
  GET DIAGNOSTICS n = ROW_COUNT; counts := counts || jsonb_build_object('conflicts', n);

  -- HubSpot's and the table's messages may quote values.
  UPDATE hubspot.failed_syncs t SET entity_key = name, value = NULL, message = 'forgotten',
    status = CASE WHEN t.status = 'open' THEN 'resolved' ELSE t.status END, ended_at = coalesce(t.ended_at, clock_timestamp())
  WHERE t.link_id = l.id OR (t.entity_type = l.entity_type AND t.entity_key = l.entity_key);
  GET DIAGNOSTICS n = ROW_COUNT; counts := counts || jsonb_build_object('failed_syncs', n);

  UPDATE hubspot.reconciliation_discrepancies t SET entity_key = name, warp_value = NULL, hubspot_value = NULL
  WHERE t.entity_type = l.entity_type AND (t.entity_key = l.entity_key OR t.hubspot_id = ANY (ids));
  GET DIAGNOSTICS n = ROW_COUNT; counts := counts || jsonb_build_object('reconciliation_discrepancies', n);

  UPDATE hubspot.webhook_events t SET event = t.event - '{propertyValue,lockedValue,valueHash}'::text[],
    status = CASE WHEN t.status IN ('pending', 'waiting', 'unmatched') THEN 'skipped' ELSE t.status END,
    detail = 'forgotten', processed_at = coalesce(t.processed_at, clock_timestamp())
  WHERE t.hubspot_object = l.hubspot_object AND t.hubspot_id = ANY (ids);
  GET DIAGNOSTICS n = ROW_COUNT; counts := counts || jsonb_build_object('webhook_events', n);

  DELETE FROM hubspot.capture t WHERE t.mapping_id = l.mapping_id AND (t.entity_key = l.entity_key OR t.old_key = l.entity_key);
  GET DIAGNOSTICS n = ROW_COUNT; counts := counts || jsonb_build_object('capture', n);
  DELETE FROM hubspot.queue t WHERE t.link_id = l.id;
  GET DIAGNOSTICS n = ROW_COUNT; counts := counts || jsonb_build_object('queue', n);
  DELETE FROM hubspot.sync_state t WHERE t.link_id = l.id;
  GET DIAGNOSTICS n = ROW_COUNT; counts := counts || jsonb_build_object('sync_state', n);
  DELETE FROM hubspot.link t WHERE t.id = l.id;
  UPDATE hubspot.forgotten f SET scrubbed = counts || '{"link": 1}' WHERE f.id = proof;
  RETURN proof;
END
$$;
COMMENT ON FUNCTION hubspot.scrub(bigint, text, text) IS
'Takes every value of a record out of the extension''s tables and leaves a proof in hubspot.forgotten, whose id it gives; null when there is no such record. Private: use hubspot.forget.';
