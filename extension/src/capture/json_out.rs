//! JSON written by hand into a byte buffer, in the server's encoding.
//!
//! Server encodings are supersets of ASCII in which no byte of a multi-byte character is below 0x80, so escaping byte
//! by byte is right in all of them.

use super::text::Text;

/// Appends `text` as a JSON string, with the quotes.
pub(super) fn push_string(out: &mut Text, text: &[u8]) {
    out.push(b'"');
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(to_escape) {
        at += found;
        let byte = text[at];
        out.extend_from_slice(&text[copied..at]);
        at += 1;
        copied = at;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
    }
    out.extend_from_slice(&text[copied..]);
    out.push(b'"');
}

/// Position of the first byte that cannot stand in a JSON string as it is.
#[inline]
fn to_escape(text: &[u8]) -> Option<usize> {
    /// A byte in each of a word's places.
    const EACH: u64 = u64::MAX / 255;
    const TOP: u64 = EACH << 7;
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    let mut at = 0;
    // Eight at a time: the top bit of a place is set where the byte is small or, after xor, zero. A place may be marked
    // because of the one before it; then the eight are looked at one by one.
    while let Some(eight) = text[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let (quotes, backslashes) = (word ^ (EACH * u64::from(b'"')), word ^ (EACH * u64::from(b'\\')));
        let small = word.wrapping_sub(EACH * 0x20) & !word;
        let marked = small | (quotes.wrapping_sub(EACH) & !quotes) | (backslashes.wrapping_sub(EACH) & !backslashes);
        if marked & TOP != 0
            && let Some(found) = eight.iter().position(|&byte| !plain(byte))
        {
            return Some(at + found);
        }
        at += 8;
    }
    text[at..].iter().position(|&byte| !plain(byte)).map(|found| at + found)
}

/// Appends `text` as a JSON string, or `null`.
pub(super) fn push_nullable(out: &mut Text, text: Option<&[u8]>) {
    match text {
        Some(text) => push_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// The object `{"field":[old,new],…}` while it grows.
pub(super) struct Changes<'a> {
    out: &'a mut Text,
}

impl<'a> Changes<'a> {
    /// An empty object, in `out` from its start.
    pub(super) fn new(out: &'a mut Text) -> Self {
        out.clear();
        out.push(b'{');
        Self { out }
    }

    /// Adds one field; `quoted_name` is its name as a JSON string already.
    pub(super) fn push(&mut self, quoted_name: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        if !self.is_empty() {
            self.out.push(b',');
        }
        self.out.extend_from_slice(quoted_name);
        self.out.extend_from_slice(b":[");
        push_nullable(self.out, old);
        self.out.push(b',');
        push_nullable(self.out, new);
        self.out.push(b']');
    }

    /// No field was added yet.
    fn is_empty(&self) -> bool {
        self.out.len() == 1
    }

    /// Closes the object; the buffer holds its whole text. False: no field was added.
    pub(super) fn finish(self) -> bool {
        let any = !self.is_empty();
        self.out.push(b'}');
        any
    }
}
