//! `hubspot-relay check` and `provision`: what an account lacks is found, made, and not made twice.

use anyhow::{Context as _, Result};
use hubspot_relay::Config;
use hubspot_relay::check::{Finding, check};
use hubspot_relay::provision::provision;
use hubspot_sync_tests::cluster;
use hubspot_sync_tests::simulator::{Op, SimConfig};
use hubspot_sync_tests::world::World;

/// Settings with a public address.
fn settings(world: &World) -> Result<Config> {
    let text = world.config_toml(&world.url, "");
    let public = "[webhook]\npublic_url = \"https://sync.example.com\"\n";
    Config::from_toml(&text.replace("[webhook]\n", public)).context("settings")
}

/// The faults among the findings, a line each; each of them has a mend, and nothing else has.
fn faults(findings: &[Finding]) -> Vec<String> {
    for finding in findings {
        assert_eq!(finding.ok, finding.mend.is_none(), "{finding}");
    }
    let faults = findings.iter().filter(|finding| !finding.ok);
    faults.map(ToString::to_string).collect()
}

fn detail<'a>(findings: &'a [Finding], what: &str) -> Option<&'a str> {
    let found = findings.iter().find(|finding| finding.what == what)?;
    Some(&found.detail)
}

/// Calls that change the account.
fn changes(world: &World) -> usize {
    let changing = [
        Op::PropertyCreate,
        Op::PropertyUpdate,
        Op::GroupCreate,
        Op::SubscriptionCreate,
        Op::SubscriptionUpdate,
        Op::WebhookSettingsSet,
    ];
    changing.iter().map(|op| world.sim.count(*op)).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_account_is_provisioned_and_then_syncs() -> Result<()> {
    let portal = SimConfig {
        webhook_management: true,
        ..SimConfig::default()
    };
    let mut world = World::with_portal(cluster::shared(), "setup_empty", portal, |_| ()).await?;
    let config = settings(&world)?;

    let before = faults(&check(&config).await?);
    assert!(
        before
            .iter()
            .any(|fault| fault.contains("companies.warp_ban") && fault.contains("hubspot-relay provision")),
        "{before:#?}"
    );
    assert!(
        before
            .iter()
            .any(|fault| fault.contains("webhook company.propertyChange of name: not subscribed"))
    );
    assert!(before.iter().any(|fault| fault.contains("webhook target: not set")));

    // A dry run says the same and changes nothing.
    let planned = provision(&config, true).await?;
    assert_eq!(faults(&planned), Vec::<String>::new());
    assert_eq!(changes(&world), 0);
    assert_eq!(
        detail(&planned, "property companies.warp_ban"),
        Some("would be created")
    );

    let made = provision(&config, false).await?;
    assert_eq!(faults(&made), Vec::<String>::new());
    assert_eq!(detail(&made, "property companies.warp_ban"), Some("created"));
    assert_eq!(detail(&made, "webhook company.merge"), Some("subscribed"));
    assert_eq!(
        detail(&made, "webhook target"),
        Some("set to https://sync.example.com/v1/webhooks/hubspot")
    );
    let ban = world.sim.property("companies", "warp_ban").context("warp_ban")?;
    assert!(ban.unique && ban.kind == "string");
    let status = world.sim.property("companies", "warp_status").context("warp_status")?;
    assert_eq!((status.kind.as_str(), status.options.len()), ("enumeration", 4));
    let balance = world
        .sim
        .property("companies", "warp_current_balance")
        .context("balance")?;
    assert_eq!(balance.kind, "number");

    // Again: nothing is left to do, and check agrees.
    let calls = changes(&world);
    assert_eq!(faults(&provision(&config, false).await?), Vec::<String>::new());
    assert_eq!(changes(&world), calls);
    assert_eq!(faults(&check(&config).await?), Vec::<String>::new());

    // What was made is enough to work with, both ways.
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.person_sets(&id, "name", "Acme Ltd")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme Ltd' FROM customers WHERE id = {key})"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_are_added_beside_those_that_exist() -> Result<()> {
    let world = World::without_relay("setup_options", |mapping| {
        mapping["status"]["enum_values"] = serde_json::json!(["ACTIVE", "SUSPENDED", "TRIAL", "CLOSED", "PAUSED"]);
    })
    .await?;
    let config = settings(&world)?;
    let found = faults(&check(&config).await?);
    assert!(
        found.len() == 1 && found[0].contains("options lack PAUSED") && found[0].contains("hubspot-relay provision"),
        "{found:#?}"
    );
    // Somebody added one by hand that the mapping does not know: it stays.
    world.sim.add_option("companies", "warp_status", "BY_HAND")?;
    let made = provision(&config, false).await?;
    assert_eq!(faults(&made), Vec::<String>::new());
    assert_eq!(
        detail(&made, "property companies.warp_status"),
        Some("given the options PAUSED")
    );
    let status = world.sim.property("companies", "warp_status").context("warp_status")?;
    let values: Vec<&str> = status.options.iter().map(|option| option.value.as_str()).collect();
    assert_eq!(values, ["ACTIVE", "SUSPENDED", "TRIAL", "CLOSED", "BY_HAND", "PAUSED"]);
    // A token that may not manage webhooks is told what to make by hand.
    let webhooks = detail(&made, "webhooks").context("webhooks")?;
    assert!(webhooks.contains("company.propertyChange of name"), "{webhooks}");
    assert!(
        webhooks.contains("https://sync.example.com/v1/webhooks/hubspot"),
        "{webhooks}"
    );
    assert_eq!(faults(&check(&config).await?), Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_scopes_are_named() -> Result<()> {
    let portal = SimConfig {
        scopes: Some(vec!["crm.objects.companies.read".to_owned()]),
        warp: false,
        ..SimConfig::default()
    };
    let world = World::with_portal(cluster::shared(), "setup_scopes", portal, |_| ()).await?;
    let config = settings(&world)?;
    let findings = check(&config).await?;
    assert_eq!(detail(&findings, "right to read companies"), Some("granted"));
    let write = findings
        .iter()
        .find(|finding| finding.what == "right to write companies");
    let write = write.context("the right to write")?;
    let mend = write.mend.as_deref().context("a mend")?;
    assert!(!write.ok && mend.contains("crm.objects.companies.write"), "{write}");
    // Making properties needs a right of its own.
    let made = faults(&provision(&config, false).await?);
    assert!(
        made.iter().any(|fault| fault.contains("crm.schemas.companies.write")),
        "{made:#?}"
    );
    assert!(world.sim.property("companies", "warp_ban").is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_apart_are_found() -> Result<()> {
    let world = World::without_relay("setup_clocks", |_| ()).await?;
    let config = settings(&world)?;
    let findings = check(&config).await?;
    assert_eq!(faults(&findings), Vec::<String>::new());
    assert!(detail(&findings, "clock of HubSpot").is_some() && detail(&findings, "clock of the database").is_some());
    // Far more than any answer may take.
    world.sim.set_clock_offset(3_600_000);
    let found = faults(&check(&config).await?);
    assert!(
        found.len() == 1 && found[0].contains("clock of HubSpot") && found[0].contains("NTP"),
        "{found:#?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_made_in_a_portal_that_the_database_is_not_armed_for() -> Result<()> {
    let portal = SimConfig {
        webhook_management: true,
        ..SimConfig::default()
    };
    let world = World::with_portal(cluster::shared(), "setup_unarmed", portal, |_| ()).await?;
    world.sql.execute("SELECT hubspot.arm(4711)", &[]).await?;
    let found = faults(&provision(&settings(&world)?, false).await?);
    assert!(found.len() == 1 && found[0].contains("hubspot.arm"), "{found:#?}");
    assert_eq!(changes(&world), 0);

    // Webhooks that go somewhere else may be somebody else's.
    world
        .sql
        .execute("SELECT hubspot.arm($1)", &[&i64::try_from(world.sim.portal_id())?])
        .await?;
    world
        .sim
        .set_webhook_url(Some("https://other.example.com/v1/webhooks/hubspot"));
    let found = faults(&provision(&settings(&world)?, false).await?);
    assert!(found.len() == 1 && found[0].contains("other.example.com"), "{found:#?}");
    assert_eq!(world.sim.count(Op::WebhookSettingsSet), 0);
    assert_eq!(world.sim.count(Op::SubscriptionCreate), 0);
    Ok(())
}
