-- A record's way, as the relay walks it: claim, decide, write, complete; then HubSpot's own change, and a conflict.
\set SHOW_CONTEXT never
CREATE TABLE deal (id int PRIMARY KEY, ban text UNIQUE, name text);
SELECT hubspot.import_mapping('deal', 'deal', 'deals', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
  "name": {"hubspot_property": "dealname", "warp_field": "name", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "MANUAL"}}');
INSERT INTO deal VALUES (1, 'B-1', 'Acme');
-- Not armed: there is nothing to do.
SELECT hubspot.relay_claim('r1', 10, 60000, 0)->'claims' AS claims;
SELECT hubspot.arm(0);
SELECT hubspot.arm(42);
SELECT hubspot.relay_hello('r1', '0.1.0', 42) - 'schema_version' AS hello;
SELECT hubspot.relay_hello('r1', '0.1.0', 43)->>'reason' AS hello_of_another_portal;
SELECT hubspot.relay_claim('r1', 10, 60000, 0) AS claimed \gset
SELECT c->>'entity_type' AS type, c->>'operation' AS op, c->>'hubspot_id' AS id, c->'match' AS match, c->>'read' AS read, c->'properties' AS properties
FROM jsonb_array_elements(:'claimed'::jsonb->'claims') c;
SELECT jsonb_array_length(hubspot.relay_claim('r2', 10, 60000, 0)->'claims') AS claimed_twice;
SELECT hubspot.relay_decide('r1', jsonb_build_array(jsonb_build_object('claim', c->>'claim', 'token', c->'token', 'found', false,
  'hubspot_id', NULL, 'read_at_ms', 1764000000000, 'history', false, 'properties', '{}'::jsonb))) AS decided
FROM jsonb_array_elements(:'claimed'::jsonb->'claims') c \gset
SELECT w->>'operation' AS op, w->>'id_property' AS by, w->>'id_value' AS value, w->'properties' AS properties
FROM jsonb_array_elements(:'decided'::jsonb->'writes') w;
SELECT entity_key, field, status, warp_value, hubspot_value FROM hubspot.field_state ORDER BY field;
-- An answer that carries another token comes too late.
SELECT hubspot.relay_complete('r1', jsonb_build_array(jsonb_build_object('claim', w->>'claim', 'token', (w->>'token')::bigint + 1, 'outcome', 'ok', 'hubspot_id', '500',
  'created', true, 'updated_at_ms', 1764000000000, 'sent_at_ms', 1764000000000, 'answered_at_ms', 1764000000001, 'properties', '{"dealname": "Acme", "warp_ban": "B-1"}'::jsonb)))
FROM jsonb_array_elements(:'decided'::jsonb->'writes') w;
SELECT hubspot.relay_complete('r1', jsonb_build_array(jsonb_build_object('claim', w->>'claim', 'token', w->'token', 'outcome', 'ok', 'hubspot_id', '500',
  'created', true, 'updated_at_ms', (extract(epoch FROM now()) * 1000)::bigint, 'sent_at_ms', (extract(epoch FROM now()) * 1000)::bigint, 'answered_at_ms', (extract(epoch FROM now()) * 1000)::bigint + 1,
  'properties', '{"dealname": "Acme", "warp_ban": "B-1"}'::jsonb)))
FROM jsonb_array_elements(:'decided'::jsonb->'writes') w;
SELECT entity_key, field, status, warp_value, hubspot_value, base_value FROM hubspot.field_state ORDER BY field;
SELECT entity_key, hubspot_id, status FROM hubspot.link;
SELECT count(*) AS waiting FROM hubspot.outbox;
-- HubSpot's change: stored once, applied once.
SELECT jsonb_build_array(jsonb_build_object('eventId', 1, 'subscriptionType', 'object.propertyChange', 'objectTypeId', '0-3', 'portalId', 42, 'objectId', 500,
  'propertyName', 'dealname', 'propertyValue', 'Acme of HubSpot', 'occurredAt', (extract(epoch FROM now()) * 1000)::bigint + 60000, 'changeSource', 'CRM_UI', 'sourceId', 'userId:7')) AS event \gset
SELECT hubspot.relay_receive(:'event') AS stored;
SELECT hubspot.relay_receive(:'event') AS stored_again;
SELECT hubspot.relay_apply(10);
SELECT * FROM deal;
SELECT side, action, warp_value, hubspot_value, outcome FROM hubspot.explain('deal', '1', 'name');
-- Both change: the field is held for a person.
UPDATE deal SET name = 'Here';
SELECT hubspot.relay_receive(jsonb_build_array(:'event'::jsonb->0 || jsonb_build_object('eventId', 2, 'propertyValue', 'There', 'occurredAt', (extract(epoch FROM now()) * 1000)::bigint + 120000))) AS stored;
SELECT hubspot.relay_apply(10);
SELECT entity_type, entity_key, field, kind, warp_value, hubspot_value, base_value, strategy, status, winner FROM hubspot.conflicts;
SELECT hubspot.resolve_conflict(-1, 'WARP');
SELECT hubspot.resolve_conflict(id, 'NOBODY') FROM hubspot.conflicts;
SELECT hubspot.resolve_conflict(id, 'HUBSPOT') FROM hubspot.conflicts WHERE status = 'open';
SELECT hubspot.resolve_conflict(id, 'HUBSPOT') FROM hubspot.conflicts;
SELECT * FROM deal;
SELECT status, winner FROM hubspot.conflicts;
SELECT hubspot.undo_resolution(id) FROM hubspot.conflicts;
SELECT * FROM deal;
SELECT * FROM hubspot.resolve_conflicts('warp', entity_type => 'deal');
SELECT hubspot.pause();
SELECT jsonb_array_length(hubspot.relay_claim('r1', 10, 60000, 0)->'claims') AS claims_while_paused;
SELECT hubspot.resume();
SELECT jsonb_array_length(hubspot.relay_claim('r1', 10, 60000, 0)->'claims') AS claims;
SELECT hubspot.relay_release('r1');
SELECT hubspot.relay_decide('r1', '{"claim": 1}');
DROP TABLE deal;
-- The next file begins with nothing mapped.
DELETE FROM hubspot.conflicts; DELETE FROM hubspot.capture; DELETE FROM hubspot.object_mapping;
