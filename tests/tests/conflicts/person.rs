//! A conflict is held for a person, who decides.

use super::buried::between_look_and_write;
use super::{agreed_on, apart, conflict, edit_here, edit_there, facts, part, times_are_those_of_the_edits, together};
use anyhow::Context as _;
use anyhow::Result;
use hubspot_sync_tests::cluster::connect;
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;
use serde_json::Value as Json;
use serde_json::json;
use tokio_postgres::error::SqlState;

/// A conflict that is held for a person.
async fn held(name: &str) -> Result<(World, String, String, i64)> {
    let (mut world, key, id) = apart(name, "MANUAL").await?;
    edit_here(&world, &key, "Here").await?;
    edit_there(&world, &id, "There").await?;
    together(&mut world).await?;
    let open = conflict(&world).await?;
    let expected = json!({"entity_type": "customer", "field": "company_name", "kind": "BOTH_MODIFIED", "warp_value": "Here",
        "hubspot_value": "There", "base_value": "Base", "strategy": "MANUAL", "status": "open", "winner": null,
        "resolved_by": null});
    assert_eq!(facts(&open), expected);
    assert_eq!(open["resolved_at"], Json::Null);
    let conflict_id = open["id"].as_i64().context("id")?;
    Ok((world, key, id, conflict_id))
}

async fn neither_side_is_written(world: &World, key: &str, id: &str, here: &str, there: &str) -> Result<()> {
    assert_eq!(world.row(key, "company_name").await?.as_deref(), Some(here));
    assert_eq!(world.hubspot(id, "name").as_deref(), Some(there));
    assert_eq!(
        world.state(key, "company_name", "status").await?.as_deref(),
        Some("conflict")
    );
    assert_eq!(
        world.state(key, "company_name", "base_value").await?.as_deref(),
        Some("Base")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manual_holds_the_field_and_follows_later_edits() -> Result<()> {
    let (world, key, id, conflict_id) = held("manual_held").await?;
    times_are_those_of_the_edits(&world, &key, &id).await?;
    neither_side_is_written(&world, &key, &id, "Here", "There").await?;
    assert_eq!(world.sim.count(Op::BatchUpdate), 0);
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "waiting"]);

    edit_here(&world, &key, "Here 2").await?;
    world
        .until(&format!(
            "(SELECT warp_value = 'Here 2' AND hubspot_value = 'There' FROM hubspot.conflicts WHERE id = {conflict_id})"
        ))
        .await?;
    edit_there(&world, &id, "There 2").await?;
    world
        .until(&format!(
            "(SELECT warp_value = 'Here 2' AND hubspot_value = 'There 2' FROM hubspot.conflicts WHERE id = {conflict_id})"
        ))
        .await?;
    // Another field of the record goes on in both directions.
    world.update(&key, "legal_name = 'Legal'").await?;
    world.until_hubspot(&id, "warp_legal_name", Some("Legal")).await?;
    world.person_sets(&id, "phone", "+41 1")?;
    world
        .until(&format!(
            "(SELECT contact->>'phone' FROM customers WHERE id = {key}) = '+41 1'"
        ))
        .await?;
    world.settle().await?;
    neither_side_is_written(&world, &key, &id, "Here 2", "There 2").await?;
    assert_eq!(conflict(&world).await?["status"], "open");
    assert_eq!(
        world.outcomes(&key, "company_name").await?,
        ["delivered", "superseded", "waiting"]
    );
    let there_2 = world.sim.history("companies", &id, "name")[0].timestamp_ms;
    assert_eq!(
        world
            .count(&format!(
                "FROM hubspot.conflicts c WHERE (extract(epoch FROM hubspot_changed_at) * 1000)::bigint = {there_2}
                 AND warp_changed_at = (SELECT max(edited_at) FROM hubspot.sync_log l WHERE l.field = c.field AND l.action = 'edit')"
            ))
            .await?,
        1
    );
    Ok(())
}

/// Calls `resolve_conflict` as a named role and gives who must stand in `resolved_by`.
pub(super) async fn resolve(world: &World, conflict_id: i64, winner: &str, value: Option<&str>) -> Result<String> {
    world
        .sql
        .query_one(
            "SELECT hubspot.resolve_conflict($1, $2, $3)",
            &[&conflict_id, &winner, &value],
        )
        .await?;
    world.settle().await?;
    world.text("SELECT session_user::text").await?.context("role")
}

pub(super) async fn resolved(world: &World, winner: &str, by: &str) -> Result<()> {
    let row = conflict(world).await?;
    assert_eq!(
        part(&row, &["status", "winner", "resolved_by"]),
        json!({"status": "resolved", "winner": winner, "resolved_by": by})
    );
    assert_ne!(row["resolved_at"], Json::Null);
    assert_eq!(
        part(&row, &["warp_value", "hubspot_value"]),
        json!({"warp_value": "Here", "hubspot_value": "There"})
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_lets_warp_win() -> Result<()> {
    let (world, key, id, conflict_id) = held("manual_warp").await?;
    let by = resolve(&world, conflict_id, "WARP", None).await?;
    resolved(&world, "WARP", &by).await?;
    agreed_on(&world, &key, &id, "Here", Some("WARP")).await?;
    assert_eq!(world.versions(&id, "name"), ["Base", "There", "Here"]);
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
    assert_eq!(world.logged(&key, "company_name", "resolved").await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_lets_hubspot_win() -> Result<()> {
    let (world, key, id, conflict_id) = held("manual_hubspot").await?;
    let by = resolve(&world, conflict_id, "HUBSPOT", None).await?;
    resolved(&world, "HUBSPOT", &by).await?;
    agreed_on(&world, &key, &id, "There", Some("HUBSPOT")).await?;
    assert_eq!(world.versions(&id, "name"), ["Base", "There"]);
    assert_eq!(
        world.outcomes(&key, "company_name").await?,
        ["delivered", "lost_conflict"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_gives_a_third_value() -> Result<()> {
    let (world, key, id, conflict_id) = held("manual_value").await?;
    let by = resolve(&world, conflict_id, "VALUE", Some("Third")).await?;
    resolved(&world, "VALUE", &by).await?;
    agreed_on(&world, &key, &id, "Third", Some("VALUE")).await?;
    assert_eq!(world.versions(&id, "name"), ["Base", "There", "Third"]);
    assert_eq!(
        world.outcomes(&key, "company_name").await?,
        ["delivered", "lost_conflict"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_made_once_and_by_known_words() -> Result<()> {
    let (world, key, id, conflict_id) = held("manual_errors").await?;
    let call = "SELECT hubspot.resolve_conflict($1, $2, $3)";
    for (conflict, winner, value, expected) in [
        (conflict_id, "ME", None, SqlState::INVALID_PARAMETER_VALUE),
        (conflict_id, "WARP", Some("x"), SqlState::INVALID_PARAMETER_VALUE),
        (conflict_id + 1000, "WARP", None, SqlState::UNDEFINED_OBJECT),
    ] {
        let error = world
            .sql
            .query_one(call, &[&conflict, &winner, &value])
            .await
            .err()
            .context("must be refused")?;
        assert_eq!(error.code(), Some(&expected), "{winner}: {error:?}");
        assert!(error.as_db_error().is_some_and(|e| e.hint().is_some()), "{error:?}");
    }
    neither_side_is_written(&world, &key, &id, "Here", "There").await?;
    resolve(&world, conflict_id, "hubspot", None).await?;
    let error = world
        .sql
        .query_one(call, &[&conflict_id, &"WARP", &None::<&str>])
        .await
        .err()
        .context("resolved twice")?;
    assert_eq!(
        error.code(),
        Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
        "{error:?}"
    );
    agreed_on(&world, &key, &id, "There", Some("HUBSPOT")).await
}

/// The open conflict ends without a winner.
async fn ended_by_agreement(world: &World) -> Result<()> {
    world
        .until("(SELECT status = 'resolved' FROM hubspot.conflicts)")
        .await?;
    world.settle().await?;
    assert_eq!(
        part(&conflict(world).await?, &["winner", "resolved_by"]),
        json!({"winner": null, "resolved_by": "agreement"})
    );
    Ok(())
}

/// Both sides come to hold the same value by themselves: nobody has to decide any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_conflict_ends_when_both_sides_agree() -> Result<()> {
    let (world, key, id, _) = held("manual_agreement").await?;
    edit_there(&world, &id, "Here").await?;
    ended_by_agreement(&world).await?;
    agreed_on(&world, &key, &id, "Here", None).await?;
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
    Ok(())
}

/// A buried edit of a field that a person decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buried_edit_is_held_and_hubspot_is_repaired_when_it_wins() -> Result<()> {
    let (world, key, id) = between_look_and_write("buried_manual", "MANUAL").await?;
    let open = conflict(&world).await?;
    assert_eq!(
        part(&open, &["kind", "warp_value", "hubspot_value", "status"]),
        json!({"kind": "BOTH_MODIFIED", "warp_value": "Here", "hubspot_value": "There", "status": "open"})
    );
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Here"));
    assert_eq!(world.versions(&id, "name"), ["Base", "There", "Here"]);
    let conflict_id = open["id"].as_i64().context("id")?;
    let by = resolve(&world, conflict_id, "HUBSPOT", None).await?;
    resolved(&world, "HUBSPOT", &by).await?;
    agreed_on(&world, &key, &id, "There", Some("HUBSPOT")).await?;
    assert_eq!(world.versions(&id, "name"), ["Base", "There", "Here", "There"]);
    Ok(())
}

/// The row itself is given HubSpot's value: nobody has to decide any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_conflict_ends_when_the_row_takes_hubspots_value() -> Result<()> {
    let (world, key, id, _) = held("manual_yields").await?;
    edit_here(&world, &key, "There").await?;
    ended_by_agreement(&world).await?;
    agreed_on(&world, &key, &id, "There", None).await?;
    assert_eq!(world.versions(&id, "name"), ["Base", "There"]);
    Ok(())
}

/// A decision does not wait for a row that an application is changing: the caller is told, and decides again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_does_not_wait_for_a_locked_row() -> Result<()> {
    let (world, key, id, conflict_id) = held("manual_locked").await?;
    let app = connect(&world.url).await?;
    app.batch_execute(&format!("BEGIN; UPDATE customers SET notes = 'x' WHERE id = {key}"))
        .await?;
    let call = "SELECT hubspot.resolve_conflict($1, 'HUBSPOT')";
    let error = world
        .sql
        .query_one(call, &[&conflict_id])
        .await
        .err()
        .context("the row is locked")?;
    assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{error:?}");
    assert_eq!(conflict(&world).await?["status"], "open");
    neither_side_is_written(&world, &key, &id, "Here", "There").await?;
    app.batch_execute("COMMIT").await?;
    resolve(&world, conflict_id, "HUBSPOT", None).await?;
    agreed_on(&world, &key, &id, "There", Some("HUBSPOT")).await
}
