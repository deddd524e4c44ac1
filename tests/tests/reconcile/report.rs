//! The command `hubspot-relay reconcile` and its reports.

use anyhow::{Context as _, Result};
use hubspot_relay::reconcile::command::{Wanted, run};
use hubspot_sync_tests::world::World;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

/// Without any relay the command does the work itself; its three reports say the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_works_alone_and_writes_three_reports() -> Result<()> {
    let mut world = World::start("command").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.take_relay().context("no relay")?.stop().await;
    world.sim.set_webhook_url(None);
    world.person_sets(&id, "warp_status", "CLOSED")?;
    world.person_sets(&id, "name", "=HYPERLINK(\"x\"), <b>\"bold\"</b>")?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    let wanted = Wanted {
        dry_run: true,
        reports: vec![file("r.html"), file("r.json"), file("r.csv")],
        ..Wanted::default()
    };
    let reports = run(world.config("")?, wanted, CancellationToken::new()).await?;
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].run.discrepancies, 2);
    assert_eq!(
        world.row(&key, "company_name").await?.as_deref(),
        Some("Acme"),
        "a dry run wrote"
    );

    let html = std::fs::read_to_string(file("r.html"))?;
    assert!(html.contains("2 differences in 1 records") && html.contains("dry run") && html.contains("<svg"));
    assert!(!html.contains("<b>\"bold\""), "a value is not escaped");
    let json: Json = serde_json::from_str(&std::fs::read_to_string(file("r.json"))?)?;
    assert_eq!(json[0]["run"]["found"]["one_way_drift"], 1);
    assert_eq!(json[0]["discrepancies"].as_array().map(Vec::len), Some(2));
    let csv = std::fs::read_to_string(file("r.csv"))?;
    assert_eq!(csv.lines().count(), 3);
    assert!(
        csv.starts_with("run,entity_type,entity_key,hubspot_id,field,kind,warp_value,hubspot_value,action,found_at")
    );
    assert!(
        csv.contains("'=HYPERLINK"),
        "a value would be computed by a spreadsheet"
    );

    // For real, and beside a relay that runs: whoever takes the run, it ends.
    world.start_relay("").await?;
    let reports = run(world.config("")?, Wanted::default(), CancellationToken::new()).await?;
    assert_eq!(reports[0].run.discrepancies, 2);
    world.until_hubspot(&id, "warp_status", Some("ACTIVE")).await?;

    // An earlier run is reported again without making another.
    let runs = world.count("FROM hubspot.reconciliation_runs").await?;
    let earlier = Wanted {
        run: Some(reports[0].run.id),
        reports: vec![file("again.json")],
        ..Wanted::default()
    };
    run(world.config("")?, earlier, CancellationToken::new()).await?;
    assert_eq!(world.count("FROM hubspot.reconciliation_runs").await?, runs);
    let again: Json = serde_json::from_str(&std::fs::read_to_string(file("again.json"))?)?;
    assert_eq!(again[0]["run"]["dry_run"], false);
    Ok(())
}

/// What cannot be done is said before anything is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_arguments_change_nothing() -> Result<()> {
    let world = World::without_relay("wrong_arguments", |_| ()).await?;
    let refusal = async |wanted: Wanted| -> Result<String> {
        let config = world.config("")?;
        let done = run(config, wanted, CancellationToken::new()).await;
        Ok(done.err().context("it was accepted")?.to_string())
    };
    let pdf = Wanted {
        reports: vec!["report.pdf".into()],
        ..Wanted::default()
    };
    assert!(refusal(pdf).await?.contains(".html, .json or .csv"));
    let nobody = Wanted {
        entity_type: Some("nobody".to_owned()),
        ..Wanted::default()
    };
    let message = refusal(nobody).await?;
    assert!(message.contains("nobody"), "{message}");
    let gone = Wanted {
        run: Some(99),
        ..Wanted::default()
    };
    let message = refusal(gone).await?;
    assert!(message.contains("99"), "{message}");
    assert_eq!(world.count("FROM hubspot.reconciliation_runs").await?, 0);
    Ok(())
}
