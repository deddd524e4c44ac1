-- What people type is there, and nobody may use it yet.
SELECT name, c.relkind FROM unnest(ARRAY['object_mapping', 'field_mapping', 'link', 'outbox', 'field_state', 'conflicts', 'sync_log', 'webhook_events',
  'failed_syncs', 'reconciliation_runs', 'reconciliation_discrepancies', 'relay_status', 'metrics']) AS name
LEFT JOIN pg_class c ON c.relname = name AND c.relnamespace = 'hubspot'::regnamespace;
SELECT name, count(p.oid) AS forms FROM unnest(ARRAY['import_mapping', 'export_mapping', 'enable', 'disable', 'pause', 'resume', 'arm', 'status', 'explain',
  'resolve_conflict', 'resolve_conflicts', 'retry_failed', 'register_transform', 'grant_relay', 'grant_admin', 'grant_viewer']) WITH ORDINALITY AS n (name, o)
LEFT JOIN pg_proc p ON p.proname = name AND p.pronamespace = 'hubspot'::regnamespace GROUP BY o, name ORDER BY o;
SELECT count(*) AS usable_by_everybody FROM pg_proc p WHERE p.pronamespace = 'hubspot'::regnamespace
  AND EXISTS (SELECT 1 FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0);
SELECT enumlabel FROM pg_enum WHERE enumtypid = 'hubspot.sync_direction'::regtype ORDER BY enumsortorder;
SELECT enumlabel FROM pg_enum WHERE enumtypid = 'hubspot.conflict_resolution'::regtype ORDER BY enumsortorder;
-- Fresh: never armed, nothing known.
SELECT armed, portal_id, paused, reason, queue_depth, links FROM hubspot.status();
