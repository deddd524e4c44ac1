//! The step in which both sides change the same fields at once.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value as Json, json};

use super::screen::Screen;
use super::steps::until_row;
use super::view::{Customer, EMAIL, Field, LEGAL_NAME, NAME, PHONE, SIDES};
use crate::world::{STRATEGY_MAPPING, World};

/// The fields, their strategies, and who has to win.
const FIELDS: [(Field, &str, &str, &str); 4] = [
    (NAME, "company_name", "WARP_WINS", "WARP"),
    (LEGAL_NAME, "legal_name", "HUBSPOT_WINS", "HUBSPOT"),
    (PHONE, "contact_phone", "LATEST_WINS", "HUBSPOT"),
    (EMAIL, "contact_email", "MANUAL", ""),
];

/// Far more than the clocks of both sides can differ unnoticed.
const CLEARLY_LATER: Duration = Duration::from_secs(1);

/// 4: each strategy, and a person's decision.
pub(super) async fn at_once(world: &World, screen: &mut Screen) -> Result<()> {
    screen.heading("4. Both sides change the same field at once");
    screen.say("The mapping says who wins, field by field. To show every strategy, it is imported");
    screen.say("again with these:");
    let strategy: Json = serde_json::from_str(STRATEGY_MAPPING)?;
    let mut mapping = strategy.clone();
    for (_, entry, strategy, _) in FIELDS {
        mapping[entry]["conflict_resolution"] = json!(strategy);
    }
    super::import(world, &mapping).await?;
    screen.table(
        &["field", "strategy"],
        &FIELDS
            .iter()
            .map(|(field, _, strategy, _)| vec![field.name.to_owned(), (*strategy).to_owned()])
            .collect::<Vec<_>>(),
    );

    let customer = Customer::number(world, 4).await?;
    let fields = FIELDS.map(|(field, ..)| field);
    let mut lines = customer.lines(world, "before", &fields).await?;
    screen.say("The relay is paused, so that neither side hears of the other.");
    screen.say("PostgreSQL edits first, HubSpot a second later.");
    pause(world, screen).await?;
    customer
        .update(
            world,
            screen,
            "company_name = 'Customer 0004 W',
             legal_name = 'Customer 0004 W Ltd',
             contact = '{\"email\": \"w.example.com\", \"phone\": \"+1 555 1111\"}'
",
        )
        .await?;
    tokio::time::sleep(CLEARLY_LATER).await;
    customer.edit(world, screen, NAME, "Customer 0004 H")?;
    customer.edit(world, screen, LEGAL_NAME, "Customer 0004 H Ltd")?;
    customer.edit(world, screen, PHONE, "+1 555 2222")?;
    customer.edit(world, screen, EMAIL, "h.example.com")?;
    lines.extend(customer.lines(world, "while paused", &fields).await?);
    resume(world, screen).await?;
    world
        .until_hubspot(&customer.id, NAME.property, Some("Customer 0004 W"))
        .await?;
    until_row(world, &customer, LEGAL_NAME, "Customer 0004 H Ltd").await?;
    until_row(world, &customer, PHONE, "+1 555 2222").await?;
    world.settle().await?;
    lines.extend(customer.lines(world, "after", &fields).await?);
    screen.table(&SIDES, &lines);
    agreed(world, screen, &customer, NAME, "WARP_WINS", "Customer 0004 W").await?;
    agreed(
        world,
        screen,
        &customer,
        LEGAL_NAME,
        "HUBSPOT_WINS",
        "Customer 0004 H Ltd",
    )
    .await?;
    agreed(
        world,
        screen,
        &customer,
        PHONE,
        "LATEST_WINS, HubSpot's was later",
        "+1 555 2222",
    )
    .await?;
    screen.check(
        customer.here(world, EMAIL).await?.as_deref() == Some("w.example.com")
            && customer.there(world, EMAIL).as_deref() == Some("h.example.com"),
        "MANUAL: each side keeps its own contact.email until a person decides",
    );
    let open = kept(world, screen, &customer).await?;
    decide(world, screen, &customer, open).await?;
    later_in_postgres(world, screen).await?;

    super::import(world, &strategy).await?;
    let row = world
        .sql
        .query_one("SELECT hubspot.export_mapping('customer')", &[])
        .await?;
    screen.check(
        row.get::<_, Json>(0) == strategy,
        "the strategy's own mapping is imported again",
    );
    Ok(())
}

/// What is on record of the four conflicts; gives the open one.
async fn kept(world: &World, screen: &mut Screen, customer: &Customer) -> Result<i64> {
    screen.blank();
    screen.say("Every conflict is on record with both values, so no losing edit is lost:");
    let rows = world
        .sql
        .query(
            "SELECT id, field, strategy::text, warp_value, hubspot_value, status, coalesce(winner, '')
             FROM hubspot.conflicts WHERE entity_key = $1 ORDER BY array_position($2::text[], field)",
            &[&customer.key, &FIELDS.map(|(_, entry, ..)| entry).as_slice()],
        )
        .await?;
    screen.act(
        "PostgreSQL",
        "SELECT field, warp_value, hubspot_value, status, winner\nFROM hubspot.conflicts;",
    );
    let text = |row: &tokio_postgres::Row, column: usize| row.get::<_, Option<String>>(column).unwrap_or_default();
    screen.table(
        &["field", "warp_value", "hubspot_value", "status", "winner"],
        &rows
            .iter()
            .map(|row| [1, 3, 4, 5, 6].map(|column| text(row, column)).to_vec())
            .collect::<Vec<_>>(),
    );
    let found: Vec<[String; 3]> = rows
        .iter()
        .map(|row| [1, 2, 6].map(|column| text(row, column)))
        .collect();
    let expected: Vec<[String; 3]> = FIELDS
        .iter()
        .map(|(_, entry, strategy, winner)| [entry, strategy, winner].map(|it| (*it).to_owned()))
        .collect();
    screen.check(
        found == expected,
        "one conflict for each field, with the winner its strategy names",
    );
    let open: Vec<i64> = rows
        .iter()
        .filter(|row| text(row, 5) == "open")
        .map(|row| row.get(0))
        .collect();
    screen.equal("open conflicts", Some(open.len()), "1");
    open.first().copied().context("no conflict is open for a person")
}

/// A person resolves the open one.
async fn decide(world: &World, screen: &mut Screen, customer: &Customer, open: i64) -> Result<()> {
    let mut lines = customer.lines(world, "open", &[EMAIL]).await?;
    screen.blank();
    screen.say("A person decides for HubSpot's contact.email:");
    screen.act(
        "PostgreSQL",
        &format!("SELECT hubspot.resolve_conflict({open}, 'HUBSPOT');"),
    );
    world
        .sql
        .query_one("SELECT hubspot.resolve_conflict($1, 'HUBSPOT')", &[&open])
        .await
        .context("resolve_conflict")?;
    until_row(world, customer, EMAIL, "h.example.com").await?;
    world.settle().await?;
    lines.extend(customer.lines(world, "decided", &[EMAIL]).await?);
    screen.table(&SIDES, &lines);
    agreed(world, screen, customer, EMAIL, "MANUAL", "h.example.com").await?;
    let by = world
        .text(&format!(
            "SELECT winner || ', by ' || resolved_by FROM hubspot.conflicts WHERE id = {open}"
        ))
        .await?;
    screen.equal("the conflict's winner", by, "HUBSPOT, by postgres");
    Ok(())
}

/// LATEST_WINS the other way round.
async fn later_in_postgres(world: &World, screen: &mut Screen) -> Result<()> {
    screen.blank();
    screen.say("LATEST_WINS the other way round: HubSpot first, PostgreSQL a second later.");
    let customer = Customer::number(world, 5).await?;
    let mut lines = customer.lines(world, "before", &[PHONE]).await?;
    pause(world, screen).await?;
    customer.edit(world, screen, PHONE, "+1 555 3333")?;
    tokio::time::sleep(CLEARLY_LATER).await;
    customer
        .update(
            world,
            screen,
            "contact = jsonb_set(contact, '{phone}', '\"+1 555 4444\"')\n",
        )
        .await?;
    lines.extend(customer.lines(world, "while paused", &[PHONE]).await?);
    resume(world, screen).await?;
    world
        .until_hubspot(&customer.id, PHONE.property, Some("+1 555 4444"))
        .await?;
    world.settle().await?;
    lines.extend(customer.lines(world, "after", &[PHONE]).await?);
    screen.table(&SIDES, &lines);
    agreed(
        world,
        screen,
        &customer,
        PHONE,
        "LATEST_WINS, PostgreSQL's was later",
        "+1 555 4444",
    )
    .await?;
    let winner = world
        .text(&format!(
            "SELECT string_agg(winner, ', ') FROM hubspot.conflicts WHERE entity_key = '{}'",
            customer.key
        ))
        .await?;
    screen.equal("the conflict's winner", winner, "WARP");
    Ok(())
}

async fn pause(world: &World, screen: &Screen) -> Result<()> {
    screen.act("PostgreSQL", "SELECT hubspot.pause();");
    world.sql.query_one("SELECT hubspot.pause()", &[]).await?;
    world.sim.hold_webhooks();
    Ok(())
}

async fn resume(world: &World, screen: &Screen) -> Result<()> {
    screen.act("PostgreSQL", "SELECT hubspot.resume();");
    world.sql.query_one("SELECT hubspot.resume()", &[]).await?;
    world.sim.release_webhooks();
    Ok(())
}

/// Checks that both sides hold a value.
async fn agreed(
    world: &World,
    screen: &mut Screen,
    customer: &Customer,
    field: Field,
    why: &str,
    value: &str,
) -> Result<()> {
    let (here, there) = (customer.here(world, field).await?, customer.there(world, field));
    let what = format!("{why}: {} on both sides", field.name);
    if here == there {
        screen.equal(&what, here, value);
    } else {
        screen.check(
            false,
            &format!("{what}: found {here:?} and {there:?} instead of {value}"),
        );
    }
    Ok(())
}
