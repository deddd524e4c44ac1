//! The database's secret, and what is made with it: hashes that stand for values, and values that are locked away.

use chacha20poly1305::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of a nonce, which stands in front of what it locked.
const NONCE: usize = 24;

/// The secret of one database, from `hubspot.sensitive_key`.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// From its 64 hexadecimal digits.
    pub fn parse(digits: &str) -> Option<Key> {
        Some(Key(from_hex(digits)?.try_into().ok()?))
    }

    /// HMAC-SHA-256 of a text, for one purpose: hashes made for different purposes cannot be compared.
    pub fn digest(&self, purpose: &str, text: &str) -> [u8; 32] {
        // HMAC pads a shorter key with zeros to the length of a block.
        let mut block = [0; 64];
        block[..self.0.len()].copy_from_slice(&self.0);
        let mut mac = <Hmac<Sha256> as KeyInit>::new((&block).into());
        // No purpose has a line break.
        mac.update(purpose.as_bytes());
        mac.update(b"\n");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The first `digits` hexadecimal digits of [`Key::digest`].
    pub fn short(&self, purpose: &str, text: &str, digits: usize) -> String {
        let mut hex = to_hex(&self.digest(purpose, text));
        hex.truncate(digits);
        hex
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&self.digest("lock", "")).into())
    }

    /// Locks a text. `place` is where it will lie: it opens nowhere else. None only when the machine gives no random bytes.
    pub fn lock(&self, place: &str, text: &str) -> Option<String> {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let payload = Payload {
            msg: text.as_bytes(),
            aad: place.as_bytes(),
        };
        let locked = self.cipher().encrypt(&nonce, payload).ok()?;
        Some(to_hex(&nonce) + &to_hex(&locked))
    }

    /// Opens what [`Key::lock`] locked; none: by another key, for another place, or changed since.
    pub fn open(&self, place: &str, locked: &str) -> Option<String> {
        let bytes = from_hex(locked)?;
        let (nonce, locked) = bytes.split_at_checked(NONCE)?;
        let nonce: [u8; NONCE] = nonce.try_into().ok()?;
        let payload = Payload {
            msg: locked,
            aad: place.as_bytes(),
        };
        let text = self.cipher().decrypt(&XNonce::from(nonce), payload).ok()?;
        String::from_utf8(text).ok()
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        })
        .collect()
}
