-- The schema is ours alone. Somebody with CREATE on the database could make it beforehand, wait for CREATE EXTENSION, and then
-- put functions and operators of his own beside ours, which our SECURITY DEFINER functions would find.
DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.nspname = 'hubspot' AND (n.nspowner <> current_user::pg_catalog.regrole
       OR EXISTS (SELECT 1 FROM pg_catalog.aclexplode(n.nspacl) a WHERE a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner)))
     OR EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relnamespace = 'hubspot'::pg_catalog.regnamespace)
     OR EXISTS (SELECT 1 FROM pg_catalog.pg_proc WHERE pronamespace = 'hubspot'::pg_catalog.regnamespace)
     OR EXISTS (SELECT 1 FROM pg_catalog.pg_type WHERE typnamespace = 'hubspot'::pg_catalog.regnamespace)
     OR EXISTS (SELECT 1 FROM pg_catalog.pg_operator WHERE oprnamespace = 'hubspot'::pg_catalog.regnamespace) THEN
    RAISE EXCEPTION 'the schema hubspot exists already and is not an empty one of the installing role''s' USING ERRCODE = '42P06',
      HINT = 'Look at it with \dn+ hubspot and \df hubspot.*, rename or drop it, then repeat CREATE EXTENSION, which makes the schema.';
  END IF;
END
$$;
