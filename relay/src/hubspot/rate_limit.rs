//! Never more than `requests_per_10s` requests in ANY ten-second window, as HubSpot counts them.
//!
//! HubSpot counts a request when it arrives, which is some moment between our sending it and our having the answer. A
//! slot is therefore occupied from the send until ten seconds after the answer (or the failure): whenever request
//! number limit + 1 leaves, the one whose slot it takes had arrived at least ten seconds ago.
//!
//! The two usual designs break this. A token bucket that starts full sends a full burst and goes on refilling, so a
//! window can hold nearly twice the limit. A log of send times is fooled by a slow network: a request sent at second 0
//! and delivered at second 4, and one sent at second 10 and delivered at once, are six seconds apart at HubSpot.
//!
//! The limiter also holds the relay's pauses (429, 477, daily budget). Callers wait in order of arrival.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// HubSpot's window.
const WINDOW: Duration = Duration::from_secs(10);
/// Added to the window because the clocks that measure it are not HubSpot's.
const MARGIN: Duration = Duration::from_millis(50);
/// Longest wait for a slot of unknown return (all in flight) before looking again; a returned permit wakes earlier.
const RECHECK: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The limiter. Clones share one state.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    returned: Notify,
    /// Whoever waits for a slot holds this, so that waiting is first come, first served.
    queue: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    in_flight: usize,
    /// When each answered request's slot becomes free, in order.
    cooling: VecDeque<Instant>,
    paused_until: Option<Instant>,
    per_day: Option<u64>,
    /// Requests per hour of the last 24 hours, for the daily budget.
    hours: VecDeque<(Instant, u64)>,
}

/// The slot would come too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate {
    /// How long the caller would at least have to wait.
    pub wait: Duration,
}

/// A slot in use. Dropping it (with the answer, or the failure) starts its ten seconds of cooling.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
}

impl RateLimiter {
    /// A limiter of `limit` requests in any ten seconds and, if given, `per_day` in any 24 hours of this process.
    pub fn new(limit: u32, per_day: Option<u64>) -> Self {
        let state = State {
            limit: limit.max(1) as usize,
            in_flight: 0,
            cooling: VecDeque::new(),
            paused_until: None,
            per_day,
            hours: VecDeque::new(),
        };
        let shared = Shared {
            state: Mutex::new(state),
            returned: Notify::new(),
            queue: tokio::sync::Mutex::new(()),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Waits for a slot, but not beyond `deadline`.
    ///
    /// # Errors
    /// [`TooLate`] as soon as it is clear that no slot comes in time.
    pub async fn acquire(&self, deadline: Instant) -> Result<Slot, TooLate> {
        let late = |at: Instant| TooLate {
            wait: at.saturating_duration_since(Instant::now()),
        };
        let queue = tokio::time::timeout_at(deadline, self.shared.queue.lock());
        let _turn = queue.await.map_err(|_| TooLate { wait: RECHECK })?;
        loop {
            let returned = self.shared.returned.notified();
            let next = {
                let mut state = self.shared.lock();
                match state.next_free(Instant::now()) {
                    Free::Now => {
                        state.in_flight += 1;
                        state.count_one(Instant::now());
                        return Ok(Slot {
                            shared: Arc::clone(&self.shared),
                        });
                    }
                    Free::At(at) if at > deadline => return Err(late(at)),
                    Free::At(at) => at,
                    Free::Unknown => Instant::now() + RECHECK,
                }
            };
            if Instant::now() >= deadline {
                return Err(late(next));
            }
            tokio::select! {
                () = tokio::time::sleep_until(next.min(deadline)) => {}
                () = returned => {}
            }
        }
    }

    /// Sends nothing at all for `time` from now; a longer pause stands.
    pub fn pause(&self, time: Duration) {
        let mut state = self.shared.lock();
        let until = Instant::now() + time;
        state.paused_until = Some(state.paused_until.map_or(until, |old| old.max(until)));
    }

    /// How long nothing may be sent because of a pause or the daily budget; zero when there is none.
    pub fn paused_for(&self) -> Duration {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let until = state.paused_until.into_iter().chain(state.budget_returns(now)).max();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Requests in any ten seconds.
    pub fn limit(&self) -> usize {
        self.shared.lock().limit
    }

    /// Changes the limit, as HubSpot's answers name it.
    pub fn set_limit(&self, limit: u32) {
        self.shared.lock().limit = limit.max(1) as usize;
        self.shared.returned.notify_waiters();
    }
}

/// When a request may leave.
enum Free {
    Now,
    At(Instant),
    /// All slots are in flight: when one is returned.
    Unknown,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; if something did, the counts are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_free(&mut self, now: Instant) -> Free {
        if let Some(until) = self.paused_until.into_iter().chain(self.budget_returns(now)).max()
            && until > now
        {
            return Free::At(until);
        }
        while self.cooling.front().is_some_and(|free_at| *free_at <= now) {
            self.cooling.pop_front();
        }
        if self.in_flight + self.cooling.len() < self.limit {
            return Free::Now;
        }
        // With a limit that was lowered, more than one slot must come free.
        let surplus = self.in_flight + self.cooling.len() - self.limit;
        self.cooling
            .get(surplus)
            .map_or(Free::Unknown, |free_at| Free::At(*free_at))
    }

    fn count_one(&mut self, now: Instant) {
        if self.per_day.is_none() {
            return;
        }
        match self.hours.back_mut() {
            Some((start, count)) if now.saturating_duration_since(*start) < HOUR => *count += 1,
            _ => self.hours.push_back((now, 1)),
        }
    }

    /// When the daily budget allows a request again; none when it does now.
    fn budget_returns(&mut self, now: Instant) -> Option<Instant> {
        let per_day = self.per_day?;
        while self
            .hours
            .front()
            .is_some_and(|(start, _)| now.saturating_duration_since(*start) >= DAY + HOUR)
        {
            self.hours.pop_front();
        }
        let used: u64 = self.hours.iter().map(|(_, count)| count).sum();
        if used < per_day {
            return None;
        }
        self.hours.front().map(|(start, _)| *start + DAY + HOUR)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.cooling.push_back(Instant::now() + WINDOW + MARGIN);
        drop(state);
        self.shared.returned.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(100_000)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_occupied_until_ten_seconds_after_the_answer() {
        let limiter = RateLimiter::new(1, None);
        let start = Instant::now();
        let slot = limiter.acquire(far()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(slot);
        let _second = limiter.acquire(far()).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(14), "{:?}", start.elapsed());
    }

    /// Requests arrive at a random moment between send and answer; no window of ten seconds may hold more than allowed.
    #[tokio::test(start_paused = true)]
    async fn no_window_at_hubspot_holds_more_than_the_limit() {
        for seed in 0..20 {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let limiter = RateLimiter::new(7, None);
            let mut calls = tokio::task::JoinSet::new();
            for _ in 0..60 {
                let limiter = limiter.clone();
                let (before, after) = (random.random_range(0..6_000), random.random_range(0..3_000));
                calls.spawn(async move {
                    let slot = limiter.acquire(far()).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(before)).await;
                    let arrived = Instant::now();
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    drop(slot);
                    arrived
                });
            }
            let mut arrivals = calls.join_all().await;
            arrivals.sort();
            for window in arrivals.windows(8) {
                assert!(
                    window[7] - window[0] > WINDOW,
                    "seed {seed}: eight requests within ten seconds"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refuses_at_once_when_no_slot_comes_in_time() {
        let limiter = RateLimiter::new(1, None);
        drop(limiter.acquire(far()).await.unwrap());
        let start = Instant::now();
        assert!(limiter.acquire(Instant::now() + Duration::from_secs(5)).await.is_err());
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(limiter.acquire(Instant::now() + Duration::from_secs(11)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_a_slot_in_flight_no_longer_than_the_deadline() {
        let limiter = RateLimiter::new(1, None);
        let _held = limiter.acquire(far()).await.unwrap();
        let start = Instant::now();
        assert!(limiter.acquire(Instant::now() + Duration::from_secs(3)).await.is_err());
        assert!(start.elapsed() <= Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_stops_everything_and_a_longer_one_stands() {
        let limiter = RateLimiter::new(10, None);
        limiter.pause(Duration::from_secs(30));
        limiter.pause(Duration::from_secs(1));
        let start = Instant::now();
        assert!(limiter.paused_for() > Duration::from_secs(29));
        let _slot = limiter.acquire(far()).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn the_daily_budget_is_kept() {
        let limiter = RateLimiter::new(100, Some(3));
        for _ in 0..3 {
            drop(limiter.acquire(far()).await.unwrap());
        }
        assert!(
            limiter
                .acquire(Instant::now() + Duration::from_secs(3600))
                .await
                .is_err()
        );
        assert!(limiter.paused_for() > DAY);
    }
}
