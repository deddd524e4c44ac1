//! What people do on the page, and that it happens on both sides.

use anyhow::{Context as _, Result};

use crate::browser::Browser;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_are_filtered_and_resolved_each_way_and_undone() -> Result<()> {
    let site = Site::start("page_decide").await?;
    let w = &site.world;
    let (key, id) = site.customer("BAN-1", "Acme").await?;
    let (key2, id2) = site.customer("BAN-2", "Globe").await?;
    let warp = site
        .conflict(&key, &id, "company_name", "Acme Ltd", "Acme Limited")
        .await?;
    let hubspot = site.conflict(&key, &id, "legal_name", "Here", "There").await?;
    let value = site
        .conflict(&key2, &id2, "company_name", "Globe Here", "Globe There")
        .await?;
    let browser = Browser::start().await?;
    site.open(&browser, "/conflicts").await?;
    assert_eq!(browser.count("#rows > li").await?, 3);
    let card = browser.text(&format!("#c{warp}")).await?;
    for part in [
        "Acme Ltd",
        "Acme Limited",
        "Last agreed: Acme",
        "Manual",
        &site.role_of_edit(),
        "CRM_UI",
    ] {
        assert!(card.contains(part), "{part} is not in {card}");
    }

    // A filter by field, at once.
    browser.choose("select[name=of]", "customer.legal_name").await?;
    browser.until("#total", "1 open").await?;
    assert_eq!(browser.count(&format!("#c{hubspot}")).await?, 1);
    // By key; what matches nothing says what to do.
    browser.page.goto(&format!("{}/conflicts?key=none", site.url)).await?;
    browser.until(".nothing", "Widen the filter").await?;

    // Keep WARP, and come back to the list.
    site.open(&browser, "/conflicts").await?;
    browser.click(&format!("#c{warp} button[value=WARP]")).await?;
    browser.until(".flash", "WARP's value is kept").await?;
    w.until_hubspot(&id, "name", Some("Acme Ltd")).await?;
    let by = format!("Ada ({})", site.role);
    assert_eq!(site.of(warp, "winner").await?.as_deref(), Some("WARP"));
    assert_eq!(site.of(warp, "resolved_by").await?, Some(by.clone()));

    // Keep HubSpot.
    browser.click(&format!("#c{hubspot} button[value=HUBSPOT]")).await?;
    browser.until(".flash", "HubSpot's value is kept").await?;
    assert_eq!(w.row(&key, "legal_name").await?.as_deref(), Some("There"));
    // Undo it: the row has its own value again, and the conflict is open.
    browser.click(".flash button").await?;
    browser.until(".flash", "1 is open again").await?;
    assert_eq!(w.row(&key, "legal_name").await?.as_deref(), Some("Here"));
    assert_eq!(site.of(hubspot, "status").await?.as_deref(), Some("open"));

    // Another value, on the conflict's own page.
    site.open(&browser, &format!("/conflicts/{value}")).await?;
    browser.click("details.other summary").await?;
    browser.write("details.other input[name=value]", "Globe of all").await?;
    browser.click("details.other button").await?;
    browser.until(".flash", "the value you gave").await?;
    assert_eq!(w.row(&key2, "company_name").await?.as_deref(), Some("Globe of all"));
    w.until_hubspot(&id2, "name", Some("Globe of all")).await?;

    // The record says what it holds and how that came about; the page's log says who did what.
    site.open(&browser, &format!("/record?type=customer&key={key2}"))
        .await?;
    let record = browser.text("main").await?;
    assert!(record.contains("Globe of all") && record.contains(&by), "{record}");
    site.open(&browser, "/activity").await?;
    let log = browser.text("main").await?;
    for part in [
        "1 conflict resolved, WARP kept",
        "1 conflict opened again",
        "1 conflict resolved, another value",
        "Ada",
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_in_bulk_does_what_its_preview_showed() -> Result<()> {
    let site = Site::start("page_bulk").await?;
    let w = &site.world;
    let mut all = Vec::new();
    for n in 1..=3 {
        let (key, id) = site.customer(&format!("BAN-{n}"), &format!("Base {n}")).await?;
        let conflict = site
            .conflict(&key, &id, "company_name", &format!("Here {n}"), &format!("There {n}"))
            .await?;
        all.push((key, id, conflict));
    }
    let browser = Browser::start().await?;
    site.open(&browser, "/conflicts").await?;
    // Nothing is done without a choice.
    browser.click("#bulk button[value=all]").await?;
    browser.until(".flash.bad", "Choose which side to keep").await?;
    browser.click("[data-all]").await?;
    browser.until("[data-count]", "3 selected").await?;
    browser.choose("#bulk select[name=winner]", "HUBSPOT").await?;
    browser.click("#bulk button[value=selected]").await?;
    browser.until("h1", "Keep HubSpot for 3 conflicts?").await?;
    let preview = browser.text("main").await?;
    assert!(preview.contains("Here 1") && preview.contains("There 3"), "{preview}");
    assert_eq!(w.count("FROM hubspot.conflicts WHERE status = 'open'").await?, 3);
    // One of them changes before it is confirmed: that one is left.
    w.person_sets(&all[1].1, "name", "There again")?;
    w.until(&format!(
        "(SELECT hubspot_value = 'There again' FROM hubspot.conflicts WHERE id = {})",
        all[1].2
    ))
    .await?;
    browser.click(".confirm button").await?;
    let flash = browser.until(".flash", "2 are resolved").await?;
    assert!(
        flash.contains("1 left as they are") && flash.contains("changed since you looked"),
        "{flash}"
    );
    assert_eq!(w.row(&all[0].0, "company_name").await?.as_deref(), Some("There 1"));
    assert_eq!(w.row(&all[1].0, "company_name").await?.as_deref(), Some("Here 2"));
    assert_eq!(w.row(&all[2].0, "company_name").await?.as_deref(), Some("There 3"));
    // All of it is undone at once.
    browser.click(".flash button").await?;
    browser.until(".flash", "2 are open again").await?;
    assert_eq!(w.row(&all[0].0, "company_name").await?.as_deref(), Some("Here 1"));
    // All that match, the other way.
    browser.choose("#bulk select[name=winner]", "WARP").await?;
    browser.click("#bulk button[value=all]").await?;
    browser.until("h1", "Keep WARP for 3 conflicts?").await?;
    browser.click(".confirm button").await?;
    browser.until(".flash", "3 are resolved").await?;
    browser.until(".nothing", "Nothing to decide").await?;
    for (n, (_, id, _)) in all.iter().enumerate() {
        w.until_hubspot(id, "name", Some(&format!("Here {}", n + 1))).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_page_changes_nothing() -> Result<()> {
    let site = Site::start("page_stale").await?;
    let w = &site.world;
    let (key, id) = site.customer("BAN-1", "Acme").await?;
    let conflict = site.conflict(&key, &id, "company_name", "Here", "There").await?;
    let browser = Browser::start().await?;
    site.open(&browser, "/conflicts").await?;
    // The row is edited after the page was shown: the decision would be about a value nobody saw.
    w.update(&key, "company_name = 'Here, later'").await?;
    browser.click(&format!("#c{conflict} button[value=HUBSPOT]")).await?;
    let flash = browser.until(".flash.bad", "was left as it is").await?;
    assert!(flash.contains("its values have changed since you looked"), "{flash}");
    assert_eq!(site.of(conflict, "status").await?.as_deref(), Some("open"));
    assert_eq!(w.row(&key, "company_name").await?.as_deref(), Some("Here, later"));
    // The page shows what is; decided on that, it is done.
    w.until(&format!(
        "(SELECT warp_value = 'Here, later' FROM hubspot.conflicts WHERE id = {conflict})"
    ))
    .await?;
    site.open(&browser, "/conflicts").await?;
    browser.until(&format!("#c{conflict}"), "Here, later").await?;
    // Meanwhile somebody else decides in SQL.
    w.sql
        .query_one("SELECT hubspot.resolve_conflict($1, 'WARP')", &[&conflict])
        .await?;
    browser.click(&format!("#c{conflict} button[value=HUBSPOT]")).await?;
    browser.until(".flash.bad", "resolved already").await?;
    assert_eq!(site.of(conflict, "winner").await?.as_deref(), Some("WARP"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_say_what_hubspot_said_and_are_retried() -> Result<()> {
    let site = Site::start("page_retry").await?;
    let w = &site.world;
    let (key, _) = site.customer("BAN-1", "Acme").await?;
    let (key2, _) = site.customer("BAN-2", "Globe").await?;
    for key in [&key, &key2] {
        w.update(key, "status = 'BOGUS'").await?;
    }
    w.until("(SELECT count(*) = 2 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    let message = w
        .text("SELECT message FROM hubspot.failed_syncs LIMIT 1")
        .await?
        .context("message")?;
    let browser = Browser::start().await?;
    site.open(&browser, "/failures").await?;
    browser.until("#total", "2 open").await?;
    let card = browser.text("#rows > li").await?;
    assert!(
        card.contains("BOGUS") && card.contains(&message) && card.contains("to HubSpot"),
        "{card}"
    );
    // Mended behind the page's back, in a way no edit tells of: the mapping allows it now.
    browser.click("#rows > li button[name=one]").await?;
    browser.until(".flash", "1 is tried again").await?;
    let by = format!("Ada ({})", site.role);
    let named = "SELECT actor FROM hubspot.sync_log WHERE action = 'retried' ORDER BY id DESC LIMIT 1";
    assert_eq!(w.text(named).await?, Some(by));
    // It fails again, for nothing was mended.
    w.until("(SELECT count(*) = 2 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    // In bulk: nothing without a choice, then those that match, after a preview that says what would be sent.
    site.open(&browser, "/failures").await?;
    browser.click("#bulk button[value=selected]").await?;
    browser.until(".flash.bad", "Nothing was selected").await?;
    let tried = w.count("FROM hubspot.sync_log WHERE action = 'retried'").await?;
    browser.click("#bulk button[value=all]").await?;
    browser.until("h1", "Retry 2 failures?").await?;
    let preview = browser.text("main").await?;
    for part in [
        "2 records are",
        "BOGUS",
        "refused again",
        "not one of the mapping's enum_values",
        &message,
    ] {
        assert!(preview.contains(part), "{part} is not in {preview}");
    }
    assert_eq!(w.count("FROM hubspot.sync_log WHERE action = 'retried'").await?, tried);
    browser.click(".confirm button").await?;
    browser.until(".flash", "2 are tried again").await?;
    w.until("(SELECT count(*) >= 3 FROM hubspot.sync_log WHERE action = 'retried')")
        .await?;
    // The value is mended in the row: the failure ends, and the page says that all is well.
    for key in [&key, &key2] {
        w.update(key, "status = 'ACTIVE'").await?;
    }
    w.until("NOT EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    site.open(&browser, "/failures").await?;
    browser.until(".nothing", "Nothing failed").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_is_asked_for_watched_and_cancelled() -> Result<()> {
    let site = Site::start("page_compare").await?;
    let w = &site.world;
    let (key, id) = site.customer("BAN-1", "Acme").await?;
    let by = format!("Ada ({})", site.role);
    // Nobody is told of this edit: only a comparison finds it.
    w.sim.set_webhook_url(None);
    w.person_sets(&id, "warp_tier", "PREMIUM")?;
    w.later().await?;
    let browser = Browser::start().await?;
    site.open(&browser, "/reconciliation").await?;
    browser.until(".nothing", "No comparison yet").await?;
    browser.click("#compare button").await?;
    browser.until(".flash", "a relay takes it within seconds").await?;
    // The page looks again by itself until it is done.
    browser.until("main", "Would be done").await?;
    let run = w
        .text("SELECT max(id)::text FROM hubspot.reconciliation_runs")
        .await?
        .context("run")?;
    w.until(&format!(
        "(SELECT status = 'finished' AND dry_run FROM hubspot.reconciliation_runs WHERE id = {run})"
    ))
    .await?;
    let report = browser.until("h1 + .tag", "finished").await?;
    assert_eq!(report, "finished");
    let asked = format!("SELECT requested_by FROM hubspot.reconciliation_runs WHERE id = {run}");
    assert_eq!(w.text(&asked).await?, Some(by.clone()));
    assert_ne!(w.row(&key, "tier").await?.as_deref(), Some("PREMIUM"));

    // The same, and set right.
    site.open(&browser, "/reconciliation").await?;
    browser.choose("#compare select[name=how]", "settle").await?;
    browser.click("#compare button").await?;
    w.until(&format!("(SELECT tier = 'PREMIUM' FROM customers WHERE id = {key})"))
        .await?;
    w.until("(SELECT last_reconcile_at IS NOT NULL AND last_incremental_at IS NULL FROM hubspot.status())")
        .await?;

    // One that nobody may work on waits; a second one is refused, and the first is ended.
    w.until("NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)")
        .await?;
    w.sql.batch_execute("SELECT hubspot.pause()").await?;
    site.open(&browser, "/reconciliation").await?;
    browser.click("#compare button").await?;
    browser.until("#progress", "Cancel this comparison").await?;
    let run = w
        .text("SELECT max(id)::text FROM hubspot.reconciliation_runs")
        .await?
        .context("run")?;
    site.open(&browser, "/reconciliation").await?;
    browser.click("#compare button").await?;
    browser.until(".flash.bad", "waiting or running already").await?;
    site.open(&browser, &format!("/reconciliation/{run}")).await?;
    // The page looks again by itself, perhaps between finding the button and pressing it.
    for _ in 0..5 {
        if browser.click("#progress button").await.is_ok() {
            break;
        }
    }
    browser.until(".flash", "is cancelled").await?;
    assert_eq!(browser.text("h1 + .tag").await?, "cancelled");
    let why = format!("SELECT message FROM hubspot.reconciliation_runs WHERE id = {run}");
    assert_eq!(w.text(&why).await?, Some(format!("cancelled by {by}")));
    site.open(&browser, "/activity").await?;
    let log = browser.text("main").await?;
    assert!(
        log.contains("1 comparison asked for") && log.contains("1 comparison cancelled"),
        "{log}"
    );
    Ok(())
}

impl Site {
    /// Who edits rows in these tests.
    fn role_of_edit(&self) -> String {
        let user = self
            .world
            .url
            .split("://")
            .nth(1)
            .and_then(|rest| rest.split('@').next());
        user.unwrap_or_default().to_owned()
    }
}
