//! Sensitive fields: their values reach HubSpot and the rows, and no table, log, page or error of ours.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use hubspot_relay::Config;
use hubspot_sync_tests::cluster::{self, connect};
use hubspot_sync_tests::world::World;
use serde_json::{Value as Json, json};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::OptionalWriter;

/// Part of every sensitive value of these tests, and of nothing else.
const SECRET: &str = "Geheim";
const TOKEN: &str = "a token of the tests, long enough";

/// What the relays of this process say, at every level they have.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

/// Only what the relay itself says: the tests' own statements are in the driver's log.
impl<'a> MakeWriter<'a> for Log {
    type Writer = OptionalWriter<Log>;

    fn make_writer(&'a self) -> Self::Writer {
        OptionalWriter::none()
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        match meta.target().starts_with("hubspot_relay") {
            true => OptionalWriter::some(self.clone()),
            false => OptionalWriter::none(),
        }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(log.clone())
            .try_init();
        log
    })
}

/// The tables that hold a secret anywhere, in whatever column.
async fn holding(world: &World) -> Result<Vec<String>> {
    let rows = world
        .sql
        .query(
            "SELECT format('%I', c.relname) FROM pg_class c WHERE c.relnamespace = 'hubspot'::regnamespace AND c.relkind IN ('r', 'p', 'v') ORDER BY 1",
            &[],
        )
        .await?;
    let mut found = Vec::new();
    for row in rows {
        let table: String = row.get(0);
        let sql =
            format!("SELECT to_jsonb(t)::text FROM hubspot.{table} t WHERE strpos(to_jsonb(t)::text, $1) > 0 LIMIT 1");
        if let Some(row) = world.sql.query_opt(&sql, &[&SECRET]).await? {
            found.push(format!("{table}: {}", row.get::<_, String>(0)));
        }
    }
    Ok(found)
}

/// No table or view of ours and no log line holds a secret.
async fn nothing_shows(world: &World) -> Result<()> {
    assert_eq!(holding(world).await?, Vec::<String>::new());
    let relay = log().0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let relay = String::from_utf8_lossy(&relay);
    assert!(relay.len() > 100, "the relay's log was not caught");
    let line = relay.lines().find(|line| line.contains(SECRET));
    assert_eq!(line, None, "the relay's log");
    let server = cluster::shared().log()?;
    let line = server.lines().find(|line| line.contains(SECRET));
    assert_eq!(line, None, "the server's log");
    for answer in [
        "SELECT string_agg(to_jsonb(s)::text, ' ') FROM hubspot.status() s",
        "SELECT string_agg(to_jsonb(p)::text, ' ') FROM hubspot.plan('customer') p",
        "SELECT string_agg(to_jsonb(e)::text, ' ') FROM hubspot.link l, LATERAL hubspot.explain('customer', l.entity_key, 'legal_name') e",
    ] {
        let said = world.text(answer).await?.unwrap_or_default();
        assert!(!said.contains(SECRET), "{answer}: {said}");
    }
    Ok(())
}

/// Every screen of the admin page that shows values, as one text.
async fn pages(world: &World, key: &str) -> Result<String> {
    let url = &world.relay().context("relay")?.admin_url;
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let mut form = reqwest::Url::parse("http://x/")?;
    form.query_pairs_mut().extend_pairs([("name", "Ada"), ("token", TOKEN)]);
    let login = http
        .post(format!("{url}/login"))
        .body(form.query().unwrap_or_default().to_owned())
        .send()
        .await?;
    let cookie = login.headers()["set-cookie"]
        .to_str()?
        .split(';')
        .next()
        .context("cookie")?
        .to_owned();
    let conflict = world
        .text("SELECT max(id)::text FROM hubspot.conflicts")
        .await?
        .context("conflict")?;
    let run = world
        .text("SELECT '/' || max(id) FROM hubspot.reconciliation_runs")
        .await?
        .unwrap_or_default();
    let mut all = String::new();
    for path in [
        "/".to_owned(),
        "/conflicts".to_owned(),
        "/conflicts?status=closed".to_owned(),
        format!("/conflicts/{conflict}"),
        "/failures".to_owned(),
        "/failures?status=closed".to_owned(),
        format!("/records?search={key}"),
        format!("/record?type=customer&key={key}"),
        "/mappings".to_owned(),
        "/activity".to_owned(),
        format!("/reconciliation{run}"),
    ] {
        let answer = http
            .get(format!("{url}{path}"))
            .header("cookie", &cookie)
            .send()
            .await?;
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        all.push_str(&answer.text().await?);
    }
    Ok(all)
}

fn manual(mapping: &mut Json) {
    mapping["legal_name"]["conflict_resolution"] = json!("MANUAL");
    mapping["company_name"]["conflict_resolution"] = json!("MANUAL");
    // HubSpot refuses what is none of its options, and quotes it.
    mapping["status"]
        .as_object_mut()
        .map(|status| status.remove("enum_values"));
}

async fn import(world: &World, options: Json) -> Result<String> {
    let sql =
        "SELECT hubspot.import_mapping('customer', 'customers', 'companies', hubspot.export_mapping('customer'), $1)";
    Ok(world.sql.query_one(sql, &[&options]).await?.get(0))
}

const FIELDS: [&str; 4] = ["legal_name", "status", "contact_phone", "address"];

/// A world with these sensitive fields and a relay that serves the page.
async fn world(name: &str) -> Result<World> {
    log();
    let mut world = World::without_relay(name, manual).await?;
    import(&world, json!({"sensitive": FIELDS})).await?;
    start_relay(&mut world).await?;
    Ok(world)
}

async fn start_relay(world: &mut World) -> Result<()> {
    let settings = world
        .config_toml(&world.url, "")
        .replace("[admin]\n", &format!("[admin]\ntoken = \"{TOKEN}\"\n"));
    let relay = World::run_config(Config::from_toml(&settings).context("settings")?).await?;
    world.adopt_relay(relay);
    Ok(())
}

/// A conflict about the legal name that waits for a person; gives its id.
async fn conflict(world: &World, key: &str, id: &str, here: &str, there: &str) -> Result<i64> {
    world.sim.hold_webhooks();
    world.person_sets(id, "warp_legal_name", there)?;
    world.update(key, &format!("legal_name = '{here}'")).await?;
    world.sim.release_webhooks();
    world
        .until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")
        .await?;
    world.settle().await?;
    let open = world
        .text("SELECT id::text FROM hubspot.conflicts WHERE status = 'open'")
        .await?;
    Ok(open.context("open")?.parse()?)
}

/// Edits of both sides, conflicts, refusals of HubSpot and of the table, a reconciliation: all of it without a value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_stay_out_of_tables_logs_and_pages() -> Result<()> {
    let mut world = world("sensitive_all").await?;
    world
        .sql
        .batch_execute(
            "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF NEW.legal_name LIKE '%unwanted' THEN RAISE EXCEPTION 'not %', NEW.legal_name USING ERRCODE = '23514'; END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER picky BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION picky()",
        )
        .await?;
    // From the row, whole columns and paths alike.
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .update(
            &key,
            "legal_name = 'Geheim 1', contact = '{\"phone\": \"Geheim 2\"}', address = '{\"city\": \"Geheim 3\"}'",
        )
        .await?;
    for (property, value) in [
        ("warp_legal_name", "Geheim 1"),
        ("phone", "Geheim 2"),
        ("city", "Geheim 3"),
    ] {
        world.until_hubspot(&id, property, Some(value)).await?;
    }
    world.settle().await?;
    nothing_shows(&world).await?;
    // From HubSpot, and the same value again, and emptied.
    world.person_sets(&id, "warp_legal_name", "Geheim 4")?;
    world
        .until(&format!(
            "(SELECT legal_name = 'Geheim 4' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.person_sets(&id, "phone", "")?;
    world
        .until(&format!(
            "(SELECT contact->>'phone' IS NULL FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(
        world
            .count("FROM hubspot.field_state WHERE status <> 'in_sync'")
            .await?,
        0
    );
    assert_eq!(
        world.state(&key, "legal_name", "warp_value").await?.as_deref(),
        Some("hidden")
    );
    nothing_shows(&world).await?;

    // A person keeps HubSpot's side, of which nobody else remembers the value.
    let first = conflict(&world, &key, &id, "Geheim 5", "Geheim 6").await?;
    nothing_shows(&world).await?;
    let sides = world
        .text(&format!(
            "SELECT (warp_value LIKE 'hidden:%' AND hubspot_value LIKE 'hidden:%' AND warp_value <> hubspot_value)::text FROM hubspot.conflicts WHERE id = {first}"
        ))
        .await?;
    assert_eq!(sides.as_deref(), Some("true"));
    let html = pages(&world, &key).await?;
    assert!(html.contains("hidden:") && !html.contains(SECRET));
    assert_eq!(world.count("FROM hubspot.sensitive_held").await?, 1);
    world
        .text(&format!("SELECT hubspot.resolve_conflict({first}, 'HUBSPOT')"))
        .await?;
    assert_eq!(world.row(&key, "legal_name").await?.as_deref(), Some("Geheim 6"));
    assert_eq!(world.count("FROM hubspot.sensitive_held").await?, 0);
    let undone = world
        .sql
        .query_one("SELECT hubspot.undo_resolution($1)", &[&first])
        .await
        .expect_err("the values were not kept");
    assert_eq!(undone.code().map(|c| c.code()), Some("55000"));
    // A person keeps the row's side, and gives a third value.
    let second = conflict(&world, &key, &id, "Geheim 7", "Geheim 8").await?;
    world
        .text(&format!("SELECT hubspot.resolve_conflict({second}, 'WARP')"))
        .await?;
    world.until_hubspot(&id, "warp_legal_name", Some("Geheim 7")).await?;
    world.settle().await?;
    let third = conflict(&world, &key, &id, "Geheim 9", "Geheim 10").await?;
    world
        .text(&format!(
            "SELECT hubspot.resolve_conflict({third}, 'VALUE', 'Geheim 11')"
        ))
        .await?;
    world.until_hubspot(&id, "warp_legal_name", Some("Geheim 11")).await?;
    assert_eq!(world.row(&key, "legal_name").await?.as_deref(), Some("Geheim 11"));
    world.settle().await?;
    assert_eq!(world.count("FROM hubspot.sensitive_held").await?, 0);

    // HubSpot refuses a value, and the table another one; both quote it.
    world.update(&key, "status = 'Geheim 12'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open' AND direction = 'outbound')")
        .await?;
    world.person_sets(&id, "warp_legal_name", "Geheim 13 unwanted")?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open' AND direction = 'inbound' AND message LIKE '%23514%')")
        .await?;
    world.settle().await?;
    nothing_shows(&world).await?;
    // The refused value of the event is still there, locked: once the table takes it, it is written.
    world.sql.batch_execute("DROP TRIGGER picky ON customers").await?;
    world.text("SELECT hubspot.retry_failed()::text").await?;
    world
        .until(&format!(
            "(SELECT legal_name = 'Geheim 13 unwanted' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.update(&key, "status = 'ACTIVE'").await?;
    world.settle().await?;

    // What nobody heard of is found by a reconciliation, on both sides.
    world.sim.set_webhook_url(None);
    world.person_sets(&id, "city", "Geheim 14")?;
    world
        .sql
        .batch_execute(&format!(
            "SET session_replication_role = replica; UPDATE customers SET contact = '{{\"phone\": \"Geheim 15\"}}' WHERE id = {key};
             RESET session_replication_role"
        ))
        .await?;
    world.text("SELECT hubspot.reconcile('customer')::text").await?;
    world
        .until("NOT EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE finished_at IS NULL)")
        .await?;
    world.until_hubspot(&id, "phone", Some("Geheim 15")).await?;
    world
        .until(&format!(
            "(SELECT address->>'city' = 'Geheim 14' FROM customers WHERE id = {key})"
        ))
        .await?;
    assert!(
        world
            .count("FROM hubspot.reconciliation_discrepancies WHERE field = 'address.city'")
            .await?
            > 0
    );
    nothing_shows(&world).await?;
    assert!(!pages(&world, &key).await?.contains(SECRET));
    // Nothing is shown of what waits either.
    world.take_relay().context("relay")?.stop().await;
    world.update(&key, "legal_name = 'Geheim 16'").await?;
    world.insert("BAN-2", "Beta").await?;
    world
        .sql
        .batch_execute("UPDATE customers SET legal_name = 'Geheim 17' WHERE ban = 'BAN-2'")
        .await?;
    assert!(world.count("FROM hubspot.capture").await? >= 2);
    nothing_shows(&world).await
}

/// A value that waits for HubSpot is the row's: one that changed without being captured is sent as it is now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_what_the_row_holds() -> Result<()> {
    let mut world = world("sensitive_moved").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.text("SELECT hubspot.pause()").await?;
    world.update(&key, "legal_name = 'Geheim 1'").await?;
    world
        .sql
        .batch_execute(&format!(
            "SET session_replication_role = replica; UPDATE customers SET legal_name = 'Geheim 2' WHERE id = {key};
             RESET session_replication_role; SELECT hubspot.resume()"
        ))
        .await?;
    world.until_hubspot(&id, "warp_legal_name", Some("Geheim 2")).await?;
    world.settle().await?;
    assert_eq!(world.versions(&id, "warp_legal_name"), ["Geheim 2"]);
    // A deleted key takes what is locked along, and so does forgetting.
    conflict(&world, &key, &id, "Geheim 3", "Geheim 4").await?;
    assert_eq!(world.count("FROM hubspot.sensitive_held").await?, 1);
    world
        .text(&format!("SELECT hubspot.forget('customer', '{key}')::text"))
        .await?;
    assert_eq!(world.count("FROM hubspot.sensitive_held").await?, 0);
    assert_eq!(
        world
            .count("FROM hubspot.webhook_events WHERE event ? 'valueHash' OR event ? 'lockedValue'")
            .await?,
        0
    );
    world.take_relay().context("relay")?.stop().await;
    nothing_shows(&world).await
}

/// A field becomes sensitive while it has a history, an open conflict and failures; and ceases to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_becomes_sensitive_and_ceases_to_be() -> Result<()> {
    log();
    let mut world = World::without_relay("sensitive_switch", manual).await?;
    start_relay(&mut world).await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .update(&key, "legal_name = 'Geheim 1', contact = '{\"phone\": \"Geheim 2\"}'")
        .await?;
    world.settle().await?;
    world.update(&key, "status = 'Geheim 3'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    let open = conflict(&world, &key, &id, "Geheim 4", "Geheim 5").await?;
    assert!(!holding(&world).await?.is_empty(), "the test shows nothing");
    world.text("SELECT hubspot.pause()").await?;
    world.update(&key, "legal_name = 'Geheim 6'").await?;
    import(&world, json!({"sensitive": FIELDS})).await?;
    assert_eq!(holding(&world).await?, Vec::<String>::new());
    world.text("SELECT hubspot.resume()").await?;
    world.settle().await?;
    world
        .text(&format!("SELECT hubspot.resolve_conflict({open}, 'HUBSPOT')"))
        .await?;
    assert_eq!(world.row(&key, "legal_name").await?.as_deref(), Some("Geheim 5"));
    world.update(&key, "legal_name = 'Geheim 7', status = 'ACTIVE'").await?;
    world.until_hubspot(&id, "warp_legal_name", Some("Geheim 7")).await?;
    world.settle().await?;
    assert_eq!(holding(&world).await?, Vec::<String>::new());

    // Again in the open: compared anew, and nothing is lost.
    import(&world, json!({})).await?;
    world.settle().await?;
    assert_eq!(
        world.state(&key, "legal_name", "warp_value").await?.as_deref(),
        Some("Geheim 7")
    );
    world.person_sets(&id, "warp_legal_name", "Geheim 8")?;
    world
        .until(&format!(
            "(SELECT legal_name = 'Geheim 8' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.hubspot(&id, "warp_legal_name").as_deref(), Some("Geheim 8"));
    world.take_relay().context("relay")?.stop().await;
    Ok(())
}

/// A restored dump finds its rows equal to what is recorded of them: the key came along. Nobody is granted it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_copy_compares_equal() -> Result<()> {
    let mut world = world("sensitive_dumped").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, "legal_name = 'Geheim 1'").await?;
    world.until_hubspot(&id, "warp_legal_name", Some("Geheim 1")).await?;
    conflict(&world, &key, &id, "Geheim 2", "Geheim 3").await?;
    world.take_relay().context("relay")?.stop().await;
    let cluster = cluster::shared();
    let database = world.url.rsplit('/').next().context("database")?.to_owned();
    let file = cluster.scratch()?.join("sensitive.pgdump");
    let file = file.to_str().context("path")?;
    cluster.client("pg_dump", &database, &["--format=custom", "--file", file])?;
    let url = cluster.create_empty_database("sensitive_restored").await?;
    let restored = url.rsplit('/').next().context("database")?.to_owned();
    cluster.client("pg_restore", &restored, &["--exit-on-error", file])?;
    world.sql = connect(&url).await?;
    world.url = url;
    world.text("SELECT hubspot.enable('customer')").await?;
    assert_eq!(world.count("FROM hubspot.capture").await?, 0, "rows count as changed");
    world
        .text("SELECT hubspot.resolve_conflict(id, 'HUBSPOT') FROM hubspot.conflicts WHERE status = 'open'")
        .await?;
    assert_eq!(world.row(&key, "legal_name").await?.as_deref(), Some("Geheim 3"));
    for role in ["relay", "viewer", "admin"] {
        world
            .sql
            .batch_execute(&format!(
                "CREATE ROLE sensitive_{role}; SELECT hubspot.grant_{role}('sensitive_{role}')"
            ))
            .await?;
        let may = format!(
            "has_table_privilege('sensitive_{role}', 'hubspot.sensitive_key', 'SELECT') OR has_table_privilege('sensitive_{role}', 'hubspot.sensitive_held', 'SELECT')"
        );
        assert_eq!(
            world.text(&format!("SELECT ({may})::text")).await?.as_deref(),
            Some("false")
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_cannot_be_sensitive_are_refused() -> Result<()> {
    let world = World::without_relay("sensitive_refused", manual).await?;
    world
        .sql
        .batch_execute(
            "CREATE FUNCTION judge(text, timestamptz, text, timestamptz, text, OUT winner text, OUT value text) LANGUAGE sql AS $$ SELECT 'WARP', NULL $$",
        )
        .await?;
    for (options, said) in [
        (json!({"sensitive": ["ban"]}), "identifies the record"),
        (json!({"sensitive": ["nobody"]}), "no mapped field"),
        (json!({"sensitive": "legal_name"}), "not a list"),
        (json!({"sensitive": [1]}), "not a list"),
        (json!({"sensitive": ["status"], "key_columns": ["status"]}), "row's key"),
        (
            json!({"sensitive": ["legal_name"], "policies": {"legal_name": "public.judge"}}),
            "policy function",
        ),
    ] {
        let error = import(&world, options.clone()).await.expect_err("refused");
        let error = error.downcast::<tokio_postgres::Error>()?;
        let db = error.as_db_error().context("db error")?;
        assert_eq!(db.code().code(), "22023", "{options}");
        assert!(db.message().contains(said), "{options}: {}", db.message());
    }
    Ok(())
}
