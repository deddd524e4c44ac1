//! Everything an end-to-end test needs: a database with the strategy's customers table and mapping, a simulated HubSpot
//! portal, and relays between them.
//!
//! Waiting is always for a state, never for a time: [`World::until`] and [`World::settle`] poll and give up with what
//! they saw last.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hubspot_relay::{Config, Relay};
use serde_json::Value as Json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::cluster::{self, Cluster, connect};
use crate::simulator::{SimConfig, Simulator};

/// The strategy's mapping, byte for byte, without its comment lines.
pub const STRATEGY_MAPPING: &str = include_str!("../fixtures/strategy_customer_mapping.json");

/// The strategy's customers.
pub const CUSTOMERS: &str = "
CREATE TABLE customers (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  ban text UNIQUE,
  current_balance numeric(12,2),
  prepaid_balance numeric(12,2),
  status text,
  tier text,
  credit_limit numeric(12,2),
  payment_terms text,
  company_name text,
  legal_name text,
  contact jsonb,
  address jsonb,
  external_ids jsonb,
  notes text
)";

/// Longest wait for anything before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// With `HUBSPOT_TEST_LOG` set to a level, the relays of the test write their log to standard error.
fn show_log() {
    let level: Option<tracing::Level> = std::env::var("HUBSPOT_TEST_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    let Some(level) = level else { return };
    let log = tracing_subscriber::fmt().with_max_level(level);
    // A second relay of the process finds it there.
    let _ = log.with_writer(std::io::stderr).try_init();
}

/// A running relay.
pub struct RunningRelay {
    /// Where its webhook endpoint listens.
    pub webhook_url: String,
    /// Where its health and metrics are.
    pub admin_url: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// Its own, so that all its tasks can die at once.
    runtime: Option<Runtime>,
}

impl RunningRelay {
    /// Stops it gracefully and waits for its end.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let _ = (&mut self.task).await;
    }

    /// Ends it where it stands, as a crash does: with its runtime all its tasks die, and nothing is said to the database or
    /// to HubSpot any more.
    pub async fn crash(mut self) {
        if let Some(runtime) = self.runtime.take() {
            let _ = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10))).await;
        }
    }
}

impl Drop for RunningRelay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be waited for inside another one.
            runtime.shutdown_background();
        }
    }
}

/// A database, a portal, and what is between them.
pub struct World {
    /// The portal.
    pub sim: Simulator,
    /// A session of the application's, as superuser.
    pub sql: Client,
    /// URL of the database.
    pub url: String,
    relay: Option<RunningRelay>,
}

impl World {
    /// The strategy's mapping as it is, a portal with its properties, and a relay.
    pub async fn start(name: &str) -> Result<World> {
        let mut world = World::without_relay(name, |_| ()).await?;
        world.start_relay("").await?;
        Ok(world)
    }

    /// The same with a changed mapping document.
    pub async fn start_with(name: &str, change: impl FnOnce(&mut Json)) -> Result<World> {
        let mut world = World::without_relay(name, change).await?;
        world.start_relay("").await?;
        Ok(world)
    }

    /// Database, mapping and portal, but nobody between them yet.
    pub async fn without_relay(name: &str, change: impl FnOnce(&mut Json)) -> Result<World> {
        World::on(cluster::shared(), name, change).await
    }

    /// The same in a cluster of the test's own, which it may stop and restart.
    pub async fn on(cluster: &Cluster, name: &str, change: impl FnOnce(&mut Json)) -> Result<World> {
        World::with_portal(cluster, name, SimConfig::warp(), change).await
    }

    /// The same with another portal.
    pub async fn with_portal(
        cluster: &Cluster,
        name: &str,
        portal: SimConfig,
        change: impl FnOnce(&mut Json),
    ) -> Result<World> {
        hubspot_relay::install_crypto_provider();
        let sim = Simulator::start(portal).await?;
        let url = cluster.create_database(name).await?;
        let sql = connect(&url).await?;
        sql.batch_execute(CUSTOMERS).await?;
        let mut mapping: Json = serde_json::from_str(STRATEGY_MAPPING)?;
        change(&mut mapping);
        sql.query_one(
            "SELECT hubspot.import_mapping('customer', 'customers', 'companies', $1)",
            &[&mapping],
        )
        .await
        .context("import_mapping")?;
        sql.query_one("SELECT hubspot.arm($1)", &[&i64::try_from(sim.portal_id())?])
            .await?;
        Ok(World {
            sim,
            sql,
            url,
            relay: None,
        })
    }

    /// The settings of a relay for this world; `more` is TOML that is added at the end.
    pub fn config(&self, more: &str) -> Result<Config> {
        Config::from_toml(&self.config_toml(&self.url, more)).context("the test's relay settings")
    }

    /// The text of those settings, for a relay that reaches the database by `url`.
    ///
    /// Nothing is scheduled, so that no run falls into a test by the hour it is made at, unless `more` has a `[schedule]`.
    pub fn config_toml(&self, url: &str, more: &str) -> String {
        let schedule = match more.contains("[schedule]") {
            true => "",
            false => "[schedule]\nincremental = \"0s\"\nreconcile = \"off\"",
        };
        format!(
            r#"
[database]
url = "{url}"
pool_size = 4
[hubspot]
base_url = "{base}"
access_token = "{token}"
portal_id = {portal}
app_id = {app}
timeout = "3s"
[webhook]
listen = "127.0.0.1:0"
client_secret = "{secret}"
[admin]
listen = "127.0.0.1:0"
{schedule}
[retry]
initial_delay = "50ms"
max_delay = "500ms"
{more}
"#,
            base = self.sim.base_url(),
            token = self.sim.token(),
            portal = self.sim.portal_id(),
            app = self.sim.app_id(),
            secret = self.sim.client_secret(),
        )
    }

    /// Starts a relay and points HubSpot's webhooks at it.
    pub async fn start_relay(&mut self, more: &str) -> Result<()> {
        let relay = self.run_relay(more).await?;
        self.sim.set_webhook_url(Some(&relay.webhook_url));
        self.relay = Some(relay);
        Ok(())
    }

    /// Runs one more relay that the world does not own.
    pub async fn run_relay(&self, more: &str) -> Result<RunningRelay> {
        World::run_config(self.config(more)?).await
    }

    /// Runs a relay with these settings.
    pub async fn run_config(config: Config) -> Result<RunningRelay> {
        show_log();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        // Whatever it opens belongs to its own runtime.
        let relay = runtime.spawn(async move { Relay::bind(config).await }).await??;
        let webhook_url = format!("http://{}/v1/webhooks/hubspot/company", relay.webhook_address());
        let admin_url = format!("http://{}", relay.admin_address());
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = runtime.spawn(async move {
            if let Err(e) = relay.run(token).await {
                eprintln!("relay ended: {e}");
            }
        });
        Ok(RunningRelay {
            webhook_url,
            admin_url,
            stop,
            task,
            runtime: Some(runtime),
        })
    }

    /// The relay this world runs.
    pub fn relay(&self) -> Option<&RunningRelay> {
        self.relay.as_ref()
    }

    /// Takes the relay out of the world, to stop or crash it.
    pub fn take_relay(&mut self) -> Option<RunningRelay> {
        self.relay.take()
    }

    /// Points HubSpot's webhooks at a relay and keeps it.
    pub fn adopt_relay(&mut self, relay: RunningRelay) {
        self.sim.set_webhook_url(Some(&relay.webhook_url));
        self.relay = Some(relay);
    }

    /// The leases of relays that died run out now. Takes the lock that the relays' own calls take, so as not to meet them
    /// half-way through a batch.
    pub async fn age_leases(&self) -> Result<()> {
        self.sql
            .batch_execute(
                "SELECT pg_advisory_xact_lock(1213418579, 12);
                 UPDATE hubspot.queue SET lease_expires_at = clock_timestamp() - interval '1 second' WHERE claimed_by IS NOT NULL",
            )
            .await
            .context("age_leases")
    }

    /// Opens the application's session again, after the server was away.
    pub async fn reconnect(&mut self) -> Result<()> {
        self.sql = connect(&self.url).await?;
        Ok(())
    }

    /// A person sets a company's property in HubSpot.
    pub fn person_sets(&self, id: &str, property: &str, value: &str) -> Result<()> {
        self.sim
            .ui_set("companies", id, property, value)
            .map_err(|e| anyhow::anyhow!("{e:?}"))
    }

    /// A person creates a company in HubSpot; gives its id.
    pub fn person_creates(&self, properties: &[(&str, &str)]) -> Result<String> {
        self.sim
            .ui_create("companies", properties)
            .map_err(|e| anyhow::anyhow!("{e:?}"))
    }

    /// A count: `rest` is what follows `SELECT count(*)`.
    pub async fn count(&self, rest: &str) -> Result<i64> {
        let sql = format!("SELECT count(*) {rest}");
        Ok(self.sql.query_one(&sql, &[]).await.with_context(|| sql.clone())?.get(0))
    }

    /// The values of a company's property from the oldest to the newest version.
    pub fn versions(&self, id: &str, property: &str) -> Vec<String> {
        let newest_first = self.sim.history("companies", id, property);
        newest_first.into_iter().rev().map(|v| v.value).collect()
    }

    /// Outcomes of the ledger's entries of a field, in order; an entry that waits is `waiting`.
    pub async fn outcomes(&self, key: &str, field: &str) -> Result<Vec<String>> {
        let rows = self
            .sql
            .query(
                "SELECT coalesce(outcome, 'waiting') FROM hubspot.sync_log
                 WHERE entity_key = $1 AND field = $2 AND action = 'edit' ORDER BY id",
                &[&key, &field],
            )
            .await?;
        Ok(rows.iter().map(|r| r.get(0)).collect())
    }

    /// How often the log has this action for a field.
    pub async fn logged(&self, key: &str, field: &str, action: &str) -> Result<i64> {
        self.count(&format!(
            "FROM hubspot.sync_log WHERE entity_key = '{key}' AND field = '{field}' AND action = '{action}'"
        ))
        .await
    }

    /// Waits until an edit made now is later beyond doubt than all that were made before: HubSpot's timestamps are whole
    /// milliseconds, and `LATEST_WINS` calls edits a tie that are closer than the clocks can be compared, which a busy
    /// machine does badly. Twice the uncertainty, since the measured offset may itself be off by as much.
    pub async fn later(&self) -> Result<()> {
        let clock = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let now = self
            .text(&format!(
                "SELECT ({clock} + 2000 + 2 * coalesce((SELECT max(clock_uncertainty_us) FROM hubspot.binding), 0))::text"
            ))
            .await?
            .context("now")?;
        self.until(&format!("{clock} > {now}")).await
    }

    /// Inserts a customer; gives its key.
    pub async fn insert(&self, ban: &str, name: &str) -> Result<String> {
        let row = self
            .sql
            .query_one(
                "INSERT INTO customers (ban, company_name, status, contact, address) VALUES ($1, $2, 'ACTIVE', '{}', '{}') RETURNING id::text",
                &[&ban, &name],
            )
            .await?;
        Ok(row.get(0))
    }

    /// Inserts a customer and waits until both sides agree; gives its key and its HubSpot id.
    pub async fn linked(&self, ban: &str, name: &str) -> Result<(String, String)> {
        let key = self.insert(ban, name).await?;
        self.settle().await?;
        let id = self
            .hubspot_id(&key)
            .await?
            .with_context(|| format!("{ban} was not linked"))?;
        Ok((key, id))
    }

    /// The HubSpot id a row is linked to.
    pub async fn hubspot_id(&self, key: &str) -> Result<Option<String>> {
        let row = self
            .sql
            .query_opt("SELECT hubspot_id FROM hubspot.link WHERE entity_key = $1", &[&key])
            .await?;
        Ok(row.and_then(|r| r.get(0)))
    }

    /// One text of the database; null and no row are none.
    pub async fn text(&self, sql: &str) -> Result<Option<String>> {
        let row = self.sql.query_opt(sql, &[]).await.with_context(|| sql.to_owned())?;
        Ok(row.and_then(|r| r.get(0)))
    }

    /// An expression over a customer's row, as text.
    pub async fn row(&self, key: &str, expression: &str) -> Result<Option<String>> {
        self.text(&format!("SELECT ({expression})::text FROM customers WHERE id = {key}"))
            .await
    }

    /// Runs an update of a customer's row: `set` is the SET list.
    pub async fn update(&self, key: &str, set: &str) -> Result<()> {
        let n = self
            .sql
            .execute(&format!("UPDATE customers SET {set} WHERE id = {key}"), &[])
            .await?;
        anyhow::ensure!(n == 1, "customer {key} does not exist");
        Ok(())
    }

    /// A column of `hubspot.field_state`.
    pub async fn state(&self, key: &str, field: &str, column: &str) -> Result<Option<String>> {
        self.text(&format!(
            "SELECT {column}::text FROM hubspot.field_state WHERE entity_key = '{key}' AND field = '{field}'"
        ))
        .await
    }

    /// What HubSpot holds of a company.
    pub fn hubspot(&self, id: &str, property: &str) -> Option<String> {
        self.sim
            .get("companies", id)
            .and_then(|r| r.value(property).map(str::to_owned))
            .filter(|v| !v.is_empty())
    }

    /// Waits until the condition, an SQL expression, is true.
    pub async fn until(&self, condition: &str) -> Result<()> {
        let begun = Instant::now();
        let sql = format!("SELECT coalesce(({condition}), false)");
        loop {
            if self
                .sql
                .query_one(&sql, &[])
                .await
                .with_context(|| sql.clone())?
                .get::<_, bool>(0)
            {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("gave up waiting until {condition}\n{}", self.picture().await?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until HubSpot holds `expected` in a company's property.
    pub async fn until_hubspot(&self, id: &str, property: &str, expected: Option<&str>) -> Result<()> {
        let begun = Instant::now();
        while self.hubspot(id, property).as_deref() != expected {
            if begun.elapsed() > PATIENCE {
                bail!(
                    "gave up waiting until {property} of {id} is {expected:?}; it is {:?}\n{}",
                    self.hubspot(id, property),
                    self.picture().await?
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until nothing is on its way in either direction (conflicts may be open, failures parked).
    pub async fn settle(&self) -> Result<()> {
        for _ in 0..2 {
            self.until("NOT EXISTS (SELECT 1 FROM hubspot.outbox)").await?;
            self.sim.flush().await;
            self.until(
                "NOT EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE status IN ('pending', 'waiting'))
                 AND NOT EXISTS (SELECT 1 FROM hubspot.outbox)",
            )
            .await?;
        }
        Ok(())
    }

    /// What a person would look at first when a wait fails.
    pub async fn picture(&self) -> Result<String> {
        let mut out = String::new();
        for (title, sql) in [
            ("outbox", "SELECT to_jsonb(o)::text FROM hubspot.outbox o LIMIT 10"),
            (
                "field_state not in sync",
                "SELECT to_jsonb(s)::text FROM hubspot.field_state s WHERE status <> 'in_sync' LIMIT 20",
            ),
            (
                "failed_syncs",
                "SELECT to_jsonb(f)::text FROM hubspot.failed_syncs f LIMIT 10",
            ),
            (
                "webhook_events",
                "SELECT to_jsonb(e)::text FROM hubspot.webhook_events e WHERE status NOT IN ('applied', 'skipped') LIMIT 10",
            ),
            (
                "sync_log",
                "SELECT to_jsonb(l)::text FROM (SELECT * FROM hubspot.sync_log ORDER BY id DESC LIMIT 25) l",
            ),
        ] {
            out.push_str(&format!("--- {title}\n"));
            for row in self.sql.query(sql, &[]).await? {
                out.push_str(&row.get::<_, String>(0));
                out.push('\n');
            }
        }
        Ok(out)
    }
}
