//! From the document's entries to fields, one entry at a time.

use serde_json::{Map, Value};

use super::{Direction, Faults, FieldMapping, Frequency, Strategy, nearest};
use crate::error::UnknownLabel;
use crate::path::JsonPath;

const ENTRY_KEYS: [&str; 11] = [
    "hubspot_property",
    "warp_field",
    "warp_field_path",
    "sync_direction",
    "conflict_resolution",
    "update_frequency",
    "enum_values",
    "transform",
    "is_complex",
    "sub_mappings",
    "description",
];

pub(super) fn document(json: &Value, faults: &mut Faults) -> Vec<FieldMapping> {
    let Value::Object(entries) = json else {
        faults.add(
            "mapping",
            "the mapping is not a JSON object",
            "give an object with one entry per field",
        );
        return Vec::new();
    };
    if entries.is_empty() {
        faults.add("mapping", "the mapping has no fields", "add at least one entry");
    }
    let mut fields = Vec::new();
    for (name, body) in entries {
        if !check_name(name, name, faults) {
            continue;
        }
        match body {
            Value::Object(body) => Entry { name, body, faults }.read(&mut fields),
            _ => faults.add(
                name,
                "the entry is not a JSON object",
                "give an object with hubspot_property, warp_field and the rest",
            ),
        }
    }
    fields
}

pub(super) fn check_name(field: &str, name: &str, faults: &mut Faults) -> bool {
    let good = !name.is_empty() && !name.contains(['.', '\0']);
    if !good {
        let shown = if field.is_empty() { "mapping" } else { field };
        faults.add(
            shown,
            "a field's name is empty or contains a dot",
            "rename it: a dot joins a complex field and its part",
        );
    }
    good
}

/// One entry while it is read; every reader adds its own faults and gives `None` when there is no usable value.
pub(super) struct Entry<'a, 'f> {
    pub(super) name: &'f str,
    pub(super) body: &'a Map<String, Value>,
    pub(super) faults: &'f mut Faults,
}

impl<'a> Entry<'a, '_> {
    fn read(&mut self, fields: &mut Vec<FieldMapping>) {
        self.refuse_unknown_keys(&ENTRY_KEYS);
        let hubspot_property = self.required("hubspot_property", "name the HubSpot property");
        let column = self.required("warp_field", "name the column");
        let direction = self.direction();
        let strategy = self.strategy(direction);
        let frequency: Option<Frequency> = self.label("update_frequency");
        let enum_values = self.enum_values();
        let transform = self.text("transform");
        let description = self.text("description");
        let is_complex = self.is_complex();
        let path = self.path(column, is_complex);
        let parts = self.parts(column, hubspot_property, is_complex);
        // A direction that is missing or wrong is reported already; NONE lets the checks across fields go on.
        let direction = direction.unwrap_or(Direction::None);
        if direction != Direction::None && parts.is_empty() {
            self.refuse_object_id(hubspot_property);
        } else if direction != Direction::None {
            for (_, property, _) in &parts {
                self.refuse_object_id(Some(property));
            }
        }
        let (Some(hubspot_property), Some(column)) = (hubspot_property, column) else {
            return;
        };
        let whole = FieldMapping {
            field: self.name.to_owned(),
            hubspot_property: hubspot_property.to_owned(),
            column: column.to_owned(),
            path,
            direction,
            strategy,
            frequency: frequency.unwrap_or_default(),
            enum_values,
            transform: transform.map(str::to_owned),
            description: description.map(str::to_owned),
        };
        if is_complex {
            fields.extend(parts.into_iter().map(|(part, hubspot_property, path)| FieldMapping {
                field: format!("{}.{part}", self.name),
                hubspot_property,
                path: Some(path),
                ..whole.clone()
            }));
        } else {
            fields.push(whole);
        }
    }

    pub(super) fn fault(&mut self, problem: impl Into<String>, mend: impl Into<String>) {
        self.faults.add(self.name, problem, mend);
    }

    pub(super) fn given(&self, key: &str) -> Option<&'a Value> {
        self.body.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn refuse_unknown_keys(&mut self, known: &[&'static str]) {
        for key in self.body.keys() {
            if !known.contains(&key.as_str()) {
                let mend = match nearest(key, known.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("remove it, or use one of {}", known.join(", ")),
                };
                self.fault(format!("unknown key {key:?}"), mend);
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<&'a str> {
        match self.given(key)? {
            Value::String(text) if !text.contains('\0') => Some(text),
            Value::String(_) => {
                self.fault(format!("{key} contains a NUL character"), "remove it");
                None
            }
            _ => {
                self.fault(format!("{key} is not a string"), "put it in double quotes");
                None
            }
        }
    }

    pub(super) fn required(&mut self, key: &str, mend: &str) -> Option<&'a str> {
        if self.given(key).is_none() {
            self.fault(format!("{key} is missing"), mend);
            return None;
        }
        let text = self.text(key)?;
        if text.is_empty() {
            self.fault(format!("{key} is empty"), mend);
            return None;
        }
        Some(text)
    }

    fn label<T: std::str::FromStr<Err = UnknownLabel>>(&mut self, key: &str) -> Option<T> {
        let word = self.text(key)?;
        match word.parse() {
            Ok(label) => Some(label),
            Err(error) => {
                let near = nearest(word, error.allowed.iter().copied());
                let hint = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
                self.fault(
                    format!("{key} {word:?} is unknown"),
                    format!("{hint}use one of {}", error.allowed.join(", ")),
                );
                None
            }
        }
    }

    fn direction(&mut self) -> Option<Direction> {
        if self.given("sync_direction").is_none() {
            self.fault(
                "sync_direction is missing",
                format!("use one of {}", Direction::LABELS.join(", ")),
            );
        }
        self.label("sync_direction")
    }

    fn strategy(&mut self, direction: Option<Direction>) -> Option<Strategy> {
        let strategy: Option<Strategy> = self.label("conflict_resolution");
        let own_side = match direction {
            None | Some(Direction::None) => return strategy,
            Some(Direction::Bidirectional) => None,
            Some(Direction::WarpToHubspot) => Some(Strategy::WarpWins),
            Some(Direction::HubspotToWarp) => Some(Strategy::HubspotWins),
        };
        match (strategy, own_side) {
            (None, _) if self.given("conflict_resolution").is_none() => {
                let mend = match own_side {
                    Some(own) => format!("use {own} or {}", Strategy::LatestWins),
                    None => format!("use one of {}", Strategy::LABELS.join(", ")),
                };
                self.fault("conflict_resolution is missing", mend);
            }
            (Some(winner), Some(own)) if winner != own && winner != Strategy::LatestWins => self.fault(
                format!("conflict_resolution {winner} does not fit a field that flows one way"),
                format!(
                    "use {own} or {}, or make sync_direction {}",
                    Strategy::LatestWins,
                    Direction::Bidirectional
                ),
            ),
            _ => {}
        }
        strategy
    }

    fn enum_values(&mut self) -> Option<Vec<String>> {
        let given = self.given("enum_values")?;
        let values: Option<Vec<String>> = given
            .as_array()
            .and_then(|values| values.iter().map(|value| value.as_str().map(str::to_owned)).collect());
        if values.as_ref().is_none_or(Vec::is_empty) {
            self.fault(
                "enum_values is not a list of strings",
                "give at least one, as in [\"ACTIVE\", \"CLOSED\"]",
            );
            return None;
        }
        values
    }

    fn is_complex(&mut self) -> bool {
        match self.given("is_complex") {
            None => false,
            Some(Value::Bool(is_complex)) => *is_complex,
            Some(_) => {
                self.fault("is_complex is not true or false", "write true or false without quotes");
                self.given("sub_mappings").is_some()
            }
        }
    }

    fn path(&mut self, column: Option<&str>, is_complex: bool) -> Option<JsonPath> {
        let text = self.text("warp_field_path")?;
        if is_complex {
            self.fault(
                "a complex field has a warp_field_path",
                "give each of its sub_mappings a path instead",
            );
            return None;
        }
        self.parse_path(self.name, "warp_field_path", text, column)
    }

    pub(super) fn parse_path(&mut self, field: &str, key: &str, text: &str, column: Option<&str>) -> Option<JsonPath> {
        let path: JsonPath = match text.parse() {
            Ok(path) => path,
            Err(error) => {
                let mend = "write it as column->>'key' or column->'a'->>'b'";
                self.faults
                    .add(field, format!("{key} {text:?} is not a path: {error}"), mend);
                return None;
            }
        };
        match column {
            Some(column) if column != path.column() => {
                let problem = format!(
                    "{key} starts at the column {:?}, but warp_field is {column:?}",
                    path.column()
                );
                self.faults.add(field, problem, "make both name the same column");
                None
            }
            _ => Some(path),
        }
    }

    fn refuse_object_id(&mut self, property: Option<&str>) {
        if property == Some("hs_object_id") {
            let problem = "hs_object_id is HubSpot's own record id and cannot be synchronised";
            self.fault(problem, format!("make sync_direction {}", Direction::None));
        }
    }
}
