//! Query strings, form bodies and the JSON bodies of requests.

use std::collections::HashMap;

use serde_json::Value;

use super::errors::ApiError;
use super::record::Source;
use super::route::Route;
use super::store::Changes;

/// Decodes `%xx` escapes.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut result = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                result.push(byte);
                at += 3;
            }
            None => {
                result.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&result).into_owned()
}

/// Parses `a=1&b=2`; a repeated key has its values joined by commas.
pub(crate) fn parse_form(text: &str) -> HashMap<String, String> {
    let mut result: HashMap<String, String> = HashMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")));
        result
            .entry(key)
            .and_modify(|known| {
                known.push(',');
                known.push_str(&value);
            })
            .or_insert(value);
    }
    result
}

/// A request after its outer checks.
#[derive(Debug)]
pub(crate) struct ApiRequest {
    pub(crate) route: Route,
    pub(crate) query: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) source: Source,
    /// `Host` of the request: links to this server carry it.
    pub(crate) host: String,
}

impl ApiRequest {
    /// The body as JSON object.
    pub(crate) fn json(&self) -> Result<Value, ApiError> {
        let body: Value = serde_json::from_slice(&self.body).map_err(ApiError::bad_json)?;
        if body.is_object() {
            Ok(body)
        } else {
            Err(ApiError::bad_json("an object was expected"))
        }
    }

    /// A comma-separated query parameter.
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        let text = self.query.get(key).map_or("", String::as_str);
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// `archived=true`? The official Python SDK writes it `True`.
    pub(crate) fn archived(&self) -> bool {
        self.query
            .get("archived")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// What a handler answers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
}

impl Reply {
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Reply {
            status,
            body: Some(body),
        }
    }

    pub(crate) fn empty() -> Self {
        Reply {
            status: 204,
            body: None,
        }
    }
}

/// A field that must be an array of at most `max` entries.
pub(crate) fn inputs(body: &Value, max: usize) -> Result<Vec<Value>, ApiError> {
    let list = body.get("inputs").and_then(Value::as_array);
    let list = list.ok_or_else(|| ApiError::bad_json("some required fields were not set: [inputs]"))?;
    if list.len() > max {
        let message = format!("The maximum number of inputs supported in a batch request is {max}");
        return Err(ApiError::validation(message));
    }
    Ok(list.clone())
}

/// A field of strings; absent is empty.
pub(crate) fn strings(body: &Value, key: &str) -> Result<Vec<String>, ApiError> {
    let list = match body.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(value) => value
            .as_array()
            .ok_or_else(|| ApiError::bad_json(format!("{key} must be an array")))?,
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list.iter()
        .map(|value| text(value).ok_or_else(|| ApiError::bad_json(format!("{key} must hold strings"))))
        .collect()
}

/// A string field; absent and null are `None`.
pub(crate) fn string(body: &Value, key: &str) -> Result<Option<String>, ApiError> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ApiError::bad_json(format!("{key} must be a string"))),
    }
}

/// A string field that must be there.
pub(crate) fn required(body: &Value, key: &str) -> Result<String, ApiError> {
    string(body, key)?.ok_or_else(|| ApiError::bad_json(format!("some required fields were not set: [{key}]")))
}

/// The `properties` of a write: a map of strings.
pub(crate) fn properties(body: &Value) -> Result<Changes, ApiError> {
    let map = body.get("properties").and_then(Value::as_object);
    let map = map.ok_or_else(|| ApiError::bad_json("some required fields were not set: [properties]"))?;
    map.iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name.clone(), text.clone())),
            other => Err(ApiError::bad_json(format!(
                "Cannot deserialize value of property \"{name}\": a string was expected, not {other}"
            ))),
        })
        .collect()
}
