//! The simulator's clock: milliseconds, never twice the same for two writes.

use std::time::{SystemTime, UNIX_EPOCH};

/// System clock plus an offset; [`Clock::tick`] is strictly increasing.
#[derive(Debug)]
pub(crate) struct Clock {
    offset_ms: i64,
    last: i64,
}

impl Clock {
    pub(crate) fn new(offset_ms: i64) -> Self {
        Clock { offset_ms, last: 0 }
    }

    pub(crate) fn set_offset(&mut self, offset_ms: i64) {
        self.offset_ms = offset_ms;
    }

    /// Now, in milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis())
            .unwrap_or(i64::MAX)
            .saturating_add(self.offset_ms)
    }

    /// The timestamp of the next write: later than that of every write before.
    pub(crate) fn tick(&mut self) -> i64 {
        self.last = self.now().max(self.last + 1);
        self.last
    }
}

/// `2026-01-05T10:00:00.123Z`
pub(crate) fn iso(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(instant) => format!("{instant:.3}"),
        Err(_) => "1970-01-01T00:00:00.000Z".to_owned(),
    }
}

/// `Tue, 24 Nov 2026 10:00:00 GMT`, as the header `Date` has it.
pub(crate) fn http_date(ms: i64) -> String {
    let instant = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    instant.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
