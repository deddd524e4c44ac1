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

CREATE VIEW hubspot.delivered_edits AS
SELECT l.entity_type, l.field, l.outcome_at,
  greatest(extract(epoch FROM l.outcome_at - CASE WHEN l.detail = 'first sync' THEN l.at ELSE coalesce(l.edited_at, l.at) END), 0)::float8 AS seconds
FROM hubspot.sync_log l WHERE l.outcome = 'delivered';
COMMENT ON VIEW hubspot.delivered_edits IS 'Edits that HubSpot acknowledged, with how long that took: from the edit of the row (for a first sync: from being taken over) on. Private.';
COMMENT ON COLUMN hubspot.delivered_edits.seconds IS 'Unit: seconds. Never below 0, whatever the clocks say.';

CREATE FUNCTION hubspot.current_figures() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_strip_nulls((SELECT jsonb_object_agg(m.name, m.value) FROM hubspot.metrics m) || jsonb_build_object(
    'oldest_waiting_seconds', (SELECT oldest_waiting_seconds FROM hubspot.status()),
    'delivered', d.n, 'latency_p50_seconds', d.p50, 'latency_p95_seconds', d.p95,
    'conflicts', (SELECT count(*) FROM hubspot.conflicts WHERE detected_at > now() - interval '1 minute'),
    'failures', (SELECT count(*) FROM hubspot.failed_syncs WHERE failed_at > now() - interval '1 minute')))
  FROM (SELECT count(*) AS n, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY l.seconds)::numeric, 3) AS p50,
          round(percentile_cont(0.95) WITHIN GROUP (ORDER BY l.seconds)::numeric, 3) AS p95
        FROM hubspot.delivered_edits l WHERE l.outcome_at > now() - interval '1 minute') d
$$;
COMMENT ON FUNCTION hubspot.current_figures() IS 'The sample that hubspot.metric_history takes each minute, as of now. Private.';

-- A histogram that only grows, as Prometheus wants it. It is kept here, not in a relay, so that restarts and several relays do not count
-- from zero or twice: what is newer than counted_to is added when it is asked for.
CREATE TABLE hubspot.delivery_histogram (
  only_row   boolean PRIMARY KEY DEFAULT true CONSTRAINT delivery_histogram_one_row_check CHECK (only_row),
  counted_to timestamptz NOT NULL,
  counts     bigint[] NOT NULL,
  seconds    float8 NOT NULL
);
INSERT INTO hubspot.delivery_histogram VALUES (true, '-infinity', array_fill(0::bigint, ARRAY[13]), 0);
COMMENT ON TABLE hubspot.delivery_histogram IS 'How long deliveries took, by bucket, since the extension was installed. Set by: hubspot.sample_figures. Private.';
COMMENT ON COLUMN hubspot.delivery_histogram.counted_to IS 'Deliveries acknowledged up to here are counted.';
COMMENT ON COLUMN hubspot.delivery_histogram.counts IS 'How many in each bucket of hubspot.delivery_bounds(); the last: beyond the last bound.';
COMMENT ON COLUMN hubspot.delivery_histogram.seconds IS 'Their sum. Unit: seconds.';

CREATE FUNCTION hubspot.delivery_bounds() RETURNS float8[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  -- From a delivery at once to one that raises OldestChangeTooOld.
  SELECT ARRAY[0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600]::float8[]
$$;
COMMENT ON FUNCTION hubspot.delivery_bounds() IS 'Upper bounds of the buckets of hubspot.delivery_histogram. Unit: seconds. Private.';

CREATE FUNCTION hubspot.delivery_counts(after timestamptz, upto timestamptz, OUT counts bigint[], OUT seconds float8)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH d AS MATERIALIZED (
    SELECT width_bucket(e.seconds, hubspot.delivery_bounds()) AS bucket, count(*) AS n, sum(e.seconds) AS seconds
    FROM hubspot.delivered_edits e WHERE e.outcome_at > after AND e.outcome_at <= upto GROUP BY 1)
  SELECT ARRAY(SELECT coalesce(d.n, 0) FROM generate_series(0, cardinality(hubspot.delivery_bounds())) b (bucket) LEFT JOIN d USING (bucket) ORDER BY b.bucket),
    (SELECT coalesce(sum(d.seconds), 0) FROM d)
$$;
COMMENT ON FUNCTION hubspot.delivery_counts(timestamptz, timestamptz) IS 'Private: deliveries acknowledged after one instant and up to another, by bucket, and the sum of how long they took.';

CREATE FUNCTION hubspot.sample_figures() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Several relays share the minute: whoever comes first samples it, and the others do not count again.
  IF NOT EXISTS (SELECT 1 FROM hubspot.metric_history WHERE at = date_trunc('minute', now())) THEN
    INSERT INTO hubspot.metric_history VALUES (date_trunc('minute', now()), hubspot.current_figures()) ON CONFLICT DO NOTHING;
    DELETE FROM hubspot.metric_history WHERE at < now() - interval '30 days';
    -- Half a minute is left: a transaction that is still under way has its instant already.
    UPDATE hubspot.delivery_histogram h SET counted_to = now() - interval '30 seconds', seconds = h.seconds + n.seconds,
      counts = ARRAY(SELECT a + b FROM unnest(h.counts, n.counts) u (a, b))
    FROM (SELECT x.counted_to, c.* FROM hubspot.delivery_histogram x, hubspot.delivery_counts(x.counted_to, now() - interval '30 seconds') c) n
    WHERE h.counted_to = n.counted_to AND h.counted_to < now() - interval '30 seconds';
  END IF;
END
$$;
COMMENT ON FUNCTION hubspot.sample_figures() IS 'Takes this minute''s sample into hubspot.metric_history, unless it was taken. Private.';

CREATE FUNCTION hubspot.latency(since interval DEFAULT '1 hour',
  OUT entity_type text, OUT field text, OUT delivered bigint, OUT p50_seconds numeric, OUT p95_seconds numeric, OUT worst_seconds numeric)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT d.entity_type, d.field, count(*), round(percentile_cont(0.5) WITHIN GROUP (ORDER BY d.seconds)::numeric, 3),
    round(percentile_cont(0.95) WITHIN GROUP (ORDER BY d.seconds)::numeric, 3), round(max(d.seconds)::numeric, 3)
  FROM hubspot.delivered_edits d WHERE d.outcome_at > now() - latency.since
  GROUP BY 1, 2 ORDER BY 5 DESC, 1, 2
$$;
COMMENT ON FUNCTION hubspot.latency(interval) IS
'How long delivered changes took, field by field, slowest first: from the edit of the row (for a first sync: from being taken over) to HubSpot''s acknowledgement, of what was delivered within the interval. Unit: seconds.';
