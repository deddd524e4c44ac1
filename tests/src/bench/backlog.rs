//! Databases in which many records wait to be claimed, made without going through capture: ten million at a time.
//!
//! Every record is linked and was compared before; one field of it is to be delivered.

use anyhow::{Result, bail};
use serde_json::Value as Json;

use super::fixture::{Fixture, explain};
use super::server::Server;

/// Records made by one statement; a checkpoint after each keeps the WAL on the RAM disk short.
const CHUNK: u64 = 500_000;

/// What every record's field holds.
const VALUE: &str = "Company";

/// How records wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// They can be claimed.
    Due,
    /// They can be claimed, and have batch fields only.
    DueBatch,
    /// Another relay has claimed them.
    Leased,
    /// They are retried in an hour.
    Delayed,
}

impl Waits {
    /// `priority, waiting_since, due_at, attempts, token, claimed_by, lease_expires_at` of record `n`.
    fn queued(self) -> &'static str {
        match self {
            Self::Due => "0, now(), now() - interval '1 minute' + n * interval '1 microsecond', 0, NULL, NULL, NULL",
            Self::DueBatch => {
                "1, now(), now() - interval '1 minute' + n * interval '1 microsecond', 0, NULL, NULL, NULL"
            }
            Self::Leased => {
                "0, now(), now() - interval '2 minutes', 1, n, 'another', now() + interval '1 hour' + n * interval '1 microsecond'"
            }
            Self::Delayed => "0, now(), now() + interval '1 hour' + n * interval '1 microsecond', 1, n, NULL, NULL",
        }
    }
}

/// A database with records in the queue.
pub struct Backlog {
    /// The database.
    pub fixture: Fixture,
    records: u64,
    field: i32,
}

impl Backlog {
    /// An empty queue.
    ///
    /// # Errors
    ///
    /// When a statement fails.
    pub async fn empty(server: &Server, name: &str) -> Result<Self> {
        let fixture = Fixture::build(server, name, 1, &["ours"]).await?;
        // Making a mapping queues the rows that are there.
        fixture
            .run("TRUNCATE hubspot.capture, hubspot.queue, hubspot.link CASCADE")
            .await?;
        let field = fixture
            .sql
            .query_one("SELECT id FROM hubspot.field_mapping WHERE field = 'company_name'", &[])
            .await?
            .get(0);
        Ok(Self {
            fixture,
            records: 0,
            field,
        })
    }

    /// Adds records that wait so.
    ///
    /// # Errors
    ///
    /// When a statement fails.
    pub async fn add(&mut self, count: u64, waits: Waits) -> Result<()> {
        let last = self.records + count;
        while self.records < last {
            let (first, to) = (self.records + 1, last.min(self.records + CHUNK));
            // Foreign keys are not checked for each of them.
            self.fixture
                .run(&format!(
                    "BEGIN;
                     SET LOCAL session_replication_role = replica;
                     INSERT INTO hubspot.link (id, mapping_id, entity_key, hubspot_id, status, contacted, id_written)
                       OVERRIDING SYSTEM VALUE
                       SELECT n, (SELECT min(id) FROM hubspot.object_mapping), n::text, (9000000000 + n)::text, 'linked', true, true
                       FROM generate_series({first}, {to}) AS n;
                     INSERT INTO hubspot.sync_state (link_id, field_id, {columns})
                       SELECT n, {field}, {DIRTY} FROM generate_series({first}, {to}) AS n;
                     INSERT INTO hubspot.queue (link_id, priority, waiting_since, due_at, attempts, token, claimed_by, lease_expires_at)
                       SELECT n, {queued} FROM generate_series({first}, {to}) AS n;
                     COMMIT",
                    queued = waits.queued(),
                    field = self.field,
                    columns = STATE_COLUMNS,
                ))
                .await?;
            self.records = to;
            if count > CHUNK {
                self.fixture.run("CHECKPOINT").await?;
            }
        }
        Ok(())
    }

    /// To be called when everything is there: as it would be after some time with autovacuum.
    ///
    /// # Errors
    ///
    /// When a statement fails.
    pub async fn settle(&self) -> Result<()> {
        self.fixture
            .run("VACUUM ANALYZE hubspot.link, hubspot.sync_state, hubspot.queue, hubspot.capture")
            .await?;
        self.fixture.run("CHECKPOINT").await
    }

    /// Claims; gives how many records were.
    ///
    /// # Errors
    ///
    /// When the call fails.
    pub async fn claim(&self, max: i32) -> Result<usize> {
        let row = self
            .fixture
            .sql
            .query_one("SELECT hubspot.relay_claim('bench', $1, 600000, 300000)", &[&max])
            .await
            .map_err(explain)?;
        let answer: Json = row.get(0);
        Ok(answer["claims"].as_array().map_or(0, Vec::len))
    }

    /// Ends what was claimed, as if it had been delivered.
    ///
    /// # Errors
    ///
    /// When a statement fails.
    pub async fn forget_claimed(&self) -> Result<()> {
        self.fixture
            .run("DELETE FROM hubspot.queue WHERE claimed_by = 'bench'")
            .await
    }

    /// Delivers everything, without a vacuum. Of a long queue all but the last stretch goes by the statements that the
    /// relay's functions run on it, for their sake alone; the rest by the functions themselves, HubSpot being said to hold
    /// the values already.
    ///
    /// # Errors
    ///
    /// When a call fails, or the queue is not empty at the end.
    pub async fn drain(&self) -> Result<()> {
        const BY_FUNCTIONS: u64 = 20_000;
        if self.records > BY_FUNCTIONS {
            let records = self.records - BY_FUNCTIONS;
            self.fixture
                .run(&DRAIN.replace("{records}", &records.to_string()))
                .await?;
        }
        let sql = format!(
            "WITH c AS MATERIALIZED (SELECT jsonb_array_elements(hubspot.relay_claim('bench', 5000, 600000, 300000)->'claims') AS c)
             SELECT jsonb_array_length(hubspot.relay_decide('bench', coalesce(jsonb_agg(jsonb_build_object('claim', c->'claim', 'token', c->'token',
               'found', true, 'hubspot_id', c->'hubspot_id', 'read_at_ms', 1, 'history', false,
               'properties', jsonb_build_object('name', '{VALUE}'))), '[]'))->'settled') FROM c"
        );
        loop {
            let settled: i32 = self.fixture.sql.query_one(&sql, &[]).await.map_err(explain)?.get(0);
            if settled == 0 {
                break;
            }
        }
        let left = self.fixture.number("SELECT count(*) FROM hubspot.queue").await?;
        if left != 0 {
            bail!("{left} records are left in a queue that was drained");
        }
        Ok(())
    }

    /// Lets many changes be captured and taken away again.
    ///
    /// # Errors
    ///
    /// When a statement fails.
    pub async fn drain_captured(&self, count: u64) -> Result<()> {
        self.fixture
            .run(&format!(
                "INSERT INTO customers_ours (id, company_name) OVERRIDING SYSTEM VALUE SELECT -n, '{VALUE}' FROM generate_series(1, {count}) AS n"
            ))
            .await?;
        self.fixture.run("DELETE FROM hubspot.capture").await
    }
}

/// Claims, decides and completes in pages of 5,000 records, each step in a transaction of its own.
const DRAIN: &str = "DO $$
DECLARE
  first bigint := 1;
  page bigint;
BEGIN
  WHILE first <= {records} LOOP
    page := least(first + 4999, {records});
    UPDATE hubspot.queue SET claimed_by = 'bench', token = nextval('hubspot.claim_token_seq'), attempts = attempts + 1,
      lease_expires_at = clock_timestamp() + interval '1 minute' WHERE link_id BETWEEN first AND page;
    UPDATE hubspot.sync_state SET claim_generation = generation WHERE link_id BETWEEN first AND page;
    COMMIT;
    UPDATE hubspot.sync_state SET dirty = false, base_value = row_value WHERE link_id BETWEEN first AND page;
    DELETE FROM hubspot.queue WHERE link_id BETWEEN first AND page;
    COMMIT;
    first := page + 1;
  END LOOP;
END $$";

/// Columns of a field's state.
const STATE_COLUMNS: &str = "row_value, edited_at, origin, generation, dirty, agreed, base_value, seen_at, own_at, flying, given_up, held, \
    parked, formed, hubspot_read_at, synced_at";

/// Their values, for a field that is to be delivered.
const DIRTY: &str = "'Company', 1700000000000000, 'w', 2, true, true, 'Before', 0, 0, false, false, false, false, false, \
    1700000000000000, 1700000000000000";
