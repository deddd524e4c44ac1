-- A mapping with something in every state a call may meet. Statements between two lines of dashes are one transaction each.
CREATE TABLE deal (id int PRIMARY KEY, ban text UNIQUE, name text, note text);
CREATE TABLE given (name text PRIMARY KEY, doc jsonb NOT NULL);
CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql AS 'SELECT upper($1)';
CREATE ROLE given_role;
CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint';
-- What a relay would have read: each record as the extension last knew it of HubSpot.
CREATE FUNCTION observed(claims jsonb) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_agg(jsonb_build_object('claim', c->>'claim', 'token', c->'token', 'found', c->>'hubspot_id' IS NOT NULL, 'hubspot_id', c->'hubspot_id',
    'read_at_ms', now_ms(), 'updated_at_ms', now_ms() - 60000, 'history', c->>'read' = 'history', 'properties',
    coalesce((SELECT jsonb_object_agg(p.name, (SELECT s.hubspot_value FROM hubspot.sync_state s JOIN hubspot.field_mapping f ON f.id = s.field_id
      WHERE s.link_id = (c->>'claim')::bigint AND f.hubspot_property = p.name)) FROM jsonb_array_elements_text(c->'properties') AS p (name)), '{}')))
  FROM jsonb_array_elements(claims) c
$$;
-- HubSpot's answers to writes: it did them all.
CREATE FUNCTION answered(writes jsonb) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_agg(jsonb_build_object('claim', w->>'claim', 'token', w->'token', 'outcome', 'ok', 'hubspot_id', coalesce(w->>'hubspot_id', (500 + (w->>'claim')::int)::text),
    'created', w->>'hubspot_id' IS NULL, 'updated_at_ms', now_ms(), 'sent_at_ms', now_ms(), 'answered_at_ms', now_ms() + 1, 'properties', w->'properties'))
  FROM jsonb_array_elements(writes) w
$$;
CREATE FUNCTION event(number int, of_deal int, value text) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_build_array(jsonb_build_object('eventId', number, 'subscriptionType', 'deal.propertyChange', 'portalId', 42,
    'objectId', (SELECT hubspot_id::bigint FROM hubspot.link WHERE entity_key = of_deal::text), 'propertyName', 'dealname', 'propertyValue', value,
    'occurredAt', now_ms() + 60000, 'changeSource', 'CRM_UI', 'sourceId', 'userId:7'))
$$;
SELECT hubspot.import_mapping('deal', 'deal', 'deals', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
  "name": {"hubspot_property": "dealname", "warp_field": "name", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "MANUAL"},
  "note": {"hubspot_property": "description", "warp_field": "note", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS"}}');
SELECT hubspot.arm(42);
SELECT hubspot.relay_hello('r1', '0.1.0', 42);
INSERT INTO deal SELECT n, 'B-' || n, 'Deal ' || n, 'Note ' || n FROM generate_series(1, 8) n;
----
INSERT INTO given SELECT 'claims', hubspot.relay_claim('r1', 10, 600000, 0)->'claims';
----
INSERT INTO given SELECT 'writes', hubspot.relay_decide('r1', observed(doc))->'writes' FROM given WHERE name = 'claims';
----
SELECT hubspot.relay_complete('r1', answered(doc)) FROM given WHERE name = 'writes';
DELETE FROM given;
----
-- An open conflict, and one that a person resolved.
UPDATE deal SET name = 'Here ' || id WHERE id IN (1, 2);
----
SELECT hubspot.relay_receive(event(1, 1, 'There 1') || event(2, 2, 'There 2'));
----
SELECT hubspot.relay_apply(10);
----
SELECT hubspot.resolve_conflict(max(id), 'HUBSPOT') FROM hubspot.conflicts;
----
-- A value that HubSpot refused.
UPDATE deal SET note = 'Refused' WHERE id = 3;
----
INSERT INTO given SELECT 'claims', hubspot.relay_claim('r1', 10, 600000, 0)->'claims';
----
INSERT INTO given SELECT 'writes', hubspot.relay_decide('r1', observed(doc))->'writes' FROM given WHERE name = 'claims';
----
SELECT hubspot.relay_complete('r1', (SELECT jsonb_agg(jsonb_build_object('claim', w->>'claim', 'token', w->'token', 'outcome', 'refused', 'kind', 'invalid',
  'property', 'description', 'message', 'no', 'http_status', 400)) FROM jsonb_array_elements(doc) w)) FROM given WHERE name = 'writes';
DELETE FROM given;
----
-- A write that is under way, with the answer that will come.
UPDATE deal SET note = 'Under way' WHERE id = 4;
----
INSERT INTO given SELECT 'claims', hubspot.relay_claim('r1', 10, 600000, 0)->'claims';
----
INSERT INTO given SELECT 'results', answered(hubspot.relay_decide('r1', observed(doc))->'writes') FROM given WHERE name = 'claims';
DELETE FROM given WHERE name = 'claims';
----
-- A run that is under way, with its page's results, and two that wait.
SELECT hubspot.reconcile('deal');
----
-- Its first pages are of rows, which the extension reads by itself.
DO $$
DECLARE
  page jsonb := hubspot.relay_reconcile('r1', NULL, false, 600000);
BEGIN
  WHILE NOT page ? 'claims' LOOP
    page := hubspot.relay_reconcile('r1', jsonb_build_object('run', page->'run', 'page', page->'page'), false, 600000);
  END LOOP;
  INSERT INTO given VALUES ('page', page);
END
$$;
----
INSERT INTO given SELECT 'done', jsonb_build_object('run', doc->'run', 'page', doc->'page', 'observations', observed(doc->'claims')) FROM given WHERE name = 'page';
SELECT hubspot.relay_reconcile_schedule('incremental', 0);
----
SELECT hubspot.relay_reconcile_schedule('incremental', 1000);
----
-- A claim with what was read for it.
UPDATE deal SET note = 'Claimed' WHERE id = 5;
----
INSERT INTO given SELECT 'claims', hubspot.relay_claim('r1', 10, 600000, 0)->'claims';
----
INSERT INTO given SELECT 'observations', observed(doc) FROM given WHERE name = 'claims';
----
-- Waiting: a taken-over edit, an event of HubSpot's, edits in the table of captured changes.
UPDATE deal SET note = 'Waits' WHERE id = 6;
SELECT hubspot.relay_receive(event(3, 7, 'There 7'));
