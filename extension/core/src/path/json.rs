//! Reading and writing at a list of keys inside a JSON value.

use std::io;
use std::mem::discriminant;

use serde::Serialize;
use serde_json::{Map, Value};

use super::PathError;

pub(super) fn read(keys: &[String], value: &Value) -> Option<String> {
    let mut current = value;
    for key in keys {
        current = match current {
            Value::Object(members) => members.get(key)?,
            Value::Array(elements) => elements.get(index(key, elements.len())?)?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        };
    }
    text_of(current)
}

pub(super) fn write(keys: &[String], value: &mut Value, text: Option<&str>) -> Result<(), PathError> {
    let Some((last, parents)) = keys.split_last() else {
        return Err(PathError::NoKeys);
    };
    check(keys, value, text.is_some())?;
    let mut current = value;
    for key in parents {
        let Some(next) = (match text {
            Some(_) => child(current, key),
            None => existing_child(current, key),
        }) else {
            return Ok(());
        };
        current = next;
    }
    match (text, current) {
        (None, Value::Object(members)) => {
            members.shift_remove(last);
        }
        (None, Value::Array(elements)) => {
            if let Some(element) = index(last, elements.len()).and_then(|at| elements.get_mut(at)) {
                *element = Value::Null;
            }
        }
        (None, _) => {}
        (Some(text), container) => {
            if let Some(place) = child(container, last) {
                *place = retyped(place, text);
            }
        }
    }
    Ok(())
}

/// Finds what stands in the way before anything is changed. Removing never meets an obstacle: what is not there is gone.
fn check(keys: &[String], value: &Value, writing: bool) -> Result<(), PathError> {
    let mut current = value;
    for key in keys {
        let next = match current {
            Value::Object(members) => members.get(key),
            Value::Array(elements) => match index(key, elements.len()).and_then(|at| elements.get(at)) {
                None if writing => return Err(PathError::NotAnElement { key: key.clone() }),
                element => element,
            },
            Value::Null => None,
            Value::Bool(_) | Value::Number(_) | Value::String(_) if writing => {
                return Err(PathError::NotAnObject { key: key.clone() });
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        match next {
            Some(next) => current = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// The place of a key, made when it is missing.
fn child<'a>(container: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    if container.is_null() {
        *container = Value::Object(Map::new());
    }
    match container {
        Value::Object(members) => Some(members.entry(key).or_insert(Value::Null)),
        other => existing_child(other, key),
    }
}

fn existing_child<'a>(container: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match container {
        Value::Object(members) => members.get_mut(key),
        Value::Array(elements) => {
            let at = index(key, elements.len())?;
            elements.get_mut(at)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The position an integer key means in an array, from the end when negative.
fn index(key: &str, length: usize) -> Option<usize> {
    let at: i64 = key.parse().ok()?;
    if at < 0 {
        length.checked_sub(usize::try_from(at.unsigned_abs()).ok()?)
    } else {
        usize::try_from(at).ok()
    }
}

fn retyped(old: &Value, text: &str) -> Value {
    let keeps_type = match old {
        Value::Null | Value::String(_) => false,
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => true,
    };
    if keeps_type
        && let Ok(new) = serde_json::from_str::<Value>(text)
        && discriminant(&new) == discriminant(old)
        && text_of(&new).as_deref() == Some(text)
    {
        return new;
    }
    Value::String(text.to_owned())
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            let mut out = Vec::new();
            value
                .serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced))
                .ok()?;
            String::from_utf8(out).ok()
        }
    }
}

/// Blanks where PostgreSQL's `jsonb` output has them, so that a text read here equals one read in SQL.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{JsonPath, PathError};
    use serde_json::{Value, json};

    fn path(text: &str) -> JsonPath {
        text.parse().unwrap()
    }

    #[test]
    fn reads_like_the_text_operators() {
        let value = json!({"s": "x", "n": 1.5, "b": true, "z": null, "o": {"k": [1, "two"]}, "e": ""});
        for (at, want) in [
            ("c->>'s'", Some("x")),
            ("c->>'n'", Some("1.5")),
            ("c->>'b'", Some("true")),
            ("c->>'z'", None),
            ("c->>'missing'", None),
            ("c->'s'->>'deeper'", None),
            ("c->>'o'", Some("{\"k\": [1, \"two\"]}")),
            ("c#>>'{o,k,1}'", Some("two")),
            ("c#>>'{o,k,-1}'", Some("two")),
            ("c#>>'{o,k,2}'", None),
            ("c#>>'{o,k,-3}'", None),
            ("c->>'e'", Some("")),
        ] {
            assert_eq!(path(at).read(&value).as_deref(), want, "{at}");
        }
    }

    #[test]
    fn writes_what_is_missing_and_removes() {
        let mut value = Value::Null;
        path("c->'a'->>'b'").write(&mut value, Some("1")).unwrap();
        assert_eq!(value, json!({"a": {"b": "1"}}));
        path("c->'a'->>'b'").write(&mut value, None).unwrap();
        assert_eq!(value, json!({"a": {}}));
        path("c->'q'->>'b'").write(&mut value, None).unwrap();
        assert_eq!(value, json!({"a": {}}));
        let mut null = Value::Null;
        path("c->>'b'").write(&mut null, None).unwrap();
        assert_eq!(null, Value::Null);
    }

    #[test]
    fn keeps_types_order_and_places() {
        let mut value = json!({"n": 5, "b": true, "l": ["x", "y"], "z": 1});
        path("c->>'n'").write(&mut value, Some("6.5")).unwrap();
        path("c->>'b'").write(&mut value, Some("no")).unwrap();
        path("c->'l'->>0").write(&mut value, None).unwrap();
        path("c->'l'->>-1").write(&mut value, Some("w")).unwrap();
        assert_eq!(value.to_string(), r#"{"n":6.5,"b":"no","l":[null,"w"],"z":1}"#);
        path("c->>'n'")
            .write(&mut value, Some("0.10000000000000000001"))
            .unwrap();
        assert_eq!(value["n"], json!("0.10000000000000000001"));
    }

    #[test]
    fn obstacles_change_nothing() {
        let start = json!({"s": "x", "l": []});
        let mut value = start.clone();
        let not_object = PathError::NotAnObject { key: "b".into() };
        assert_eq!(path("c->'s'->>'b'").write(&mut value, Some("1")), Err(not_object));
        let not_element = PathError::NotAnElement { key: "0".into() };
        assert_eq!(path("c->'l'->>0").write(&mut value, Some("1")), Err(not_element));
        path("c->'s'->>'b'").write(&mut value, None).unwrap();
        assert_eq!(value, start);
    }
}
