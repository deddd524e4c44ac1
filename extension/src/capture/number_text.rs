//! Integers and numerics as text without PostgreSQL's output functions, which allocate and are guarded one by one.

use super::text::Text;
use super::tuple::Stored;

/// Appends an integer.
pub(super) fn push_int(out: &mut Text, value: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// `NUMERIC_SIGN_MASK`, and what it says in the header of a short numeric.
const KIND: u16 = 0xC000;
const SHORT: u16 = 0x8000;
const SHORT_NEGATIVE: u16 = 0x2000;
const SHORT_SCALE: u16 = 0x1F80;
const SHORT_SCALE_SHIFT: u16 = 7;
const SHORT_WEIGHT_NEGATIVE: u16 = 0x0040;
const SHORT_WEIGHT: u16 = 0x003F;
/// Decimal digits of one stored digit.
const GROUP: usize = 4;

/// Appends a numeric as `numeric_out` prints it; false, and nothing appended, for one that is stored in another form than
/// the usual short one (a very large or precise one, `NaN`, an infinity, a compressed one).
///
/// # Safety
/// The tuple behind `value` must still be there; it must be a numeric.
pub(super) unsafe fn push_numeric(out: &mut Text, value: Stored) -> bool {
    // SAFETY: the caller's promise.
    let Some(payload) = (unsafe { value.plain_varlena() }) else {
        return false;
    };
    let word = |at: usize| {
        payload
            .get(at * 2..at * 2 + 2)
            .map(|w| u16::from_ne_bytes([w[0], w[1]]))
    };
    let Some(header) = word(0).filter(|header| header & KIND == SHORT) else {
        return false;
    };
    let scale = usize::from((header & SHORT_SCALE) >> SHORT_SCALE_SHIFT);
    let weight = i32::from(header & SHORT_WEIGHT) - i32::from(header & SHORT_WEIGHT_NEGATIVE);
    // The digit group at a power of 10,000; groups of zeros at either end are not stored.
    let group = |power: i32| {
        let at = usize::try_from(weight - power).ok();
        at.and_then(|at| word(at + 1)).unwrap_or(0)
    };
    if header & SHORT_NEGATIVE != 0 {
        out.push(b'-');
    }
    push_int(out, i64::from(group(weight.max(0))));
    for power in (0..weight.max(0)).rev() {
        out.extend_from_slice(&four(group(power)));
    }
    if scale > 0 {
        out.push(b'.');
        let (mut left, mut power) = (scale, -1);
        while left > 0 {
            let take = left.min(GROUP);
            out.extend_from_slice(&four(group(power))[..take]);
            left -= take;
            power -= 1;
        }
    }
    true
}

/// A stored digit as four decimal ones.
fn four(group: u16) -> [u8; GROUP] {
    let digit = |divisor: u16| b'0' + (group / divisor % 10) as u8;
    [digit(1000), digit(100), digit(10), digit(1)]
}
