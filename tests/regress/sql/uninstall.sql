-- DROP EXTENSION leaves nothing: no trigger on user tables, no event trigger, no schema of ours, nothing that refers to what is gone.
CREATE TABLE kept (id int PRIMARY KEY, ban text UNIQUE, name text);
CREATE TABLE kept_child () INHERITS (kept);
CREATE TABLE kept_parts (id int PRIMARY KEY, ban text) PARTITION BY RANGE (id);
CREATE TABLE kept_part PARTITION OF kept_parts FOR VALUES FROM (0) TO (100);
CREATE FUNCTION loud(text) RETURNS text LANGUAGE sql AS 'SELECT upper($1)';
CREATE ROLE kept_relay;
CREATE TEMP TABLE was AS SELECT (SELECT count(*) FROM pg_largeobject_metadata) AS objects, (SELECT count(*) FROM pg_db_role_setting) AS settings,
  (SELECT count(*) FROM pg_default_acl) AS default_rights, (SELECT count(*) FROM pg_publication) AS publications, (SELECT count(*) FROM pg_cast) AS casts;
SELECT hubspot.grant_relay('kept_relay'), hubspot.grant_viewer('kept_relay'), hubspot.grant_admin('kept_relay');
SELECT hubspot.register_transform('loud', 'loud(text)', 'loud(text)');
SELECT hubspot.import_mapping('kept', 'kept', 'companies', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
  "name": {"hubspot_property": "name", "warp_field": "name", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "MANUAL", "transform": "loud"}}');
SELECT hubspot.import_mapping('kept_parts', 'kept_parts', 'contacts', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"}}');
SELECT hubspot.arm(42);
INSERT INTO kept VALUES (1, 'B-1', 'one');
INSERT INTO kept_parts VALUES (1, 'P-1');
SELECT hubspot.relay_claim('r', 10, 60000, 0)->'more' AS more;
-- It is refused while a table has triggers: those are the user's tables.
DROP EXTENSION hubspot_sync;
SELECT count(*) AS mappings FROM hubspot.object_mapping;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP EXTENSION hubspot_sync CASCADE;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgname LIKE '%hubspot%';
SELECT count(*) AS event_triggers FROM pg_event_trigger WHERE evtname LIKE 'hubspot%';
SELECT count(*) AS objects FROM pg_proc WHERE pronamespace = to_regnamespace('hubspot');
-- PostgreSQL keeps a schema that CREATE EXTENSION made, and what was granted on it, but it is empty.
SELECT deptype, classid::regclass, objid FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = to_regnamespace('hubspot');
-- Neither comments nor rights nor dependencies of what is gone.
SELECT count(*) AS comments FROM pg_description d WHERE d.description ILIKE '%hubspot%';
SELECT count(*) AS rights FROM pg_init_privs i JOIN pg_shdepend s ON s.classid = i.classoid AND s.objid = i.objoid WHERE s.refobjid = 'kept_relay'::regrole;
SELECT count(*) AS of_the_role, min(deptype) AS kind, min(classid::regclass::text) AS of FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = 'kept_relay'::regrole
  AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database());
SELECT count(*) AS dangling FROM pg_depend d WHERE
  (d.classid = 'pg_proc'::regclass AND NOT EXISTS (SELECT 1 FROM pg_proc WHERE oid = d.objid))
  OR (d.classid = 'pg_class'::regclass AND NOT EXISTS (SELECT 1 FROM pg_class WHERE oid = d.objid))
  OR (d.classid = 'pg_type'::regclass AND NOT EXISTS (SELECT 1 FROM pg_type WHERE oid = d.objid))
  OR (d.classid = 'pg_trigger'::regclass AND NOT EXISTS (SELECT 1 FROM pg_trigger WHERE oid = d.objid))
  OR (d.refclassid = 'pg_extension'::regclass AND NOT EXISTS (SELECT 1 FROM pg_extension WHERE oid = d.refobjid));
SELECT (SELECT count(*) FROM pg_largeobject_metadata) = objects AS objects, (SELECT count(*) FROM pg_db_role_setting) = settings AS settings,
  (SELECT count(*) FROM pg_default_acl) = default_rights AS default_rights, (SELECT count(*) FROM pg_publication) = publications AS publications,
  (SELECT count(*) FROM pg_cast) = casts AS casts FROM was;
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- Tables are as they were, in the session that captured and in one that did not.
INSERT INTO kept VALUES (2, 'B-2', 'two');
UPDATE kept SET ban = 'B-3' WHERE id = 1;
UPDATE kept_parts SET ban = 'P-2';
ALTER TABLE kept ADD note text;
TRUNCATE kept_child;
\c -
SET client_min_messages = warning;
UPDATE kept SET name = 'more' WHERE id = 2;
SELECT * FROM kept ORDER BY id;
DROP ROLE kept_relay;
DROP SCHEMA hubspot;
DROP ROLE kept_relay;
-- And it can be installed again, and used.
CREATE EXTENSION hubspot_sync;
SELECT armed, links FROM hubspot.status();
SELECT hubspot.import_mapping('kept', 'kept', 'companies', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"}}');
UPDATE kept SET ban = 'B-4' WHERE id = 1;
SELECT op, entity_key, fields FROM hubspot.outbox ORDER BY op, entity_key;
-- Without CASCADE, once its mappings have no triggers.
SELECT hubspot.disable('kept');
DROP EXTENSION hubspot_sync;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgname LIKE '%hubspot%';
-- The schema that stayed is no obstacle.
CREATE EXTENSION hubspot_sync;
DROP TABLE kept, kept_child, kept_parts;
DROP FUNCTION loud(text);
