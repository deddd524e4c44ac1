//! Reads HubSpot's webhooks journal (`poll.mode = "journal"`): HubSpot's changes for a database that no webhook can reach.
//!
//! One relay at a time reads, under a lease in the database. What an entry tells becomes events in the form of a webhook's and
//! is committed together with the offset reached, so that a crash at any point loses nothing; what is read twice is stored
//! once. From then on there is one way for both: the extension applies stored events.
//!
//! The journal does not say who changed a property. The histories of the records it names do, and what they hold is what is
//! stored (`history.rs`): a relay must know its own writes.
//!
//! HubSpot keeps entries for three days. Where some may have been missed (the first start, three days without reading, an
//! offset that HubSpot does not know any more) it goes on from the earliest entry, and every mapping is compared in full.

mod entry;
mod history;
pub(crate) mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::db::error::DbError;
use crate::db::journal::{Hold, Stored};
use crate::deliver::Context;
use crate::hubspot::error::Failure;
use crate::hubspot::journal::{EntryLink, Which};
use crate::portal::PortalId;
use crate::telemetry::event;

/// How long this relay may be silent before another one reads.
const LEASE: Duration = Duration::from_secs(60);
/// Wait while another relay reads, or this one may not work.
const IDLE: Duration = Duration::from_secs(2);
/// Wait after a failure, of the database or of HubSpot.
const WAIT: Duration = Duration::from_secs(5);
/// Time between two looks at the subscriptions: a mapping may have changed.
const SUBSCRIPTIONS: Duration = Duration::from_secs(60);
/// HubSpot's entries live for three days.
const RETENTION_SECONDS: i64 = 3 * 24 * 60 * 60;
/// Tries to read an entry whose file is not as documented, before it counts as missed.
const TRIES: u32 = 3;

/// What reading needs.
pub(crate) struct Journal {
    context: Arc<Context>,
    portal: PortalId,
    configured: Option<i64>,
    /// Time between two looks while there is nothing new.
    interval: Duration,
    subscribed: Option<Instant>,
    /// The last look saw the journal's end.
    caught_up: bool,
    /// The entry that could not be read, and how often.
    unreadable: Option<(String, u32)>,
}

/// What to do next.
enum Next {
    Again,
    Wait(Duration),
}

/// Why nothing came of it.
enum Trouble {
    Database(DbError),
    HubSpot(Failure),
    /// Something else has to end first.
    NotNow(Duration),
}

impl From<DbError> for Trouble {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::HubSpot(failure)
    }
}

impl Journal {
    /// A reader; `configured` is `hubspot.portal_id`, `portal` the one HubSpot names.
    pub(crate) fn new(context: Arc<Context>, configured: Option<i64>, portal: PortalId, interval: Duration) -> Self {
        Self {
            context,
            portal,
            configured,
            interval,
            subscribed: None,
            caught_up: false,
            unreadable: None,
        }
    }

    /// Runs until the context's `stop`.
    pub(crate) async fn run(mut self) {
        let stop = self.context.stop.clone();
        while !stop.is_cancelled() {
            let wait = match self.turn().await {
                Ok(Next::Again) => continue,
                Ok(Next::Wait(time)) => time,
                Err(trouble) => self.note(trouble).await,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn note(&mut self, trouble: Trouble) -> Duration {
        self.caught_up = false;
        match trouble {
            Trouble::NotNow(wait) => wait,
            Trouble::Database(error) => {
                self.context.metrics.database_failed();
                tracing::warn!(event = event::DATABASE_FAILED, function = "relay_journal", %error, "the journal waits");
                WAIT
            }
            Trouble::HubSpot(failure) => failure.retry_after.unwrap_or(WAIT).max(WAIT),
        }
    }

    /// One look into the journal.
    async fn turn(&mut self) -> Result<Next, Trouble> {
        let Some(portal_id) = self.configured.or_else(|| self.portal.get().copied()) else {
            return Ok(Next::Wait(IDLE));
        };
        if !self.context.status.snapshot().may_claim() || self.context.gate.blocked().is_some() {
            self.caught_up = false;
            return Ok(Next::Wait(IDLE));
        }
        let Some(hold) = self.take(portal_id).await? else {
            self.caught_up = false;
            return Ok(Next::Wait(IDLE));
        };
        if self.subscribed.is_none_or(|at| at.elapsed() >= SUBSCRIPTIONS) {
            subscriptions::ensure(&self.context, portal_id).await?;
            self.subscribed = Some(Instant::now());
        }
        let Some(offset) = hold.offset.clone() else {
            return self.begin(portal_id, &hold).await;
        };
        let overslept = hold.unread_seconds.is_some_and(|seconds| seconds > RETENTION_SECONDS);
        let (found, gap) = if offset.is_empty() || overslept {
            (self.entry(Which::Earliest, portal_id).await?, overslept)
        } else {
            match self.entry(Which::After(&offset), portal_id).await {
                Ok(found) => (found, false),
                // How HubSpot answers for an offset it does not have any more is not documented.
                Err(failure) if failure.class.is_refusal() => (self.entry(Which::Earliest, portal_id).await?, true),
                Err(failure) => return Err(failure.into()),
            }
        };
        match found {
            Some(link) => self.read(portal_id, &hold, &link, gap).await,
            None if gap => {
                self.store(portal_id, &hold, "", &[], true).await?;
                Ok(Next::Again)
            }
            None => {
                self.caught_up = true;
                // Relays that start together must not ask together for ever.
                Ok(Next::Wait(self.interval.mul_f64(0.75 + 0.5 * rand::random::<f64>())))
            }
        }
    }

    async fn take(&self, portal_id: i64) -> Result<Option<Hold>, DbError> {
        let context = &self.context;
        context
            .db
            .journal_take(&context.relay_id, portal_id, LEASE, self.caught_up)
            .await
    }

    async fn entry(&self, which: Which<'_>, portal_id: i64) -> Result<Option<EntryLink>, Failure> {
        self.context.client.journal_entry(which, portal_id).await
    }

    /// The first look: from now on, and all that was before is compared.
    async fn begin(&mut self, portal_id: i64, hold: &Hold) -> Result<Next, Trouble> {
        let latest = self.entry(Which::Latest, portal_id).await?;
        let reached = latest.map(|link| link.offset).unwrap_or_default();
        self.store(portal_id, hold, &reached, &[], true).await?;
        Ok(Next::Again)
    }

    /// Takes an entry in.
    async fn read(&mut self, portal_id: i64, hold: &Hold, link: &EntryLink, gap: bool) -> Result<Next, Trouble> {
        self.caught_up = false;
        let file = match self.context.client.journal_file(link).await {
            Ok(file) => file,
            // A link ends soon, and the next look gets another: only a file that cannot be read at all is given up.
            Err(failure) if failure.status.is_some_and(|status| (200..300).contains(&status)) => {
                return self.unreadable(portal_id, hold, link, failure.into()).await;
            }
            Err(failure) => return Err(failure.into()),
        };
        let Some(told) = entry::read(&file, portal_id) else {
            return self.unreadable(portal_id, hold, link, Trouble::NotNow(WAIT)).await;
        };
        let mappings = self.context.db.mapping().await?;
        let mut changes = history::wanted(told.changes, &mappings);
        // A long entry is stored in parts, before the offset moves: the lease is kept, and nothing is held in memory.
        while changes.len() > history::PART {
            let rest = changes.split_off(history::PART);
            let part = std::mem::replace(&mut changes, rest);
            let events = history::events(&self.context, portal_id, part, LEASE).await?;
            let offset = hold.offset.clone().unwrap_or_default();
            if !self.store(portal_id, hold, &offset, &events, false).await? || self.take(portal_id).await?.is_none() {
                return Ok(Next::Wait(IDLE));
            }
        }
        let mut events = history::events(&self.context, portal_id, changes, LEASE).await?;
        events.extend(told.records);
        self.store(portal_id, hold, &link.offset, &events, gap).await?;
        self.unreadable = None;
        Ok(Next::Again)
    }

    /// An entry that cannot be made sense of is asked for again, and at last left out, which is a gap.
    async fn unreadable(
        &mut self,
        portal_id: i64,
        hold: &Hold,
        link: &EntryLink,
        trouble: Trouble,
    ) -> Result<Next, Trouble> {
        let tries = match &self.unreadable {
            Some((offset, tries)) if *offset == link.offset => tries + 1,
            _ => 1,
        };
        if tries < TRIES {
            self.unreadable = Some((link.offset.clone(), tries));
            return Err(trouble);
        }
        tracing::error!(
            event = event::JOURNAL_GAP,
            portal_id,
            "an entry of the webhooks journal cannot be read and is left out"
        );
        self.store(portal_id, hold, &link.offset, &[], true).await?;
        self.unreadable = None;
        Ok(Next::Again)
    }

    /// Stores events and the offset reached; says whether this relay still is the reader.
    async fn store(
        &mut self,
        portal_id: i64,
        hold: &Hold,
        reached: &str,
        events: &[Value],
        gap: bool,
    ) -> Result<bool, Trouble> {
        let context = &self.context;
        let stored = Stored {
            after: hold.offset.as_deref(),
            reached,
            events,
            gap,
        };
        let new = context
            .db
            .journal_store(&context.relay_id, portal_id, hold.fence, &stored)
            .await?;
        if let Some(new) = new {
            tracing::debug!(
                event = event::WEBHOOK_STORED,
                events = events.len(),
                new,
                "journal events are stored"
            );
            context.metrics.webhook("journal", events.len());
            context.wake_apply.notify_one();
            if gap {
                tracing::warn!(
                    event = event::JOURNAL_GAP,
                    portal_id,
                    "entries of the webhooks journal may have been missed: every mapping is compared in full"
                );
            }
        }
        Ok(new.is_some())
    }
}
