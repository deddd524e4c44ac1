//! Webhook signatures v1, v2 and v3.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// v1: hex SHA-256 of secret and body.
pub fn v1(secret: &str, body: &[u8]) -> String {
    hex(&Sha256::new().chain_update(secret).chain_update(body).finalize())
}

/// v2: hex SHA-256 of secret, method, URI and body.
pub fn v2(secret: &str, method: &str, uri: &str, body: &[u8]) -> String {
    let parts = Sha256::new()
        .chain_update(secret)
        .chain_update(method)
        .chain_update(uri);
    hex(&parts.chain_update(body).finalize())
}

/// v3: base64 HMAC-SHA256 of method, decoded URI, body and timestamp in milliseconds.
pub fn v3(secret: &str, method: &str, uri: &str, body: &[u8], timestamp_ms: &str) -> String {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    let mac = mac
        .chain_update(method)
        .chain_update(decode_uri(uri))
        .chain_update(body)
        .chain_update(timestamp_ms);
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Decodes the twelve escapes that v3 decodes, and no others.
pub fn decode_uri(uri: &str) -> String {
    const ESCAPES: [(&str, &str); 12] = [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ];
    let mut rest = uri;
    let mut result = String::with_capacity(uri.len());
    while let Some(at) = rest.find('%') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let escape = ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape));
        let (text, length) = escape.map_or(("%", 1), |(escape, text)| (*text, escape.len()));
        result.push_str(text);
        rest = &rest[length..];
    }
    result.push_str(rest);
    result
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "11111111-2222-3333-4444-555555555555";
    const STAMP: &str = "1764000000000";
    const BODY: &str = r#"[{"eventId":100,"subscriptionId":2001,"portalId":62515,"appId":54321,"occurredAt":1763999999000,"subscriptionType":"company.propertyChange","attemptNumber":0,"objectId":9001,"propertyName":"name","propertyValue":"Acme","changeSource":"CRM_UI","sourceId":"userId:77"}]"#;

    #[test]
    fn known_vectors() {
        let plain = "https://sync.example.com/hubspot/webhook";
        let escaped = "https://sync.example.com/hubspot/webhook?s=%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B&k=%25%26%3D%2B%23%20%C3%A9";
        let body = BODY.as_bytes();
        assert_eq!(
            v1(SECRET, body),
            "ac03b4d5c800dbe85e7530c0910e4096ead5489c685f72220422058d2ea8086b"
        );
        assert_eq!(
            v2(SECRET, "POST", plain, body),
            "d8925bf0aec5334433131101b87b13cc3757086b87e06b6c6cc6a5b6a96730b5"
        );
        assert_eq!(
            v3(SECRET, "POST", plain, body, STAMP),
            "/NuuWsUb+LYjXpji2/YiQK6hPiO9FwP3o4BPiRvzsz8="
        );
        assert_eq!(
            v3(SECRET, "POST", escaped, body, STAMP),
            "LNVJmsxoson7ggHBtcfw+4n9/HD25yLY8UcCV7fkWrI="
        );
    }
}
