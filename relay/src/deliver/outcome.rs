//! From a failure to what the database is told of each record.

use std::time::Duration;

use crate::config::Retry;
use crate::db::contract::{End, Outcome};
use crate::hubspot::client::cut;
use crate::hubspot::error::{Failure, FailureClass, classify_row};
use crate::hubspot::model::ErrorBody;
use crate::hubspot::refusal::refused_property;
use crate::retry;

/// Shortest delay of a record for which nothing was sent.
const UNSENT_WAIT: Duration = Duration::from_millis(200);

/// How a failed call went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// Number of the try, 1 is the first.
    pub(super) attempt: u32,
    /// Whether the try counts.
    pub(super) spent: bool,
    /// Whether it was a write, whose effect may be unknown.
    pub(super) write: bool,
}

/// The end of one record of a call that failed as a whole.
pub(super) fn of_failure(retry: &Retry, failure: &Failure, at: Circumstances, jitter: f64) -> End {
    let unknown = at.write && failure.class.may_have_landed();
    if failure.class.is_refusal() {
        return End::Refused {
            kind: failure.class.kind(),
            property: failure.body.as_deref().and_then(refused_property),
            message: failure.message.clone(),
            http_status: failure.status,
        };
    }
    let delay = retry::delay_after(retry, failure, at.attempt, jitter);
    transient(
        retry,
        failure.class,
        unknown,
        at,
        delay,
        failure.message.clone(),
        failure.status,
    )
}

/// The end of one record HubSpot refused inside an answer.
pub(super) fn of_row(retry: &Retry, error: &ErrorBody, at: Circumstances, jitter: f64) -> End {
    let class = classify_row(error);
    let message = cut(error.message.as_deref().unwrap_or("HubSpot gave no reason"));
    let http_status = error.status.as_u64().and_then(|status| u16::try_from(status).ok());
    match class {
        FailureClass::NotFound => End::Missing {
            kind: class.kind(),
            message,
            http_status,
        },
        _ if class.is_refusal() => End::Refused {
            kind: class.kind(),
            property: refused_property(error),
            message,
            http_status,
        },
        _ => {
            let spent = at.spent && !matches!(class, FailureClass::RateLimit | FailureClass::Auth);
            let floor = if class == FailureClass::Locked {
                Duration::from_secs(2)
            } else {
                Duration::ZERO
            };
            let delay = retry::delay(retry, at.attempt, jitter).max(floor);
            let unknown = at.write && class.may_have_landed();
            transient(
                retry,
                class,
                unknown,
                Circumstances { spent, ..at },
                delay,
                message,
                http_status,
            )
        }
    }
}

/// The end of a record for which nothing was sent.
pub(super) fn not_started(wait: Duration) -> End {
    End::Retry {
        kind: "rate_limit",
        unknown: false,
        spent: false,
        delay_ms: millis(wait.max(UNSENT_WAIT)),
        message: "not sent: no room in the rate limit before the claim's lease ends, or the relay is stopping"
            .to_owned(),
        http_status: None,
    }
}

fn transient(
    retry: &Retry,
    class: FailureClass,
    unknown: bool,
    at: Circumstances,
    delay: Duration,
    message: String,
    http_status: Option<u16>,
) -> End {
    if at.spent && at.attempt > retry.max_retries {
        return End::Exhausted {
            kind: class.kind(),
            unknown,
            message,
            http_status,
        };
    }
    End::Retry {
        kind: class.kind(),
        unknown,
        spent: at.spent,
        delay_ms: millis(delay),
        message,
        http_status,
    }
}

/// How many ended well.
pub(super) fn ok_count(outcomes: &[Outcome]) -> usize {
    outcomes
        .iter()
        .filter(|outcome| matches!(outcome.end, End::Ok { .. }))
        .count()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hubspot::error::RatePolicy;
    use serde_json::json;

    fn failure(class: FailureClass, status: Option<u16>) -> Failure {
        Failure {
            operation: "batch_update",
            class,
            status,
            retry_after: None,
            policy: RatePolicy::Unknown,
            message: "m".to_owned(),
            body: None,
        }
    }

    fn end(class: FailureClass, attempt: u32, spent: bool, write: bool) -> End {
        of_failure(
            &Retry::default(),
            &failure(class, None),
            Circumstances { attempt, spent, write },
            1.0,
        )
    }

    #[test]
    fn retries_are_used_up_but_not_by_an_outage() {
        assert!(matches!(
            end(FailureClass::Server, 3, true, true),
            End::Retry {
                unknown: true,
                spent: true,
                ..
            }
        ));
        assert!(matches!(
            end(FailureClass::Server, 4, true, true),
            End::Exhausted { unknown: true, .. }
        ));
        assert!(matches!(
            end(FailureClass::Server, 9, false, true),
            End::Retry { spent: false, .. }
        ));
        assert!(matches!(
            end(FailureClass::Timeout, 1, true, false),
            End::Retry { unknown: false, .. }
        ));
        assert!(matches!(
            end(FailureClass::Unreachable, 1, true, true),
            End::Retry { unknown: false, .. }
        ));
    }

    #[test]
    fn rows() {
        let row = |body| {
            let at = Circumstances {
                attempt: 1,
                spent: true,
                write: true,
            };
            of_row(&Retry::default(), &serde_json::from_value(body).unwrap(), at, 0.0)
        };
        let refused = row(json!({"category":"VALIDATION_ERROR","message":"bad","context":{"propertyName":["status"]}}));
        assert!(matches!(refused, End::Refused { property: Some(name), .. } if name == "status"));
        assert!(matches!(
            row(json!({"category":"OBJECT_NOT_FOUND"})),
            End::Missing { .. }
        ));
        assert!(matches!(
            row(json!({"category":"RATE_LIMITS"})),
            End::Retry {
                spent: false,
                unknown: false,
                ..
            }
        ));
    }
}
