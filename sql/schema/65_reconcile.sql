-- Comparing both sides: runs, what they find, asking for them. The relay drives a run page by page (hubspot.relay_reconcile).

CREATE TABLE hubspot.reconciliation_runs (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  entity_type    text NOT NULL,
  kind           text NOT NULL DEFAULT 'full' CONSTRAINT reconciliation_runs_kind_check CHECK (kind IN ('full', 'incremental', 'poll', 'backfill')),
  direction      hubspot.sync_direction,
  dry_run        boolean NOT NULL,
  status         text NOT NULL DEFAULT 'waiting' CONSTRAINT reconciliation_runs_status_check
                 CHECK (status IN ('waiting', 'running', 'paused', 'finished', 'failed', 'cancelled')),
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
  CONSTRAINT reconciliation_runs_backfill_has_direction_check CHECK ((kind = 'backfill') = (direction IS NOT NULL)),
  CONSTRAINT reconciliation_runs_claimed_has_lease_check CHECK ((claimed_by IS NULL) = (lease_expires_at IS NULL))
);
CREATE UNIQUE INDEX reconciliation_runs_unfinished_key ON hubspot.reconciliation_runs (entity_type, kind) WHERE finished_at IS NULL;
CREATE INDEX reconciliation_runs_entity_idx ON hubspot.reconciliation_runs (entity_type, kind, id DESC);
COMMENT ON TABLE hubspot.reconciliation_runs IS
'Comparisons of both sides: one row per run, with how far it is while it runs. Set by: hubspot.reconcile and the relay''s schedules, then hubspot.relay_reconcile. Kept for 90 days; polls and incremental runs that found nothing for a day.';
COMMENT ON COLUMN hubspot.reconciliation_runs.kind IS 'full: every row and record. incremental: what changed since the last one. poll: the same for HubSpot''s side alone. backfill: one side''s values are brought over to the other.';
COMMENT ON COLUMN hubspot.reconciliation_runs.direction IS 'Of a backfill: WARP_TO_HUBSPOT or HUBSPOT_TO_WARP. Null: another kind.';
COMMENT ON COLUMN hubspot.reconciliation_runs.dry_run IS 'True: differences are only reported, nothing is written on either side.';
COMMENT ON COLUMN hubspot.reconciliation_runs.status IS 'waiting: until a relay takes it. running. paused: by hubspot.pause_reconciliation. finished. failed: message says why. cancelled: by hubspot.cancel_reconciliation, or because its mapping was disabled.';
COMMENT ON COLUMN hubspot.reconciliation_runs.requested_by IS 'Database role, or schedule.';
COMMENT ON COLUMN hubspot.reconciliation_runs.rows_read IS 'Rows of the table compared with what is recorded of them.';
COMMENT ON COLUMN hubspot.reconciliation_runs.records IS 'Linked records whose values in HubSpot were compared.';
COMMENT ON COLUMN hubspot.reconciliation_runs.histories IS 'Of those, records whose properties'' history was read too.';
COMMENT ON COLUMN hubspot.reconciliation_runs.listed IS 'Records of HubSpot that were listed, linked or not.';
COMMENT ON COLUMN hubspot.reconciliation_runs.api_calls IS 'Calls to HubSpot that the run''s pages needed; calls that were repeated after a failure count once.';
COMMENT ON COLUMN hubspot.reconciliation_runs.discrepancies IS 'How many differences were found; hubspot.reconciliation_discrepancies keeps the first 10,000 of each kind.';
COMMENT ON COLUMN hubspot.reconciliation_runs.found IS 'How many of each kind; of a backfill: how many fields were brought over.';
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

CREATE FUNCTION hubspot.backfill(entity_type text, direction text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run bigint;
BEGIN
  IF backfill.direction IS NULL OR backfill.direction NOT IN ('WARP_TO_HUBSPOT', 'HUBSPOT_TO_WARP') THEN
    RAISE EXCEPTION 'argument direction is not a direction of a backfill' USING ERRCODE = '22023',
      HINT = 'pass WARP_TO_HUBSPOT or HUBSPOT_TO_WARP';
  END IF;
  IF NOT EXISTS (SELECT 1 FROM hubspot.object_mapping m WHERE m.entity_type = backfill.entity_type) THEN
    RAISE EXCEPTION 'there is no mapping for entity type "%"', backfill.entity_type USING ERRCODE = '42704',
      HINT = 'SELECT entity_type FROM hubspot.object_mapping';
  END IF;
  IF NOT (SELECT m.enabled FROM hubspot.object_mapping m WHERE m.entity_type = backfill.entity_type) THEN
    RAISE EXCEPTION 'the mapping of "%" is disabled: nothing of it is brought over', backfill.entity_type USING ERRCODE = '55000',
      HINT = format('call hubspot.enable(%L)', backfill.entity_type);
  END IF;
  INSERT INTO hubspot.reconciliation_runs (entity_type, kind, direction, dry_run, requested_by)
  VALUES (backfill.entity_type, 'backfill', backfill.direction::hubspot.sync_direction, false, session_user)
  ON CONFLICT DO NOTHING RETURNING id INTO run;
  IF run IS NULL THEN
    RAISE EXCEPTION 'a backfill of "%" is unfinished', backfill.entity_type USING ERRCODE = '55000',
      HINT = 'look at hubspot.reconciliation_progress; hubspot.cancel_reconciliation(id) ends it';
  END IF;
  RETURN run;
END
$$;
COMMENT ON FUNCTION hubspot.backfill(text, text) IS
'Brings one side''s values over to the other: WARP_TO_HUBSPOT sends the fields that flow there and differ, HUBSPOT_TO_WARP writes them into the rows. Empty values wipe nothing; fields with something on their way, open conflicts and refused values are left alone; edits that nobody had seen are settled by policy. Delivered behind what somebody waits for. Gives the run''s id, for hubspot.reconciliation_progress. Raises: 22023 direction, 42704 no such mapping, 55000 it is disabled or a backfill is unfinished.';

CREATE FUNCTION hubspot.pause_reconciliation(run_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE hubspot.reconciliation_runs r SET status = 'paused', claimed_by = NULL, lease_expires_at = NULL
  WHERE r.id = pause_reconciliation.run_id AND r.finished_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no unfinished run %', pause_reconciliation.run_id USING ERRCODE = '42704',
      HINT = 'SELECT id, status FROM hubspot.reconciliation_runs';
  END IF;
END
$$;
COMMENT ON FUNCTION hubspot.pause_reconciliation(bigint) IS
'Stops a run, of whatever kind, where it stands until hubspot.resume_reconciliation. What is queued already is delivered. Idempotent. Raises: 42704 no unfinished run of that id. Locks: waits for the page that is being worked on.';

CREATE FUNCTION hubspot.resume_reconciliation(run_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE hubspot.reconciliation_runs r SET status = CASE WHEN r.status <> 'paused' THEN r.status WHEN r.started_at IS NULL THEN 'waiting' ELSE 'running' END
  WHERE r.id = resume_reconciliation.run_id AND r.finished_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no unfinished run %', resume_reconciliation.run_id USING ERRCODE = '42704',
      HINT = 'SELECT id, status FROM hubspot.reconciliation_runs';
  END IF;
END
$$;
COMMENT ON FUNCTION hubspot.resume_reconciliation(bigint) IS 'Has a paused run go on where it stood. Idempotent. Raises: 42704 no unfinished run of that id.';

CREATE VIEW hubspot.reconciliation_progress AS
SELECT r.id, r.entity_type, r.kind, r.direction, r.status, r.position->>'phase' AS phase, r.records AS done, t.total,
  CASE WHEN t.total > 0 THEN least(round(100.0 * r.records / t.total, 1), 100) END AS percent,
  r.api_calls,
  -- A read for 100 records; towards HubSpot at most a write for 100 as well; a full run lists HubSpot's records besides.
  -- An export spares the reads: what it cost is counted, and little more comes.
  greatest(r.api_calls, CASE WHEN r.position->'export' ? 'task' OR (r.kind = 'backfill' AND r.status = 'finished') THEN r.api_calls WHEN r.kind IN ('full', 'backfill') THEN ceil(t.total / 100.0)::bigint
    * CASE WHEN r.kind = 'full' OR r.direction = 'WARP_TO_HUBSPOT' THEN 2 ELSE 1 END END) AS estimated_calls,
  CASE WHEN r.finished_at IS NOT NULL THEN 0
    WHEN r.records > 0 AND r.started_at IS NOT NULL
      THEN ceil(extract(epoch FROM clock_timestamp() - r.started_at) / r.records * greatest(t.total - r.records, 0))::bigint
    WHEN r.kind IN ('full', 'backfill') THEN ceil(t.total / 100.0 / coalesce(nullif(b.slots, 0), 100) * coalesce(b.window_ms, 10000) / 1000
      * CASE WHEN r.kind = 'full' OR r.direction = 'WARP_TO_HUBSPOT' THEN 2 ELSE 1 END)::bigint END AS estimated_seconds_left,
  r.requested_at, r.started_at, r.finished_at, r.claimed_by
FROM hubspot.reconciliation_runs r
LEFT JOIN hubspot.quota_budget b ON b.budget = 'general'
CROSS JOIN LATERAL (SELECT count(*) AS total FROM hubspot.link l JOIN hubspot.object_mapping m ON m.id = l.mapping_id
                    WHERE m.entity_type = r.entity_type AND l.status = 'linked') t
WHERE r.finished_at IS NULL OR r.id IN (SELECT DISTINCT ON (x.entity_type, x.kind) x.id FROM hubspot.reconciliation_runs x
                                        ORDER BY x.entity_type, x.kind, x.id DESC);
COMMENT ON VIEW hubspot.reconciliation_progress IS
'Unfinished runs, and the newest of each kind: how far each is, what it costs in calls to HubSpot and how long it will still take. While it waits or begins, the time is what the limit allows; then it is its own pace so far.';
COMMENT ON COLUMN hubspot.reconciliation_progress.done IS 'Linked records that were compared or brought over.';
COMMENT ON COLUMN hubspot.reconciliation_progress.total IS 'Linked records there are.';
COMMENT ON COLUMN hubspot.reconciliation_progress.estimated_calls IS 'Calls to HubSpot in all, histories left out. Null: not known for this kind.';
COMMENT ON COLUMN hubspot.reconciliation_progress.estimated_seconds_left IS 'Null: not known for this kind before it has begun.';

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

CREATE FUNCTION hubspot.relay_reconcile_schedule(kind text, slot_ms bigint) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  slot CONSTANT timestamptz := to_timestamp(slot_ms / 1e3);
  first boolean;
  runs int := 0;
BEGIN
  INSERT INTO hubspot.reconciliation_schedule AS s (kind, slot_at) VALUES (relay_reconcile_schedule.kind, slot)
  ON CONFLICT ON CONSTRAINT reconciliation_schedule_pkey DO UPDATE SET slot_at = excluded.slot_at, taken_at = clock_timestamp()
    WHERE s.slot_at < excluded.slot_at
  RETURNING s.taken_at IS NULL INTO first;
  -- A schedule that is heard of for the first time begins with its next time.
  IF coalesce(first, true) THEN
    RETURN 0;
  END IF;
  INSERT INTO hubspot.reconciliation_runs (entity_type, kind, dry_run, requested_by)
  SELECT m.entity_type, relay_reconcile_schedule.kind, false, 'schedule' FROM hubspot.object_mapping m WHERE m.enabled ORDER BY m.id
  ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS runs = ROW_COUNT;
  RETURN runs;
END
$$;
COMMENT ON FUNCTION hubspot.relay_reconcile_schedule(text, bigint) IS
'Private: a relay''s schedule says that a time for runs of a kind has come (milliseconds since 1970-01-01 UTC). The first relay to say so asks for the runs; an unfinished run of the kind is not doubled. Gives how many runs were asked for.';

CREATE FUNCTION hubspot.relay_reconcile_request(entity_type text, dry_run boolean) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF relay_reconcile_request.entity_type IS NOT NULL THEN
    RETURN jsonb_build_array(hubspot.reconcile(relay_reconcile_request.entity_type, relay_reconcile_request.dry_run));
  END IF;
  RETURN (SELECT coalesce(jsonb_agg(hubspot.reconcile(m.entity_type, relay_reconcile_request.dry_run) ORDER BY m.id), '[]')
          FROM hubspot.object_mapping m WHERE m.enabled);
END
$$;
COMMENT ON FUNCTION hubspot.relay_reconcile_request(text, boolean) IS
'Private: hubspot.reconcile for the command hubspot-relay reconcile, of one entity type or (null) of all enabled ones. Gives the runs'' ids. Raises: as hubspot.reconcile.';

CREATE FUNCTION hubspot.relay_reconcile_report(run_id bigint, after bigint, max int) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run jsonb;
BEGIN
  SELECT jsonb_build_object('id', r.id, 'entity_type', r.entity_type, 'kind', r.kind, 'direction', r.direction, 'dry_run', r.dry_run, 'status', r.status,
      'requested_at', r.requested_at, 'requested_by', r.requested_by, 'started_at', r.started_at, 'finished_at', r.finished_at,
      'rows_read', r.rows_read, 'records', r.records, 'histories', r.histories, 'listed', r.listed, 'api_calls', r.api_calls,
      'discrepancies', r.discrepancies, 'found', r.found, 'message', r.message, 'phase', r.position->>'phase',
      'seconds', round(extract(epoch FROM coalesce(r.finished_at, clock_timestamp()) - r.started_at), 1),
      'expected', (SELECT count(*) FROM hubspot.link l JOIN hubspot.object_mapping m ON m.id = l.mapping_id
                   WHERE m.entity_type = r.entity_type AND l.status = 'linked'))
  INTO run FROM hubspot.reconciliation_runs r WHERE r.id = relay_reconcile_report.run_id;
  IF run IS NULL THEN
    RAISE EXCEPTION 'there is no reconciliation run %', relay_reconcile_report.run_id USING ERRCODE = '42704',
      HINT = 'SELECT id FROM hubspot.reconciliation_runs';
  END IF;
  IF max IS NULL THEN
    RETURN jsonb_build_object('run', run, 'summary', '[]'::jsonb, 'discrepancies', '[]'::jsonb);
  END IF;
  RETURN jsonb_build_object('run', run,
    'summary', (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM hubspot.reconciliation_report(relay_reconcile_report.run_id) s),
    'discrepancies', (SELECT coalesce(jsonb_agg(to_jsonb(d) - 'run_id' ORDER BY d.id), '[]') FROM (SELECT * FROM hubspot.reconciliation_discrepancies x
      WHERE x.run_id = relay_reconcile_report.run_id AND x.id > relay_reconcile_report.after ORDER BY x.id LIMIT relay_reconcile_report.max) d));
END
$$;
COMMENT ON FUNCTION hubspot.relay_reconcile_report(bigint, bigint, int) IS
'Private: a run, what it found summed up, and at most max of its discrepancies after an id, for the command''s reports. max null: the run alone. Raises: 42704 no such run.';

CREATE FUNCTION hubspot.relay_backfill_request(entity_type text, direction text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT hubspot.backfill(relay_backfill_request.entity_type, relay_backfill_request.direction)
$$;
COMMENT ON FUNCTION hubspot.relay_backfill_request(text, text) IS 'Private: hubspot.backfill for the command hubspot-relay backfill.';
