//! Merging two records into one, and erasing a contact.

use super::errors::ApiError;
use super::events::EventKind;
use super::record::{Source, Stored, Version};
use super::store::Core;

const MERGED: &str = "hs_merged_object_ids";

impl Core {
    /// Merges `other` into `primary`; answers with the id of the surviving record.
    pub(crate) fn merge(&mut self, type_id: &str, primary: u64, other: u64, source: &Source) -> Result<u64, ApiError> {
        if primary == other {
            return Err(ApiError::validation("A record cannot be merged with itself"));
        }
        let live = |id: u64| {
            let record = self.record(type_id, id).filter(|record| record.archived_at.is_none());
            record
                .cloned()
                .ok_or_else(|| ApiError::not_found(format!("Object not found. objectId: {id}")))
        };
        let (first, second) = (live(primary)?, live(other)?);
        let at = self.clock.tick();
        let id = if self.behaviour.merge_keeps_primary {
            primary
        } else {
            self.fresh_id()
        };
        let (survivor, moved) = combine(id, &first, &second, source, at)?;
        self.index_all(type_id, primary, false);
        self.index_all(type_id, other, false);
        let gone: Vec<u64> = [primary, other].into_iter().filter(|old| *old != id).collect();
        let records = self.records.entry(type_id.to_owned()).or_default();
        for old in &gone {
            records.remove(old);
        }
        records.insert(id, survivor);
        for old in &gone {
            self.aliases.insert((type_id.to_owned(), *old), id);
        }
        self.index_all(type_id, id, true);
        let kind = EventKind::Merge {
            primary,
            merged: vec![other],
            new_id: id,
            moved,
        };
        self.emit(type_id, id, at, source, kind);
        for old in gone {
            self.emit(type_id, old, at, source, EventKind::Deletion);
        }
        Ok(id)
    }

    /// Erases a contact for good.
    pub(crate) fn erase(&mut self, type_id: &str, id: u64, source: &Source) {
        let at = self.clock.tick();
        self.index_all(type_id, id, false);
        let known = self.records.get_mut(type_id).and_then(|records| records.remove(&id));
        if known.is_some() {
            self.emit(type_id, id, at, source, EventKind::PrivacyDeletion);
            self.emit(type_id, id, at, source, EventKind::Deletion);
        }
    }
}

/// The surviving record and the number of values that came from the second one.
fn combine(id: u64, first: &Stored, second: &Stored, source: &Source, at: i64) -> Result<(Stored, usize), ApiError> {
    let mut survivor = first.clone();
    survivor.id = id;
    survivor.created_at = first.created_at.min(second.created_at);
    survivor.updated_at = at;
    let mut moved = 0;
    for (name, versions) in &second.history {
        if name != MERGED && first.value(name).is_empty() && !second.value(name).is_empty() {
            survivor.history.insert(name.clone(), versions.clone());
            moved += 1;
        }
    }
    let mut identities: Vec<String> = Vec::new();
    for record in [first, second] {
        identities.extend(
            record
                .value(MERGED)
                .split(';')
                .filter(|part| !part.is_empty())
                .map(str::to_owned),
        );
        if record.id != id {
            identities.push(record.id.to_string());
        }
    }
    if identities.len() > 250 {
        let message = "Cannot have more than 250 identities on a profile";
        return Err(ApiError::new(414, "VALIDATION_ERROR", message));
    }
    survivor.history.entry(MERGED.to_owned()).or_default().push(Version {
        value: identities.join(";"),
        timestamp_ms: at,
        source_type: source.kind.clone(),
        source_id: source.id.clone(),
    });
    Ok((survivor, moved))
}
