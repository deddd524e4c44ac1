-- Comparing both sides: runs, what they find, asking for them. The relay drives a run page by page (hubspot.relay_reconcile).

CREATE TABLE hubspot.reconciliation_runs (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  entity_type    text NOT NULL,
  kind           text NOT NULL DEFAULT 'full' CONSTRAINT reconciliation_runs_kind_check CHECK (kind IN ('full', 'incremental', 'poll')),
  dry_run        boolean NOT NULL,
  status         text NOT NULL DEFAULT 'waiting' CONSTRAINT reconciliation_runs_status_check
                 CHECK (status IN ('waiting', 'running', 'finished', 'failed', 'cancelled')),
  requested_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  requested_by   text NOT NULL,
  started_at     timestamptz,
  finished_at    timestamptz,
  rows_read      bigint NOT NULL DEFAULT 0,
  records        bigint NOT NULL DEFAULT 0,
  histories      bigint NOT NULL DEFAULT 0,
  listed         bigint NOT NULL DEFAULT 0,
  api_calls      bigint NOT NULL DEFAULT 0,
  discrepancies  bigint NOT NULL DEFAULT 0,
  found          jsonb NOT NULL DEFAULT '{}',
  message        text,
  window_from    timestamptz,
  window_to      timestamptz,
  written_since  bigint NOT NULL DEFAULT 0,
  position       jsonb NOT NULL DEFAULT '{}',
  page           bigint NOT NULL DEFAULT 0,
  page_at        timestamptz,
  claimed_by     text,
  lease_expires_at timestamptz,
  CONSTRAINT reconciliation_runs_ended_has_time_check CHECK ((status IN ('finished', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
  CONSTRAINT reconciliation_runs_claimed_has_lease_check CHECK ((claimed_by IS NULL) = (lease_expires_at IS NULL))
);
CREATE UNIQUE INDEX reconciliation_runs_unfinished_key ON hubspot.reconciliation_runs (entity_type, kind) WHERE finished_at IS NULL;
CREATE INDEX reconciliation_runs_entity_idx ON hubspot.reconciliation_runs (entity_type, kind, id DESC);
COMMENT ON TABLE hubspot.reconciliation_runs IS
'Comparisons of both sides: one row per run, with how far it is while it runs. Set by: hubspot.reconcile and the relay''s schedules, then hubspot.relay_reconcile. Kept for 90 days; polls and incremental runs that found nothing for a day.';
COMMENT ON COLUMN hubspot.reconciliation_runs.kind IS 'full: every row and record. incremental: what changed since the last one. poll: the same for HubSpot''s side alone.';
COMMENT ON COLUMN hubspot.reconciliation_runs.dry_run IS 'True: differences are only reported, nothing is written on either side.';
COMMENT ON COLUMN hubspot.reconciliation_runs.status IS 'waiting: until a relay takes it. running. finished. failed: message says why. cancelled: by hubspot.cancel_reconciliation, or because its mapping was disabled.';
COMMENT ON COLUMN hubspot.reconciliation_runs.requested_by IS 'Database role, or schedule.';
COMMENT ON COLUMN hubspot.reconciliation_runs.rows_read IS 'Rows of the table compared with what is recorded of them.';
COMMENT ON COLUMN hubspot.reconciliation_runs.records IS 'Linked records whose values in HubSpot were compared.';
COMMENT ON COLUMN hubspot.reconciliation_runs.histories IS 'Of those, records whose properties'' history was read too.';
COMMENT ON COLUMN hubspot.reconciliation_runs.listed IS 'Records of HubSpot that were listed, linked or not.';
COMMENT ON COLUMN hubspot.reconciliation_runs.api_calls IS 'Calls to HubSpot that the run''s pages needed; calls that were repeated after a failure count once.';
COMMENT ON COLUMN hubspot.reconciliation_runs.discrepancies IS 'How many differences were found; hubspot.reconciliation_discrepancies keeps the first 10,000 of each kind.';
COMMENT ON COLUMN hubspot.reconciliation_runs.found IS 'How many of each kind.';
COMMENT ON COLUMN hubspot.reconciliation_runs.message IS 'Why it failed or was cancelled. Null otherwise.';
COMMENT ON COLUMN hubspot.reconciliation_runs.window_from IS 'incremental, poll: HubSpot''s instants from which on changes are looked for. Null: full.';
COMMENT ON COLUMN hubspot.reconciliation_runs.window_to IS 'incremental, poll: HubSpot''s instant up to which changes are looked for; the next run goes on from it. Null: full.';
COMMENT ON COLUMN hubspot.reconciliation_runs.written_since IS 'Fields written to HubSpot since this instant of HubSpot''s have their history read even when both sides are equal. Unit: microseconds since 1970-01-01 UTC. Private.';
COMMENT ON COLUMN hubspot.reconciliation_runs.position IS 'Where it goes on after a relay died. Private.';
COMMENT ON COLUMN hubspot.reconciliation_runs.page IS 'Number of the page that is out: results of an older one come too late. Private.';
COMMENT ON COLUMN hubspot.reconciliation_runs.page_at IS 'When that page was handed out: what changed later was not seen. Private.';
COMMENT ON COLUMN hubspot.reconciliation_runs.claimed_by IS 'The relay that drives it. Null: none.';
COMMENT ON COLUMN hubspot.reconciliation_runs.lease_expires_at IS 'When another relay may go on with it.';

CREATE TABLE hubspot.reconciliation_discrepancies (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id        bigint NOT NULL REFERENCES hubspot.reconciliation_runs ON DELETE CASCADE,
  entity_type   text NOT NULL,
  entity_key    text,
  hubspot_id    text,
  field         text,
  kind          text NOT NULL CONSTRAINT reconciliation_discrepancies_kind_check CHECK (kind IN ('value_differs', 'missing_here', 'missing_there',
                  'unlinked', 'one_way_drift', 'found_only_by_reconciling')),
  warp_value    text,
  hubspot_value text,
  action        text NOT NULL CONSTRAINT reconciliation_discrepancies_action_check CHECK (action IN ('row_updated', 'sent_to_hubspot', 'conflict_opened',
                  'waits_for_person', 'captured', 'compared_again', 'marked_missing', 'reported', 'row_busy', 'row_refused')),
  found_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX reconciliation_discrepancies_run_idx ON hubspot.reconciliation_discrepancies (run_id, kind, field);
COMMENT ON TABLE hubspot.reconciliation_discrepancies IS 'What a run found, one row per field or record, and what was done about it (in a dry run: what would have been done). It holds customers'' values.';
COMMENT ON COLUMN hubspot.reconciliation_discrepancies.entity_key IS 'The row''s key. Null: HubSpot''s record has no row.';
COMMENT ON COLUMN hubspot.reconciliation_discrepancies.field IS 'Null: the whole record.';
COMMENT ON COLUMN hubspot.reconciliation_discrepancies.kind IS
'value_differs: the sides differ though neither changed since they agreed, or a person has to decide first. missing_here: HubSpot has a record that no row stands for. missing_there: HubSpot does not know a linked record any more. unlinked: a row without a HubSpot record, or a record found again. one_way_drift: the receiving side of a one-way field was changed. found_only_by_reconciling: a change that neither the capture trigger nor a webhook had told of.';
COMMENT ON COLUMN hubspot.reconciliation_discrepancies.warp_value IS 'What the row held, in canonical form. Null: empty.';
COMMENT ON COLUMN hubspot.reconciliation_discrepancies.hubspot_value IS 'What HubSpot held, in the row''s form where it has one. Null: empty, or not read.';
COMMENT ON COLUMN hubspot.reconciliation_discrepancies.action IS
'row_updated: the row was given HubSpot''s value. sent_to_hubspot: the row''s value is queued. conflict_opened: a MANUAL conflict. waits_for_person: an open conflict or failure that was known. captured: the row''s change is queued as if its trigger had captured it. compared_again: the record is met anew by the next delivery. marked_missing. reported: nothing is done. row_busy: the row was locked or moved, the next run looks again. row_refused: the table refused the value, see failed_syncs.';

CREATE TABLE hubspot.reconciliation_schedule (
  kind    text PRIMARY KEY,
  slot_at timestamptz NOT NULL,
  taken_at timestamptz
);
COMMENT ON TABLE hubspot.reconciliation_schedule IS 'The newest scheduled time of each kind of run that was taken, so that several relays start a run once. Private.';

CREATE FUNCTION hubspot.reconcile(entity_type text, dry_run boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run bigint;
BEGIN
  IF NOT EXISTS (SELECT 1 FROM hubspot.object_mapping m WHERE m.entity_type = reconcile.entity_type) THEN
    RAISE EXCEPTION 'there is no mapping for entity type "%"', reconcile.entity_type USING ERRCODE = '42704',
      HINT = 'SELECT entity_type FROM hubspot.object_mapping';
  END IF;
  IF NOT (SELECT m.enabled FROM hubspot.object_mapping m WHERE m.entity_type = reconcile.entity_type) THEN
    RAISE EXCEPTION 'the mapping of "%" is disabled: nothing of it is compared', reconcile.entity_type USING ERRCODE = '55000',
      HINT = format('call hubspot.enable(%L)', reconcile.entity_type);
  END IF;
  INSERT INTO hubspot.reconciliation_runs (entity_type, kind, dry_run, requested_by)
  VALUES (reconcile.entity_type, 'full', coalesce(reconcile.dry_run, false), session_user)
  ON CONFLICT DO NOTHING RETURNING id INTO run;
  IF run IS NULL THEN
    RAISE EXCEPTION 'a reconciliation of "%" is waiting or running already', reconcile.entity_type USING ERRCODE = '55000',
      HINT = 'look at hubspot.reconciliation_runs; hubspot.cancel_reconciliation(id) ends it';
  END IF;
  RETURN run;
END
$$;
COMMENT ON FUNCTION hubspot.reconcile(text, boolean) IS
'Asks for a comparison of every row and record of an entity type; a relay takes it within seconds. dry_run: differences are only reported. Gives the run''s id, for hubspot.reconciliation_runs and hubspot.reconciliation_report. Raises: 42704 no such mapping, 55000 it is disabled or a full run is unfinished.';

CREATE FUNCTION hubspot.cancel_reconciliation(run_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE hubspot.reconciliation_runs r SET status = 'cancelled', finished_at = clock_timestamp(), claimed_by = NULL, lease_expires_at = NULL,
    message = format('cancelled by %s', session_user)
  WHERE r.id = cancel_reconciliation.run_id AND r.finished_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no unfinished reconciliation run %', cancel_reconciliation.run_id USING ERRCODE = '42704',
      HINT = 'SELECT id, status FROM hubspot.reconciliation_runs';
  END IF;
END
$$;
COMMENT ON FUNCTION hubspot.cancel_reconciliation(bigint) IS
'Ends a run that waits or runs; what it did so far stays. Raises: 42704 no unfinished run of that id. Locks: waits for the page that is being worked on.';

CREATE FUNCTION hubspot.reconciliation_report(run_id bigint)
RETURNS TABLE (kind text, field text, action text, discrepancies bigint, example_key text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs r WHERE r.id = reconciliation_report.run_id) THEN
    RAISE EXCEPTION 'there is no reconciliation run %', reconciliation_report.run_id USING ERRCODE = '42704',
      HINT = 'SELECT id FROM hubspot.reconciliation_runs';
  END IF;
  RETURN QUERY SELECT d.kind, d.field, d.action, count(*), min(coalesce(d.entity_key, d.hubspot_id))
  FROM hubspot.reconciliation_discrepancies d WHERE d.run_id = reconciliation_report.run_id
  GROUP BY d.kind, d.field, d.action ORDER BY count(*) DESC, d.kind, d.field, d.action;
END
$$;
COMMENT ON FUNCTION hubspot.reconciliation_report(bigint) IS
'What a run found, summed up by kind, field and action, most frequent first; no rows: nothing. The single findings are in hubspot.reconciliation_discrepancies. Raises: 42704 no such run.';
