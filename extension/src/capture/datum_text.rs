//! A column's value as text, the same in every session.
//!
//! | type | text |
//! | --- | --- |
//! | boolean | `true`, `false` |
//! | integers, numeric | as PostgreSQL prints them (numerics that differ in trailing zeros count as equal) |
//! | real, double precision | the shortest decimal that reads back the same; `NaN`, `Infinity`, `-Infinity` |
//! | text and everything printed by its output function (varchar, char(n), citext, domains) | as it is |
//! | date | `YYYY-MM-DD` |
//! | timestamp, timestamptz | `YYYY-MM-DDTHH:MM:SS.ffffffZ`, in UTC |
//! | any other | its output function's text, under fixed DateStyle, IntervalStyle, TimeZone, bytea_output, lc_monetary |
//!
//! `infinity` and `-infinity` are the two infinite dates; a year before 1 or after 9999 has a sign.

use core::ffi::CStr;
use std::io::Write;

use pgrx::pg_sys;
use pgrx::varlena::{vardata_any, varsize_any_exhdr};

use super::number_text::{push_int, push_numeric};
use super::text::Text;
use super::tuple::{Layout, Stored};

/// Days from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
/// Microseconds in a day.
const DAY_US: i64 = 86_400_000_000;

/// How a type's values become text.
pub(super) enum TextForm {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    /// A char(n), whose padding is left out.
    Padded,
    Name,
    Uuid,
    Date,
    Timestamp,
    Output {
        /// Lives as long as the plan.
        function: *mut pg_sys::FmgrInfo,
        varlena: bool,
        /// The text depends on session settings.
        unstable: bool,
    },
}

impl TextForm {
    /// The form of a column's type; memory it keeps is allocated in `context`.
    ///
    /// # Safety
    /// Only inside a transaction.
    pub(super) unsafe fn of(type_oid: pg_sys::Oid, context: pg_sys::MemoryContext) -> Self {
        // SAFETY: catalogue look-ups.
        let base = unsafe { pg_sys::getBaseType(type_oid) };
        match base {
            pg_sys::BOOLOID => Self::Bool,
            pg_sys::INT2OID => Self::Int2,
            pg_sys::INT4OID => Self::Int4,
            pg_sys::INT8OID => Self::Int8,
            pg_sys::OIDOID => Self::Oid,
            pg_sys::FLOAT4OID => Self::Float4,
            pg_sys::FLOAT8OID => Self::Float8,
            pg_sys::NUMERICOID => Self::Numeric,
            pg_sys::NAMEOID => Self::Name,
            pg_sys::UUIDOID => Self::Uuid,
            pg_sys::DATEOID => Self::Date,
            pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => Self::Timestamp,
            _ => {
                let mut output = pg_sys::InvalidOid;
                let mut varlena = false;
                // SAFETY: catalogue look-ups; the function's memory is in `context`, which outlives the plan's use.
                unsafe {
                    pg_sys::getTypeOutputInfo(base, &mut output, &mut varlena);
                    match output.to_u32() {
                        pg_sys::F_TEXTOUT | pg_sys::F_VARCHAROUT => return Self::Text,
                        pg_sys::F_BPCHAROUT => return Self::Padded,
                        _ => {}
                    }
                    let old = pg_sys::MemoryContextSwitchTo(context);
                    let function = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast();
                    pg_sys::fmgr_info_cxt(output, function, context);
                    pg_sys::MemoryContextSwitchTo(old);
                    Self::Output {
                        function,
                        varlena,
                        unstable: !prints_the_same_everywhere(base, output),
                    }
                }
            }
        }
    }

    /// Two different texts that stand for the same value.
    pub(super) fn same_text(&self, a: &[u8], b: &[u8]) -> bool {
        a == b || (matches!(self, Self::Numeric) && without_trailing_zeros(a) == without_trailing_zeros(b))
    }

    /// Appends the text of `value`; false, and nothing appended, for NULL.
    ///
    /// # Safety
    /// The tuple behind `value` must still be there and `layout` must be the column's.
    pub(super) unsafe fn append(&self, value: Stored, layout: &Layout, out: &mut Text) -> bool {
        if value.is_null() {
            return false;
        }
        // SAFETY: the caller's promise; each type is read at its own fixed size.
        unsafe {
            match self {
                Self::Bool => out.extend_from_slice(if value.fixed::<1>()[0] != 0 { b"true" } else { b"false" }),
                Self::Int2 => push_int(out, i16::from_ne_bytes(value.fixed()).into()),
                Self::Int4 => push_int(out, i32::from_ne_bytes(value.fixed()).into()),
                Self::Int8 => push_int(out, i64::from_ne_bytes(value.fixed())),
                Self::Oid => push_int(out, u32::from_ne_bytes(value.fixed()).into()),
                Self::Float4 => {
                    let float = f32::from_ne_bytes(value.fixed());
                    push_float(out, f64::from(float), float);
                }
                Self::Float8 => {
                    let float = f64::from_ne_bytes(value.fixed());
                    push_float(out, float, float);
                }
                Self::Numeric if push_numeric(out, value) => {}
                Self::Numeric => {
                    let text = pgrx::direct_function_call_as_datum(pg_sys::numeric_out, &[Some(value.datum(layout))]);
                    if let Some(text) = text {
                        out.extend_from_slice(CStr::from_ptr(text.cast_mut_ptr()).to_bytes());
                    }
                }
                Self::Text => match value.plain_varlena() {
                    Some(text) => out.extend_from_slice(text),
                    None => push_varlena(out, value.datum(layout)),
                },
                Self::Padded => {
                    // The padding of a char(n) is no part of its value.
                    let begin = out.len();
                    push_varlena(out, value.datum(layout));
                    while out.len() > begin && out.last() == Some(&b' ') {
                        out.pop();
                    }
                }
                Self::Name => {
                    let name = value.fixed::<{ pg_sys::NAMEDATALEN as usize }>();
                    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
                    out.extend_from_slice(&name[..end]);
                }
                Self::Uuid => push_uuid(out, value.fixed()),
                Self::Date => push_date(out, i32::from_ne_bytes(value.fixed())),
                Self::Timestamp => push_timestamp(out, i64::from_ne_bytes(value.fixed())),
                Self::Output {
                    function,
                    varlena,
                    unstable,
                } => {
                    let mut datum = value.datum(layout);
                    if *varlena {
                        datum = pg_sys::Datum::from(pg_sys::pg_detoast_datum(datum.cast_mut_ptr()));
                    }
                    let settings = unstable.then(|| fix_settings());
                    let text = pg_sys::OutputFunctionCall(*function, datum);
                    if let Some(level) = settings {
                        pg_sys::AtEOXact_GUC(true, level);
                    }
                    out.extend_from_slice(CStr::from_ptr(text).to_bytes());
                }
            }
        }
        true
    }
}

/// Does the output function ignore every setting of the session?
///
/// # Safety
/// Only inside a transaction.
unsafe fn prints_the_same_everywhere(base: pg_sys::Oid, output: pg_sys::Oid) -> bool {
    if output.to_u32() == pg_sys::F_ENUM_OUT {
        return true;
    }
    match base {
        pg_sys::BOOLOID
        | pg_sys::INT2OID
        | pg_sys::INT4OID
        | pg_sys::INT8OID
        | pg_sys::OIDOID
        | pg_sys::NUMERICOID
        | pg_sys::TEXTOID
        | pg_sys::VARCHAROID
        | pg_sys::BPCHAROID
        | pg_sys::CHAROID
        | pg_sys::NAMEOID
        | pg_sys::UUIDOID
        | pg_sys::TIMEOID
        | pg_sys::TIMETZOID
        | pg_sys::INETOID
        | pg_sys::CIDROID
        | pg_sys::JSONOID
        | pg_sys::JSONBOID => true,
        _ => {
            // SAFETY: catalogue look-ups.
            unsafe {
                let element = pg_sys::get_element_type(base);
                if element == pg_sys::InvalidOid {
                    return false;
                }
                let element = pg_sys::getBaseType(element);
                let mut output = pg_sys::InvalidOid;
                let mut varlena = false;
                pg_sys::getTypeOutputInfo(element, &mut output, &mut varlena);
                prints_the_same_everywhere(element, output)
            }
        }
    }
}

/// Sets what output functions look at; the answer is the level to restore with `AtEOXact_GUC`. An error between the two
/// restores them as well, at the end of the (sub)transaction.
///
/// # Safety
/// Only inside a transaction.
unsafe fn fix_settings() -> i32 {
    const SETTINGS: [(&CStr, &CStr); 6] = [
        (c"datestyle", c"ISO"),
        (c"intervalstyle", c"postgres"),
        (c"timezone", c"UTC"),
        (c"extra_float_digits", c"1"),
        (c"bytea_output", c"hex"),
        (c"lc_monetary", c"C"),
    ];
    // SAFETY: names and values are NUL-terminated and valid for these settings; saving undoes them at the level's end.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in SETTINGS {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        level
    }
}

/// Appends the bytes of a text-like value, detoasted where it has to be.
///
/// # Safety
/// `datum` must be a varlena with text in it.
pub(super) unsafe fn push_varlena(out: &mut Text, datum: pg_sys::Datum) {
    // SAFETY: detoasting gives a plain varlena, in memory of the trigger call.
    unsafe {
        let text = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        let bytes = core::slice::from_raw_parts(vardata_any(text).cast::<u8>(), varsize_any_exhdr(text));
        out.extend_from_slice(bytes);
    }
}

fn push_display(out: &mut Text, value: impl core::fmt::Display) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{value}");
}

fn push_float(out: &mut Text, float: f64, shortest: impl core::fmt::Display) {
    if float.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if float.is_infinite() {
        out.extend_from_slice(if float > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else if float == 0.0 {
        // Zero and minus zero are equal.
        out.push(b'0');
    } else {
        push_display(out, shortest);
    }
}

fn push_uuid(out: &mut Text, uuid: [u8; 16]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (at, byte) in uuid.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

fn push_date(out: &mut Text, days: i32) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        days => push_day(out, i64::from(days)),
    }
}

fn push_timestamp(out: &mut Text, microseconds: i64) {
    match microseconds {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        microseconds => {
            push_day(out, microseconds.div_euclid(DAY_US));
            let in_day = microseconds.rem_euclid(DAY_US);
            let (seconds, fraction) = (in_day / 1_000_000, in_day % 1_000_000);
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let _ = write!(out, "T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z");
        }
    }
}

/// Appends a day counted from 2000-01-01 in the proleptic Gregorian calendar.
fn push_day(out: &mut Text, days: i64) {
    // Years begin in March here, so that the leap day is the last of its year.
    let shifted = days + EPOCH_DAYS + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let _ = if (1..=9999).contains(&year) {
        write!(out, "{year:04}-{month:02}-{day:02}")
    } else {
        write!(out, "{year:+05}-{month:02}-{day:02}")
    };
}

/// A decimal without the zeros that only its scale explains.
fn without_trailing_zeros(text: &[u8]) -> &[u8] {
    if !text.contains(&b'.') {
        return text;
    }
    let end = text.iter().rposition(|&byte| byte != b'0').map_or(0, |at| at + 1);
    text[..end].strip_suffix(b".").unwrap_or(&text[..end])
}
