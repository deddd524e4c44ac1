//! Starts and stops the parts.
//!
//! Stop: no claim, read or write is started any more; requests in flight are waited for, for a grace period; their
//! outcomes are recorded; claims whose write was not started are given back; then intake and health end. A part that ends
//! on its own (a panic) ends the relay with an error, for the service manager to start it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, PollMode};
use crate::db::contract::Hello;
use crate::db::listener::Listener;
use crate::db::pool::Db;
use crate::error::RelayError;
use crate::figures::FigureSource;
use crate::gate::Gate;
use crate::hubspot::client::Client;
use crate::hubspot::quota::Purpose;
use crate::journal::Journal;
use crate::liveness::{Liveness, Part};
use crate::metrics::Metrics;
use crate::portal::{self, PortalId};
use crate::secrets::Watch;
use crate::status::Status;
use crate::telemetry::event;
use crate::{admin, alerts, definitions, deliver, ingest, lend, reconcile, refused, systemd, web};

/// Time between two heartbeats; the contract's.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The same while this relay may not work: what an operator or a failover changes is noticed soon.
const IMPATIENT: Duration = Duration::from_secs(1);
/// Time between two housekeeping calls; the contract's.
const MAINTAIN: Duration = Duration::from_secs(60);
/// Beyond `hubspot.timeout`: for recording outcomes after the last answer.
const GRACE: Duration = Duration::from_secs(10);
/// For `relay_release` and the last heartbeat's counts.
const FAREWELL: Duration = Duration::from_secs(3);

/// Binds the listeners and runs until `shutdown`.
///
/// # Errors
/// A wrong setting, an address in use, or a part that ended on its own.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RelayError> {
    Relay::bind(config).await?.run(shutdown).await
}

/// A relay whose listeners are bound; with port 0 in the settings the addresses tell which were given.
pub struct Relay {
    config: Config,
    relay_id: String,
    db: Db,
    client: Client,
    metrics: Metrics,
    public: TcpListener,
    private: TcpListener,
    webhook_address: SocketAddr,
    admin_address: SocketAddr,
    /// The admin page's routes.
    page: axum::Router,
    /// What opens them.
    page_token: Option<admin::Token>,
}

impl Relay {
    /// Binds both listeners. Neither database nor HubSpot is asked: the relay starts without them and waits.
    ///
    /// # Errors
    /// A wrong setting, or an address in use.
    pub async fn bind(config: Config) -> Result<Self, RelayError> {
        let metrics = Metrics::new();
        let db = Db::new(&config.database)?;
        let client = Client::shared(&config.hubspot, metrics.clone())?;
        let (public, webhook_address) = listen("webhook.listen", config.webhook.listen).await?;
        let (private, admin_address) = listen("admin.listen", config.admin.listen).await?;
        let relay_id = relay_id();
        let page_token = admin::Token::new(&config);
        let page = admin::router(&config, page_token.as_ref())?;
        Ok(Self {
            config,
            relay_id,
            db,
            client,
            metrics,
            public,
            private,
            webhook_address,
            admin_address,
            page,
            page_token,
        })
    }

    /// Where webhooks are taken in.
    pub fn webhook_address(&self) -> SocketAddr {
        self.webhook_address
    }

    /// Where health and metrics are.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// This relay's name in the database: host, process and a random part.
    pub fn relay_id(&self) -> &str {
        &self.relay_id
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// A part ended on its own.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RelayError> {
        tracing::info!(
            event = event::STARTED,
            version = env!("CARGO_PKG_VERSION"),
            relay_id = self.relay_id,
            webhook = %self.webhook_address,
            admin = %self.admin_address,
            "the relay has started"
        );
        self.warn_of_ignored();
        let grace = self.client.timeout() + GRACE;
        let status = Status::new(self.metrics.clone());
        let liveness = Liveness::new();
        let journal = self.config.poll.mode == PollMode::Journal;
        let webhooks_expected = journal || self.config.webhook.client_secret.is_some();
        self.metrics.state("webhooks_expected", webhooks_expected);
        let wake_apply = Arc::new(Notify::new());
        let wake_deliver = Arc::new(Notify::new());
        let deliver_stop = CancellationToken::new();
        // Everything but delivery: ends last.
        let stop = CancellationToken::new();
        let listener = Listener::new(self.db.clone(), Arc::clone(&wake_deliver));
        let portal: PortalId = Arc::default();

        let mut parts = Parts::default();
        let (listening, listen_stop) = (listener.clone(), stop.clone());
        parts.spawn("listener", async move { listening.run(listen_stop).await });
        let configured = self.config.hubspot.portal_id;
        parts.spawn_once(portal::run(
            self.client.clone(),
            configured,
            Arc::clone(&portal),
            status.clone(),
            stop.clone(),
        ));
        let pulse = Pulse {
            relay_id: self.relay_id.clone(),
            db: self.db.clone(),
            metrics: self.metrics.clone(),
            status: status.clone(),
            liveness: liveness.clone(),
            configured,
            portal: Arc::clone(&portal),
        };
        let (pulse_stop, woken) = (stop.clone(), Arc::clone(&wake_deliver));
        parts.spawn("heartbeat", async move { pulse.run(woken, pulse_stop).await });
        // Ends after the other parts: they may be about to call HubSpot.
        let lender = tokio::spawn(lend::run(
            self.db.clone(),
            self.client.clone(),
            self.relay_id.clone(),
            self.metrics.clone(),
            stop.clone(),
        ));
        parts.spawn("maintenance", maintain(self.db.clone(), status.clone(), stop.clone()));
        parts.spawn(
            "definitions",
            definitions::run(self.db.clone(), self.client.clone(), status.clone(), stop.clone()),
        );
        parts.spawn(
            "service manager",
            systemd::run(status.clone(), liveness.clone(), stop.clone()),
        );
        parts.spawn(
            "alerts",
            alerts::run(
                self.db.clone(),
                self.relay_id.clone(),
                status.clone(),
                webhooks_expected,
                stop.clone(),
            ),
        );
        parts.spawn(
            "applier",
            ingest::run(
                self.db.clone(),
                status.clone(),
                self.metrics.clone(),
                Arc::clone(&wake_apply),
                stop.clone(),
            ),
        );
        let gate = Gate::new(self.client.clone(), self.config.retry.clone(), status.clone());
        let secrets = Arc::new(web::webhook::Secrets::new(&self.config.webhook));
        let watch = Watch::new(
            &self.config,
            self.client.clone(),
            gate.clone(),
            Arc::clone(&secrets),
            self.page_token.clone(),
        );
        parts.spawn(
            "refusals",
            refused::run(
                self.db.clone(),
                self.client.clone(),
                status.clone(),
                self.config.cache.ttl,
                stop.clone(),
            ),
        );
        parts.spawn("secrets", watch.run(stop.clone()));
        let intake = web::webhook::Intake::new(
            &self.config.webhook,
            secrets,
            self.db.clone(),
            self.metrics.clone(),
            Arc::clone(&wake_apply),
        );
        parts.spawn(
            "webhook listener",
            serve(self.public, web::webhook::router(intake), stop.clone()),
        );
        let health = web::health::router(
            status.clone(),
            liveness.clone(),
            self.metrics.clone(),
            FigureSource::new(self.db.clone()),
        );
        parts.spawn(
            "admin listener",
            serve(self.private, health.merge(self.page), stop.clone()),
        );

        let context = Arc::new(deliver::Context {
            relay_id: self.relay_id.clone(),
            db: self.db.clone(),
            gate,
            client: self.client.clone(),
            retry: self.config.retry.clone(),
            cache_ttl: self.config.cache.ttl,
            export_from: self.config.backfill.export_from,
            app_id: self.config.hubspot.app_id,
            metrics: self.metrics.clone(),
            status,
            liveness,
            stop: deliver_stop.clone(),
            wake_apply,
        });
        let comparing = deliver::Context {
            client: self.client.with_purpose(Purpose::Reconcile),
            ..context.as_ref().clone()
        };
        let comparing = Arc::new(comparing);
        if journal {
            let reader = Journal::new(Arc::clone(&context), configured, portal, self.config.poll.interval());
            let (reading, read_stop) = (reader.run(), stop.clone());
            parts.spawn("journal", async move {
                reading.await;
                // It ends with delivery, before the other parts.
                read_stop.cancelled().await;
            });
        }
        let schedule = reconcile::schedule::Schedule::new(&self.config);
        parts.spawn("schedule", reconcile::schedule::run(schedule, Arc::clone(&comparing)));
        let mut comparison = tokio::spawn(reconcile::run(comparing));
        let mut delivery = tokio::spawn(deliver::run(context, listener, wake_deliver));

        systemd::ready();
        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            task = parts.ended() => Err(RelayError::Task { task }),
            _ = &mut delivery => Err(RelayError::Task { task: "delivery" }),
            _ = &mut comparison => Err(RelayError::Task { task: "reconciliation" }),
        };
        tracing::info!(event = event::STOPPING, "stopping: nothing new is sent");
        systemd::stopping();
        deliver_stop.cancel();
        finish(&mut delivery, "delivery", grace).await;
        finish(&mut comparison, "reconciliation", GRACE).await;
        farewell(&self.db, &self.relay_id, &self.metrics).await;
        stop.cancel();
        parts.finish().await;
        let _ = tokio::time::timeout(FAREWELL, lender).await;
        tracing::info!(event = event::STOPPED, "stopped");
        result
    }

    fn warn_of_ignored(&self) {
        if self.config.hubspot.app_id.is_none() {
            tracing::warn!(
                event = event::CONFIG_IGNORED,
                key = "hubspot.app_id",
                "it is not set: writes of this app are not told from those of others in HubSpot's histories"
            );
        }
        if self.config.webhook.client_secret.is_none() && self.config.poll.mode == PollMode::Off {
            tracing::warn!(
                event = event::CONFIG_IGNORED,
                key = "webhook.client_secret",
                "it is not set: every webhook is refused with 503"
            );
        }
    }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), RelayError> {
    let fault = |source| RelayError::Listen { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

async fn serve(listener: TcpListener, router: axum::Router, stop: CancellationToken) {
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(event = event::TASK_FAILED, task = "listener", %error, "a listener failed");
    }
}

/// The parts besides delivery.
#[derive(Default)]
struct Parts {
    tasks: JoinSet<&'static str>,
    /// Parts that end when their work is done.
    once: Vec<JoinHandle<()>>,
}

impl Parts {
    fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            part.await;
            name
        });
    }

    fn spawn_once(&mut self, part: impl Future<Output = ()> + Send + 'static) {
        self.once.push(tokio::spawn(part));
    }

    /// Waits until one ends, and says which if it did not panic.
    async fn ended(&mut self) -> &'static str {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(error)) => {
                tracing::error!(event = event::TASK_FAILED, %error, "a part of the relay ended early");
                "task"
            }
            None => std::future::pending().await,
        }
    }

    async fn finish(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, all).await;
        self.tasks.shutdown().await;
        for task in &self.once {
            task.abort();
        }
    }
}

/// Waits for a part's requests in flight, and no longer than `grace`.
async fn finish(part: &mut JoinHandle<()>, name: &'static str, grace: Duration) {
    if part.is_finished() {
        return;
    }
    if tokio::time::timeout(grace, &mut *part).await.is_err() {
        // Their writes are recorded as unknown; whoever claims them next looks first.
        tracing::warn!(
            event = event::TASK_FAILED,
            task = name,
            "requests in flight did not end in time"
        );
        part.abort();
    }
}

async fn farewell(db: &Db, relay_id: &str, metrics: &Metrics) {
    let words = async {
        if let Err(error) = db.release(relay_id).await {
            tracing::warn!(event = event::DATABASE_FAILED, function = "relay_release", %error, "leases will expire");
        }
        let calls = metrics.take_calls();
        if !calls.is_zero() {
            let _ = db.record_calls(relay_id, calls).await;
        }
    };
    if tokio::time::timeout(FAREWELL, words).await.is_err() {
        tracing::warn!(
            event = event::DATABASE_FAILED,
            function = "relay_release",
            "no answer: leases will expire"
        );
    }
}

/// The heartbeat: tells the database that this relay lives, and learns whether it may work.
struct Pulse {
    relay_id: String,
    db: Db,
    metrics: Metrics,
    status: Status,
    liveness: Liveness,
    configured: Option<i64>,
    portal: PortalId,
}

impl Pulse {
    async fn run(self, wake: Arc<Notify>, stop: CancellationToken) {
        let mut changes = self.status.subscribe();
        while !stop.is_cancelled() {
            self.liveness.turned(Part::Heartbeat);
            self.beat(&wake).await;
            // The portal becomes known shortly after the start: do not make the first delivery wait for a heartbeat.
            let seen = changes.borrow_and_update().clone();
            let known = seen.portal_checked;
            let wait = if seen.may_claim() { HEARTBEAT } else { IMPATIENT };
            tokio::select! {
                () = stop.cancelled() => {}
                _ = changes.wait_for(|status| status.portal_checked), if !known => wake.notify_one(),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn beat(&self, wake: &Notify) {
        let portal_id = self.configured.or_else(|| self.portal.get().copied());
        let before = self.status.snapshot();
        match self.db.hello(&self.relay_id, portal_id).await {
            Ok(hello) => {
                self.heard(hello, portal_id, &before);
                self.report_calls().await;
                if self.status.snapshot().may_claim() && !before.may_claim() {
                    wake.notify_one();
                }
            }
            Err(error) => {
                self.metrics.database_failed();
                if before.database_up || before.reason.is_none() {
                    tracing::error!(
                        event = event::DATABASE_FAILED,
                        function = "relay_hello",
                        %error,
                        "the database cannot be worked with: trying again every second"
                    );
                }
                self.status.update(|status| {
                    status.database_up = false;
                    status.reason = Some("the database cannot be worked with".to_owned());
                });
            }
        }
    }

    fn heard(&self, hello: Hello, portal_id: Option<i64>, before: &crate::status::Snapshot) {
        let refusal = crate::schema::refusal(hello.schema_version.as_deref());
        let schema_known = refusal.is_none();
        let armed = hello.armed && portal_id.is_some() && schema_known;
        let reason = refusal.or(hello.reason);
        self.status.update(|status| {
            status.database_up = true;
            status.schema_known = schema_known;
            status.armed = armed;
            status.paused = hello.paused;
            status.reason.clone_from(&reason);
        });
        if !before.database_up {
            tracing::info!(event = event::DATABASE_BACK, "the database answers");
        }
        if before.armed != armed || !before.database_up {
            tracing::info!(
                event = event::ARMED_CHANGED,
                armed,
                reason,
                "whether the database lets this relay work"
            );
        }
        if before.paused != hello.paused {
            tracing::info!(
                event = event::PAUSED_CHANGED,
                paused = hello.paused,
                "paused or resumed by an operator"
            );
        }
    }

    async fn report_calls(&self) {
        let calls = self.metrics.take_calls();
        if calls.is_zero() {
            return;
        }
        if let Err(error) = self.db.record_calls(&self.relay_id, calls).await {
            self.metrics.return_calls(calls);
            self.metrics.database_failed();
            tracing::debug!(event = event::DATABASE_FAILED, function = "relay_record_calls", %error, "not recorded");
        }
    }
}

async fn maintain(db: Db, status: Status, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(MAINTAIN) => {}
        }
        if !status.snapshot().may_work() {
            continue;
        }
        match db.maintain().await {
            Ok(done) if done.rescued + done.purged > 0 => {
                tracing::info!(
                    event = event::MAINTAINED,
                    rescued = done.rescued,
                    purged = done.purged,
                    "expired leases were rescued, old rows removed"
                );
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(event = event::DATABASE_FAILED, function = "relay_maintain", %error, "no housekeeping");
            }
        }
    }
}

/// Host, process and a random part: no two starts share it.
pub(crate) fn relay_id() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        // A hardened service does not see that file.
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "relay" } else { host };
    format!("{host}-{}-{:08x}", std::process::id(), rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_starts_share_an_id() {
        assert_ne!(relay_id(), relay_id());
    }
}
