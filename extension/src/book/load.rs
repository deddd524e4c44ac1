//! Locking links and loading their fields' states.

use super::{Book, Entry, Lifecycle, Queue, Record};
use crate::catalog::{Catalog, Field};
use crate::spi::tuples::{self, Row};
use hubspot_sync_core::field::{FieldState, Held, InFlight, Side};
use std::collections::BTreeMap;
use std::rc::Rc;

/// In the order in which [`read_link`] takes them.
macro_rules! links {
    ($more:literal) => {
        concat!(
            "SELECT l.id, l.mapping_id, l.entity_key, l.hubspot_id, l.status, l.contacted, l.id_written, l.message, l.lifecycle,
               l.deleted_at, l.life_at, l.gone_id
             FROM unnest($1) AS i (id) JOIN hubspot.link l ON l.id = i.id",
            $more
        )
    };
}

/// Locked in order of id, so that no two calls work on one record at a time.
const LOCK: &str = links!(" ORDER BY l.id FOR UPDATE OF l");
const LINKS: &str = links!("");

/// In the order in which [`read_state`] takes them.
macro_rules! states {
    ($from:literal) => {
        concat!(
            "SELECT s.link_id, s.field_id, s.row_value, s.edited_at, s.origin, s.generation, s.dirty, s.agreed, s.base_value,
               s.seen_at, s.own_at, s.flying, s.flight_value, s.flight_edited_at, s.flight_generation, s.flight_edit, s.flight_after,
               s.pending_edit, s.given_up, s.held, s.held_value, s.held_at, s.held_buried, s.parked, s.formed, s.form_sent, s.form_returned,
               s.claim_generation, s.conflict_id, s.hubspot_value, s.hubspot_changed_at, s.hubspot_read_at, s.synced_at, s.winner, s.message
             FROM unnest($1) AS i (id) JOIN hubspot.sync_state s ON s.link_id = i.id",
            $from
        )
    };
}

const STATES: &str = states!("");

/// Of a record that is linked, compared and neither deleted nor merged, only the fields with something to do, and those
/// that are named. Most fields of most records have nothing to do.
const STATES_AT_WORK: &str = states!(
    " JOIN hubspot.link l ON l.id = i.id
     WHERE s.dirty OR s.flying OR s.field_id = ANY ($2) OR NOT l.contacted OR l.status <> 'linked' OR l.lifecycle IS NOT NULL"
);

/// A record without its fields; none when its mapping is gone.
fn read_link(row: &mut Row, catalog: &Catalog) -> Option<Record> {
    let link_id = row.next()?;
    let mapping = catalog.mappings.get(&row.next()?)?.clone();
    Some(Record {
        link_id,
        mapping,
        key: row.or_zero(),
        hubspot_id: row.next(),
        status: row.or_zero(),
        contacted: row.or_zero(),
        id_written: row.or_zero(),
        message: row.next(),
        lifecycle: row.next::<String>().as_deref().and_then(Lifecycle::parse),
        deleted_at: row.or_zero(),
        life_at: row.or_zero(),
        gone_id: row.next(),
        fields: BTreeMap::new(),
        whole: true,
        queue: Queue::Offer,
        background: false,
        write_id_back: false,
        link_changed: false,
        logs: Vec::new(),
        ends: Vec::new(),
        conflicts: Vec::new(),
        failures: Vec::new(),
        row_writes: BTreeMap::new(),
        delete_row: false,
        authors: BTreeMap::new(),
    })
}

/// A field's state, behind its link and field.
fn read_state(row: &mut Row, field: Rc<Field>) -> Entry {
    let state = FieldState {
        row: row.next::<String>().into(),
        edited_at: row.or_zero(),
        origin: if row.or_zero::<i8>() == b'h' as i8 {
            Side::Hubspot
        } else {
            Side::Warp
        },
        generation: row.or_zero(),
        dirty: row.or_zero(),
        base: {
            let (agreed, value) = (row.or_zero::<bool>(), row.next::<String>());
            agreed.then(|| value.into())
        },
        seen_at: row.or_zero(),
        own_at: row.or_zero(),
        in_flight: {
            let flying = row.or_zero::<bool>();
            let flight = InFlight {
                value: row.next::<String>().into(),
                edited_at: row.or_zero(),
                generation: row.or_zero(),
                edit: row.next(),
                after: row.or_zero(),
            };
            flying.then_some(flight)
        },
        pending_edit: row.next(),
        given_up: row.or_zero(),
        held: {
            let held = row.or_zero::<bool>();
            let found = Held {
                hubspot_value: row.next::<String>().into(),
                hubspot_at: row.or_zero(),
                buried: row.or_zero(),
            };
            held.then_some(found)
        },
        parked: row.or_zero(),
        form: {
            let formed = row.or_zero::<bool>();
            let form = (row.next::<String>().into(), row.next::<String>().into());
            formed.then_some(form)
        },
    };
    Entry {
        field,
        loaded_row: state.row.clone(),
        state,
        claim_generation: row.next(),
        conflict_id: row.next(),
        hubspot_value: row.next(),
        hubspot_changed_at: row.or_zero(),
        hubspot_read_at: row.or_zero(),
        synced_at: row.or_zero(),
        winner: row.next(),
        message: row.next(),
        changed: false,
        stored: true,
    }
}

/// Which fields' states a call needs.
pub enum Fields<'a> {
    /// All.
    All,
    /// Those with something to do, and these.
    AtWork(&'a [i64]),
}

impl Book {
    /// Locks and loads these links with all their fields' states. Links of mappings that are gone are left out.
    pub fn open(catalog: Catalog, ids: &[i64], now: i64) -> Book {
        Book::load(catalog, LOCK, ids, &Fields::All, now)
    }

    /// The same with fewer states, where a call has work for few fields of a record. A field that turns out to be needed is
    /// loaded then.
    pub fn open_for(catalog: Catalog, ids: &[i64], fields: &Fields, now: i64) -> Book {
        Book::load(catalog, LOCK, ids, fields, now)
    }

    /// The same without locks, for a look: what is loaded may change at any time and must not be stored.
    pub fn peek(catalog: Catalog, ids: &[i64], now: i64) -> Book {
        Book::load(catalog, LINKS, ids, &Fields::All, now)
    }

    fn load(catalog: Catalog, links: &str, ids: &[i64], fields: &Fields, now: i64) -> Book {
        let mut records = BTreeMap::new();
        if !ids.is_empty() {
            tuples::read_for(links, ids, |row| {
                if let Some(record) = read_link(row, &catalog) {
                    records.insert(record.link_id, record);
                }
            });
            let mut read = |row: &mut Row| {
                let (Some(link_id), Some(field_id)) = (row.next::<i64>(), row.next::<i32>()) else {
                    return;
                };
                if let (Some(record), Some(field)) = (records.get_mut(&link_id), catalog.field(field_id)) {
                    record.fields.insert(field_id, read_state(row, field.clone()));
                }
            };
            match fields {
                Fields::All => tuples::read_for(STATES, ids, read),
                Fields::AtWork(named) => {
                    tuples::read_for_both(STATES_AT_WORK, ids, named, &mut read);
                    for record in records.values_mut() {
                        record.whole = !record.is_plain();
                    }
                }
            }
        }
        Book { catalog, records, now }
    }
}

impl Record {
    /// As the condition of [`STATES_AT_WORK`] has it.
    fn is_plain(&self) -> bool {
        self.contacted && self.status == "linked" && self.lifecycle.is_none()
    }

    /// Loads the states that were left out.
    pub(super) fn load_rest(&mut self) {
        if std::mem::replace(&mut self.whole, true) {
            return;
        }
        let (fields, mapping) = (&mut self.fields, &self.mapping);
        tuples::read_for(STATES, &[self.link_id], |row| {
            let (_, Some(field_id)) = (row.next::<i64>(), row.next::<i32>()) else {
                return;
            };
            let field = mapping.fields.iter().find(|f| f.id == field_id);
            if let (Some(field), false) = (field, fields.contains_key(&field_id)) {
                fields.insert(field_id, read_state(row, field.clone()));
            }
        });
    }
}
