//! What a person does in HubSpot's pages, and what a test looks up.

use super::errors::ApiError;
use super::objects::not_found;
use super::record::{Record, Source, Version};
use super::store::{Changes, Claims, Core};
use super::{PropertyDef, PropertyOption, Simulator, lock};

type Result<T> = std::result::Result<T, ApiError>;

fn changes(properties: &[(&str, &str)]) -> Changes {
    properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

impl Simulator {
    /// Runs an edit and queues its events.
    pub(crate) fn edit<T>(&self, object_type: &str, run: impl FnOnce(&mut Core, &str) -> Result<T>) -> Result<T> {
        let mut core = lock(&self.inner.core);
        let type_id = core.schemas.resolve(object_type)?;
        let result = run(&mut core, &type_id);
        self.inner.publish(&mut core);
        result
    }

    fn look<T>(&self, object_type: &str, run: impl FnOnce(&Core, &str) -> T) -> Option<T> {
        let core = lock(&self.inner.core);
        let type_id = core.schemas.resolve(object_type).ok()?;
        Some(run(&core, &type_id))
    }

    /// A person sets a property; `""` clears it.
    pub fn ui_set(&self, object_type: &str, id: &str, property: &str, value: &str) -> Result<()> {
        self.ui_set_many(object_type, id, &[(property, value)])
    }

    /// A person sets several properties at once.
    pub fn ui_set_many(&self, object_type: &str, id: &str, properties: &[(&str, &str)]) -> Result<()> {
        self.set_as(object_type, id, properties, Source::person())
    }

    /// Another application sets several properties at once, with this source type and id.
    pub fn other_set(
        &self,
        object_type: &str,
        id: &str,
        properties: &[(&str, &str)],
        source_type: &str,
        source_id: &str,
    ) -> Result<()> {
        let source = Source {
            kind: source_type.to_owned(),
            id: source_id.to_owned(),
        };
        self.set_as(object_type, id, properties, source)
    }

    fn set_as(&self, object_type: &str, id: &str, properties: &[(&str, &str)], source: Source) -> Result<()> {
        self.edit(object_type, |core, type_id| {
            let record = core.follow(type_id, id).filter(|record| record.archived_at.is_none());
            let record = record.ok_or_else(|| not_found(id))?;
            let number = record.id;
            let accepted = core.check_values(type_id, Some(record), &changes(properties))?;
            core.check_unique(type_id, Some(number), &accepted, &mut Claims::new())?;
            let at = core.clock.tick();
            core.write(type_id, number, &accepted, &source, at);
            Ok(())
        })
    }

    /// A person makes a record; answers with its id.
    pub fn ui_create(&self, object_type: &str, properties: &[(&str, &str)]) -> Result<String> {
        self.edit(object_type, |core, type_id| {
            let accepted = core.check_values(type_id, None, &changes(properties))?;
            core.check_unique(type_id, None, &accepted, &mut Claims::new())?;
            let at = core.clock.tick();
            Ok(core.create(type_id, &accepted, &Source::person(), at).to_string())
        })
    }

    /// A person deletes a record.
    pub fn ui_delete(&self, object_type: &str, id: &str) -> Result<()> {
        self.edit(object_type, |core, type_id| {
            let number = core
                .exact(type_id, id)
                .map(|record| record.id)
                .ok_or_else(|| not_found(id))?;
            let at = core.clock.tick();
            core.archive(type_id, number, &Source::person(), at);
            Ok(())
        })
    }

    /// A person restores a deleted record.
    pub fn ui_restore(&self, object_type: &str, id: &str) -> Result<()> {
        self.edit(object_type, |core, type_id| {
            let number = id.parse().map_err(|_| not_found(id))?;
            let at = core.clock.tick();
            core.restore(type_id, number, &Source::person(), at)
        })
    }

    /// A person merges `other` into `primary`; answers with the id of the surviving record.
    pub fn ui_merge(&self, object_type: &str, primary: &str, other: &str) -> Result<String> {
        self.edit(object_type, |core, type_id| {
            let number = |id: &str| {
                core.exact(type_id, id)
                    .map(|record| record.id)
                    .ok_or_else(|| not_found(id))
            };
            let (primary, other) = (number(primary)?, number(other)?);
            core.merge(type_id, primary, other, &Source::person())
                .map(|id| id.to_string())
        })
    }

    /// A record by its id, deleted ones included; ids of merged records lead to the survivor.
    pub fn get(&self, object_type: &str, id: &str) -> Option<Record> {
        self.look(object_type, |core, type_id| {
            let definition = core.schemas.get(type_id).ok()?;
            core.follow(type_id, id).map(|record| record.to_record(definition))
        })?
    }

    /// Live records whose property has a value.
    pub fn find(&self, object_type: &str, property: &str, value: &str) -> Vec<Record> {
        let found = self.look(object_type, |core, type_id| {
            let Ok(definition) = core.schemas.get(type_id) else {
                return Vec::new();
            };
            let records = core
                .records
                .get(type_id)
                .into_iter()
                .flat_map(|records| records.values());
            records
                .filter(|record| record.archived_at.is_none() && record.read(definition, property, None) == value)
                .map(|record| record.to_record(definition))
                .collect()
        });
        found.unwrap_or_default()
    }

    /// All records in the order of their ids, deleted ones included.
    pub fn records(&self, object_type: &str) -> Vec<Record> {
        let found = self.look(object_type, |core, type_id| {
            let Ok(definition) = core.schemas.get(type_id) else {
                return Vec::new();
            };
            let records = core
                .records
                .get(type_id)
                .into_iter()
                .flat_map(|records| records.values());
            records.map(|record| record.to_record(definition)).collect()
        });
        found.unwrap_or_default()
    }

    /// Versions of a property, newest first.
    pub fn history(&self, object_type: &str, id: &str, property: &str) -> Vec<Version> {
        let found = self.look(object_type, |core, type_id| {
            let definition = core.schemas.get(type_id).ok()?;
            core.follow(type_id, id)
                .map(|record| record.versions(definition, property))
        });
        found.flatten().unwrap_or_default()
    }

    /// Adds or replaces a property.
    pub fn define_property(&self, object_type: &str, mut definition: PropertyDef) -> Result<()> {
        self.edit(object_type, |core, type_id| {
            let now = core.clock.now();
            (definition.created_at, definition.updated_at) = (now, now);
            core.schemas.get_mut(type_id)?.add(definition);
            Ok(())
        })
    }

    /// The definition of a property.
    pub fn property(&self, object_type: &str, name: &str) -> Option<PropertyDef> {
        let found = self.look(object_type, |core, type_id| {
            core.schemas.get(type_id).ok()?.property(name).cloned()
        });
        found.flatten()
    }

    /// Changes a property's definition.
    pub fn change_property(&self, object_type: &str, name: &str, change: impl FnOnce(&mut PropertyDef)) -> Result<()> {
        self.edit(object_type, |core, type_id| {
            let now = core.clock.now();
            let known = core.schemas.get_mut(type_id)?.properties.get_mut(name);
            let known = known.ok_or_else(|| ApiError::not_found(format!("Property {name} does not exist")))?;
            change(known);
            known.updated_at = now;
            Ok(())
        })
    }

    /// Adds an option to an enumeration.
    pub fn add_option(&self, object_type: &str, name: &str, value: &str) -> Result<()> {
        self.change_property(object_type, name, |known| {
            let display_order = i64::try_from(known.options.len()).unwrap_or(0);
            known.options.push(PropertyOption {
                label: value.to_owned(),
                value: value.to_owned(),
                display_order,
                hidden: false,
                description: String::new(),
            });
        })
    }

    /// Removes an option from an enumeration.
    pub fn remove_option(&self, object_type: &str, name: &str, value: &str) -> Result<()> {
        self.change_property(object_type, name, |known| {
            known.options.retain(|option| option.value != value)
        })
    }

    /// Deletes a property.
    pub fn remove_property(&self, object_type: &str, name: &str) -> Result<()> {
        self.change_property(object_type, name, |known| known.archived = true)
    }
}
