//! People and applications: each edits records of its own on both sides, so that the order of a field's edits is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::sync::RwLock;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::fields::{self, FIELDS, Field, Rule};
use super::journal::{Journal, WarpEdit};
use super::{OBJECT, Pair};
use crate::cluster::connect;
use crate::simulator::Simulator;

/// Longest pause between two steps.
const PACE_MS: u64 = 50;
/// Longest time between the two edits of a step that edits a field on both sides.
const CLASH_MS: u64 = 600;
/// Share of such steps.
const CLASH: f64 = 0.35;
/// Share of the edits of a field HubSpot is authoritative for that are made in the row all the same.
const STRAY: f64 = 0.05;

/// Numbers the values, so that each is unique.
static VALUES: AtomicU64 = AtomicU64::new(1);

/// Microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Row,
    Hubspot,
}

impl Place {
    fn other(self) -> Place {
        match self {
            Place::Row => Place::Hubspot,
            Place::Hubspot => Place::Row,
        }
    }
}

/// One that edits.
pub(crate) struct Actor {
    sim: Simulator,
    url: String,
    own: Vec<(usize, Pair)>,
    rng: StdRng,
    journal: Journal,
    /// Held during a statement: the server is not taken down under it.
    calm: Arc<RwLock<()>>,
}

impl Actor {
    pub(crate) fn new(
        sim: Simulator,
        url: String,
        own: Vec<(usize, Pair)>,
        rng: StdRng,
        calm: Arc<RwLock<()>>,
    ) -> Self {
        Actor {
            sim,
            url,
            own,
            rng,
            journal: Journal::default(),
            calm,
        }
    }

    /// Edits until that instant.
    pub(crate) async fn run(mut self, until: Instant) -> Result<Journal> {
        let mut sql = connect(&self.url).await?;
        while Instant::now() < until && !self.own.is_empty() {
            let at = self.rng.random_range(0..self.own.len());
            let count = self.rng.random_range(1..=2);
            let every: Vec<usize> = (0..FIELDS.len()).collect();
            let chosen: Vec<usize> = every.choose_multiple(&mut self.rng, count).copied().collect();
            let place = if self.rng.random() { Place::Row } else { Place::Hubspot };
            self.edit(&mut sql, at, &chosen, place).await?;
            if self.rng.random_bool(CLASH) {
                self.pause(CLASH_MS).await;
                self.edit(&mut sql, at, &chosen, place.other()).await?;
            }
            self.pause(PACE_MS).await;
        }
        Ok(self.journal)
    }

    async fn pause(&mut self, longest_ms: u64) {
        let ms = self.rng.random_range(0..=longest_ms);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    async fn edit(&mut self, sql: &mut Client, at: usize, chosen: &[usize], place: Place) -> Result<()> {
        let stray = self.rng.random_bool(STRAY);
        let chosen: Vec<usize> = chosen
            .iter()
            .copied()
            .filter(|&index| match place {
                Place::Row => FIELDS[index].rule != Rule::HubspotOnly || stray,
                Place::Hubspot => FIELDS[index].in_hubspot(),
            })
            .collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let values: Vec<String> = chosen
            .iter()
            .map(|&index| FIELDS[index].value(VALUES.fetch_add(1, Ordering::Relaxed)))
            .collect();
        match place {
            Place::Row => {
                let calm = Arc::clone(&self.calm);
                let _calm = calm.read().await;
                // The server may have been away since the last statement.
                if sql.is_closed() || sql.simple_query("SELECT 1").await.is_err() {
                    *sql = connect(&self.url).await?;
                }
                self.edit_row(sql, at, &chosen, values).await
            }
            Place::Hubspot => self.edit_hubspot(at, &chosen, &values),
        }
    }

    async fn edit_row(&mut self, sql: &Client, at: usize, chosen: &[usize], values: Vec<String>) -> Result<()> {
        let (number, pair) = &self.own[at];
        let changed: Vec<&Field> = chosen.iter().map(|&index| &FIELDS[index]).collect();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&pair.key];
        parameters.extend(values.iter().map(|value| value as &(dyn ToSql + Sync)));
        let begun = now_us();
        let row = sql
            .query_one(&fields::update(&changed), &parameters)
            .await
            .with_context(|| format!("editing row {}", pair.key))?;
        let ended = now_us();
        for (n, (&index, value)) in chosen.iter().zip(values).enumerate() {
            self.journal.entry(*number, index).warp.push(WarpEdit {
                value,
                begun,
                ended,
                replaced: row.get(n),
            });
        }
        Ok(())
    }

    fn edit_hubspot(&mut self, at: usize, chosen: &[usize], values: &[String]) -> Result<()> {
        let (number, pair) = &self.own[at];
        let properties: Vec<(&str, &str)> = chosen
            .iter()
            .zip(values)
            .map(|(&index, value)| (FIELDS[index].property, value.as_str()))
            .collect();
        self.sim
            .ui_set_many(OBJECT, &pair.id, &properties)
            .map_err(|error| anyhow!("editing HubSpot's record {}: {error:?}", pair.id))?;
        for &index in chosen {
            self.journal.entry(*number, index).hubspot += 1;
        }
        Ok(())
    }
}
