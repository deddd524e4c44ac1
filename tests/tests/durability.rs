//! What neither a rollback, a crash, a lost answer nor a restart may do: lose an edit, double one, or invent one.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::cluster::{Cluster, StopMode};
use hubspot_sync_tests::simulator::{Fault, FaultKind, Gate, Op, WebhookFaults};
use hubspot_sync_tests::world::World;
use serde_json::json;

/// The relay's binary, built once, beside the test's own.
fn relay_binary() -> Result<&'static PathBuf> {
    static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let built = BINARY.get_or_init(|| {
        let target = std::env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.parent()?.to_owned()))
            .ok_or("the test's own path is unknown")?;
        let output = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "hubspot-relay"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(target.join("hubspot-relay"))
    });
    built
        .as_ref()
        .map_err(|e| anyhow::anyhow!("cannot build hubspot-relay: {e}"))
}

/// A relay in a process of its own, which can be killed as nothing else can.
struct Process {
    child: Child,
    _config: tempfile::NamedTempFile,
}

impl Process {
    fn start(world: &World) -> Result<Process> {
        let mut config = tempfile::NamedTempFile::new()?;
        config.write_all(world.config_toml(&world.url, "").as_bytes())?;
        let child = Command::new(relay_binary()?)
            .args(["run", "--config"])
            .arg(config.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Process { child, _config: config })
    }

    /// SIGKILL. What the server was doing for it goes on: a call that was under way may still claim a record, which then
    /// waits for the lease like any other. Returns when the server has noticed that nobody is there any more.
    async fn kill(mut self, world: &World) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        world
            .until(
                "NOT EXISTS (SELECT 1 FROM pg_stat_activity
                 WHERE application_name = 'hubspot-relay' AND datname = current_database())",
            )
            .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn reached(gate: &Gate) -> Result<()> {
    tokio::time::timeout(Duration::from_secs(30), gate.reached())
        .await
        .context("no request came to the gate")
}

/// Every captured edit has an end.
async fn ledger_is_complete(world: &World) -> Result<()> {
    let open = world
        .count("FROM hubspot.sync_log WHERE action = 'edit' AND outcome IS NULL")
        .await?;
    assert_eq!(open, 0, "edits without an end\n{}", world.picture().await?);
    Ok(())
}

async fn in_sync(world: &World, key: &str, field: &str, value: &str) -> Result<()> {
    for (column, expected) in [("status", "in_sync"), ("warp_value", value), ("base_value", value)] {
        assert_eq!(
            world.state(key, field, column).await?.as_deref(),
            Some(expected),
            "{field} {column}"
        );
    }
    Ok(())
}

fn once(op: Op, kind: FaultKind) -> Fault {
    Fault { op, kind, times: 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rolled_back_leaves_no_trace() -> Result<()> {
    let mut world = World::without_relay("rollback", |_| ()).await?;
    world
        .sql
        .batch_execute("BEGIN; INSERT INTO customers (ban, company_name) VALUES ('BAN-0', 'Never'); ROLLBACK")
        .await?;
    assert_eq!(world.count("FROM hubspot.capture").await?, 0);
    assert_eq!(world.count("FROM hubspot.outbox").await?, 0);

    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.take_relay().context("the relay")?.stop().await;
    world
        .sql
        .batch_execute(&format!(
            "BEGIN; UPDATE customers SET company_name = 'Never', status = 'CLOSED' WHERE id = {key};
             DELETE FROM customers WHERE id = {key}; ROLLBACK"
        ))
        .await?;
    assert_eq!(world.count("FROM hubspot.capture").await?, 0);

    // A savepoint that is rolled back, an exception that is caught, and an edit that stays.
    world
        .sql
        .batch_execute(&format!(
            "BEGIN;
             UPDATE customers SET legal_name = 'Kept' WHERE id = {key};
             SAVEPOINT s;
             UPDATE customers SET company_name = 'Never' WHERE id = {key};
             INSERT INTO customers (ban) VALUES ('BAN-0');
             ROLLBACK TO s;
             DO $$ BEGIN
               UPDATE customers SET status = 'CLOSED' WHERE id = {key};
               RAISE division_by_zero;
             EXCEPTION WHEN division_by_zero THEN NULL;
             END $$;
             COMMIT"
        ))
        .await?;
    let captured: Vec<String> = world
        .sql
        .query("SELECT changes::text FROM hubspot.capture", &[])
        .await?
        .iter()
        .map(|r| r.get(0))
        .collect();
    assert_eq!(captured.len(), 1, "{captured:?}");
    let changes: serde_json::Value = serde_json::from_str(&captured[0])?;
    assert_eq!(changes, json!({"legal_name": [null, "Kept"]}));

    world.start_relay("").await?;
    world.until_hubspot(&id, "warp_legal_name", Some("Kept")).await?;
    world.settle().await?;
    assert_eq!(world.versions(&id, "name"), ["Acme"]);
    assert_eq!(world.versions(&id, "warp_status"), ["ACTIVE"]);
    assert_eq!(world.sim.records("companies").len(), 1);
    assert_eq!(
        world
            .count("FROM hubspot.sync_log WHERE warp_value IN ('Never', 'BAN-0', 'CLOSED')")
            .await?,
        0
    );
    Ok(())
}

/// A relay is killed while HubSpot holds a request of its; another one takes over.
async fn killed_at(world: &mut World, gate: Gate, process: Process) -> Result<()> {
    reached(&gate).await?;
    process.kill(world).await?;
    gate.release();
    drop(gate);
    assert_eq!(
        world.count("FROM hubspot.queue WHERE claimed_by IS NOT NULL").await?,
        1,
        "the dead relay's claim"
    );
    world.start_relay("").await?;
    world.age_leases().await?;
    world.settle().await?;
    world.settle().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_killed_after_a_create_makes_no_second_record() -> Result<()> {
    let mut world = World::without_relay("killed_create", |_| ()).await?;
    let process = Process::start(&world)?;
    let gate = world.sim.gate(Op::BatchUpsert);
    let key = world.insert("BAN-1", "Acme").await?;
    killed_at(&mut world, gate, process).await?;
    assert_eq!(world.sim.records("companies").len(), 1);
    let id = world.hubspot_id(&key).await?.context("linked")?;
    assert_eq!(world.versions(&id, "name"), ["Acme"]);
    assert_eq!(world.versions(&id, "warp_ban"), ["BAN-1"]);
    in_sync(&world, &key, "company_name", "Acme").await?;
    in_sync(&world, &key, "ban", "BAN-1").await?;
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered"]);
    assert_eq!(
        world.row(&key, "external_ids->>'hubspot_company_id'").await?.as_deref(),
        Some(id.as_str())
    );
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    ledger_is_complete(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_killed_after_an_update_neither_loses_nor_doubles_it() -> Result<()> {
    for (name, before) in [("killed_update", false), ("killed_before", true)] {
        let mut world = World::start(name).await?;
        let (key, id) = world.linked("BAN-1", "Acme").await?;
        world.take_relay().context("the relay")?.stop().await;
        // Our echo must not tell the outcome: it is lost.
        world.sim.set_webhook_url(None);
        let process = Process::start(&world)?;
        let gate = if before {
            world.sim.gate_before(Op::BatchUpdate)
        } else {
            world.sim.gate(Op::BatchUpdate)
        };
        world
            .update(&key, "company_name = 'Acme 2', current_balance = 5")
            .await?;
        killed_at(&mut world, gate, process).await?;
        assert_eq!(world.versions(&id, "name"), ["Acme", "Acme 2"]);
        assert_eq!(world.versions(&id, "warp_current_balance"), ["5"]);
        in_sync(&world, &key, "company_name", "Acme 2").await?;
        in_sync(&world, &key, "current_balance", "5").await?;
        assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
        assert_eq!(world.outcomes(&key, "current_balance").await?, ["delivered"]);
        assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
        ledger_is_complete(&world).await?;
    }
    Ok(())
}

/// Edited again while the outcome of the first write is not known, and edited in HubSpot on top of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_after_a_crash_are_judged_by_what_really_landed() -> Result<()> {
    let mut world = World::start("killed_edits").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.take_relay().context("the relay")?.stop().await;
    world.sim.set_webhook_url(None);
    let process = Process::start(&world)?;
    let gate = world.sim.gate(Op::BatchUpdate);
    world
        .update(&key, "company_name = 'Ours', legal_name = 'First'")
        .await?;
    reached(&gate).await?;
    // Somebody saw our value and changed it: no conflict, although the relay that wrote it never learnt that it landed.
    world.person_sets(&id, "name", "Theirs")?;
    world.update(&key, "legal_name = 'Second'").await?;
    killed_at_reached(&mut world, gate, process).await?;
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Theirs"));
    assert_eq!(world.versions(&id, "name"), ["Acme", "Ours", "Theirs"]);
    assert_eq!(world.versions(&id, "warp_legal_name"), ["First", "Second"]);
    in_sync(&world, &key, "company_name", "Theirs").await?;
    in_sync(&world, &key, "legal_name", "Second").await?;
    assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
    assert_eq!(world.outcomes(&key, "legal_name").await?, ["delivered", "delivered"]);
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    ledger_is_complete(&world).await
}

/// [`killed_at`] for a gate that was reached already.
async fn killed_at_reached(world: &mut World, gate: Gate, process: Process) -> Result<()> {
    process.kill(world).await?;
    gate.release();
    drop(gate);
    world.start_relay("").await?;
    world.age_leases().await?;
    world.settle().await?;
    world.settle().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_left_alone_until_its_lease_is_over() -> Result<()> {
    let mut world = World::start("lease").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (other, other_id) = world.linked("BAN-2", "Other").await?;
    world.take_relay().context("the relay")?.stop().await;
    // No echo tells what became of the write.
    world.sim.hold_webhooks();
    let process = Process::start(&world)?;
    let gate = world.sim.gate_before(Op::BatchUpdate);
    world.update(&key, "company_name = 'Acme 2'").await?;
    reached(&gate).await?;
    process.kill(&world).await?;
    gate.release();
    world.start_relay("").await?;
    world.update(&other, "company_name = 'Other 2'").await?;
    world.until_hubspot(&other_id, "name", Some("Other 2")).await?;
    world.until("(SELECT count(*) FROM hubspot.outbox) = 1").await?;
    assert_eq!(
        world
            .text("SELECT entity_key || ' ' || state FROM hubspot.outbox")
            .await?
            .as_deref(),
        Some(format!("{key} claimed").as_str()),
        "the dead relay's claim stands"
    );
    assert_eq!(
        world.state(&key, "company_name", "status").await?.as_deref(),
        Some("in_flight")
    );
    world.age_leases().await?;
    world.settle().await?;
    world.sim.release_webhooks();
    world.settle().await?;
    assert_eq!(world.versions(&id, "name"), ["Acme", "Acme 2"]);
    in_sync(&world, &key, "company_name", "Acme 2").await?;
    ledger_is_complete(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_create_makes_no_second_record() -> Result<()> {
    for (name, kind) in [
        ("lost_create_close", FaultKind::CloseAfterApply),
        ("lost_create_timeout", FaultKind::TimeoutAfterApply),
        ("lost_create_500", FaultKind::StatusAfterApply(500)),
        ("lost_create_before", FaultKind::CloseBeforeApply),
    ] {
        let world = World::start(name).await?;
        world.sim.fault(once(Op::BatchUpsert, kind));
        let (key, id) = world.linked("BAN-1", "Acme").await?;
        world.settle().await?;
        assert_eq!(world.sim.pending_faults(), 0);
        assert_eq!(world.sim.records("companies").len(), 1, "{name}");
        assert_eq!(world.versions(&id, "name"), ["Acme"], "{name}");
        in_sync(&world, &key, "company_name", "Acme").await?;
        assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered"], "{name}");
        assert_eq!(
            world.row(&key, "external_ids->>'hubspot_company_id'").await?.as_deref(),
            Some(id.as_str())
        );
        assert_eq!(world.count("FROM hubspot.conflicts").await?, 0, "{name}");
        ledger_is_complete(&world).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_an_update_is_found_out() -> Result<()> {
    for (name, kind) in [
        ("lost_update_close", FaultKind::CloseAfterApply),
        ("lost_update_timeout", FaultKind::TimeoutAfterApply),
        ("lost_update_502", FaultKind::StatusAfterApply(502)),
        ("lost_update_before", FaultKind::CloseBeforeApply),
    ] {
        let world = World::start(name).await?;
        let (key, id) = world.linked("BAN-1", "Acme").await?;
        // The echo is lost as well: only HubSpot's history can tell.
        world.sim.webhook_faults(WebhookFaults {
            drop: 1.0,
            ..WebhookFaults::default()
        });
        world.sim.fault(once(Op::BatchUpdate, kind));
        world.update(&key, "company_name = 'Acme 2'").await?;
        world.until_hubspot(&id, "name", Some("Acme 2")).await?;
        world.settle().await?;
        assert_eq!(world.sim.pending_faults(), 0);
        assert_eq!(world.versions(&id, "name"), ["Acme", "Acme 2"], "{name}");
        in_sync(&world, &key, "company_name", "Acme 2").await?;
        assert_eq!(world.outcomes(&key, "company_name").await?, ["delivered", "delivered"]);
        ledger_is_complete(&world).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_crash_during_a_drain_loses_nothing() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut world = World::on(&cluster, "db_crash", |_| ()).await?;
    world.start_relay("").await?;
    let gate = world.sim.gate(Op::BatchUpsert);
    world
        .sql
        .batch_execute(
            "INSERT INTO customers (ban, company_name, status) SELECT 'BAN-' || n, 'Company ' || n, 'ACTIVE'
             FROM generate_series(1, 300) n",
        )
        .await?;
    reached(&gate).await?;
    tokio::task::block_in_place(|| cluster.restart(StopMode::Immediate))?;
    gate.release();
    drop(gate);
    world.reconnect().await?;
    world.age_leases().await?;
    world
        .until("(SELECT count(*) FROM hubspot.link WHERE status = 'linked') = 300")
        .await?;
    world.settle().await?;
    let companies = world.sim.records("companies");
    assert_eq!(companies.len(), 300);
    for company in &companies {
        let ban = company.value("warp_ban").context("ban")?.to_owned();
        assert_eq!(company.value("name"), Some(ban.replace("BAN-", "Company ").as_str()));
        assert_eq!(world.versions(&company.id, "name").len(), 1, "{ban}");
    }
    let unequal = world
        .count(
            "FROM customers c LEFT JOIN hubspot.link l ON l.entity_key = c.id::text
             WHERE l.hubspot_id IS DISTINCT FROM c.external_ids->>'hubspot_company_id' OR l.hubspot_id IS NULL",
        )
        .await?;
    assert_eq!(unequal, 0);
    assert_eq!(
        world
            .count("FROM hubspot.field_state WHERE status <> 'in_sync'")
            .await?,
        0
    );
    ledger_is_complete(&world).await?;
    world.take_relay().context("the relay")?.stop().await;
    cluster.stop();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_webhook_that_comes_while_the_database_is_away_is_repeated_and_applied() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut world = World::on(&cluster, "db_away", |_| ()).await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let before = world.sim.deliveries().len();
    tokio::task::block_in_place(|| cluster.stop_server(StopMode::Fast))?;
    world.person_sets(&id, "name", "Acme 2")?;
    let refused = async {
        loop {
            let tried = world.sim.deliveries();
            if let Some(delivery) = tried.get(before) {
                return delivery.status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(20), refused).await?;
    tokio::task::block_in_place(|| cluster.start_server())?;
    assert_eq!(status, 503, "not acknowledged, to be repeated");
    world.reconnect().await?;
    world
        .until(&format!(
            "(SELECT company_name = 'Acme 2' FROM customers WHERE id = {key})"
        ))
        .await?;
    world.settle().await?;
    assert_eq!(world.sim.given_up(), 0);
    assert_eq!(
        world
            .count("FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'Acme 2'")
            .await?,
        1
    );
    assert_eq!(world.logged(&key, "company_name", "inbound").await?, 1);
    in_sync(&world, &key, "company_name", "Acme 2").await?;
    world.take_relay().context("the relay")?.stop().await;
    cluster.stop();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubled_events_are_applied_once() -> Result<()> {
    let world = World::start("doubled").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.webhook_faults(WebhookFaults {
        double: 1.0,
        ..WebhookFaults::default()
    });
    world.person_sets(&id, "name", "Acme 2")?;
    world.settle().await?;
    let xmin = world.row(&key, "xmin").await?;
    // And once more, much later, as another attempt.
    let mut event = world
        .sim
        .events()
        .into_iter()
        .find(|e| e["propertyValue"] == "Acme 2")
        .context("the event")?;
    event["attemptNumber"] = json!(7);
    let stored = world.count("FROM hubspot.webhook_events").await?;
    let acknowledged = world.sim.deliveries().len();
    world.sim.send_event(event);
    world.settle().await?;
    let deliveries = world.sim.deliveries();
    ensure!(deliveries.len() == acknowledged + 1, "{deliveries:?}");
    assert!(
        (200..300).contains(&deliveries[acknowledged].status),
        "a double is acknowledged too"
    );
    assert_eq!(world.count("FROM hubspot.webhook_events").await?, stored);
    assert_eq!(
        world
            .count("FROM hubspot.webhook_events WHERE event->>'propertyValue' = 'Acme 2'")
            .await?,
        1
    );
    assert_eq!(world.logged(&key, "company_name", "inbound").await?, 1);
    assert_eq!(world.row(&key, "xmin").await?, xmin);
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("Acme 2"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reordered_events_end_on_the_newest() -> Result<()> {
    let world = World::start("reordered").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.hold_webhooks();
    for name in ["One", "Two", "Three"] {
        world.person_sets(&id, "name", name)?;
    }
    for (name, stale) in [("Three", 0), ("One", 1), ("Two", 2)] {
        assert_eq!(world.sim.deliver_held(|e| e["propertyValue"] == name), 1);
        world.sim.flush().await;
        world
            .until(&format!(
                "EXISTS (SELECT 1 FROM hubspot.webhook_events WHERE event->>'propertyValue' = '{name}' AND status = 'applied')"
            ))
            .await?;
        assert_eq!(
            world.row(&key, "company_name").await?.as_deref(),
            Some("Three"),
            "after {name}"
        );
        assert_eq!(
            world.logged(&key, "company_name", "stale").await?,
            stale,
            "after {name}"
        );
    }
    world.sim.release_webhooks();
    world.settle().await?;
    assert_eq!(world.logged(&key, "company_name", "inbound").await?, 1);
    assert_eq!(world.versions(&id, "name"), ["Acme", "One", "Two", "Three"]);
    in_sync(&world, &key, "company_name", "Three").await
}

/// Everything at once: doubled, reordered, delayed and lost answers, edits on both sides; both end equal, nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_all_kinds_end_with_both_sides_equal() -> Result<()> {
    let world = World::start("faults").await?;
    let mut records = Vec::new();
    for n in 0..5 {
        records.push(world.linked(&format!("BAN-{n}"), &format!("Company {n}")).await?);
    }
    world.sim.webhook_faults(WebhookFaults {
        double: 0.3,
        reorder: 0.5,
        delay: 0.5,
        delay_ms: 150,
        ..WebhookFaults::default()
    });
    for kind in [
        FaultKind::CloseAfterApply,
        FaultKind::CloseBeforeApply,
        FaultKind::Status(503),
    ] {
        world.sim.fault_by_chance(Op::BatchUpdate, kind, 0.1);
        world.sim.fault_by_chance(Op::BatchRead, kind, 0.1);
    }
    for round in 0..8 {
        for (key, id) in &records {
            world
                .update(
                    key,
                    &format!("company_name = 'here {round}', legal_name = 'legal {round}'"),
                )
                .await?;
            world.person_sets(id, "name", &format!("there {round}"))?;
            world.person_sets(id, "phone", &format!("+{round}"))?;
        }
    }
    world.sim.clear_faults();
    world.sim.webhook_faults(WebhookFaults::default());
    world.settle().await?;
    world.settle().await?;
    for (key, id) in &records {
        for (property, column, last) in [
            ("name", "company_name", None),
            ("warp_legal_name", "legal_name", Some("legal 7")),
            ("phone", "contact->>'phone'", Some("+7")),
        ] {
            let (here, there) = (world.row(key, column).await?, world.hubspot(id, property));
            assert_eq!(here, there, "{property} of {key}\n{}", world.picture().await?);
            if last.is_some() {
                assert_eq!(here.as_deref(), last, "{property} of {key}");
            } else {
                assert!(
                    here.as_deref().is_some_and(|v| v.ends_with(" 7")),
                    "{property} of {key} is {here:?}"
                );
            }
        }
    }
    assert_eq!(
        world
            .count("FROM hubspot.field_state WHERE status <> 'in_sync'")
            .await?,
        0
    );
    assert_eq!(world.sim.records("companies").len(), 5);
    ledger_is_complete(&world).await
}

/// Two relays share the work: each record goes to one of them, each edit is written once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_relays_share_the_work() -> Result<()> {
    let world = World::start("two_relays").await?;
    let second = world.run_relay("").await?;
    for n in 0..20 {
        world
            .sql
            .batch_execute(&format!(
                "INSERT INTO customers (ban, company_name, status) SELECT 'BAN-{n}-' || i, 'Company', 'ACTIVE' FROM generate_series(1, 10) i"
            ))
            .await?;
    }
    world.settle().await?;
    for n in 0..10 {
        world
            .sql
            .batch_execute(&format!(
                "UPDATE customers SET company_name = 'Name ' || id WHERE id % 10 = {n}"
            ))
            .await?;
    }
    world.settle().await?;
    let companies = world.sim.records("companies");
    assert_eq!(companies.len(), 200);
    for company in &companies {
        assert_eq!(
            world.versions(&company.id, "name").len(),
            2,
            "{:?}",
            world.versions(&company.id, "name")
        );
    }
    assert_eq!(
        world
            .count("FROM hubspot.field_state WHERE status <> 'in_sync'")
            .await?,
        0
    );
    assert_eq!(world.count("FROM hubspot.conflicts").await?, 0);
    assert_eq!(
        world
            .count("FROM hubspot.relay_status WHERE last_seen_at > now() - interval '15 seconds'")
            .await?,
        2
    );
    ledger_is_complete(&world).await?;
    second.stop().await;
    Ok(())
}

/// HubSpot is away for longer than a record's retries last: none is spent on that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_fails_nothing() -> Result<()> {
    let world = World::start("outage").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.sim.clear_log();
    world.sim.fault_by_chance(Op::Any, FaultKind::Status(503), 1.0);
    world.update(&key, "company_name = 'Acme 2'").await?;
    let tried = async {
        while world.sim.count(Op::Any) < 8 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(25), tried)
        .await
        .with_context(|| format!("{} requests", world.sim.count(Op::Any)))?;
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    world.sim.clear_faults();
    world.until_hubspot(&id, "name", Some("Acme 2")).await?;
    world.settle().await?;
    assert_eq!(world.versions(&id, "name"), ["Acme", "Acme 2"]);
    assert_eq!(world.count("FROM hubspot.failed_syncs").await?, 0);
    in_sync(&world, &key, "company_name", "Acme 2").await?;
    ledger_is_complete(&world).await
}

/// A row that was deleted and inserted again, as many loaders do it, finds its company.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_deleted_and_inserted_again_keeps_its_company() -> Result<()> {
    let world = World::start("reinserted").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world
        .sql
        .execute(&format!("DELETE FROM customers WHERE id = {key}"), &[])
        .await?;
    world.settle().await?;
    let again = world.insert("BAN-1", "Acme again").await?;
    world.until_hubspot(&id, "name", Some("Acme again")).await?;
    world.settle().await?;
    assert_eq!(world.hubspot_id(&again).await?.as_deref(), Some(id.as_str()));
    assert_eq!(world.sim.records("companies").len(), 1);
    ledger_is_complete(&world).await
}
