//! Every edit that was made, as its maker saw it.

use std::collections::HashMap;

/// An edit of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarpEdit {
    /// The new value.
    pub value: String,
    /// Just before the statement, microseconds since 1970.
    pub begun: i64,
    /// Just after it.
    pub ended: i64,
    /// The row's value that it replaced.
    pub replaced: Option<String>,
}

/// Edits of one field of one record, in the order in which they were made. Those in HubSpot are in HubSpot's history.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    /// Edits of the row.
    pub warp: Vec<WarpEdit>,
    /// Number of edits in HubSpot.
    pub hubspot: usize,
}

/// The edits of all records.
#[derive(Debug, Default)]
pub struct Journal {
    edits: HashMap<(usize, usize), Edits>,
}

impl Journal {
    /// The place for an edit of the record's field.
    pub(crate) fn entry(&mut self, record: usize, field: usize) -> &mut Edits {
        self.edits.entry((record, field)).or_default()
    }

    /// The edits of a field of a record.
    pub(crate) fn of(&self, record: usize, field: usize) -> Edits {
        self.edits.get(&(record, field)).cloned().unwrap_or_default()
    }

    /// Takes over the edits of other records.
    pub(crate) fn merge(&mut self, other: Journal) {
        self.edits.extend(other.edits);
    }

    /// Edits of rows.
    pub(crate) fn warp_count(&self) -> usize {
        self.edits.values().map(|edits| edits.warp.len()).sum()
    }

    /// Edits in HubSpot.
    pub(crate) fn hubspot_count(&self) -> usize {
        self.edits.values().map(|edits| edits.hubspot).sum()
    }
}
