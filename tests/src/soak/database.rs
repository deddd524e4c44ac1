//! What goes wrong with the database: restarts, crashes, and sessions that are killed.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::RwLock;

use crate::cluster::{Cluster, StopMode};
use crate::world::World;

/// A session of a relay, to be killed.
const SESSION: &str =
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'hubspot-relay'
  ORDER BY random() LIMIT 1";

/// The server under the soak.
#[derive(Debug)]
pub(crate) struct Database {
    cluster: Arc<Cluster>,
    /// Held for reading during each statement of the application's, for writing while the server goes down.
    calm: Arc<RwLock<()>>,
}

impl Database {
    pub(crate) fn new(cluster: Arc<Cluster>, calm: Arc<RwLock<()>>) -> Self {
        Self { cluster, calm }
    }

    /// Takes the server down in one of three ways and waits until it answers again; says which.
    pub(crate) async fn trouble(&self, world: &mut World, rng: &mut StdRng) -> Result<&'static str> {
        let way = rng.random_range(0..3);
        let _nobody = self.calm.write().await;
        let cluster = Arc::clone(&self.cluster);
        let what = match way {
            0 => {
                tokio::task::spawn_blocking(move || cluster.restart(StopMode::Immediate)).await??;
                "database stopped at once"
            }
            1 => {
                tokio::task::spawn_blocking(move || cluster.restart(StopMode::Fast)).await??;
                "database restarted"
            }
            _ => {
                // The server ends all sessions after one was killed, and recovers from the write-ahead log.
                if let Some(row) = world.sql.query_opt(SESSION, &[]).await? {
                    let pid: i32 = row.get(0);
                    let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
                    anyhow::ensure!(status.success(), "session {pid} cannot be killed");
                }
                "database session killed"
            }
        };
        self.back(world).await?;
        Ok(what)
    }

    async fn back(&self, world: &mut World) -> Result<()> {
        for _ in 0..600 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            if world.reconnect().await.is_ok() && world.sql.simple_query("SELECT 1").await.is_ok() {
                return Ok(());
            }
        }
        world.reconnect().await.context("the server does not come back")
    }
}
