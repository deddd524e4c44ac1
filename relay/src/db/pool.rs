//! Connections to the database. With several hosts in the URL the one that accepts writes is used.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Timeouts};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, Socket};

use super::error::DbError;
use super::tls::{Connector, Tls};
use crate::config::{ConfigError, Database};

/// Longest wait for a connection, made or free: a webhook must be answered within five seconds.
const CONNECTION_WAIT: Duration = Duration::from_secs(3);
/// A dead peer is noticed after this long without an acknowledgement.
const DEAD_PEER: Duration = Duration::from_secs(15);

/// Reads and completes the connection settings.
///
/// # Errors
/// When it is no libpq URL, or its TLS parameters are not understood.
pub(crate) fn parse_url(url: &SecretString) -> Result<(tokio_postgres::Config, Tls), ConfigError> {
    let key = "database.url";
    let (tls, rest) = Tls::take(url.expose_secret())?;
    let mut config: tokio_postgres::Config = rest.parse().map_err(|_| {
        ConfigError::new(
            key,
            "expected a libpq URL such as postgres://relay@db1,db2/app?target_session_attrs=read-write",
        )
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(ConfigError::new(key, "names no host"));
    }
    // A Unix socket needs no TLS and has no name to check: as libpq does, the mode is ignored there.
    let hosts = config.get_hosts();
    let local = !hosts.is_empty() && hosts.iter().all(|host| matches!(host, Host::Unix(_)));
    config.ssl_mode(if local { SslMode::Disable } else { tls.mode() });
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config.connect_timeout(
        config
            .get_connect_timeout()
            .copied()
            .unwrap_or(CONNECTION_WAIT)
            .min(CONNECTION_WAIT),
    );
    config
        .tcp_user_timeout(DEAD_PEER)
        .keepalives(true)
        .keepalives_idle(DEAD_PEER);
    if config.get_application_name().is_none() {
        config.application_name("hubspot-relay");
    }
    Ok((config, tls))
}

/// What a connection with TLS reads and writes.
pub(crate) type TlsStream = <Connector as MakeTlsConnect<Socket>>::Stream;

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    config: tokio_postgres::Config,
    tls: Connector,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Db")
    }
}

/// Connections of the admin page: people wait for it, so it takes none of those that carry changes.
const PAGE_CONNECTIONS: u32 = 2;
/// A screen's query that takes longer is given up by the server too. Unit: what PostgreSQL reads.
const PAGE_STATEMENT_TIMEOUT: &str = "-c statement_timeout=30s";

impl Db {
    /// A pool of two for the admin page.
    ///
    /// # Errors
    /// When the settings do not make a pool.
    pub fn for_pages(settings: &Database) -> Result<Self, ConfigError> {
        let (mut config, tls) = parse_url(&settings.url)?;
        let options = format!("{} {PAGE_STATEMENT_TIMEOUT}", config.get_options().unwrap_or_default());
        config.options(options.trim()).application_name("hubspot-relay page");
        Self::of(config, &tls, PAGE_CONNECTIONS)
    }

    /// A pool for the settings; connects when first used.
    ///
    /// # Errors
    /// When the settings do not make a pool.
    pub fn new(settings: &Database) -> Result<Self, ConfigError> {
        let (config, tls) = parse_url(&settings.url)?;
        Self::of(config, &tls, settings.pool_size)
    }

    fn of(config: tokio_postgres::Config, tls: &Tls, size: u32) -> Result<Self, ConfigError> {
        let tls = tls.connector()?;
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(config.clone(), tls.clone(), recycling);
        let timeouts = Timeouts {
            wait: Some(CONNECTION_WAIT),
            create: Some(CONNECTION_WAIT),
            recycle: Some(CONNECTION_WAIT),
        };
        let pool = Pool::builder(manager)
            .max_size(size as usize)
            .timeouts(timeouts)
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .build()
            .map_err(|error| ConfigError::new("database.pool_size", error.to_string()))?;
        Ok(Self { pool, config, tls })
    }

    /// A connection outside the pool, with what moves its bytes.
    pub(crate) async fn connect(&self) -> Result<(Client, Connection<Socket, TlsStream>), DbError> {
        Ok(self.config.connect(self.tls.clone()).await?)
    }

    /// A connection of the pool.
    pub(crate) async fn connection(&self) -> Result<Object, DbError> {
        use deadpool_postgres::PoolError;
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => DbError::Postgres(error),
            PoolError::Timeout(_) => DbError::NoConnection("none free or made in time".to_owned()),
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                DbError::NoConnection("the pool is closed".to_owned())
            }
        })
    }

    /// Drops the idle connections, for example because their server has become a standby.
    pub(crate) fn drop_connections(&self) {
        self.pool.retain(|_, _| false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<tokio_postgres::Config, ConfigError> {
        parse_url(&SecretString::from(url.to_owned())).map(|(config, _)| config)
    }

    #[test]
    fn several_hosts_and_the_writable_one() {
        let config = parse("postgres://relay:pw@db1:5432,db2:5433/app").unwrap();
        assert_eq!(config.get_hosts().len(), 2);
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(config.get_application_name(), Some("hubspot-relay"));
        assert!(parse("host=/var/run/postgresql dbname=app user=relay").is_ok());
    }

    #[test]
    fn a_wrong_url_is_refused_without_its_password() {
        let error = parse("postgres://relay:pw@db1/app?sslmode=perhaps")
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("database.url") && error.contains("sslmode") && !error.contains("pw"),
            "{error}"
        );
        assert!(parse("not a url").is_err());
    }
}
