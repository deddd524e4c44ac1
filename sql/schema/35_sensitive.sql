-- Sensitive fields (extension/src/sensitive): the key of the hashes that stand for their values, and the one value that has to
-- be kept while a person decides.

CREATE TABLE hubspot.sensitive_key (
  only_one boolean PRIMARY KEY DEFAULT true CONSTRAINT sensitive_key_only_one_check CHECK (only_one),
  key      text NOT NULL CONSTRAINT sensitive_key_is_hex_check CHECK (key ~ '^[0-9a-f]{64}$'),
  made_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE hubspot.sensitive_key IS
'The secret of this database with which values of sensitive fields are hashed. Made with the first sensitive field, and dumped: a restored copy must find its rows equal to what is recorded, and its dump holds the rows themselves anyway. Nobody is granted it. Private.';
COMMENT ON COLUMN hubspot.sensitive_key.key IS '256 bits, as hexadecimal digits.';

CREATE TABLE hubspot.sensitive_held (
  link_id  bigint NOT NULL REFERENCES hubspot.link ON DELETE CASCADE,
  field_id int NOT NULL REFERENCES hubspot.field_mapping ON DELETE CASCADE,
  token    text NOT NULL,
  locked   text NOT NULL,
  PRIMARY KEY (link_id, field_id)
);
COMMENT ON TABLE hubspot.sensitive_held IS
'HubSpot''s side of open conflicts about sensitive fields, so that a person can choose it: encrypted with hubspot.sensitive_key, and erased when the conflict is settled. Private.';
COMMENT ON COLUMN hubspot.sensitive_held.token IS 'The hash that sync_state.held_value has.';
COMMENT ON COLUMN hubspot.sensitive_held.locked IS 'XChaCha20-Poly1305: nonce and text, as hexadecimal digits.';

ALTER TABLE hubspot.field_mapping ADD COLUMN sensitive boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN hubspot.field_mapping.sensitive IS
'Its values are kept out of the extension''s tables: keyed hashes stand for them. From the option sensitive. Set by: hubspot.import_mapping.';
