//! Random schedules, end to end: edits on both sides with all four strategies, webhooks that are held, doubled, reordered
//! and late, answers that are lost, writes that land late, relays that crash. Afterwards the invariants must hold.
//!
//! A schedule is made of its seed alone; what the two sides and the relay do at the same time is not, and that is the
//! point.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::{Fault, FaultKind, Op, WebhookFaults};
use hubspot_sync_tests::world::World;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

/// A field: its name, its property, its column as read, and how it is set.
struct Field {
    name: &'static str,
    property: &'static str,
    read: &'static str,
    set: fn(&str) -> String,
}

const FIELDS: [Field; 4] = [
    Field {
        name: "company_name",
        property: "name",
        read: "company_name",
        set: |v| format!("company_name = '{v}'"),
    },
    Field {
        name: "legal_name",
        property: "warp_legal_name",
        read: "legal_name",
        set: |v| format!("legal_name = '{v}'"),
    },
    Field {
        name: "contact_phone",
        property: "phone",
        read: "contact->>'phone'",
        set: |v| format!("contact = jsonb_set(contact, '{{phone}}', '\"{v}\"')"),
    },
    Field {
        name: "address.city",
        property: "city",
        read: "address->>'city'",
        set: |v| format!("address = jsonb_set(address, '{{city}}', '\"{v}\"')"),
    },
];

/// Everything that was ever written to a field of a record, and what was written last.
#[derive(Default)]
struct Written {
    values: BTreeSet<String>,
    newest: Option<String>,
    here: usize,
    there: usize,
}

struct Schedule {
    world: World,
    rng: StdRng,
    records: Vec<(String, String)>,
    written: BTreeMap<(usize, usize), Written>,
    held: bool,
    step: usize,
}

impl Schedule {
    async fn start(name: &str, seed: u64) -> Result<Schedule> {
        let world = World::start_with(name, |m| {
            m["company_name"]["conflict_resolution"] = json!("LATEST_WINS");
            m["legal_name"]["conflict_resolution"] = json!("WARP_WINS");
            m["contact_phone"]["conflict_resolution"] = json!("HUBSPOT_WINS");
            m["address"]["conflict_resolution"] = json!("MANUAL");
        })
        .await?;
        let mut records = Vec::new();
        for n in 0..3 {
            records.push(world.linked(&format!("BAN-{n}"), &format!("Company {n}")).await?);
        }
        world.sim.webhook_faults(WebhookFaults {
            double: 0.3,
            reorder: 0.4,
            delay: 0.3,
            delay_ms: 80,
            ..WebhookFaults::default()
        });
        Ok(Schedule {
            world,
            rng: StdRng::seed_from_u64(seed),
            records,
            written: BTreeMap::new(),
            held: false,
            step: 0,
        })
    }

    async fn edit(&mut self, here: bool) -> Result<()> {
        let (r, f) = (
            self.rng.random_range(0..self.records.len()),
            self.rng.random_range(0..FIELDS.len()),
        );
        let value = format!("{} {}", if here { "here" } else { "there" }, self.step);
        let (key, id) = &self.records[r];
        self.world.later().await?;
        if here {
            self.world.update(key, &(FIELDS[f].set)(&value)).await?;
        } else {
            self.world.person_sets(id, FIELDS[f].property, &value)?;
        }
        let written = self.written.entry((r, f)).or_default();
        written.values.insert(value.clone());
        written.newest = Some(value);
        if here {
            written.here += 1;
        } else {
            written.there += 1;
        }
        Ok(())
    }

    fn fault(&mut self) {
        const KINDS: [FaultKind; 7] = [
            FaultKind::CloseAfterApply,
            FaultKind::CloseBeforeApply,
            FaultKind::StatusAfterApply(502),
            FaultKind::Status(503),
            FaultKind::LateApply(40),
            FaultKind::Delay(60),
            FaultKind::DelayBeforeApply(60),
        ];
        if self.world.sim.pending_faults() == 0 {
            let kind = KINDS[self.rng.random_range(0..KINDS.len())];
            let op = if self.rng.random_bool(0.7) {
                Op::BatchUpdate
            } else {
                Op::BatchRead
            };
            self.world.sim.fault(Fault { op, kind, times: 1 });
        }
    }

    async fn replace_relay(&mut self) -> Result<()> {
        let relay = self.world.take_relay().context("the relay")?;
        if self.rng.random_bool(0.3) {
            relay.stop().await;
        } else {
            relay.crash().await;
        }
        let settings = if self.rng.random_bool(0.5) {
            "[cache]\nttl = \"0s\""
        } else {
            ""
        };
        self.world.start_relay(settings).await?;
        self.world.age_leases().await
    }

    async fn run(&mut self, steps: usize) -> Result<()> {
        for step in 0..steps {
            self.step = step;
            match self.rng.random_range(0..100) {
                0..40 => self.edit(true).await?,
                40..75 => self.edit(false).await?,
                75..83 => self.fault(),
                83..88 => {
                    self.held = !self.held;
                    if self.held {
                        self.world.sim.hold_webhooks();
                    } else {
                        self.world.sim.release_webhooks();
                    }
                }
                88..91 => self.replace_relay().await?,
                91..95 => self.world.until("NOT EXISTS (SELECT 1 FROM hubspot.capture)").await?,
                95..98 => self.world.sim.flush().await,
                _ => self.world.settle().await?,
            }
        }
        Ok(())
    }

    /// No more edits and faults; what is held for a person is decided, what failed is tried again.
    async fn finish(&mut self) -> Result<()> {
        self.world.sim.clear_faults();
        self.world.sim.webhook_faults(WebhookFaults::default());
        self.world.sim.release_webhooks();
        self.world.age_leases().await?;
        self.world.settle().await?;
        for _ in 0..3 {
            self.world.sql.query_one("SELECT hubspot.retry_failed()", &[]).await?;
            self.world.settle().await?;
            let open = self
                .world
                .sql
                .query(
                    "SELECT id FROM hubspot.conflicts WHERE status = 'open' ORDER BY id",
                    &[],
                )
                .await?;
            for row in open {
                let winner = if self.rng.random_bool(0.5) { "WARP" } else { "HUBSPOT" };
                self.world
                    .sql
                    .query_one(
                        "SELECT hubspot.resolve_conflict($1, $2)",
                        &[&row.get::<_, i64>(0), &winner],
                    )
                    .await?;
            }
            self.world.settle().await?;
        }
        Ok(())
    }

    async fn invariants_hold(&self) -> Result<()> {
        let world = &self.world;
        for ((r, f), written) in &self.written {
            let ((key, id), field) = (&self.records[*r], &FIELDS[*f]);
            let (here, there) = (world.row(key, field.read).await?, world.hubspot(id, field.property));
            let story = || async {
                let rows = world
                    .sql
                    .query(
                        "SELECT to_jsonb(l)::text FROM hubspot.sync_log l WHERE entity_key = $1 AND field = $2 ORDER BY id",
                        &[key, &field.name],
                    )
                    .await?;
                let lines: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
                let state = world
                    .text(&format!(
                        "SELECT to_jsonb(s)::text FROM hubspot.field_state s WHERE entity_key = '{key}' AND field = '{}'",
                        field.name
                    ))
                    .await?;
                Ok::<String, anyhow::Error>(format!(
                    "{state:?}\nHubSpot: {:?}\n{}",
                    world.sim.history("companies", id, field.property),
                    lines.join("\n")
                ))
            };
            // I1 convergence.
            if here != there {
                anyhow::bail!(
                    "{} of {key}: {here:?} here, {there:?} there\n{}",
                    field.name,
                    story().await?
                );
            }
            let value = here.context("a value")?;
            // I1: the value that the policy picks, where that does not depend on who saw what when.
            if field.name == "company_name" && Some(&value) != written.newest.as_ref() {
                anyhow::bail!(
                    "{value:?} is not the newest of {key}, {:?}\n{}",
                    written.newest,
                    story().await?
                );
            }
            // I3 no phantom.
            assert!(written.values.contains(&value), "nobody wrote {value:?}");
            for version in world.sim.history("companies", id, field.property) {
                let known = written.values.contains(&version.value)
                    || (field.name == "company_name" && version.value.starts_with("Company "));
                assert!(known, "nobody wrote {version:?}");
            }
            // I4 no loop: an edit causes at most one write per side, and one more where a write of ours landed late.
            let late = world.logged(key, field.name, "late_write").await?;
            let ours = world
                .sim
                .history("companies", id, field.property)
                .iter()
                .filter(|v| v.source_type == "INTEGRATION")
                .count();
            let bound = written.here + written.there + usize::try_from(late)? + 1;
            if ours > bound {
                anyhow::bail!(
                    "{ours} writes of {} of {key}, not {bound}\n{}",
                    field.name,
                    story().await?
                );
            }
            assert_eq!(
                world.state(key, field.name, "status").await?.as_deref(),
                Some("in_sync"),
                "{} of {key}",
                field.name
            );
        }
        // I2 no lost edit: every edit is in the ledger and has an end.
        let edits: usize = self.written.values().map(|w| w.here).sum();
        assert_eq!(
            usize::try_from(
                world
                    .count("FROM hubspot.sync_log WHERE action = 'edit' AND detail = 'update'")
                    .await?
            )?,
            edits
        );
        assert_eq!(
            world
                .count("FROM hubspot.sync_log WHERE action = 'edit' AND outcome IS NULL")
                .await?,
            0,
            "{}",
            world.picture().await?
        );
        // I6: each event once.
        let events: usize = self.written.values().map(|w| w.there).sum();
        assert_eq!(
            usize::try_from(
                world
                    .count("FROM hubspot.webhook_events WHERE event->>'changeSource' = 'CRM_UI'")
                    .await?
            )?,
            events
        );
        assert_eq!(world.sim.records("companies").len(), self.records.len());
        Ok(())
    }
}

async fn schedule(seed: u64) -> Result<()> {
    let mut schedule = Schedule::start(&format!("schedule_{seed}"), seed).await?;
    schedule.run(120).await?;
    schedule.finish().await?;
    schedule.invariants_hold().await?;
    // At rest nothing more happens.
    schedule.world.sim.clear_log();
    schedule.world.settle().await?;
    assert_eq!(schedule.world.sim.requests().len(), 0);
    schedule.world.take_relay().context("the relay")?.stop().await;
    Ok(())
}

/// Runs the schedule of a seed; `HUBSPOT_SYNC_SEED` puts another one in its place.
async fn schedules(seed: u64) -> Result<()> {
    let seed = match std::env::var("HUBSPOT_SYNC_SEED") {
        Ok(given) => given.parse()?,
        Err(_) => seed,
    };
    schedule(seed)
        .await
        .with_context(|| format!("HUBSPOT_SYNC_SEED={seed}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_zero_converges() -> Result<()> {
    schedules(0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_one_converges() -> Result<()> {
    schedules(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_two_converges() -> Result<()> {
    schedules(2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_three_converges() -> Result<()> {
    schedules(3).await
}

/// A batch field waits for its time, a real-time field does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_field_waits_for_the_incremental_sync() -> Result<()> {
    let world = World::start_with("batch_field", |m| {
        m["current_balance"]["update_frequency"] = json!("batch")
    })
    .await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let (other, other_id) = world.linked("BAN-2", "Other").await?;
    world.update(&key, "current_balance = 5").await?;
    world.update(&other, "prepaid_balance = 7").await?;
    world
        .until_hubspot(&other_id, "warp_prepaid_balance", Some("7"))
        .await?;
    world.until("(SELECT count(*) FROM hubspot.outbox) = 1").await?;
    assert_eq!(world.hubspot(&id, "warp_current_balance"), None);
    assert_eq!(
        world
            .count(&format!(
                "FROM hubspot.outbox WHERE entity_key = '{key}' AND state = 'waiting' AND fields = '{{current_balance}}'
                 AND due_at BETWEEN now() + interval '14 minutes' AND now() + interval '16 minutes'"
            ))
            .await?,
        1,
        "{}",
        world.picture().await?
    );
    assert_eq!(
        world.state(&key, "current_balance", "status").await?.as_deref(),
        Some("pending")
    );
    // Its time comes.
    world
        .sql
        .execute("UPDATE hubspot.queue SET due_at = now()", &[])
        .await?;
    world.until_hubspot(&id, "warp_current_balance", Some("5")).await?;
    world.settle().await?;
    assert_eq!(world.outcomes(&key, "current_balance").await?, ["delivered"]);
    Ok(())
}

/// A real-time edit of a record whose batch field waits is not held back by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_time_field_does_not_wait_for_a_batch_field() -> Result<()> {
    let world = World::start_with("batch_mixed", |m| {
        m["current_balance"]["update_frequency"] = json!("batch")
    })
    .await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    world.update(&key, "current_balance = 5").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.outbox WHERE due_at > now() + interval '14 minutes')")
        .await?;
    world.update(&key, "company_name = 'Acme 2'").await?;
    world.until_hubspot(&id, "name", Some("Acme 2")).await
}
