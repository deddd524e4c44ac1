//! Mappings and what is wrong with them.

use serde::Deserialize;

use super::Instant;

/// The mappings and what is wrong with them.
#[derive(Debug, Clone, Deserialize)]
pub struct Mappings {
    /// The mappings.
    pub mappings: Vec<MappingLine>,
    /// What is wrong for all of them.
    pub problems: Vec<Problem>,
}

/// A mapping.
#[derive(Debug, Clone, Deserialize)]
pub struct MappingLine {
    /// Its name.
    pub entity_type: String,
    /// The table.
    pub source_table: String,
    /// HubSpot's object type.
    pub hubspot_object: String,
    /// Columns that identify a row.
    pub key_columns: Vec<String>,
    /// The field that finds a record.
    pub match_field: Option<String>,
    /// The property it is compared with.
    pub match_property: Option<String>,
    /// Whether it takes part.
    pub enabled: bool,
    /// Whether rows without a record get one.
    pub on_create: String,
    /// When it was imported.
    pub imported_at: Instant,
    /// By which role.
    pub imported_by: String,
    /// Known records.
    pub records: i64,
    /// Its fields.
    pub fields: Vec<MappedField>,
    /// What `hubspot.check_mapping` says, worst first.
    pub findings: Vec<Lint>,
}

/// A finding of `hubspot.check_mapping`.
#[derive(Debug, Clone, Deserialize)]
pub struct Lint {
    /// `error`, `warning` or `note`.
    pub severity: String,
    /// The field; none: the mapping.
    pub field: Option<String>,
    /// What was seen.
    pub finding: String,
    /// What to do.
    pub mend: String,
}

/// A mapped field.
#[derive(Debug, Clone, Deserialize)]
pub struct MappedField {
    /// Its name.
    pub field: String,
    /// The property.
    pub hubspot_property: String,
    /// The column.
    pub column_name: String,
    /// Keys inside it.
    pub path: Option<Vec<String>>,
    /// The direction.
    pub sync_direction: String,
    /// The policy.
    pub conflict_resolution: Option<String>,
    /// `real-time` or `batch`.
    pub update_frequency: String,
    /// Allowed values.
    pub enum_values: Option<Vec<String>>,
    /// The transform.
    pub transform: Option<String>,
    /// How values compare.
    pub kind: String,
    /// For people.
    pub description: Option<String>,
}

/// Something that is wrong with all mappings.
#[derive(Debug, Clone, Deserialize)]
pub struct Problem {
    /// What.
    pub problem: String,
    /// What was seen, and the mend.
    pub detail: String,
}
