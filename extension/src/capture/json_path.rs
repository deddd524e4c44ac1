//! The text at a path of a jsonb, read where it is stored: as `jsonb_extract_path_text` gives it, without detoasting a short
//! value, without allocating and without a call of PostgreSQL.
//!
//! A jsonb is a tree of containers (`utils/jsonb.h`). An object has a word with its number of keys, then an entry for each key
//! and one for each value, then their bytes in the same order; keys are sorted by length, then by bytes. An entry holds the
//! length of its bytes, every 32nd their end instead. Numbers and containers among them begin at a multiple of four.
//!
//! Only objects on the way and a string, a boolean, a usual number or `null` at the end are read here: all else, and whatever
//! does not look as it should, is left to PostgreSQL.

use pgrx::pg_sys;

use super::number_text::push_numeric;
use super::text::Text;
use super::tuple::Stored;

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A text, which was appended.
    Text,
    /// Nothing, or `null`.
    Nothing,
    /// Something that PostgreSQL has to be asked about; nothing was appended.
    Other,
}

/// Bytes of a word of a container.
const WORD: usize = size_of::<u32>();

/// Appends the text at `path` in `jsonb`, a jsonb's bytes without the varlena's header.
///
/// # Safety
/// `jsonb` must be the contents of a valid jsonb.
pub(super) unsafe fn text(jsonb: &[u8], path: &[Vec<u8>], out: &mut Text) -> Found {
    let mut container = jsonb;
    for (depth, key) in path.iter().enumerate() {
        let (kind, value) = match Object::of(container).map(|object| object.get(key)) {
            Some(Some(Some(found))) => found,
            Some(Some(None)) => return Found::Nothing,
            _ => return Found::Other,
        };
        if depth + 1 < path.len() {
            if kind != pg_sys::JENTRY_ISCONTAINER {
                return Found::Other;
            }
            container = value;
            continue;
        }
        match kind {
            pg_sys::JENTRY_ISSTRING => out.extend_from_slice(value),
            pg_sys::JENTRY_ISBOOL_TRUE => out.extend_from_slice(b"true"),
            pg_sys::JENTRY_ISBOOL_FALSE => out.extend_from_slice(b"false"),
            pg_sys::JENTRY_ISNULL => return Found::Nothing,
            // SAFETY: a number's bytes are a numeric; the caller's promise.
            pg_sys::JENTRY_ISNUMERIC if unsafe { push_numeric(out, Stored::new(value.as_ptr(), value.len())) } => {}
            _ => return Found::Other,
        }
        return Found::Text;
    }
    Found::Other
}

/// A container that is an object.
struct Object<'a> {
    bytes: &'a [u8],
    count: usize,
    /// Where the bytes of keys and values begin.
    data: usize,
}

impl<'a> Object<'a> {
    /// None: something else.
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let header = word(bytes, 0)?;
        if header & pg_sys::JB_FOBJECT == 0 {
            return None;
        }
        let count = usize::try_from(header & pg_sys::JB_CMASK).ok()?;
        let data = count.checked_mul(2)?.checked_add(1)?.checked_mul(WORD)?;
        (data <= bytes.len()).then_some(Self { bytes, count, data })
    }

    fn entry(&self, at: usize) -> Option<u32> {
        word(self.bytes, at + 1)
    }

    /// Where the bytes of an entry begin and end, counted from `data`.
    fn extent(&self, at: usize) -> Option<(usize, usize)> {
        let mut begin = 0;
        for before in (0..at).rev() {
            let entry = self.entry(before)?;
            begin += (entry & pg_sys::JENTRY_OFFLENMASK) as usize;
            if entry & pg_sys::JENTRY_HAS_OFF != 0 {
                break;
            }
        }
        let entry = self.entry(at)?;
        let size = (entry & pg_sys::JENTRY_OFFLENMASK) as usize;
        let end = if entry & pg_sys::JENTRY_HAS_OFF != 0 {
            size
        } else {
            begin + size
        };
        (begin <= end).then_some((begin, end))
    }

    fn bytes(&self, begin: usize, end: usize) -> Option<&'a [u8]> {
        self.bytes.get(self.data + begin..self.data + end)
    }

    /// The value of a key, with its kind. The outer `None`: not as expected.
    fn get(&self, key: &[u8]) -> Option<Option<(u32, &'a [u8])>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let (begin, end) = self.extent(middle)?;
            let candidate = self.bytes(begin, end)?;
            match candidate.len().cmp(&key.len()).then_with(|| candidate.cmp(key)) {
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
                core::cmp::Ordering::Equal => return self.value(middle + self.count).map(Some),
            }
        }
        Some(None)
    }

    fn value(&self, at: usize) -> Option<(u32, &'a [u8])> {
        let (begin, end) = self.extent(at)?;
        let kind = self.entry(at)? & pg_sys::JENTRY_TYPEMASK;
        let begin = match kind {
            pg_sys::JENTRY_ISNUMERIC | pg_sys::JENTRY_ISCONTAINER => begin.next_multiple_of(WORD),
            _ => begin,
        };
        Some((kind, self.bytes(begin, end)?))
    }
}

/// A word of a container, which need not be aligned.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at * WORD..at * WORD + WORD)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}
