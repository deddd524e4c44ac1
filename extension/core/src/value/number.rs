//! Decimal numbers as text: exact, never through floating point.

/// The largest exponent, in either direction, that is written out in digits. A guess: far beyond money and counts, and
/// small enough that a hostile `1e999999999` costs nothing.
pub(crate) const MAX_EXPONENT: i64 = 1000;

/// Why a text is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not `[+-]digits[.digits][e[+-]digits]`. NaN and the infinities are here too.
    Malformed,
    /// The exponent is larger than [`MAX_EXPONENT`].
    Exponent,
}

/// The canonical plain decimal of `text` times ten to the power of `shift`.
///
/// No exponent, no plus, no leading or trailing zeros, and zero is `0`.
pub(crate) fn canonical(text: &str, shift: i32) -> Result<String, Fault> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], parse_exponent(&rest[at + 1..])?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return Err(Fault::Malformed);
    }
    let digits = format!("{whole}{fraction}");
    Ok(place_point(
        negative,
        &digits,
        whole.len() as i64 + exponent + i64::from(shift),
    ))
}

fn parse_exponent(text: &str) -> Result<i64, Fault> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::Malformed);
    }
    match text.parse::<i64>() {
        Ok(exponent) if (-MAX_EXPONENT..=MAX_EXPONENT).contains(&exponent) => Ok(exponent),
        _ => Err(Fault::Exponent),
    }
}

/// Writes `0.DIGITS` times ten to the power of `point`.
fn place_point(negative: bool, digits: &str, point: i64) -> String {
    let significant = digits.trim_start_matches('0');
    let point = point - (digits.len() - significant.len()) as i64;
    let significant = significant.trim_end_matches('0');
    if significant.is_empty() {
        return "0".to_owned();
    }
    let mut out = String::with_capacity(significant.len() + 3 + point.unsigned_abs() as usize);
    if negative {
        out.push('-');
    }
    let length = significant.len() as i64;
    if point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        out.push_str(significant);
    } else if point >= length {
        out.push_str(significant);
        out.extend(std::iter::repeat_n('0', (point - length) as usize));
    } else {
        let (whole, fraction) = significant.split_at(point as usize);
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_per_number() {
        for (text, want) in [
            ("100", "100"),
            ("100.00", "100"),
            ("+0100.0", "100"),
            ("1e2", "100"),
            ("1.0E+2", "100"),
            ("10000e-2", "100"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-0", "0"),
            ("-0.00e7", "0"),
            ("-0.0010", "-0.001"),
            ("1.5e-3", "0.0015"),
            ("9007199254740993", "9007199254740993"),
            (
                "123456789012345678901234567890.123456789",
                "123456789012345678901234567890.123456789",
            ),
        ] {
            assert_eq!(canonical(text, 0).as_deref(), Ok(want), "{text}");
        }
        assert_eq!(canonical("1e1000", 0).map(|s| s.len()), Ok(1001));
    }

    #[test]
    fn shifts_are_exact() {
        assert_eq!(canonical("10050", -2).as_deref(), Ok("100.5"));
        assert_eq!(canonical("5", -2).as_deref(), Ok("0.05"));
        assert_eq!(canonical("0.05", 2).as_deref(), Ok("5"));
        assert_eq!(canonical("-1.005", 2).as_deref(), Ok("-100.5"));
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "+",
            "-",
            ".",
            "e5",
            "1e",
            "1e+",
            "NaN",
            "Infinity",
            "-Infinity",
            "1,000",
            "1 000",
            "0x10",
            "--1",
            "1.2.3",
            "١",
        ] {
            assert_eq!(canonical(text, 0), Err(Fault::Malformed), "{text}");
        }
        for text in ["1e1001", "1e-1001", "1e99999999999999999999"] {
            assert_eq!(canonical(text, 0), Err(Fault::Exponent), "{text}");
        }
    }
}
