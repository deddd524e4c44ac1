-- HubSpot's webhooks journal: how far it was read. One relay at a time reads it, under a lease.

CREATE TABLE hubspot.webhook_journal (
  portal_id        bigint PRIMARY KEY,
  journal_offset   text,
  read_at          timestamptz,
  gaps             int NOT NULL DEFAULT 0,
  last_gap_at      timestamptz,
  held_by          text,
  lease_expires_at timestamptz,
  fence            bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE hubspot.webhook_journal IS
'How far HubSpot''s webhooks journal was read, a row for each portal (poll.mode "journal" of the relay). What an entry told and the new offset are committed together, so that nothing is lost or left out by a crash.';
COMMENT ON COLUMN hubspot.webhook_journal.journal_offset IS 'HubSpot''s offset of the newest entry that was stored. Null: not begun. Empty: from the earliest entry HubSpot still has.';
COMMENT ON COLUMN hubspot.webhook_journal.read_at IS 'When an entry was stored last, or HubSpot had none that is newer. HubSpot keeps entries for three days.';
COMMENT ON COLUMN hubspot.webhook_journal.gaps IS 'How often entries may have been missed, the beginning included: after three days without reading, or when HubSpot did not know the offset any more. Each has every record compared once.';
COMMENT ON COLUMN hubspot.webhook_journal.held_by IS 'The relay that reads; null: none.';
COMMENT ON COLUMN hubspot.webhook_journal.fence IS 'Grows whenever another relay takes over: what a former one still brings is refused.';

CREATE FUNCTION hubspot.relay_journal_take(relay_id text, portal_id bigint, lease_ms bigint, caught_up boolean) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  taken jsonb;
BEGIN
  IF hubspot.armed_reason(relay_journal_take.portal_id) IS NOT NULL THEN
    RETURN NULL;
  END IF;
  INSERT INTO hubspot.webhook_journal (portal_id) VALUES (relay_journal_take.portal_id) ON CONFLICT DO NOTHING;
  UPDATE hubspot.webhook_journal j SET
    fence = j.fence + CASE WHEN j.held_by = relay_journal_take.relay_id THEN 0 ELSE 1 END,
    held_by = relay_journal_take.relay_id,
    lease_expires_at = clock_timestamp() + relay_journal_take.lease_ms * interval '1 millisecond',
    read_at = CASE WHEN relay_journal_take.caught_up AND j.held_by = relay_journal_take.relay_id THEN clock_timestamp() ELSE j.read_at END
  WHERE j.portal_id = relay_journal_take.portal_id
    AND (j.held_by IS NULL OR j.held_by = relay_journal_take.relay_id OR j.lease_expires_at < clock_timestamp())
  RETURNING jsonb_build_object('fence', j.fence, 'offset', j.journal_offset,
    'unread_seconds', floor(extract(epoch FROM clock_timestamp() - j.read_at))) INTO taken;
  RETURN taken;
END
$$;
COMMENT ON FUNCTION hubspot.relay_journal_take(text, bigint, bigint, boolean) IS
'Private: takes or keeps the lease of the portal''s journal. caught_up: the relay has just seen its end. Gives the fence, the offset and how long nothing was read; null while another relay holds it or the database is not armed.';

CREATE FUNCTION hubspot.relay_journal_store(relay_id text, portal_id bigint, fence bigint, after text, reached text, events jsonb, gap boolean)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  stored bigint;
BEGIN
  PERFORM 1 FROM hubspot.webhook_journal j
  WHERE j.portal_id = relay_journal_store.portal_id AND j.held_by = relay_journal_store.relay_id AND j.fence = relay_journal_store.fence
    AND j.journal_offset IS NOT DISTINCT FROM relay_journal_store.after
  FOR UPDATE;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  stored := hubspot.relay_receive(relay_journal_store.events);
  UPDATE hubspot.webhook_journal j SET journal_offset = relay_journal_store.reached, read_at = clock_timestamp(),
    gaps = j.gaps + CASE WHEN relay_journal_store.gap THEN 1 ELSE 0 END,
    last_gap_at = CASE WHEN relay_journal_store.gap THEN clock_timestamp() ELSE j.last_gap_at END
  WHERE j.portal_id = relay_journal_store.portal_id;
  IF relay_journal_store.gap THEN
    INSERT INTO hubspot.reconciliation_runs (entity_type, kind, dry_run, requested_by)
    SELECT m.entity_type, 'full', false, 'webhooks journal' FROM hubspot.object_mapping m WHERE m.enabled ORDER BY m.id
    ON CONFLICT DO NOTHING;
  END IF;
  RETURN stored;
END
$$;
COMMENT ON FUNCTION hubspot.relay_journal_store(text, bigint, bigint, text, text, jsonb, boolean) IS
'Private: stores the events of a journal entry, in the form of a webhook''s, and the offset reached, together. gap: entries may have been missed, so every enabled mapping is compared in full. Gives how many events were new; null, and nothing is stored, when the lease or the offset is not what the relay thinks. Locks: the journal''s row.';
