//! Faults that tests switch on, and gates that hold a request.

use std::collections::HashMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use super::limits::Policy;
use super::route::Op;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// This status, nothing applied: 423, 502, 503, 504 and others.
    Status(u16),
    /// 429 with this policy.
    RateLimited(Policy),
    /// 477 with `Retry-After` in seconds.
    Migrating(u64),
    /// 524 after the request was applied.
    TimeoutAfterApply,
    /// This status after the request was applied.
    StatusAfterApply(u16),
    /// The connection closes, nothing applied.
    CloseBeforeApply,
    /// The connection closes after the request was applied.
    CloseAfterApply,
    /// The answer comes this many milliseconds late; the request is applied at once.
    Delay(u64),
    /// The request waits this many milliseconds before it is applied and answered.
    DelayBeforeApply(u64),
    /// The connection closes at once, and the request is applied this many milliseconds later.
    LateApply(u64),
    /// 401 of an unknown token.
    Unauthorized,
    /// 401 of an expired token.
    Expired,
    /// 403
    Forbidden,
}

impl FaultKind {
    /// What goes wrong, in a word or two; how long it takes is left out.
    pub fn name(self) -> String {
        let plain = match self {
            FaultKind::Status(status) => return format!("status {status}"),
            FaultKind::StatusAfterApply(status) => return format!("status_after_apply {status}"),
            FaultKind::RateLimited(policy) => return format!("rate_limited {policy:?}"),
            FaultKind::Migrating(_) => "migrating",
            FaultKind::TimeoutAfterApply => "timeout_after_apply",
            FaultKind::CloseBeforeApply => "close_before_apply",
            FaultKind::CloseAfterApply => "close_after_apply",
            FaultKind::Delay(_) => "delay",
            FaultKind::DelayBeforeApply(_) => "delay_before_apply",
            FaultKind::LateApply(_) => "late_apply",
            FaultKind::Unauthorized => "unauthorized",
            FaultKind::Expired => "expired",
            FaultKind::Forbidden => "forbidden",
        };
        plain.to_owned()
    }
}

/// A fault for the next requests of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Operation it concerns.
    pub op: Op,
    /// What goes wrong.
    pub kind: FaultKind,
    /// Number of requests it concerns.
    pub times: u32,
}

/// Where a gate holds a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatePoint {
    /// Before it is applied.
    BeforeApply,
    /// After it was applied, before the answer.
    AfterApply,
}

#[derive(Debug)]
struct GateState {
    op: Op,
    point: GatePoint,
    reached: Semaphore,
    open: watch::Sender<bool>,
}

/// Holds every request of an operation until released or dropped.
#[derive(Debug)]
pub struct Gate(Arc<GateState>);

impl Gate {
    /// Waits until one more request stands at the gate.
    pub async fn reached(&self) {
        if let Ok(permit) = self.0.reached.acquire().await {
            permit.forget();
        }
    }

    /// Lets all requests pass, now and later.
    pub fn release(&self) {
        self.0.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.release();
    }
}

/// All faults and gates.
#[derive(Debug)]
pub(crate) struct Faults {
    counted: Vec<Fault>,
    random: Vec<(Op, FaultKind, f64)>,
    gates: Vec<Arc<GateState>>,
    rng: StdRng,
    /// How often a request met a fault.
    met: HashMap<(Op, FaultKind), usize>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        Faults {
            counted: Vec::new(),
            random: Vec::new(),
            gates: Vec::new(),
            rng,
            met: HashMap::new(),
        }
    }

    pub(crate) fn add(&mut self, fault: Fault) {
        self.counted.push(fault);
    }

    pub(crate) fn add_random(&mut self, op: Op, kind: FaultKind, probability: f64) {
        self.random.push((op, kind, probability.clamp(0.0, 1.0)));
    }

    pub(crate) fn clear(&mut self) {
        self.counted.clear();
        self.random.clear();
    }

    /// Switches those off that come by chance.
    pub(crate) fn clear_random(&mut self) {
        self.random.clear();
    }

    /// The faults that requests of an operation met.
    pub(crate) fn met(&self) -> &HashMap<(Op, FaultKind), usize> {
        &self.met
    }

    /// The fault of the next request of an operation.
    pub(crate) fn take(&mut self, op: Op) -> Option<FaultKind> {
        let kind = self.draw(op)?;
        *self.met.entry((op, kind)).or_default() += 1;
        Some(kind)
    }

    fn draw(&mut self, op: Op) -> Option<FaultKind> {
        if let Some(at) = self
            .counted
            .iter()
            .position(|fault| fault.op.covers(op) && fault.times > 0)
        {
            let kind = self.counted[at].kind;
            self.counted[at].times -= 1;
            self.counted.retain(|fault| fault.times > 0);
            return Some(kind);
        }
        let rng = &mut self.rng;
        let hit = self
            .random
            .iter()
            .find(|(wanted, _, chance)| wanted.covers(op) && rng.random_bool(*chance));
        hit.map(|(_, kind, _)| *kind)
    }

    /// Faults that wait for a request.
    pub(crate) fn pending(&self) -> u32 {
        self.counted.iter().map(|fault| fault.times).sum()
    }

    pub(crate) fn gate(&mut self, op: Op, point: GatePoint) -> Gate {
        let state = GateState {
            op,
            point,
            reached: Semaphore::new(0),
            open: watch::Sender::new(false),
        };
        let state = Arc::new(state);
        self.gates.retain(|gate| !*gate.open.borrow());
        self.gates.push(state.clone());
        Gate(state)
    }

    /// Announces a request at its gates; answers with what must open before it may go on.
    pub(crate) fn arrive(&mut self, op: Op, point: GatePoint) -> Vec<watch::Receiver<bool>> {
        let gates = self
            .gates
            .iter()
            .filter(|gate| gate.op.covers(op) && gate.point == point);
        gates
            .filter(|gate| !*gate.open.borrow())
            .map(|gate| {
                gate.reached.add_permits(1);
                gate.open.subscribe()
            })
            .collect()
    }
}
