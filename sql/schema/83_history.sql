-- Figures over time: one sample a minute, kept for 30 days, so that trends can be seen without a monitoring system.

CREATE TABLE hubspot.metric_history (
  at      timestamptz PRIMARY KEY,
  figures jsonb NOT NULL
);
COMMENT ON TABLE hubspot.metric_history IS
'One sample of the figures a minute while a relay runs, kept for 30 days: the rows of hubspot.metrics, and what happened in the minute before. Set by: hubspot.relay_maintain.';
COMMENT ON COLUMN hubspot.metric_history.at IS 'The minute, in full.';
COMMENT ON COLUMN hubspot.metric_history.figures IS
'Name to number. Besides the names of hubspot.metrics: oldest_waiting_seconds, and of the last minute delivered, conflicts, failures, latency_p50_seconds, latency_p95_seconds (edit of the row to HubSpot''s acknowledgement; missing when nothing was delivered).';

-- An edit's outcome is written once, by an update that moves the row anyway.
CREATE INDEX sync_log_delivered_idx ON hubspot.sync_log (outcome_at) WHERE outcome = 'delivered';
CREATE INDEX conflicts_detected_idx ON hubspot.conflicts (detected_at);
CREATE INDEX failed_syncs_failed_idx ON hubspot.failed_syncs (failed_at);

CREATE FUNCTION hubspot.current_figures() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_strip_nulls((SELECT jsonb_object_agg(m.name, m.value) FROM hubspot.metrics m) || jsonb_build_object(
    'oldest_waiting_seconds', (SELECT oldest_waiting_seconds FROM hubspot.status()),
    'delivered', d.n, 'latency_p50_seconds', d.p50, 'latency_p95_seconds', d.p95,
    'conflicts', (SELECT count(*) FROM hubspot.conflicts WHERE detected_at > now() - interval '1 minute'),
    'failures', (SELECT count(*) FROM hubspot.failed_syncs WHERE failed_at > now() - interval '1 minute')))
  FROM (SELECT count(*) AS n, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY l.s)::numeric, 3) AS p50,
          round(percentile_cont(0.95) WITHIN GROUP (ORDER BY l.s)::numeric, 3) AS p95
        FROM (SELECT greatest(extract(epoch FROM outcome_at - CASE WHEN detail = 'first sync' THEN at ELSE coalesce(edited_at, at) END), 0)::float8 AS s FROM hubspot.sync_log
              WHERE outcome = 'delivered' AND outcome_at > now() - interval '1 minute') l) d
$$;
COMMENT ON FUNCTION hubspot.current_figures() IS 'The sample that hubspot.metric_history takes each minute, as of now. Private.';

CREATE FUNCTION hubspot.sample_figures() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Several relays share the minute: whoever comes first samples it, and the others do not count again.
  IF NOT EXISTS (SELECT 1 FROM hubspot.metric_history WHERE at = date_trunc('minute', now())) THEN
    INSERT INTO hubspot.metric_history VALUES (date_trunc('minute', now()), hubspot.current_figures()) ON CONFLICT DO NOTHING;
    DELETE FROM hubspot.metric_history WHERE at < now() - interval '30 days';
  END IF;
END
$$;
COMMENT ON FUNCTION hubspot.sample_figures() IS 'Takes this minute''s sample into hubspot.metric_history, unless it was taken. Private.';

CREATE FUNCTION hubspot.latency(since interval DEFAULT '1 hour',
  OUT entity_type text, OUT field text, OUT delivered bigint, OUT p50_seconds numeric, OUT p95_seconds numeric, OUT worst_seconds numeric)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT d.entity_type, d.field, count(*), round(percentile_cont(0.5) WITHIN GROUP (ORDER BY d.s)::numeric, 3),
    round(percentile_cont(0.95) WITHIN GROUP (ORDER BY d.s)::numeric, 3), round(max(d.s)::numeric, 3)
  FROM (SELECT l.entity_type, l.field, greatest(extract(epoch FROM l.outcome_at - CASE WHEN l.detail = 'first sync' THEN l.at ELSE coalesce(l.edited_at, l.at) END), 0)::float8 AS s FROM hubspot.sync_log l
        WHERE l.outcome = 'delivered' AND l.outcome_at > now() - latency.since) d
  GROUP BY 1, 2 ORDER BY 5 DESC, 1, 2
$$;
COMMENT ON FUNCTION hubspot.latency(interval) IS
'How long delivered changes took, field by field, slowest first: from the edit of the row (for a first sync: from being taken over) to HubSpot''s acknowledgement, of what was delivered within the interval. Unit: seconds.';
