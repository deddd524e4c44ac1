-- Captured changes on their way from the application's transaction to the relay. What is paid here is paid by the
-- application: no index, no sequence. extension/src/capture/insert.rs says how order is kept without them.

CREATE TABLE hubspot.capture (
  position         bigint NOT NULL,
  captured_at      timestamptz NOT NULL,
  mapping_id       int NOT NULL,
  db_user          oid NOT NULL,
  op               "char" NOT NULL,
  entity_key       text,
  old_key          text,
  changes          json,
  application_name text
) WITH (autovacuum_enabled = false, vacuum_truncate = false);
-- Without a key and in a publication of all tables, no row could be deleted. It costs something where wal_level is logical alone.
ALTER TABLE hubspot.capture REPLICA IDENTITY FULL;
COMMENT ON TABLE hubspot.capture IS
'Committed row changes that no relay took over yet: one row per changed row, appended at the end of the table by the capture trigger in the application''s transaction, consumed block by block. It has no index and must not get one: order comes from where a row lies. Freed space is given back by hubspot.relay_reclaim, not by VACUUM. Private: read hubspot.outbox.';
COMMENT ON COLUMN hubspot.capture.position IS 'Write-ahead log insert position at the capture: orders the changes of one row that lie in one block. 0: a row brought by a restore, or by hand.';
COMMENT ON COLUMN hubspot.capture.op IS 'I insert, U update, D delete, K update that changed the key, T truncate, F first sync of a row that was there before.';
COMMENT ON COLUMN hubspot.capture.entity_key IS 'The key''s text; a JSON array of texts for several key columns. Null: truncate.';
COMMENT ON COLUMN hubspot.capture.changes IS 'Changed fields: name to [old, new], each a text independent of session settings, or null. Null: delete, truncate.';

CREATE FUNCTION hubspot.restored() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  NEW.position := 0;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION hubspot.restored() IS 'Trigger of hubspot.capture: a row that COPY or INSERT brings has a position of another server, which must not be compared with this one''s. Capture itself fires no trigger. Private.';
CREATE TRIGGER restored BEFORE INSERT ON hubspot.capture FOR EACH ROW EXECUTE FUNCTION hubspot.restored();

CREATE TABLE hubspot.capture_mark (
  only_one   boolean PRIMARY KEY DEFAULT true CONSTRAINT capture_mark_only_one_check CHECK (only_one),
  filenode   oid NOT NULL,
  block      bigint NOT NULL,
  tick_block bigint NOT NULL,
  tick_xid   bigint NOT NULL,
  deleted_by bigint NOT NULL
);
COMMENT ON TABLE hubspot.capture_mark IS
'Where taking over captured changes goes on when hubspot.capture is long: at most one row. Only a shortcut: without it, or after a rewrite of the table, the whole table is read. Not dumped. Private.';
COMMENT ON COLUMN hubspot.capture_mark.filenode IS 'File of hubspot.capture that the row is about.';
COMMENT ON COLUMN hubspot.capture_mark.block IS 'No row will ever be found before this block.';
COMMENT ON COLUMN hubspot.capture_mark.tick_block IS 'Only transactions older than tick_xid wrote before this block.';
COMMENT ON COLUMN hubspot.capture_mark.tick_xid IS 'Transaction id with epoch: the next one when tick_block was noted.';
COMMENT ON COLUMN hubspot.capture_mark.deleted_by IS 'Transaction id with epoch: the newest one that took rows away.';
