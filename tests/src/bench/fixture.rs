//! The measured database: customers, once for each way of capturing their changes, so that no way pays for another's bloat.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value as Json;
use tokio_postgres::Client;

use super::server::Server;
use crate::cluster::connect;
use crate::world::{CUSTOMERS, STRATEGY_MAPPING};

/// The portal that the database is armed for; nothing of it exists.
const PORTAL: i64 = 1_234_567;

/// What one way writes for one changed row, as the application or a trigger of the customer's own would: the same content
/// as this product captures.
const OUTBOX: &str = "
CREATE TABLE {table} (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  mapping_id int NOT NULL,
  op \"char\" NOT NULL,
  entity_key text NOT NULL,
  changes json,
  captured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  db_user oid NOT NULL,
  application_name text
)";

/// Two hundred thousand (or as many as asked for) customers; every mapped field has a value.
const CONTENT: &str = "
INSERT INTO customers_none (ban, current_balance, prepaid_balance, status, tier, credit_limit, payment_terms, company_name,
  legal_name, contact, address, external_ids, notes)
SELECT 'BAN-' || n, n % 100000, n % 1000, (ARRAY['ACTIVE', 'SUSPENDED', 'TRIAL', 'CLOSED'])[1 + n % 4],
  (ARRAY['STANDARD', 'PREMIUM', 'ENTERPRISE'])[1 + n % 3], 1000 * (n % 50), 'NET30', 'Company ' || n, 'Company ' || n || ' Ltd',
  jsonb_build_object('email', 'office' || n || '.example.com', 'phone', '+1 555 ' || lpad((n % 10000000)::text, 7, '0')),
  jsonb_build_object('line1', n || ' Main Street', 'city', 'Springfield', 'state', 'IL', 'zip', lpad((n % 100000)::text, 5, '0'), 'country', 'US'),
  jsonb_build_object('hubspot_company_id', (9000000000 + n)::text), 'note'
FROM generate_series(1, {rows}) AS n";

/// A DBA's generic trigger: the changed columns among those it is told, as a jsonb difference.
const PLPGSQL: &str = r"
CREATE FUNCTION capture_jsonb_difference() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  before CONSTANT jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
  after CONSTANT jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
  changed json;
BEGIN
  IF TG_OP = 'UPDATE' AND OLD IS NOT DISTINCT FROM NEW THEN
    RETURN NULL;
  END IF;
  SELECT json_object_agg(name, json_build_array(before->>name, after->>name)) INTO changed
  FROM unnest(TG_ARGV) AS name WHERE before->name IS DISTINCT FROM after->name;
  IF changed IS NOT NULL OR TG_OP <> 'UPDATE' THEN
    INSERT INTO outbox_plpgsql (mapping_id, op, entity_key, changes, db_user, application_name)
    VALUES (1, left(TG_OP, 1)::char, coalesce(after, before)->>'id', changed, current_user::regrole, current_setting('application_name'));
  END IF;
  RETURN NULL;
END
$$";

/// A wake-up as the manual suggests it.
const NOTIFY_ALWAYS: &str = "
CREATE FUNCTION notify_always() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NOTIFY somebody; RETURN NULL; END $$;
CREATE TRIGGER notify_always AFTER INSERT OR UPDATE OR DELETE ON customers_notify FOR EACH STATEMENT EXECUTE FUNCTION notify_always()";

/// A DBA's log trigger: what the changed columns held before and after, as hstore.
const HSTORE: &str = r#"
CREATE EXTENSION hstore;
CREATE TABLE log_hstore (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_name name NOT NULL,
  op "char" NOT NULL,
  entity_key text NOT NULL,
  before hstore,
  after hstore,
  captured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  db_user name NOT NULL DEFAULT current_user,
  application_name text
);
CREATE FUNCTION capture_hstore_difference() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  before hstore := CASE WHEN TG_OP <> 'INSERT' THEN slice(hstore(OLD), TG_ARGV) END;
  after hstore := CASE WHEN TG_OP <> 'DELETE' THEN slice(hstore(NEW), TG_ARGV) END;
  changed hstore;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    changed := after - before;
    IF changed = '' THEN
      RETURN NULL;
    END IF;
    before := slice(before, akeys(changed));
    after := changed;
  END IF;
  INSERT INTO log_hstore (table_name, op, entity_key, before, after, application_name)
  VALUES (TG_TABLE_NAME, left(TG_OP, 1)::"char", CASE TG_OP WHEN 'DELETE' THEN OLD.id ELSE NEW.id END::text, before, after,
    current_setting('application_name'));
  RETURN NULL;
END
$$"#;

/// A DBA's set-based trigger: once a statement, the transition tables joined, the changed columns among those mapped.
const TRANSITION: &str = r#"
CREATE FUNCTION capture_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox_transition (mapping_id, op, entity_key, changes, db_user, application_name)
  SELECT 1, 'U', n.id::text, c.changes, current_user::regrole, current_setting('application_name')
  FROM before b JOIN after n USING (id) CROSS JOIN LATERAL (
    SELECT json_object_agg(x.name, json_build_array(x.b, x.n)) AS changes FROM (VALUES
      ('ban', b.ban, n.ban), ('current_balance', b.current_balance::text, n.current_balance::text),
      ('prepaid_balance', b.prepaid_balance::text, n.prepaid_balance::text), ('status', b.status::text, n.status::text),
      ('tier', b.tier::text, n.tier::text), ('credit_limit', b.credit_limit::text, n.credit_limit::text),
      ('payment_terms', b.payment_terms::text, n.payment_terms::text), ('company_name', b.company_name, n.company_name),
      ('legal_name', b.legal_name, n.legal_name), ('contact', b.contact::text, n.contact::text),
      ('address', b.address::text, n.address::text), ('external_ids', b.external_ids::text, n.external_ids::text)) AS x (name, b, n)
    WHERE x.b IS DISTINCT FROM x.n) c
  WHERE c.changes IS NOT NULL;
  RETURN NULL;
END
$$;
CREATE FUNCTION capture_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox_transition (mapping_id, op, entity_key, changes, db_user, application_name)
  SELECT 1, 'I', n.id::text, json_build_object('ban', json_build_array(null, n.ban),
    'current_balance', json_build_array(null, n.current_balance::text), 'prepaid_balance', json_build_array(null, n.prepaid_balance::text),
    'status', json_build_array(null, n.status), 'tier', json_build_array(null, n.tier),
    'credit_limit', json_build_array(null, n.credit_limit::text), 'payment_terms', json_build_array(null, n.payment_terms),
    'company_name', json_build_array(null, n.company_name), 'legal_name', json_build_array(null, n.legal_name),
    'contact', json_build_array(null, n.contact::text), 'address', json_build_array(null, n.address::text),
    'external_ids', json_build_array(null, n.external_ids::text)), current_user::regrole, current_setting('application_name')
  FROM after n;
  RETURN NULL;
END
$$;
CREATE TRIGGER capture_update AFTER UPDATE ON customers_transition REFERENCING OLD TABLE AS before NEW TABLE AS after
  FOR EACH STATEMENT EXECUTE FUNCTION capture_update();
CREATE TRIGGER capture_insert AFTER INSERT ON customers_transition REFERENCING NEW TABLE AS after
  FOR EACH STATEMENT EXECUTE FUNCTION capture_insert()"#;

/// The mapped columns, as the two triggers are told.
const MAPPED: &str = "'ban', 'current_balance', 'prepaid_balance', 'status', 'tier', 'credit_limit', 'payment_terms', \
    'company_name', 'legal_name', 'contact', 'address', 'external_ids'";

/// The ways of the row path, which have a table each: `customers_<way>`. Bulk statements have two more, `floor` and
/// `transition`.
pub const WAYS: [&str; 6] = ["none", "ours", "pipelined", "same_statement", "plpgsql", "hstore"];

/// A database with the customers.
pub struct Fixture {
    /// A superuser's session.
    pub sql: Client,
    /// Its URL.
    pub url: String,
    /// Its name.
    pub database: String,
    /// Customers in each table.
    pub rows: u64,
}

impl Fixture {
    /// Builds a database in which `ways` are set up.
    ///
    /// # Errors
    ///
    /// When a statement fails.
    pub async fn build(server: &Server, name: &str, rows: u64, ways: &[&str]) -> Result<Self> {
        let url = server.cluster().create_database(name).await?;
        let sql = connect(&url).await?;
        let database = url.rsplit('/').next().unwrap_or_default().to_owned();
        sql.batch_execute(&CUSTOMERS.replace("customers", "customers_none"))
            .await?;
        sql.batch_execute(&CONTENT.replace("{rows}", &rows.to_string())).await?;
        let fixture = Self {
            sql,
            url,
            database,
            rows,
        };
        fixture.run(&format!("SELECT hubspot.arm({PORTAL})")).await?;
        for way in ways.iter().filter(|way| **way != "none") {
            fixture.add(way).await.with_context(|| format!("setting up {way}"))?;
        }
        fixture.run("ANALYZE").await?;
        Ok(fixture)
    }

    async fn add(&self, way: &str) -> Result<()> {
        let table = format!("customers_{way}");
        self.run(&format!("CREATE TABLE {table} (LIKE customers_none INCLUDING ALL)"))
            .await?;
        self.run(&format!(
            "INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM customers_none ORDER BY id"
        ))
        .await?;
        let outbox = OUTBOX.replace("{table}", &format!("outbox_{way}"));
        let trigger = |function: &str| {
            format!(
                "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {function}({MAPPED})"
            )
        };
        match way {
            "ours" => self.map("customer", &table).await,
            // Captured by ours, and besides with a notification in every transaction, which people write first.
            "notify" => {
                self.map("notified", &table).await?;
                self.run(NOTIFY_ALWAYS).await
            }
            "pipelined" | "same_statement" => self.run(&outbox).await,
            "plpgsql" => {
                self.run(&outbox).await?;
                self.run(PLPGSQL).await?;
                self.run(&trigger("capture_jsonb_difference")).await
            }
            "transition" => {
                self.run(&outbox).await?;
                self.run(TRANSITION).await
            }
            // The section that has this way makes its outbox, of what is captured by ours.
            "floor" => Ok(()),
            "hstore" => {
                self.run(HSTORE).await?;
                self.run(&trigger("capture_hstore_difference")).await
            }
            _ => anyhow::bail!("there is no way {way}"),
        }
    }

    /// Maps a table with the strategy's mapping.
    pub async fn map(&self, entity_type: &str, table: &str) -> Result<()> {
        let mapping: Json = serde_json::from_str(STRATEGY_MAPPING)?;
        self.sql
            .query_one(
                "SELECT hubspot.import_mapping($1, $2::text::regclass, 'companies', $3)",
                &[&entity_type, &table, &mapping],
            )
            .await
            .map_err(explain)?;
        Ok(())
    }

    /// Runs statements.
    pub async fn run(&self, sql: &str) -> Result<()> {
        self.sql.batch_execute(sql).await.map_err(explain)
    }

    /// One figure.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        let row = self.sql.query_one(sql, &[]).await.map_err(explain)?;
        Ok(row.get(0))
    }

    /// Brings a way back to where every run starts: nothing waits in its outbox, its table has no dead rows, and what is
    /// dirty in memory is on disk.
    pub async fn reset(&self, way: &str) -> Result<()> {
        match way {
            "none" => {}
            "ours" | "notify" => empty_capture(&self.sql).await?,
            "hstore" => self.run("TRUNCATE log_hstore").await?,
            other => {
                let table = format!("outbox_{other}");
                self.run(&format!(
                    "DO $$ BEGIN IF to_regclass('{table}') IS NOT NULL THEN TRUNCATE {table}; END IF; END $$"
                ))
                .await?;
            }
        }
        self.run(&format!("VACUUM customers_{way}")).await?;
        self.run("CHECKPOINT").await
    }

    /// Rows that a way has captured since the last reset.
    pub async fn captured(&self, way: &str) -> Result<i64> {
        match way {
            "none" => Ok(0),
            "ours" => self.number("SELECT count(*) FROM hubspot.capture").await,
            "hstore" => self.number("SELECT count(*) FROM log_hstore").await,
            other => self.number(&format!("SELECT count(*) FROM outbox_{other}")).await,
        }
    }

    /// A session that holds the lock of a busy relay until it is dropped.
    pub async fn busy_relay(&self) -> Result<Client> {
        let relay = connect(&self.url).await?;
        for _ in 0..1000 {
            if relay.query_one("SELECT hubspot.relay_awake()", &[]).await?.get(0) {
                return Ok(relay);
            }
        }
        anyhow::bail!("the lock of a busy relay could not be had")
    }
}

/// Throws away what was captured; the queue and the states stay.
pub async fn empty_capture(sql: &Client) -> Result<()> {
    // What is measured next must not pay for deleting it, nor for the pages it was in.
    sql.batch_execute("TRUNCATE hubspot.capture").await.map_err(explain)
}

/// `tokio_postgres::Error` prints only "db error": adds the server's message.
pub fn explain(error: tokio_postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(db) => anyhow::anyhow!("{db}"),
        None => error.into(),
    }
}

/// Fails when a way that should capture did not, or the other way round: then the figures would mean nothing.
pub fn check_captured(way: &str, transactions: u64, captured: i64) -> Result<()> {
    // Two random values may be equal, and a session cut off at the end leaves one more or less.
    let (low, high) = (transactions as f64 * 0.99 - 100.0, transactions as f64 * 1.01 + 100.0);
    ensure!(
        way == "none" || (low..=high).contains(&(captured as f64)),
        "{way} captured {captured} of {transactions} changes"
    );
    Ok(())
}
