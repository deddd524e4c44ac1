//! What goes wrong between the two sides: requests, and the relay itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hubspot_relay::config::RequestsPer10s;
use hubspot_relay::{Config, Relay};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::database::Database;
use super::deck::{self, Deck};
use crate::simulator::{Fault, Op, Simulator};
use crate::world::World;

/// The latest a request is applied after its connection was closed.
pub(crate) const LONGEST_LATE: Duration = Duration::from_millis(1_500);

/// Pause between two faults of requests.
const FAULT_MS: std::ops::Range<u64> = 80..240;
/// Pause between two crashes.
const CRASH_MS: std::ops::Range<u64> = 2_500..5_000;
/// Pause between two outages of HubSpot.
const AWAY_MS: std::ops::Range<u64> = 4_000..9_000;
/// Pause between two outages of the database.
const OUTAGE_MS: std::ops::Range<u64> = 5_000..10_000;
/// Pause between two looks at open conflicts.
const RESOLVE: Duration = Duration::from_secs(1);
/// Open conflicts that a person decides at a time.
const RESOLVED: i64 = 3;

/// Picks some open conflicts.
const OPEN: &str = "SELECT id FROM hubspot.conflicts WHERE status = 'open' ORDER BY random() LIMIT $1";

/// No relay has a session in this database.
const NO_SESSION: &str = "NOT EXISTS (SELECT 1 FROM pg_stat_activity
  WHERE datname = current_database() AND application_name = 'hubspot-relay')";

/// A relay in a runtime of its own: taking the runtime away stops everything it does where it stands, as a crash does.
struct Victim(Option<Runtime>);

impl Drop for Victim {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Makes trouble and counts it.
pub(crate) struct Troubles {
    rng: StdRng,
    deck: Deck,
    calm: bool,
    config: Config,
    relays: Vec<Option<Victim>>,
    database: Option<Database>,
    counts: BTreeMap<&'static str, usize>,
    /// How far apart edits of the two sides had to be to be told apart, at most, microseconds.
    pub(crate) tie_us: i64,
}

impl Troubles {
    /// Starts the relay; the trouble starts with [`Troubles::run`].
    pub(crate) fn new(world: &World, settings: &Settings, database: Option<Database>) -> Result<Self> {
        // The settings end with the section `retry`. Faults are frequent here, and a record whose tries are used up would
        // wait for a person.
        let mut config = world.config("max_retries = 1000")?;
        config.hubspot.requests_per_10s = RequestsPer10s::Fixed(10_000);
        let mut troubles = Troubles {
            rng: StdRng::seed_from_u64(settings.seed ^ 0xbad),
            // A relay alone would be silent to the end.
            deck: Deck::new(
                settings.seed,
                settings.chaos,
                StdRng::seed_from_u64(settings.seed ^ 0xdec),
            ),
            calm: settings.calm,
            config,
            relays: (0..if database.is_some() { 2 } else { 1 }).map(|_| None).collect(),
            database,
            counts: BTreeMap::new(),
            tie_us: 0,
        };
        troubles.start_all(world)?;
        Ok(troubles)
    }

    fn start_all(&mut self, world: &World) -> Result<()> {
        for place in 0..self.relays.len() {
            self.start(world, place)?;
        }
        Ok(())
    }

    fn start(&mut self, world: &World, place: usize) -> Result<()> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let config = self.config.clone();
        let (tell, told) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let relay = match Relay::bind(config).await {
                Ok(relay) => relay,
                Err(error) => {
                    let _ = tell.send(Err(error));
                    return;
                }
            };
            let _ = tell.send(Ok(relay.webhook_address()));
            if let Err(error) = relay.run(CancellationToken::new()).await {
                eprintln!("the relay ended: {error}");
            }
        });
        let address = told
            .recv_timeout(Duration::from_secs(10))
            .context("the relay did not start")??;
        let url = format!("http://{address}/v1/webhooks/hubspot/company");
        world.sim.set_webhook_url(Some(&url));
        self.relays[place] = Some(Victim(Some(runtime)));
        Ok(())
    }

    /// Crashes the relays.
    pub(crate) fn stop(&mut self) {
        self.relays.iter_mut().for_each(|relay| *relay = None);
    }

    /// Crashes one of several relays and starts another in its place. Its leases are nobody's business: they end.
    async fn replace(&mut self, world: &World) -> Result<()> {
        let place = self.rng.random_range(0..self.relays.len());
        self.relays[place] = None;
        let pause = self.rng.random_range(50..400);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.start(world, place)
    }

    /// Crashes the relays, ends their leases and starts others.
    pub(crate) async fn restart(&mut self, world: &World) -> Result<()> {
        self.stop();
        let pause = self.rng.random_range(50..400);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // What the relay had asked the database for goes on after the crash, and may still commit.
        world.until(NO_SESSION).await?;
        world
            .sql
            .execute(
                "UPDATE hubspot.queue SET lease_expires_at = now() WHERE claimed_by IS NOT NULL",
                &[],
            )
            .await?;
        // Longer than any wait of a try: the limit of the day.
        world
            .sql
            .execute(
                "UPDATE hubspot.queue SET due_at = now() WHERE claimed_by IS NULL AND due_at > now() + interval '1 minute'",
                &[],
            )
            .await?;
        self.start_all(world)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Makes trouble until that instant.
    pub(crate) async fn run(&mut self, world: &mut World, until: Instant) -> Result<()> {
        let mut outage = Instant::now() + Duration::from_millis(self.rng.random_range(OUTAGE_MS));
        let mut crash = Instant::now() + Duration::from_millis(self.rng.random_range(CRASH_MS));
        let mut away = Instant::now() + Duration::from_millis(self.rng.random_range(AWAY_MS));
        let mut resolve = Instant::now() + RESOLVE;
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(FAULT_MS))).await;
            self.look_at_clocks(world).await?;
            if !self.calm && world.sim.pending_faults() < 2 {
                self.fault(world);
            }
            if !self.calm && Instant::now() > away {
                self.outage(world).await;
                away = Instant::now() + Duration::from_millis(self.rng.random_range(AWAY_MS));
            }
            if !self.calm && Instant::now() > crash {
                self.count("relay crashed");
                if self.relays.len() > 1 {
                    self.replace(world).await?;
                } else {
                    self.restart(world).await?;
                }
                crash = Instant::now() + Duration::from_millis(self.rng.random_range(CRASH_MS));
            }
            if let Some(database) = self.database.as_ref().filter(|_| Instant::now() > outage) {
                let what = database.trouble(world, &mut self.rng).await?;
                self.count(what);
                outage = Instant::now() + Duration::from_millis(self.rng.random_range(OUTAGE_MS));
            }
            if Instant::now() > resolve {
                self.resolve_some(world).await?;
                resolve = Instant::now() + RESOLVE;
            }
        }
        Ok(())
    }

    /// How well the product knows HubSpot's clock depends on how long its newest write took.
    pub(crate) async fn look_at_clocks(&mut self, world: &World) -> Result<()> {
        let found = world
            .sql
            .query_one("SELECT clock_uncertainty_us FROM hubspot.binding", &[])
            .await?;
        self.tie_us = self.tie_us.max(found.get(0));
        Ok(())
    }

    /// A person decides some open conflicts, for each side in turn. A conflict that is settled, or whose row is edited, at
    /// this very moment is refused, and the person lets it be.
    async fn resolve_some(&mut self, world: &World) -> Result<()> {
        for row in world.sql.query(OPEN, &[&RESOLVED]).await? {
            let id: i64 = row.get(0);
            let winner = if self.rng.random() { "WARP" } else { "HUBSPOT" };
            let decided = world
                .sql
                .query_one("SELECT hubspot.resolve_conflict($1, $2)", &[&id, &winner])
                .await;
            match decided {
                Ok(_) => {}
                Err(error) => match error.code() {
                    Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE | &SqlState::LOCK_NOT_AVAILABLE) => {}
                    _ => return Err(error).context("deciding a conflict"),
                },
            }
        }
        Ok(())
    }

    /// Plays the next fault.
    fn fault(&mut self, world: &World) {
        let (op, kind) = self.deck.draw();
        world.sim.fault(Fault { op, kind, times: 1 });
    }

    /// HubSpot is out for a moment: nothing is answered, not even a probe.
    async fn outage(&mut self, world: &World) {
        let (kind, ms) = self.deck.outage();
        world.sim.fault_by_chance(Op::Any, kind, 1.0);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        world.sim.clear_chance_faults();
        self.count("HubSpot out");
    }

    /// Faults by kind, those of requests as they were met.
    pub(crate) fn counted(&self, sim: &Simulator) -> Vec<(String, usize)> {
        let mut counts = met(sim);
        for (what, count) in &self.counts {
            *counts.entry((*what).to_owned()).or_default() += count;
        }
        counts.into_iter().collect()
    }

    /// Faults that should have been met and were not.
    pub(crate) fn unmet(&self, sim: &Simulator) -> Vec<String> {
        if self.calm {
            return Vec::new();
        }
        let met = met(sim);
        self.deck
            .due()
            .iter()
            .filter(|what| !met.contains_key(*what))
            .cloned()
            .collect()
    }
}

/// The faults that requests met, in words.
fn met(sim: &Simulator) -> BTreeMap<String, usize> {
    let mut met = BTreeMap::new();
    for (card, count) in sim.met_faults() {
        *met.entry(deck::label(card)).or_default() += count;
    }
    met
}
