-- What a relay shows Prometheus of the database, and alerts for those who have no Prometheus.

CREATE VIEW hubspot.freshness AS
WITH waiting AS (
  -- Captured changes are appended and taken over from the front: the oldest are there, and so the front is enough.
  SELECT c.mapping_id, min(c.captured_at) AS since
  FROM (SELECT mapping_id, captured_at FROM hubspot.capture WHERE op <> 'F' LIMIT 100000) c GROUP BY 1
  UNION ALL
  SELECT l.mapping_id, min(CASE WHEN q.priority = 0 THEN q.waiting_since ELSE q.waiting_since + interval '15 minutes' END)
  FROM hubspot.queue q JOIN hubspot.link l ON l.id = q.link_id GROUP BY 1)
SELECT m.entity_type, greatest(0, round(extract(epoch FROM clock_timestamp() - min(w.since)), 1)) AS oldest_change_seconds,
  (m.options->>'freshness_target_seconds')::int AS target_seconds,
  coalesce(extract(epoch FROM clock_timestamp() - min(w.since)) <= (m.options->>'freshness_target_seconds')::int, true) AS on_target
FROM hubspot.object_mapping m LEFT JOIN waiting w ON w.mapping_id = m.id
WHERE m.enabled GROUP BY m.id ORDER BY m.entity_type;
COMMENT ON VIEW hubspot.freshness IS
'One row per enabled mapping: how long its oldest change that could be sent has been waiting, and the target its option freshness_target_seconds sets.';
COMMENT ON COLUMN hubspot.freshness.oldest_change_seconds IS 'Age of the oldest change of a row that HubSpot does not have yet; batch fields count from when they fall due. Rows of a first sync count once a relay has taken them over. Null: nothing waits.';
COMMENT ON COLUMN hubspot.freshness.target_seconds IS 'The mapping''s freshness_target_seconds. Null: none is set.';
COMMENT ON COLUMN hubspot.freshness.on_target IS 'False: something has been waiting for longer than the target.';

CREATE FUNCTION hubspot.webhook_silence_seconds() RETURNS numeric
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  -- HubSpot tells an app of its own writes as well: a write that was acknowledged must be followed by an event.
  SELECT coalesce(round(greatest(0, extract(epoch FROM clock_timestamp() - (
    SELECT min(l.outcome_at) FROM hubspot.sync_log l WHERE l.outcome = 'delivered'
      AND l.outcome_at > coalesce((SELECT e.received_at FROM hubspot.webhook_events e ORDER BY e.id DESC LIMIT 1), '-infinity')))), 1), 0)
$$;
COMMENT ON FUNCTION hubspot.webhook_silence_seconds() IS
'How long ago HubSpot acknowledged the first write that no webhook event has followed; 0 when events came since. HubSpot sends an app events of its own writes too, so silence after a write means that subscriptions or the way to the relay are broken. Unit: seconds.';

CREATE TABLE hubspot.alerts (
  alert     text NOT NULL,
  source    text NOT NULL,
  severity  text NOT NULL CONSTRAINT alerts_severity_check CHECK (severity IN ('warning', 'critical')),
  since     timestamptz NOT NULL DEFAULT clock_timestamp(),
  detail    text NOT NULL,
  PRIMARY KEY (alert, source)
);
COMMENT ON TABLE hubspot.alerts IS
'Alerts that stand now, for set-ups without Prometheus: the same names as in relay/deploy/alerts.yml. Each one that begins or ends is also a NOTIFY on channel hubspot_alert and a line at error level in the relay''s log. Set by: hubspot.relay_alerts, once a minute while a relay runs, and hubspot.judge_alerts. Empty: nothing is wrong.';
COMMENT ON COLUMN hubspot.alerts.source IS 'The relay that sees it. Empty: it is seen in the database, by any relay.';
COMMENT ON COLUMN hubspot.alerts.since IS 'When it was first seen.';
COMMENT ON COLUMN hubspot.alerts.detail IS 'What was measured and the limit. No customer''s value.';

CREATE FUNCTION hubspot.relay_figures() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_build_object(
    -- Counting stops where the answer no longer matters: a scrape must not scan a backlog of ten million.
    'queue_depth', (SELECT count(*) FROM (SELECT 1 FROM hubspot.capture LIMIT 1000000) c) + (SELECT count(*) FROM (SELECT 1 FROM hubspot.queue LIMIT 1000000) q),
    'oldest_change_seconds', (SELECT coalesce(max(f.oldest_change_seconds), 0) FROM hubspot.freshness f),
    'conflicts_open', (SELECT count(*) FROM hubspot.conflicts c WHERE c.status = 'open'),
    'conflicts_total', coalesce(pg_sequence_last_value('hubspot.conflicts_id_seq'), 0),
    'brakes_on', (SELECT count(*) FROM hubspot.object_mapping m WHERE m.braked_at IS NOT NULL),
    'failures_open', (SELECT count(*) FROM hubspot.failed_syncs x WHERE x.status = 'open'),
    'failures_total', coalesce(pg_sequence_last_value('hubspot.failed_syncs_id_seq'), 0),
    'webhook_events_pending', (SELECT count(*) FROM hubspot.webhook_events e WHERE e.status = 'pending'),
    'webhook_events_waiting', (SELECT count(*) FROM hubspot.webhook_events e WHERE e.status = 'waiting'),
    'webhook_silence_seconds', hubspot.webhook_silence_seconds(),
    'last_webhook_at', (SELECT extract(epoch FROM e.received_at) FROM hubspot.webhook_events e ORDER BY e.id DESC LIMIT 1),
    'links', (SELECT count(*) FROM hubspot.link l WHERE l.status = 'linked'),
    'relays_alive', (SELECT count(*) FROM hubspot.relay_status r WHERE r.last_seen_at > now() - interval '15 seconds'),
    'quota_used', q.used, 'quota_left', q.calls_left, 'quota_limit', q.calls_per_day, 'quota_forecast', q.forecast,
    'clock_offset_seconds', CASE WHEN b.clock_measured_at IS NOT NULL THEN b.clock_offset_us / 1e6 END,
    'clock_uncertainty_seconds', CASE WHEN b.clock_measured_at IS NOT NULL THEN b.clock_uncertainty_us / 1e6 END,
    'mapping_problems', (SELECT count(*) FROM hubspot.mapping_problems),
    'alerts', (SELECT count(*) FROM hubspot.alerts),
    'latency', (SELECT jsonb_build_object('0.5', percentile_cont(0.5) WITHIN GROUP (ORDER BY d.seconds), '0.95', percentile_cont(0.95) WITHIN GROUP (ORDER BY d.seconds),
        '1', max(d.seconds))
      FROM (SELECT e.seconds FROM hubspot.delivered_edits e WHERE e.outcome_at > now() - interval '5 minutes'
            ORDER BY e.outcome_at DESC LIMIT 10000) d HAVING count(*) > 0),
    'delivery', (SELECT jsonb_build_object('bounds', hubspot.delivery_bounds(), 'counts', ARRAY(SELECT a + b FROM unnest(h.counts, n.counts) u (a, b)),
        'seconds', h.seconds + n.seconds)
      FROM hubspot.delivery_histogram h, hubspot.delivery_counts(h.counted_to, 'infinity') n),
    'mappings', (SELECT coalesce(jsonb_agg(jsonb_build_object('entity_type', f.entity_type, 'oldest_change_seconds', coalesce(f.oldest_change_seconds, 0),
        'target_seconds', f.target_seconds) ORDER BY f.entity_type), '[]') FROM hubspot.freshness f))
  FROM hubspot.quota q, hubspot.binding b
$$;
COMMENT ON FUNCTION hubspot.relay_figures() IS 'Private: the database''s figures as the relay shows them to Prometheus. latency: of what was delivered in the last five minutes, the newest 10,000; null when nothing was. delivery: the histogram of all deliveries, counts by bucket, not summed up.';

CREATE FUNCTION hubspot.alert_conditions(relay_id text, own jsonb) RETURNS TABLE (alert text, source text, severity text, detail text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH f AS (SELECT hubspot.relay_figures() AS j),
  past AS (SELECT h.at, h.figures FROM hubspot.metric_history h WHERE h.at > now() - interval '16 minutes'),
  calls AS (SELECT greatest(0, max((p.figures->>'api_requests_total')::numeric) - min((p.figures->>'api_requests_total')::numeric)) AS sent,
      greatest(0, max((p.figures->>'api_requests_failed_total')::numeric) - min((p.figures->>'api_requests_failed_total')::numeric)) AS failed
    FROM past p WHERE p.at > now() - interval '6 minutes'),
  recent AS (SELECT (SELECT count(*) FROM hubspot.conflicts c WHERE c.detected_at > now() - interval '15 minutes') AS conflicts,
      (SELECT count(*) FROM hubspot.sync_log l WHERE l.outcome = 'delivered' AND l.outcome_at > now() - interval '15 minutes')
      + (SELECT count(*) FROM (SELECT e.status, e.processed_at FROM hubspot.webhook_events e ORDER BY e.id DESC LIMIT 100000) e
         WHERE e.status = 'applied' AND e.processed_at > now() - interval '15 minutes') AS syncs)
  SELECT 'AuthFailed', relay_id, 'critical', 'HubSpot refuses the token or a scope: nothing is sent' WHERE (own->>'auth_failed')::boolean
  UNION ALL SELECT 'RelayDown', '', 'critical', 'no relay has been seen for two minutes: changes wait, HubSpot''s webhooks are not answered'
    -- A relay that asks is there.
    WHERE relay_id = '' AND hubspot.armed_reason(NULL) IS NULL AND NOT EXISTS (SELECT 1 FROM hubspot.relay_status r WHERE r.last_seen_at > clock_timestamp() - interval '2 minutes')
  UNION ALL SELECT 'NotArmed', '', 'critical', hubspot.armed_reason(NULL) WHERE hubspot.armed_reason(NULL) IS NOT NULL
  UNION ALL SELECT 'SyncPaused', '', 'warning', format('paused by %s since %s', b.paused_by, b.paused_at)
    FROM hubspot.binding b WHERE b.paused AND b.paused_at < now() - interval '1 hour'
  UNION ALL SELECT 'FailedSyncsWaiting', '', 'warning', format('%s values could not be brought over and have waited for a person for an hour', count(*))
    FROM hubspot.failed_syncs x WHERE x.status = 'open' AND x.failed_at < now() - interval '1 hour' HAVING count(*) > 0
  UNION ALL SELECT 'MappingProblems', '', 'warning', format('%s: see hubspot.mapping_problems', string_agg(DISTINCT p.problem, ', '))
    FROM hubspot.mapping_problems p HAVING count(*) > 0
  UNION ALL SELECT 'BrakeOn', '', 'critical', string_agg(format('%s: %s', b.entity_type, b.reason), '; ' ORDER BY b.entity_type) FROM hubspot.brake b WHERE b.braked HAVING count(*) > 0
  UNION ALL SELECT 'HubSpotAPIErrors', '', 'critical', format('%s of %s calls to HubSpot failed in five minutes; the limit is 10 %%', c.failed, c.sent)
    FROM calls c WHERE c.failed > c.sent * 0.1 AND c.sent >= 10
  UNION ALL SELECT 'SyncQueueBacklog', '', 'critical', format('%s records wait, more than 1000 for ten minutes', f.j->>'queue_depth')
    FROM f WHERE (f.j->>'queue_depth')::bigint > 1000
      AND (SELECT count(*) >= 9 AND bool_and((p.figures->>'queue_depth')::bigint > 1000) FROM past p WHERE p.at > now() - interval '10 minutes')
  UNION ALL SELECT 'HighConflictRate', '', 'warning', format('%s conflicts beside %s deliveries and applied events in 15 minutes; the limit is 5 %%', r.conflicts, r.syncs)
    FROM recent r WHERE r.conflicts > 0.05 * (r.conflicts + r.syncs) AND r.conflicts >= 5
  UNION ALL SELECT 'OldestChangeTooOld', '', 'critical', format('the oldest change waits for %s seconds; the limit is 900', f.j->>'oldest_change_seconds')
    FROM f WHERE (f.j->>'oldest_change_seconds')::numeric > 900
  UNION ALL SELECT 'FreshnessTargetMissed', '', 'warning', string_agg(format('%s: %s seconds, target %s', m->>'entity_type', m->>'oldest_change_seconds', m->>'target_seconds'), '; ')
    FROM f, jsonb_array_elements(f.j->'mappings') m WHERE (m->>'oldest_change_seconds')::numeric > (m->>'target_seconds')::numeric HAVING count(*) > 0
  UNION ALL SELECT 'QuotaNearlySpent', '', 'warning', format('%s of %s calls of the day are left; the limit is 10 %%', f.j->>'quota_left', f.j->>'quota_limit')
    FROM f WHERE (f.j->>'quota_left')::numeric < 0.1 * (f.j->>'quota_limit')::numeric
  UNION ALL SELECT 'WebhookSilence', '', 'warning', format('no webhook for %s seconds after a write that HubSpot acknowledged; the limit is 1800', f.j->>'webhook_silence_seconds')
    FROM f WHERE (f.j->>'webhook_silence_seconds')::numeric > 1800 AND (own->>'webhooks_expected')::boolean
  UNION ALL SELECT 'ClockOffset', '', 'warning', format('HubSpot''s clock is %s seconds ahead of the database''s; the limit is 5 either way', round((f.j->>'clock_offset_seconds')::numeric, 3))
    FROM f WHERE abs((f.j->>'clock_offset_seconds')::numeric) > 5
$$;
COMMENT ON FUNCTION hubspot.alert_conditions(text, jsonb) IS
'Private: the alerts that hold at this moment. own: what the relay sees itself, {"auth_failed": boolean, "webhooks_expected": boolean}.';

CREATE FUNCTION hubspot.relay_alerts(relay_id text, own jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changed jsonb;
BEGIN
  -- One relay at a time: the other would raise the same alert again.
  PERFORM pg_advisory_xact_lock(1213418579, 14);
  WITH now_true AS (SELECT * FROM hubspot.alert_conditions(relay_alerts.relay_id, coalesce(own, '{}'))),
  ended AS (DELETE FROM hubspot.alerts a
    WHERE NOT EXISTS (SELECT 1 FROM now_true n WHERE n.alert = a.alert AND n.source = a.source)
      -- Whether webhooks are to be expected, only a relay knows.
      AND (a.alert <> 'WebhookSilence' OR own ? 'webhooks_expected')
      -- What another relay sees stands until that relay says otherwise or is gone.
      AND (a.source IN ('', relay_alerts.relay_id) OR NOT EXISTS (SELECT 1 FROM hubspot.relay_status r WHERE r.relay_id = a.source
        AND r.last_seen_at > clock_timestamp() - interval '1 minute'))
    RETURNING a.alert, a.source, a.severity, a.detail),
  begun AS (INSERT INTO hubspot.alerts AS a (alert, source, severity, detail) SELECT n.alert, n.source, n.severity, n.detail FROM now_true n
    ON CONFLICT ON CONSTRAINT alerts_pkey DO UPDATE SET detail = excluded.detail
    RETURNING a.alert, a.source, a.severity, a.detail, a.xmax = 0 AS fresh)
  SELECT coalesce(jsonb_agg(jsonb_build_object('alert', c.alert, 'source', c.source, 'severity', c.severity, 'state', c.state, 'detail', c.detail) ORDER BY c.alert), '[]')
  INTO changed
  FROM (SELECT e.*, 'cleared' AS state FROM ended e UNION ALL SELECT b.alert, b.source, b.severity, b.detail, 'raised' FROM begun b WHERE b.fresh) c;
  PERFORM pg_notify('hubspot_alert', c::text) FROM jsonb_array_elements(changed) c;
  RETURN changed;
END
$$;
COMMENT ON FUNCTION hubspot.relay_alerts(text, jsonb) IS
'Private: brings hubspot.alerts up to date, tells each change by NOTIFY on channel hubspot_alert (a JSON object: alert, source, severity, state raised or cleared, detail) and returns them for the relay''s log.';

CREATE FUNCTION hubspot.judge_alerts() RETURNS TABLE (alert text, state text, severity text, detail text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT c->>'alert', c->>'state', c->>'severity', c->>'detail' FROM jsonb_array_elements(hubspot.relay_alerts('', '{}')) c
$$;
COMMENT ON FUNCTION hubspot.judge_alerts() IS
'Brings hubspot.alerts up to date now, as relays do once a minute, and gives what began or ended, each also a NOTIFY on channel hubspot_alert. For cron: it also sees that no relay runs (RelayDown), which no relay can. Leaves to relays what only they see (AuthFailed, and whether WebhookSilence begins or ends).';
