-- Where claiming begins to look. Delivered records leave dead entries at the head of the queue's indexes, and until a
-- vacuum every claim would step over all of them; behind these marks nothing is left that could be claimed.

CREATE TABLE hubspot.queue_mark (
  kind    smallint PRIMARY KEY CONSTRAINT queue_mark_kind_check CHECK (kind IN (0, 1, 2)),
  from_at timestamptz NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE hubspot.queue_mark IS
'Three lower bounds for claiming: no unclaimed record of the kind is due before from_at. Raised by hubspot.relay_claim past what it claimed, lowered by a trigger when a record is queued for an earlier instant. Not dumped: without it claims only take longer. Private.';
COMMENT ON COLUMN hubspot.queue_mark.kind IS '0, 1: due_at of unclaimed records of that priority. 2: lease_expires_at of claimed records.';
COMMENT ON COLUMN hubspot.queue_mark.from_at IS 'The bound itself may still be found in the queue. -infinity: nothing is known.';
INSERT INTO hubspot.queue_mark VALUES (0, '-infinity'), (1, '-infinity'), (2, '-infinity');

-- Whoever queues records does so under the relay's lock: a claim cannot raise a mark past a record that it does not see yet.
CREATE FUNCTION hubspot.queue_one_at_a_time() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(1213418579, 12);
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION hubspot.queue_one_at_a_time() IS 'Private: takes the relay''s lock before records are queued. Locks: until the transaction ends.';

CREATE FUNCTION hubspot.lower_queue_marks() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE hubspot.queue_mark m SET from_at = q.earliest
  FROM (SELECT CASE WHEN claimed_by IS NULL THEN priority ELSE 2 END AS kind,
          min(CASE WHEN claimed_by IS NULL THEN due_at ELSE lease_expires_at END) AS earliest FROM queued GROUP BY 1) q
  WHERE m.kind = q.kind AND q.earliest < m.from_at;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION hubspot.lower_queue_marks() IS 'Private: keeps hubspot.queue_mark below whatever is queued.';

CREATE TRIGGER one_at_a_time BEFORE INSERT OR UPDATE ON hubspot.queue FOR EACH STATEMENT EXECUTE FUNCTION hubspot.queue_one_at_a_time();
CREATE TRIGGER lower_marks_insert AFTER INSERT ON hubspot.queue REFERENCING NEW TABLE AS queued
  FOR EACH STATEMENT EXECUTE FUNCTION hubspot.lower_queue_marks();
CREATE TRIGGER lower_marks_update AFTER UPDATE ON hubspot.queue REFERENCING NEW TABLE AS queued
  FOR EACH STATEMENT EXECUTE FUNCTION hubspot.lower_queue_marks();
-- Also for whoever fills the queue with triggers off.
ALTER TABLE hubspot.queue ENABLE ALWAYS TRIGGER one_at_a_time, ENABLE ALWAYS TRIGGER lower_marks_insert, ENABLE ALWAYS TRIGGER lower_marks_update;
