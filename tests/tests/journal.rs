//! HubSpot's webhooks journal: HubSpot's changes for a database that no webhook can reach.

use anyhow::{Context as _, Result};
use hubspot_relay::Config;
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;

/// The settings of an OAuth app that reads the journal.
fn reading(world: &World) -> Result<Config> {
    let sim = world.sim.config();
    let oauth = format!(
        "client_id = \"{}\"\nclient_secret = \"{}\"\nrefresh_token = \"{}\"\n",
        sim.client_id, sim.client_secret, sim.refresh_token
    );
    let token = format!("access_token = \"{}\"\n", world.sim.token());
    let text = world.config_toml(&world.url, "").replace(&token, &oauth);
    Config::from_toml(&format!("{text}[poll]\nmode = \"journal\"\ninterval = \"1s\"\n")).context("settings")
}

/// A world whose relay reads the journal; no webhook is sent.
async fn world(name: &str) -> Result<World> {
    let mut world = World::without_relay(name, |_| ()).await?;
    start(&mut world).await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_journal WHERE journal_offset IS NOT NULL)")
        .await?;
    // Or the comparison of the beginning finds a test's changes before the journal tells of them.
    compared(&world).await?;
    Ok(world)
}

/// Waits until no comparison is under way.
async fn compared(world: &World) -> Result<()> {
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)")
        .await
}

async fn start(world: &mut World) -> Result<()> {
    let relay = World::run_config(reading(world)?).await?;
    world.adopt_relay(relay);
    world.sim.set_webhook_url(None);
    Ok(())
}

async fn until_row(world: &World, key: &str, expression: &str, expected: &str) -> Result<()> {
    world
        .until(&format!(
            "(SELECT ({expression})::text FROM customers WHERE id = {key}) IS NOT DISTINCT FROM '{expected}'"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_come_in_and_own_writes_are_known_as_such() -> Result<()> {
    let world = world("journal_changes").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.person_sets(&id, "name", "Acme of HubSpot")?;
    until_row(&world, &key, "company_name", "Acme of HubSpot").await?;
    // Two writes of ours, read back together and late: neither is taken for somebody else's edit.
    world.update(&key, "company_name = 'Acme 3'").await?;
    world.until_hubspot(&id, "name", Some("Acme 3")).await?;
    world.update(&key, "company_name = 'Acme 4'").await?;
    world.until_hubspot(&id, "name", Some("Acme 4")).await?;
    let written =
        "FROM hubspot.webhook_events WHERE event->>'propertyName' = 'name' AND event->>'propertyValue' = 'Acme 4'";
    world
        .until(&format!(
            "EXISTS (SELECT 1 {written} AND status NOT IN ('pending', 'waiting'))"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Acme 4"));
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(
        world
            .text(&format!("SELECT event->>'changeSource' {written}"))
            .await?
            .as_deref(),
        Some("INTEGRATION"),
        "the history says who wrote it"
    );
    assert_eq!(
        world.outcomes(&key, "company_name").await?.last().map(String::as_str),
        Some("delivered")
    );
    assert_eq!(world.sim.deliveries().len(), 0, "no webhook was sent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_and_merges_are_told() -> Result<()> {
    let world = world("journal_records").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (other_key, other) = world.linked("BAN-2", "Other").await?;
    world
        .sim
        .ui_delete("companies", &id)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world
        .until(&format!(
            "(SELECT status = 'deleted_there' FROM hubspot.link WHERE entity_key = '{key}')"
        ))
        .await?;
    let double = world.person_creates(&[("name", "Double")])?;
    let survivor = world
        .sim
        .ui_merge("companies", &other, &double)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    assert_ne!(survivor, other, "HubSpot gives the survivor an id of its own");
    world
        .until(&format!(
            "(SELECT hubspot_id = '{survivor}' FROM hubspot.link WHERE entity_key = '{other_key}')"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_nobody_read_is_read_later() -> Result<()> {
    let mut world = world("journal_later").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.take_relay().context("the relay")?.crash().await;
    world.person_sets(&id, "phone", "+49 30 1")?;
    world.person_sets(&id, "name", "First")?;
    world.person_sets(&id, "name", "Second")?;
    let gaps = world.text("SELECT gaps::text FROM hubspot.webhook_journal").await?;
    // The crashed relay's lease has to end first.
    world
        .sql
        .batch_execute("UPDATE hubspot.webhook_journal SET lease_expires_at = clock_timestamp() - interval '1 second'")
        .await?;
    start(&mut world).await?;
    until_row(&world, &key, "company_name", "Second").await?;
    until_row(&world, &key, "contact->>'phone'", "+49 30 1").await?;
    assert_eq!(
        world.text("SELECT gaps::text FROM hubspot.webhook_journal").await?,
        gaps,
        "nothing was missed"
    );
    // The value between is on record too.
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'First')")
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_are_gone_are_made_up_for_by_comparing() -> Result<()> {
    let mut world = world("journal_gap").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .until("(SELECT journal_offset <> '' FROM hubspot.webhook_journal)")
        .await?;
    let gaps: i64 = world
        .count("FROM hubspot.webhook_journal, generate_series(1, gaps)")
        .await?;
    world.take_relay().context("the relay")?.stop().await;
    world.person_sets(&id, "name", "Changed in the dark")?;
    world.sim.forget_journal();
    start(&mut world).await?;
    until_row(&world, &key, "company_name", "Changed in the dark").await?;
    assert_eq!(
        world
            .count("FROM hubspot.webhook_journal, generate_series(1, gaps)")
            .await?,
        gaps + 1
    );
    assert_eq!(
        world
            .count("FROM hubspot.reconciliation_runs WHERE requested_by = 'webhooks journal' AND kind = 'full'")
            .await?,
        2,
        "at the beginning and for the gap"
    );
    // From then on it goes on as before.
    world.person_sets(&id, "name", "Seen again")?;
    until_row(&world, &key, "company_name", "Seen again").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_days_without_reading_are_a_gap_whatever_hubspot_answers() -> Result<()> {
    let mut world = world("journal_three_days").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.take_relay().context("the relay")?.stop().await;
    world.person_sets(&id, "name", "Long ago")?;
    world
        .sql
        .batch_execute("UPDATE hubspot.webhook_journal SET read_at = read_at - interval '73 hours'")
        .await?;
    start(&mut world).await?;
    until_row(&world, &key, "company_name", "Long ago").await?;
    world
        .until("(SELECT gaps = 2 AND last_gap_at IS NOT NULL FROM hubspot.webhook_journal)")
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_read_is_left_out_and_made_up_for() -> Result<()> {
    let world = world("journal_spoiled").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.spoil_journal_files(3);
    world.person_sets(&id, "name", "In a spoiled file")?;
    until_row(&world, &key, "company_name", "In a spoiled file").await?;
    world.until("(SELECT gaps = 2 FROM hubspot.webhook_journal)").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_relay_reads_and_another_follows_when_it_dies() -> Result<()> {
    let mut world = world("journal_two").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let reader = world.text("SELECT held_by FROM hubspot.webhook_journal").await?;
    let fence = world.text("SELECT fence::text FROM hubspot.webhook_journal").await?;
    let second = World::run_config(reading(&world)?).await?;
    world.until("(SELECT count(*) = 2 FROM hubspot.relay_status)").await?;
    world.person_sets(&id, "name", "Read by the first")?;
    until_row(&world, &key, "company_name", "Read by the first").await?;
    assert_eq!(world.text("SELECT held_by FROM hubspot.webhook_journal").await?, reader);
    world.take_relay().context("the relay")?.crash().await;
    world
        .sql
        .batch_execute("UPDATE hubspot.webhook_journal SET lease_expires_at = clock_timestamp() - interval '1 second'")
        .await?;
    world.person_sets(&id, "name", "Read by the second")?;
    until_row(&world, &key, "company_name", "Read by the second").await?;
    assert_ne!(world.text("SELECT held_by FROM hubspot.webhook_journal").await?, reader);
    // What the first would still bring is refused.
    let late: Option<i64> = world
        .sql
        .query_one(
            "SELECT hubspot.relay_journal_store($1, portal_id, $2::text::bigint, journal_offset, 'x', '[]', false) FROM hubspot.webhook_journal",
            &[&reader, &fence],
        )
        .await?
        .get(0);
    assert_eq!(late, None);
    second.stop().await;
    assert_eq!(world.text("SELECT held_by FROM hubspot.webhook_journal").await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_subscription_follows_the_mapping() -> Result<()> {
    let world = world("journal_subscriptions").await?;
    assert_eq!(world.sim.count(Op::JournalSubscriptionCreate), 1);
    assert_eq!(world.sim.count(Op::JournalSubscriptionDelete), 0);
    let found = hubspot_relay::check::check(&reading(&world)?).await?;
    let journal = found
        .iter()
        .find(|finding| finding.what == "webhooks journal")
        .context("a finding")?;
    assert!(journal.ok && journal.detail.contains("0 of 1"), "{journal}");
    world
        .sim
        .set_scopes(Some(&["crm.objects.companies.read", "crm.objects.companies.write"]));
    let found = hubspot_relay::check::check(&reading(&world)?).await?;
    let journal = found
        .iter()
        .find(|finding| finding.what == "webhooks journal")
        .context("a finding")?;
    assert!(
        !journal.ok
            && journal
                .mend
                .as_ref()
                .is_some_and(|mend| mend.contains("developer.webhooks_journal.read"))
    );
    Ok(())
}
