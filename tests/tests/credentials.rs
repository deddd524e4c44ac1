//! OAuth, and secrets that are rotated while the relay runs.

use std::path::Path;

use anyhow::{Context as _, Result};
use hubspot_relay::Config;
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;

/// The settings of an OAuth app instead of the static token.
fn oauth(world: &World, refresh_token: &Path) -> Result<Config> {
    let sim = world.sim.config();
    let oauth = format!(
        "client_id = \"{}\"\nclient_secret = \"{}\"\nrefresh_token_file = \"{}\"\n",
        sim.client_id,
        sim.client_secret,
        refresh_token.display()
    );
    let token = format!("access_token = \"{}\"\n", world.sim.token());
    Config::from_toml(&world.config_toml(&world.url, "").replace(&token, &oauth)).context("settings")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oauth_tokens_are_renewed_once_and_a_new_refresh_token_is_kept() -> Result<()> {
    let mut world = World::without_relay("oauth", |_| ()).await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("refresh_token");
    std::fs::write(&file, &world.sim.config().refresh_token)?;
    let relay = World::run_config(oauth(&world, &file)?).await?;
    world.adopt_relay(relay);
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    assert_eq!(world.sim.count(Op::Token), 1, "one token serves all calls");

    // The token ends before its time, while many calls need one; and HubSpot replaces the refresh token.
    world.sim.rotate_refresh_token("na1-second");
    world.sim.expire_tokens();
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name) SELECT 'MANY-' || n, 'Company ' || n FROM generate_series(1, 400) n",
        )
        .await?;
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.settle().await?;
    assert_eq!(world.sim.count(Op::Token), 2, "one renewal for all who needed it");
    assert_eq!(std::fs::read_to_string(&file)?, "na1-second");
    assert_eq!(world.sim.records("companies").len(), 401);
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    assert_eq!(
        world
            .count("FROM hubspot.field_state WHERE status <> 'in_sync'")
            .await?,
        0
    );

    // A relay that starts later uses what was kept.
    world.take_relay().context("the relay")?.stop().await;
    let relay = World::run_config(oauth(&world, &file)?).await?;
    world.adopt_relay(relay);
    world.update(&key, "company_name = 'Acme 3'").await?;
    world.until_hubspot(&id, "name", Some("Acme 3")).await?;
    assert_eq!(world.sim.count(Op::Token), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_refresh_token_stops_the_relay_until_it_is_replaced() -> Result<()> {
    let mut world = World::without_relay("oauth_revoked", |_| ()).await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("refresh_token");
    std::fs::write(&file, &world.sim.config().refresh_token)?;
    let relay = World::run_config(oauth(&world, &file)?).await?;
    world.adopt_relay(relay);
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.set_refresh_token("na1-other");
    world.sim.expire_tokens();
    world.update(&key, "company_name = 'Acme 2'").await?;
    let url = world.relay().context("the relay")?.admin_url.clone();
    until_metric(&url, "hubspot_relay_state{state=\"auth_failed\"} 1").await?;
    assert_eq!(
        world.count("FROM hubspot.failed_syncs").await?,
        0,
        "no record pays for it"
    );
    std::fs::write(&file, "na1-other")?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.settle().await?;
    until_metric(&url, "hubspot_relay_state{state=\"auth_failed\"} 0").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_access_token_is_taken_from_its_file() -> Result<()> {
    let mut world = World::without_relay("token_rotated", |_| ()).await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("token");
    std::fs::write(&file, world.sim.token())?;
    let plain = format!("access_token = \"{}\"\n", world.sim.token());
    let from_file = format!("access_token_file = \"{}\"\n", file.display());
    let text = world.config_toml(&world.url, "").replace(&plain, &from_file);
    let relay = World::run_config(Config::from_toml(&text)?).await?;
    world.adopt_relay(relay);
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let second = "pat-na1-second";
    world.sim.add_token(second, world.sim.app_id());
    std::fs::write(&file, second)?;
    let token = world.sim.token().to_owned();
    world.sim.revoke_token(&token);
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.settle().await?;
    let url = world.relay().context("the relay")?.admin_url.clone();
    until_metric(&url, "hubspot_relay_state{state=\"auth_failed\"} 0").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_client_secret_verifies_webhooks_and_so_does_the_former_for_a_while() -> Result<()> {
    let mut world = World::without_relay("secret_rotated", |_| ()).await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("secret");
    let first = world.sim.client_secret().to_owned();
    std::fs::write(&file, &first)?;
    let text = world.config_toml(&world.url, "").replace(
        &format!("client_secret = \"{first}\"\n"),
        &format!("client_secret_file = \"{}\"\n", file.display()),
    );
    let relay = World::run_config(Config::from_toml(&text)?).await?;
    world.adopt_relay(relay);
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    std::fs::write(&file, "the second secret")?;
    world.sim.set_client_secret("the second secret");
    // HubSpot repeats what is refused until the relay has read the file.
    world.person_sets(&id, "name", "Second")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Second' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.sim.set_client_secret(&first);
    let refused = world.sim.deliveries().iter().filter(|d| d.status == 401).count();
    world.person_sets(&id, "name", "First again")?;
    world
        .until(&format!(
            "(SELECT company_name = 'First again' FROM customers WHERE id = {key})"
        ))
        .await?;
    assert_eq!(
        world.sim.deliveries().iter().filter(|d| d.status == 401).count(),
        refused
    );
    assert_eq!(world.sim.given_up(), 0);
    Ok(())
}

/// Waits until the relay's metrics have this line.
async fn until_metric(admin_url: &str, line: &str) -> Result<()> {
    let seen = async {
        loop {
            let text = reqwest::get(format!("{admin_url}/metrics")).await?.text().await?;
            if text.lines().any(|found| found == line) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), seen)
        .await
        .with_context(|| format!("no {line}"))?
}
