//! Properties of JSON paths: printing and parsing are inverse, and what is written is what is read.

use hubspot_sync_core::path::JsonPath;
use proptest::prelude::*;
use serde_json::{Value, json};

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_][a-z0-9_]{0,8}", "[A-Za-z'\"{}\\\\, >#-]{1,8}", "\\PC{1,6}"]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "-?[0-9]{1,3}", "(?i)null", name()]
}

fn path() -> impl Strategy<Value = JsonPath> {
    (name(), prop::collection::vec(key(), 1..5)).prop_map(|(column, keys)| JsonPath::new(column, keys).unwrap())
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-c]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn short_path() -> impl Strategy<Value = JsonPath> {
    let key = prop_oneof!["[a-c]", "-?[0-3]"];
    prop::collection::vec(key, 1..4).prop_map(|keys| JsonPath::new("c", keys).unwrap())
}

/// The `#>>` form of a path, every key quoted in the array literal.
fn array_form(path: &JsonPath) -> String {
    let quoted = |key: &String| format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
    let keys: Vec<String> = path.keys().iter().map(quoted).collect();
    let column = path.column().replace('"', "\"\"");
    format!("\"{column}\" #>> '{{{}}}'", keys.join(" , ").replace('\'', "''"))
}

proptest! {
    #[test]
    fn parse_undoes_print(path in path()) {
        prop_assert_eq!(path.to_string().parse::<JsonPath>(), Ok(path.clone()));
        prop_assert_eq!(array_form(&path).parse::<JsonPath>(), Ok(path.clone()));
        let json = serde_json::to_value(&path).unwrap();
        prop_assert_eq!(serde_json::from_value::<JsonPath>(json).unwrap(), path);
    }

    #[test]
    fn any_text_parses_or_says_where(text in prop_oneof!["\\PC{0,20}", "[ac'\"{}>#0-2,\\\\ -]{0,16}"]) {
        match text.parse::<JsonPath>() {
            Ok(path) => prop_assert_eq!(path.to_string().parse::<JsonPath>(), Ok(path)),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn what_is_written_is_read(path in short_path(), start in document(), text in prop_oneof!["\\PC{0,6}", "-?[0-9]{1,3}", "true|false|null"]) {
        let mut value = start.clone();
        match path.write(&mut value, Some(&text)) {
            Ok(()) => {
                prop_assert_eq!(path.read(&value), Some(text.clone()));
                let once = value.clone();
                path.write(&mut value, Some(&text)).unwrap();
                prop_assert_eq!(value, once);
            }
            Err(_) => prop_assert_eq!(value, start),
        }
    }

    #[test]
    fn what_is_removed_is_gone(path in short_path(), start in document()) {
        let mut value = start.clone();
        prop_assert_eq!(path.write(&mut value, None), Ok(()));
        prop_assert_eq!(path.read(&value), None);
    }

    #[test]
    fn writing_back_what_was_read_changes_nothing_readable(path in short_path(), start in document()) {
        if let Some(text) = path.read(&start) {
            let mut value = start.clone();
            path.write(&mut value, Some(&text)).unwrap();
            prop_assert_eq!(value, start);
        }
    }
}

#[test]
fn a_null_column_becomes_an_object() {
    let mut value = Value::Null;
    JsonPath::new("c", ["a", "b"])
        .unwrap()
        .write(&mut value, Some("x"))
        .unwrap();
    assert_eq!(value, json!({"a": {"b": "x"}}));
}
