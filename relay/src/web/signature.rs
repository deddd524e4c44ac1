//! Verifying that a webhook came from HubSpot, over the raw body, before anything of it is parsed.
//!
//! | form | headers | source | digest |
//! | --- | --- | --- | --- |
//! | v3 | `X-HubSpot-Signature-v3`, `X-HubSpot-Request-Timestamp` | method + URL + body + time stamp | HMAC-SHA256, base64 |
//! | v2 | `X-HubSpot-Signature`, `…-Version: v2` | secret + method + URL + body | SHA-256, hex |
//! | v1 | `X-HubSpot-Signature`, `…-Version: v1` or none | secret + body | SHA-256, hex |
//! | sha256 | `X-HubSpot-Signature: sha256=…` | body | HMAC-SHA256, hex; only when configured |
//!
//! A v3 header that is accepted and wrong is final: an older, weaker header beside it is not looked at.

use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine as _;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::SignatureForm;

/// What is needed to judge a signature.
#[derive(Debug, Clone)]
pub struct Verifier {
    secret: SecretString,
    accept: Vec<SignatureForm>,
    max_age: Duration,
}

/// A request as it was signed.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Upper case.
    pub method: &'a str,
    /// The URLs HubSpot may have called; more than one when the scheme is not known.
    pub uris: &'a [String],
    /// The raw body.
    pub body: &'a [u8],
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no signature of an accepted form.
    #[error("no signature of an accepted form")]
    Missing,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Wrong,
    /// The signature is right but its time stamp is too old, or lies too far in the future.
    #[error("the time stamp is not within webhook.max_age")]
    Stale,
}

impl Verifier {
    /// A verifier with HubSpot's shared secret.
    pub fn new(secret: SecretString, accept: Vec<SignatureForm>, max_age: Duration) -> Self {
        Self {
            secret,
            accept,
            max_age,
        }
    }

    /// Judges a request; `now_ms` is the current time in epoch milliseconds.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, headers: &HeaderMap, request: Signed<'_>, now_ms: i64) -> Result<(), Refused> {
        if self.accepts(SignatureForm::V3)
            && let Some(given) = headers.get("x-hubspot-signature-v3")
        {
            return self.verify_v3(given.as_bytes(), headers, request, now_ms);
        }
        let Some(given) = headers.get("x-hubspot-signature").and_then(|value| value.to_str().ok()) else {
            return Err(Refused::Missing);
        };
        let given = given.trim();
        let form = match (given.strip_prefix("sha256="), version(headers)) {
            (Some(_), _) => SignatureForm::Sha256,
            (None, Some("v2")) => SignatureForm::V2,
            (None, Some("v1") | None) => SignatureForm::V1,
            (None, Some(_)) => return Err(Refused::Missing),
        };
        if !self.accepts(form) {
            return Err(Refused::Missing);
        }
        let secret = self.secret.expose_secret().as_bytes();
        let right = match form {
            SignatureForm::V1 => same_hex(given, &sha256(&[secret, request.body])),
            SignatureForm::V2 => request.uris.iter().any(|uri| {
                same_hex(
                    given,
                    &sha256(&[secret, request.method.as_bytes(), uri.as_bytes(), request.body]),
                )
            }),
            SignatureForm::Sha256 => {
                let hex = given.strip_prefix("sha256=").unwrap_or_default();
                self.hmac(&[request.body]).is_some_and(|mac| same_hex(hex, &mac))
            }
            SignatureForm::V3 => false,
        };
        if right { Ok(()) } else { Err(Refused::Wrong) }
    }

    fn verify_v3(&self, given: &[u8], headers: &HeaderMap, request: Signed<'_>, now_ms: i64) -> Result<(), Refused> {
        let stamp = headers
            .get("x-hubspot-request-timestamp")
            .and_then(|value| value.to_str().ok());
        let stamp = stamp.ok_or(Refused::Wrong)?;
        let given = base64::engine::general_purpose::STANDARD
            .decode(given)
            .map_err(|_| Refused::Wrong)?;
        let right = request.uris.iter().any(|uri| {
            let uri = decode_uri(uri);
            self.hmac(&[
                request.method.as_bytes(),
                uri.as_bytes(),
                request.body,
                stamp.as_bytes(),
            ])
            .is_some_and(|mac| bool::from(mac.as_slice().ct_eq(&given)))
        });
        if !right {
            return Err(Refused::Wrong);
        }
        let stamp_ms: i64 = stamp.trim().parse().map_err(|_| Refused::Wrong)?;
        if u128::from(now_ms.abs_diff(stamp_ms)) > self.max_age.as_millis() {
            return Err(Refused::Stale);
        }
        Ok(())
    }

    fn accepts(&self, form: SignatureForm) -> bool {
        self.accept.contains(&form)
    }

    fn hmac(&self, parts: &[&[u8]]) -> Option<[u8; 32]> {
        // A key of any length is accepted; the Option only avoids a panic that cannot happen.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.expose_secret().as_bytes()).ok()?;
        for part in parts {
            mac.update(part);
        }
        Some(mac.finalize().into_bytes().into())
    }
}

fn version(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-hubspot-signature-version")?.to_str().ok().map(str::trim)
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// Compares in constant time; hex digits of either case.
fn same_hex(given: &str, digest: &[u8; 32]) -> bool {
    let expected: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    bool::from(given.to_ascii_lowercase().as_bytes().ct_eq(expected.as_bytes()))
}

/// Decodes the twelve escapes HubSpot decodes before it signs with v3, and no others.
pub fn decode_uri(uri: &str) -> String {
    let mut decoded = String::with_capacity(uri.len());
    let mut rest = uri;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        decoded.push_str(before);
        let character = escape
            .get(..3)
            .and_then(|escape| match escape.to_ascii_uppercase().as_str() {
                "%3A" => Some(':'),
                "%2F" => Some('/'),
                "%3F" => Some('?'),
                "%40" => Some('@'),
                "%21" => Some('!'),
                "%24" => Some('$'),
                "%27" => Some('\''),
                "%28" => Some('('),
                "%29" => Some(')'),
                "%2A" => Some('*'),
                "%2C" => Some(','),
                "%3B" => Some(';'),
                _ => None,
            });
        let length = match character {
            Some(character) => {
                decoded.push(character);
                3
            }
            None => {
                decoded.push('%');
                1
            }
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
#[path = "signature_vectors.rs"]
mod vectors;
