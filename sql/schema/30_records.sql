-- The records and their fields' states, and the queue of records with work.

CREATE TABLE hubspot.link (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  mapping_id int NOT NULL REFERENCES hubspot.object_mapping ON DELETE CASCADE,
  entity_key text NOT NULL,
  hubspot_id text,
  status     text NOT NULL DEFAULT 'new' CONSTRAINT link_status_check
             CHECK (status IN ('new', 'linked', 'missing', 'deleted_here', 'deleted_there', 'parked')),
  contacted  boolean NOT NULL DEFAULT false,
  id_written boolean NOT NULL DEFAULT false,
  message    text,
  created_at timestamptz NOT NULL DEFAULT now(),
  linked_at  timestamptz,
  lifecycle  text CONSTRAINT link_lifecycle_check
             CHECK (lifecycle IN ('heard', 'merged', 'archive', 'archiving', 'archived', 'refused', 'held')),
  deleted_at bigint NOT NULL DEFAULT 0,
  life_at    bigint NOT NULL DEFAULT 0,
  gone_id    text,
  UNIQUE (mapping_id, entity_key),
  CONSTRAINT link_linked_has_id_check CHECK (status <> 'linked' OR hubspot_id IS NOT NULL)
);
CREATE UNIQUE INDEX link_hubspot_id_key ON hubspot.link (mapping_id, hubspot_id) WHERE hubspot_id IS NOT NULL;
CREATE INDEX link_gone_id_idx ON hubspot.link (gone_id) WHERE gone_id IS NOT NULL;
CREATE INDEX link_lifecycle_idx ON hubspot.link (lifecycle) WHERE lifecycle IN ('archive', 'archiving', 'heard', 'held');
COMMENT ON TABLE hubspot.link IS 'One row per known record: the local key and, once known, the HubSpot id. Set by: the relay''s functions.';
COMMENT ON COLUMN hubspot.link.hubspot_id IS 'HubSpot record id, as text. Null: not matched and not created yet.';
COMMENT ON COLUMN hubspot.link.status IS 'new: not linked yet. linked. missing: HubSpot does not know the id any more. deleted_here, deleted_there: the row or the record was deleted. parked: cannot be linked, message says why.';
COMMENT ON COLUMN hubspot.link.id_written IS 'The row''s tracking field holds the id, or the mapping has none.';
COMMENT ON COLUMN hubspot.link.lifecycle IS 'What a deletion or a merge still asks for. heard: HubSpot says that the record was deleted, to be looked up. merged: the record became another one, to be compared. archive: the row was deleted, HubSpot''s record is to be archived. archiving: asked for, outcome not known. archived: done. refused: HubSpot would not. held: a conflict of kind DELETE_UPDATE waits for a person. Null: nothing.';
COMMENT ON COLUMN hubspot.link.deleted_at IS 'When the row (lifecycle archive) or the record (heard) was deleted, on the clock of its side. Unit: microseconds since 1970-01-01 UTC, 0 for never.';
COMMENT ON COLUMN hubspot.link.life_at IS 'HubSpot''s instant of the newest deletion, restore or merge taken into account. Unit: microseconds since 1970-01-01 UTC, 0 for none.';
COMMENT ON COLUMN hubspot.link.gone_id IS 'The HubSpot record that this row had, or was archived for it: its deletion is no news. Null: none.';
COMMENT ON COLUMN hubspot.link.contacted IS 'Both sides'' values were compared once.';

CREATE SEQUENCE hubspot.claim_token_seq;
COMMENT ON SEQUENCE hubspot.claim_token_seq IS 'Fencing tokens of claims. Private.';

CREATE TABLE hubspot.queue (
  link_id          bigint PRIMARY KEY REFERENCES hubspot.link ON DELETE CASCADE,
  priority         smallint NOT NULL CONSTRAINT queue_priority_check CHECK (priority IN (0, 1)),
  waiting_since    timestamptz NOT NULL,
  due_at           timestamptz NOT NULL,
  attempts         int NOT NULL DEFAULT 0,
  token            bigint,
  claimed_by       text,
  lease_expires_at timestamptz,
  CONSTRAINT queue_claimed_has_lease_check CHECK ((claimed_by IS NULL) = (lease_expires_at IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX queue_due_idx ON hubspot.queue (priority, due_at) WHERE claimed_by IS NULL;
CREATE INDEX queue_lease_idx ON hubspot.queue (lease_expires_at) WHERE claimed_by IS NOT NULL;
COMMENT ON TABLE hubspot.queue IS 'Records with something to deliver or an outcome to find out: one row per record, so that many edits of one record are one delivery. Private: read hubspot.outbox.';
COMMENT ON COLUMN hubspot.queue.priority IS '0 real-time, 1 batch.';
COMMENT ON COLUMN hubspot.queue.due_at IS 'Not claimed before this instant: retry delay, or the next incremental sync for batch fields.';
COMMENT ON COLUMN hubspot.queue.token IS 'Fencing token of the newest claim: results that carry another one come too late.';

CREATE TABLE hubspot.sync_state (
  link_id            bigint NOT NULL,
  field_id           int NOT NULL,
  row_value          text,
  edited_at          bigint NOT NULL,
  origin             "char" NOT NULL,
  generation         bigint NOT NULL,
  dirty              boolean NOT NULL,
  agreed             boolean NOT NULL,
  base_value         text,
  seen_at            bigint NOT NULL,
  own_at             bigint NOT NULL,
  flying             boolean NOT NULL,
  flight_value       text,
  flight_edited_at   bigint,
  flight_generation  bigint,
  flight_edit        bigint,
  flight_after       bigint,
  pending_edit       bigint,
  given_up           boolean NOT NULL,
  held               boolean NOT NULL,
  held_value         text,
  held_at            bigint,
  held_buried        boolean,
  parked             boolean NOT NULL,
  formed             boolean NOT NULL,
  form_sent          text,
  form_returned      text,
  claim_generation   bigint,
  conflict_id        bigint,
  hubspot_value      text,
  hubspot_changed_at bigint,
  hubspot_read_at    bigint,
  synced_at          bigint,
  winner             text,
  message            text,
  PRIMARY KEY (link_id, field_id)
) WITH (fillfactor = 70);
-- No foreign keys: two checks for each new state were half of what taking a new record over costs. States are made only under
-- their link's lock and for a field of the mapping that was just read; these triggers take them away, a statement at a time.
CREATE FUNCTION hubspot.drop_states() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    TRUNCATE hubspot.sync_state;
  ELSIF TG_TABLE_NAME = 'link' THEN
    DELETE FROM hubspot.sync_state s USING gone g WHERE s.link_id = g.id;
  ELSE
    DELETE FROM hubspot.sync_state s USING gone g WHERE s.field_id = g.id;
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION hubspot.drop_states() IS 'Private: trigger of hubspot.link and hubspot.field_mapping that deletes the states of what was deleted there.';
CREATE TRIGGER drop_states AFTER DELETE ON hubspot.link REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION hubspot.drop_states();
CREATE TRIGGER drop_states AFTER DELETE ON hubspot.field_mapping REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION hubspot.drop_states();
CREATE TRIGGER drop_all_states AFTER TRUNCATE ON hubspot.link FOR EACH STATEMENT EXECUTE FUNCTION hubspot.drop_states();
CREATE TRIGGER drop_all_states AFTER TRUNCATE ON hubspot.field_mapping FOR EACH STATEMENT EXECUTE FUNCTION hubspot.drop_states();
COMMENT ON TABLE hubspot.sync_state IS 'The state machine''s state of each field of each record. Unit of every bigint instant: microseconds since 1970-01-01 UTC, 0 for never. Private: read hubspot.field_state.';
COMMENT ON COLUMN hubspot.sync_state.row_value IS 'W: the row''s value in canonical form.';
COMMENT ON COLUMN hubspot.sync_state.edited_at IS 't_w: when row_value was edited; on the database''s clock for origin w, on HubSpot''s for origin h.';
COMMENT ON COLUMN hubspot.sync_state.generation IS 'gen: rises with every change of row_value.';
COMMENT ON COLUMN hubspot.sync_state.dirty IS 'HubSpot must be given row_value.';
COMMENT ON COLUMN hubspot.sync_state.agreed IS 'base_value is known: both sides once held it.';
COMMENT ON COLUMN hubspot.sync_state.seen_at IS 'h_seen: HubSpot''s instant of the newest foreign edit taken into account.';
COMMENT ON COLUMN hubspot.sync_state.own_at IS 'own_ts: HubSpot''s instant of our newest write known to have landed.';
COMMENT ON COLUMN hubspot.sync_state.flying IS 'A write whose outcome is not known; the flight_ columns identify it.';
COMMENT ON COLUMN hubspot.sync_state.flight_after IS 'HubSpot''s instant of the last change that was read before the write left: an older version of the same value is not that write. 0: nothing was read.';
COMMENT ON COLUMN hubspot.sync_state.given_up IS 'A write of ours was given up and may still land: from then on HubSpot is read before each write.';
COMMENT ON COLUMN hubspot.sync_state.hubspot_value IS 'What HubSpot was last known to hold, in HubSpot''s own form.';

CREATE TABLE hubspot.relay_status (
  relay_id      text PRIMARY KEY,
  version       text NOT NULL,
  started_at    timestamptz NOT NULL DEFAULT now(),
  last_seen_at  timestamptz NOT NULL DEFAULT now(),
  requests      bigint NOT NULL DEFAULT 0,
  rate_limited  bigint NOT NULL DEFAULT 0,
  failed        bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE hubspot.relay_status IS 'One row per relay: its heartbeat and its count of HubSpot API calls since it started. A relay is alive when last_seen_at is younger than 15 seconds.';
