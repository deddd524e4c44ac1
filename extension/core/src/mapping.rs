//! The mapping document: which field mirrors which HubSpot property, in which direction, and who wins a conflict.
//!
//! Invariant: what [`parse_mapping`] returns is consistent by itself: names present, directions and winners that fit each
//! other, no two fields that would write the same place. Whether the columns, their types and the user's own transforms
//! exist is the extension's to check. Called when a mapping is imported or loaded; a pure function of its input.

mod check;
mod entry;
mod label;
mod part;
mod suggest;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::path::JsonPath;

pub use crate::error::UnknownLabel;
pub use suggest::nearest;

/// Which way a field's values may flow. Labels are the strategy's: `WARP_TO_HUBSPOT` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Direction {
    /// From the row to HubSpot only.
    WarpToHubspot,
    /// From HubSpot to the row only.
    HubspotToWarp,
    /// Both ways.
    Bidirectional,
    /// Tracked only.
    None,
}

impl Direction {
    /// Whether a change of the row may be written to HubSpot.
    pub fn sends(self) -> bool {
        matches!(self, Direction::WarpToHubspot | Direction::Bidirectional)
    }

    /// Whether a change in HubSpot may be written to the row.
    pub fn receives(self) -> bool {
        matches!(self, Direction::HubspotToWarp | Direction::Bidirectional)
    }
}

/// Who wins when both sides left the value they last agreed on. Labels are the strategy's: `WARP_WINS` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Strategy {
    /// The row wins.
    WarpWins,
    /// HubSpot wins.
    HubspotWins,
    /// The later edit wins; a tie goes to HubSpot.
    LatestWins,
    /// A person decides; until then neither side is written.
    Manual,
}

/// How soon a change is carried: `real-time` or `batch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Frequency {
    /// As soon as it is captured. The default.
    #[default]
    #[serde(rename = "real-time")]
    RealTime,
    /// With the next scheduled incremental run.
    #[serde(rename = "batch")]
    Batch,
}

/// One field: a column, or one text inside a JSON column, and the HubSpot property it mirrors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldMapping {
    /// The name users see; `address.street` for a part of a complex field.
    pub field: String,
    /// The HubSpot property's internal name.
    pub hubspot_property: String,
    /// The column's name.
    pub column: String,
    /// Where in the column the value stands; `None` when the column itself is the value. Its column is [`Self::column`].
    pub path: Option<JsonPath>,
    /// Which way values may flow.
    pub direction: Direction,
    /// Who wins a conflict; `None` only when the direction is [`Direction::None`].
    pub strategy: Option<Strategy>,
    /// How soon a change is carried.
    pub frequency: Frequency,
    /// The values the field may take; `None` when any.
    pub enum_values: Option<Vec<String>>,
    /// The transform's name, not checked here; `None` when both sides hold the same.
    pub transform: Option<String>,
    /// What the mapping's author wrote about the field.
    pub description: Option<String>,
}

/// One thing wrong with a mapping document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFault {
    /// The field it was found at; `mapping` when it concerns the document as a whole.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for MappingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.problem, self.mend)
    }
}

impl std::error::Error for MappingFault {}

/// Reads the strategy's JSON object, in its own order; a complex field becomes one mapping per part.
///
/// A key whose value is null counts as absent.
///
/// # Errors
/// Every fault found, not only the first. Each needs a person.
pub fn parse_mapping(json: &serde_json::Value) -> Result<Vec<FieldMapping>, Vec<MappingFault>> {
    let mut faults = Faults::default();
    let fields = entry::document(json, &mut faults);
    check::across_fields(&fields, &mut faults);
    if faults.0.is_empty() { Ok(fields) } else { Err(faults.0) }
}

/// The faults found so far.
#[derive(Default)]
struct Faults(Vec<MappingFault>);

impl Faults {
    fn add(&mut self, field: &str, problem: impl Into<String>, mend: impl Into<String>) {
        self.0.push(MappingFault {
            field: field.to_owned(),
            problem: problem.into(),
            mend: mend.into(),
        });
    }
}
