-- What is wrong with mappings and their tables.

CREATE VIEW hubspot.mapping_problems AS
SELECT m.entity_type, NULL::text AS field, 'disabled'::text AS problem, m.disabled_reason AS detail
FROM hubspot.object_mapping m WHERE m.disabled_reason IS NOT NULL
UNION ALL
SELECT m.entity_type, f.field, 'field disabled', f.disabled_reason
FROM hubspot.field_mapping f JOIN hubspot.object_mapping m ON m.id = f.mapping_id WHERE f.disabled_reason IS NOT NULL
UNION ALL
SELECT m.entity_type, f.field, 'column missing',
  format('%s has no column %I: the field is left out; call hubspot.enable(%L)', m.source_table, f.column_name, m.entity_type)
FROM hubspot.field_mapping f JOIN hubspot.object_mapping m ON m.id = f.mapping_id
WHERE f.active AND m.enabled AND EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = m.source_table)
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = m.source_table AND a.attname = f.column_name::name AND NOT a.attisdropped)
UNION ALL
SELECT m.entity_type, NULL, 'table missing', format('the source table is gone; import another one, or call hubspot.disable(%L)', m.entity_type)
FROM hubspot.object_mapping m WHERE m.enabled AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = m.source_table)
UNION ALL
SELECT x.entity_type, NULL, CASE WHEN x.tgenabled IS NULL THEN 'trigger missing' ELSE 'trigger off' END,
  CASE WHEN x.tgenabled IS NULL THEN format('%s has no trigger %I: its changes are not captured; call hubspot.enable(%L)', x.relid::regclass, x.name, x.entity_type)
  ELSE format('%s has trigger %I switched off: its changes are not captured; ALTER TABLE %s ENABLE TRIGGER %I, then hubspot.enable(%L)',
    x.relid::regclass, x.name, x.relid::regclass, x.name, x.entity_type) END
FROM (SELECT f.entity_type, f.relid, n.name, g.tgenabled FROM hubspot.mapped_tables f
      CROSS JOIN LATERAL (VALUES (format('!hubspot_capture_%s', f.mapping_id)), (format('hubspot_truncate_%s', f.mapping_id))) AS n (name)
      LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = f.relid AND g.tgname = n.name::name
      WHERE f.enabled) x
WHERE x.tgenabled IS NULL OR x.tgenabled IN ('D', 'R')
UNION ALL
SELECT NULL, NULL, 'event trigger missing',
  format('event trigger %s is missing or switched off: mappings do not follow ALTER TABLE; call hubspot.enable after each, or ALTER EVENT TRIGGER %1$s ENABLE', n.name)
FROM (VALUES ('hubspot_ddl_end'), ('hubspot_ddl_drop'), ('hubspot_ddl_rewrite')) AS n (name)
WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_event_trigger e WHERE e.evtname = n.name::name AND e.evtenabled IN ('O', 'A'))
  AND EXISTS (SELECT 1 FROM hubspot.object_mapping)
UNION ALL
SELECT NULL, NULL, 'changes shed',
  'what waits for a relay is past the limit: of records that change, the latest values will be sent, without the changes in between; let a relay run, or call hubspot.set_capture_limit'
WHERE EXISTS (SELECT 1 FROM hubspot.capture_shed);
COMMENT ON VIEW hubspot.mapping_problems IS 'What keeps mappings from capturing all changes: mappings and fields the extension disabled, columns, tables or triggers that are missing or off, a limit that was passed. hubspot.status() shows the same as warnings. Empty: nothing.';
COMMENT ON COLUMN hubspot.mapping_problems.detail IS 'What was seen, and the mend.';
