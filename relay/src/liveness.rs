//! Whether the relay's loops still turn: what `/healthz` answers and what systemd's watchdog is told.
//!
//! A process can live and do nothing: a deadlock, a blocked runtime. Each loop that must turn notes that it did; one that has
//! not for longer than its slowest honest turn is stuck, and only a restart helps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Above the slowest honest turn: a database call may take a minute, and a turn makes up to two.
const STUCK: Duration = Duration::from_secs(150);

/// A loop that must turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Tells the database that this relay lives.
    Heartbeat,
    /// Claims and delivers.
    Delivery,
}

impl Part {
    const ALL: [Self; 2] = [Self::Heartbeat, Self::Delivery];

    fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Delivery => "delivery",
        }
    }
}

/// When each loop last turned. Clones share it.
#[derive(Debug, Clone)]
pub struct Liveness {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    /// Milliseconds after `started`.
    turned: [AtomicU64; 2],
}

impl Default for Liveness {
    fn default() -> Self {
        Self::new()
    }
}

impl Liveness {
    /// All loops count as having turned now.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                started: Instant::now(),
                turned: Default::default(),
            }),
        }
    }

    /// Notes that a loop turned.
    pub fn turned(&self, part: Part) {
        let now = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.turned[part as usize].store(now, Ordering::Relaxed);
    }

    /// The loops that are stuck, and for how long; empty when all is well.
    pub fn stuck(&self) -> Vec<(&'static str, Duration)> {
        self.stuck_after(self.shared.started.elapsed())
    }

    fn stuck_after(&self, now: Duration) -> Vec<(&'static str, Duration)> {
        Part::ALL
            .into_iter()
            .map(|part| {
                let turned = Duration::from_millis(self.shared.turned[part as usize].load(Ordering::Relaxed));
                (part.name(), now.saturating_sub(turned))
            })
            .filter(|(_, age)| *age > STUCK)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_named() {
        let liveness = Liveness::new();
        assert!(liveness.stuck_after(STUCK).is_empty());
        let late = STUCK + Duration::from_secs(1);
        assert_eq!(liveness.stuck_after(late).len(), 2);
        liveness.shared.turned[Part::Heartbeat as usize].store(5_000, Ordering::Relaxed);
        assert_eq!(liveness.stuck_after(late), [("delivery", late)]);
        liveness.turned(Part::Delivery);
        assert!(liveness.stuck().is_empty());
    }
}
