//! The account's records and every way they change.

use std::collections::{BTreeMap, HashMap};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::clock::Clock;
use super::config::{Behaviour, SimConfig};
use super::errors::{ApiError, ValueProblem};
use super::events::{Event, EventKind};
use super::oauth::Tokens;
use super::record::{Source, Stored, Version, View};
use super::schema::Schemas;
use super::values;

/// Properties of one write: name and value.
pub(crate) type Changes = Vec<(String, String)>;
/// Unique values that earlier rows of the same batch take.
pub(crate) type Claims = HashMap<(String, String), Option<u64>>;

/// Everything the account holds.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) schemas: Schemas,
    pub(crate) behaviour: Behaviour,
    pub(crate) tokens: Tokens,
    pub(crate) portal_id: u64,
    pub(crate) records: HashMap<String, BTreeMap<u64, Stored>>,
    pub(crate) aliases: HashMap<(String, u64), u64>,
    /// Records by type, unique property and value.
    pub(crate) unique: HashMap<(String, String), HashMap<String, u64>>,
    /// Events of the call that runs, not yet queued.
    pub(crate) events: Vec<Event>,
    pub(crate) next_id: u64,
    pub(crate) rng: StdRng,
}

impl Core {
    pub(crate) fn new(config: &SimConfig) -> Self {
        let clock = Clock::new(config.clock_offset_ms);
        Core {
            schemas: Schemas::new(config, clock.now()),
            clock,
            behaviour: config.behaviour.clone(),
            tokens: Tokens::new(config),
            portal_id: config.portal_id,
            records: HashMap::new(),
            aliases: HashMap::new(),
            unique: HashMap::new(),
            events: Vec::new(),
            next_id: 30_000_000_001,
            rng: StdRng::seed_from_u64(config.seed),
        }
    }

    pub(crate) fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        if self.behaviour.shuffle_results {
            list.shuffle(&mut self.rng);
        }
    }

    pub(crate) fn view(&self) -> View {
        View {
            portal_id: self.portal_id,
            ..View::default()
        }
    }

    pub(crate) fn record(&self, type_id: &str, id: u64) -> Option<&Stored> {
        self.records.get(type_id)?.get(&id)
    }

    fn record_mut(&mut self, type_id: &str, id: u64) -> Option<&mut Stored> {
        self.records.get_mut(type_id)?.get_mut(&id)
    }

    /// A record by its id or by the id of a record merged into it.
    pub(crate) fn follow(&self, type_id: &str, id: &str) -> Option<&Stored> {
        let mut id = id.parse::<u64>().ok()?;
        while let Some(next) = self.aliases.get(&(type_id.to_owned(), id)) {
            id = *next;
        }
        self.record(type_id, id)
    }

    /// A live record by its id, aliases not followed.
    pub(crate) fn exact(&self, type_id: &str, id: &str) -> Option<&Stored> {
        self.record(type_id, id.parse().ok()?)
            .filter(|record| record.archived_at.is_none())
    }

    /// A live record by the value of a unique property.
    pub(crate) fn by_unique(&self, type_id: &str, property: &str, value: &str) -> Option<&Stored> {
        let lowered = if property == "email" {
            value.to_lowercase()
        } else {
            value.to_owned()
        };
        let id = self
            .unique
            .get(&(type_id.to_owned(), property.to_owned()))?
            .get(&lowered)?;
        self.record(type_id, *id)
    }

    /// Checks the values of a write and puts them into the form that is stored.
    pub(crate) fn check_values(
        &self,
        type_id: &str,
        current: Option<&Stored>,
        wanted: &Changes,
    ) -> Result<Changes, ApiError> {
        let object_type = self.schemas.get(type_id)?;
        let mut accepted = Changes::new();
        let mut problems: Vec<ValueProblem> = Vec::new();
        for (name, value) in wanted {
            let now = current.map_or("", |record| record.value(name));
            match values::accept(object_type, &self.behaviour, name, value, now) {
                Ok(value) => accepted.push((name.clone(), value)),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(accepted)
        } else {
            Err(ApiError::invalid_values(&problems))
        }
    }

    /// Refuses a new company without a name and a domain.
    pub(crate) fn check_required(&self, type_id: &str, changes: &Changes) -> Result<(), ApiError> {
        let given = |name: &str| changes.iter().any(|(key, value)| key == name && !value.is_empty());
        if type_id != "0-2" || !self.behaviour.require_company_name || given("name") || given("domain") {
            return Ok(());
        }
        let message = "A company needs a value of name or domain";
        Err(ApiError::invalid_values(&[ValueProblem::new(
            "name",
            "MISSING_REQUIRED_PROPERTY",
            message,
        )]))
    }

    /// Refuses values that another record holds, or that an earlier row of the batch takes.
    pub(crate) fn check_unique(
        &self,
        type_id: &str,
        own: Option<u64>,
        changes: &Changes,
        claims: &mut Claims,
    ) -> Result<(), ApiError> {
        let object_type = self.schemas.get(type_id)?;
        for (name, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
            if !object_type.identifies(name) {
                continue;
            }
            let holder = self.by_unique(type_id, name, value).map(|record| record.id);
            let claim = claims.get(&(name.clone(), value.clone()));
            let claimed = claim.is_some_and(|claim| own.is_none() || *claim != own);
            if claimed || holder.is_some_and(|holder| Some(holder) != own) {
                return Err(taken(type_id, name, value, holder));
            }
        }
        for (name, value) in changes
            .iter()
            .filter(|(name, value)| !value.is_empty() && object_type.identifies(name))
        {
            claims.insert((name.clone(), value.clone()), own);
        }
        Ok(())
    }

    /// Makes a record of checked values.
    pub(crate) fn create(&mut self, type_id: &str, changes: &Changes, source: &Source, at: i64) -> u64 {
        let id = self.fresh_id();
        self.records
            .entry(type_id.to_owned())
            .or_default()
            .insert(id, Stored::new(id, at));
        self.emit(type_id, id, at, source, EventKind::Creation);
        self.write(type_id, id, changes, source, at);
        id
    }

    /// Writes checked values; unchanged ones leave no trace.
    pub(crate) fn write(&mut self, type_id: &str, id: u64, changes: &Changes, source: &Source, at: i64) {
        let always = self.behaviour.unchanged_creates_version;
        let Some(record) = self.record(type_id, id) else { return };
        let changed: Changes = changes
            .iter()
            .filter(|(name, value)| {
                let silent_clear = value.is_empty() && !record.history.contains_key(name);
                !silent_clear && (always || record.value(name) != value)
            })
            .cloned()
            .collect();
        for (name, value) in changed {
            self.index(type_id, id, &name, &value);
            if let Some(record) = self.record_mut(type_id, id) {
                record.updated_at = at;
                record.history.entry(name.clone()).or_default().push(Version {
                    value: value.clone(),
                    timestamp_ms: at,
                    source_type: source.kind.clone(),
                    source_id: source.id.clone(),
                });
            }
            self.emit(type_id, id, at, source, EventKind::PropertyChange { name, value });
        }
    }

    /// Moves the unique index from the record's present value to the next one.
    fn index(&mut self, type_id: &str, id: u64, name: &str, next: &str) {
        let unique = self
            .schemas
            .get(type_id)
            .is_ok_and(|object_type| object_type.identifies(name));
        if !unique {
            return;
        }
        let old = self
            .record(type_id, id)
            .map(|record| record.value(name).to_owned())
            .unwrap_or_default();
        let held = self.unique.entry((type_id.to_owned(), name.to_owned())).or_default();
        if held.get(&old) == Some(&id) {
            held.remove(&old);
        }
        if !next.is_empty() {
            held.insert(next.to_owned(), id);
        }
    }

    /// Frees (`keep` false) or takes again every unique value of a record.
    pub(crate) fn index_all(&mut self, type_id: &str, id: u64, keep: bool) {
        let Some(record) = self.record(type_id, id) else { return };
        let current: Changes = record
            .history
            .keys()
            .map(|name| (name.clone(), record.value(name).to_owned()))
            .collect();
        for (name, value) in current {
            self.index(type_id, id, &name, if keep { &value } else { "" });
        }
    }

    /// Deletes a record; an unknown or deleted one is left alone.
    pub(crate) fn archive(&mut self, type_id: &str, id: u64, source: &Source, at: i64) {
        if self
            .record(type_id, id)
            .is_none_or(|record| record.archived_at.is_some())
        {
            return;
        }
        self.index_all(type_id, id, false);
        if let Some(record) = self.record_mut(type_id, id) {
            record.archived_at = Some(at);
            record.updated_at = at;
        }
        self.emit(type_id, id, at, source, EventKind::Deletion);
    }

    /// Brings a deleted record back under its id.
    pub(crate) fn restore(&mut self, type_id: &str, id: u64, source: &Source, at: i64) -> Result<(), ApiError> {
        let record = self.record(type_id, id).filter(|record| record.archived_at.is_some());
        let Some(record) = record else {
            return Err(ApiError::not_found(format!("No deleted record {id} exists")));
        };
        let held: Changes = record
            .history
            .keys()
            .map(|name| (name.clone(), record.value(name).to_owned()))
            .collect();
        self.check_unique(type_id, Some(id), &held, &mut Claims::new())?;
        if let Some(record) = self.record_mut(type_id, id) {
            record.archived_at = None;
            record.updated_at = at;
        }
        self.index_all(type_id, id, true);
        self.emit(type_id, id, at, source, EventKind::Restore);
        Ok(())
    }

    pub(crate) fn emit(&mut self, type_id: &str, id: u64, at: i64, source: &Source, kind: EventKind) {
        let Ok(object_type) = self.schemas.get(type_id) else {
            return;
        };
        let singular = object_type.singular.clone();
        self.events.push(Event {
            type_id: type_id.to_owned(),
            singular,
            object_id: id,
            occurred_at: at,
            source: source.clone(),
            kind,
        });
    }
}

fn taken(type_id: &str, name: &str, value: &str, holder: Option<u64>) -> ApiError {
    let existing = holder.map_or_else(|| "in this batch".to_owned(), |id| id.to_string());
    if type_id == "0-1" && name == "email" {
        return ApiError::new(
            409,
            "CONFLICT",
            format!("Contact already exists. Existing ID: {existing}"),
        );
    }
    let message = format!("Record {existing} already has the value \"{value}\" for unique property \"{name}\"");
    ApiError::invalid_values(&[ValueProblem::new(name, "CONFLICTING_UNIQUE_VALUE", message)])
}
