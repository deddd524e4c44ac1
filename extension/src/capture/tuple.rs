//! Reading columns of a heap tuple as they are stored, without the executor.
//!
//! An UPDATE that changes no mapped column must cost next to nothing: both row versions are walked once, up to the last
//! mapped column, and stored bytes are compared; nothing is detoasted, converted or allocated.

use pgrx::pg_sys;
use pgrx::varlena::{varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, varsize_1b, varsize_4b, varsize_any};

use super::text::Columns;

/// `HEAP_HASNULL`: the tuple has a null bitmap.
const HAS_NULL: u16 = 0x0001;
/// `HEAP_NATTS_MASK`: the bits of `t_infomask2` that count the stored columns.
const NATTS_MASK: u16 = 0x07FF;

/// How one column is laid out in a tuple. Small: those of a usual table share a cache line.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Stored length; -1 a varlena, -2 a C string.
    pub(super) len: i16,
    /// Alignment in bytes.
    pub(super) align: u8,
    /// Passed by value in a `Datum`.
    pub(super) by_value: bool,
}

impl Layout {
    /// The next offset where a value may begin.
    #[inline]
    fn aligned(&self, offset: usize) -> usize {
        let align = usize::from(self.align);
        (offset + align - 1) & !(align - 1)
    }
}

/// One column's stored bytes: a view into a tuple, or NULL.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    data: *const u8,
    len: usize,
}

impl Stored {
    /// SQL NULL.
    pub(super) const NULL: Stored = Stored {
        data: core::ptr::null(),
        len: 0,
    };

    /// A view of `len` bytes at `data`, which must outlive every use of it.
    pub(super) fn new(data: *const u8, len: usize) -> Self {
        Self { data, len }
    }

    /// SQL NULL?
    pub(super) fn is_null(self) -> bool {
        self.data.is_null()
    }

    /// The bytes, empty for NULL.
    ///
    /// # Safety
    /// The tuple this was read from must still be there.
    #[inline]
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.is_null() {
            return &[];
        }
        // SAFETY: `data` and `len` were taken from a live tuple (the caller's promise).
        unsafe { core::slice::from_raw_parts(self.data, self.len) }
    }

    /// Same stored form: then the values are the same as well (the reverse does not hold).
    ///
    /// # Safety
    /// Both tuples must still be there.
    #[inline]
    pub(super) unsafe fn same(self, other: Stored) -> bool {
        // SAFETY: the caller's promise.
        self.len == other.len && self.is_null() == other.is_null() && unsafe { self.bytes() == other.bytes() }
    }

    /// The value as a `Datum`; only for one that is not NULL.
    ///
    /// # Safety
    /// The tuple must still be there and `layout` must be the column's.
    pub(super) unsafe fn datum(self, layout: &Layout) -> pg_sys::Datum {
        if !layout.by_value {
            return pg_sys::Datum::from(self.data.cast_mut());
        }
        // SAFETY: a by-value column stores exactly `len` bytes, which the tuple walk has checked against the layout.
        unsafe {
            match layout.len {
                1 => pg_sys::Datum::from(self.data.cast::<i8>().read_unaligned()),
                2 => pg_sys::Datum::from(self.data.cast::<i16>().read_unaligned()),
                4 => pg_sys::Datum::from(self.data.cast::<i32>().read_unaligned()),
                _ => pg_sys::Datum::from(self.data.cast::<i64>().read_unaligned()),
            }
        }
    }

    /// What a varlena holds, unless it is compressed or stored elsewhere.
    ///
    /// # Safety
    /// The tuple must still be there and the column be a varlena.
    #[inline]
    pub(super) unsafe fn plain_varlena<'a>(self) -> Option<&'a [u8]> {
        let data = self.data.cast();
        // SAFETY: the caller's promise.
        unsafe {
            let header = if varatt_is_1b(data) && !varatt_is_1b_e(data) {
                1
            } else if varatt_is_4b_u(data) {
                size_of::<i32>()
            } else {
                return None;
            };
            self.bytes().get(header..)
        }
    }

    /// The first `N` bytes, zeroes where the value is shorter: how fixed-size columns are read.
    ///
    /// # Safety
    /// The tuple must still be there.
    pub(super) unsafe fn fixed<const N: usize>(self) -> [u8; N] {
        let mut fixed = [0; N];
        // SAFETY: the caller's promise.
        let bytes = unsafe { self.bytes() };
        let len = bytes.len().min(N);
        fixed[..len].copy_from_slice(&bytes[..len]);
        fixed
    }
}

/// Reads the columns that `layouts` describes (the tuple's first ones, in order) into `columns`. `missing` are the values of
/// tuples older than a column.
///
/// # Safety
/// `tuple` must be a valid heap tuple of the relation that `layouts` was made from.
pub(super) unsafe fn read(tuple: pg_sys::HeapTuple, layouts: &[Layout], missing: &[Stored], columns: &mut Columns) {
    columns.clear();
    columns.reserve(layouts.len());
    // SAFETY: the walk is `heap_deform_tuple`'s: header, null bitmap and column lengths of a valid tuple keep every
    // offset inside it.
    unsafe {
        let header = (*tuple).t_data;
        let base = header.cast::<u8>().add(usize::from((*header).t_hoff));
        let stored = usize::from((*header).t_infomask2 & NATTS_MASK);
        let has_null = (*header).t_infomask & HAS_NULL != 0;
        let bitmap = (&raw const (*header).t_bits).cast::<u8>();
        let mut offset = 0usize;
        // Room was reserved for all of them: written without looking at the capacity each time.
        let mut out = columns.as_mut_ptr();
        let there = &layouts[..stored.min(layouts.len())];
        for (at, layout) in there.iter().enumerate() {
            if has_null && *bitmap.add(at >> 3) & (1 << (at & 7)) == 0 {
                out.write(Stored::NULL);
                out = out.add(1);
                continue;
            }
            // A varlena with a one-byte header is not aligned, and padding is always zero.
            if layout.len > 0 {
                offset = layout.aligned(offset);
                let len = layout.len as usize;
                out.write(Stored {
                    data: base.add(offset),
                    len,
                });
                out = out.add(1);
                offset += len;
                continue;
            }
            if layout.len != -1 || *base.add(offset) == 0 {
                offset = layout.aligned(offset);
            }
            let data = base.add(offset);
            let len = stored_len(data, layout.len);
            out.write(Stored { data, len });
            out = out.add(1);
            offset += len;
        }
        columns.set_len(there.len());
        if there.len() < layouts.len() {
            columns.extend(missing[there.len()..].iter().copied());
        }
    }
}

/// Bytes that a value of a column with `typlen` takes at `data`.
///
/// # Safety
/// `data` must point at a value of such a type.
#[inline]
pub(super) unsafe fn stored_len(data: *const u8, typlen: i16) -> usize {
    match typlen {
        // SAFETY: the caller's promise. The two usual forms first.
        -1 => unsafe {
            let data = data.cast();
            if varatt_is_4b_u(data) {
                varsize_4b(data)
            } else if varatt_is_1b(data) && !varatt_is_1b_e(data) {
                varsize_1b(data)
            } else {
                varsize_any(data)
            }
        },
        // SAFETY: the caller's promise.
        -2 => unsafe { core::ffi::CStr::from_ptr(data.cast()).to_bytes_with_nul().len() },
        fixed => usize::try_from(fixed).unwrap_or(0),
    }
}
