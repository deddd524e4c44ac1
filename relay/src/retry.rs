//! How long to wait before the next try. Pure: the caller brings the attempt and the jitter.

use std::time::Duration;

use crate::config::Retry;
use crate::hubspot::error::{Failure, FailureClass, RatePolicy};

/// HubSpot's lock on a record lasts two seconds.
const LOCK: Duration = Duration::from_secs(2);
/// HubSpot's rolling window.
const TEN_SECONDS: Duration = Duration::from_secs(10);
/// The day's quota returns at the account's midnight, which we do not know: ask again this often.
const DAILY: Duration = Duration::from_secs(900);
/// When a moving account does not say how long.
const MIGRATION: Duration = Duration::from_secs(60);

/// The wait after try number `attempt` (1 is the first), `jitter` from 0 to 1.
///
/// Half of the exponential wait is certain and half is left to chance, so that retries spread but never bunch at zero.
pub fn delay(retry: &Retry, attempt: u32, jitter: f64) -> Duration {
    let exponent = i32::try_from(attempt.saturating_sub(1).min(64)).unwrap_or(64);
    let longest = retry.max_delay.as_secs_f64();
    let base = (retry.initial_delay.as_secs_f64() * retry.backoff_factor.powi(exponent)).min(longest);
    Duration::from_secs_f64(base * (0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
}

/// The wait of a record whose call failed: the backoff, but not less than HubSpot asks for.
pub fn delay_after(retry: &Retry, failure: &Failure, attempt: u32, jitter: f64) -> Duration {
    let floor = match failure.class {
        FailureClass::Locked => LOCK,
        _ => relay_pause(failure).unwrap_or(Duration::ZERO),
    };
    delay(retry, attempt, jitter)
        .max(failure.retry_after.unwrap_or(Duration::ZERO))
        .max(floor)
}

/// How long the whole relay must be silent after this failure, if at all.
pub fn relay_pause(failure: &Failure) -> Option<Duration> {
    match failure.class {
        FailureClass::RateLimit => Some(failure.retry_after.unwrap_or(match failure.policy {
            RatePolicy::TenSecondly => TEN_SECONDS,
            RatePolicy::Secondly | RatePolicy::Unknown => Duration::from_secs(1),
            RatePolicy::Daily => DAILY,
        })),
        FailureClass::Migrating => Some(failure.retry_after.unwrap_or(MIGRATION)),
        FailureClass::Server => failure.retry_after,
        FailureClass::Timeout
        | FailureClass::Unreachable
        | FailureClass::Network
        | FailureClass::Locked
        | FailureClass::Invalid
        | FailureClass::Auth
        | FailureClass::NotFound
        | FailureClass::Conflict => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(class: FailureClass, policy: RatePolicy, retry_after: Option<u64>) -> Failure {
        Failure {
            operation: "batch_update",
            class,
            status: None,
            retry_after: retry_after.map(Duration::from_secs),
            policy,
            message: String::new(),
            body: None,
        }
    }

    #[test]
    fn grows_to_the_longest_wait() {
        let retry = Retry::default();
        let waits: Vec<u64> = (1..=7).map(|attempt| delay(&retry, attempt, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(delay(&retry, 1, 0.0), Duration::from_millis(500));
        assert_eq!(delay(&retry, u32::MAX, 1.0), Duration::from_secs(30));
    }

    #[test]
    fn hubspots_wishes_are_floors() {
        let retry = Retry::default();
        let wait = |class, policy, after| delay_after(&retry, &failure(class, policy, after), 1, 0.0);
        assert_eq!(
            wait(FailureClass::Locked, RatePolicy::Unknown, None),
            Duration::from_secs(2)
        );
        assert_eq!(
            wait(FailureClass::RateLimit, RatePolicy::TenSecondly, None),
            Duration::from_secs(10)
        );
        assert_eq!(
            wait(FailureClass::RateLimit, RatePolicy::TenSecondly, Some(3)),
            Duration::from_secs(3)
        );
        assert_eq!(
            wait(FailureClass::Server, RatePolicy::Unknown, Some(7)),
            Duration::from_secs(7)
        );
        assert_eq!(
            relay_pause(&failure(FailureClass::Migrating, RatePolicy::Unknown, Some(90)))
                .unwrap()
                .as_secs(),
            90
        );
        assert_eq!(
            relay_pause(&failure(FailureClass::Locked, RatePolicy::Unknown, None)),
            None
        );
    }
}
