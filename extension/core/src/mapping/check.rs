//! What must hold between fields: nobody writes where another writes.

use std::collections::HashMap;

use super::{Direction, Faults, FieldMapping};

pub(super) fn across_fields(fields: &[FieldMapping], faults: &mut Faults) {
    one_field_per_property(fields, faults);
    one_writer_per_place(fields, faults);
}

fn one_field_per_property(fields: &[FieldMapping], faults: &mut Faults) {
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for field in fields.iter().filter(|field| field.direction != Direction::None) {
        match owners.get(field.hubspot_property.as_str()) {
            None => {
                owners.insert(&field.hubspot_property, &field.field);
            }
            Some(owner) => faults.add(
                &field.field,
                format!(
                    "hubspot_property {:?} belongs to the field {owner:?} already",
                    field.hubspot_property
                ),
                "map each property once, or make one of the two NONE",
            ),
        }
    }
}

/// Two receiving fields collide when they write the same place, or one writes the whole that holds the other.
fn one_writer_per_place(fields: &[FieldMapping], faults: &mut Faults) {
    let mut columns: HashMap<&str, Vec<&FieldMapping>> = HashMap::new();
    for field in fields.iter().filter(|field| field.direction.receives()) {
        let writers = columns.entry(&field.column).or_default();
        if let Some(other) = writers.iter().find(|other| overlap(keys(other), keys(field))) {
            faults.add(
                &field.field,
                format!(
                    "it is written into the same place of column {:?} as the field {:?}",
                    field.column, other.field
                ),
                "give each receiving field a column or path of its own",
            );
        }
        writers.push(field);
    }
}

fn keys(field: &FieldMapping) -> &[String] {
    field.path.as_ref().map_or(&[], |path| path.keys())
}

fn overlap(a: &[String], b: &[String]) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
