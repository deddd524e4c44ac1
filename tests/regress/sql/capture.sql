-- What is captured of a statement: mapped fields that really changed, if and only if it commits.
CREATE TABLE part (id int PRIMARY KEY, ban text UNIQUE, name text, doc jsonb, n numeric, other text);
SELECT hubspot.import_mapping('part', 'part', 'companies', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
  "name": {"hubspot_property": "name", "warp_field": "name", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS"},
  "city": {"hubspot_property": "city", "warp_field": "doc", "warp_field_path": "doc->''a''->>''city''", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS"},
  "n": {"hubspot_property": "n", "warp_field": "n", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"}}');
CREATE VIEW seen AS SELECT op, entity_key, old_key, changes FROM hubspot.capture c JOIN hubspot.object_mapping m ON m.id = c.mapping_id AND m.entity_type = 'part' ORDER BY c.position;
INSERT INTO part VALUES (1, 'B-1', 'Acme', '{"a": {"city": "Bern"}}', 1.50, 'x'), (2, 'B-2', NULL, NULL, NULL, NULL);
UPDATE part SET other = 'y';                                    -- not mapped
UPDATE part SET name = name, n = 1.5 WHERE id = 1;              -- n: other digits, the same number
UPDATE part SET doc = '{"a": {"city": "Bern"}, "more": 1}' WHERE id = 1;   -- nothing at the path
UPDATE part SET doc = jsonb_set(doc, '{a,city}', '"Biel"'), name = 'Acme 2' WHERE id = 1;
UPDATE part SET id = 3 WHERE id = 2;                            -- the record goes on under another key
BEGIN; DELETE FROM part; ROLLBACK;
BEGIN; SAVEPOINT s; UPDATE part SET name = 'lost'; ROLLBACK TO s; UPDATE part SET name = 'kept' WHERE id = 1; COMMIT;
DELETE FROM part WHERE id = 3;
TRUNCATE part;
SELECT * FROM seen;
SET session_replication_role = replica;
INSERT INTO part VALUES (9, 'B-9', 'unseen', NULL, NULL, NULL);
RESET session_replication_role;
SELECT count(*) AS captured_in_replica_role FROM seen WHERE entity_key = '9';
SELECT hubspot.disable('part');
INSERT INTO part VALUES (10, 'B-10', 'later', NULL, NULL, NULL);
SELECT count(*) AS captured_while_disabled FROM seen WHERE entity_key = '10';
SELECT hubspot.enable('part');
SELECT op, entity_key FROM seen WHERE entity_key IN ('9', '10');
DROP VIEW seen; DROP TABLE part;
-- The next file begins with nothing mapped.
DELETE FROM hubspot.conflicts; DELETE FROM hubspot.capture; DELETE FROM hubspot.object_mapping;
