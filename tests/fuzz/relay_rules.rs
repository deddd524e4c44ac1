//! What must hold of any bytes, for what the relay reads from outside.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use hubspot_relay::config::SignatureForm;
use hubspot_relay::hubspot::error::{classify, classify_row, parse_retry_after, rate_policy};
use hubspot_relay::hubspot::model::{
    AccountDetails, BatchResponse, ErrorBody, PropertyList, Record, SearchPage, instant_ms, value_text,
};
use hubspot_relay::hubspot::refusal::refused_property;
use hubspot_relay::web::signature::{Signed, Verifier, decode_uri};
use hubspot_relay::web::webhook::parse_events;

/// Header lines, an empty line, the body: as a request from anybody, who does not know the secret.
pub fn webhook(data: &[u8]) {
    let split = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let (head, body) = (&data[..split], data.get(split + 2..).unwrap_or_default());
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = HeaderName::from_bytes(&line[..at]);
        let value = HeaderValue::from_bytes(line.get(at + 1..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let uri = String::from_utf8_lossy(head).into_owned();
    let uris = [decode_uri(&uri), uri];
    let forms = vec![
        SignatureForm::V3,
        SignatureForm::V2,
        SignatureForm::V1,
        SignatureForm::Sha256,
    ];
    let verifier = Verifier::new(
        "a secret nobody guesses".to_owned().into(),
        forms,
        Duration::from_secs(300),
    );
    let signed = Signed {
        method: "POST",
        uris: &uris,
        body,
    };
    for now_ms in [0, 1_764_000_000_000, i64::MAX, i64::MIN] {
        assert!(
            verifier.verify(&headers, signed, now_ms).is_err(),
            "an unsigned request is accepted"
        );
    }
    if let Some((events, count)) = parse_events(body) {
        let events = events.as_array().expect("events are a list");
        assert_eq!(events.len(), count);
        assert!(count <= 1_000 && events.iter().all(serde_json::Value::is_object));
    }
}

/// A body of HubSpot's, or of whatever answers in its place: read as each answer there is.
pub fn response(data: &[u8]) {
    let records = |records: &[Record]| {
        for record in records {
            for value in record.properties.values() {
                assert!(value_text(value).is_none_or(|text| !text.is_empty()));
            }
            for version in record.properties_with_history.values().flatten() {
                let _ = (value_text(&version.value), instant_ms(&version.timestamp));
            }
        }
    };
    let error = |error: &ErrorBody| {
        let _ = (classify_row(error), rate_policy(error.policy_name.as_deref()));
        assert!(refused_property(error).is_none_or(|name| !name.is_empty()));
    };
    if let Ok(batch) = serde_json::from_slice::<BatchResponse>(data) {
        records(&batch.results);
        batch.errors.iter().for_each(error);
    }
    if let Ok(body) = serde_json::from_slice::<ErrorBody>(data) {
        error(&body);
    }
    if let Ok(page) = serde_json::from_slice::<SearchPage>(data) {
        records(&page.results);
    }
    let _ = serde_json::from_slice::<PropertyList>(data);
    let _ = serde_json::from_slice::<AccountDetails>(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = parse_retry_after(text);
    }
    if let [high, low, ..] = data {
        let _ = classify(u16::from_be_bytes([*high, *low]));
    }
}
