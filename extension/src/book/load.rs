//! Locking links and loading their fields' states.

use super::{Book, Entry, Lifecycle, Queue, Record};
use crate::catalog::Catalog;
use crate::spi;
use hubspot_sync_core::field::{FieldState, Held, InFlight, Side};
use hubspot_sync_core::value::Value;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Locks the links in order of id, so that no two calls work on one record at a time.
fn lock_links(ids: &[i64]) {
    spi::run(
        "SELECT 1 FROM hubspot.link WHERE id IN (SELECT e::bigint FROM json_array_elements_text($1::json) e) ORDER BY id FOR UPDATE",
        &json!(ids),
    );
}

const LINKS: &str = "SELECT json_agg(row_to_json(l))::text FROM hubspot.link l
WHERE l.id IN (SELECT e::bigint FROM json_array_elements_text($1::json) e)";

const STATES: &str = "SELECT json_agg(row_to_json(s))::text FROM hubspot.sync_state s
WHERE s.link_id IN (SELECT e::bigint FROM json_array_elements_text($1::json) e)";

#[derive(Deserialize)]
struct LinkRow {
    id: i64,
    mapping_id: i32,
    entity_key: String,
    hubspot_id: Option<String>,
    status: String,
    contacted: bool,
    id_written: bool,
    message: Option<String>,
    lifecycle: Option<String>,
    deleted_at: i64,
    life_at: i64,
    gone_id: Option<String>,
}

#[derive(Deserialize)]
struct StateRow {
    link_id: i64,
    field_id: i32,
    row_value: Value,
    edited_at: i64,
    origin: String,
    generation: i64,
    dirty: bool,
    agreed: bool,
    base_value: Value,
    seen_at: i64,
    own_at: i64,
    flying: bool,
    flight_value: Value,
    flight_edited_at: Option<i64>,
    flight_generation: Option<i64>,
    flight_edit: Option<i64>,
    flight_after: Option<i64>,
    pending_edit: Option<i64>,
    given_up: bool,
    held: bool,
    held_value: Value,
    held_at: Option<i64>,
    held_buried: Option<bool>,
    parked: bool,
    formed: bool,
    form_sent: Value,
    form_returned: Value,
    claim_generation: Option<i64>,
    conflict_id: Option<i64>,
    hubspot_value: Option<String>,
    hubspot_changed_at: Option<i64>,
    hubspot_read_at: Option<i64>,
    synced_at: Option<i64>,
    winner: Option<String>,
    message: Option<String>,
}

impl StateRow {
    fn state(&self) -> FieldState {
        FieldState {
            row: self.row_value.clone(),
            edited_at: self.edited_at,
            origin: if self.origin == "h" { Side::Hubspot } else { Side::Warp },
            generation: self.generation,
            dirty: self.dirty,
            base: self.agreed.then(|| self.base_value.clone()),
            seen_at: self.seen_at,
            own_at: self.own_at,
            in_flight: self.flying.then(|| InFlight {
                value: self.flight_value.clone(),
                edited_at: self.flight_edited_at.unwrap_or(0),
                generation: self.flight_generation.unwrap_or(0),
                edit: self.flight_edit,
                after: self.flight_after.unwrap_or(0),
            }),
            pending_edit: self.pending_edit,
            given_up: self.given_up,
            held: self.held.then(|| Held {
                hubspot_value: self.held_value.clone(),
                hubspot_at: self.held_at.unwrap_or(0),
                buried: self.held_buried.unwrap_or(false),
            }),
            parked: self.parked,
            form: self
                .formed
                .then(|| (self.form_sent.clone(), self.form_returned.clone())),
        }
    }
}

impl Book {
    /// Locks and loads these links with all their fields' states. Links of mappings that are gone are left out.
    pub fn open(catalog: Catalog, ids: &[i64], now: i64) -> Book {
        if !ids.is_empty() {
            lock_links(ids);
        }
        Book::peek(catalog, ids, now)
    }

    /// The same without locks, for a look: what is loaded may change at any time and must not be stored.
    pub fn peek(catalog: Catalog, ids: &[i64], now: i64) -> Book {
        let mut records = BTreeMap::new();
        if !ids.is_empty() {
            let arg = json!(ids);
            for row in spi::rows(LINKS, &arg) {
                let Ok(link) = serde_json::from_value::<LinkRow>(row) else {
                    continue;
                };
                let Some(mapping) = catalog.mappings.get(&link.mapping_id) else {
                    continue;
                };
                records.insert(
                    link.id,
                    Record {
                        link_id: link.id,
                        mapping: mapping.clone(),
                        key: link.entity_key,
                        hubspot_id: link.hubspot_id,
                        status: link.status,
                        contacted: link.contacted,
                        message: link.message,
                        fields: BTreeMap::new(),
                        queue: Queue::Offer,
                        background: false,
                        write_id_back: false,
                        id_written: link.id_written,
                        link_changed: false,
                        logs: Vec::new(),
                        ends: Vec::new(),
                        conflicts: Vec::new(),
                        failures: Vec::new(),
                        row_writes: BTreeMap::new(),
                        delete_row: false,
                        lifecycle: link.lifecycle.as_deref().and_then(Lifecycle::parse),
                        deleted_at: link.deleted_at,
                        life_at: link.life_at,
                        gone_id: link.gone_id,
                        authors: BTreeMap::new(),
                    },
                );
            }
            for row in spi::rows(STATES, &arg) {
                let Ok(s) = serde_json::from_value::<StateRow>(row) else {
                    continue;
                };
                let (Some(record), Some(field)) = (records.get_mut(&s.link_id), catalog.field(s.field_id)) else {
                    continue;
                };
                let state = s.state();
                record.fields.insert(
                    s.field_id,
                    Entry {
                        field: field.clone(),
                        loaded_row: state.row.clone(),
                        state,
                        claim_generation: s.claim_generation,
                        conflict_id: s.conflict_id,
                        hubspot_value: s.hubspot_value,
                        hubspot_changed_at: s.hubspot_changed_at.unwrap_or(0),
                        hubspot_read_at: s.hubspot_read_at.unwrap_or(0),
                        synced_at: s.synced_at.unwrap_or(0),
                        winner: s.winner,
                        message: s.message,
                        changed: false,
                    },
                );
            }
        }
        Book { catalog, records, now }
    }
}
