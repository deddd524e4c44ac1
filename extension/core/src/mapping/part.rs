//! The parts of a complex field: `sub_mappings` of an entry.

use serde_json::Value;

use super::entry::{Entry, check_name};
use crate::path::JsonPath;

const PART_KEYS: [&str; 2] = ["path", "hubspot_property"];

/// The part of a complex field that goes to the parent's own property.
const PARENT_PART: &str = "street";

impl<'a> Entry<'a, '_> {
    /// The parts of a complex field: name, property and path of each.
    pub(super) fn parts(
        &mut self,
        column: Option<&str>,
        parent_property: Option<&str>,
        is_complex: bool,
    ) -> Vec<(&'a str, String, JsonPath)> {
        let parts = match (self.given("sub_mappings"), is_complex) {
            (None, false) => return Vec::new(),
            (Some(_), false) => {
                self.fault(
                    "sub_mappings without is_complex",
                    "add \"is_complex\": true, or remove sub_mappings",
                );
                return Vec::new();
            }
            (Some(Value::Object(parts)), true) if !parts.is_empty() => parts,
            (None | Some(_), true) => {
                let mend = "give an object such as {\"city\": \"address->>'city'\"}";
                self.fault("is_complex without sub_mappings", mend);
                return Vec::new();
            }
        };
        let mut read = Vec::new();
        for (part, body) in parts {
            let field = format!("{}.{part}", self.name);
            if !check_name(&field, part, self.faults) {
                continue;
            }
            if let Some((own_property, path)) = self.part(&field, body, column) {
                let property = match (own_property, part.as_str()) {
                    (Some(own), _) => Some(own),
                    (None, PARENT_PART) => parent_property,
                    (None, part) => Some(part),
                };
                if let Some(property) = property {
                    read.push((part.as_str(), property.to_owned(), path));
                }
            }
        }
        read
    }

    fn part(&mut self, field: &str, body: &'a Value, column: Option<&str>) -> Option<(Option<&'a str>, JsonPath)> {
        match body {
            Value::String(text) => Some((None, self.parse_path(field, "the path", text, column)?)),
            Value::Object(body) => {
                let mut part = Entry {
                    name: field,
                    body,
                    faults: self.faults,
                };
                part.refuse_unknown_keys(&PART_KEYS);
                let text = part.required("path", "say where in the column the part stands");
                let own = match part.given("hubspot_property") {
                    None => Some(None),
                    Some(_) => part.required("hubspot_property", "name the HubSpot property").map(Some),
                };
                let path = self.parse_path(field, "the path", text?, column)?;
                Some((own?, path))
            }
            _ => {
                let mend = "give a path, or {\"path\": …, \"hubspot_property\": …}";
                self.faults.add(field, "the part is neither a path nor an object", mend);
                None
            }
        }
    }
}
