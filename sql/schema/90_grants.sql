-- Nothing for PUBLIC; three kinds of role, made by the DBA, get exactly what each needs.

CREATE FUNCTION hubspot.grant_relay(role name, page boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  f regprocedure;
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA hubspot TO %I', role);
  FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'hubspot'::regnamespace AND (p.proname LIKE 'relay\_%' OR (page AND p.proname LIKE 'page\_%' AND p.prosecdef)) AND p.proname NOT IN ('relay_write_ids', 'relay_look_again') LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f, role);
  END LOOP;
END
$$;
COMMENT ON FUNCTION hubspot.grant_relay(name, boolean) IS 'Lets a role call the relay''s functions and, unless page is false, those of its admin page (which show customers'' values and take people''s decisions), and nothing else. Run as the extension''s owner.';

CREATE FUNCTION hubspot.grant_viewer(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA hubspot TO %I', role);
  EXECUTE format('GRANT SELECT ON hubspot.object_mapping, hubspot.field_mapping, hubspot.link, hubspot.outbox, hubspot.field_state, hubspot.ledger, hubspot.conflicts, '
    'hubspot.sync_log, hubspot.webhook_events, hubspot.webhook_journal, hubspot.failed_syncs, hubspot.forgotten, hubspot.reconciliation_runs, hubspot.reconciliation_discrepancies, hubspot.reconciliation_progress, '
    'hubspot.relay_status, hubspot.metrics, hubspot.mapping_problems, hubspot.page_log, hubspot.metric_history, hubspot.quota, hubspot.quota_usage, hubspot.freshness, hubspot.brake, hubspot.alerts TO %I', role);
  EXECUTE format('GRANT EXECUTE ON FUNCTION hubspot.status(), hubspot.explain(text, text, text), hubspot.export_mapping(text), hubspot.instant(bigint), hubspot.latency(interval), hubspot.reconciliation_report(bigint) TO %I', role);
  EXECUTE format('GRANT SELECT ON hubspot.property_definition TO %I', role);
  EXECUTE format('GRANT EXECUTE ON FUNCTION hubspot.plan(text), hubspot.check_mapping(text), hubspot.estimate(text), hubspot.estimate_captured(text) TO %I', role);
END
$$;
COMMENT ON FUNCTION hubspot.grant_viewer(name) IS 'Lets a role read states, conflicts, logs and figures. They hold customers'' values. Run as the extension''s owner.';

CREATE FUNCTION hubspot.grant_admin(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM hubspot.grant_viewer(role);
  EXECUTE format('GRANT EXECUTE ON FUNCTION hubspot.import_mapping(text, regclass, text, jsonb, jsonb), hubspot.enable(text), hubspot.disable(text), '
    'hubspot.arm(bigint, boolean), hubspot.pause(), hubspot.resume(), hubspot.set_capture_limit(int), hubspot.resolve_conflict(bigint, text, text), '
    'hubspot.resolve_conflicts(text, text, text, timestamptz, int), hubspot.undo_resolution(bigint), hubspot.retry_failed(bigint), hubspot.forget(text, text), hubspot.judge_alerts(), '
    'hubspot.register_transform(text, regprocedure, regprocedure), hubspot.reconcile(text, boolean), hubspot.cancel_reconciliation(bigint), hubspot.backfill(text, text), '
    'hubspot.release(text), hubspot.pause_reconciliation(bigint), hubspot.resume_reconciliation(bigint) TO %I', role);
END
$$;
COMMENT ON FUNCTION hubspot.grant_admin(name) IS 'Lets a role map tables it owns, arm, pause, resolve conflicts, retry and reconcile, besides what a viewer may. Run as the extension''s owner.';

COMMENT ON FUNCTION hubspot.import_mapping(text, regclass, text, jsonb, jsonb) IS
'Maps a table to a HubSpot object type by the strategy''s JSON document and switches it on (options {"enabled": false} does not). Importing again touches only what differs. Raises: 22023 with every fault and its mend, 42501 unless the caller owns the table. Locks: the table against writers while its triggers are made.';
COMMENT ON FUNCTION hubspot.register_transform(text, regprocedure, regprocedure) IS
'Registers a pair of inverse functions text to text as a transform. They run as their owners; one that fails on a value parks that field alone. Raises: 42883 for functions of another form, 42501 unless the caller owns them and those it replaces.';
COMMENT ON FUNCTION hubspot.enable(text) IS 'Creates the capture triggers of a mapping and queues rows that are not known yet. Idempotent. Raises: 42704, 42501. Locks: the table against writers for an instant.';
COMMENT ON FUNCTION hubspot.disable(text) IS 'Drops the capture triggers of a mapping: nothing is captured or delivered any more; states and links stay. Idempotent. Raises: 42704, 42501.';
COMMENT ON FUNCTION hubspot.resolve_conflict(bigint, text, text) IS
'Decides an open conflict: winner WARP, HUBSPOT, or VALUE with a third value. Raises: 22023 bad winner or value, 42704 no such conflict, 55000 resolved already, 55P03 the row is being changed, 23514 the table refuses the value.';
COMMENT ON FUNCTION hubspot.undo_resolution(bigint) IS
'Opens a conflict again that a person resolved, and puts the row''s losing value back, as long as nothing newer happened to the field. Raises: 42704 no such conflict, 55000 not resolved by a person or the field has moved on, 55P03 the row is being changed, 23514 the table refuses the value.';
COMMENT ON FUNCTION hubspot.forget(text, text) IS 'Privacy deletion of one record: takes its values out of every table of the extension and leaves a proof in hubspot.forgotten, whose id it gives. What comes late is ignored. Neither the row nor HubSpot''s record is touched; changes of the row are ignored from then on. Raises: 42704 nothing known of that key. Locks: waits for the relay''s calls. Null for a null argument.';
COMMENT ON FUNCTION hubspot.retry_failed(bigint) IS 'Tries failed syncs again: one, or all open ones when id is null. Gives their number. Raises: 42704 for an id that is not open.';
COMMENT ON FUNCTION hubspot.relay_hello(text, text, bigint) IS 'Private: heartbeat of a relay; says whether it may work.';
COMMENT ON FUNCTION hubspot.relay_mapping() IS 'Private: the mappings as the relay''s check needs them.';
COMMENT ON FUNCTION hubspot.relay_claim(text, integer, integer, integer) IS 'Private: takes over captured changes and leases records to a relay.';
COMMENT ON FUNCTION hubspot.relay_decide(text, jsonb) IS 'Private: decides what to send after HubSpot was read, and records it as in flight.';
COMMENT ON FUNCTION hubspot.relay_complete(text, jsonb) IS 'Private: takes HubSpot''s answers to writes.';
COMMENT ON FUNCTION hubspot.relay_release(text) IS 'Private: gives back claims whose write was not started, and reconciliation runs.';
COMMENT ON FUNCTION hubspot.relay_refusals() IS 'Private: values that HubSpot refused and still waits for, in its own form, for the relay to look whether the property or option is there now.';
COMMENT ON FUNCTION hubspot.relay_retry(jsonb) IS 'Private: tries these failed syncs again; gives how many of them were still open.';
COMMENT ON FUNCTION hubspot.relay_receive(jsonb) IS 'Private: stores webhook events, each once.';
COMMENT ON FUNCTION hubspot.relay_apply(integer) IS 'Private: applies stored webhook events.';
COMMENT ON FUNCTION hubspot.relay_awake() IS 'Private: takes the session lock that tells committers that no notification is needed.';
COMMENT ON FUNCTION hubspot.relay_asleep() IS 'Private: gives that lock back.';
COMMENT ON FUNCTION hubspot.relay_maintain() IS 'Private: rescues expired leases and applies retention: 30 days of sync_log, 7 days of webhook_events, 90 days of reconciliation runs.';
COMMENT ON FUNCTION hubspot.follow_table(oid) IS 'Private: compares mappings with the table they are of, after DDL.';
COMMENT ON FUNCTION hubspot.relay_look_again() IS 'Private: compares rows with what is recorded of them, a stretch of the table at a time, where object_mapping.look_from asks for it.';
COMMENT ON FUNCTION hubspot.relay_write_ids() IS 'Private: writes HubSpot ids into rows that were locked before.';
COMMENT ON FUNCTION hubspot.relay_reclaim() IS 'Private: truncates hubspot.capture when everything in it was taken over and nobody needs it. Gives the bytes that were freed. Locks: the table, exclusively, for an instant; only when it can be had at once or the table is very long.';
COMMENT ON FUNCTION hubspot.relay_reconcile(text, jsonb, boolean, integer) IS 'Private: takes a page''s results of a reconciliation run, or takes a run, and gives the next page.';
COMMENT ON FUNCTION hubspot.relay_record_calls(text, jsonb) IS 'Private: counts of API calls for metrics.';

-- Functions that read rows print floats with all their digits, whatever the session's or the database's setting.
DO $$
DECLARE
  f regprocedure;
BEGIN
  FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'hubspot'::regnamespace AND p.proname IN ('relay_claim', 'relay_decide',
      'relay_complete', 'relay_apply', 'relay_reconcile', 'relay_write_ids', 'relay_look_again', 'relay_refusals', 'relay_retry', 'import_mapping', 'enable', 'resolve_conflict', 'undo_resolution', 'retry_failed', 'forget') LOOP
    EXECUTE format('ALTER FUNCTION %s SET extra_float_digits = 1', f);
  END LOOP;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA hubspot FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA hubspot FROM PUBLIC;

-- A dump carries mappings, links, states, the outbox and what is on record.
DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['object_mapping', 'field_mapping', 'transform', 'capture', 'capture_shed', 'link', 'queue', 'sync_state', 'sync_log', 'conflicts', 'sensitive_key', 'sensitive_held', 'brake_held',
    'failed_syncs', 'webhook_events', 'forgotten', 'forgotten_id_seq', 'reconciliation_runs', 'reconciliation_discrepancies', 'reconciliation_schedule', 'metric_history', 'quota_usage', 'webhook_journal', 'property_definition', 'page_log', 'page_log_id_seq', 'object_mapping_id_seq',
    'field_mapping_id_seq', 'link_id_seq', 'claim_token_seq', 'sync_log_id_seq', 'conflicts_id_seq',
    'failed_syncs_id_seq', 'webhook_events_id_seq', 'reconciliation_runs_id_seq', 'reconciliation_discrepancies_id_seq'] LOOP
    PERFORM pg_catalog.pg_extension_config_dump(('hubspot.' || t)::regclass, '');
  END LOOP;
END
$$;
