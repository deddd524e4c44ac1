-- Declaring a mapping: what is taken, what is refused with its mend, and importing again.
\set VERBOSITY default
CREATE TABLE shop (id int PRIMARY KEY, ban text UNIQUE, name text, contact jsonb, total numeric);
-- Every fault at once, each with its mend.
SELECT hubspot.import_mapping('shop', 'shop', 'companies', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "bam", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
  "name": {"hubspot_property": "name", "warp_field": "name", "sync_direction": "BOTH_WAYS", "conflict_resolution": "LATEST_WINS"},
  "phone": {"hubspot_property": "phone", "warp_field": "contact", "warp_field_path": "contact->>phone", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "MANUAL"}}');
SELECT hubspot.import_mapping('shop', 'shop', 'companies', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"}}', '{"on_crate": "ignore"}');
SELECT hubspot.import_mapping('Shop', 'shop', 'companies', '{}');
SELECT hubspot.import_mapping('shop', 'shop', 'compnies', '{}');
SELECT hubspot.enable('shop');
INSERT INTO shop VALUES (1, 'B-1', 'Acme', '{"phone": "1"}', 10);
SELECT hubspot.import_mapping('shop', 'shop', 'companies', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
  "name": {"hubspot_property": "name", "warp_field": "name", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS"},
  "phone": {"hubspot_property": "phone", "warp_field": "contact", "warp_field_path": "contact->>''phone''", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "MANUAL"}}');
SELECT entity_type, source_table, hubspot_object, key_columns, match_field, match_property, enabled FROM hubspot.object_mapping;
SELECT field, hubspot_property, column_name, path, sync_direction, conflict_resolution, kind, active FROM hubspot.field_mapping ORDER BY id;
-- The row that was there is queued for its first sync.
SELECT op, entity_key, fields FROM hubspot.outbox;
-- Again: an online change. One field goes, one comes.
SELECT hubspot.import_mapping('shop', 'shop', 'company', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
  "name": {"hubspot_property": "name", "warp_field": "name", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS"},
  "total": {"hubspot_property": "total", "warp_field": "total", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"}}');
SELECT field, active FROM hubspot.field_mapping ORDER BY id;
SELECT op, entity_key, fields FROM hubspot.outbox WHERE state = 'captured' ORDER BY id;
SELECT jsonb_object_keys(hubspot.export_mapping('shop')) ORDER BY 1;
SELECT hubspot.disable('shop');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'shop'::regclass AND NOT tgisinternal;
SELECT hubspot.enable('shop');
SELECT translate(tgname, '0123456789', '') AS trigger FROM pg_trigger WHERE tgrelid = 'shop'::regclass AND NOT tgisinternal ORDER BY 1;
DROP TABLE shop;
SELECT entity_type, enabled, disabled_reason FROM hubspot.object_mapping;
-- The next file begins with nothing mapped.
DELETE FROM hubspot.conflicts; DELETE FROM hubspot.capture; DELETE FROM hubspot.object_mapping;
