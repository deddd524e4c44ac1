//! What must hold of any bytes, for the sync core. Fuzz targets and the replay of their seeds call the same functions.

use hubspot_sync_core::mapping::parse_mapping;
use hubspot_sync_core::path::JsonPath;
use hubspot_sync_core::transform::Transform;
use hubspot_sync_core::value::{ValueKind, from_hubspot, from_warp, to_hubspot, to_warp};

/// The first line is a path, the second a text, the rest a JSON document.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let path: JsonPath = match lines.next().unwrap_or_default().parse() {
        Ok(path) => path,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(
        path.to_string().parse(),
        Ok(path.clone()),
        "printing and parsing are inverse"
    );
    let (value, document) = (lines.next(), lines.next().unwrap_or("{}"));
    let Ok(before) = serde_json::from_str::<serde_json::Value>(document) else {
        return;
    };
    let mut after = before.clone();
    match path.write(&mut after, value) {
        Err(error) => {
            assert_eq!(before, after, "what is refused changes nothing");
            assert!(!error.to_string().is_empty());
        }
        Ok(()) => {
            assert_eq!(path.read(&after).as_deref(), value, "what is written is read");
            let mut again = after.clone();
            assert_eq!(path.write(&mut again, value), Ok(()));
            assert_eq!(after, again, "writing again changes nothing");
        }
    }
}

/// A mapping document.
pub fn mapping(data: &[u8]) {
    let Ok(document) = serde_json::from_slice(data) else {
        return;
    };
    match parse_mapping(&document) {
        Ok(fields) => {
            for (number, field) in fields.iter().enumerate() {
                assert!(
                    fields.iter().skip(number + 1).all(|other| other.field != field.field),
                    "{} twice",
                    field.field
                );
            }
            assert_eq!(parse_mapping(&document), Ok(fields), "read twice, it says the same");
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            for fault in faults {
                assert!(
                    !fault.field.is_empty() && !fault.problem.is_empty() && !fault.mend.is_empty(),
                    "{fault:?}"
                );
            }
        }
    }
}

const KINDS: [ValueKind; 6] = [
    ValueKind::Text,
    ValueKind::Number,
    ValueKind::Boolean,
    ValueKind::Date,
    ValueKind::Timestamp,
    ValueKind::MultiSelect,
];

/// A text, read as a value of every kind from either side.
pub fn value(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = ValueKind::from_pg_type(text);
    for kind in KINDS {
        for read in [from_warp(kind, Some(text)), from_hubspot(kind, Some(text))] {
            let value = match read {
                Ok(value) => value,
                Err(error) => {
                    let said = error.to_string();
                    assert!(!said.is_empty());
                    // Whatever was read, its text is a customer's and stands in no message.
                    assert!(said.len() < 200, "an error quotes the value: {said}");
                    continue;
                }
            };
            let stored = to_warp(kind, &value);
            assert_eq!(
                from_warp(kind, stored.as_deref()),
                Ok(value.clone()),
                "{kind:?} through the row"
            );
            if let Ok(wire) = to_hubspot(kind, &value) {
                assert_eq!(
                    from_hubspot(kind, Some(&wire)),
                    Ok(value.clone()),
                    "{kind:?} through HubSpot"
                );
            }
            for transform in Transform::ALL.into_iter().filter(|transform| transform.kind() == kind) {
                if let Ok(there) = transform.to_hubspot(&value) {
                    assert_eq!(
                        transform.to_warp(&there),
                        Ok(value.clone()),
                        "{} and back",
                        transform.name()
                    );
                }
            }
        }
    }
}
