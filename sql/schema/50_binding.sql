-- Which portal this database belongs to, and pausing.

CREATE FUNCTION hubspot.timeline() RETURNS int
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- A promotion starts the new timeline at once; the control file learns of it with the next checkpoint, minutes later.
  IF pg_is_in_recovery() THEN
    RETURN (SELECT timeline_id FROM pg_control_checkpoint());
  END IF;
  RETURN ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int;
END
$$;
COMMENT ON FUNCTION hubspot.timeline() IS 'The timeline this server writes; on a standby that of its last restart point. Private.';

COMMENT ON FUNCTION hubspot.files() IS 'Number and birth of this server''s control file: a copy of the files has others. Null when the file cannot be looked at. Private.';

CREATE FUNCTION hubspot.armed_reason(portal_id bigint) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN b.portal_id IS NULL THEN 'never armed: call hubspot.arm(portal_id)'
    WHEN b.system_identifier <> (SELECT system_identifier FROM pg_control_system())
      OR b.database_name <> current_database()
      THEN 'this database is a copy of the one that was armed: call hubspot.arm(portal_id) if it may write to the portal'
    WHEN NOT b.failover AND b.timeline_id <> hubspot.timeline()
      THEN 'this server was promoted from a copy: call hubspot.arm(portal_id, failover => true) if it may write to the portal'
    -- A base backup that is started as it is has the name, the identifier and the timeline of the original.
    WHEN NOT b.failover AND NOT pg_is_in_recovery() AND b.files <> hubspot.files()
      THEN 'this server''s files are a copy of those of the one that was armed, or were moved to another file system: call hubspot.arm(portal_id) if it may write to the portal'
    WHEN armed_reason.portal_id IS NOT NULL AND armed_reason.portal_id <> b.portal_id
      THEN 'armed for another portal than the relay''s'
  END
  FROM hubspot.binding b
$$;
COMMENT ON FUNCTION hubspot.armed_reason(bigint) IS
'Why the relay may not work on this database, for a relay of that portal (null: any); null when it may. Private.';

CREATE FUNCTION hubspot.arm(portal_id bigint, failover boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- What is recorded was delivered to another portal, or by another database that went on since: nobody has told this one.
  copied boolean := hubspot.armed_reason(arm.portal_id) IS NOT NULL AND EXISTS (SELECT 1 FROM hubspot.link);
  compared bigint := 0;
BEGIN
  IF arm.portal_id IS NULL OR arm.portal_id <= 0 THEN
    RAISE EXCEPTION 'portal_id is not a HubSpot portal id' USING ERRCODE = '22023', HINT = 'pass the account''s numeric id, as HubSpot shows it';
  END IF;
  UPDATE hubspot.binding b SET portal_id = arm.portal_id, failover = arm.failover, armed_at = now(), armed_by = session_user,
    system_identifier = (SELECT s.system_identifier FROM pg_control_system() s), database_name = current_database(),
    timeline_id = hubspot.timeline(), files = hubspot.files();
  IF copied THEN
    -- In a restored dump columns have other numbers.
    PERFORM hubspot.follow_table(m.source_table) FROM hubspot.object_mapping m ORDER BY m.id;
    INSERT INTO hubspot.reconciliation_runs (entity_type, kind, dry_run, requested_by)
    SELECT m.entity_type, 'full', false, session_user FROM hubspot.object_mapping m WHERE m.enabled ORDER BY m.id
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS compared = ROW_COUNT;
  END IF;
  PERFORM pg_notify('hubspot_outbox', '');
  RETURN format('armed for portal %s', arm.portal_id)
    || CASE WHEN compared > 0 THEN format('; %s entity types are compared with HubSpot, because this database is a copy', compared) ELSE '' END;
END
$$;
COMMENT ON FUNCTION hubspot.arm(bigint, boolean) IS
'Binds this database to one HubSpot portal and lets the relay work. A copy of the database (other system identifier, name, timeline or files) is disarmed by itself until armed again; arming one queues a full reconciliation of every enabled mapping, for what happened since it was taken. failover: a promoted standby stays armed, and so does any other physical copy. Raises: 22023.';

CREATE FUNCTION hubspot.pause() RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  UPDATE hubspot.binding SET paused = true, paused_at = now(), paused_by = session_user RETURNING 'paused: changes are captured and events stored, nothing is sent or applied'
$$;
COMMENT ON FUNCTION hubspot.pause() IS 'The emergency switch: nothing is sent to HubSpot and nothing applied to rows. Changes go on being captured and HubSpot''s events stored. Idempotent.';

CREATE FUNCTION hubspot.resume() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE hubspot.binding SET paused = false, paused_at = NULL, paused_by = NULL;
  PERFORM pg_notify('hubspot_outbox', '');
  RETURN 'resumed';
END
$$;
COMMENT ON FUNCTION hubspot.resume() IS 'Ends hubspot.pause(). Idempotent.';
