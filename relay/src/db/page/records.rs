//! Records, their fields and their history.

use serde::Deserialize;

use super::{Failure, Instant};

/// A record in a list.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordLine {
    /// Id of the link.
    pub id: i64,
    /// The type.
    pub entity_type: String,
    /// The key.
    pub entity_key: String,
    /// HubSpot's id.
    pub hubspot_id: Option<String>,
    /// The link's status.
    pub status: String,
    /// Why it is parked.
    pub message: Option<String>,
    /// Since when it is linked.
    pub linked_at: Instant,
    /// Fields held.
    pub conflicts: i64,
    /// Fields that failed.
    pub failures: i64,
}

/// A record.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    /// The type.
    pub entity_type: String,
    /// The key.
    pub entity_key: String,
    /// HubSpot's id.
    pub hubspot_id: Option<String>,
    /// The link's status.
    pub status: String,
    /// Why it is parked.
    pub message: Option<String>,
    /// Since when it is linked.
    pub linked_at: Instant,
    /// HubSpot's object type.
    pub hubspot_object: String,
    /// The table.
    pub source_table: String,
    /// It waits to be delivered.
    pub waiting_since: Instant,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// A field of a record.
#[derive(Debug, Clone, Deserialize)]
pub struct Field {
    /// Its name.
    pub field: String,
    /// As `hubspot.field_state`.
    pub status: String,
    /// The row's value.
    pub warp_value: Option<String>,
    /// HubSpot's value.
    pub hubspot_value: Option<String>,
    /// What both last agreed on.
    pub base_value: Option<String>,
    /// When the row's was edited.
    pub warp_changed_at: Instant,
    /// When HubSpot's was edited.
    pub hubspot_changed_at: Instant,
    /// When both came to agree.
    pub synced_at: Instant,
    /// The direction.
    pub sync_direction: String,
    /// The policy.
    pub conflict_resolution: Option<String>,
    /// The property.
    pub hubspot_property: String,
    /// The open conflict.
    pub conflict_id: Option<i64>,
    /// The open failure.
    pub failure: Option<Failure>,
}

/// A line of a record's history.
#[derive(Debug, Clone, Deserialize)]
pub struct LogLine {
    /// Its id.
    pub id: i64,
    /// When.
    pub at: Instant,
    /// The field.
    pub field: Option<String>,
    /// Which side.
    pub side: String,
    /// What.
    pub action: String,
    /// The row's value.
    pub warp_value: Option<String>,
    /// HubSpot's value.
    pub hubspot_value: Option<String>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Who.
    pub actor: Option<String>,
    /// With what.
    pub application_name: Option<String>,
    /// Why.
    pub detail: Option<String>,
}
