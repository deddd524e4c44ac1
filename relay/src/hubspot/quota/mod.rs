//! HubSpot's limits: never more than `requests_per_10s` requests in ANY ten seconds, over all relays on the database.
//!
//! HubSpot counts a request when it arrives, which is some moment between our sending it and our having the answer. A
//! slot is therefore occupied from the send until ten seconds after the answer (or the failure): whenever request
//! number limit + 1 leaves, the one whose slot it takes had arrived at least ten seconds ago.
//!
//! The two usual designs break this. A token bucket that starts full sends a full burst and goes on refilling, so a
//! window can hold nearly twice the limit. A log of send times is fooled by a slow network: a request sent at second 0
//! and delivered at second 4, and one sent at second 10 and delivered at once, are six seconds apart at HubSpot.
//!
//! A limiter made by [`RateLimiter::shared`] begins without slots. The database hands them out (`crate::lend` carries the
//! [`Report`]s and [`Grant`]s); a slot then belongs to this relay as long as its lease lasts, so that a call to HubSpot
//! costs no call to the database. One made by [`RateLimiter::local`] has them all, for commands that run without it.
//!
//! Live changes go first: backfill and reconciliation wait while a live call waits, and are paced, so that a slot comes
//! free every few milliseconds instead of all at once. Each call is counted against the day for its [`Purpose`].

mod day;
mod window;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use day::Day;
use window::{Next, Window};
pub use wire::{Allowance, BudgetGrant, BudgetReport, Calls, DayGrant, DayReport, Grant, Report};

/// HubSpot's window for all calls but search.
pub const WINDOW: Duration = Duration::from_secs(10);
/// HubSpot's window for search.
const SEARCH_WINDOW: Duration = Duration::from_secs(1);
/// Longest wait for a slot of unknown return before looking again; a returned slot wakes earlier.
const RECHECK: Duration = Duration::from_secs(1);

/// What a call to HubSpot is for: decides who goes first and which share of the day it is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Purpose {
    /// Changes that someone waits for, in either direction: goes before the others.
    #[default]
    Live,
    /// First loads.
    Backfill,
    /// Comparing both sides, and the incremental look for what was missed.
    Reconcile,
}

impl Purpose {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Live, Self::Backfill, Self::Reconcile];

    /// Its word in the ledger and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backfill => "backfill",
            Self::Reconcile => "reconcile",
        }
    }

    fn class(self) -> Class {
        match self {
            Self::Live => Class::Live,
            Self::Backfill | Self::Reconcile => Class::Background,
        }
    }
}

/// Which of HubSpot's windows counts a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Budget {
    /// Ten seconds, everything but search.
    General,
    /// One second, search alone.
    Search,
}

impl Budget {
    /// Both.
    pub const ALL: [Self; 2] = [Self::General, Self::Search];

    /// Its word in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Search => "search",
        }
    }
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Live,
    Background,
}

/// The limiter. Clones share one state.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A slot came back, was granted, or the order of those who wait changed.
    changed: Notify,
    /// Slots are needed that the database has to hand out.
    wanted: Notify,
}

#[derive(Debug)]
struct State {
    general: Window,
    search: Window,
    day: Day,
    /// All of HubSpot: 477 and the daily limit.
    paused_until: Option<Instant>,
    tickets: u64,
    reports: u64,
}

/// The slot would come too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate {
    /// How long the caller would at least have to wait.
    pub wait: Duration,
}

/// A slot in use. Dropping it (with the answer, or the failure) starts its time of cooling.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    budget: Budget,
    class: Class,
    generation: u64,
}

impl RateLimiter {
    /// A limiter that has all slots for itself: `general` in any ten seconds, `search` in any second and, if given,
    /// `per_day` in any 24 hours of this process.
    pub fn local(general: u32, search: u32, per_day: Option<u64>) -> Self {
        Self::with(
            Window::full(WINDOW, general),
            Window::full(SEARCH_WINDOW, search),
            Day::local(per_day),
        )
    }

    /// A limiter that waits for the database to grant it slots. `per_day` is the configured limit of the day.
    pub fn shared(general: u32, search: u32, per_day: Option<u64>) -> Self {
        Self::with(
            Window::empty(WINDOW, general),
            Window::empty(SEARCH_WINDOW, search),
            Day::shared(per_day),
        )
    }

    fn with(general: Window, search: Window, day: Day) -> Self {
        let state = State {
            general,
            search,
            day,
            paused_until: None,
            tickets: 0,
            reports: 0,
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
            wanted: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Waits for a slot, but not beyond `deadline`.
    ///
    /// # Errors
    /// [`TooLate`] as soon as it is clear that no slot comes in time.
    pub async fn acquire(&self, budget: Budget, purpose: Purpose, deadline: Instant) -> Result<Slot, TooLate> {
        let ticket = Ticket::draw(&self.shared, budget, purpose);
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let next = match self.attempt(&ticket, deadline) {
                Attempt::Slot(slot) => return Ok(slot),
                Attempt::Late(late) => return Err(late),
                Attempt::Wait(until) => until,
            };
            tokio::select! {
                () = tokio::time::sleep_until(next.min(deadline)) => {}
                () = changed => {}
            }
        }
    }

    fn attempt(&self, ticket: &Ticket, deadline: Instant) -> Attempt {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let late = |at: Instant| {
            Attempt::Late(TooLate {
                wait: at.saturating_duration_since(now),
            })
        };
        let next = match state.next(ticket, now) {
            Next::Now => return Attempt::Slot(state.take(ticket, now, &self.shared)),
            Next::At { at, sure: true } if at > deadline => return late(at),
            Next::At { at, .. } => at,
            Next::Unknown => now + RECHECK,
        };
        if state.asks(ticket.budget) {
            self.shared.wanted.notify_one();
        }
        if now >= deadline {
            return late(next);
        }
        Attempt::Wait(next)
    }

    /// Sends nothing at all for `time` from now; a longer pause stands.
    pub fn pause(&self, time: Duration) {
        let mut state = self.shared.lock();
        state.paused_until = state.paused_until.max(Some(Instant::now() + time));
    }

    /// Sends nothing of one budget for `time` from now; a longer pause stands.
    pub fn pause_budget(&self, budget: Budget, time: Duration) {
        self.shared.lock().window_mut(budget).pause_until(Instant::now() + time);
    }

    /// How long no live call may be sent because of a pause or the day's limit; zero when there is none.
    pub fn paused_for(&self) -> Duration {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let until = state.blocked_until(Budget::General, Purpose::Live, now).unwrap_or(now);
        until.saturating_duration_since(now)
    }

    /// Requests in any ten seconds, of all relays together.
    pub fn limit(&self) -> usize {
        self.shared.lock().general.limit()
    }

    /// About how many of them are this relay's.
    pub fn share(&self) -> usize {
        self.shared.lock().general.share()
    }

    /// Changes the limit, as HubSpot's answers name it.
    pub fn set_limit(&self, limit: u32) {
        self.shared.lock().general.set_limit(limit);
        self.shared.changed.notify_waiters();
    }

    /// Notes the day's limit and what is left of it, as HubSpot's answers name them: other apps use it too.
    pub fn note_day(&self, limit: u64, left: u64) {
        self.shared.lock().day.note(limit, left);
    }

    /// Notes the account's time zone, in which its day begins.
    pub fn set_time_zone(&self, zone: &str) {
        self.shared.lock().day.set_zone(zone);
    }

    /// Waits until slots are needed that only the database can grant.
    pub async fn wanted(&self) {
        self.shared.wanted.notified().await;
    }

    /// What is to be told to the database; gives slots back that `grant` asked for, or all when `leave`. None when there is
    /// nothing to tell: neither slots held nor wanted, nor calls to count.
    pub fn report(&self, leave: bool) -> Option<Report> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let budgets: Vec<BudgetReport> = Budget::ALL
            .into_iter()
            .filter_map(|budget| state.window_mut(budget).report(budget.as_str(), now, leave))
            .collect();
        if budgets.is_empty() && !state.day.has_news() {
            return None;
        }
        state.reports += 1;
        Some(Report {
            seq: state.reports,
            budgets,
            day: state.day.report(),
        })
    }

    /// Takes what the database answered to a report; `asked_at` is when the report was sent.
    pub fn grant(&self, grant: &Grant, asked_at: Instant, lease: Duration) {
        let now = Instant::now();
        let mut state = self.shared.lock();
        for given in &grant.budgets {
            for budget in Budget::ALL {
                if budget.as_str() == given.budget {
                    state.window_mut(budget).grant(given, now, asked_at + lease);
                }
            }
        }
        state.day.grant(grant.day.as_ref(), now);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// The report did not reach the database, or nobody knows: its counts are told again with the next one. Slots it gave
    /// back stay given.
    pub fn not_reported(&self, report: &Report) {
        self.shared.lock().day.not_reported(&report.day.calls);
    }

    /// How soon the next report is due.
    pub fn report_due(&self) -> Duration {
        let state = self.shared.lock();
        state.general.report_due().min(state.search.report_due())
    }
}

/// What one look at the slots came to.
enum Attempt {
    Slot(Slot),
    Late(TooLate),
    Wait(Instant),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; if something did, the counts are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn window_mut(&mut self, budget: Budget) -> &mut Window {
        match budget {
            Budget::General => &mut self.general,
            Budget::Search => &mut self.search,
        }
    }

    fn blocked_until(&mut self, budget: Budget, purpose: Purpose, now: Instant) -> Option<Instant> {
        let paused = self.paused_until.max(self.window_mut(budget).paused_until());
        paused
            .max(self.day.blocked_until(purpose, now))
            .filter(|until| *until > now)
    }

    fn next(&mut self, ticket: &Ticket, now: Instant) -> Next {
        match self.blocked_until(ticket.budget, ticket.purpose, now) {
            Some(at) => Next::At { at, sure: true },
            None => self.window_mut(ticket.budget).next(ticket.class(), ticket.number, now),
        }
    }

    fn take(&mut self, ticket: &Ticket, now: Instant, shared: &Arc<Shared>) -> Slot {
        self.day.count(ticket.purpose, now);
        let generation = self.window_mut(ticket.budget).take(ticket.class(), ticket.number, now);
        Slot {
            shared: Arc::clone(shared),
            budget: ticket.budget,
            class: ticket.class(),
            generation,
        }
    }

    /// Whether the database should be asked at once.
    fn asks(&mut self, budget: Budget) -> bool {
        let day = self.day.asks();
        self.window_mut(budget).asks() || day
    }
}

/// A place in the line.
struct Ticket<'a> {
    shared: &'a Shared,
    budget: Budget,
    purpose: Purpose,
    number: u64,
}

impl<'a> Ticket<'a> {
    fn draw(shared: &'a Shared, budget: Budget, purpose: Purpose) -> Self {
        let mut state = shared.lock();
        state.tickets += 1;
        let number = state.tickets;
        state.window_mut(budget).join(purpose.class(), number);
        Self {
            shared,
            budget,
            purpose,
            number,
        }
    }

    fn class(&self) -> Class {
        self.purpose.class()
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // Served or given up: the next in line may look.
        self.shared
            .lock()
            .window_mut(self.budget)
            .leave(self.class(), self.number);
        self.shared.changed.notify_waiters();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state
            .window_mut(self.budget)
            .put_back(self.class, self.generation, Instant::now());
        drop(state);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
