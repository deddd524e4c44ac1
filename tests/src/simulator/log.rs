//! The log of requests that reached the simulator.

use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::route::Op;

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct RequestLog {
    /// Number of the request, from 1.
    pub seq: u64,
    /// Arrival, in milliseconds since 1970 by the simulator's clock.
    pub at_ms: i64,
    /// Arrival, in microseconds since the simulator started, by a monotonic clock.
    pub at_us: u64,
    /// HTTP method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Operation.
    pub op: Op,
    /// Status that was answered; 0 while it runs and when the connection was closed without an answer.
    pub status: u16,
    /// Entries of `inputs`.
    pub inputs: usize,
    /// The body, when bodies are kept.
    pub body: Option<Value>,
}

/// All requests since the start or the last clearing.
#[derive(Debug)]
pub(crate) struct Log {
    started: Instant,
    seq: u64,
    pub(crate) entries: Vec<RequestLog>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Log {
            started: Instant::now(),
            seq: 0,
            entries: Vec::new(),
        }
    }

    /// Enters a request; answers with its number.
    pub(crate) fn enter(&mut self, mut entry: RequestLog, at: Instant) -> u64 {
        self.seq += 1;
        entry.seq = self.seq;
        let since = at.saturating_duration_since(self.started);
        entry.at_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        self.entries.push(entry);
        self.seq
    }

    pub(crate) fn set_status(&mut self, seq: u64, status: u16) {
        if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.seq == seq) {
            entry.status = status;
        }
    }

    /// The largest number of requests in any span of `ms` milliseconds, those with an own limiter left out.
    pub(crate) fn max_in_window(&self, ms: u64) -> usize {
        let mut times: Vec<u64> = self
            .entries
            .iter()
            .filter(|entry| !entry.op.is_exempt())
            .map(|entry| entry.at_us)
            .collect();
        times.sort_unstable();
        let (mut first, mut best) = (0, 0);
        for (last, at) in times.iter().enumerate() {
            while at - times[first] >= ms * 1000 {
                first += 1;
            }
            best = best.max(last - first + 1);
        }
        best
    }
}
