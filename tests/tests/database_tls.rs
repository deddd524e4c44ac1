//! TLS to the database, and a list of hosts of which one is the primary.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, Result};
use hubspot_relay::Config;
use hubspot_sync_tests::cluster::{Cluster, connect};
use hubspot_sync_tests::world::World;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

/// An authority's certificate, and the certificate and key of a server called `localhost`.
fn certificates() -> Result<(String, String, String)> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &ca, &ca_key)?;
    Ok((ca.pem(), server.pem(), key.serialize_pem()))
}

/// Switches TLS on in a running cluster.
async fn serve_tls(cluster: &Cluster, certificate: &str, key: &str) -> Result<()> {
    let owner = fs::metadata(cluster.data_dir())?;
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        let path = cluster.data_dir().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        chown(&path, Some(owner.uid()), Some(owner.gid()))?;
    }
    let sql = connect(&cluster.superuser_url("postgres")).await?;
    sql.batch_execute("ALTER SYSTEM SET ssl = on").await?;
    sql.batch_execute("SELECT pg_reload_conf()").await?;
    for _ in 0..200 {
        if sql
            .query_one("SELECT current_setting('ssl')", &[])
            .await?
            .get::<_, &str>(0)
            == "on"
        {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    anyhow::bail!("the server did not take up TLS")
}

/// Settings of a relay that reaches the database as `localhost` or by address, with these parameters.
fn settings(world: &World, host: &str, parameters: &str) -> Result<Config> {
    let url = format!("{}?{parameters}", world.url.replace("127.0.0.1", host));
    Ok(Config::from_toml(&world.config_toml(&url, ""))?)
}

async fn database_ok(config: &Config) -> Result<bool> {
    let findings = hubspot_relay::check::check(config).await?;
    let finding = findings.iter().find(|f| f.what == "database").context("database")?;
    Ok(finding.ok)
}

fn write(dir: &Path, name: &str, text: &str) -> Result<String> {
    let path = dir.join(name);
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_reached_over_tls_and_its_certificate_checked_as_asked() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut world = World::on(&cluster, "tls", |_| ()).await?;
    let (ca, server, key) = certificates()?;
    let (other_ca, ..) = certificates()?;
    let dir = tempfile::tempdir()?;
    let (ca, other_ca) = (
        write(dir.path(), "ca.pem", &ca)?,
        write(dir.path(), "other.pem", &other_ca)?,
    );

    // A Unix socket never speaks TLS and has no name to check: the mode does not matter there.
    let socket = cluster.socket_dir().display().to_string().replace('/', "%2F");
    for mode in ["sslmode=prefer", "sslmode=require"] {
        assert!(database_ok(&settings(&world, &socket, mode)?).await?, "{mode}");
    }
    // Before the server can: prefer goes without, require does not.
    assert!(database_ok(&settings(&world, "127.0.0.1", "sslmode=prefer")?).await?);
    assert!(!database_ok(&settings(&world, "127.0.0.1", "sslmode=require")?).await?);
    serve_tls(&cluster, &server, &key).await?;
    for (host, parameters, works) in [
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}"), true),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={other_ca}"), false),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}"), false),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ca}"), true),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={other_ca}"),
            false,
        ),
        ("127.0.0.1", "sslmode=disable".to_owned(), true),
    ] {
        let config = settings(&world, host, &parameters)?;
        assert_eq!(database_ok(&config).await?, works, "{host} {parameters}");
    }

    // A whole sync over TLS, the listening connection included.
    let relay = World::run_config(settings(
        &world,
        "localhost",
        &format!("sslmode=verify-full&sslrootcert={ca}"),
    )?)
    .await?;
    world.adopt_relay(relay);
    world.linked("BAN-1", "Acme").await?;
    assert!(
        world
            .count("FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid) WHERE a.application_name = 'hubspot-relay' AND s.ssl")
            .await?
            >= 2
    );
    assert_eq!(
        world
            .count("FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid) WHERE a.application_name = 'hubspot-relay' AND NOT s.ssl")
            .await?,
        0
    );
    world.take_relay().context("the relay")?.stop().await;
    cluster.stop();
    Ok(())
}

/// Of several hosts the one that accepts writes is used, whatever the others are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writable_host_of_a_list_is_found() -> Result<()> {
    let closed = Cluster::start()?;
    let sql = connect(&closed.superuser_url("postgres")).await?;
    // Refuses writes, as a standby does.
    sql.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on")
        .await?;
    sql.batch_execute("SELECT pg_reload_conf()").await?;
    let mut world = World::without_relay("hosts", |_| ()).await?;
    let (before, database) = world.url.rsplit_once('/').context("url")?;
    let (scheme, host) = before.rsplit_once('@').context("url")?;
    // Nobody listens on the first, the second is no primary.
    let url = format!("{scheme}@127.0.0.1:1,127.0.0.1:{},{host}/{database}", closed.port());
    let relay = World::run_config(Config::from_toml(&world.config_toml(&url, ""))?).await?;
    world.adopt_relay(relay);
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.take_relay().context("the relay")?.stop().await;
    closed.stop();
    Ok(())
}
