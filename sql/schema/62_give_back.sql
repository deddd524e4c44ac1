-- Claims that a relay cannot go on with.

CREATE FUNCTION hubspot.relay_give_back(relay_id text, claims jsonb, spent boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  given bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(1213418579, 12);
  UPDATE hubspot.queue q SET claimed_by = NULL, lease_expires_at = NULL,
    due_at = clock_timestamp() + c.delay_ms * interval '1 millisecond',
    attempts = CASE WHEN spent THEN q.attempts ELSE greatest(q.attempts - 1, 0) END
  FROM jsonb_to_recordset(relay_give_back.claims) AS c (claim bigint, token bigint, delay_ms bigint)
  WHERE q.link_id = c.claim AND q.token = c.token AND q.claimed_by = relay_give_back.relay_id;
  GET DIAGNOSTICS given = ROW_COUNT;
  RETURN given;
END
$$;
COMMENT ON FUNCTION hubspot.relay_give_back(text, jsonb, boolean) IS 'Private: gives back claims that a relay cannot go on with, such as those whose decision or outcome the database refused; each falls due after its delay, and a write of unknown outcome is then looked up. A claim whose token no longer holds stays as it is.';
