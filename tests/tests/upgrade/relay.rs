//! A relay beside a schema of another version.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;

/// A schema that is newer, older or of no known version is not worked with; the reason says what to do, and once that is done
/// the relay goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_refuses_a_schema_it_does_not_know_and_says_what_to_do() -> Result<()> {
    let mut world = World::without_relay("versions", |_| ()).await?;
    let set =
        |version: &str| format!("UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'hubspot_sync'");
    world.sql.batch_execute(&set("99.1.0")).await?;
    let key = world.insert("BAN-1", "Acme").await?;
    world.start_relay("").await?;
    let ready = format!("{}/readyz", world.relay().context("relay")?.admin_url);
    for (version, mend) in [
        ("99.1.0", "upgrade the relay"),
        ("0.0.1", "ALTER EXTENSION hubspot_sync UPDATE"),
        ("unreleased", "install a released version"),
    ] {
        world.sql.batch_execute(&set(version)).await?;
        let begun = std::time::Instant::now();
        loop {
            let answer = reqwest::get(&ready).await?;
            let (status, body) = (answer.status(), answer.text().await?);
            if status == 503 && body.contains(mend) {
                break;
            }
            anyhow::ensure!(begun.elapsed().as_secs() < 30, "{version}: {status} {body}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    assert_eq!(
        world.count("FROM hubspot.outbox WHERE state = 'captured'").await?,
        1,
        "it has worked all the same"
    );
    world.sql.batch_execute(&set(env!("CARGO_PKG_VERSION"))).await?;
    world.settle().await?;
    assert!(world.hubspot_id(&key).await?.is_some());
    Ok(())
}
