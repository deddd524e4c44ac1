//! The slots of one window that this relay holds, and those who wait for one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::Class;
use super::wire::{BudgetGrant, BudgetReport};

/// Added to the window because the clocks that measure it are not HubSpot's.
const MARGIN: Duration = Duration::from_millis(50);
/// One slot of this many is left to live calls.
const RESERVE: usize = 50;
/// Slots unused for this long are given back, so that the database need not be told of them any more.
const IDLE: Duration = Duration::from_secs(2);
/// Time between two reports while slots are held and nobody else needs them.
const CALM: Duration = Duration::from_millis(900);
/// The same while others take part, or while calls that must yield are under way.
const BUSY: Duration = Duration::from_millis(200);
/// The same while somebody waits for a slot that another relay has.
const HUNGRY: Duration = Duration::from_millis(100);

/// When a request may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Now,
    /// Not before; `sure`: no slot comes earlier from anywhere.
    At {
        at: Instant,
        sure: bool,
    },
    /// When a slot is returned or granted, or those before have gone.
    Unknown,
}

/// A slot that is not in flight: when it is ready, and what it was last used for.
type Resting = Reverse<(Instant, Option<Class>)>;

#[derive(Debug)]
pub(super) struct Window {
    length: Duration,
    limit: usize,
    /// Slots to hold at most.
    target: usize,
    shared: bool,
    /// Relays that share the limit.
    relays: usize,
    contended: bool,
    /// Slots of an earlier generation are void.
    generation: u64,
    lease_until: Option<Instant>,
    resting: BinaryHeap<Resting>,
    in_flight: [usize; 2],
    lines: [VecDeque<u64>; 2],
    next_background: Option<Instant>,
    paused_until: Option<Instant>,
    last_used: Option<Instant>,
}

impl Window {
    /// A window whose slots are all this relay's.
    pub(super) fn full(length: Duration, limit: u32) -> Self {
        let mut window = Self::empty(length, limit);
        window.shared = false;
        let now = Instant::now();
        window.resting.extend((0..window.limit).map(|_| Reverse((now, None))));
        window
    }

    /// A window without slots yet.
    pub(super) fn empty(length: Duration, limit: u32) -> Self {
        let limit = limit.max(1) as usize;
        Self {
            length,
            limit,
            target: limit,
            shared: true,
            relays: 1,
            contended: false,
            generation: 0,
            lease_until: None,
            resting: BinaryHeap::new(),
            in_flight: [0; 2],
            lines: [VecDeque::new(), VecDeque::new()],
            next_background: None,
            paused_until: None,
            last_used: None,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn share(&self) -> usize {
        (self.limit / self.relays.max(1)).max(1)
    }

    pub(super) fn set_limit(&mut self, limit: u32) {
        let limit = limit.max(1) as usize;
        if self.shared {
            // The next report tells the database, which knows what the other relays hold.
            self.limit = limit;
            return;
        }
        let now = Instant::now();
        for _ in self.limit..limit {
            self.resting.push(Reverse((now, None)));
        }
        self.limit = limit;
        self.target = limit;
        self.shrink();
    }

    pub(super) fn pause_until(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    pub(super) fn join(&mut self, class: Class, ticket: u64) {
        self.lines[class as usize].push_back(ticket);
    }

    pub(super) fn leave(&mut self, class: Class, ticket: u64) {
        self.lines[class as usize].retain(|waiting| *waiting != ticket);
    }

    pub(super) fn next(&self, class: Class, ticket: u64, now: Instant) -> Next {
        let first = self.lines[class as usize].front() == Some(&ticket);
        let yields = class == Class::Background && !self.lines[Class::Live as usize].is_empty();
        if !first || yields {
            return Next::Unknown;
        }
        if self.shared && self.lease_until.is_none_or(|until| until <= now) {
            return Next::Unknown;
        }
        let (ready, paced) = match class {
            Class::Live => (self.resting.peek().map(|Reverse((ready, _))| *ready), None),
            // The first ones are kept for live calls.
            Class::Background => (self.ready_after(self.held() / RESERVE), self.next_background),
        };
        let Some(ready) = ready else {
            return Next::Unknown;
        };
        match Some(ready).max(paced) {
            Some(at) if at > now => Next::At {
                at,
                sure: !self.shared || self.relays <= 1 && self.held() >= self.limit,
            },
            _ => Next::Now,
        }
    }

    /// Takes the slot that [`Window::next`] found; returns its generation.
    pub(super) fn take(&mut self, class: Class, ticket: u64, now: Instant) -> u64 {
        self.leave(class, ticket);
        self.resting.pop();
        self.in_flight[class as usize] += 1;
        self.last_used = Some(now);
        if class == Class::Background {
            // Spread over the window, so that slots come free one by one; one step late is made up for.
            let slots = u32::try_from(self.held().max(1)).unwrap_or(u32::MAX);
            let step = self.length / slots;
            let earliest = now.checked_sub(step).unwrap_or(now);
            self.next_background = Some(self.next_background.unwrap_or(earliest).max(earliest) + step);
        }
        self.generation
    }

    /// A request was answered, or failed.
    pub(super) fn put_back(&mut self, class: Class, generation: u64, now: Instant) {
        if generation != self.generation {
            return;
        }
        self.in_flight[class as usize] = self.in_flight[class as usize].saturating_sub(1);
        self.resting.push(Reverse((now + self.length + MARGIN, Some(class))));
        if !self.shared {
            self.shrink();
        }
    }

    /// Whether the database should be asked for slots before the next report is due.
    pub(super) fn asks(&self) -> bool {
        self.shared && !self.full_here() && self.waiting() > self.ready(Instant::now())
    }

    /// What to tell the database; none when there is nothing.
    pub(super) fn report(&mut self, budget: &'static str, now: Instant, leave: bool) -> Option<BudgetReport> {
        if !self.shared || (self.held() == 0 && self.waiting() == 0) {
            return None;
        }
        let idle = self.waiting() == 0
            && self.in_flight.iter().sum::<usize>() == 0
            && self.last_used.is_none_or(|at| now.saturating_duration_since(at) > IDLE);
        let keep = if leave || idle { 0 } else { self.target };
        let give = self.give_back(keep, now);
        Some(BudgetReport {
            budget,
            window_ms: millis(self.length),
            limit: self.limit as u64,
            held: self.held() as u64,
            live: self.need(Class::Live),
            background: self.need(Class::Background),
            give,
        })
    }

    pub(super) fn grant(&mut self, grant: &BudgetGrant, now: Instant, lease_until: Instant) {
        if grant.reset {
            self.generation += 1;
            self.resting.clear();
            self.in_flight = [0; 2];
        }
        self.target = to_usize(grant.target);
        self.relays = to_usize(grant.relays).max(1);
        self.contended = grant.contended;
        self.lease_until = Some(lease_until);
        if !grant.grant.is_empty() {
            self.last_used = Some(now);
        }
        for (free_in_ms, slots) in &grant.grant {
            let ready = now + Duration::from_millis(*free_in_ms);
            self.resting
                .extend((0..to_usize(*slots)).map(|_| Reverse((ready, None))));
        }
    }

    /// How soon the next report is due.
    pub(super) fn report_due(&self) -> Duration {
        let others = self.relays > 1;
        if !self.shared {
            CALM
        } else if self.waiting() > 0 && !self.full_here() {
            HUNGRY
        } else if others || self.contended || self.in_flight[Class::Background as usize] > 0 {
            BUSY
        } else {
            CALM
        }
    }

    fn held(&self) -> usize {
        self.resting.len() + self.in_flight.iter().sum::<usize>()
    }

    /// Whether there is nothing to be had from the database.
    fn full_here(&self) -> bool {
        self.relays <= 1 && self.held() >= self.limit && self.lease_until.is_some_and(|until| until > Instant::now())
    }

    fn waiting(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }

    /// When the slot after the first `skipped` ones is ready.
    fn ready_after(&self, skipped: usize) -> Option<Instant> {
        if skipped == 0 {
            return self.resting.peek().map(|Reverse((ready, _))| *ready);
        }
        let mut times: Vec<Instant> = self.resting.iter().map(|Reverse((ready, _))| *ready).collect();
        (skipped < times.len()).then(|| *times.select_nth_unstable(skipped).1)
    }

    fn ready(&self, now: Instant) -> usize {
        self.resting.iter().filter(|Reverse((at, _))| *at <= now).count()
    }

    /// Slots this class needs to go on as it does: without anyone waiting, those in flight only.
    fn need(&self, class: Class) -> u64 {
        let flying = self.in_flight[class as usize];
        let waiting = self.lines[class as usize].len();
        if waiting == 0 {
            return flying as u64;
        }
        let now = Instant::now();
        let cooling = |Reverse((at, used)): &&Resting| *at > now && *used == Some(class);
        (flying + waiting + self.resting.iter().filter(cooling).count()) as u64
    }

    /// Drops the slots above the target that are ready first: those that stay cool as long as HubSpot counts them.
    fn shrink(&mut self) {
        while self.held() > self.target && self.resting.pop().is_some() {}
    }

    /// Gives slots back until `keep` are held, those that are ready first.
    fn give_back(&mut self, keep: usize, now: Instant) -> Vec<(u64, u64)> {
        let mut given: Vec<(u64, u64)> = Vec::new();
        while self.held() > keep {
            let Some(Reverse((ready, _))) = self.resting.pop() else {
                break;
            };
            // Rounded up, so that slots of about the same time are one entry.
            let free_in = millis(ready.saturating_duration_since(now)).div_ceil(20) * 20;
            match given.last_mut() {
                Some((at, slots)) if *at == free_in => *slots += 1,
                _ => given.push((free_in, 1)),
            }
        }
        given
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
