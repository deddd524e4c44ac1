//! What the catalog says about the table to be mapped.

use crate::error::{forbidden, invalid, unknown};
use crate::spi;
use hubspot_sync_core::mapping::nearest;
use hubspot_sync_core::value::ValueKind;
use pgrx::pg_sys;
use serde::Deserialize;
use serde_json::json;

/// The table to be mapped.
#[derive(Deserialize)]
pub struct Table {
    oid: u32,
    /// Quoted, schema-qualified name.
    pub name: String,
    pub kind: String,
    /// Of one session alone.
    temporary: bool,
    owner: u32,
    pub columns: Vec<Column>,
    pub primary_key: Vec<String>,
    /// Columns with a unique index of their own.
    pub unique_columns: Vec<String>,
}

/// One of its columns.
#[derive(Deserialize)]
pub struct Column {
    pub name: String,
    /// Its attribute number.
    pub number: i64,
    /// Name of its type, of a domain's base type; `text` for an enum.
    pub type_name: String,
    /// Computed by the table: cannot be written.
    pub generated: bool,
}

const DESCRIBE: &str = r#"
SELECT json_build_object(
  'oid', c.oid::bigint, 'name', format('%I.%I', n.nspname, c.relname), 'kind', c.relkind::text, 'temporary', c.relpersistence = 't',
  'owner', c.relowner::bigint,
  'columns', (SELECT json_agg(json_build_object('name', a.attname, 'number', a.attnum, 'generated', a.attgenerated <> '' OR a.attidentity = 'a',
      'type_name', (WITH RECURSIVE b (oid) AS (SELECT a.atttypid UNION ALL SELECT t.typbasetype FROM b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd')
        SELECT CASE t.typtype WHEN 'e' THEN 'text' ELSE format_type(b.oid, NULL) END FROM b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype <> 'd')) ORDER BY a.attnum)
    FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'primary_key', coalesce((SELECT json_agg(a.attname ORDER BY k.ord) FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (num, ord)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num WHERE i.indrelid = c.oid AND i.indisprimary), '[]'),
  'unique_columns', coalesce((SELECT json_agg(a.attname ORDER BY i.indisprimary, a.attnum) FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL), '[]'))::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ($1::json->>'oid')::oid"#;

impl Table {
    /// The table as it is, whoever asks; none when there is no such table.
    pub fn load(oid: pg_sys::Oid) -> Option<Table> {
        let found = spi::call(DESCRIBE, &json!({"oid": oid.to_u32().to_string()}));
        serde_json::from_value(found).ok()
    }

    /// Its oid.
    pub fn oid(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.oid)
    }

    /// Describes the table; raises an error when it cannot be mapped or `caller` has no right to it.
    pub fn describe(oid: pg_sys::Oid, caller: pg_sys::Oid) -> Table {
        let Some(table) = Table::load(oid) else {
            unknown(
                "the source table does not exist".into(),
                "name an existing table, with its schema",
            );
        };
        if !matches!(table.kind.as_str(), "r" | "p") {
            invalid(
                format!("{} is neither a table nor a partitioned table", table.name),
                "map the table behind the view: a change can be captured only there",
            );
        }
        if table.temporary {
            invalid(
                format!("{} is a temporary table", table.name),
                "map a table that other sessions can read: the relay is one of them",
            );
        }
        if !spi::may_act_as(caller, pg_sys::Oid::from(table.owner)) {
            forbidden(
                format!("you may not map {}", table.name),
                "only its owner, a member of the owning role or a superuser may",
            );
        }
        table
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// `did you mean …`, or what columns there are.
    pub fn suggestion(&self, name: &str) -> String {
        match nearest(name, self.columns.iter().map(|c| c.name.as_str())) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!(
                "columns of {} are: {}",
                self.name,
                self.columns
                    .iter()
                    .map(|c| c.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
    }
}

impl Column {
    /// How the column's values compare; `None` for types that cannot be mapped whole.
    pub fn kind(&self) -> Option<ValueKind> {
        ValueKind::from_pg_type(&self.type_name)
    }

    /// A json or jsonb column.
    pub fn is_json(&self) -> bool {
        matches!(self.type_name.as_str(), "json" | "jsonb")
    }
}
