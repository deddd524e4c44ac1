//! Renaming a column in a mapping document and its options, so that `hubspot.export_mapping` gives the new name.

use hubspot_sync_core::path::JsonPath;
use serde_json::Value as Json;

/// Puts `new` where the document's entries name the column `old`.
pub fn rename_column(mapping: &mut Json, old: &str, new: &str) {
    for (_, entry) in mapping.as_object_mut().into_iter().flatten() {
        if entry["warp_field"] == old {
            entry["warp_field"] = new.into();
        }
        if let Some(path) = entry.get_mut("warp_field_path") {
            rename_in_path(path, old, new);
        }
        let parts = entry.get_mut("sub_mappings").and_then(Json::as_object_mut);
        for (_, part) in parts.into_iter().flatten() {
            match part.get_mut("path") {
                Some(path) => rename_in_path(path, old, new),
                None => rename_in_path(part, old, new),
            }
        }
    }
}

/// The same for the options that name columns.
pub fn rename_in_options(options: &mut Json, old: &str, new: &str) {
    let keys = options.get_mut("key_columns").and_then(Json::as_array_mut);
    let names = keys.into_iter().flatten().filter(|name| **name == old);
    names.for_each(|name| *name = new.into());
    if options["updated_at_column"] == old {
        options["updated_at_column"] = new.into();
    }
}

fn rename_in_path(path: &mut Json, old: &str, new: &str) {
    let renamed = path
        .as_str()
        .and_then(|text| text.parse::<JsonPath>().ok())
        .filter(|path| path.column() == old)
        .and_then(|path| JsonPath::new(new, path.keys().to_vec()).ok());
    if let Some(renamed) = renamed {
        *path = renamed.to_string().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_place_that_names_the_column_is_renamed() {
        let mut mapping = json!({
            "phone": {"warp_field": "contact", "warp_field_path": "contact->>'phone'"},
            "address": {"warp_field": "contact", "is_complex": true, "sub_mappings": {
                "city": "contact->'a'->>'city'", "zip": {"path": "contact->'a'->>'zip'", "hubspot_property": "zip"}}},
            "name": {"warp_field": "name"}
        });
        rename_column(&mut mapping, "contact", "Who's \"it\"");
        assert_eq!(
            mapping,
            json!({
                "phone": {"warp_field": "Who's \"it\"", "warp_field_path": "\"Who's \"\"it\"\"\"->>'phone'"},
                "address": {"warp_field": "Who's \"it\"", "is_complex": true, "sub_mappings": {
                    "city": "\"Who's \"\"it\"\"\"->'a'->>'city'",
                    "zip": {"path": "\"Who's \"\"it\"\"\"->'a'->>'zip'", "hubspot_property": "zip"}}},
                "name": {"warp_field": "name"}
            })
        );
    }

    #[test]
    fn options_that_name_the_column_are_renamed() {
        let mut options = json!({"key_columns": ["a", "b"], "updated_at_column": "b"});
        rename_in_options(&mut options, "b", "c");
        assert_eq!(options, json!({"key_columns": ["a", "c"], "updated_at_column": "c"}));
        let mut options = json!({});
        rename_in_options(&mut options, "b", "c");
        assert_eq!(options, json!({}));
    }
}
