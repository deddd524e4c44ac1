//! Properties of canonical values: one value has one form however it was printed, and the form survives both round trips.

use hubspot_sync_core::value::{Value, ValueKind, from_hubspot, from_warp, to_hubspot, to_warp};
use jiff::{Timestamp, tz::Offset};
use proptest::prelude::*;

const KINDS: [ValueKind; 6] = [
    ValueKind::Text,
    ValueKind::Number,
    ValueKind::Boolean,
    ValueKind::Date,
    ValueKind::Timestamp,
    ValueKind::MultiSelect,
];

/// A canonical decimal: sign, whole part without leading zeros, fraction without trailing zeros.
fn decimal() -> impl Strategy<Value = (bool, String, String)> {
    (
        any::<bool>(),
        prop_oneof![Just("0".to_owned()), "[1-9][0-9]{0,30}"],
        prop_oneof![Just(String::new()), "[0-9]{0,30}[1-9]"],
    )
}

fn print_decimal(negative: bool, whole: &str, fraction: &str) -> String {
    let point = if fraction.is_empty() { "" } else { "." };
    let sign = if negative && (whole != "0" || !fraction.is_empty()) {
        "-"
    } else {
        ""
    };
    format!("{sign}{whole}{point}{fraction}")
}

/// The same decimal with the point moved `by` places right and an exponent that moves it back.
fn scientific(whole: &str, fraction: &str, by: i32) -> String {
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i32 + by;
    let (digits, point) = if point < 0 {
        (format!("{}{digits}", "0".repeat(point.unsigned_abs() as usize)), 0)
    } else {
        (
            format!("{digits}{}", "0".repeat((point as usize).saturating_sub(digits.len()))),
            point as usize,
        )
    };
    let (left, right) = digits.split_at(point);
    format!("{left}.{right}e{}", -by)
}

/// Milliseconds since the epoch, from year 2 to year 9998, so that every offset stays in range.
fn instant_ms() -> impl Strategy<Value = i64> {
    -62_100_000_000_000i64..253_370_000_000_000i64
}

fn print_instant(ms: i64, offset_seconds: i32, separator: char, micros: u16, form: u8) -> String {
    let offset = Offset::from_seconds(offset_seconds).unwrap();
    let local = offset.to_datetime(Timestamp::from_millisecond(ms).unwrap());
    let sign = if offset_seconds < 0 { '-' } else { '+' };
    let total = offset_seconds.abs();
    let (h, m, s) = (total / 3600, total / 60 % 60, total % 60);
    let zone = match form % 4 {
        0 if total % 3600 == 0 => format!("{sign}{h:02}"),
        1 if s == 0 => format!("{sign}{h:02}{m:02}"),
        2 if s == 0 => format!("{sign}{h:02}:{m:02}"),
        _ => format!("{sign}{h:02}:{m:02}:{s:02}"),
    };
    let micros = i64::from(micros % 1000);
    let fraction = ms.rem_euclid(1000) * 1000 + micros;
    let date = local.date();
    format!(
        "{date}{separator}{:02}:{:02}:{:02}.{fraction:06}{zone}",
        local.hour(),
        local.minute(),
        local.second()
    )
}

fn options() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(
        prop_oneof!["[a-d]", "[ a-c\"\\\\{},]{1,4}", "(?i)null", "[^;\\x00]{1,3}"],
        1..6,
    )
}

fn array_literal(options: &[String]) -> String {
    let quoted: Vec<String> = options
        .iter()
        .map(|o| format!("\"{}\"", o.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{},NULL}}", quoted.join(","))
}

#[track_caller]
fn assert_stable(kind: ValueKind, value: &Value) {
    let wire = to_hubspot(kind, value).unwrap();
    assert_eq!(from_hubspot(kind, Some(&wire)).as_ref(), Ok(value), "through HubSpot");
    let stored = to_warp(kind, value);
    assert_eq!(
        from_warp(kind, stored.as_deref()).as_ref(),
        Ok(value),
        "through the row"
    );
}

proptest! {
    #[test]
    fn numbers_have_one_form(
        (negative, whole, fraction) in decimal(),
        leading in 0usize..3, trailing in 0usize..4, plus in any::<bool>(), by in -40i32..40,
    ) {
        let canonical = print_decimal(negative, &whole, &fraction);
        let want = Value::text(canonical.clone());
        let sign = if negative { "-" } else if plus { "+" } else { "" };
        let padded = format!("{sign}{}{whole}.{fraction}{}", "0".repeat(leading), "0".repeat(trailing));
        for text in [canonical, padded, format!("{sign}{}", scientific(&whole, &fraction, by))] {
            prop_assert_eq!(from_warp(ValueKind::Number, Some(&text)), Ok(want.clone()), "{}", text);
            prop_assert_eq!(from_hubspot(ValueKind::Number, Some(&text)), Ok(want.clone()), "{}", text);
        }
        assert_stable(ValueKind::Number, &want);
    }

    #[test]
    fn floats_as_printed_are_exact(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
        let plain = from_warp(ValueKind::Number, Some(&format!("{number}"))).unwrap();
        let exponent = from_warp(ValueKind::Number, Some(&format!("{number:e}"))).unwrap();
        prop_assert_eq!(&plain, &exponent);
        prop_assert_eq!(plain.as_deref().unwrap().parse::<f64>().unwrap(), number);
    }

    #[test]
    fn instants_have_one_form(
        ms in instant_ms(), offset in -57_600i32..57_600, whole_minutes in any::<bool>(),
        separator in prop_oneof![Just(' '), Just('T')], micros in any::<u16>(), form in any::<u8>(),
    ) {
        let offset = if whole_minutes { offset / 1800 * 1800 } else { offset };
        let kind = ValueKind::Timestamp;
        let want = from_hubspot(kind, Some(&ms.to_string())).unwrap();
        let text = print_instant(ms, offset, separator, micros, form);
        prop_assert_eq!(from_warp(kind, Some(&text)), Ok(want.clone()), "{}", text);
        prop_assert_eq!(from_hubspot(kind, Some(&text)), Ok(want.clone()), "{}", text);
        prop_assert_eq!(want.as_deref().unwrap().parse::<Timestamp>().unwrap().as_millisecond(), ms);
        assert_stable(kind, &want);
    }

    #[test]
    fn dates_have_one_form(day in -700_000i64..2_900_000) {
        let ms = day * 86_400_000;
        let want = from_hubspot(ValueKind::Date, Some(&ms.to_string())).unwrap();
        let text = want.as_deref().unwrap().to_owned();
        prop_assert_eq!(from_warp(ValueKind::Date, Some(&text)), Ok(want.clone()));
        prop_assert_eq!(from_hubspot(ValueKind::Date, Some(&format!("{text}T00:00:00.000Z"))), Ok(want.clone()));
        prop_assert!(from_hubspot(ValueKind::Date, Some(&(ms + 1).to_string())).is_err());
        assert_stable(ValueKind::Date, &want);
    }

    #[test]
    fn multi_selects_are_sets(options in options(), seed in any::<u64>()) {
        let kind = ValueKind::MultiSelect;
        let mut mixed = options.clone();
        mixed.extend(options.iter().filter(|o| o.len() % 2 == 0).cloned());
        let turn = (seed as usize) % mixed.len();
        mixed.rotate_left(turn);
        let want = from_hubspot(kind, Some(&options.join(";"))).unwrap();
        prop_assert_eq!(from_hubspot(kind, Some(&format!(";{};", mixed.join(";")))), Ok(want.clone()));
        prop_assert_eq!(from_warp(kind, Some(&array_literal(&mixed))), Ok(want.clone()));
        prop_assert!(!to_hubspot(kind, &want).unwrap().starts_with(';'));
        assert_stable(kind, &want);
    }

    #[test]
    fn text_is_left_alone(text in "[^\\x00]{0,20}") {
        let value = from_warp(ValueKind::Text, Some(&text)).unwrap();
        prop_assert_eq!(&value, &from_hubspot(ValueKind::Text, Some(&text)).unwrap());
        prop_assert_eq!(value.as_deref().unwrap_or(""), text);
        assert_stable(ValueKind::Text, &value);
    }

    #[test]
    fn anything_else_is_an_error_and_never_a_panic(
        text in prop_oneof!["\\PC{0,24}", "[0-9TZe.:+ -]{0,24}", "[{},\"\\\\a;]{0,12}", any::<String>()],
    ) {
        for kind in KINDS {
            for value in [from_warp(kind, Some(&text)), from_hubspot(kind, Some(&text))].into_iter().flatten() {
                assert_stable(kind, &value);
            }
            let _ = to_hubspot(kind, &Value::text(text.clone()));
            let _ = to_warp(kind, &Value::text(text.clone()));
        }
    }
}

#[test]
fn booleans_and_no_value_have_one_form() {
    for (value, texts) in [("true", ["t", "true", "TRUE"]), ("false", ["f", "false", "False"])] {
        for text in texts {
            assert_eq!(from_warp(ValueKind::Boolean, Some(text)), Ok(Value::text(value)));
        }
        assert_eq!(from_hubspot(ValueKind::Boolean, Some(value)), Ok(Value::text(value)));
        assert_stable(ValueKind::Boolean, &Value::text(value));
    }
    for kind in KINDS {
        assert_eq!(from_warp(kind, None), from_hubspot(kind, Some("")));
        assert_stable(kind, &Value::NULL);
    }
}
