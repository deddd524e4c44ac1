-- What people decide on the relay's admin page. Each call is one person's: the name they gave goes into hubspot.actor, so
-- that conflicts and log name them, and into hubspot.page_log.

CREATE TABLE hubspot.page_log (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor    text NOT NULL,
  role     name NOT NULL DEFAULT session_user,
  action   text NOT NULL CONSTRAINT page_log_action_check CHECK (action IN ('resolve', 'undo', 'retry', 'compare', 'cancel')),
  winner   text,
  subjects bigint[] NOT NULL DEFAULT '{}',
  refused  int NOT NULL DEFAULT 0
);
COMMENT ON TABLE hubspot.page_log IS 'Who did what on the relay''s admin page, one row a click. Set by: the page''s functions. Never purged.';
COMMENT ON COLUMN hubspot.page_log.actor IS 'The name the person gave at login. Whoever holds the token chooses it.';
COMMENT ON COLUMN hubspot.page_log.role IS 'The relay''s role.';
COMMENT ON COLUMN hubspot.page_log.winner IS 'For resolve: WARP, HUBSPOT or VALUE. Null: another action.';
COMMENT ON COLUMN hubspot.page_log.subjects IS 'Ids in hubspot.conflicts for resolve and undo, in hubspot.failed_syncs for retry, in hubspot.reconciliation_runs for compare and cancel: those it was done to.';
COMMENT ON COLUMN hubspot.page_log.refused IS 'How many were left as they were, because they had changed or the table refused the value.';

CREATE FUNCTION hubspot.page_note(log_id bigint, actor text, action text, winner text, subjects bigint[], refused int) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  noted bigint := log_id;
BEGIN
  IF cardinality(subjects) = 0 AND refused = 0 THEN
    RETURN log_id;
  END IF;
  UPDATE hubspot.page_log l SET subjects = l.subjects || page_note.subjects, refused = l.refused + page_note.refused
    WHERE l.id = log_id AND l.actor = page_note.actor AND l.action = page_note.action;
  IF NOT FOUND THEN
    INSERT INTO hubspot.page_log AS l (actor, action, winner, subjects, refused) VALUES (actor, action, winner, subjects, refused) RETURNING l.id INTO noted;
  END IF;
  RETURN noted;
END
$$;
COMMENT ON FUNCTION hubspot.page_note(bigint, text, text, text, bigint[], int) IS 'Private: adds to an entry of hubspot.page_log, or makes one. Gives its id.';

CREATE FUNCTION hubspot.page_resolve(actor text, chosen text[], winner text, value text, log_id bigint) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one text;
  cid bigint;
  done bigint[] := '{}'::bigint[];
  refused jsonb := '[]'::jsonb;
  said text;
  hint text;
BEGIN
  PERFORM set_config('hubspot.actor', actor, true);
  FOREACH one IN ARRAY chosen LOOP
    cid := split_part(one, ':', 1)::bigint;
    BEGIN
      PERFORM hubspot.resolve_conflict(cid, winner, value);
      -- The call has taken over what was edited up to now: what it decided about must be what the person saw.
      IF NOT EXISTS (SELECT 1 FROM hubspot.conflicts c WHERE c.id = cid
          AND hubspot.page_fingerprint(c.warp_value, c.warp_changed_at, c.hubspot_value, c.hubspot_changed_at) = split_part(one, ':', 2)) THEN
        RAISE EXCEPTION 'its values have changed since you looked' USING ERRCODE = '55000', HINT = 'look at the conflict as it is now, then decide again';
      END IF;
      done := done || cid;
    EXCEPTION WHEN invalid_parameter_value OR undefined_object OR object_not_in_prerequisite_state OR lock_not_available OR check_violation THEN
      GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
      refused := refused || jsonb_build_array(jsonb_build_object('id', cid, 'message', said, 'hint', hint));
    END;
  END LOOP;
  RETURN jsonb_build_object('done', done, 'refused', refused,
    'log_id', hubspot.page_note(log_id, actor, 'resolve', upper(winner), done, jsonb_array_length(refused)));
END
$$;
COMMENT ON FUNCTION hubspot.page_resolve(text, text[], text, text, bigint) IS
'Private: resolves conflicts, each given as id:fingerprint, for a person. One that has changed since the fingerprint was taken is left as it is and named in refused, with why. log_id: an entry of hubspot.page_log to add to; null makes one.';

CREATE FUNCTION hubspot.page_undo(actor text, conflict_ids bigint[], log_id bigint) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  cid bigint;
  done bigint[] := '{}'::bigint[];
  refused jsonb := '[]'::jsonb;
  said text;
  hint text;
BEGIN
  PERFORM set_config('hubspot.actor', actor, true);
  FOREACH cid IN ARRAY conflict_ids LOOP
    BEGIN
      PERFORM hubspot.undo_resolution(cid);
      done := done || cid;
    EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR lock_not_available OR check_violation THEN
      GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
      refused := refused || jsonb_build_array(jsonb_build_object('id', cid, 'message', said, 'hint', hint));
    END;
  END LOOP;
  RETURN jsonb_build_object('done', done, 'refused', refused,
    'log_id', hubspot.page_note(log_id, actor, 'undo', NULL, done, jsonb_array_length(refused)));
END
$$;
COMMENT ON FUNCTION hubspot.page_undo(text, bigint[], bigint) IS 'Private: opens conflicts again that people resolved, for a person; those that cannot be are named in refused, with why.';

CREATE FUNCTION hubspot.page_retry(actor text, failure_ids bigint[], log_id bigint) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  fid bigint;
  done bigint[] := '{}'::bigint[];
  refused jsonb := '[]'::jsonb;
  said text;
  hint text;
BEGIN
  PERFORM set_config('hubspot.actor', actor, true);
  FOREACH fid IN ARRAY failure_ids LOOP
    BEGIN
      PERFORM hubspot.retry_failed(fid);
      done := done || fid;
    EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR lock_not_available THEN
      GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
      refused := refused || jsonb_build_array(jsonb_build_object('id', fid, 'message', said, 'hint', hint));
    END;
  END LOOP;
  RETURN jsonb_build_object('done', done, 'refused', refused,
    'log_id', hubspot.page_note(log_id, actor, 'retry', NULL, done, jsonb_array_length(refused)));
END
$$;
COMMENT ON FUNCTION hubspot.page_retry(text, bigint[], bigint) IS 'Private: tries failed syncs again, for a person; those that are not open any more are named in refused.';

CREATE FUNCTION hubspot.page_failure_ids(filter jsonb, max_rows int) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  answer jsonb;
BEGIN
  EXECUTE format('SELECT coalesce(jsonb_agg(f.id), ''[]'') FROM (SELECT x.id FROM hubspot.failed_syncs x WHERE x.status = ''open'' AND %s ORDER BY x.id DESC LIMIT %s) f',
    hubspot.page_condition(filter), max_rows) INTO answer;
  RETURN answer;
END
$$;
COMMENT ON FUNCTION hubspot.page_failure_ids(jsonb, int) IS 'Private: ids of the newest open failures that match a filter.';

CREATE FUNCTION hubspot.page_actions(before bigint, max_rows int) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(to_jsonb(l) - 'subjects' || jsonb_build_object('done', cardinality(l.subjects), 'first', l.subjects[1:5]) ORDER BY l.id DESC), '[]')
  FROM (SELECT * FROM hubspot.page_log x WHERE page_actions.before IS NULL OR x.id < page_actions.before ORDER BY x.id DESC LIMIT max_rows) l
$$;
COMMENT ON FUNCTION hubspot.page_actions(bigint, int) IS 'Private: entries of hubspot.page_log, newest first, below an id; done: how many subjects, first: the first five.';

CREATE FUNCTION hubspot.page_subjects(log_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT to_jsonb(l.subjects) FROM hubspot.page_log l WHERE l.id = log_id AND l.action = 'resolve'
$$;
COMMENT ON FUNCTION hubspot.page_subjects(bigint) IS 'Private: the conflicts that an entry of hubspot.page_log resolved. Null: there is none.';

CREATE FUNCTION hubspot.page_retry_preview(filter jsonb, failure_ids bigint[], max_rows int) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  condition text := 'x.status = ''open'' AND ' || CASE WHEN failure_ids IS NULL THEN hubspot.page_condition(filter) ELSE format('x.id = ANY (%L::bigint[])', failure_ids) END;
  answer jsonb;
BEGIN
  EXECUTE format($q$
    WITH f AS MATERIALIZED (SELECT x.* FROM hubspot.failed_syncs x WHERE %1$s ORDER BY x.id DESC LIMIT %2$s)
    SELECT jsonb_build_object(
      'total', (SELECT count(*) FROM (SELECT 1 FROM hubspot.failed_syncs x WHERE %1$s LIMIT 100001) n),
      'chosen', (SELECT coalesce(jsonb_agg(f.id ORDER BY f.id DESC), '[]') FROM f),
      'records', (SELECT count(DISTINCT (f.entity_type, f.entity_key)) FROM f),
      'groups', (SELECT coalesce(jsonb_agg(to_jsonb(g) ORDER BY g.n DESC, g.entity_type, g.field, g.kind), '[]')
        FROM (SELECT f.entity_type, f.field, f.kind, f.direction, count(*) AS n FROM f GROUP BY 1, 2, 3, 4) g),
      'rows', (SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.id DESC), '[]') FROM (
        -- What is tried is what the row holds by then, not what failed.
        SELECT f.*, m.enum_values, s.row_value AS value_now,
          CASE WHEN f.direction = 'outbound' AND m.id IS NOT NULL AND s.link_id IS NOT NULL
            THEN hubspot.expected_refusal(m, o.hubspot_object, s.row_value) END AS expected
        FROM (SELECT * FROM f ORDER BY f.id DESC LIMIT 20) f
        LEFT JOIN hubspot.field_mapping m ON m.id = f.field_id
        LEFT JOIN hubspot.object_mapping o ON o.id = m.mapping_id
        LEFT JOIN hubspot.sync_state s ON s.link_id = f.link_id AND s.field_id = f.field_id) r))$q$, condition, max_rows) INTO answer;
  RETURN answer;
END
$$;
COMMENT ON FUNCTION hubspot.page_retry_preview(jsonb, bigint[], int) IS
'Private: what trying again would be about: the newest open failures of the given ids, or of a filter when ids is null. rows: the first 20, with the value that would be sent and why that is expected to be refused again.';

CREATE FUNCTION hubspot.page_compare(actor text, entity_type text, dry_run boolean) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run bigint;
  said text;
  hint text;
BEGIN
  run := hubspot.reconcile(page_compare.entity_type, page_compare.dry_run);
  UPDATE hubspot.reconciliation_runs r SET requested_by = format('%s (%s)', actor, session_user) WHERE r.id = run;
  PERFORM hubspot.page_note(NULL, actor, 'compare', NULL, ARRAY[run], 0);
  RETURN jsonb_build_object('run', run);
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state THEN
  GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
  RETURN jsonb_build_object('message', said, 'hint', hint);
END
$$;
COMMENT ON FUNCTION hubspot.page_compare(text, text, boolean) IS 'Private: hubspot.reconcile for a person. Gives the run, or the message why there is none, and the mend.';

CREATE FUNCTION hubspot.page_cancel(actor text, run_id bigint) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  said text;
BEGIN
  PERFORM hubspot.cancel_reconciliation(page_cancel.run_id);
  UPDATE hubspot.reconciliation_runs r SET message = format('cancelled by %s (%s)', actor, session_user) WHERE r.id = page_cancel.run_id;
  PERFORM hubspot.page_note(NULL, actor, 'cancel', NULL, ARRAY[page_cancel.run_id], 0);
  RETURN jsonb_build_object('run', page_cancel.run_id);
EXCEPTION WHEN undefined_object THEN
  GET STACKED DIAGNOSTICS said = MESSAGE_TEXT;
  RETURN jsonb_build_object('message', said);
END
$$;
COMMENT ON FUNCTION hubspot.page_cancel(text, bigint) IS 'Private: hubspot.cancel_reconciliation for a person. Gives the run, or the message why it cannot be cancelled.';
