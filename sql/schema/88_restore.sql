-- Dumps that come back with several jobs.

-- pg_restore --jobs copies tables in any order, and an extension's foreign keys are there before its rows. A dump's rows fit
-- together, so their keys need no check. What a dump sets tells a restore from work; a superuser could set the role anyway.
CREATE FUNCTION hubspot.restore_rows() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('session_replication_role', TG_ARGV[0], true);
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION hubspot.restore_rows() IS 'Trigger of every table of ours with a foreign key: while a superuser restores a dump, rows may come before those they refer to. It does nothing at other times. Private.';

DO $$
DECLARE
  t regclass;
  restoring text := $when$WHEN (current_setting('is_superuser') = 'on' AND current_setting('check_function_bodies') = 'off' AND current_setting('row_security') = 'off')$when$;
BEGIN
  FOR t IN SELECT DISTINCT c.conrelid::regclass FROM pg_constraint c WHERE c.contype = 'f' AND c.connamespace = 'hubspot'::regnamespace LOOP
    EXECUTE format('CREATE TRIGGER restore_begin BEFORE INSERT ON %s FOR EACH STATEMENT %s EXECUTE FUNCTION hubspot.restore_rows(''replica'')', t, restoring);
    EXECUTE format('CREATE TRIGGER restore_end AFTER INSERT ON %s FOR EACH STATEMENT %s EXECUTE FUNCTION hubspot.restore_rows(''origin'')', t, restoring);
    -- It fires in the role that the first one has chosen.
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER restore_end', t);
  END LOOP;
END
$$;
