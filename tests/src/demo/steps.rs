//! The steps without a conflict.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::screen::{Screen, thousands};
use super::view::{BALANCE, CITY, CREDIT_LIMIT, Customer, Field, NAME, SIDES, STATUS, STREET, ZIP};
use crate::world::World;

/// 1: WARP's field.
pub(super) async fn outbound(world: &World, screen: &mut Screen) -> Result<()> {
    screen.heading("1. WARP owns the balance: a change goes out");
    let customer = Customer::number(world, 1).await?;
    let mut lines = customer.lines(world, "before", &[BALANCE]).await?;
    customer.update(world, screen, "current_balance = 240.50").await?;
    world
        .until_hubspot(&customer.id, BALANCE.property, Some("240.5"))
        .await?;
    world.settle().await?;
    lines.extend(customer.lines(world, "after", &[BALANCE]).await?);
    screen.table(&SIDES, &lines);
    screen.equal("balance in HubSpot", customer.there(world, BALANCE), "240.5");
    screen.equal("balance in PostgreSQL", customer.here(world, BALANCE).await?, "240.50");

    screen.blank();
    screen.say("An edit of it in HubSpot does not come in. WARP's next change goes out over it.");
    let mut lines = customer.lines(world, "before", &[BALANCE]).await?;
    customer.edit(world, screen, BALANCE, "999")?;
    world.settle().await?;
    lines.extend(customer.lines(world, "after HubSpot's edit", &[BALANCE]).await?);
    let here = customer.here(world, BALANCE).await?;
    customer.update(world, screen, "current_balance = 250").await?;
    world.until_hubspot(&customer.id, BALANCE.property, Some("250")).await?;
    world.settle().await?;
    lines.extend(customer.lines(world, "after WARP's next", &[BALANCE]).await?);
    screen.table(&SIDES, &lines);
    screen.equal("balance in PostgreSQL after HubSpot's edit", here, "240.50");
    let skipped = format!(
        "SELECT count(*)::text FROM hubspot.sync_log
         WHERE entity_key = '{}' AND field = 'current_balance' AND action = 'skipped_by_direction'",
        customer.key
    );
    screen.equal(
        "edits in the log as skipped by direction",
        world.text(&skipped).await?,
        "1",
    );
    screen.equal(
        "balance in HubSpot after WARP's next",
        customer.there(world, BALANCE),
        "250",
    );
    Ok(())
}

/// 2: HubSpot's field, in other units.
pub(super) async fn inbound(world: &World, screen: &mut Screen) -> Result<()> {
    screen.heading("2. HubSpot owns the credit limit: a change comes in");
    screen.say("HubSpot keeps it in cents, PostgreSQL in dollars: the mapping names the transform.");
    let customer = Customer::number(world, 2).await?;
    let mut lines = customer.lines(world, "before", &[CREDIT_LIMIT]).await?;
    customer.edit(world, screen, CREDIT_LIMIT, "1234550")?;
    until_row(world, &customer, CREDIT_LIMIT, "12345.50").await?;
    world.settle().await?;
    lines.extend(customer.lines(world, "after", &[CREDIT_LIMIT]).await?);
    screen.table(&SIDES, &lines);
    screen.equal(
        "credit limit in PostgreSQL, dollars",
        customer.here(world, CREDIT_LIMIT).await?,
        "12345.50",
    );
    screen.equal(
        "credit limit in HubSpot, cents",
        customer.there(world, CREDIT_LIMIT),
        "1234550",
    );
    Ok(())
}

/// 3: a field of both.
pub(super) async fn both_ways(world: &World, screen: &mut Screen) -> Result<()> {
    screen.heading("3. Both own the company's name: each side changes it in turn");
    let customer = Customer::number(world, 3).await?;
    let mut lines = customer.lines(world, "before", &[NAME]).await?;
    customer
        .update(world, screen, "company_name = 'Customer 0003 North'")
        .await?;
    world
        .until_hubspot(&customer.id, NAME.property, Some("Customer 0003 North"))
        .await?;
    world.settle().await?;
    let there = customer.there(world, NAME);
    lines.extend(customer.lines(world, "after PostgreSQL's", &[NAME]).await?);

    customer.edit(world, screen, NAME, "Customer 0003 South")?;
    until_row(world, &customer, NAME, "Customer 0003 South").await?;
    world.settle().await?;
    let here = customer.here(world, NAME).await?;
    lines.extend(customer.lines(world, "after HubSpot's", &[NAME]).await?);
    screen.table(&SIDES, &lines);
    screen.equal("name in HubSpot after PostgreSQL's edit", there, "Customer 0003 North");
    screen.equal("name in PostgreSQL after HubSpot's edit", here, "Customer 0003 South");
    screen.equal(
        "name in HubSpot at the end",
        customer.there(world, NAME),
        "Customer 0003 South",
    );
    screen.equal(
        "conflicts",
        world.text("SELECT count(*)::text FROM hubspot.conflicts").await?,
        "0",
    );
    Ok(())
}

/// 5: a new row.
pub(super) async fn inserted(world: &World, screen: &mut Screen) -> Result<()> {
    screen.heading("5. A row is inserted: it becomes a company, and its id comes back");
    let companies = world.sim.records("companies").len();
    let insert = "INSERT INTO customers (ban, company_name, status) VALUES ('BAN-1001', 'Customer 1001', 'TRIAL');";
    screen.act("PostgreSQL", &insert.replace(" VALUES", "\nVALUES"));
    world.sql.batch_execute(insert).await?;
    world
        .until("SELECT external_ids->>'hubspot_company_id' IS NOT NULL FROM customers WHERE ban = 'BAN-1001'")
        .await?;
    world.settle().await?;
    let customer = Customer::number(world, 1001).await?;
    let held = world.row(&customer.key, "external_ids->>'hubspot_company_id'").await?;
    let company = world.sim.get("companies", &customer.id).context("the company")?;
    let mut lines = vec![vec![
        "before".to_owned(),
        String::new(),
        "no such row".to_owned(),
        format!("{} companies", thousands(companies)),
    ]];
    lines.extend(customer.lines(world, "after", &[NAME, STATUS]).await?);
    lines.push(vec![
        String::new(),
        "company id".to_owned(),
        held.clone().unwrap_or_else(|| "(empty)".to_owned()),
        company.id.clone(),
    ]);
    screen.table(&SIDES, &lines);
    screen.equal("external_ids in PostgreSQL holds the company's id", held, &company.id);
    screen.equal("BAN in HubSpot", company.value("warp_ban"), "BAN-1001");
    screen.equal(
        "companies with that BAN",
        Some(world.sim.find("companies", "warp_ban", "BAN-1001").len()),
        "1",
    );
    screen.equal(
        "companies in HubSpot",
        Some(world.sim.records("companies").len()),
        &(companies + 1).to_string(),
    );
    Ok(())
}

/// 6: one key of a jsonb column.
pub(super) async fn one_part(world: &World, screen: &mut Screen) -> Result<()> {
    screen.heading("6. One part of the address changes: that part alone moves");
    screen.say("The address is one jsonb column here and five properties there.");
    let customer = Customer::number(world, 6).await?;
    let fields = [STREET, CITY, ZIP];
    let versions = customer.versions(world).await?;
    let mut lines = customer.lines(world, "before", &fields).await?;
    customer
        .update(world, screen, "address = jsonb_set(address, '{city}', '\"Basel\"')\n")
        .await?;
    world.until_hubspot(&customer.id, CITY.property, Some("Basel")).await?;
    world.settle().await?;
    lines.extend(customer.lines(world, "after", &fields).await?);
    screen.table(&SIDES, &lines);
    screen.equal("city in HubSpot", customer.there(world, CITY), "Basel");
    let after = customer.versions(world).await?;
    let moved: Vec<&str> = after
        .iter()
        .filter(|(property, count)| versions.get(*property) != Some(count))
        .map(|(property, _)| property.as_str())
        .collect();
    screen.equal(
        &format!("of {} mapped properties, HubSpot has a new version of", after.len()),
        Some(moved.join(", ")),
        "city",
    );
    Ok(())
}

/// 7: a value nobody allows.
pub(super) async fn refused(world: &World, screen: &mut Screen) -> Result<()> {
    screen.heading("7. A value that nobody allows is parked; the rest goes on");
    screen.say("The mapping allows a status of ACTIVE, SUSPENDED, TRIAL or CLOSED.");
    let customer = Customer::number(world, 7).await?;
    let fields = [STATUS, NAME];
    let mut lines = customer.lines(world, "before", &fields).await?;
    customer
        .update(
            world,
            screen,
            "status = 'BROKEN',\ncompany_name = 'Customer 0007 West'\n",
        )
        .await?;
    world
        .until_hubspot(&customer.id, NAME.property, Some("Customer 0007 West"))
        .await?;
    world.settle().await?;
    lines.extend(customer.lines(world, "after", &fields).await?);
    screen.equal(
        "name in HubSpot went on",
        customer.there(world, NAME),
        "Customer 0007 West",
    );
    screen.equal("status in HubSpot stays", customer.there(world, STATUS), "ACTIVE");
    let failure = world
        .sql
        .query_opt(
            "SELECT field, kind, value, message FROM hubspot.failed_syncs WHERE entity_key = $1 AND status = 'open'",
            &[&customer.key],
        )
        .await?
        .context("hubspot.failed_syncs does not show the refused status")?;
    let text = |column: usize| failure.get::<_, Option<String>>(column).unwrap_or_default();
    screen.act(
        "PostgreSQL",
        "SELECT field, kind, value, message\nFROM hubspot.failed_syncs WHERE status = 'open';",
    );
    screen.table(&["field", "kind", "value"], &[(0..3).map(text).collect()]);
    screen.say(&format!("  message: {}", text(3)));
    screen.blank();
    screen.equal("parked field", Some(text(0)), "status");
    screen.equal("refused value", Some(text(2)), "BROKEN");

    screen.blank();
    screen.say("Somebody mends it:");
    customer.update(world, screen, "status = 'SUSPENDED'").await?;
    world
        .until_hubspot(&customer.id, STATUS.property, Some("SUSPENDED"))
        .await?;
    world.settle().await?;
    lines.extend(customer.lines(world, "mended", &fields).await?);
    screen.table(&SIDES, &lines);
    screen.equal("status in HubSpot", customer.there(world, STATUS), "SUSPENDED");
    let open = world
        .text("SELECT count(*)::text FROM hubspot.failed_syncs WHERE status = 'open'")
        .await?;
    screen.equal("failures still open", open, "0");
    Ok(())
}

/// 8: HubSpot's event about our own write.
pub(super) async fn echo(world: &World, screen: &mut Screen) -> Result<()> {
    screen.heading("8. HubSpot tells us about our own write: nothing happens");
    screen.say("HubSpot sends a webhook about every write, ours too. If that came back as a change,");
    screen.say("both sides would chase each other.");
    let customer = Customer::number(world, 8).await?;
    let mut lines = customer.lines(world, "before", &[BALANCE]).await?;
    world.sim.hold_webhooks();
    customer.update(world, screen, "current_balance = 88").await?;
    world.until_hubspot(&customer.id, BALANCE.property, Some("88")).await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.outbox)").await?;
    let held = world.sim.held_webhooks().len();
    let before = quiet(world, &customer).await?;
    screen.act(
        "HubSpot",
        &format!("sends the webhook: {held} event about our {}", BALANCE.property),
    );
    world.sim.release_webhooks();
    world
        .until(&format!(
            "(SELECT count(*) FROM hubspot.webhook_events) = {}",
            before.events + held
        ))
        .await?;
    world.settle().await?;
    // An echo that did cause something would show within this time.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    world.settle().await?;
    let after = quiet(world, &customer).await?;
    lines.extend(customer.lines(world, "after", &[BALANCE]).await?);
    screen.table(&SIDES, &lines);
    screen.equal("echoes received", Some(after.events - before.events), "1");
    screen.equal(
        "requests to HubSpot because of it",
        Some(after.requests - before.requests),
        "0",
    );
    screen.equal("edits captured because of it", Some(after.edits - before.edits), "0");
    screen.check(
        after.xmin == before.xmin,
        &format!("the row is untouched: version (xmin) {} before and after", after.xmin),
    );
    screen.equal("balance in HubSpot", customer.there(world, BALANCE), "88");
    Ok(())
}

/// What must not move while nothing happens.
struct Quiet {
    requests: usize,
    events: usize,
    edits: usize,
    xmin: String,
}

async fn quiet(world: &World, customer: &Customer) -> Result<Quiet> {
    let count = async |table: &str| -> Result<usize> {
        let text = world.text(&format!("SELECT count(*)::text FROM {table}")).await?;
        Ok(text.unwrap_or_default().parse()?)
    };
    let edits = format!(
        "hubspot.sync_log WHERE action = 'edit' AND entity_key = '{}'",
        customer.key
    );
    Ok(Quiet {
        requests: world
            .sim
            .requests()
            .iter()
            .filter(|it| it.path.contains("objects"))
            .count(),
        events: count("hubspot.webhook_events").await?,
        edits: count(&edits).await?,
        xmin: world.row(&customer.key, "xmin").await?.unwrap_or_default(),
    })
}

/// Waits until the row holds a value.
pub(super) async fn until_row(world: &World, customer: &Customer, field: Field, value: &str) -> Result<()> {
    ensure!(!value.contains('\''), "the demo's values need no quotes");
    world
        .until(&format!(
            "(SELECT ({})::text FROM customers WHERE id = {}) = '{value}'",
            field.row, customer.key
        ))
        .await
}
