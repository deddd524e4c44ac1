//! One call of every function that a relay, an administrator, a viewer or an application can make, each with work to do.

/// What is called and the statement. A capture is named by its statement.
pub const CALLS: &[(&str, &str)] = &[
    ("INSERT", "INSERT INTO deal VALUES (101, 'B-101', 'New', 'New')"),
    (
        "INSERT of many",
        "INSERT INTO deal SELECT n, 'B-' || n, 'New', 'New' FROM generate_series(201, 700) n",
    ),
    ("UPDATE", "UPDATE deal SET name = 'Newer ' || id, note = NULL"),
    ("UPDATE of the key", "UPDATE deal SET id = id + 1000 WHERE id = 8"),
    ("DELETE", "DELETE FROM deal WHERE id > 5"),
    ("TRUNCATE", "TRUNCATE deal"),
    ("relay_hello", "SELECT hubspot.relay_hello('r2', '0.1.0', 42)"),
    ("relay_mapping", "SELECT hubspot.relay_mapping()"),
    ("relay_claim", "SELECT hubspot.relay_claim('r1', 10, 60000, 0)"),
    (
        "relay_decide",
        "SELECT hubspot.relay_decide('r1', doc) FROM given WHERE name = 'observations'",
    ),
    (
        "relay_complete",
        "SELECT hubspot.relay_complete('r1', doc) FROM given WHERE name = 'results'",
    ),
    ("relay_release", "SELECT hubspot.relay_release('r1')"),
    (
        "relay_give_back",
        "SELECT hubspot.relay_give_back('r1', jsonb_build_array(jsonb_build_object('claim', doc->0->'claim', 'token', doc->0->'token', 'delay_ms', 1000)), true)
         FROM given WHERE name = 'claims'",
    ),
    ("relay_refusals", "SELECT hubspot.relay_refusals()"),
    (
        "relay_retry",
        "SELECT hubspot.relay_retry(ids) FROM (SELECT jsonb_agg(id) AS ids FROM hubspot.failed_syncs) x",
    ),
    ("relay_receive", "SELECT hubspot.relay_receive(event(9, 8, 'There 8'))"),
    (
        "relay_journal_take",
        "SELECT hubspot.relay_journal_take('r1', 42, 60000, true)",
    ),
    (
        "relay_journal_store",
        "SELECT hubspot.relay_journal_take('r1', 42, 60000, false); SELECT hubspot.relay_journal_store('r1', 42, fence, journal_offset, 'next', event(10, 8, 'There 8'), true)
         FROM hubspot.webhook_journal",
    ),
    ("relay_apply", "SELECT hubspot.relay_apply(10)"),
    (
        "relay_reconcile",
        "SELECT hubspot.relay_reconcile('r1', doc, false, 60000) FROM given WHERE name = 'done'",
    ),
    (
        "relay_reconcile of a run that waits",
        "SELECT hubspot.relay_reconcile('r1', NULL, true, 60000)",
    ),
    (
        "relay_reconcile_schedule",
        "SELECT hubspot.relay_reconcile_schedule('incremental', 2000)",
    ),
    (
        "relay_reconcile_request",
        "SELECT hubspot.cancel_reconciliation(id) FROM hubspot.reconciliation_runs WHERE finished_at IS NULL; SELECT hubspot.relay_reconcile_request('deal', true)",
    ),
    (
        "relay_reconcile_report",
        "SELECT hubspot.relay_reconcile_report((SELECT min(id) FROM hubspot.reconciliation_runs), 0, 10)",
    ),
    (
        "relay_backfill_request",
        "SELECT hubspot.cancel_reconciliation(id) FROM hubspot.reconciliation_runs WHERE finished_at IS NULL; SELECT hubspot.relay_backfill_request('deal', 'WARP_TO_HUBSPOT')",
    ),
    ("relay_awake", "SELECT hubspot.relay_awake()"),
    ("relay_asleep", "SELECT hubspot.relay_asleep()"),
    ("relay_reclaim", "SELECT hubspot.relay_reclaim()"),
    ("relay_maintain", "SELECT hubspot.relay_maintain()"),
    (
        "relay_properties",
        r#"SELECT hubspot.relay_properties('deals', '[{"name": "dealname", "type": "string", "fieldType": "text"}]')"#,
    ),
    ("relay_figures", "SELECT hubspot.relay_figures()"),
    (
        "relay_alerts",
        r#"SELECT hubspot.relay_alerts('r1', '{"auth_failed": true, "webhooks_expected": true}')"#,
    ),
    (
        "relay_record_calls",
        r#"SELECT hubspot.relay_record_calls('r1', '{"requests": 3}')"#,
    ),
    (
        "relay_quota",
        r#"SELECT hubspot.relay_quota('r1', 5000, 1000, '{"seq": 1, "budgets": [{"budget": "requests", "limit": 100, "window_ms": 10000, "held": 0, "live": 5,
           "background": 0, "give": []}]}')"#,
    ),
    (
        "import_mapping",
        r#"SELECT hubspot.import_mapping('deal', 'deal', 'deals', '{
           "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
           "note": {"hubspot_property": "description", "warp_field": "note", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "HUBSPOT_WINS"}}')"#,
    ),
    ("export_mapping", "SELECT hubspot.export_mapping('deal')"),
    (
        "check_mapping",
        "SELECT count(*)::text FROM hubspot.check_mapping('deal')",
    ),
    ("enable", "SELECT hubspot.enable('deal')"),
    ("disable", "SELECT hubspot.disable('deal')"),
    (
        "release",
        "UPDATE hubspot.object_mapping SET braked_at = now(), brake_reason = 'many changes' WHERE entity_type = 'deal'; SELECT hubspot.release('deal')",
    ),
    ("pause", "SELECT hubspot.pause()"),
    ("resume", "SELECT hubspot.resume()"),
    ("arm", "SELECT hubspot.arm(42)"),
    ("set_capture_limit", "SELECT hubspot.set_capture_limit(100)"),
    (
        "resolve_conflict",
        "SELECT hubspot.resolve_conflict(id, 'VALUE', 'Third') FROM hubspot.conflicts WHERE status = 'open'",
    ),
    ("resolve_conflicts", "SELECT hubspot.resolve_conflicts('HUBSPOT')"),
    (
        "undo_resolution",
        "SELECT hubspot.undo_resolution(id) FROM hubspot.conflicts WHERE status = 'resolved'",
    ),
    ("retry_failed", "SELECT hubspot.retry_failed()"),
    ("forget", "SELECT hubspot.forget('deal', '2')"),
    (
        "register_transform",
        "SELECT hubspot.register_transform('loud', 'shout(text)', 'shout(text)')",
    ),
    ("reconcile", "SELECT hubspot.cancel_reconciliation(id) FROM hubspot.reconciliation_runs WHERE finished_at IS NULL; SELECT hubspot.reconcile('deal', true)"),
    (
        "cancel_reconciliation",
        "SELECT hubspot.cancel_reconciliation(min(id))::text FROM hubspot.reconciliation_runs",
    ),
    (
        "pause_reconciliation",
        "SELECT hubspot.pause_reconciliation(min(id))::text FROM hubspot.reconciliation_runs",
    ),
    (
        "resume_reconciliation",
        "SELECT hubspot.pause_reconciliation(min(id))::text, hubspot.resume_reconciliation(min(id))::text FROM hubspot.reconciliation_runs",
    ),
    ("backfill", "SELECT hubspot.cancel_reconciliation(id) FROM hubspot.reconciliation_runs WHERE finished_at IS NULL; SELECT hubspot.backfill('deal', 'WARP_TO_HUBSPOT')"),
    (
        "reconciliation_report",
        "SELECT count(r)::text FROM hubspot.reconciliation_runs i, hubspot.reconciliation_report(i.id) r",
    ),
    ("status", "SELECT hubspot.status()"),
    ("judge_alerts", "SELECT count(*)::text FROM hubspot.judge_alerts()"),
    (
        "explain",
        "SELECT count(*)::text FROM hubspot.explain('deal', '1', 'name')",
    ),
    ("instant", "SELECT hubspot.instant(1)"),
    ("latency", "SELECT count(*)::text FROM hubspot.latency('1 hour')"),
    ("plan", "SELECT count(*)::text FROM hubspot.plan('deal')"),
    (
        "estimate",
        "SELECT count(*)::text FROM hubspot.estimate('UPDATE deal SET note = ''x''')",
    ),
    (
        "estimate_captured",
        "SELECT count(*)::text FROM hubspot.estimate_captured('x')",
    ),
    ("page_chrome", "SELECT hubspot.page_chrome()"),
    ("page_overview", "SELECT hubspot.page_overview(24, 10)"),
    ("page_conflicts", "SELECT hubspot.page_conflicts('{}', NULL, 10)"),
    (
        "page_conflict",
        "SELECT hubspot.page_conflict(id) FROM hubspot.conflicts WHERE status = 'open'",
    ),
    ("page_preview", "SELECT hubspot.page_preview('{}', NULL, 10)"),
    ("page_failures", "SELECT hubspot.page_failures('{}', NULL, 10)"),
    ("page_records", "SELECT hubspot.page_records('deal', NULL, NULL, 10)"),
    ("page_record", "SELECT hubspot.page_record('deal', '1')"),
    (
        "page_history",
        "SELECT hubspot.page_history('deal', '1', 'name', NULL, 10)",
    ),
    ("page_mappings", "SELECT hubspot.page_mappings()"),
    ("page_runs", "SELECT hubspot.page_runs(NULL, 10)"),
    (
        "page_run",
        "SELECT hubspot.page_run((SELECT min(id) FROM hubspot.reconciliation_runs), NULL, 10)",
    ),
    (
        "page_resolve",
        "SELECT hubspot.page_resolve('somebody', ARRAY[c.id || ':' || hubspot.page_fingerprint(c.warp_value, c.warp_changed_at, c.hubspot_value, c.hubspot_changed_at)],
           'HUBSPOT', NULL, NULL) FROM hubspot.conflicts c WHERE status = 'open'",
    ),
    (
        "page_undo",
        "SELECT hubspot.page_undo('somebody', ARRAY[id], NULL) FROM hubspot.conflicts WHERE status = 'resolved'",
    ),
    (
        "page_retry",
        "SELECT hubspot.page_retry('somebody', ARRAY[id], NULL) FROM hubspot.failed_syncs",
    ),
    (
        "page_retry_preview",
        "SELECT hubspot.page_retry_preview('{}', NULL, 10)",
    ),
    (
        "page_compare",
        "SELECT hubspot.cancel_reconciliation(id) FROM hubspot.reconciliation_runs WHERE finished_at IS NULL; SELECT hubspot.page_compare('somebody', 'deal', true)",
    ),
    (
        "page_cancel",
        "SELECT hubspot.page_cancel('somebody', min(id)) FROM hubspot.reconciliation_runs WHERE finished_at IS NULL",
    ),
    ("page_failure_ids", "SELECT hubspot.page_failure_ids('{}', 10)"),
    ("page_actions", "SELECT hubspot.page_actions(NULL, 10)"),
    ("page_subjects", "SELECT hubspot.page_subjects(1)"),
    ("grant_relay", "SELECT hubspot.grant_relay('given_role')::text"),
    ("grant_viewer", "SELECT hubspot.grant_viewer('given_role')::text"),
    ("grant_admin", "SELECT hubspot.grant_admin('given_role')::text"),
];
