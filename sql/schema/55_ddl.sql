-- What DDL on mapped tables does to mappings: event triggers keep them true, or disable them with a reason.

CREATE VIEW hubspot.mapped_tables AS
WITH RECURSIVE family (mapping_id, relid) AS (
  SELECT m.id, m.source_table::oid FROM hubspot.object_mapping m
  UNION SELECT f.mapping_id, i.inhrelid FROM family f JOIN pg_catalog.pg_inherits i ON i.inhparent = f.relid)
SELECT f.mapping_id, m.entity_type, f.relid, f.relid = m.source_table::oid AS is_source, c.relispartition AS is_partition, m.enabled
FROM family f JOIN hubspot.object_mapping m ON m.id = f.mapping_id JOIN pg_catalog.pg_class c ON c.oid = f.relid
WHERE c.relkind IN ('r', 'p');
COMMENT ON VIEW hubspot.mapped_tables IS 'The tables whose rows belong to a mapping: its source table, and all partitions and inheritance children of it. Private.';

CREATE FUNCTION hubspot.holds_json(type oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE b (oid) AS (SELECT holds_json.type UNION ALL SELECT t.typbasetype FROM b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd')
  SELECT EXISTS (SELECT 1 FROM b WHERE b.oid IN ('json'::regtype, 'jsonb'::regtype))
$$;
COMMENT ON FUNCTION hubspot.holds_json(oid) IS 'Whether a type is json, jsonb or a domain over one of them. Private.';

CREATE FUNCTION hubspot.follow_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  touched oid[];
  t oid;
BEGIN
  -- A dump is being restored: every one begins with these settings. Its own statements bring the triggers along, and mappings
  -- are not to be judged by tables that are half there.
  IF current_setting('check_function_bodies')::boolean IS FALSE AND current_setting('row_security')::boolean IS FALSE THEN
    RETURN;
  END IF;
  -- Whatever goes wrong in here, the user's statement goes on.
  CASE tg_event
    WHEN 'table_rewrite' THEN
      -- Values may change without any row trigger: the rows are compared later. 1 and 8: logged or not, access method.
      IF pg_event_trigger_table_rewrite_reason() NOT IN (1, 8, 9) THEN
        UPDATE hubspot.object_mapping m SET look_from = '[]'
        FROM hubspot.mapped_tables f WHERE f.mapping_id = m.id AND f.relid = pg_event_trigger_table_rewrite_oid()
          AND m.look_from IS DISTINCT FROM '[]';
      END IF;
      RETURN;
    WHEN 'sql_drop' THEN
      SELECT array_agg(DISTINCT d.objid) INTO touched FROM pg_event_trigger_dropped_objects() d
      WHERE d.object_type IN ('table', 'table column') AND NOT d.is_temporary
        AND EXISTS (SELECT 1 FROM hubspot.object_mapping m WHERE m.source_table::oid = d.objid);
    ELSE
      SELECT array_agg(DISTINCT c.objid) INTO touched FROM pg_event_trigger_ddl_commands() c
      WHERE c.classid = 'pg_class'::regclass AND c.object_type IN ('table', 'table column')
        AND (EXISTS (SELECT 1 FROM hubspot.mapped_tables f WHERE f.relid = c.objid)
          OR EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = c.objid AND g.tgfoid = to_regproc('hubspot.capture_change')));
      -- A renamed label of an enum changes what its columns read as.
      UPDATE hubspot.object_mapping m SET look_from = '[]'
      FROM pg_event_trigger_ddl_commands() c
      WHERE c.classid = 'pg_type'::regclass AND m.look_from IS DISTINCT FROM '[]'
        AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = m.source_table AND a.atttypid = c.objid);
  END CASE;
  FOREACH t IN ARRAY coalesce(touched, '{}') LOOP
    PERFORM hubspot.follow_table(t);
  END LOOP;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'hubspot_sync could not follow this statement: %', sqlerrm
    USING HINT = 'The statement itself is done. Call hubspot.enable for the mappings of the table, and look at hubspot.mapping_problems.';
END
$$;
COMMENT ON FUNCTION hubspot.follow_ddl() IS
'Event trigger: keeps mappings true when their tables change, or disables what no longer fits and says why in disabled_reason. It never fails the user''s statement: a fault of its own is a WARNING. Private.';

-- Where the installing role may not create event triggers, capture works without them; hubspot.mapping_problems says so.
DO $$
BEGIN
  CREATE EVENT TRIGGER hubspot_ddl_end ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE SCHEMA', 'ALTER TYPE')
    EXECUTE FUNCTION hubspot.follow_ddl();
  COMMENT ON EVENT TRIGGER hubspot_ddl_end IS 'Mappings follow renamed and retyped columns, and partitions that come and go.';
  CREATE EVENT TRIGGER hubspot_ddl_drop ON sql_drop EXECUTE FUNCTION hubspot.follow_ddl();
  COMMENT ON EVENT TRIGGER hubspot_ddl_drop IS 'Mappings of dropped columns and tables are disabled with a reason.';
  CREATE EVENT TRIGGER hubspot_ddl_rewrite ON table_rewrite EXECUTE FUNCTION hubspot.follow_ddl();
  COMMENT ON EVENT TRIGGER hubspot_ddl_rewrite IS 'Rows of a rewritten table are compared with what is recorded of them.';
EXCEPTION WHEN insufficient_privilege THEN
  RAISE WARNING 'hubspot_sync is installed without its event triggers: mappings do not follow ALTER TABLE by themselves'
    USING HINT = 'Call hubspot.enable for a mapping after its table was altered.';
END
$$;
