//! Our own writes coming back, and the extension's own writes to the rows: neither starts anything again.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::connect;
use hubspot_sync_tests::simulator::{ClearedForm, Op};
use hubspot_sync_tests::world::World;

/// Ids and contents of everything captured and not taken over.
async fn captured(world: &World) -> Result<Vec<String>> {
    let rows = world
        .sql
        .query(
            "SELECT op::text || ' ' || coalesce(changes::text, '') FROM hubspot.capture ORDER BY position",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

async fn edits(world: &World) -> Result<i64> {
    world.count("FROM hubspot.sync_log WHERE action = 'edit'").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_echo_of_our_write_writes_nothing_and_calls_nothing() -> Result<()> {
    let world = World::start("echo").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.hold_webhooks();
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.settle().await?;
    let xmin = world.row(&key, "xmin").await?;
    let ledger = edits(&world).await?;
    world.sim.clear_log();
    assert_eq!(world.sim.held_webhooks().len(), 1, "the echo waits");
    world.sim.release_webhooks();
    world
        .until(&format!(
            "(SELECT count(*) FROM hubspot.sync_log WHERE entity_key = '{key}' AND field = 'company_name' AND action = 'echo'
              AND hubspot_value = 'Acme 2') = 1"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.row(&key, "xmin").await?, xmin, "the echo wrote the row");
    assert_eq!(world.sim.requests().len(), 0, "{:?}", world.sim.requests());
    assert_eq!(edits(&world).await?, ledger);
    assert_eq!(world.logged(&key, "company_name", "inbound").await?, 0);
    assert_eq!(world.versions(&id, "name"), ["Acme", "Acme 2"]);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(
        world
            .count("FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'Acme 2' AND status = 'applied'")
            .await?,
        1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_echo_tells_the_outcome_before_the_answer() -> Result<()> {
    let world = World::start("echo_first").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.clear_log();
    let gate = world.sim.gate(Op::BatchUpdate);
    world.update(&key, "company_name = 'Acme 2'").await?;
    gate.reached().await;
    let state = |status: &str| {
        format!(
            "(SELECT status = '{status}' FROM hubspot.field_state WHERE entity_key = '{key}' AND field = 'company_name')"
        )
    };
    world.until(&state("in_sync")).await?;
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
    gate.release();
    world.settle().await?;
    world.until(&state("in_sync")).await?;
    assert_eq!(world.sim.count(Op::BatchUpdate), 1);
    assert_eq!(world.sim.count(Op::BatchRead), 0);
    assert_eq!(world.versions(&id, "name"), ["Acme", "Acme 2"]);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Acme 2"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_record_that_we_are_creating_come_before_the_answer() -> Result<()> {
    let world = World::start("echo_create").await?;
    let gate = world.sim.gate(Op::BatchUpsert);
    let key = world.insert("BAN-1", "Acme").await?;
    gate.reached().await;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'Acme')")
        .await?;
    gate.release();
    world.settle().await?;
    let id = world.hubspot_id(&key).await?.context("linked")?;
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE status NOT IN ('applied', 'skipped'))")
        .await?;
    assert_eq!(world.sim.records("companies").len(), 1);
    assert_eq!(world.versions(&id, "name"), ["Acme"]);
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered"]);
    assert_eq!(world.logged(&key, "company_name", "inbound").await?, 0);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    Ok(())
}

/// We write A, then B; a person sets A back. An equal value alone does not make it ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_who_sets_our_old_value_back_makes_an_edit() -> Result<()> {
    let world = World::start("aba").await?;
    let (key, id) = world.linked("BAN-1", "A").await?;
    world.update(&key, "company_name = 'B'").await?;
    world.until_hubspot(&id, "name", Some("B")).await?;
    world.settle().await?;
    world.sim.clear_log();
    world.person_sets(&id, "name", "A")?;
    world
        .until(&format!("(SELECT company_name = 'A' FROM customers WHERE id = {key})"))
        .await?;
    world.settle().await?;
    assert_eq!(world.versions(&id, "name"), ["A", "B", "A"]);
    assert_eq!(world.logged(&key, "company_name", "inbound").await?, 1);
    assert_eq!(world.sim.count(Op::BatchUpdate), 0);
    assert_eq!(
        world.state(&key, "company_name", "base_value").await?.as_deref(),
        Some("A")
    );
    Ok(())
}

/// The same while our own echoes are still on their way and arrive after the person's edit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_echoes_do_not_undo_a_persons_edit() -> Result<()> {
    let world = World::start("aba_late").await?;
    let (key, id) = world.linked("BAN-1", "Zero").await?;
    world.sim.hold_webhooks();
    for value in ["A", "B"] {
        world.update(&key, &format!("company_name = '{value}'")).await?;
        world.until_hubspot(&id, "name", Some(value)).await?;
        world.settle().await?;
    }
    world.person_sets(&id, "name", "A")?;
    world.sim.deliver_held(|e| e["changeSource"] == "CRM_UI");
    world
        .until(&format!("(SELECT company_name = 'A' FROM customers WHERE id = {key})"))
        .await?;
    world.sim.clear_log();
    world.sim.release_webhooks();
    world.settle().await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("A"));
    assert_eq!(world.versions(&id, "name"), ["Zero", "A", "B", "A"]);
    assert_eq!(world.sim.count(Op::BatchUpdate), 0);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubspots_value_in_the_row_is_not_captured() -> Result<()> {
    let world = World::start("suppressed").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let ledger = edits(&world).await?;
    world.sim.clear_log();
    world
        .sim
        .ui_set_many(
            "companies",
            &id,
            &[
                ("name", "Acme 2"),
                ("phone", "+41 1"),
                ("city", "Bern"),
                ("warp_tier", "PREMIUM"),
            ],
        )
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' AND contact->>'phone' = '+41 1' AND address->>'city' = 'Bern' AND tier = 'PREMIUM'
              FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(edits(&world).await?, ledger, "{}", world.picture().await?);
    assert_eq!(world.sim.requests().len(), 0, "{:?}", world.sim.requests());
    // The person's next edit of the same fields by SQL is captured as ever.
    world.update(&key, "company_name = 'Acme 3'").await?;
    world.until_hubspot(&id, "name", Some("Acme 3")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_users_trigger_changes_besides_is_an_edit() -> Result<()> {
    let world = World::start("users_trigger").await?;
    world
        .sql
        .batch_execute(
            "CREATE FUNCTION legal() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF NEW.company_name IS DISTINCT FROM OLD.company_name THEN
                 NEW.legal_name := upper(NEW.company_name) || ' LTD';
                 NEW.contact := NEW.contact || '{\"phone\": \"+41 9\"}';
               END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER legal BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION legal()",
        )
        .await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.clear_log();
    world.person_sets(&id, "name", "Globex")?;
    world.until_hubspot(&id, "warp_legal_name", Some("GLOBEX LTD")).await?;
    world.until_hubspot(&id, "phone", Some("+41 9")).await?;
    world.settle().await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Globex"));
    assert_eq!(world.row(&key, "legal_name").await?.as_deref(), Some("GLOBEX LTD"));
    assert_eq!(world.versions(&id, "name"), ["Acme", "Globex"]);
    assert_eq!(
        world.outcomes(&key, "company_name").await?,
        ["delivered"],
        "not captured"
    );
    assert_eq!(
        world
            .count(&format!(
                "FROM hubspot.sync_log WHERE entity_key = '{key}' AND action = 'edit' AND outcome = 'delivered'
                 AND (field, warp_value) IN (('legal_name', 'GLOBEX LTD'), ('contact_phone', '+41 9'))"
            ))
            .await?,
        2
    );
    for field in ["company_name", "legal_name", "contact_phone"] {
        assert_eq!(
            world.state(&key, field, "status").await?.as_deref(),
            Some("in_sync"),
            "{field}"
        );
    }
    assert_eq!(world.sim.count(Op::BatchUpdate), 1, "both in one write");
    Ok(())
}

/// A trigger that changes HubSpot's value itself: what the row holds in the end is an edit of the row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_trigger_that_changes_the_value_itself_makes_an_edit() -> Result<()> {
    let world = World::start("users_form").await?;
    world
        .sql
        .batch_execute(
            "CREATE FUNCTION form() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN NEW.company_name := upper(NEW.company_name); RETURN NEW; END $$;
             CREATE TRIGGER form BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION form()",
        )
        .await?;
    let (key, id) = world.linked("BAN-1", "ACME").await?;
    world.person_sets(&id, "name", "Globex")?;
    world.until_hubspot(&id, "name", Some("GLOBEX")).await?;
    world.settle().await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("GLOBEX"));
    assert_eq!(world.versions(&id, "name"), ["ACME", "Globex", "GLOBEX"]);
    assert_eq!(
        world.state(&key, "company_name", "status").await?.as_deref(),
        Some("in_sync")
    );
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_no_mapped_field_is_not_captured() -> Result<()> {
    let world = World::without_relay("unmapped", |_| ()).await?;
    let key = world.insert("BAN-1", "Acme").await?;
    let before = captured(&world).await?;
    assert_eq!(before.len(), 1, "the insert");
    world.update(&key, "notes = 'x'").await?;
    world.update(&key, "company_name = company_name, ban = ban").await?;
    world.update(&key, "contact = contact || '{\"fax\": \"1\"}'").await?;
    world.update(&key, "address = address || '{\"floor\": 3}'").await?;
    world.update(&key, "external_ids = '{\"other\": 1}'").await?;
    world.update(&key, "current_balance = NULL").await?;
    world.sql.execute("UPDATE customers SET notes = 'all'", &[]).await?;
    assert_eq!(captured(&world).await?, before);
    world.update(&key, "current_balance = 100").await?;
    world.update(&key, "current_balance = 100.00, notes = 'scale'").await?;
    assert_eq!(
        captured(&world).await?.len(),
        2,
        "100.00 is 100: {:?}",
        captured(&world).await?
    );
    Ok(())
}

/// NULL is HubSpot's empty string, in whatever form its event says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cleared_value_goes_both_ways_and_its_echo_is_no_edit() -> Result<()> {
    for (name, form) in [
        ("cleared_empty", ClearedForm::Empty),
        ("cleared_null", ClearedForm::Null),
        ("cleared_absent", ClearedForm::Absent),
    ] {
        let world = World::start(name).await?;
        world.sim.set_behaviour(|b| b.cleared_event = form);
        let (key, id) = world.linked("BAN-1", "Acme").await?;
        world
            .update(&key, "legal_name = 'Legal', contact = '{\"phone\": \"+41 1\"}'")
            .await?;
        world.until_hubspot(&id, "phone", Some("+41 1")).await?;
        world.settle().await?;
        // Cleared there.
        world.person_sets(&id, "warp_legal_name", "")?;
        world
            .until(&format!("(SELECT legal_name IS NULL FROM customers WHERE id = {key})"))
            .await?;
        world.settle().await?;
        assert_eq!(world.versions(&id, "warp_legal_name"), ["Legal", ""], "{name}");
        // Cleared here.
        world.update(&key, "contact = contact - 'phone'").await?;
        world.until_hubspot(&id, "phone", None).await?;
        world.settle().await?;
        assert_eq!(world.versions(&id, "phone"), ["+41 1", ""], "{name}");
        assert_eq!(world.row(&key, "contact").await?.as_deref(), Some("{}"), "{name}");
        for field in ["legal_name", "contact_phone"] {
            assert_eq!(world.state(&key, field, "status").await?.as_deref(), Some("in_sync"));
            assert_eq!(world.state(&key, field, "base_value").await?, None);
        }
        assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    }
    Ok(())
}

/// An application that holds a row's lock makes that row's events wait, and nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_makes_only_its_own_events_wait() -> Result<()> {
    let world = World::start("locked").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (other, other_id) = world.linked("BAN-2", "Other").await?;
    let app = connect(&world.url).await?;
    app.batch_execute(&format!(
        "BEGIN; UPDATE customers SET legal_name = 'Legal' WHERE id = {key}"
    ))
    .await?;
    world.person_sets(&id, "name", "Acme 2")?;
    world.sim.flush().await;
    world.person_sets(&other_id, "name", "Other 2")?;
    world
        .until(&format!(
            "(SELECT company_name = 'Other 2' FROM customers WHERE id = {other})"
        ))
        .await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'Acme 2' AND status = 'pending')")
        .await?;
    app.batch_execute("COMMIT").await?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' AND legal_name = 'Legal' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.until_hubspot(&id, "warp_legal_name", Some("Legal")).await?;
    world.settle().await?;
    assert_eq!(world.logged(&key, "company_name", "inbound").await?, 1);
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    Ok(())
}

/// The application changes the very field while HubSpot's event comes: whoever was later wins, nobody is overwritten
/// unseen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uncommitted_edit_is_not_overwritten_unseen() -> Result<()> {
    let world = World::start("uncommitted").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let app = connect(&world.url).await?;
    app.batch_execute(&format!(
        "BEGIN; UPDATE customers SET company_name = 'Here' WHERE id = {key}"
    ))
    .await?;
    world.later().await?;
    world.person_sets(&id, "name", "There")?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'There')")
        .await?;
    app.batch_execute("COMMIT").await?;
    world
        .until(&format!(
            "(SELECT company_name = 'There' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some("There"));
    assert_eq!(
        world
            .count(
                "FROM hubspot.conflicts WHERE kind = 'BOTH_MODIFIED' AND warp_value = 'Here' AND hubspot_value = 'There'
                 AND winner = 'HUBSPOT' AND status = 'resolved'"
            )
            .await?,
        1,
        "{}",
        world.picture().await?
    );
    assert_eq!(world.outcomes(&key, "company_name").await?.len(), 2);
    Ok(())
}
