//! Rate limits: the rolling 10 s window per app, the day, and search per second.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Length of the rolling window.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// Which limit a 429 names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The rolling 10 s window.
    TenSecondlyRolling,
    /// The day.
    Daily,
    /// Search, per second.
    Secondly,
}

impl Policy {
    /// The 429 body.
    pub(crate) fn body(self, correlation_id: &str, app_id: u64) -> Value {
        match self {
            Policy::TenSecondlyRolling => json!({"status": "error",
                "message": "You have reached your ten_secondly_rolling limit.", "errorType": "RATE_LIMIT",
                "correlationId": correlation_id, "policyName": "TEN_SECONDLY_ROLLING",
                "groupName": format!("publicapi:private_app-api-calls-ten-secondly:{app_id}"),
                "requestId": correlation_id}),
            Policy::Daily => json!({"status": "error", "message": "You have reached your daily limit.",
                "errorType": "RATE_LIMIT", "policyName": "DAILY", "correlationId": correlation_id}),
            Policy::Secondly => json!({"status": "error", "message": "You have reached your secondly limit.",
                "errorType": "RATE_LIMIT", "category": "RATE_LIMITS", "policyName": "SECONDLY",
                "correlationId": correlation_id}),
        }
    }
}

/// Counts requests.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) window_limit: u32,
    pub(crate) daily_limit: Option<u64>,
    pub(crate) search_limit: u32,
    apps: HashMap<u64, VecDeque<Instant>>,
    searches: VecDeque<Instant>,
    today: u64,
}

impl Limiter {
    pub(crate) fn new(window_limit: u32, daily_limit: Option<u64>, search_limit: u32) -> Self {
        let (apps, searches) = (HashMap::new(), VecDeque::new());
        Limiter {
            window_limit,
            daily_limit,
            search_limit,
            apps,
            searches,
            today: 0,
        }
    }

    /// Admits or refuses a request; refused ones do not count.
    pub(crate) fn admit(&mut self, app_id: u64, search: bool, at: Instant) -> Result<(), Policy> {
        if self.daily_limit.is_some_and(|limit| self.today >= limit) {
            return Err(Policy::Daily);
        }
        let (times, span, limit, policy) = if search {
            (
                &mut self.searches,
                Duration::from_secs(1),
                self.search_limit,
                Policy::Secondly,
            )
        } else {
            (
                self.apps.entry(app_id).or_default(),
                WINDOW,
                self.window_limit,
                Policy::TenSecondlyRolling,
            )
        };
        while times
            .front()
            .is_some_and(|first| at.saturating_duration_since(*first) >= span)
        {
            times.pop_front();
        }
        if limit > 0 && times.len() >= limit as usize {
            return Err(policy);
        }
        times.push_back(at);
        self.today += 1;
        Ok(())
    }

    /// Starts a new day.
    pub(crate) fn reset_day(&mut self) {
        self.today = 0;
    }

    /// Requests admitted since the day began.
    pub(crate) fn today(&self) -> u64 {
        self.today
    }

    /// Rate-limit headers of a response that is not a search's.
    pub(crate) fn headers(&self, app_id: u64) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if self.window_limit > 0 {
            let used = self.apps.get(&app_id).map_or(0, VecDeque::len);
            let left = (self.window_limit as usize).saturating_sub(used);
            headers.push((
                "x-hubspot-ratelimit-interval-milliseconds",
                WINDOW.as_millis().to_string(),
            ));
            headers.push(("x-hubspot-ratelimit-max", self.window_limit.to_string()));
            headers.push(("x-hubspot-ratelimit-remaining", left.to_string()));
        }
        if let Some(limit) = self.daily_limit {
            headers.push(("x-hubspot-ratelimit-daily", limit.to_string()));
            headers.push((
                "x-hubspot-ratelimit-daily-remaining",
                limit.saturating_sub(self.today).to_string(),
            ));
        }
        headers
    }
}
