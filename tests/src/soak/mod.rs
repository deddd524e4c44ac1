//! A soak: hundreds of records, edited on both sides at random while everything between the sides fails, then checked
//! field by field against rules that know nothing of how the product decides.
//!
//! # What is checked
//!
//! - I1: both sides are equal, or a `MANUAL` conflict is open; nothing is dirty, in flight or parked; and the value is the
//!   one the field's policy picks ([`oracle`]).
//! - I2: the ledger holds each local edit that was made, once, with its end; each loser is in `conflicts` ([`ledger`]).
//! - I3: the value is one that somebody wrote.
//!
//! # Lost webhooks
//!
//! An event that never comes can only be noticed by reading the record again, which is reconciliation's work. HubSpot
//! however repeats an event for 24 hours, so the events that the faults swallowed are sent once more after the faults
//! stopped: to the product they were delayed for very long. [`Settings::drop_for_good`] leaves them lost.
//!
//! # Chaos
//!
//! With [`Settings::chaos`] two relays share the work, one of them is crashed at a time and its leases are waited out, and the
//! server is stopped at once, restarted, and has sessions killed under it. The application's own statements wait meanwhile:
//! whether a commit that got no answer took effect is not what is tested.
//!
//! # Faults
//!
//! Each fault of requests that the simulator knows is played and counted where a request meets it (`deck`); one that was
//! never met makes the run fail. HubSpot as a whole is out for moments, too. How strictly and in what form HubSpot answers,
//! where its documentation leaves that open, depends on the seed.
//!
//! # Leases and days
//!
//! A crashed relay leaves claims that nobody takes over before their 30 seconds are up, and a record that met the limit of
//! the day waits for a quarter of an hour. The soak does not sit that out: while no relay runs it ends the leases, and the
//! day.

pub mod actors;
pub mod database;
mod deck;
pub mod fields;
pub mod journal;
pub mod ledger;
pub mod oracle;
pub mod report;
pub mod trouble;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value as Json, json};

use crate::cluster::Cluster;
use crate::simulator::{Op, WebhookFaults};
use crate::world::World;
use database::Database;
use fields::FIELDS;
use journal::Journal;
use report::Report;
use trouble::{LONGEST_LATE, Troubles};

/// HubSpot's object type of the records.
pub(crate) const OBJECT: &str = "companies";

/// Sessions that edit at the same time.
const ACTORS: usize = 12;

/// Times that swallowed events are sent again: a repair may be swallowed no more, because the faults have stopped.
const ROUNDS: usize = 4;

/// What a soak is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long both sides are edited.
    pub duration: Duration,
    /// Seed of every random choice; the interleaving of the processes is not in its hands.
    pub seed: u64,
    /// Number of records.
    pub records: usize,
    /// Leave lost webhooks lost: fields then diverge, until a reconciliation.
    pub drop_for_good: bool,
    /// No faults at all: what is left is concurrency.
    pub calm: bool,
    /// Two relays, and the database is restarted, crashed, and loses sessions to SIGKILL: `make chaos`.
    pub chaos: bool,
}

/// A record on both sides.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// Key of the row.
    pub(crate) key: String,
    /// Id of the HubSpot record.
    pub(crate) id: String,
}

/// Runs one soak.
pub async fn run(settings: &Settings) -> Result<Report> {
    let begun = Instant::now();
    let name = format!("soak{}", settings.seed);
    // Chaos takes its server down, so it has one of its own; both end with this function.
    let own = settings.chaos.then(Cluster::start).transpose()?.map(Arc::new);
    let mut world = match &own {
        Some(cluster) => World::on(cluster, &name, fields::change_mapping).await?,
        None => World::without_relay(&name, fields::change_mapping).await?,
    };
    world.sim.set_rate_limit(0);
    let calm = Arc::new(tokio::sync::RwLock::new(()));
    let database = own.clone().map(|cluster| Database::new(cluster, Arc::clone(&calm)));
    let mut troubles = Troubles::new(&world, settings, database)?;
    let pairs = link(&world, settings.records).await.context("linking the records")?;
    let initial = rows(&world).await?;
    world.sim.clear_log();

    if !settings.calm {
        open_questions(&world, settings.seed);
        world.sim.webhook_faults(WebhookFaults {
            drop: 0.05,
            double: 0.2,
            reorder: 0.3,
            delay: 0.3,
            delay_ms: 2_000,
        });
    }
    let until = Instant::now() + settings.duration;
    let actors: Vec<_> = (0..ACTORS)
        .map(|number| {
            let own: Vec<(usize, Pair)> = pairs
                .iter()
                .enumerate()
                .filter(|(n, _)| n % ACTORS == number)
                .map(|(n, pair)| (n, pair.clone()))
                .collect();
            let seed = settings.seed.wrapping_mul(1_000).wrapping_add(number as u64);
            let rng = StdRng::seed_from_u64(seed);
            let actor = actors::Actor::new(world.sim.clone(), world.url.clone(), own, rng, Arc::clone(&calm));
            tokio::spawn(actor.run(until))
        })
        .collect();
    troubles.look_at_clocks(&world).await?;
    troubles.run(&mut world, until).await?;
    let mut journal = Journal::default();
    for actor in actors {
        journal.merge(actor.await.context("an editing session panicked")??);
    }

    world.sim.clear_faults();
    world.sim.webhook_faults(WebhookFaults::default());
    // A request that was applied late may still be on its way.
    tokio::time::sleep(LONGEST_LATE).await;
    troubles.restart(&world).await?;
    let mut unsettled = Vec::new();
    let mut resent = 0;
    for _ in 0..ROUNDS {
        if let Err(error) = world.settle().await {
            unsettled.push(format!("{error:#}"));
        }
        troubles.look_at_clocks(&world).await?;
        let missed = missed(&world).await?;
        if missed.is_empty() || settings.drop_for_good {
            break;
        }
        resent += missed.len();
        for event in missed {
            world.sim.send_event(event);
        }
    }

    let mut report = Report {
        seed: settings.seed,
        records: pairs.len(),
        warp_edits: journal.warp_count(),
        hubspot_edits: journal.hubspot_count(),
        faults: troubles.counted(&world.sim),
        unmet: troubles.unmet(&world.sim),
        unsettled,
        tie_us: troubles.tie_us,
        webhooks: webhooks(&world, resent).await?,
        ..Report::default()
    };
    check(&world, &pairs, &initial, &journal, &mut report).await?;
    api_calls(&world, &pairs, &mut report);
    troubles.stop();
    world.sim.stop().await;
    if let Some(cluster) = own {
        cluster.stop();
    }
    report.took = begun.elapsed();
    Ok(report)
}

/// How HubSpot answers where its documentation leaves it open, and no value depends on it.
fn open_questions(world: &World, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xa5);
    world.sim.set_behaviour(|b| {
        b.report_unknown_ids = rng.random();
        b.echo_trace_id = rng.random();
        b.shuffle_results = rng.random();
        b.omit_empty = rng.random();
        b.update_trace_ids = rng.random();
    });
}

/// Makes the rows, lets the relay create their records, and gives both sides' names.
async fn link(world: &World, records: usize) -> Result<Vec<Pair>> {
    let count = i32::try_from(records)?;
    world.sql.execute(fields::INSERT, &[&count]).await?;
    world.settle().await?;
    let found = world
        .sql
        .query(
            "SELECT entity_key, hubspot_id FROM hubspot.link WHERE status = 'linked' ORDER BY entity_key::bigint",
            &[],
        )
        .await?;
    let pairs: Vec<Pair> = found
        .iter()
        .map(|row| Pair {
            key: row.get(0),
            id: row.get(1),
        })
        .collect();
    anyhow::ensure!(pairs.len() == records, "only {} of {records} were linked", pairs.len());
    Ok(pairs)
}

/// The rows' values by key, in the order of [`FIELDS`] and in canonical form.
async fn rows(world: &World) -> Result<BTreeMap<String, Vec<Option<String>>>> {
    let columns: Vec<&str> = FIELDS.iter().map(|field| field.read).collect();
    let sql = format!("SELECT id::text, {} FROM customers", columns.join(", "));
    let found = world.sql.query(&sql, &[]).await?;
    Ok(found
        .iter()
        .map(|row| (row.get(0), (1..=FIELDS.len()).map(|n| row.get(n)).collect()))
        .collect())
}

/// Events of the simulator that the product never got.
async fn missed(world: &World) -> Result<Vec<Json>> {
    let known: HashSet<String> = world
        .sql
        .query("SELECT event->>'eventId' FROM hubspot.webhook_events", &[])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let all = world.sim.events();
    Ok(all
        .into_iter()
        .filter(|event| !known.contains(&event["eventId"].to_string()))
        .collect())
}

/// What became of the webhooks.
async fn webhooks(world: &World, resent: usize) -> Result<Vec<(&'static str, usize)>> {
    let deliveries = world.sim.deliveries();
    let accepted = deliveries.iter().filter(|d| (200..300).contains(&d.status));
    let refused = deliveries.iter().filter(|d| !(200..300).contains(&d.status)).count();
    let late = world
        .sql
        .query_one(
            "SELECT count(*) FROM hubspot.webhook_events WHERE extract(epoch FROM received_at) * 1e6 > occurred_at + 500000",
            &[],
        )
        .await?;
    Ok(vec![
        ("events made", world.sim.events().len()),
        ("event copies accepted", accepted.map(|d| d.events).sum()),
        ("requests refused or unanswered", refused),
        ("events later than 0.5 s", usize::try_from(late.get::<_, i64>(0))?),
        ("events swallowed, sent again at the end", resent),
    ])
}

/// Checks every field of every record, and the ledger.
async fn check(
    world: &World,
    pairs: &[Pair],
    initial: &BTreeMap<String, Vec<Option<String>>>,
    journal: &Journal,
    report: &mut Report,
) -> Result<()> {
    let books = ledger::Books::load(world).await?;
    let ends = rows(world).await?;
    let app = world.sim.app_id().to_string();
    for (number, pair) in pairs.iter().enumerate() {
        let record = world.sim.get(OBJECT, &pair.id).context("a HubSpot record is gone")?;
        for (index, field) in FIELDS.iter().enumerate() {
            let edits = journal.of(number, index);
            let history = world.sim.history(OBJECT, &pair.id, field.property);
            let case = oracle::Case {
                rule: field.rule,
                tie_us: report.tie_us,
                initial: initial.get(&pair.key).and_then(|row| row[index].clone()),
                warp: &edits.warp,
                history: oracle::told_apart(&history, &app),
                row: ends.get(&pair.key).and_then(|row| row[index].clone()),
                hubspot: record.value(field.property).map(str::to_owned),
                status: books.status(&pair.key, field.name),
                conflicts: books.conflicts(&pair.key, field.name),
            };
            report.fields += 1;
            let mut problems = ledger::incomplete(&books, &pair.key, field, &case);
            report.incomplete += problems.len();
            match oracle::judge(&case) {
                oracle::Verdict::Right => {}
                oracle::Verdict::Ambiguous => report.ambiguous += 1,
                oracle::Verdict::Held => report.held += 1,
                oracle::Verdict::Skipped => report.skipped += 1,
                oracle::Verdict::Wrong(why) => {
                    report.diverged += 1;
                    problems.push(why);
                }
            }
            if !problems.is_empty() && report.cases.len() < report::SHOWN {
                let story = ledger::story(world, &pair.key, field, &case).await?;
                report
                    .cases
                    .push(format!("{} {}: {}\n{story}", pair.key, field.name, problems.join("; ")));
            }
        }
    }
    report.conflicts = books.conflict_counts();
    report.outcomes = books.outcome_counts();
    report.failed = books.failed;
    Ok(())
}

/// Counts the API's calls and the values that they changed.
fn api_calls(world: &World, pairs: &[Pair], report: &mut Report) {
    let writes = [Op::BatchUpdate, Op::BatchUpsert, Op::Update, Op::Create];
    let log = world.sim.requests();
    report.read_calls = log
        .iter()
        .filter(|entry| matches!(entry.op, Op::BatchRead | Op::GetOne))
        .count();
    report.write_calls = log.iter().filter(|entry| writes.contains(&entry.op)).count();
    report.record_writes = log
        .iter()
        .filter(|entry| writes.contains(&entry.op))
        .map(|entry| entry.inputs)
        .sum();
    let app = world.sim.app_id().to_string();
    report.value_writes = pairs
        .iter()
        .flat_map(|pair| FIELDS.iter().map(move |field| (pair, field)))
        .map(|(pair, field)| {
            let history = world.sim.history(OBJECT, &pair.id, field.property);
            let own = history.iter().filter(|version| version.source_id == app).count();
            // The first is the record's creation.
            own.saturating_sub(usize::from(field.rule != fields::Rule::HubspotOnly))
        })
        .sum();
}

/// A mapping's strategy, set in the document.
pub(crate) fn strategy(mapping: &mut Json, field: &str, strategy: &str) {
    mapping[field]["conflict_resolution"] = json!(strategy);
}
