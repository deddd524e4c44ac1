//! The threat list of `extension/README.md`, line by line: who could want what, and what stops it.
//!
//! Every attempt shows first that it was made: a trigger that never fired proves nothing. Hostile code tells the server's log
//! who it ran as (`RAISE LOG` is neither rolled back nor forbidden anywhere), and tries to become a superuser.

mod definers;
mod depth;
mod escapes;
mod install;
mod list;
mod names;
mod roles;
mod routes;
mod temporary;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::{self, connect};
use hubspot_sync_tests::world::World;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// A session of a role in the world's database.
async fn session(world: &World, role: &str) -> Result<Client> {
    let database = world.url.rsplit('/').next().context("database")?;
    connect(&cluster::shared().url(role, database)).await
}

/// A role that may log in, with a schema of its own, and the probe that all its hostile code calls.
///
/// The probe writes `PROBE <role> <route> <current user>` to the server's log and tries what only a superuser can.
async fn attacker(sql: &Client, role: &str) -> Result<()> {
    sql.batch_execute(&format!(
        "CREATE ROLE {role} LOGIN; CREATE SCHEMA {role} AUTHORIZATION {role}; SET ROLE {role};
         CREATE FUNCTION {role}.probe(route text) RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN
           RAISE LOG 'PROBE {role} % %', route, current_user;
           BEGIN
             EXECUTE 'ALTER ROLE {role} SUPERUSER';
           EXCEPTION WHEN OTHERS THEN
             NULL;
           END;
           RETURN true;
         END $$;
         RESET ROLE"
    ))
    .await
    .context("attacker")
}

/// Which routes of a role's hostile code ran, and as whom: `route user`.
fn probes(role: &str) -> Result<BTreeSet<String>> {
    let marker = format!("PROBE {role} ");
    let log = cluster::shared().log()?;
    Ok(log
        .lines()
        .filter(|line| line.contains("LOG:"))
        .filter_map(|line| line.split_once(&marker).map(|(_, rest)| rest.trim().to_owned()))
        .collect())
}

/// The role has not become a superuser.
async fn is_plain(sql: &Client, role: &str) -> Result<()> {
    let row = sql
        .query_one("SELECT rolsuper FROM pg_roles WHERE rolname = $1", &[&role])
        .await?;
    assert!(!row.get::<_, bool>(0), "{role} has become a superuser");
    Ok(())
}

/// Runs a statement that must be refused; gives its message.
async fn refused(sql: &Client, statement: &str, state: &SqlState) -> Result<String> {
    let error = sql
        .batch_execute(statement)
        .await
        .err()
        .with_context(|| format!("{statement} was allowed"))?;
    assert_eq!(error.code(), Some(state), "{statement}: {error:?}");
    Ok(error.as_db_error().map(|e| e.message().to_owned()).unwrap_or_default())
}
