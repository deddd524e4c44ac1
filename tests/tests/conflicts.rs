//! Both sides edited the same field: who wins, what is written where, and what is on record.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::connect;
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::world::World;
use serde_json::{Value as Json, json};
use tokio_postgres::error::SqlState;

/// Settings of a relay that always looks at HubSpot before it writes.
const ALWAYS_LOOK: &str = "[cache]\nttl = \"0s\"";

/// Names who wins for `company_name`.
fn strategy(name: &'static str) -> impl FnOnce(&mut Json) {
    move |mapping| mapping["company_name"]["conflict_resolution"] = json!(name)
}

/// A customer both sides know as `Base`, and nobody between the two sides any more.
async fn apart(name: &str, winner: &'static str) -> Result<(World, String, String)> {
    let mut world = World::start_with(name, strategy(winner)).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.hold_webhooks();
    world.take_relay().context("the relay")?.stop().await;
    world.sim.clear_log();
    Ok((world, key, id))
}

async fn edit_here(world: &World, key: &str, name: &str) -> Result<()> {
    world.later().await?;
    world.update(key, &format!("company_name = '{name}'")).await
}

async fn edit_there(world: &World, id: &str, name: &str) -> Result<()> {
    world.later().await?;
    world.person_sets(id, "name", name)
}

/// A relay that looks before it writes, then the webhooks that were held.
async fn together(world: &mut World) -> Result<()> {
    world.start_relay(ALWAYS_LOOK).await?;
    world.settle().await?;
    world.sim.release_webhooks();
    world.settle().await
}

/// The one conflict there is.
async fn conflict(world: &World) -> Result<Json> {
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 1, "conflicts");
    let row = world
        .sql
        .query_one("SELECT to_jsonb(c) FROM hubspot.conflicts c", &[])
        .await?;
    Ok(row.get(0))
}

/// Members of an object.
fn part(of: &Json, names: &[&str]) -> Json {
    Json::Object(
        names
            .iter()
            .map(|name| ((*name).to_owned(), of[*name].clone()))
            .collect(),
    )
}

/// What a conflict says about itself, without times and ids.
fn facts(conflict: &Json) -> Json {
    part(
        conflict,
        &[
            "entity_type",
            "field",
            "kind",
            "warp_value",
            "hubspot_value",
            "base_value",
            "strategy",
            "status",
            "winner",
            "resolved_by",
        ],
    )
}

/// The conflict of the concurrent edits `Here` and `There`; `base` is what both sides last agreed on when it was found.
fn both_modified(strategy: &str, winner: &str, base: &str) -> Json {
    json!({"entity_type": "customer", "field": "company_name", "kind": "BOTH_MODIFIED", "warp_value": "Here",
           "hubspot_value": "There", "base_value": base, "strategy": strategy, "status": "resolved", "winner": winner,
           "resolved_by": "policy"})
}

/// The conflict's times are those of the edits, to the microsecond here and to the millisecond there.
async fn times_are_those_of_the_edits(world: &World, key: &str, id: &str) -> Result<()> {
    let history = world.sim.history("companies", id, "name");
    let there = history
        .iter()
        .find(|v| v.value == "There" && v.source_type == "CRM_UI")
        .context("HubSpot's edit")?
        .timestamp_ms;
    let matching = world
        .count(&format!(
            "FROM hubspot.conflicts c JOIN hubspot.sync_log l ON l.entity_key = c.entity_key AND l.field = c.field
             WHERE c.entity_key = '{key}' AND l.action = 'edit' AND l.warp_value = 'Here' AND c.warp_changed_at = l.edited_at
               AND (extract(epoch FROM c.hubspot_changed_at) * 1000)::bigint = {there}"
        ))
        .await?;
    assert_eq!(matching, 1, "{}", conflict(world).await?);
    Ok(())
}

/// Both sides hold the value, and the state says so.
async fn agreed_on(world: &World, key: &str, id: &str, value: &str, winner: Option<&str>) -> Result<()> {
    assert_eq!(
        world.row(key, "company_name").await?.as_deref(),
        Some(value),
        "the row\n{}",
        world.picture().await?
    );
    assert_eq!(
        world.hubspot(id, "name").as_deref(),
        Some(value),
        "HubSpot\n{}",
        world.picture().await?
    );
    for (column, expected) in [
        ("status", Some("in_sync")),
        ("warp_value", Some(value)),
        ("hubspot_value", Some(value)),
        ("base_value", Some(value)),
        ("winner", winner),
    ] {
        assert_eq!(
            world.state(key, "company_name", column).await?.as_deref(),
            expected,
            "field_state.{column}"
        );
    }
    Ok(())
}

/// The row's value wins against HubSpot's.
async fn warp_won(world: &World, key: &str, id: &str, strategy: &str, base: &str) -> Result<()> {
    agreed_on(world, key, id, "Here", Some("WARP")).await?;
    assert_eq!(facts(&conflict(world).await?), both_modified(strategy, "WARP", base));
    times_are_those_of_the_edits(world, key, id).await?;
    assert_eq!(world.versions(id, "name"), ["Base", "There", "Here"]);
    assert_eq!(world.outcomes(key, "company_name").await?, ["delivered", "delivered"]);
    assert_eq!(world.logged(key, "company_name", "conflict").await?, 1);
    assert_eq!(world.logged(key, "company_name", "inbound").await?, 0);
    Ok(())
}

/// HubSpot's value wins against the row's, which was never sent.
async fn hubspot_won(world: &World, key: &str, id: &str, strategy: &str) -> Result<()> {
    agreed_on(world, key, id, "There", Some("HUBSPOT")).await?;
    assert_eq!(
        facts(&conflict(world).await?),
        both_modified(strategy, "HUBSPOT", "Base")
    );
    times_are_those_of_the_edits(world, key, id).await?;
    assert_eq!(world.versions(id, "name"), ["Base", "There"]);
    assert_eq!(world.sim.count(Op::BatchUpdate), 0, "nothing had to be sent");
    assert_eq!(
        world.outcomes(key, "company_name").await?,
        ["delivered", "lost_conflict"]
    );
    assert_eq!(world.logged(key, "company_name", "conflict").await?, 1);
    assert_eq!(world.logged(key, "company_name", "inbound").await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warp_wins_keeps_the_rows_value() -> Result<()> {
    let (mut world, key, id) = apart("warp_wins", "WARP_WINS").await?;
    edit_here(&world, &key, "Here").await?;
    edit_there(&world, &id, "There").await?;
    together(&mut world).await?;
    warp_won(&world, &key, &id, "WARP_WINS", "Base").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubspot_wins_takes_hubspots_value() -> Result<()> {
    let (mut world, key, id) = apart("hubspot_wins", "HUBSPOT_WINS").await?;
    edit_there(&world, &id, "There").await?;
    edit_here(&world, &key, "Here").await?;
    together(&mut world).await?;
    hubspot_won(&world, &key, &id, "HUBSPOT_WINS").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_wins_keeps_the_row_that_is_newer() -> Result<()> {
    let (mut world, key, id) = apart("latest_row", "LATEST_WINS").await?;
    edit_there(&world, &id, "There").await?;
    edit_here(&world, &key, "Here").await?;
    together(&mut world).await?;
    warp_won(&world, &key, &id, "LATEST_WINS", "Base").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_wins_takes_hubspots_value_that_is_newer() -> Result<()> {
    let (mut world, key, id) = apart("latest_hubspot", "LATEST_WINS").await?;
    edit_here(&world, &key, "Here").await?;
    edit_there(&world, &id, "There").await?;
    together(&mut world).await?;
    hubspot_won(&world, &key, &id, "LATEST_WINS").await
}

/// The webhook tells of the conflict before anything is claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_finds_the_conflict_before_the_claim() -> Result<()> {
    let (mut world, key, id) = apart("by_webhook", "HUBSPOT_WINS").await?;
    edit_here(&world, &key, "Here").await?;
    edit_there(&world, &id, "There").await?;
    let events = Json::Array(world.sim.held_webhooks());
    let stored: i64 = world
        .sql
        .query_one("SELECT hubspot.relay_receive($1)", &[&events])
        .await?
        .get(0);
    assert_eq!(stored, 1);
    world.sql.query_one("SELECT hubspot.relay_apply(100)", &[]).await?;
    assert_eq!(
        facts(&conflict(&world).await?),
        both_modified("HUBSPOT_WINS", "HUBSPOT", "Base")
    );
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("There"));
    together(&mut world).await?;
    hubspot_won(&world, &key, &id, "HUBSPOT_WINS").await?;
    assert_eq!(world.sim.count(Op::BatchRead), 0, "nothing was left to look at");
    Ok(())
}

/// While paused, HubSpot's events are stored and no row is written; afterwards they are applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_stores_events_and_writes_no_row() -> Result<()> {
    let world = World::start_with("paused", strategy("HUBSPOT_WINS")).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sql.query_one("SELECT hubspot.pause()", &[]).await?;
    world.sim.clear_log();
    edit_here(&world, &key, "Here").await?;
    edit_there(&world, &id, "There").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'There')")
        .await?;
    assert_eq!(world.sim.requests().len(), 0, "{:?}", world.sim.requests());
    world.sql.query_one("SELECT hubspot.resume()", &[]).await?;
    world
        .until(&format!(
            "(SELECT company_name = 'There' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.hubspot(&id, "name").as_deref(), Some("There"));
    assert_eq!(conflict(&world).await?["winner"], "HUBSPOT");
    Ok(())
}

/// The same value on both sides is no conflict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_edits_are_no_conflict() -> Result<()> {
    let (mut world, key, id) = apart("equal", "MANUAL").await?;
    edit_here(&world, &key, "Same").await?;
    edit_there(&world, &id, "Same").await?;
    together(&mut world).await?;
    agreed_on(&world, &key, &id, "Same", None).await?;
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(world.sim.count(Op::BatchUpdate), 0);
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
    Ok(())
}

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
async fn resolve(world: &World, conflict_id: i64, winner: &str, value: Option<&str>) -> Result<String> {
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

async fn resolved(world: &World, winner: &str, by: &str) -> Result<()> {
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

/// Both sides come to hold the same value by themselves: nobody has to decide any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_conflict_ends_when_both_sides_agree() -> Result<()> {
    let (world, key, id, _) = held("manual_agreement").await?;
    edit_there(&world, &id, "Here").await?;
    world
        .until("(SELECT status = 'resolved' FROM hubspot.conflicts)")
        .await?;
    world.settle().await?;
    let row = conflict(&world).await?;
    assert_eq!(
        part(&row, &["winner", "resolved_by"]),
        json!({"winner": null, "resolved_by": "agreement"})
    );
    agreed_on(&world, &key, &id, "Here", None).await?;
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
    Ok(())
}

/// A row and a company that never met: found by the BAN or by the id that the row holds.
async fn first_met(name: &str, winner: &'static str, by_id: bool, row_first: bool) -> Result<(World, String, String)> {
    let mut world = World::without_relay(name, strategy(winner)).await?;
    let insert = |id: Option<String>| {
        let ids = id.map_or_else(
            || "NULL".to_owned(),
            |id| format!("'{{\"hubspot_company_id\":\"{id}\"}}'"),
        );
        format!(
            "INSERT INTO customers (ban, company_name, contact, external_ids) VALUES ('BAN-1', 'Here', '{{}}', {ids}) RETURNING id::text"
        )
    };
    let company = if by_id {
        vec![("name", "There"), ("phone", "+41 1")]
    } else {
        vec![("name", "There"), ("phone", "+41 1"), ("warp_ban", "BAN-1")]
    };
    let (key, id): (String, String) = if row_first {
        let key = world.sql.query_one(&insert(None), &[]).await?.get(0);
        world.later().await?;
        (key, world.person_creates(&company)?)
    } else {
        let id = world.person_creates(&company)?;
        world.later().await?;
        let key = world
            .sql
            .query_one(&insert(by_id.then(|| id.clone())), &[])
            .await?
            .get(0);
        (key, id)
    };
    world.start_relay("").await?;
    world.settle().await?;
    assert_eq!(world.hubspot_id(&key).await?.as_deref(), Some(id.as_str()));
    assert_eq!(world.sim.records("companies").len(), 1);
    // An empty side yields to a filled one, without a conflict.
    assert_eq!(world.row(&key, "contact->>'phone'").await?.as_deref(), Some("+41 1"));
    Ok((world, key, id))
}

fn mismatch(strategy: &str, winner: Option<&str>) -> Json {
    json!({"entity_type": "customer", "field": "company_name", "kind": "INITIAL_MISMATCH", "warp_value": "Here",
           "hubspot_value": "There", "base_value": null, "strategy": strategy,
           "status": if winner.is_some() { "resolved" } else { "open" }, "winner": winner,
           "resolved_by": winner.map(|_| "policy")})
}

/// A first contact that the policy decided: who won, HubSpot's versions, and how the row's edit ended.
async fn mismatch_ends(
    (world, key, id): &(World, String, String),
    strategy: &str,
    winner: &str,
    versions: &[&str],
    outcome: &str,
) -> Result<()> {
    let value = if winner == "WARP" { "Here" } else { "There" };
    assert_eq!(facts(&conflict(world).await?), mismatch(strategy, Some(winner)));
    agreed_on(world, key, id, value, Some(winner)).await?;
    assert_eq!(world.versions(id, "name"), versions);
    assert_eq!(world.outcomes(key, "company_name").await?, [outcome]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_warp_wins() -> Result<()> {
    let met = first_met("mismatch_warp", "WARP_WINS", false, true).await?;
    mismatch_ends(&met, "WARP_WINS", "WARP", &["There", "Here"], "delivered").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_hubspot_wins() -> Result<()> {
    let met = first_met("mismatch_hubspot", "HUBSPOT_WINS", true, false).await?;
    mismatch_ends(&met, "HUBSPOT_WINS", "HUBSPOT", &["There"], "lost_conflict").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_the_row_is_newer() -> Result<()> {
    let met = first_met("mismatch_row", "LATEST_WINS", true, false).await?;
    mismatch_ends(&met, "LATEST_WINS", "WARP", &["There", "Here"], "delivered").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_hubspot_is_newer() -> Result<()> {
    let met = first_met("mismatch_there", "LATEST_WINS", false, true).await?;
    mismatch_ends(&met, "LATEST_WINS", "HUBSPOT", &["There"], "lost_conflict").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_is_held_for_a_person() -> Result<()> {
    for (name, by_id) in [("mismatch_manual_ban", false), ("mismatch_manual_id", true)] {
        let (world, key, id) = first_met(name, "MANUAL", by_id, false).await?;
        let open = conflict(&world).await?;
        assert_eq!(facts(&open), mismatch("MANUAL", None));
        assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Here"));
        assert_eq!(world.versions(&id, "name"), ["There"]);
        assert_eq!(
            world.state(&key, "company_name", "status").await?.as_deref(),
            Some("conflict")
        );
        let conflict_id = open["id"].as_i64().context("id")?;
        let by = resolve(&world, conflict_id, "WARP", None).await?;
        resolved(&world, "WARP", &by).await?;
        agreed_on(&world, &key, &id, "Here", Some("WARP")).await?;
        assert_eq!(world.versions(&id, "name"), ["There", "Here"]);
    }
    Ok(())
}

/// HubSpot's edit whose webhook is late, and our write that lands over it without a look: the value is known and fresh.
async fn buried(name: &str, winner: &'static str) -> Result<(World, String, String)> {
    let world = World::start_with(name, strategy(winner)).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.hold_webhooks();
    world.sim.clear_log();
    edit_there(&world, &id, "There").await?;
    edit_here(&world, &key, "Here").await?;
    world.until_hubspot(&id, "name", Some("Here")).await?;
    world.settle().await?;
    assert_eq!(world.sim.count(Op::BatchRead), 0, "the look was skipped");
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0, "nobody knows yet");
    world.sim.release_webhooks();
    world.settle().await?;
    Ok((world, key, id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buried_edit_that_loses_is_on_record() -> Result<()> {
    for (name, winner) in [("buried_latest", "LATEST_WINS"), ("buried_warp", "WARP_WINS")] {
        let (world, key, id) = buried(name, winner).await?;
        // Found after our value had been delivered: that is what both sides agreed on.
        warp_won(&world, &key, &id, winner, "Here").await?;
        assert_eq!(world.sim.count(Op::BatchUpdate), 1, "nothing to repair");
    }
    Ok(())
}

/// The row got HubSpot's value, and HubSpot was given it back.
async fn repaired(world: &World, key: &str, id: &str, strategy: &str) -> Result<()> {
    agreed_on(world, key, id, "There", Some("HUBSPOT")).await?;
    assert_eq!(
        facts(&conflict(world).await?),
        both_modified(strategy, "HUBSPOT", "Here")
    );
    times_are_those_of_the_edits(world, key, id).await?;
    assert_eq!(world.versions(id, "name"), ["Base", "There", "Here", "There"]);
    assert_eq!(world.outcomes(key, "company_name").await?, ["delivered", "delivered"]);
    assert_eq!(world.logged(key, "company_name", "conflict").await?, 1);
    assert_eq!(world.sim.count(Op::BatchUpdate), 2, "our write and the repair");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buried_edit_that_wins_is_brought_back() -> Result<()> {
    let (world, key, id) = buried("buried_hubspot", "HUBSPOT_WINS").await?;
    repaired(&world, &key, &id, "HUBSPOT_WINS").await
}

/// HubSpot's edit comes between our look and our write.
async fn between_look_and_write(name: &str, winner: &'static str) -> Result<(World, String, String)> {
    let world = World::start_with(name, strategy(winner)).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.clear_log();
    world.sim.hold_webhooks();
    let gate = world.sim.gate_before(Op::BatchUpdate);
    edit_here(&world, &key, "Here").await?;
    gate.reached().await;
    edit_there(&world, &id, "There").await?;
    gate.release();
    world.until_hubspot(&id, "name", Some("Here")).await?;
    world.settle().await?;
    world.sim.release_webhooks();
    world.settle().await?;
    Ok((world, key, id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newer_edit_that_our_write_buried_is_brought_back() -> Result<()> {
    let (world, key, id) = between_look_and_write("buried_newer", "LATEST_WINS").await?;
    repaired(&world, &key, &id, "LATEST_WINS").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_during_our_write_waits_for_its_outcome() -> Result<()> {
    let world = World::start_with("buried_waits", strategy("LATEST_WINS")).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.clear_log();
    let gate = world.sim.gate_before(Op::BatchUpdate);
    edit_here(&world, &key, "Here").await?;
    gate.reached().await;
    edit_there(&world, &id, "There").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE status = 'waiting')")
        .await?;
    assert_eq!(
        world.count("FROM hubspot.conflicts").await?,
        0,
        "the order is not known yet"
    );
    gate.release();
    world.settle().await?;
    repaired(&world, &key, &id, "LATEST_WINS").await
}

/// After our write, by someone who saw our value: no conflict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_after_our_write_is_no_conflict_although_it_comes_before_the_answer() -> Result<()> {
    let world = World::start_with("after_ours", strategy("WARP_WINS")).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.hold_webhooks();
    let gate = world.sim.gate(Op::BatchUpdate);
    edit_here(&world, &key, "Here").await?;
    gate.reached().await;
    edit_there(&world, &id, "There").await?;
    world.sim.deliver_held(|e| e["propertyValue"] == "There");
    world
        .until("EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE status = 'waiting')")
        .await?;
    gate.release();
    world
        .until(&format!(
            "(SELECT company_name = 'There' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.sim.release_webhooks();
    world.settle().await?;
    agreed_on(&world, &key, &id, "There", None).await?;
    assert_eq!(world.versions(&id, "name"), ["Base", "Here", "There"]);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
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

/// A complex field's parts are fields of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_an_address_conflict_one_by_one() -> Result<()> {
    let mut world = World::start_with("parts", |m| m["address"]["conflict_resolution"] = json!("HUBSPOT_WINS")).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world
        .update(&key, r#"address = '{"city":"Bern","zip":"3000"}'"#)
        .await?;
    world.settle().await?;
    world.sim.hold_webhooks();
    world.take_relay().context("the relay")?.stop().await;
    world.person_sets(&id, "city", "Basel")?;
    world
        .update(&key, r#"address = '{"city":"Biel","zip":"2500"}'"#)
        .await?;
    together(&mut world).await?;
    assert_eq!(
        world.row(&key, "address").await?.as_deref(),
        Some(r#"{"zip": "2500", "city": "Basel"}"#)
    );
    assert_eq!(world.hubspot(&id, "city").as_deref(), Some("Basel"));
    assert_eq!(world.hubspot(&id, "zip").as_deref(), Some("2500"));
    let row = conflict(&world).await?;
    assert_eq!(
        part(&row, &["field", "warp_value", "hubspot_value", "winner"]),
        json!({"field": "address.city", "warp_value": "Biel", "hubspot_value": "Basel", "winner": "HUBSPOT"})
    );
    assert_eq!(
        world.outcomes(&key, "address.city").await?,
        ["delivered", "lost_conflict"]
    );
    assert_eq!(world.outcomes(&key, "address.zip").await?, ["delivered", "delivered"]);
    Ok(())
}

/// The row itself is given HubSpot's value: nobody has to decide any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_conflict_ends_when_the_row_takes_hubspots_value() -> Result<()> {
    let (world, key, id, _) = held("manual_yields").await?;
    edit_here(&world, &key, "There").await?;
    world
        .until("(SELECT status = 'resolved' FROM hubspot.conflicts)")
        .await?;
    world.settle().await?;
    let row = conflict(&world).await?;
    assert_eq!(
        part(&row, &["winner", "resolved_by"]),
        json!({"winner": null, "resolved_by": "agreement"})
    );
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

/// HubSpot's clock is a minute off: edit times are compared as if it were not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_wins_does_not_depend_on_hubspots_clock() -> Result<()> {
    for (name, offset_ms, row_is_newer) in [("clock_ahead", 60_000, true), ("clock_behind", -60_000, false)] {
        let mut world = World::without_relay(name, strategy("LATEST_WINS")).await?;
        world.sim.set_clock_offset(offset_ms);
        world.start_relay("").await?;
        let (key, id) = world.linked("BAN-1", "Base").await?;
        let measured: i64 = world
            .sql
            .query_one("SELECT clock_offset_us FROM hubspot.binding", &[])
            .await?
            .get(0);
        assert!((measured / 1000 - offset_ms).abs() < 1000, "measured {measured} us");
        world.sim.hold_webhooks();
        world.take_relay().context("the relay")?.stop().await;
        if row_is_newer {
            edit_there(&world, &id, "There").await?;
            edit_here(&world, &key, "Here").await?;
        } else {
            edit_here(&world, &key, "Here").await?;
            edit_there(&world, &id, "There").await?;
        }
        together(&mut world).await?;
        let (value, winner) = if row_is_newer {
            ("Here", "WARP")
        } else {
            ("There", "HUBSPOT")
        };
        agreed_on(&world, &key, &id, value, Some(winner)).await?;
        assert_eq!(conflict(&world).await?["winner"], winner, "{name}");
    }
    Ok(())
}

/// HubSpot's edit and the echo of our write that came after it arrive together, before our write is answered: the echo
/// tells the outcome, and the edit that waited for it is taken up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_waits_is_taken_up_when_the_echo_tells_the_outcome() -> Result<()> {
    let world = World::start_with("page_of_two", strategy("HUBSPOT_WINS")).await?;
    let (key, id) = world.linked("BAN-1", "Base").await?;
    world.sim.clear_log();
    world.sim.hold_webhooks();
    let before = world.sim.gate_before(Op::BatchUpdate);
    let after = world.sim.gate(Op::BatchUpdate);
    edit_here(&world, &key, "Here").await?;
    before.reached().await;
    edit_there(&world, &id, "There").await?;
    before.release();
    after.reached().await;
    assert_eq!(world.sim.held_webhooks().len(), 2, "There, and the echo of Here");
    world.sim.release_webhooks();
    world
        .until("(SELECT count(*) FROM hubspot.webhook_events WHERE event->>'propertyValue' IN ('Here', 'There')) = 2")
        .await?;
    world
        .until(&format!("(SELECT count(*) FROM hubspot.sync_log WHERE entity_key = '{key}' AND action = 'echo' AND hubspot_value = 'Here') = 1"))
        .await?;
    after.release();
    world.settle().await?;
    repaired(&world, &key, &id, "HUBSPOT_WINS").await
}
