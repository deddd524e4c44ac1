//! Each of the strategy's 13 entries, end to end, in the direction it declares.

use anyhow::Result;
use hubspot_sync_tests::world::{STRATEGY_MAPPING, World};
use serde_json::Value as Json;

/// A WARP-authoritative field: the row's change reaches HubSpot, HubSpot's change does not reach the row.
async fn warp_to_hubspot(
    name: &str,
    set: &str,
    property: &str,
    sent: &str,
    column: &str,
    field: &str,
    foreign: &str,
) -> Result<()> {
    let world = World::start(name).await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, set).await?;
    world.until_hubspot(&id, property, Some(sent)).await?;
    world.settle().await?;
    assert_eq!(world.state(&key, field, "status").await?.as_deref(), Some("in_sync"));
    let before = world.row(&key, column).await?;
    world
        .sim
        .ui_set("companies", &id, property, foreign)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world.settle().await?;
    assert_eq!(
        world.row(&key, column).await?,
        before,
        "HubSpot's change of a WARP-authoritative field reached the row"
    );
    let skipped = world
        .text(&format!("SELECT count(*)::text FROM hubspot.sync_log WHERE entity_key = '{key}' AND field = '{field}' AND action = 'skipped_by_direction'"))
        .await?;
    assert_eq!(skipped.as_deref(), Some("1"));
    Ok(())
}

/// A HubSpot-authoritative field: HubSpot's change reaches the row, the row's change does not reach HubSpot.
async fn hubspot_to_warp(
    name: &str,
    property: &str,
    there: &str,
    column: &str,
    here: &str,
    field: &str,
    set: &str,
) -> Result<()> {
    let world = World::start(name).await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .sim
        .ui_set("companies", &id, property, there)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world
        .until(&format!(
            "(SELECT {column}::text FROM customers WHERE id = {key}) = '{here}'"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.state(&key, field, "status").await?.as_deref(), Some("in_sync"));
    assert_eq!(world.state(&key, field, "hubspot_value").await?.as_deref(), Some(there));
    world.update(&key, set).await?;
    // A real-time field changed afterwards in the same row is delivered; the skipped one is not.
    world.update(&key, "company_name = 'Later'").await?;
    world.until_hubspot(&id, "name", Some("Later")).await?;
    world.settle().await?;
    assert_eq!(world.hubspot(&id, property).as_deref(), Some(there));
    let outcome = world
        .text(&format!("SELECT outcome FROM hubspot.sync_log WHERE entity_key = '{key}' AND field = '{field}' AND action = 'edit' ORDER BY id DESC LIMIT 1"))
        .await?;
    assert_eq!(outcome.as_deref(), Some("skipped"));
    Ok(())
}

/// A bidirectional field: changed on each side in turn.
async fn bidirectional(
    name: &str,
    set: &str,
    property: &str,
    sent: &str,
    column: &str,
    field: &str,
    there: &str,
) -> Result<()> {
    let world = World::start(name).await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, set).await?;
    world.until_hubspot(&id, property, Some(sent)).await?;
    world.settle().await?;
    world
        .sim
        .ui_set("companies", &id, property, there)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world
        .until(&format!(
            "(SELECT {column} FROM customers WHERE id = {key}) = '{there}'"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.hubspot(&id, property).as_deref(), Some(there));
    for (column, expected) in [
        ("status", "in_sync"),
        ("warp_value", there),
        ("base_value", there),
        ("hubspot_value", there),
    ] {
        assert_eq!(
            world.state(&key, field, column).await?.as_deref(),
            Some(expected),
            "field_state.{column}"
        );
    }
    assert_eq!(
        world
            .text("SELECT count(*)::text FROM hubspot.conflicts")
            .await?
            .as_deref(),
        Some("0")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mapping_imports_verbatim_and_exports_equal() -> Result<()> {
    let world = World::without_relay("verbatim", |_| ()).await?;
    let given: Json = serde_json::from_str(STRATEGY_MAPPING)?;
    let row = world
        .sql
        .query_one("SELECT hubspot.export_mapping('customer')", &[])
        .await?;
    assert_eq!(row.get::<_, Json>(0), given);
    assert_eq!(given.as_object().map(serde_json::Map::len), Some(13));
    assert_eq!(
        world
            .text("SELECT count(*)::text FROM hubspot.field_mapping WHERE active")
            .await?
            .as_deref(),
        Some("17")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ban_goes_out() -> Result<()> {
    warp_to_hubspot("ban", "ban = 'BAN-2'", "warp_ban", "BAN-2", "ban", "ban", "BAN-X").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn current_balance_goes_out() -> Result<()> {
    warp_to_hubspot(
        "current_balance",
        "current_balance = 12.50",
        "warp_current_balance",
        "12.5",
        "current_balance",
        "current_balance",
        "99",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepaid_balance_goes_out() -> Result<()> {
    warp_to_hubspot(
        "prepaid_balance",
        "prepaid_balance = 7",
        "warp_prepaid_balance",
        "7",
        "prepaid_balance",
        "prepaid_balance",
        "99",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_goes_out() -> Result<()> {
    warp_to_hubspot(
        "status",
        "status = 'SUSPENDED'",
        "warp_status",
        "SUSPENDED",
        "status",
        "status",
        "CLOSED",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tier_comes_in() -> Result<()> {
    hubspot_to_warp(
        "tier",
        "warp_tier",
        "PREMIUM",
        "tier",
        "PREMIUM",
        "tier",
        "tier = 'STANDARD'",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_limit_comes_in_as_dollars() -> Result<()> {
    hubspot_to_warp(
        "credit_limit",
        "warp_credit_limit",
        "1234550",
        "credit_limit",
        "12345.50",
        "credit_limit",
        "credit_limit = 1",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payment_terms_come_in() -> Result<()> {
    hubspot_to_warp(
        "payment_terms",
        "warp_payment_terms",
        "NET30",
        "payment_terms",
        "NET30",
        "payment_terms",
        "payment_terms = 'NET60'",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn company_name_goes_both_ways() -> Result<()> {
    bidirectional(
        "company_name",
        "company_name = 'Acme Two'",
        "name",
        "Acme Two",
        "company_name",
        "company_name",
        "Acme Three",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legal_name_goes_both_ways() -> Result<()> {
    bidirectional(
        "legal_name",
        "legal_name = 'Acme Ltd'",
        "warp_legal_name",
        "Acme Ltd",
        "legal_name",
        "legal_name",
        "Acme GmbH",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contact_email_goes_both_ways() -> Result<()> {
    bidirectional(
        "contact_email",
        r#"contact = '{"email":"acme.example"}'"#,
        "domain",
        "acme.example",
        "contact->>'email'",
        "contact_email",
        "acme.test",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contact_phone_goes_both_ways() -> Result<()> {
    bidirectional(
        "contact_phone",
        r#"contact = '{"phone":"+41 1"}'"#,
        "phone",
        "+41 1",
        "contact->>'phone'",
        "contact_phone",
        "+41 2",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_goes_both_ways_part_by_part() -> Result<()> {
    let world = World::start("address").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .update(
            &key,
            r#"address = '{"line1":"1 Main St","city":"Bern","state":"BE","zip":"3000","country":"CH"}'"#,
        )
        .await?;
    for (property, value) in [
        ("address", "1 Main St"),
        ("city", "Bern"),
        ("state", "BE"),
        ("zip", "3000"),
        ("country", "CH"),
    ] {
        world.until_hubspot(&id, property, Some(value)).await?;
    }
    world.settle().await?;
    world.sim.clear_log();
    world
        .update(&key, r#"address = jsonb_set(address, '{city}', '"Basel"')"#)
        .await?;
    world.until_hubspot(&id, "city", Some("Basel")).await?;
    world.settle().await?;
    assert_eq!(
        world.sim.count(hubspot_sync_tests::simulator::Op::BatchUpdate),
        1,
        "one city, one write"
    );
    for (property, versions) in [("address", 1), ("city", 2), ("state", 1), ("zip", 1), ("country", 1)] {
        assert_eq!(
            world.sim.history("companies", &id, property).len(),
            versions,
            "the city alone moves: {property}"
        );
    }
    world
        .sim
        .ui_set("companies", &id, "zip", "4000")
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world
        .until(&format!(
            "(SELECT address->>'zip' FROM customers WHERE id = {key}) = '4000'"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(
        world.row(&key, "address").await?.as_deref(),
        Some(r#"{"zip": "4000", "city": "Basel", "line1": "1 Main St", "state": "BE", "country": "CH"}"#)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubspot_company_id_is_written_back_and_never_synced() -> Result<()> {
    let world = World::start("company_id").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    assert_eq!(
        world.row(&key, "external_ids->>'hubspot_company_id'").await?.as_deref(),
        Some(id.as_str())
    );
    world.sim.clear_log();
    world
        .update(&key, r#"external_ids = external_ids || '{"other":"x"}'"#)
        .await?;
    world.update(&key, "notes = 'nobody maps this'").await?;
    world.settle().await?;
    assert_eq!(
        world
            .text("SELECT count(*)::text FROM hubspot.sync_log WHERE field = 'hubspot_company_id'")
            .await?
            .as_deref(),
        Some("0")
    );
    assert_eq!(world.sim.count(hubspot_sync_tests::simulator::Op::BatchUpdate), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_holds_a_hubspot_id_is_linked_by_it() -> Result<()> {
    let world = World::start("by_id").await?;
    let id = world
        .sim
        .ui_create("companies", &[("name", "Known"), ("phone", "+1")])
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let row = world
        .sql
        .query_one(
            &format!("INSERT INTO customers (ban, company_name, external_ids) VALUES ('BAN-9', 'Known', '{{\"hubspot_company_id\":\"{id}\"}}') RETURNING id::text"),
            &[],
        )
        .await?;
    let key: String = row.get(0);
    world.settle().await?;
    assert_eq!(world.hubspot_id(&key).await?.as_deref(), Some(id.as_str()));
    // An empty side yields to a filled one: HubSpot's phone came in, the row's BAN went out.
    assert_eq!(world.row(&key, "contact->>'phone'").await?.as_deref(), Some("+1"));
    assert_eq!(world.hubspot(&id, "warp_ban").as_deref(), Some("BAN-9"));
    assert_eq!(world.sim.records("companies").len(), 1);
    Ok(())
}
