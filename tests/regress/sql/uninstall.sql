-- DROP EXTENSION leaves nothing: no trigger on user tables, no event trigger, no schema of ours.
CREATE TABLE kept (id int PRIMARY KEY, ban text UNIQUE);
CREATE TABLE kept_child () INHERITS (kept);
SELECT hubspot.import_mapping('kept', 'kept', 'companies', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"}}');
DROP EXTENSION hubspot_sync;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP EXTENSION hubspot_sync CASCADE;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgname LIKE '%hubspot%';
SELECT count(*) AS event_triggers FROM pg_event_trigger WHERE evtname LIKE 'hubspot%';
SELECT count(*) AS objects FROM pg_proc WHERE pronamespace = to_regnamespace('hubspot');
INSERT INTO kept VALUES (1, 'B-1');
UPDATE kept SET ban = 'B-2';
SELECT * FROM kept;
-- And it can be installed again.
CREATE EXTENSION hubspot_sync;
SELECT armed, links FROM hubspot.status();
DROP TABLE kept CASCADE;
