//! What people decide about conflicts in SQL: in bulk, undone, or left to a function; and the ledger of edits.

use anyhow::Result;
use hubspot_sync_tests::world::World;
use serde_json::{Value as Json, json};

fn manual(mapping: &mut Json) {
    mapping["company_name"]["conflict_resolution"] = json!("MANUAL");
}

/// A record whose company name was edited on both sides at once.
async fn disputed(world: &World, ban: &str) -> Result<(String, String)> {
    let (key, id) = world.linked(ban, "Base").await?;
    world.sql.query_one("SELECT hubspot.pause()", &[]).await?;
    world
        .sim
        .ui_set("companies", &id, "name", "There")
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world.update(&key, "company_name = 'Here'").await?;
    world.sql.query_one("SELECT hubspot.resume()", &[]).await?;
    world
        .until(&format!(
            "EXISTS (SELECT 1 FROM hubspot.conflicts WHERE entity_key = '{key}' AND status = 'open')"
        ))
        .await?;
    world.settle().await?;
    Ok((key, id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_says_who_edited_each_side() -> Result<()> {
    let world = World::start_with("who", manual).await?;
    let (key, _) = disputed(&world, "BAN-1").await?;
    let row = world
        .sql
        .query_one(
            "SELECT warp_changed_by, hubspot_changed_by, base_value FROM hubspot.conflicts WHERE entity_key = $1",
            &[&key],
        )
        .await?;
    assert!(row.get::<_, String>(0).starts_with("postgres"), "{row:?}");
    assert_eq!(row.get::<_, String>(1), "CRM_UI userId:77");
    assert_eq!(row.get::<_, String>(2), "Base");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_are_resolved_in_bulk() -> Result<()> {
    let world = World::start_with("bulk", manual).await?;
    let mut ids = Vec::new();
    for ban in ["BAN-1", "BAN-2", "BAN-3"] {
        ids.push(disputed(&world, ban).await?);
    }
    let row = world
        .sql
        .query_one(
            "SELECT resolved, left_open FROM hubspot.resolve_conflicts('HUBSPOT', 'customer', 'company_name')",
            &[],
        )
        .await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (3, 0));
    world.settle().await?;
    for (key, id) in &ids {
        assert_eq!(world.row(key, "company_name").await?.as_deref(), Some("There"));
        assert_eq!(world.hubspot(id, "name").as_deref(), Some("There"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolution_is_undone_while_nothing_newer_happened() -> Result<()> {
    let world = World::start_with("undo", manual).await?;
    let (key, id) = disputed(&world, "BAN-1").await?;
    world
        .sql
        .query_one(
            "SELECT hubspot.resolve_conflict((SELECT id FROM hubspot.conflicts), 'HUBSPOT')",
            &[],
        )
        .await?;
    world.settle().await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("There"));
    world
        .sql
        .query_one(
            "SELECT hubspot.undo_resolution((SELECT id FROM hubspot.conflicts))",
            &[],
        )
        .await?;
    world.settle().await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Here"));
    assert_eq!(
        world.state(&key, "company_name", "status").await?.as_deref(),
        Some("conflict")
    );
    assert_eq!(
        world.hubspot(&id, "name").as_deref(),
        Some("There"),
        "held: neither side is written"
    );
    world
        .sql
        .query_one(
            "SELECT hubspot.resolve_conflict((SELECT id FROM hubspot.conflicts), 'WARP')",
            &[],
        )
        .await?;
    world.until_hubspot(&id, "name", Some("Here")).await?;
    world.settle().await?;
    world.update(&key, "company_name = 'Newer'").await?;
    world.settle().await?;
    let refused = world
        .sql
        .query_one(
            "SELECT hubspot.undo_resolution((SELECT id FROM hubspot.conflicts))",
            &[],
        )
        .await;
    let code = refused.err().and_then(|e| e.code().map(|c| c.code().to_owned()));
    assert_eq!(code.as_deref(), Some("55000"), "something newer happened");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_decides_or_leaves_it_to_a_person() -> Result<()> {
    let mut world = World::without_relay("policy", manual).await?;
    world
        .sql
        .batch_execute(
            "CREATE FUNCTION longest(w text, wt timestamptz, h text, ht timestamptz, b text, OUT winner text, OUT value text)
             LANGUAGE plpgsql AS $$ BEGIN
               IF w = 'Fail' THEN RAISE EXCEPTION 'no idea'; END IF;
               winner := 'VALUE'; value := w || ' & ' || h;
             END $$",
        )
        .await?;
    let mapping: Json = world
        .sql
        .query_one("SELECT hubspot.export_mapping('customer')", &[])
        .await?
        .get(0);
    let options = json!({"policies": {"company_name": "public.longest"}});
    world
        .sql
        .query_one(
            "SELECT hubspot.import_mapping('customer', 'customers', 'companies', $1, $2)",
            &[&mapping, &options],
        )
        .await?;
    world.start_relay("").await?;
    for (ban, here, expected) in [("BAN-1", "Here", "Here & There"), ("BAN-2", "Fail", "Fail")] {
        let (key, id) = world.linked(ban, "Base").await?;
        world.sql.query_one("SELECT hubspot.pause()", &[]).await?;
        world
            .sim
            .ui_set("companies", &id, "name", "There")
            .map_err(|e| anyhow::anyhow!("{e:?}"))?;
        world.update(&key, &format!("company_name = '{here}'")).await?;
        world.sql.query_one("SELECT hubspot.resume()", &[]).await?;
        world
            .until(&format!(
                "EXISTS (SELECT 1 FROM hubspot.conflicts WHERE entity_key = '{key}')"
            ))
            .await?;
        world.settle().await?;
        assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some(expected));
        let there = if here == "Fail" { "There" } else { expected };
        assert_eq!(world.hubspot(&id, "name").as_deref(), Some(there));
        let status = if here == "Fail" { "open" } else { "resolved" };
        let seen = world
            .text(&format!(
                "SELECT status FROM hubspot.conflicts WHERE entity_key = '{key}'"
            ))
            .await?;
        assert_eq!(seen.as_deref(), Some(status));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_accounts_for_every_edit() -> Result<()> {
    let world = World::start_with("ledger", manual).await?;
    let (key, _) = disputed(&world, "BAN-1").await?;
    world.update(&key, "tier = 'PREMIUM', legal_name = 'A'").await?;
    world.update(&key, "legal_name = 'B', status = 'BROKEN'").await?;
    world.settle().await?;
    let rows = world
        .sql
        .query(
            "SELECT field, ending FROM hubspot.ledger WHERE entity_key = $1 AND field IN ('tier', 'status', 'company_name') ORDER BY edit",
            &[&key],
        )
        .await?;
    let seen: Vec<(String, String)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    let expected = [
        ("status", "delivered"),
        ("company_name", "delivered"),
        ("company_name", "waiting"),
        ("tier", "skipped"),
        ("status", "failed"),
    ];
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(
        world
            .text("SELECT count(*)::text FROM hubspot.ledger WHERE ending = 'unaccounted'")
            .await?
            .as_deref(),
        Some("0")
    );
    assert_eq!(
        world
            .text("SELECT count(*)::text FROM hubspot.ledger WHERE field = 'legal_name'")
            .await?
            .as_deref(),
        Some("2")
    );
    Ok(())
}
