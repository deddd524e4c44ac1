-- The cap of captured changes. Past it changes are shed: instead of the change itself only the record's name is kept, and
-- its row is read again when captured changes have been taken over. A write of the application never waits or fails.

ALTER TABLE hubspot.binding ADD COLUMN capture_limit bigint DEFAULT 4294967296
  CONSTRAINT binding_capture_limit_check CHECK (capture_limit > 0);
COMMENT ON COLUMN hubspot.binding.capture_limit IS 'How much of hubspot.capture may wait to be taken over. Unit: bytes. Null: any amount. Set by: hubspot.set_capture_limit.';

CREATE TABLE hubspot.capture_shed (
  mapping_id int NOT NULL,
  entity_key text NOT NULL,
  since      timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Not unique: two sessions that mark one record at a time must not wait for each other. By hash: a key may be long.
CREATE INDEX capture_shed_key_idx ON hubspot.capture_shed USING hash (entity_key);
ALTER TABLE hubspot.capture_shed REPLICA IDENTITY FULL;
COMMENT ON TABLE hubspot.capture_shed IS
'Records whose changes were too many to be kept one by one: their rows are compared with what is recorded once everything in hubspot.capture has been taken over. Private: read hubspot.outbox.';
COMMENT ON COLUMN hubspot.capture_shed.since IS 'When the record was first changed past the limit: what is found counts as edited then.';

CREATE FUNCTION hubspot.set_capture_limit(megabytes int) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF megabytes < 64 THEN
    RAISE EXCEPTION 'megabytes is less than 64' USING ERRCODE = '22023', HINT = 'give at least 64 megabytes, for space is given back in large pieces, or null for no limit';
  END IF;
  UPDATE hubspot.binding SET capture_limit = megabytes::bigint * 1048576;
  RETURN CASE WHEN megabytes IS NULL THEN 'captured changes are kept whatever their size'
    ELSE format('captured changes are kept up to %s MB; past that only which records changed', megabytes) END;
END
$$;
COMMENT ON FUNCTION hubspot.set_capture_limit(int) IS
'Says how many megabytes of captured changes may wait for a relay (4096 at first; null: no limit). Past it only the names of changed records are kept, and their rows are read again later. Sessions notice within 256 changes. Raises: 22023.';
