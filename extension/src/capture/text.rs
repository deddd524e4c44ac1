//! Buffers of a trigger call. They lie on the stack, whose lines the statement has just used: what each of many sessions
//! keeps for itself has left the processor's caches by the time it captures again, and fetching it costs more than the work.

use core::mem::MaybeUninit;
use core::ops::Deref;
use std::io;

use smallvec::SmallVec;

use super::tuple::Stored;

/// The columns of a row version, on the stack unless the mapped ones lie far back in a wide table.
pub(super) type Columns = SmallVec<[Stored; 24]>;

/// Bytes that need no heap.
const ROOM: usize = 256;

/// A text that is being put together: on the stack as long as it is no longer than usual ones, then on the heap.
pub(super) struct Text {
    /// Of `short`, while `long` is empty.
    len: usize,
    short: MaybeUninit<[u8; ROOM]>,
    /// All of it, once it did not fit.
    long: Vec<u8>,
}

impl Text {
    /// An empty text.
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            len: 0,
            short: MaybeUninit::uninit(),
            long: Vec::new(),
        }
    }

    /// Makes it empty.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.long.clear();
    }

    /// Appends a byte.
    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    /// Takes the last byte away.
    pub(super) fn pop(&mut self) {
        if self.long.pop().is_none() {
            self.len = self.len.saturating_sub(1);
        }
    }

    /// Appends bytes.
    #[inline]
    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if !self.long.is_empty() || end > ROOM {
            return self.extend_long(bytes);
        }
        // SAFETY: `end` is within the array.
        unsafe {
            let to = self.short.as_mut_ptr().cast::<u8>().add(self.len);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.len = end;
    }

    #[cold]
    fn extend_long(&mut self, bytes: &[u8]) {
        if self.long.is_empty() {
            let mut long = core::mem::take(&mut self.long);
            long.reserve((self.len + bytes.len()) * 2);
            long.extend_from_slice(self);
            self.long = long;
            self.len = 0;
        }
        self.long.extend_from_slice(bytes);
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Text {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        if self.long.is_empty() {
            // SAFETY: so many bytes of it were written.
            unsafe { core::slice::from_raw_parts(self.short.as_ptr().cast(), self.len) }
        } else {
            &self.long
        }
    }
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
