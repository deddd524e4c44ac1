//! A run on demand.

use crate::{findings, of_run, reconcile, uncaptured};
use anyhow::Result;
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;
use std::collections::BTreeMap;

fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Every kind of difference at once: a dry run names them and touches nothing, a run sets them right, the next one finds
/// nothing but what a person has to see to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_difference_is_named_and_set_right() -> Result<()> {
    let world = World::start("each_kind").await?;
    let mut ids = Vec::new();
    for n in 1..=8 {
        world.insert(&format!("BAN-{n}"), &format!("Company {n}")).await?;
    }
    world.settle().await?;
    for n in 1..=8 {
        ids.push(world.hubspot_id(&n.to_string()).await?.unwrap_or_default());
    }
    let id = |n: usize| ids[n - 1].as_str();
    // The webhooks of what follows never come.
    world.sim.set_webhook_url(None);
    world.person_sets(id(1), "warp_status", "CLOSED")?;
    world.update("2", "tier = 'STANDARD'").await?;
    world.person_sets(id(3), "name", "Renamed there")?;
    world.person_sets(id(4), "warp_tier", "PREMIUM")?;
    uncaptured(&world, "5", "legal_name = 'Uncaptured Ltd'").await?;
    uncaptured(&world, "6", "tier = 'ENTERPRISE'").await?;
    world
        .sim
        .ui_delete("companies", id(7))
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let stranger = world.person_creates(&[("name", "Nobody's")])?;
    world
        .sql
        .batch_execute("UPDATE hubspot.link SET linked_at = linked_at - interval '1 hour'")
        .await?;
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.outbox)").await?;

    let before = world.sim.count(Op::BatchUpdate);
    let dry = reconcile(&world, true).await?;
    let all = [
        ("1 status", "one_way_drift sent_to_hubspot ACTIVE CLOSED"),
        ("2 tier", "one_way_drift row_updated STANDARD -"),
        (
            "3 company_name",
            "found_only_by_reconciling row_updated Company 3 Renamed there",
        ),
        ("4 tier", "found_only_by_reconciling row_updated - PREMIUM"),
        ("5 legal_name", "found_only_by_reconciling captured Uncaptured Ltd -"),
        ("6 tier", "one_way_drift row_updated ENTERPRISE -"),
        ("7", "missing_there marked_missing - -"),
        (stranger.as_str(), "missing_here reported - -"),
    ];
    assert_eq!(findings(&world, dry).await?, expected(&all));
    assert_eq!(world.sim.count(Op::BatchUpdate), before, "a dry run wrote to HubSpot");
    assert_eq!(world.row("3", "company_name").await?.as_deref(), Some("Company 3"));
    assert_eq!(world.count("FROM hubspot.link WHERE status <> 'linked'").await?, 0);

    let run = reconcile(&world, false).await?;
    assert_eq!(findings(&world, run).await?, expected(&all));
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.outbox)").await?;
    assert_eq!(world.hubspot(id(1), "warp_status").as_deref(), Some("ACTIVE"));
    assert_eq!(world.row("2", "tier").await?, None);
    assert_eq!(world.row("3", "company_name").await?.as_deref(), Some("Renamed there"));
    assert_eq!(world.row("4", "tier").await?.as_deref(), Some("PREMIUM"));
    assert_eq!(
        world.hubspot(id(5), "warp_legal_name").as_deref(),
        Some("Uncaptured Ltd")
    );
    assert_eq!(world.row("6", "tier").await?, None);
    assert_eq!(of_run(&world, run, "records").await?, "8");
    assert_eq!(of_run(&world, run, "rows_read").await?, "8");
    assert_eq!(of_run(&world, run, "discrepancies").await?, "8");
    assert_eq!(world.count("FROM hubspot.link WHERE status = 'missing'").await?, 1);

    let again = reconcile(&world, false).await?;
    let left = [(stranger.as_str(), "missing_here reported - -")];
    assert_eq!(findings(&world, again).await?, expected(&left));
    Ok(())
}

/// What happens to whole records without a webhook: a merge is followed, a deletion marks the row's record as missing, and a
/// record that was restored is met again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merges_deletions_and_restores_that_nobody_told_of() -> Result<()> {
    let world = World::start("whole_records").await?;
    let (merged, first) = world.linked("BAN-1", "Acme").await?;
    let (deleted, second) = world.linked("BAN-2", "Beta").await?;
    world
        .sql
        .batch_execute("UPDATE hubspot.link SET linked_at = linked_at - interval '1 hour'")
        .await?;
    world.sim.set_webhook_url(None);
    let problem = |e| anyhow::anyhow!("{e:?}");
    let other = world.person_creates(&[("name", "Acme twice")])?;
    let survivor = world.sim.ui_merge("companies", &first, &other).map_err(problem)?;
    world.sim.ui_delete("companies", &second).map_err(problem)?;
    let run = reconcile(&world, false).await?;
    let found = findings(&world, run).await?;
    let followed = format!("found_only_by_reconciling compared_again - {survivor}");
    assert_eq!(
        found,
        expected(&[(&merged, &followed), (&deleted, "missing_there marked_missing - -")])
    );
    world.until("NOT EXISTS (SELECT 1 FROM hubspot.outbox)").await?;
    assert_eq!(world.hubspot_id(&merged).await?, Some(survivor.clone()));
    world.update(&merged, "company_name = 'Acme for all'").await?;
    world.until_hubspot(&survivor, "name", Some("Acme for all")).await?;

    world.sim.ui_restore("companies", &second).map_err(problem)?;
    world.person_sets(&second, "name", "Beta is back")?;
    let run = reconcile(&world, false).await?;
    let found = findings(&world, run).await?;
    assert_eq!(found, expected(&[(&deleted, "unlinked compared_again - -")]));
    world
        .until(&format!(
            "(SELECT company_name = 'Beta is back' FROM customers WHERE id = {deleted})"
        ))
        .await?;
    assert_eq!(world.count("FROM hubspot.link WHERE status <> 'linked'").await?, 0);
    Ok(())
}
