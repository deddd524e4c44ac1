-- Which portal this database belongs to, and pausing.

CREATE FUNCTION hubspot.armed_reason(portal_id bigint) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN b.portal_id IS NULL THEN 'never armed: call hubspot.arm(portal_id)'
    WHEN b.system_identifier <> (SELECT system_identifier FROM pg_control_system())
      OR b.database_name <> current_database()
      THEN 'this database is a copy of the one that was armed: call hubspot.arm(portal_id) if it may write to the portal'
    WHEN NOT b.failover AND b.timeline_id <> (SELECT timeline_id FROM pg_control_checkpoint())
      THEN 'this server was promoted from a copy: call hubspot.arm(portal_id, failover => true) if it may write to the portal'
    WHEN armed_reason.portal_id IS NOT NULL AND armed_reason.portal_id <> b.portal_id
      THEN 'armed for another portal than the relay''s'
  END
  FROM hubspot.binding b
$$;
COMMENT ON FUNCTION hubspot.armed_reason(bigint) IS
'Why the relay may not work on this database, for a relay of that portal (null: any); null when it may. Private.';

CREATE FUNCTION hubspot.arm(portal_id bigint, failover boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF arm.portal_id IS NULL OR arm.portal_id <= 0 THEN
    RAISE EXCEPTION 'portal_id is not a HubSpot portal id' USING ERRCODE = '22023', HINT = 'pass the account''s numeric id, as HubSpot shows it';
  END IF;
  UPDATE hubspot.binding b SET portal_id = arm.portal_id, failover = arm.failover, armed_at = now(), armed_by = session_user,
    system_identifier = (SELECT s.system_identifier FROM pg_control_system() s), database_name = current_database(),
    timeline_id = (SELECT c.timeline_id FROM pg_control_checkpoint() c);
  PERFORM pg_notify('hubspot_outbox', '');
  RETURN format('armed for portal %s', arm.portal_id);
END
$$;
COMMENT ON FUNCTION hubspot.arm(bigint, boolean) IS
'Binds this database to one HubSpot portal and lets the relay work. A copy of the database (other system identifier, name or timeline) is disarmed by itself until armed again. failover: a promoted standby stays armed. Raises: 22023.';

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
