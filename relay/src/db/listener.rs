//! The connection that listens for the outbox's wake-up.
//!
//! NOTIFY is a hint only: the relay polls every second as well, so a lost hint costs a second, never a change. While the
//! relay is busy it holds the session-level lock `hubspot.relay_awake()` on this connection, and commits send no NOTIFY
//! at all; before it sleeps it gives the lock back and claims once more, and again [`LINGER`] later, so that no change falls
//! into the gap. A broken
//! connection loses the lock with the session, which is the safe side. Connecting again backs off, and the back-off
//! starts over only after LISTEN worked.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio_postgres::{AsyncMessage, Client, Socket};
use tokio_util::sync::CancellationToken;

use super::error::DbError;
use super::pool::{Db, TlsStream};
use crate::telemetry::event;

/// The channel of `RELAY_CONTRACT.md`.
const CHANNEL: &str = "hubspot_outbox";
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// A session that saw the lock relies on that for 10 ms (`RELAY_CONTRACT.md`), and then its commit takes a moment.
pub const LINGER: Duration = Duration::from_millis(20);
/// `relay_awake` and `relay_asleep` take no lock anyone else holds for long.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Handle of the listening connection. Cheap to clone.
#[derive(Clone)]
pub struct Listener {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    session: Mutex<Option<Session>>,
    wake: Arc<Notify>,
}

struct Session {
    client: Client,
    awake: bool,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    /// A listener that wakes `wake`; [`Listener::run`] connects it.
    pub fn new(db: Db, wake: Arc<Notify>) -> Self {
        Self {
            shared: Arc::new(Shared {
                db,
                session: Mutex::new(None),
                wake,
            }),
        }
    }

    /// Keeps the connection until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut wait = FIRST_WAIT;
        while !stop.is_cancelled() {
            match self.listen(&stop, &mut wait).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(event = event::LISTENER_LOST, %error, "the LISTEN connection is lost"),
            }
            *self.shared.session.lock().await = None;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
            }
        }
    }

    /// Says that a relay is busy: from now on commits send no NOTIFY.
    pub async fn awake(&self) {
        self.set_awake(true, "select hubspot.relay_awake()").await;
    }

    /// Says that this relay is about to sleep. Returns whether it had been awake, so that it must claim once more.
    pub async fn asleep(&self) -> bool {
        self.set_awake(false, "select hubspot.relay_asleep()").await
    }

    async fn set_awake(&self, awake: bool, sql: &str) -> bool {
        let mut session = self.shared.session.lock().await;
        let Some(session) = session.as_mut().filter(|session| session.awake != awake) else {
            return false;
        };
        match tokio::time::timeout(LOCK_TIMEOUT, session.client.batch_execute(sql)).await {
            Ok(Ok(())) => {
                session.awake = awake;
                true
            }
            // The connection's own task notices and connects again; until then the timer wakes the relay.
            Ok(Err(_)) | Err(_) => false,
        }
    }

    async fn listen(&self, stop: &CancellationToken, wait: &mut Duration) -> Result<(), DbError> {
        let (client, connection) = self.shared.db.connect().await?;
        let command = format!("listen {CHANNEL}");
        let driver = drive(connection, Arc::clone(&self.shared.wake));
        tokio::pin!(driver);
        tokio::select! {
            ended = &mut driver => return ended,
            listening = client.batch_execute(&command) => listening?,
        }
        *wait = FIRST_WAIT;
        *self.shared.session.lock().await = Some(Session { client, awake: false });
        tracing::info!(event = event::LISTENING, channel = CHANNEL, "listening for changes");
        // Whatever was committed while nobody listened.
        self.shared.wake.notify_one();
        tokio::select! {
            ended = &mut driver => ended,
            () = stop.cancelled() => Ok(()),
        }
    }
}

/// Moves the connection's bytes and turns notifications into wake-ups, until it ends.
async fn drive(
    mut connection: tokio_postgres::Connection<Socket, TlsStream>,
    wake: Arc<Notify>,
) -> Result<(), DbError> {
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(_))) => wake.notify_one(),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(DbError::Postgres(error)),
            None => return Err(DbError::NoConnection("the server closed it".to_owned())),
        }
    }
}
