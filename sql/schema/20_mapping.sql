-- What is mapped to what, and which portal this database belongs to.

CREATE TABLE hubspot.binding (
  singleton         boolean PRIMARY KEY DEFAULT true CONSTRAINT binding_one_row_check CHECK (singleton),
  portal_id         bigint,
  system_identifier bigint,
  database_name     name,
  timeline_id       int,
  files             text,
  failover          boolean NOT NULL DEFAULT false,
  armed_at          timestamptz,
  armed_by          name,
  paused            boolean NOT NULL DEFAULT false,
  paused_at         timestamptz,
  paused_by         name,
  clock_offset_us   bigint NOT NULL DEFAULT 0,
  clock_uncertainty_us bigint NOT NULL DEFAULT 0,
  clock_measured_at timestamptz
);
INSERT INTO hubspot.binding DEFAULT VALUES;
COMMENT ON TABLE hubspot.binding IS
'The one HubSpot portal this database may write to, and the identity of the database that was armed: a restored or cloned copy differs in it and is disarmed by itself. Private: use hubspot.arm, hubspot.pause, hubspot.resume and hubspot.status.';
COMMENT ON COLUMN hubspot.binding.portal_id IS 'HubSpot portal (account) id. Null: never armed.';
COMMENT ON COLUMN hubspot.binding.files IS 'What told the files of the server that was armed from a copy of them. Set by: hubspot.arm, from hubspot.files(). Null: unknown, and not compared.';
COMMENT ON COLUMN hubspot.binding.clock_offset_us IS 'HubSpot''s clock minus this database''s. Unit: microseconds. Set by: hubspot.relay_complete, from HubSpot''s updatedAt against the times of the request.';
COMMENT ON COLUMN hubspot.binding.clock_measured_at IS 'When the offset was last measured. Null: never.';
COMMENT ON COLUMN hubspot.binding.clock_uncertainty_us IS 'How far clock_offset_us may be off: half the round trip it was measured over. Unit: microseconds. LATEST_WINS treats edits that are closer than this as a tie.';

CREATE TABLE hubspot.object_mapping (
  id                int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  entity_type       text NOT NULL UNIQUE CONSTRAINT object_mapping_entity_type_check CHECK (entity_type ~ '^[a-z][a-z0-9_]{0,62}$'),
  source_table      regclass NOT NULL,
  hubspot_object    text NOT NULL,
  key_columns       text[] NOT NULL CONSTRAINT object_mapping_has_key_check CHECK (cardinality(key_columns) > 0),
  match_field       text,
  match_property    text,
  on_create         text NOT NULL CONSTRAINT object_mapping_on_create_check CHECK (on_create IN ('create', 'ignore')),
  on_local_delete   text NOT NULL CONSTRAINT object_mapping_on_local_delete_check CHECK (on_local_delete IN ('keep', 'archive')),
  on_hubspot_delete text NOT NULL CONSTRAINT object_mapping_on_hubspot_delete_check CHECK (on_hubspot_delete IN ('keep', 'delete', 'recreate')),
  updated_at_column text,
  enabled           boolean NOT NULL DEFAULT false,
  mapping           jsonb NOT NULL,
  options           jsonb NOT NULL,
  imported_at       timestamptz NOT NULL DEFAULT now(),
  imported_by       name NOT NULL DEFAULT session_user,
  disabled_reason   text,
  column_numbers    jsonb NOT NULL DEFAULT '{}',
  look_from         jsonb
);
COMMENT ON TABLE hubspot.object_mapping IS 'One row per table paired with a HubSpot object type. Set by: hubspot.import_mapping, hubspot.enable, hubspot.disable.';
COMMENT ON COLUMN hubspot.object_mapping.entity_type IS 'The name of the pairing: what people type in every other function.';
COMMENT ON COLUMN hubspot.object_mapping.hubspot_object IS 'HubSpot object type: companies, contacts, or an id such as 2-123.';
COMMENT ON COLUMN hubspot.object_mapping.key_columns IS 'The columns that identify a row; the primary key unless options said otherwise.';
COMMENT ON COLUMN hubspot.object_mapping.match_field IS 'The field whose value finds or creates the HubSpot record. Null: rows are linked by an id they already hold, never created.';
COMMENT ON COLUMN hubspot.object_mapping.match_property IS 'The unique HubSpot property that match_field is compared with.';
COMMENT ON COLUMN hubspot.object_mapping.on_local_delete IS 'What becomes of the HubSpot record when its row is deleted. keep: it stays. archive: it is archived, unless HubSpot edited it meanwhile and the field''s strategy says that this counts more.';
COMMENT ON COLUMN hubspot.object_mapping.on_hubspot_delete IS 'What becomes of the row when its HubSpot record is deleted. keep: it stays, and nothing of it is sent. delete: it is deleted, unless it holds an edit that was not delivered and the field''s strategy says that this counts more. recreate: HubSpot gets a new record of it.';
COMMENT ON COLUMN hubspot.object_mapping.mapping IS 'The mapping document as it was imported; hubspot.export_mapping returns it.';
COMMENT ON COLUMN hubspot.object_mapping.disabled_reason IS 'Why the extension itself disabled the mapping (its table or a key column was dropped), with the mend. Null: nothing of the kind. Set by: the event triggers; hubspot.enable clears it.';
COMMENT ON COLUMN hubspot.object_mapping.column_numbers IS 'Attribute number of each column the mapping names: by it a renamed column is told from a dropped one. The empty name holds the oid of the table they are of: after a restore they are looked up again. Private.';
COMMENT ON COLUMN hubspot.object_mapping.look_from IS 'All rows are to be compared with what is recorded, by hubspot.relay_maintain, from after this key on (a JSON array of texts; empty: from the first). Null: nothing to do. Private.';

CREATE TABLE hubspot.field_mapping (
  id                  int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  mapping_id          int NOT NULL REFERENCES hubspot.object_mapping ON DELETE CASCADE,
  field               text NOT NULL,
  hubspot_property    text NOT NULL,
  column_name         text NOT NULL,
  path                text[],
  sync_direction      hubspot.sync_direction NOT NULL,
  conflict_resolution hubspot.conflict_resolution,
  update_frequency    text NOT NULL,
  enum_values         text[],
  transform           text,
  kind                text NOT NULL,
  description         text,
  policy              text,
  policy_role         text,
  active              boolean NOT NULL DEFAULT true,
  disabled_reason     text,
  UNIQUE (mapping_id, field),
  CONSTRAINT field_mapping_synced_has_strategy_check CHECK (sync_direction = 'NONE' OR conflict_resolution IS NOT NULL)
);
COMMENT ON TABLE hubspot.field_mapping IS 'One row per mapped field. A complex field has one row per sub-mapping, such as address.city. Set by: hubspot.import_mapping.';
COMMENT ON COLUMN hubspot.field_mapping.path IS 'Keys inside a jsonb column. Null: the whole column.';
COMMENT ON COLUMN hubspot.field_mapping.kind IS 'How values compare: text, number, boolean, date, timestamp or multi_select. From the column''s type.';
COMMENT ON COLUMN hubspot.field_mapping.update_frequency IS 'real-time: sent as soon as it commits. batch: with the next incremental sync.';
COMMENT ON COLUMN hubspot.field_mapping.policy IS 'A function that decides the field''s MANUAL conflicts instead of a person, by its signature: pg_upgrade refuses columns of type regprocedure, and gives functions other oids. Null: a person does.';
COMMENT ON COLUMN hubspot.field_mapping.policy_role IS 'Who owned the policy function when the mapping was imported. Somebody else''s function of the same name is not called: then a person decides.';
COMMENT ON COLUMN hubspot.field_mapping.active IS 'False: no longer mapped; its states and log stay until they age out.';
COMMENT ON COLUMN hubspot.field_mapping.disabled_reason IS 'Why the extension itself took the field out (its column was dropped, or its new type does not fit), with the mend. Null: nothing of the kind. Set by: the event triggers; hubspot.enable takes the field in again once its column fits.';

CREATE TABLE hubspot.transform (
  name            text PRIMARY KEY,
  to_warp         text NOT NULL,
  to_warp_role    text NOT NULL,
  to_hubspot      text NOT NULL,
  to_hubspot_role text NOT NULL
);
COMMENT ON TABLE hubspot.transform IS 'Transforms registered with hubspot.register_transform: pairs of inverse functions text to text. Built-in transforms are not listed here.';
COMMENT ON COLUMN hubspot.transform.to_warp IS 'Signature of the function that makes the row''s value of HubSpot''s. A text, because pg_upgrade refuses columns of type regprocedure, and gives functions other oids.';
COMMENT ON COLUMN hubspot.transform.to_warp_role IS 'Who owned that function when it was registered. Somebody else''s function of the same name is not called: the field fails until hubspot.register_transform is called again.';
COMMENT ON COLUMN hubspot.transform.to_hubspot IS 'Signature of the function that makes HubSpot''s value of the row''s.';
COMMENT ON COLUMN hubspot.transform.to_hubspot_role IS 'Who owned that function when it was registered.';
