-- The brake: a mapping whose records change in masses stops sending, until somebody has looked. The counting is in
-- extension/src/relay/brake.rs.

ALTER TABLE hubspot.object_mapping ADD COLUMN braked_at timestamptz, ADD COLUMN brake_reason text;
COMMENT ON COLUMN hubspot.object_mapping.braked_at IS 'When the mapping''s brake stopped its outbound side. Null: it sends. Set by: taking over captured changes; hubspot.release clears it.';
COMMENT ON COLUMN hubspot.object_mapping.brake_reason IS 'What was counted, and the limit. Null: the brake is off.';

CREATE TABLE hubspot.brake_recent (
  mapping_id int NOT NULL REFERENCES hubspot.object_mapping ON DELETE CASCADE,
  link_id    bigint NOT NULL REFERENCES hubspot.link ON DELETE CASCADE,
  at         timestamptz NOT NULL,
  kind       text NOT NULL CONSTRAINT brake_recent_kind_check CHECK (kind IN ('changed', 'emptied', 'deleted')),
  PRIMARY KEY (mapping_id, link_id)
);
CREATE INDEX brake_recent_at_idx ON hubspot.brake_recent (mapping_id, at);
COMMENT ON TABLE hubspot.brake_recent IS
'Records of mappings with a brake that were changed, emptied or deleted within its window: what the brake counts. Older ones go with hubspot.relay_maintain. Not dumped. Private: read hubspot.brake.';
COMMENT ON COLUMN hubspot.brake_recent.at IS 'When it was last changed.';
COMMENT ON COLUMN hubspot.brake_recent.kind IS 'What its last change did. changed: some field that is sent. emptied: some field that is sent has no value any more. deleted: the row, where its record is to be archived.';

CREATE TABLE hubspot.brake_held (
  link_id       bigint PRIMARY KEY REFERENCES hubspot.link ON DELETE CASCADE,
  priority      smallint NOT NULL,
  waiting_since timestamptz NOT NULL
);
COMMENT ON TABLE hubspot.brake_held IS
'Records with something to deliver whose mapping is braked: out of hubspot.queue, so that claims do not step over them. hubspot.release puts them back. Private: read hubspot.outbox.';
