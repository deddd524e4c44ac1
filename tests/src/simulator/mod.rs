//! A stateful, strict, offline fake of HubSpot's API.
//!
//! ```no_run
//! # async fn demo() -> anyhow::Result<()> {
//! use hubspot_sync_tests::simulator::{Fault, FaultKind, Op, SimConfig, Simulator};
//!
//! let sim = Simulator::start(SimConfig::warp()).await?;
//! let id = sim.ui_create("companies", &[("name", "Acme"), ("warp_ban", "B-1")])?;
//! sim.ui_set("companies", &id, "phone", "+49 30 1234")?;
//! sim.fault(Fault { op: Op::BatchUpdate, kind: FaultKind::CloseAfterApply, times: 1 });
//! sim.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! All records of one call get the same timestamp, and every call's timestamp is later than those of all before.

mod account;
mod batch;
mod clock;
mod config;
mod control;
mod defaults;
mod dispatch;
mod errors;
mod events;
mod exports;
mod faults;
mod groups;
mod journal;
mod limits;
mod log;
mod merge;
mod oauth;
mod objects;
mod person;
mod properties;
mod query;
mod record;
mod route;
mod schema;
mod search;
mod server;
pub mod signature;
mod store;
mod subscriptions;
mod switches;
mod values;
mod webhooks;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use rand::Rng;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use config::{Behaviour, ClearedForm, CustomObject, SimConfig, WebhookConfig};
pub use errors::{ApiError, ValueProblem};
pub use events::Subscription;
pub use faults::{Fault, FaultKind, Gate, GatePoint};
pub use limits::Policy;
pub use log::RequestLog;
pub use record::{Record, Version};
pub use route::Op;
pub use schema::{PropertyDef, PropertyOption};
pub use webhooks::{Delivery, WebhookFaults};

use faults::Faults;
use limits::Limiter;
use log::Log;
use store::Core;
use webhooks::Webhooks;

/// What all handles and the server share.
#[derive(Debug)]
pub(crate) struct Inner {
    config: SimConfig,
    core: Mutex<Core>,
    limiter: Mutex<Limiter>,
    log: Mutex<Log>,
    faults: Mutex<Faults>,
    /// Gates that the control endpoints hold, by name.
    gates: Mutex<HashMap<String, Gate>>,
    webhooks: Arc<Webhooks>,
    managed: Mutex<subscriptions::Managed>,
    journal: Mutex<journal::Journal>,
    exports: Mutex<Vec<exports::Export>>,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn core(&self) -> MutexGuard<'_, Core> {
        lock(&self.core)
    }

    fn limiter(&self) -> MutexGuard<'_, Limiter> {
        lock(&self.limiter)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    /// Queues the events of the call that just ran.
    fn publish(&self, core: &mut Core) {
        let events = std::mem::take(&mut core.events);
        lock(&self.journal).publish(&events, self.config.portal_id, core.clock.now());
        self.webhooks.enqueue(events, core.behaviour.cleared_event);
    }

    fn correlation_id(&self) -> String {
        let bits: u128 = self.core().rng.random();
        let text = format!("{bits:032x}");
        format!(
            "{}-{}-{}-{}-{}",
            &text[..8],
            &text[8..12],
            &text[12..16],
            &text[16..20],
            &text[20..]
        )
    }
}

/// A running simulator; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Simulator {
    inner: Arc<Inner>,
    address: SocketAddr,
}

impl Simulator {
    /// Starts a simulator that listens on [`SimConfig::listen`].
    pub async fn start(config: SimConfig) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let webhooks = Arc::new(Webhooks::new(&config)?);
        let inner = Arc::new(Inner {
            core: Mutex::new(Core::new(&config)),
            limiter: Mutex::new(Limiter::new(config.rate_limit, config.daily_limit, config.search_limit)),
            log: Mutex::new(Log::new()),
            faults: Mutex::new(Faults::new(config.seed)),
            gates: Mutex::new(HashMap::new()),
            webhooks: Arc::clone(&webhooks),
            managed: Mutex::default(),
            journal: Mutex::default(),
            exports: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: Mutex::new(Vec::new()),
            config,
        });
        let app = Router::new().fallback(server::entry).with_state(Arc::clone(&inner));
        let stop = inner.stop.clone();
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
            {
                tracing::error!(%error, "the simulator's listener failed");
            }
        });
        let sender = tokio::spawn(webhooks.run(inner.stop.clone()));
        lock(&inner.tasks).extend([server, sender]);
        Ok(Simulator { inner, address })
    }

    /// Stops listening and sending; requests that hang are cut off after two seconds.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        lock(&self.inner.gates).clear();
        let tasks = std::mem::take(&mut *lock(&self.inner.tasks));
        for mut task in tasks {
            if tokio::time::timeout(Duration::from_secs(2), &mut task).await.is_err() {
                task.abort();
            }
        }
    }

    /// `http://127.0.0.1:<port>`
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The static token.
    pub fn token(&self) -> &str {
        &self.inner.config.token
    }

    /// The app id.
    pub fn app_id(&self) -> u64 {
        self.inner.config.app_id
    }

    /// The account id.
    pub fn portal_id(&self) -> u64 {
        self.inner.config.portal_id
    }

    /// The client secret it started with.
    pub fn client_secret(&self) -> &str {
        &self.inner.config.client_secret
    }

    /// The configuration it started with.
    pub fn config(&self) -> &SimConfig {
        &self.inner.config
    }
}
