-- HubSpot's limits, shared by all relays on this database: slots of the windows are lent out, and the day is counted.

CREATE TABLE hubspot.quota_budget (
  budget text PRIMARY KEY,
  slots bigint NOT NULL,
  window_ms bigint NOT NULL
);
COMMENT ON TABLE hubspot.quota_budget IS 'Private: HubSpot''s windows. slots: requests that may lie in any window of that length.';
COMMENT ON COLUMN hubspot.quota_budget.budget IS 'general (ten seconds) or search (one second).';
COMMENT ON COLUMN hubspot.quota_budget.slots IS 'Most requests in any window, as the relays that live know it.';
COMMENT ON COLUMN hubspot.quota_budget.window_ms IS 'Length of the window in milliseconds.';

CREATE TABLE hubspot.quota_holder (
  budget text NOT NULL,
  relay_id text NOT NULL,
  seq bigint NOT NULL,
  held bigint NOT NULL,
  live bigint NOT NULL,
  background bigint NOT NULL,
  slots bigint NOT NULL,
  drain_ms bigint NOT NULL,
  lease_expires_at timestamptz NOT NULL,
  PRIMARY KEY (budget, relay_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE hubspot.quota_holder IS 'Private: slots lent to relays. They are theirs until the lease ends, and free once what was sent before has left the window.';
COMMENT ON COLUMN hubspot.quota_holder.budget IS 'The window.';
COMMENT ON COLUMN hubspot.quota_holder.relay_id IS 'The relay.';
COMMENT ON COLUMN hubspot.quota_holder.seq IS 'Number of its last report: an older one that arrives late is ignored.';
COMMENT ON COLUMN hubspot.quota_holder.held IS 'Slots it holds.';
COMMENT ON COLUMN hubspot.quota_holder.live IS 'Slots it needs for live calls.';
COMMENT ON COLUMN hubspot.quota_holder.background IS 'Slots it needs for backfill and reconciliation.';
COMMENT ON COLUMN hubspot.quota_holder.slots IS 'The limit it knows.';
COMMENT ON COLUMN hubspot.quota_holder.drain_ms IS 'How long after its lease a request of its may still count at HubSpot.';
COMMENT ON COLUMN hubspot.quota_holder.lease_expires_at IS 'Until then it may use its slots.';

CREATE TABLE hubspot.quota_cooling (
  budget text NOT NULL,
  free_at timestamptz NOT NULL,
  slots bigint NOT NULL
);
ALTER TABLE hubspot.quota_cooling REPLICA IDENTITY FULL;
COMMENT ON TABLE hubspot.quota_cooling IS 'Private: slots that nobody holds and that HubSpot may still count.';
COMMENT ON COLUMN hubspot.quota_cooling.budget IS 'The window.';
COMMENT ON COLUMN hubspot.quota_cooling.free_at IS 'When they may be used again.';
COMMENT ON COLUMN hubspot.quota_cooling.slots IS 'How many.';

CREATE TABLE hubspot.quota_usage (
  day date NOT NULL,
  hour smallint NOT NULL,
  purpose text NOT NULL CHECK (purpose IN ('live', 'backfill', 'reconcile')),
  calls bigint NOT NULL,
  PRIMARY KEY (day, hour, purpose)
) WITH (fillfactor = 50);
COMMENT ON TABLE hubspot.quota_usage IS 'The ledger of calls to HubSpot, by day and hour in the account''s time zone and by purpose. Kept 90 days.';
COMMENT ON COLUMN hubspot.quota_usage.day IS 'Day in the account''s time zone.';
COMMENT ON COLUMN hubspot.quota_usage.hour IS 'Hour of it, 0 to 23.';
COMMENT ON COLUMN hubspot.quota_usage.purpose IS 'live, backfill or reconcile.';
COMMENT ON COLUMN hubspot.quota_usage.calls IS 'Calls sent.';

-- Shares of the day: what is left over is for live calls, which may use all of it.
CREATE TABLE hubspot.quota_day (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  calls_per_day bigint,
  elsewhere bigint NOT NULL DEFAULT 0,
  elsewhere_day date,
  zone text NOT NULL DEFAULT 'UTC',
  backfill_share numeric NOT NULL DEFAULT 0.5 CHECK (backfill_share BETWEEN 0 AND 1),
  reconcile_share numeric NOT NULL DEFAULT 0.2 CHECK (reconcile_share BETWEEN 0 AND 1),
  live_reserve numeric NOT NULL DEFAULT 0.1 CHECK (live_reserve BETWEEN 0 AND 1)
) WITH (fillfactor = 50);
INSERT INTO hubspot.quota_day DEFAULT VALUES;
COMMENT ON TABLE hubspot.quota_day IS 'One row: the limit of HubSpot''s day and how it is shared.';
COMMENT ON COLUMN hubspot.quota_day.one IS 'Always true: there is one row.';
COMMENT ON COLUMN hubspot.quota_day.calls_per_day IS 'Calls a day, from hubspot.requests_per_day or HubSpot''s headers; null: no limit is known.';
COMMENT ON COLUMN hubspot.quota_day.elsewhere IS 'Calls of that day that other apps made, as far as HubSpot''s headers tell.';
COMMENT ON COLUMN hubspot.quota_day.elsewhere_day IS 'The day of elsewhere.';
COMMENT ON COLUMN hubspot.quota_day.zone IS 'The account''s time zone.';
COMMENT ON COLUMN hubspot.quota_day.backfill_share IS 'Most of the day that backfill may use.';
COMMENT ON COLUMN hubspot.quota_day.reconcile_share IS 'Most of the day that reconciliation may use.';
COMMENT ON COLUMN hubspot.quota_day.live_reserve IS 'What backfill and reconciliation leave to live calls at the end of the day.';

CREATE VIEW hubspot.quota AS
WITH clock AS (SELECT d.*, (clock_timestamp() AT TIME ZONE d.zone) AS here FROM hubspot.quota_day d),
today AS (SELECT c.*, (SELECT coalesce(sum(calls), 0) FROM hubspot.quota_usage u WHERE u.day = c.here::date)::bigint AS own,
    CASE WHEN c.elsewhere_day = c.here::date THEN c.elsewhere ELSE 0 END AS others,
    (SELECT coalesce(sum(calls), 0) FROM hubspot.quota_usage u WHERE u.day + make_interval(hours => u.hour) > c.here - interval '2 hours')::numeric AS recent
  FROM clock c)
SELECT here::date AS day, calls_per_day, own + others AS used, others AS used_elsewhere,
  (SELECT coalesce(sum(calls), 0) FROM hubspot.quota_usage u WHERE u.day = here::date AND u.purpose = 'live')::bigint AS live,
  (SELECT coalesce(sum(calls), 0) FROM hubspot.quota_usage u WHERE u.day = here::date AND u.purpose = 'backfill')::bigint AS backfill,
  (SELECT coalesce(sum(calls), 0) FROM hubspot.quota_usage u WHERE u.day = here::date AND u.purpose = 'reconcile')::bigint AS reconcile,
  -- Null where no limit is known: greatest() alone would make that 0.
  CASE WHEN calls_per_day IS NOT NULL THEN greatest(calls_per_day - own - others, 0) END AS calls_left,
  own + others + (recent / (1 + extract(minute FROM here)::numeric / 60)
    * (24 - extract(hour FROM here)::numeric - extract(minute FROM here)::numeric / 60))::bigint AS forecast
FROM today;
COMMENT ON VIEW hubspot.quota IS 'One row: today''s calls to HubSpot in the account''s time zone, by purpose, what is left of the day''s limit, and a forecast for the whole day at the rate of the last one to two hours.';

CREATE FUNCTION hubspot.relay_quota(relay_id text, lease_ms bigint, drain_ms bigint, report jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  b jsonb;
  known hubspot.quota_holder;
  kind text;
  told bigint;
  given bigint;
  answer jsonb := '[]'::jsonb;
  reset boolean;
  total bigint;
  others bigint;
  pool bigint;
  ready bigint;
  fair_live bigint;
  fair_rest bigint;
  needed bigint;
  unmet bigint;
  due bigint;
  target bigint;
  take bigint;
  lent jsonb;
  n bigint;
  c record;
  d hubspot.quota_day;
  here timestamp;
  used bigint;
  left_over bigint;
  day_answer jsonb;
BEGIN
  -- Counts may be lost when the server crashes: slots then count as held, which is the safe side.
  PERFORM set_config('synchronous_commit', 'off', true);
  FOR b IN SELECT * FROM jsonb_array_elements(report->'budgets') LOOP
    kind := b->>'budget';
    told := (b->>'held')::bigint;
    INSERT INTO hubspot.quota_budget VALUES (kind, (b->>'limit')::bigint, (b->>'window_ms')::bigint) ON CONFLICT DO NOTHING;
    PERFORM 1 FROM hubspot.quota_budget q WHERE q.budget = kind FOR UPDATE;
    -- Leases that ended: what was sent before may count for a window after the longest call.
    WITH gone AS (DELETE FROM hubspot.quota_holder h WHERE h.budget = kind AND h.lease_expires_at < clock_timestamp() RETURNING *)
    INSERT INTO hubspot.quota_cooling SELECT kind, g.lease_expires_at + g.drain_ms * interval '1 millisecond', g.held FROM gone g WHERE g.held > 0;
    DELETE FROM hubspot.quota_cooling k WHERE k.budget = kind AND k.free_at <= clock_timestamp();

    SELECT * INTO known FROM hubspot.quota_holder h WHERE h.budget = kind AND h.relay_id = relay_quota.relay_id;
    IF known.seq >= (report->>'seq')::bigint THEN CONTINUE; END IF;
    SELECT coalesce(sum((g->>1)::bigint), 0) INTO given FROM jsonb_array_elements(b->'give') g;
    reset := false;
    IF known.relay_id IS NULL THEN
      -- The lease had ended, and with it what the relay still thinks it holds; its slots cool down already.
      reset := told + given > 0;
      told := 0;
    ELSIF told + given > known.held THEN
      -- More than was lent, as after a crash of the server: void, and counted until it has left the window.
      INSERT INTO hubspot.quota_cooling VALUES (kind, clock_timestamp() + drain_ms * interval '1 millisecond', told + given);
      reset := true;
      told := 0;
    ELSE
      INSERT INTO hubspot.quota_cooling SELECT kind, clock_timestamp() + (g->>0)::bigint * interval '1 millisecond', (g->>1)::bigint
        FROM jsonb_array_elements(b->'give') g WHERE (g->>0)::bigint > 0;
      -- Lent, but never heard of: an answer that was lost.
      IF known.held > told + given THEN
        INSERT INTO hubspot.quota_cooling VALUES (kind, clock_timestamp() + drain_ms * interval '1 millisecond', known.held - told - given);
      END IF;
    END IF;
    INSERT INTO hubspot.quota_holder AS h VALUES (kind, relay_quota.relay_id, (report->>'seq')::bigint, told, (b->>'live')::bigint,
      (b->>'background')::bigint, (b->>'limit')::bigint, drain_ms, clock_timestamp() + lease_ms * interval '1 millisecond')
    ON CONFLICT ON CONSTRAINT quota_holder_pkey DO UPDATE SET seq = excluded.seq, held = excluded.held, live = excluded.live,
      background = excluded.background, slots = excluded.slots, drain_ms = excluded.drain_ms, lease_expires_at = excluded.lease_expires_at;

    SELECT min(h.slots), count(*) INTO total, others FROM hubspot.quota_holder h WHERE h.budget = kind;
    UPDATE hubspot.quota_budget q SET slots = total WHERE q.budget = kind AND q.slots <> total;
    -- Everyone gets what it needs up to an equal part; what some leave, others may have. Live needs come first.
    fair_live := hubspot.quota_level(kind, total, NULL);
    SELECT total - coalesce(sum(least(h.live, fair_live)), 0) INTO n FROM hubspot.quota_holder h WHERE h.budget = kind;
    fair_rest := hubspot.quota_level(kind, n, fair_live);
    SELECT coalesce(sum(greatest(0, least(h.live, fair_live) + least(h.background, fair_rest) - h.held)) FILTER (WHERE h.relay_id <> relay_quota.relay_id), 0),
        coalesce(sum(least(h.live, fair_live) + least(h.background, fair_rest)) FILTER (WHERE h.relay_id = relay_quota.relay_id), 0),
        total - coalesce(sum(h.held), 0)
      INTO unmet, due, pool FROM hubspot.quota_holder h WHERE h.budget = kind;
    -- pool: slots nobody holds, cooling ones included.
    target := least(total, greatest(due, told - greatest(0, unmet - greatest(pool, 0)), 0));
    -- A little more than it needs, when nobody waits for it; nothing to one that needs none, because it gives back or goes.
    needed := CASE WHEN unmet > 0 OR due = 0 THEN due ELSE due + greatest(4, total / 10) END;
    take := greatest(0, least(needed - told, pool));
    SELECT pool - coalesce(sum(k.slots), 0) INTO ready FROM hubspot.quota_cooling k WHERE k.budget = kind;
    n := greatest(0, least(take, ready));
    lent := CASE WHEN n > 0 THEN jsonb_build_array(jsonb_build_array(0, n)) ELSE '[]' END;
    take := least(take, greatest(0, pool)) - n;
    told := told + n;
    FOR c IN SELECT k.ctid, k.free_at, k.slots FROM hubspot.quota_cooling k WHERE k.budget = kind ORDER BY k.free_at LOOP
      EXIT WHEN take <= 0;
      n := least(take, c.slots);
      lent := lent || jsonb_build_array(jsonb_build_array(greatest(0, ceil(extract(epoch FROM c.free_at - clock_timestamp()) * 1000))::bigint + 1, n));
      IF n = c.slots THEN
        DELETE FROM hubspot.quota_cooling k WHERE k.ctid = c.ctid;
      ELSE
        UPDATE hubspot.quota_cooling k SET slots = k.slots - n WHERE k.ctid = c.ctid;
      END IF;
      told := told + n;
      take := take - n;
    END LOOP;
    IF told > 0 OR (b->>'live')::bigint + (b->>'background')::bigint > 0 THEN
      UPDATE hubspot.quota_holder h SET held = told WHERE h.budget = kind AND h.relay_id = relay_quota.relay_id;
    ELSE
      DELETE FROM hubspot.quota_holder h WHERE h.budget = kind AND h.relay_id = relay_quota.relay_id;
    END IF;
    answer := answer || jsonb_build_array(jsonb_build_object('budget', kind, 'reset', reset, 'limit', total, 'target', greatest(target, told),
      'relays', others, 'contended', unmet > 0, 'grant', lent));
    -- What exceeds the target comes back with the next report.
    IF target < told AND lent = '[]' THEN
      answer := jsonb_set(answer, ARRAY[(jsonb_array_length(answer) - 1)::text, 'target'], to_jsonb(target));
    END IF;
  END LOOP;

  SELECT * INTO d FROM hubspot.quota_day;
  IF report->'day'->>'zone' <> d.zone AND EXISTS (SELECT 1 FROM pg_timezone_names z WHERE z.name = report->'day'->>'zone') THEN
    UPDATE hubspot.quota_day SET zone = report->'day'->>'zone' RETURNING * INTO d;
  END IF;
  here := clock_timestamp() AT TIME ZONE d.zone;
  INSERT INTO hubspot.quota_usage AS u SELECT here::date, extract(hour FROM here)::smallint, x.key, x.value::bigint
    FROM jsonb_each_text(report->'day'->'calls') x WHERE x.value::bigint > 0 ORDER BY x.key
  ON CONFLICT ON CONSTRAINT quota_usage_pkey DO UPDATE SET calls = u.calls + excluded.calls;
  SELECT coalesce(sum(u.calls), 0) INTO used FROM hubspot.quota_usage u WHERE u.day = here::date;
  IF report->'day'->>'left' IS NOT NULL AND report->'day'->>'limit' IS NOT NULL THEN
    n := greatest(0, (report->'day'->>'limit')::bigint - (report->'day'->>'left')::bigint - used);
    IF d.elsewhere_day IS DISTINCT FROM here::date OR n > d.elsewhere THEN
      UPDATE hubspot.quota_day SET elsewhere = n, elsewhere_day = here::date RETURNING * INTO d;
    END IF;
  END IF;
  IF (report->'day'->>'limit')::bigint IS DISTINCT FROM d.calls_per_day THEN
    UPDATE hubspot.quota_day SET calls_per_day = (report->'day'->>'limit')::bigint RETURNING * INTO d;
  END IF;
  IF d.calls_per_day IS NOT NULL THEN
    used := used + CASE WHEN d.elsewhere_day = here::date THEN d.elsewhere ELSE 0 END;
    SELECT greatest(count(DISTINCT h.relay_id), 1) INTO others FROM hubspot.quota_holder h;
    left_over := greatest(0, d.calls_per_day - used);
    day_answer := jsonb_build_object('limit', d.calls_per_day, 'used', used,
      'ends_in_ms', (extract(epoch FROM here::date + interval '1 day' - here) * 1000)::bigint,
      'allow', jsonb_build_object('total', (left_over + others - 1) / others,
        'backfill', hubspot.quota_share(here::date, 'backfill', d.backfill_share, left_over),
        'reconcile', hubspot.quota_share(here::date, 'reconcile', d.reconcile_share, left_over)));
  END IF;
  RETURN jsonb_build_object('budgets', answer, 'day', day_answer);
END
$$;
COMMENT ON FUNCTION hubspot.relay_quota(text, bigint, bigint, jsonb) IS 'Private: takes a relay''s report of slots and calls, lends it slots of HubSpot''s windows, and says what it may use of the day.';

CREATE FUNCTION hubspot.quota_level(budget text, slots bigint, live_level bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  need bigint;
  rest bigint := greatest(slots, 0);
  relays bigint;
BEGIN
  SELECT count(*) INTO relays FROM hubspot.quota_holder h WHERE h.budget = quota_level.budget;
  -- From the smallest need to the largest: who needs less than an equal part of what is left gets it all.
  FOR need IN SELECT CASE WHEN live_level IS NULL THEN h.live ELSE h.background END FROM hubspot.quota_holder h
      WHERE h.budget = quota_level.budget ORDER BY 1 LOOP
    IF need > rest / relays THEN RETURN (rest + relays - 1) / relays; END IF;
    rest := rest - need;
    relays := relays - 1;
  END LOOP;
  RETURN greatest(slots, 0);
END
$$;
COMMENT ON FUNCTION hubspot.quota_level(text, bigint, bigint) IS 'Private: up to how many slots each relay''s need can be met. live_level null: of live calls, else of the others.';

CREATE FUNCTION hubspot.quota_share(today date, kind text, share numeric, left_over bigint) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT greatest(0, least(
    floor(d.calls_per_day * share) - (SELECT coalesce(sum(u.calls), 0) FROM hubspot.quota_usage u WHERE u.day = today AND u.purpose = kind),
    left_over - ceil(d.calls_per_day * d.live_reserve)))::bigint FROM hubspot.quota_day d
$$;
COMMENT ON FUNCTION hubspot.quota_share(date, text, numeric, bigint) IS 'Private: calls of one purpose that the day''s shares still allow.';
