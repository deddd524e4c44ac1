//! The mappings as the functions use them: loaded once a call, from the tables that `import_mapping` fills.

use crate::spi;
use hubspot_sync_core::field::Policy;
use hubspot_sync_core::mapping::{Direction, Strategy};
use hubspot_sync_core::value::ValueKind;
use pgrx::pg_sys;
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// One mapped field.
#[derive(Debug, Deserialize)]
pub struct Field {
    /// `field_mapping.id`.
    pub id: i32,
    /// Name people type, such as `address.city`.
    pub field: String,
    /// HubSpot property.
    pub hubspot_property: String,
    /// Column of the source table.
    pub column_name: String,
    /// The column's type (a domain's base type) without length or precision: values are cast to it, and the column itself
    /// checks their length, where a cast would cut them silently.
    pub column_type: String,
    /// Keys inside a jsonb column.
    pub path: Option<Vec<String>>,
    /// Which way values flow.
    pub sync_direction: Direction,
    /// Who wins; null only for NONE.
    pub conflict_resolution: Option<Strategy>,
    /// `real-time` or `batch`.
    pub update_frequency: String,
    /// Allowed values on either side.
    pub enum_values: Option<Vec<String>>,
    /// Name of the transform.
    pub transform: Option<String>,
    /// How values compare.
    pub kind: ValueKind,
    /// Hashes stand for its values.
    pub sensitive: bool,
    /// Quoted name and owner of the function that decides conflicts.
    pub policy_call: Option<String>,
    /// Its owner's oid.
    pub policy_owner: Option<u32>,
}

impl Field {
    /// The machine's view of the field.
    pub fn policy(&self, clock: Clock) -> Policy {
        Policy {
            direction: self.sync_direction,
            strategy: self.conflict_resolution.unwrap_or(Strategy::Manual),
            clock_offset: clock.offset,
            clock_uncertainty: clock.uncertainty,
        }
    }

    /// Whether a change of this field waits for the next incremental sync.
    pub fn is_batch(&self) -> bool {
        self.update_frequency == "batch"
    }
}

/// What is known of HubSpot's clock. Unit: microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// HubSpot's clock minus the database's.
    pub offset: i64,
    /// How far the offset may be off.
    pub uncertainty: i64,
}

/// One table paired with a HubSpot object type.
#[derive(Debug, Deserialize)]
pub struct Mapping {
    /// `object_mapping.id`.
    pub id: i32,
    /// What people call the pairing.
    pub entity_type: String,
    /// Oid of the source table.
    pub source_oid: u32,
    /// Oid of its owner; reads and writes of rows run as this role.
    pub owner_oid: u32,
    /// Schema-qualified, quoted name of the source table.
    pub source_name: String,
    /// HubSpot object type as its API names it.
    pub hubspot_object: String,
    /// Names and types of the key columns, in order.
    pub keys: Vec<KeyColumn>,
    /// Field that finds or creates the record.
    pub match_field: Option<String>,
    /// Unique property it is compared with.
    pub match_property: Option<String>,
    /// `create` or `ignore`.
    pub on_create: String,
    /// `keep` or `archive`.
    pub on_local_delete: String,
    /// `keep`, `delete` or `recreate`.
    pub on_hubspot_delete: String,
    /// When a row was last edited, for rows that were there before the mapping.
    pub updated_at_column: Option<String>,
    /// Capture and delivery are on.
    pub enabled: bool,
    /// When too much changes at once.
    pub brake: Option<Brake>,
    /// The brake has stopped what goes to HubSpot.
    pub braked: bool,
    /// The active fields.
    pub fields: Vec<Rc<Field>>,
}

/// The option `brake`.
#[derive(Debug, Deserialize)]
pub struct Brake {
    /// Most records of a window.
    pub records: Option<i64>,
    /// The same as a share of the linked records, in per cent.
    pub percent: Option<f64>,
    window_seconds: Option<i64>,
}

impl Brake {
    /// How long a window is. Unit: seconds.
    pub fn window(&self) -> i64 {
        self.window_seconds.unwrap_or(600)
    }
}

/// A key column.
#[derive(Debug, Deserialize)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// Its type as `format_type` prints it.
    pub type_name: String,
}

impl Mapping {
    /// The owner of the source table.
    pub fn owner(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.owner_oid)
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Rc<Field>> {
        self.fields.iter().find(|f| f.field == name)
    }

    /// Whether one of its fields is sensitive.
    pub fn is_sensitive(&self) -> bool {
        self.fields.iter().any(|f| f.sensitive)
    }

    /// The field that gives a property its value.
    pub fn by_property(&self, property: &str) -> Option<&Rc<Field>> {
        self.fields
            .iter()
            .find(|f| f.hubspot_property == property && f.sync_direction != Direction::None)
    }

    /// The tracking field that holds the HubSpot id in the row, if the mapping has one.
    pub fn id_field(&self) -> Option<&Rc<Field>> {
        self.fields
            .iter()
            .find(|f| f.sync_direction == Direction::None && f.hubspot_property == "hs_object_id")
    }

    /// The parts of an entity key, one per key column; `None` when it does not fit.
    pub fn key_parts(&self, entity_key: &str) -> Option<Vec<String>> {
        if self.keys.len() == 1 {
            return Some(vec![entity_key.to_owned()]);
        }
        serde_json::from_str::<Vec<String>>(entity_key)
            .ok()
            .filter(|parts| parts.len() == self.keys.len())
    }
}

/// All mappings, and what is known about the clocks.
pub struct Catalog {
    /// By id.
    pub mappings: BTreeMap<i32, Rc<Mapping>>,
    /// HubSpot's clock against the database's.
    pub clock: Clock,
    fields: HashMap<i32, Rc<Field>>,
}

const LOAD: &str = r#"
SELECT json_build_object(
  'clock', (SELECT json_build_array(clock_offset_us, clock_uncertainty_us) FROM hubspot.binding),
  'mappings', coalesce((SELECT json_agg(json_build_object(
    'id', m.id, 'entity_type', m.entity_type, 'source_oid', c.oid::bigint, 'owner_oid', c.relowner::bigint,
    'source_name', pg_catalog.format('%I.%I', n.nspname, c.relname),
    'hubspot_object', m.hubspot_object, 'match_field', m.match_field, 'match_property', m.match_property,
    'on_create', m.on_create, 'on_local_delete', m.on_local_delete, 'on_hubspot_delete', m.on_hubspot_delete, 'enabled', m.enabled, 'updated_at_column', m.updated_at_column,
    'brake', m.options->'brake', 'braked', m.braked_at IS NOT NULL,
    'keys', (SELECT json_agg(json_build_object('name', k.name, 'type_name', pg_catalog.format_type(a.atttypid, a.atttypmod)) ORDER BY k.ord)
             FROM unnest(m.key_columns) WITH ORDINALITY AS k (name, ord)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = k.name::name AND NOT a.attisdropped),
    'fields', coalesce((SELECT json_agg(to_jsonb(f) || jsonb_build_object('column_type',
                                 (WITH RECURSIVE b (oid) AS (SELECT a.atttypid UNION ALL SELECT t.typbasetype FROM b JOIN pg_catalog.pg_type t
                                   ON t.oid = b.oid WHERE t.typtype = 'd')
                                 SELECT pg_catalog.format_type(b.oid, -1) FROM b JOIN pg_catalog.pg_type t ON t.oid = b.oid WHERE t.typtype <> 'd'),
                                 'policy_call', (SELECT format('%I.%I', pn.nspname, p.proname) FROM pg_catalog.pg_proc p
                                   JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace WHERE p.oid = to_regprocedure(f.policy)),
                                 'policy_owner', (SELECT p.proowner::bigint FROM pg_catalog.pg_proc p WHERE p.oid = to_regprocedure(f.policy)
                                   AND pg_get_userbyid(p.proowner) = f.policy_role)) ORDER BY f.id)
                        FROM hubspot.field_mapping f
                        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = f.column_name::name AND NOT a.attisdropped
                        WHERE f.mapping_id = m.id AND f.active AND (f.path IS NULL OR hubspot.holds_json(a.atttypid))), '[]'::json)))
   FROM hubspot.object_mapping m
   JOIN pg_catalog.pg_class c ON c.oid = m.source_table
   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE NOT EXISTS (SELECT 1 FROM unnest(m.key_columns) AS k (name) WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attname = k.name::name AND NOT a.attisdropped))), '[]'::json))::text
WHERE $1::text IS NOT NULL"#;

impl Catalog {
    /// Loads every mapping whose table and key columns exist.
    pub fn load() -> Catalog {
        #[derive(Deserialize)]
        struct Loaded {
            clock: (i64, i64),
            mappings: Vec<Mapping>,
        }
        crate::sensitive::begin();
        let loaded = spi::call(LOAD, &json!({}));
        let loaded: Loaded = match serde_json::from_value(loaded) {
            Ok(loaded) => loaded,
            Err(e) => crate::error::raise(
                pgrx::PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                format!("hubspot_sync cannot read its own mappings: {e}"),
                "run hubspot.import_mapping again for each entity type",
            ),
        };
        let mappings: BTreeMap<i32, Rc<Mapping>> = loaded.mappings.into_iter().map(|m| (m.id, Rc::new(m))).collect();
        let fields = mappings
            .values()
            .flat_map(|m| m.fields.iter())
            .map(|f| (f.id, Rc::clone(f)))
            .collect();
        Catalog {
            mappings,
            clock: Clock {
                offset: loaded.clock.0,
                uncertainty: loaded.clock.1,
            },
            fields,
        }
    }

    /// The active field with that id.
    pub fn field(&self, id: i32) -> Option<&Rc<Field>> {
        self.fields.get(&id)
    }

    /// The mapping of that entity type; raises an error that names the known ones.
    pub fn by_entity_type(&self, entity_type: &str) -> &Rc<Mapping> {
        if let Some(m) = self.mappings.values().find(|m| m.entity_type == entity_type) {
            return m;
        }
        let known: Vec<&str> = self.mappings.values().map(|m| m.entity_type.as_str()).collect();
        crate::error::unknown(
            format!("there is no mapping for entity type \"{entity_type}\""),
            &format!("mapped are: {}; hubspot.import_mapping adds one", known.join(", ")),
        )
    }
}
