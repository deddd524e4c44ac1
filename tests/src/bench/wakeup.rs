//! How soon after a commit the relay looks, when it sleeps: alone, and with many sessions that commit now and then.
//!
//! The relay here is as small as one can be: it follows the contract's protocol (notified, awake, drain, asleep, one more
//! look, sleep until notified or a second has passed) and drains by throwing away. What is measured is the time from the
//! answer to COMMIT until the look that found the change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rand::Rng as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tokio_util::sync::CancellationToken;

use super::Bench;
use super::figures::Table;
use super::fixture::Fixture;
use super::stats::percentile;
use crate::cluster::connect;

/// The longest sleep of a relay that is not woken: the stated bound of a wake-up, besides the time that a look takes.
const POLL: Duration = Duration::from_secs(1);
/// As `RELAY_CONTRACT.md` has it.
const LINGER: Duration = Duration::from_millis(20);

/// A session that is told of notifications.
async fn listen(url: &str) -> Result<(Client, UnboundedReceiver<()>)> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notification(_)) => {
                    if sender.send(()).is_err() {
                        break;
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    });
    client.batch_execute("LISTEN hubspot_outbox").await?;
    Ok((client, receiver))
}

/// Sleeps until it is notified, or `most` has passed; whether it was notified.
async fn sleep(notified: &mut UnboundedReceiver<()>, stop: &CancellationToken, most: Duration) -> bool {
    let woken = tokio::select! {
        message = notified.recv() => message.is_some(),
        () = tokio::time::sleep(most) => false,
        () = stop.cancelled() => false,
    };
    while notified.try_recv().is_ok() {}
    woken
}

/// A relay that sleeps, is woken, looks and sleeps again, until it is stopped.
pub async fn idle_relay(url: &str, stop: CancellationToken) -> Result<JoinHandle<Result<()>>> {
    let (client, mut notified) = listen(url).await?;
    Ok(tokio::spawn(async move {
        while !stop.is_cancelled() {
            client.query("SELECT hubspot.relay_awake()", &[]).await?;
            client.query("SELECT 1 FROM hubspot.capture LIMIT 1", &[]).await?;
            client.query("SELECT hubspot.relay_asleep()", &[]).await?;
            client.query("SELECT 1 FROM hubspot.capture LIMIT 1", &[]).await?;
            if sleep(&mut notified, &stop, LINGER).await {
                continue;
            }
            client.query("SELECT 1 FROM hubspot.capture LIMIT 1", &[]).await?;
            sleep(&mut notified, &stop, POLL).await;
        }
        Ok(())
    }))
}

/// When each row's change was committed, and how long it then took until it was seen. Unit: milliseconds.
#[derive(Default)]
struct Watch {
    committed: HashMap<String, Instant>,
    /// Seen before its writer could say when it committed.
    seen: HashMap<String, Instant>,
    waits: Vec<f64>,
}

impl Watch {
    fn committed(&mut self, key: &str, at: Instant) {
        match self.seen.remove(key) {
            // The look came before the answer to COMMIT had arrived.
            Some(_) => self.waits.push(0.0),
            None => drop(self.committed.insert(key.to_owned(), at)),
        }
    }

    fn seen(&mut self, key: String, at: Instant) {
        match self.committed.remove(&key) {
            Some(committed) => self
                .waits
                .push(at.saturating_duration_since(committed).as_secs_f64() * 1000.0),
            None => drop(self.seen.insert(key, at)),
        }
    }
}

/// Throws away what waits, and notes what it was.
async fn drain(client: &Client, watch: &Mutex<Watch>) -> Result<()> {
    loop {
        let rows = client
            .query("DELETE FROM hubspot.capture RETURNING entity_key", &[])
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            watch.seen(row.get(0), now);
        }
    }
}

/// The section `wakeup`.
///
/// # Errors
///
/// When a run fails.
pub async fn run(bench: &mut Bench) -> Result<()> {
    println!(
        "== wakeup: from the answer to COMMIT until a sleeping relay has looked; each session commits every 20 to 60 ms; stated bound {} ms and a look",
        POLL.as_millis()
    );
    let fixture = Fixture::build(&bench.server, "wakeup", 1_000, &["ours"]).await?;
    let mut table = Table::new(&["sessions", "commits", "p50 ms", "p99 ms", "worst ms"]);
    for sessions in [1, 8, 32, 64] {
        let waits = measure(
            &fixture,
            sessions,
            bench.settings.seconds * u64::from(bench.settings.rounds),
        )
        .await?;
        let (p50, p99, worst) = (
            percentile(&waits, 0.5),
            percentile(&waits, 0.99),
            percentile(&waits, 1.0),
        );
        let show = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.2}"));
        table.row(vec![
            sessions.to_string(),
            waits.len().to_string(),
            show(p50),
            show(p99),
            show(worst),
        ]);
        bench.figures.set(format!("wakeup_p50_ms_{sessions}"), p50);
        bench.figures.set(format!("wakeup_worst_ms_{sessions}"), worst);
        bench.progress(&format!("{sessions} sessions"));
    }
    bench.figures.set("wakeup_bound_ms", Some(POLL.as_secs_f64() * 1000.0));
    println!("{table}");
    Ok(())
}

async fn measure(fixture: &Fixture, sessions: u32, seconds: u64) -> Result<Vec<f64>> {
    fixture.reset("ours").await?;
    let watch = Arc::new(Mutex::new(Watch::default()));
    let stop = CancellationToken::new();
    let relay = {
        let (client, mut notified) = listen(&fixture.url).await?;
        let (watch, stop) = (Arc::clone(&watch), stop.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                client.query("SELECT hubspot.relay_awake()", &[]).await?;
                drain(&client, &watch).await?;
                client.query("SELECT hubspot.relay_asleep()", &[]).await?;
                drain(&client, &watch).await?;
                if sleep(&mut notified, &stop, LINGER).await {
                    continue;
                }
                drain(&client, &watch).await?;
                sleep(&mut notified, &stop, POLL).await;
            }
            anyhow::Ok(())
        })
    };
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut writers = Vec::new();
    for number in 1..=sessions {
        let client = connect(&fixture.url).await?;
        let watch = Arc::clone(&watch);
        writers.push(tokio::spawn(async move {
            let update = client
                .prepare("UPDATE customers_ours SET company_name = $1 WHERE id = $2")
                .await?;
            let (mut at, key) = (0_u64, i64::from(number));
            while Instant::now() < until {
                at += 1;
                client
                    .execute(&update, &[&format!("Company {at} of {number}"), &key])
                    .await?;
                let committed = Instant::now();
                watch
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .committed(&key.to_string(), committed);
                // Until the row was looked at, its next change could not be told from this one.
                let pause = Duration::from_millis(rand::rng().random_range(20..60));
                tokio::time::sleep(pause).await;
                while watch
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .committed
                    .contains_key(&key.to_string())
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            anyhow::Ok(())
        }));
    }
    for writer in writers {
        writer.await.map_err(|e| anyhow!("a writer: {e}"))??;
    }
    stop.cancel();
    relay.await.map_err(|e| anyhow!("the relay: {e}"))??;
    let waits = std::mem::take(&mut watch.lock().unwrap_or_else(PoisonError::into_inner).waits);
    Ok(waits)
}
