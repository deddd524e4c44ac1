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

/// SIGHUP reads the files at once, also those that do not look changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reads_tokens_again_whose_files_look_as_before() -> Result<()> {
    // Without a handler the signal would end the test: there is one from here on, whatever the relay does.
    let _handler = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let mut world = World::without_relay("sighup", |_| ()).await?;
    let dir = tempfile::tempdir()?;
    let (token_file, admin_file) = (dir.path().join("token"), dir.path().join("admin"));
    let (former, second) = ("the-former-admin-token-0001", "the-second-admin-token-0002");
    let new_token = format!("pat-{}", "x".repeat(world.sim.token().len().saturating_sub(4)));
    std::fs::write(&token_file, world.sim.token())?;
    std::fs::write(&admin_file, former)?;
    let plain = format!("access_token = \"{}\"\n", world.sim.token());
    let from_file = format!("access_token_file = \"{}\"\n", token_file.display());
    let text = world.config_toml(&world.url, "").replace(&plain, &from_file).replace(
        "[admin]\n",
        &format!("[admin]\ntoken_file = \"{}\"\n", admin_file.display()),
    );
    let relay = World::run_config(Config::from_toml(&text)?).await?;
    world.adopt_relay(relay);
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let url = world.relay().context("the relay")?.admin_url.clone();
    assert_eq!(login(&url, former).await?, 303);
    assert_eq!(login(&url, second).await?, 401);

    world.sim.add_token(&new_token, world.sim.app_id());
    let old_token = world.sim.token().to_owned();
    world.sim.revoke_token(&old_token);
    for (file, secret) in [(&token_file, new_token.as_str()), (&admin_file, second)] {
        // In place, of the same length and with the same time: only the signal tells of it.
        let before = std::fs::metadata(file)?.modified()?;
        std::fs::write(file, secret)?;
        std::fs::File::options().write(true).open(file)?.set_modified(before)?;
    }
    let pid = std::process::id().to_string();
    let told = std::process::Command::new("kill").args(["-HUP", &pid]).status()?;
    anyhow::ensure!(told.success(), "kill");
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    let switched = async {
        while login(&url, second).await? != 303 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), switched)
        .await
        .context("the second admin token")??;
    assert_eq!(login(&url, former).await?, 401, "the former token still opens the page");
    Ok(())
}

/// The status that a login on the admin page is answered with.
async fn login(admin_url: &str, token: &str) -> Result<u16> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    let answer = client
        .post(format!("{admin_url}/login"))
        .header("origin", admin_url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("name=ada&token={token}&next=/"))
        .send()
        .await?;
    Ok(answer.status().as_u16())
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
