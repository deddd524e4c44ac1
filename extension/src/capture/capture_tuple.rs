//! A row of `hubspot.capture` as a heap tuple, put together in a buffer that is used again: what `heap_form_tuple` would
//! make of the same values, without allocating and without going over nine columns twice.

use core::mem::offset_of;

use pgrx::pg_sys;
use pgrx::varlena::{set_varsize_1b, set_varsize_4b};

use super::insert::{Row, WIDTH};

/// `HEAP_HASNULL`, `HEAP_HASVARWIDTH`.
const HAS_NULL: u16 = 0x0001;
const HAS_VARIABLE: u16 = 0x0002;
/// Where the data begin: the header with a bitmap of nine bits, aligned.
const DATA: usize = (offset_of!(pg_sys::HeapTupleHeaderData, t_bits) + WIDTH.div_ceil(8)).next_multiple_of(8);
/// Largest varlena with a one-byte header, that included.
const SHORT_MAX: usize = 0x7F;

/// Columns of a fixed size, before the texts.
pub(super) struct Stamp {
    pub(super) position: u64,
    pub(super) captured_at: i64,
    pub(super) mapping_id: i32,
    pub(super) db_user: u32,
    pub(super) op: u8,
}

/// Words that the tuple of `row` takes at most.
pub(super) fn most_words(row: &Row, application: &[u8]) -> usize {
    let texts = [row.entity_key, row.old_key, row.changes, Some(application)];
    // A header and its alignment take seven bytes at most.
    let most = DATA + size_of::<[u64; 4]>() + texts.iter().flatten().map(|text| text.len() + 7).sum::<usize>();
    most.div_ceil(8)
}

/// The tuple laid out in `words`, which must be [`most_words`] zeroes: how many bytes it takes. Words, so that it is aligned.
///
/// Everything but the [`Stamp`] is written. `application` is NULL when it is empty.
pub(super) fn lay_out(words: &mut [u64], row: &Row, application: &[u8]) -> usize {
    assert!(words.len() >= most_words(row, application), "room for the tuple");
    let application = Some(application).filter(|name| !name.is_empty());
    let texts = [row.entity_key, row.old_key, row.changes, application];
    let mut nulls = 0u16;
    let mut at = DATA + STAMP;
    let start = words.as_mut_ptr().cast::<u8>();
    for (number, text) in texts.into_iter().enumerate() {
        let Some(text) = text else {
            nulls |= 1 << (WIDTH - 4 + number);
            continue;
        };
        // SAFETY: the buffer is large enough for all headers and texts (`most_words`).
        unsafe {
            let short = text.len() + 1;
            if short <= SHORT_MAX {
                set_varsize_1b(start.add(at).cast(), short as i32);
                at += 1;
            } else {
                at = at.next_multiple_of(4);
                set_varsize_4b(start.add(at).cast(), (text.len() + 4) as i32);
                at += 4;
            }
            core::ptr::copy_nonoverlapping(text.as_ptr(), start.add(at), text.len());
        }
        at += text.len();
    }
    // SAFETY: the header lies at the start, which is aligned and zeroed; the bitmap has a set bit for each column that is
    // not NULL.
    unsafe {
        let header = start.cast::<pg_sys::HeapTupleHeaderData>();
        (*header).t_infomask = HAS_VARIABLE | if nulls == 0 { 0 } else { HAS_NULL };
        (*header).t_infomask2 = WIDTH as u16;
        (*header).t_hoff = DATA as u8;
        let present = (!nulls & ((1 << WIDTH) - 1)).to_le_bytes();
        core::ptr::copy_nonoverlapping(
            present.as_ptr(),
            (&raw mut (*header).t_bits).cast::<u8>(),
            present.len(),
        );
    }
    at
}

/// Writes the columns of a fixed size.
///
/// # Safety
/// `tuple` must have been laid out by [`lay_out`].
pub(super) unsafe fn stamp(tuple: *mut u64, stamp: &Stamp) {
    // SAFETY: there is room for them.
    unsafe {
        let data = tuple.cast::<u8>().add(DATA);
        data.cast::<u64>().write(stamp.position);
        data.add(8).cast::<i64>().write(stamp.captured_at);
        data.add(16).cast::<i32>().write(stamp.mapping_id);
        data.add(20).cast::<u32>().write(stamp.db_user);
        data.add(24).write(stamp.op);
    }
}

/// Writes the position alone.
///
/// # Safety
/// As for [`stamp`].
pub(super) unsafe fn set_position(tuple: *mut u64, position: u64) {
    // SAFETY: the caller's promise.
    unsafe { tuple.cast::<u8>().add(DATA).cast::<u64>().write(position) }
}

/// What PostgreSQL calls a tuple: a length and where it is.
pub(super) fn head(tuple: *mut u64, bytes: usize) -> pg_sys::HeapTupleData {
    pg_sys::HeapTupleData {
        t_len: bytes as u32,
        t_self: pg_sys::ItemPointerData::default(),
        t_tableOid: pg_sys::InvalidOid,
        t_data: tuple.cast(),
    }
}

/// Bytes of the columns of a fixed size.
const STAMP: usize = 25;
