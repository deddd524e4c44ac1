//! Dates and instants as text, to the millisecond, years 1 to 9999.

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::Offset,
};

const MS_PER_DAY: i64 = 86_400_000;

/// Why a text is not a date or an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not of any accepted form.
    Malformed,
    /// Well formed, but before year 1 or after year 9999; PostgreSQL's infinities are here too.
    Range,
    /// An instant that is not midnight UTC, where a date was wanted.
    NotMidnight,
}

/// The canonical date, `YYYY-MM-DD`, of a text of exactly that form.
pub(crate) fn date(text: &str) -> Result<String, Fault> {
    refuse_unbounded(text)?;
    parse_date(text).map(|d| d.to_string())
}

/// The canonical date of HubSpot's forms: `YYYY-MM-DD`, or midnight UTC as epoch milliseconds or ISO 8601.
pub(crate) fn hubspot_date(text: &str) -> Result<String, Fault> {
    if let Ok(date) = parse_date(text) {
        return Ok(date.to_string());
    }
    let instant = match epoch_ms(text) {
        Some(instant) => instant?,
        None => parse_instant(text)?,
    };
    if instant.as_millisecond() % MS_PER_DAY != 0 || instant.subsec_nanosecond() != 0 {
        return Err(Fault::NotMidnight);
    }
    Ok(in_range(instant)?.date().to_string())
}

/// The canonical instant of PostgreSQL's ISO output or ISO 8601; without an offset, UTC is meant.
pub(crate) fn instant(text: &str) -> Result<String, Fault> {
    refuse_unbounded(text)?;
    print_instant(parse_instant(text)?)
}

/// The canonical instant of HubSpot's forms: ISO 8601, or epoch milliseconds.
pub(crate) fn hubspot_instant(text: &str) -> Result<String, Fault> {
    match epoch_ms(text) {
        Some(instant) => print_instant(instant?),
        None => print_instant(parse_instant(text)?),
    }
}

fn refuse_unbounded(text: &str) -> Result<(), Fault> {
    let unbounded = matches!(text, "infinity" | "-infinity") || text.ends_with(" BC");
    if unbounded { Err(Fault::Range) } else { Ok(()) }
}

/// `None` when the text is not an integer at all.
fn epoch_ms(text: &str) -> Option<Result<Timestamp, Fault>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(
        text.parse::<i64>()
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .ok_or(Fault::Range),
    )
}

fn in_range(instant: Timestamp) -> Result<DateTime, Fault> {
    let utc = Offset::UTC.to_datetime(instant);
    if utc.year() >= 1 { Ok(utc) } else { Err(Fault::Range) }
}

fn print_instant(instant: Timestamp) -> Result<String, Fault> {
    let utc = in_range(instant)?;
    // Seconds are whole for any offset, so dropping digits of the clock's fraction rounds down, before 1970 too.
    Ok(format!(
        "{}T{:02}:{:02}:{:02}.{:03}Z",
        utc.date(),
        utc.hour(),
        utc.minute(),
        utc.second(),
        utc.subsec_nanosecond() / 1_000_000
    ))
}

fn parse_date(text: &str) -> Result<Date, Fault> {
    let bytes = text.as_bytes();
    let year_digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if (5..=6).contains(&year_digits) && bytes.get(year_digits) == Some(&b'-') {
        return Err(Fault::Range); // PostgreSQL prints years up to 294276
    }
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return Err(Fault::Malformed);
    }
    let number = |range: std::ops::Range<usize>| digits(bytes.get(range));
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return Err(Fault::Malformed);
    };
    if year == 0 {
        return Err(Fault::Range);
    }
    Date::new(year as i16, month as i8, day as i8).map_err(|_| Fault::Malformed)
}

fn digits(bytes: Option<&[u8]>) -> Option<u32> {
    let bytes = bytes?;
    if bytes.is_empty() || bytes.len() > 9 {
        return None;
    }
    bytes
        .iter()
        .try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')))
}

/// `DATE`, or `DATE[T or blank]HH:MM[:SS[.fraction]][offset]`.
fn parse_instant(text: &str) -> Result<Timestamp, Fault> {
    let (date, clock) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, "00:00Z"),
    };
    let date = parse_date(date)?;
    let offset_at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let time = parse_clock(&clock[..offset_at]).ok_or(Fault::Malformed)?;
    let offset = parse_offset(&clock[offset_at..]).ok_or(Fault::Malformed)?;
    offset.to_timestamp(date.to_datetime(time)).map_err(|_| Fault::Range)
}

fn parse_clock(text: &str) -> Option<Time> {
    let (whole, fraction) = text
        .split_once(['.', ','])
        .map_or((text, None), |(whole, f)| (whole, Some(f)));
    let mut parts = whole.split(':').map(|part| {
        if part.len() == 2 {
            digits(Some(part.as_bytes()))
        } else {
            None
        }
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = match parts.next() {
        Some(second) => second?,
        None if fraction.is_some() => return None,
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    let ms = match fraction {
        None => 0,
        Some(f) if f.is_empty() || !f.bytes().all(|b| b.is_ascii_digit()) => return None,
        // What is finer than a millisecond is dropped, except that "not quite midnight" must stay visible to dates.
        Some(f) => {
            let nanos: String = f.chars().chain("000000000".chars()).take(9).collect();
            nanos.parse::<i32>().ok()?
        }
    };
    Time::new(hour as i8, minute as i8, second as i8, ms).ok()
}

/// Nothing (UTC), `Z`, or a sign with `HH`, `HHMM`, `HH:MM` or `HH:MM:SS`.
fn parse_offset(text: &str) -> Option<Offset> {
    if matches!(text, "" | "Z" | "z") {
        return Some(Offset::UTC);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let body = &text[1..];
    let compact: String = match body.len() {
        2 | 4 => body.to_owned(),
        5 | 8 if body.bytes().skip(2).step_by(3).all(|b| b == b':') => body.replace(':', ""),
        _ => return None,
    };
    let part = |at: usize| {
        if at < compact.len() {
            digits(compact.as_bytes().get(at..at + 2))
        } else {
            Some(0)
        }
    };
    let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
    if minutes > 59 || seconds > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60 + seconds) as i32).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_in_any_dress() {
        for (text, want) in [
            ("2026-01-05 10:00:00.123456+00", "2026-01-05T10:00:00.123Z"),
            ("2026-01-05 10:00:00", "2026-01-05T10:00:00.000Z"),
            ("2026-01-05T10:00Z", "2026-01-05T10:00:00.000Z"),
            ("2026-01-05", "2026-01-05T00:00:00.000Z"),
            ("2026-01-05T15:30:00+05:30", "2026-01-05T10:00:00.000Z"),
            ("2026-01-05T05:00:00.9999-0500", "2026-01-05T10:00:00.999Z"),
            ("1890-01-01 00:19:32+00:19:32", "1890-01-01T00:00:00.000Z"),
            ("1969-12-31 23:59:59.9999+00", "1969-12-31T23:59:59.999Z"),
            ("0001-01-01 00:00:00+00", "0001-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(instant(text).as_deref(), Ok(want), "{text}");
        }
        assert_eq!(
            hubspot_instant("1767607200123").as_deref(),
            Ok("2026-01-05T10:00:00.123Z")
        );
        assert_eq!(hubspot_instant("-1").as_deref(), Ok("1969-12-31T23:59:59.999Z"));
    }

    #[test]
    fn dates_and_midnights() {
        assert_eq!(date("2024-02-29").as_deref(), Ok("2024-02-29"));
        assert_eq!(hubspot_date("2026-02-28").as_deref(), Ok("2026-02-28"));
        assert_eq!(hubspot_date("1772236800000").as_deref(), Ok("2026-02-28"));
        assert_eq!(hubspot_date("-86400000").as_deref(), Ok("1969-12-31"));
        assert_eq!(hubspot_date("2026-02-28T00:00:00.000Z").as_deref(), Ok("2026-02-28"));
        assert_eq!(hubspot_date("1772236800001"), Err(Fault::NotMidnight));
        assert_eq!(hubspot_date("2026-02-28T00:00:00.0004Z"), Err(Fault::NotMidnight));
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "x",
            "2026-1-5",
            "2026-02-30",
            "2026-01-05 24:00:00",
            "2026-01-05 10",
            "2026-01-05 10:00:60",
            "2026-01-05T",
            "2026-01-05T10:00:00.Z",
            "2026-01-05T10:00:00+5",
            "2026-01-05T10:00:00+05:99",
            "2026-01-05T10:00:00Zx",
            "20260105T100000Z",
            "2026-01-05T10:00:00+é1",
            "２０26-01-05",
            "2026-01-05 10:00:00 UTC",
        ] {
            assert_eq!(instant(text), Err(Fault::Malformed), "{text}");
        }
        for text in [
            "infinity",
            "-infinity",
            "0044-03-15 00:00:00+00 BC",
            "10000-01-01 00:00:00+00",
            "0000-01-01",
            "0001-01-01 00:00:00+01",
        ] {
            assert_eq!(instant(text), Err(Fault::Range), "{text}");
        }
        assert_eq!(hubspot_instant("99999999999999999999"), Err(Fault::Range));
    }
}
