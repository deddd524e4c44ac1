//! How a call to HubSpot can fail, and what each failure means for the records it carried.

use std::time::Duration;

use super::model::ErrorBody;

/// What kind of failure a call met. Everything the relay does about a failure follows from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// No answer within `hubspot.timeout`, or HubSpot's own 408, 504 and 524: a write may have landed.
    Timeout,
    /// The connection failed before the request left.
    Unreachable,
    /// The connection failed after the request may have left: a write may have landed.
    Network,
    /// 429: a limit of ours was hit.
    RateLimit,
    /// 423: HubSpot has locked the records for two seconds.
    Locked,
    /// 477: the account is moving between data centres.
    Migrating,
    /// 5xx: a write may have landed.
    Server,
    /// 400 and the like: the request will be refused again.
    Invalid,
    /// 401 or 403: the token is wrong or lacks a scope.
    Auth,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
}

impl FailureClass {
    /// The contract's word for it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable | Self::Network => "network",
            Self::RateLimit => "rate_limit",
            Self::Locked => "locked",
            Self::Migrating | Self::Server => "server",
            Self::Invalid => "invalid",
            Self::Auth => "auth",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
        }
    }

    /// Whether a write that met it may have taken effect all the same.
    pub fn may_have_landed(self) -> bool {
        matches!(self, Self::Timeout | Self::Network | Self::Server)
    }

    /// Whether it may be the sign of an outage rather than of this request.
    pub fn hints_at_outage(self) -> bool {
        matches!(self, Self::Timeout | Self::Unreachable | Self::Network | Self::Server)
    }

    /// Whether HubSpot refused the request for good.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Invalid | Self::NotFound | Self::Conflict)
    }
}

/// Which limit a 429 was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RatePolicy {
    /// The ten-second window.
    TenSecondly,
    /// Search's own second.
    Secondly,
    /// The day.
    Daily,
    /// Not said.
    Unknown,
}

/// A failed call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation}: {} (HTTP {status:?}): {message}", class.kind())]
pub struct Failure {
    /// What was tried, such as `batch_update`.
    pub operation: &'static str,
    /// Its class.
    pub class: FailureClass,
    /// HTTP status; none when there was no answer.
    pub status: Option<u16>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Which limit, for [`FailureClass::RateLimit`].
    pub policy: RatePolicy,
    /// HubSpot's message. May quote property values: goes to the database, never to a log.
    pub message: String,
    /// The body as far as it could be read.
    pub body: Option<Box<ErrorBody>>,
}

impl Failure {
    /// A failure that HubSpot's answer, if there was one, says nothing more about.
    pub(super) fn new(operation: &'static str, class: FailureClass, status: Option<u16>, message: &str) -> Self {
        Self {
            operation,
            class,
            status,
            retry_after: None,
            policy: RatePolicy::Unknown,
            message: message.to_owned(),
            body: None,
        }
    }
}

/// The class of an HTTP status that is not a success.
pub fn classify(status: u16) -> FailureClass {
    match status {
        401 | 403 => FailureClass::Auth,
        404 => FailureClass::NotFound,
        409 => FailureClass::Conflict,
        408 | 504 | 524 => FailureClass::Timeout,
        423 => FailureClass::Locked,
        429 => FailureClass::RateLimit,
        477 => FailureClass::Migrating,
        // A redirect is never followed (the token must not travel): something stands between us and HubSpot.
        300..=399 | 500..=599 => FailureClass::Server,
        _ => FailureClass::Invalid,
    }
}

/// The class of one record's error inside a 207.
pub fn classify_row(error: &ErrorBody) -> FailureClass {
    match error.category.as_deref() {
        Some("VALIDATION_ERROR") => FailureClass::Invalid,
        Some("OBJECT_NOT_FOUND") => FailureClass::NotFound,
        Some("CONFLICT" | "OBJECT_ALREADY_EXISTS") => FailureClass::Conflict,
        Some("RATE_LIMITS" | "RATE_LIMIT") => FailureClass::RateLimit,
        Some("MISSING_SCOPES" | "INVALID_AUTHENTICATION" | "EXPIRED_AUTHENTICATION") => FailureClass::Auth,
        Some("LOCKED") => FailureClass::Locked,
        Some("INTERNAL_ERROR" | "SERVER_ERROR") => FailureClass::Server,
        _ => error
            .status
            .as_u64()
            .and_then(|status| u16::try_from(status).ok())
            .map_or(FailureClass::Invalid, classify),
    }
}

/// Which limit `policyName` names.
pub fn rate_policy(name: Option<&str>) -> RatePolicy {
    match name {
        Some("TEN_SECONDLY_ROLLING" | "TEN_SECONDLY") => RatePolicy::TenSecondly,
        Some("SECONDLY") => RatePolicy::Secondly,
        Some("DAILY") => RatePolicy::Daily,
        _ => RatePolicy::Unknown,
    }
}

/// `Retry-After` in whole or broken seconds; HubSpot's CRM sends no dates there.
pub fn parse_retry_after(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse::<f64>().ok()?;
    // A day is the longest HubSpot documents (477).
    (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(86_400.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn statuses() {
        for (status, class) in [
            (400, FailureClass::Invalid),
            (401, FailureClass::Auth),
            (403, FailureClass::Auth),
            (404, FailureClass::NotFound),
            (409, FailureClass::Conflict),
            (414, FailureClass::Invalid),
            (423, FailureClass::Locked),
            (429, FailureClass::RateLimit),
            (477, FailureClass::Migrating),
            (500, FailureClass::Server),
            (502, FailureClass::Server),
            (503, FailureClass::Server),
            (504, FailureClass::Timeout),
            (521, FailureClass::Server),
            (524, FailureClass::Timeout),
            (302, FailureClass::Server),
        ] {
            assert_eq!(classify(status), class, "{status}");
        }
    }

    #[test]
    fn only_answers_that_leave_doubt_may_have_landed() {
        for class in [FailureClass::Timeout, FailureClass::Network, FailureClass::Server] {
            assert!(class.may_have_landed());
        }
        for class in [
            FailureClass::Unreachable,
            FailureClass::RateLimit,
            FailureClass::Locked,
            FailureClass::Invalid,
            FailureClass::Auth,
        ] {
            assert!(!class.may_have_landed());
        }
    }

    #[test]
    fn rows_policies_and_waits() {
        let row = |body| classify_row(&serde_json::from_value(body).unwrap());
        assert_eq!(row(json!({"category":"VALIDATION_ERROR"})), FailureClass::Invalid);
        assert_eq!(
            row(json!({"category":"OBJECT_NOT_FOUND","status":"error"})),
            FailureClass::NotFound
        );
        assert_eq!(row(json!({"status":503})), FailureClass::Server);
        assert_eq!(row(json!({})), FailureClass::Invalid);
        assert_eq!(rate_policy(Some("DAILY")), RatePolicy::Daily);
        assert_eq!(rate_policy(None), RatePolicy::Unknown);
        assert_eq!(parse_retry_after("2"), Some(Duration::from_secs(2)));
        assert_eq!(parse_retry_after("-1"), None);
        assert_eq!(parse_retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
