//! The demo: 1,000 customers, the strategy's mapping, a relay and a simulated HubSpot, and what happens between them.
//!
//! Every step shows what each side holds before and after, and checks that it came out right. Whatever happens, what was
//! started is stopped at the end.

mod conflicts;
mod screen;
mod steps;
mod summary;
mod view;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value as Json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster;
use crate::simulator::Op;
use crate::world::{STRATEGY_MAPPING, World};

use screen::{Screen, thousands};

/// Rows that are there before the mapping.
const CUSTOMERS: usize = 1000;

/// The customers of the demo. What the mapping leaves to HubSpot (tier, credit limit, payment terms) is empty.
const FILL: &str = r#"
INSERT INTO customers (ban, current_balance, prepaid_balance, status, company_name, legal_name, contact, address)
SELECT 'BAN-' || n, i * 1.25, 20, 'ACTIVE', 'Customer ' || n, 'Customer ' || n || ' Ltd',
  jsonb_build_object('email', 'customer-' || n || '.example.com', 'phone', '+1 555 ' || n),
  jsonb_build_object('line1', i || ' Main Street', 'city', 'Bern', 'state', 'BE', 'zip', '3000', 'country', 'CH')
FROM (SELECT i, lpad(i::text, 4, '0') AS n FROM generate_series(1, 1000) i) numbers ORDER BY i"#;

/// Longest wait for the first sync.
const FIRST_SYNC: Duration = Duration::from_secs(120);

/// What the demo started, and so has to stop.
#[derive(Default)]
struct Stage {
    world: Option<World>,
    /// There is no PostgreSQL to stop.
    no_cluster: bool,
}

/// Plays the demo on standard output. Exit code: 0 when every check held, 1 when not, 130 after a signal.
pub async fn play() -> ExitCode {
    let begun = Instant::now();
    let mut screen = Screen::new();
    let mut stage = Stage::default();
    let played = tokio::select! {
        result = story(&mut stage, &mut screen) => Some(result),
        () = interrupted() => None,
    };
    // A wait that was given up has shown it already.
    let show_state = matches!(played, Some(Ok(())));
    let code = match played {
        Some(Ok(())) if screen.failed() == 0 => 0,
        Some(Ok(())) => 1,
        Some(Err(error)) => {
            screen.broken(&format!("{error:#}"));
            1
        }
        None => {
            screen.blank();
            screen.say("Interrupted.");
            130
        }
    };
    if code == 1
        && show_state
        && let Some(world) = &stage.world
        && let Ok(picture) = world.picture().await
    {
        eprintln!("\nWhat the database says:\n{picture}");
    }
    let started = !stage.no_cluster;
    stop(stage).await;
    screen.blank();
    if started {
        screen.say("PostgreSQL, relay and simulator are stopped, and their files are gone.");
    }
    if code != 130 {
        screen.verdict(code == 0, begun.elapsed());
    }
    ExitCode::from(code)
}

/// Returns at Ctrl-C or SIGTERM.
async fn interrupted() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers a signal ends the process, and PostgreSQL's watchdog clears up.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Starts the shared cluster; its panic becomes an error, without a backtrace.
async fn start_cluster() -> Result<()> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let started = tokio::task::spawn_blocking(cluster::shared).await;
    std::panic::set_hook(hook);
    let Err(error) = started else { return Ok(()) };
    match error.try_into_panic().map(|panic| panic.downcast::<String>()) {
        Ok(Ok(message)) => bail!("{message}"),
        _ => bail!("PostgreSQL did not start"),
    }
}

async fn stop(mut stage: Stage) {
    if let Some(mut world) = stage.world.take() {
        if let Some(relay) = world.take_relay() {
            let _ = tokio::time::timeout(Duration::from_secs(10), relay.stop()).await;
        }
        world.sim.stop().await;
    }
    if !stage.no_cluster {
        let _ = tokio::task::spawn_blocking(|| cluster::shared().stop()).await;
    }
}

async fn story(stage: &mut Stage, screen: &mut Screen) -> Result<()> {
    screen.title("hubspot_sync: customers in PostgreSQL, companies in HubSpot");
    screen.say("A table is mapped to HubSpot companies, field by field. The mapping says who owns");
    screen.say("each field: WARP (the application on PostgreSQL), HubSpot, or both. A relay carries");
    screen.say("the changes.");
    screen.say("HubSpot is a simulator here: nothing leaves this machine.");

    screen.heading("Getting ready");
    if let Err(error) = start_cluster().await {
        stage.no_cluster = true;
        return Err(error);
    }
    let world = stage.world.insert(World::without_relay("demo", |_| ()).await?);
    prepare(world, screen).await?;
    first_sync(world, screen).await?;
    steps::outbound(world, screen).await?;
    steps::inbound(world, screen).await?;
    steps::both_ways(world, screen).await?;
    conflicts::at_once(world, screen).await?;
    steps::inserted(world, screen).await?;
    steps::one_part(world, screen).await?;
    steps::refused(world, screen).await?;
    steps::echo(world, screen).await?;
    summary::show(world, screen).await
}

/// Fills the table and maps it as if it had been there before the extension.
async fn prepare(world: &World, screen: &mut Screen) -> Result<()> {
    let version = world.text("SELECT current_setting('server_version_num')").await?;
    let major = version.unwrap_or_default().parse::<u32>().unwrap_or_default() / 10_000;
    screen.check(
        true,
        &format!("PostgreSQL {major} runs in a private cluster with the extension"),
    );

    world.sql.query_one("SELECT hubspot.disable('customer')", &[]).await?;
    world.sql.batch_execute(FILL).await?;
    let rows = world.text("SELECT count(*)::text FROM customers").await?;
    screen.equal("customers in PostgreSQL", rows.as_deref(), &CUSTOMERS.to_string());
    screen.equal(
        "companies in HubSpot",
        Some(world.sim.records("companies").len()),
        &0usize.to_string(),
    );

    let mapping: Json = serde_json::from_str(STRATEGY_MAPPING)?;
    import(world, &mapping).await?;
    let row = world.sql.query_one("SELECT hubspot.export_mapping('customer')", &[]);
    screen.check(
        row.await?.get::<_, Json>(0) == mapping,
        "the strategy's mapping is imported as it stands, and exports the same",
    );
    Ok(())
}

/// `hubspot.import_mapping` for the customers.
async fn import(world: &World, mapping: &Json) -> Result<()> {
    world
        .sql
        .query_one(
            "SELECT hubspot.import_mapping('customer', 'customers', 'companies', $1)",
            &[mapping],
        )
        .await
        .context("import_mapping")?;
    Ok(())
}

/// Starts the relay and waits until every customer is a company.
async fn first_sync(world: &mut World, screen: &mut Screen) -> Result<()> {
    screen.heading("First sync: the relay starts");
    screen.say("The table was there before the mapping. Its rows are companies to be.");
    let begun = Instant::now();
    world.start_relay("").await?;
    loop {
        let linked = world
            .text("SELECT count(*)::text FROM hubspot.link WHERE status = 'linked'")
            .await?;
        let waiting = world.text("SELECT queue_depth::text FROM hubspot.status()").await?;
        if linked == Some(CUSTOMERS.to_string()) && waiting.as_deref() == Some("0") {
            break;
        }
        ensure!(
            begun.elapsed() < FIRST_SYNC,
            "the first sync did not end: {} of {CUSTOMERS} customers linked",
            linked.unwrap_or_default()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = begun.elapsed();
    let requests = world.sim.requests();
    let upserts = world.sim.count(Op::BatchUpsert);
    screen.table(
        &["", "PostgreSQL", "HubSpot"],
        &[
            vec!["before".into(), "1,000 customers".into(), "no companies".into()],
            vec![
                "after".into(),
                "1,000 customers, all with an id".into(),
                format!("{} companies", thousands(world.sim.records("companies").len())),
            ],
        ],
    );
    screen.say(&format!(
        "It took {:.1} s and {} requests: {upserts} upserts and {} reads of 100 records, {} other.",
        took.as_secs_f64(),
        requests.len(),
        world.sim.count(Op::BatchRead),
        requests.len() - upserts - world.sim.count(Op::BatchRead),
    ));
    screen.equal("upserts", Some(upserts), &(CUSTOMERS / 100).to_string());
    screen.equal(
        "companies in HubSpot",
        Some(world.sim.records("companies").len()),
        &CUSTOMERS.to_string(),
    );
    let with_id = "SELECT count(*)::text FROM customers c JOIN hubspot.link l ON l.entity_key = c.id::text
        WHERE c.external_ids->>'hubspot_company_id' = l.hubspot_id";
    screen.equal(
        "customers that hold their company's id",
        world.text(with_id).await?.as_deref(),
        &CUSTOMERS.to_string(),
    );
    let differing = view::differing(world).await?;
    screen.check(
        differing == 0,
        "names, balances and cities are the same on both sides for all of them",
    );

    screen.say("HubSpot sends an event about every value it was given. All of that is our own echo.");
    world.sim.flush().await;
    let begun = Instant::now();
    while world
        .text("SELECT 1::text WHERE EXISTS (SELECT FROM hubspot.webhook_events WHERE status IN ('pending', 'waiting'))")
        .await?
        .is_some()
    {
        ensure!(
            begun.elapsed() < FIRST_SYNC,
            "HubSpot's events of the first sync are not worked off"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let events = world.text("SELECT count(*)::text FROM hubspot.webhook_events").await?;
    let events: usize = events.unwrap_or_default().parse().unwrap_or_default();
    screen.check(
        world.sim.requests().len() == requests.len(),
        &format!("{} events came; they caused no request", thousands(events)),
    );
    Ok(())
}
