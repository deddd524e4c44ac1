//! Privacy deletion: a record's values go from every table of the extension, and a proof without values stays.
//!
//! What comes late finds nothing: an answer's claim is gone with the record, an event of the HubSpot record is stored without
//! its value, a change of the row is dropped when it is taken over.

use crate::book::read_rows;
use crate::catalog::Catalog;
use crate::error::unknown;
use crate::relay::absorb_all;
use crate::spi;
use pgrx::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::HashMap;

#[pg_extern(sql = r#"
CREATE FUNCTION hubspot.forget(entity_type text, entity_key text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn forget(entity_type: &str, entity_key: &str) -> i64 {
    absorb_all();
    let catalog = Catalog::load();
    let mapping = catalog.by_entity_type(entity_type);
    let link = spi::call_text(
        "SELECT id::text FROM hubspot.link WHERE mapping_id = ($1::json->>'m')::int AND entity_key = $1::json->>'k' FOR UPDATE",
        &json!({"m": mapping.id, "k": entity_key}),
    );
    let Some(link) = link.and_then(|id| id.parse().ok()) else {
        unknown(
            format!("nothing is known of a row of {entity_type} with that key"),
            "name the key as hubspot.link shows it; several key columns are a JSON array of texts",
        );
    };
    let exists = read_rows(mapping, &[entity_key], &[], false).contains_key(entity_key);
    let by = crate::conflict::caller();
    scrub(link, &by, if exists { "kept" } else { "absent" }).unwrap_or(0)
}

/// Scrubs a record; gives the proof's id, none when there is no such record.
pub fn scrub(link: i64, by: &str, table_row: &str) -> Option<i64> {
    spi::call_text(
        "SELECT hubspot.scrub(($1::json->>'link')::bigint, $1::json->>'by', $1::json->>'row')::text",
        &json!({"link": link, "by": by, "row": table_row}),
    )?
    .parse()
    .ok()
}

/// The keys of a page of captured changes whose records were forgotten.
pub struct Ignored(HashMap<(i32, String), Proof>);

#[derive(Clone, Copy)]
struct Proof {
    id: i64,
    at_us: i64,
}

impl Ignored {
    /// Looks the keys up; a database where nothing was forgotten pays one look at an empty index.
    pub fn among<'a>(keys: impl Iterator<Item = (i32, &'a str)>) -> Ignored {
        let any = "SELECT 'yes' FROM hubspot.forgotten WHERE ignoring AND $1::text IS NOT NULL LIMIT 1";
        if spi::call_text(any, &Json::Null).is_none() {
            return Ignored(HashMap::new());
        }
        let asked: Vec<Json> = keys.map(|(mapping, key)| json!({"m": mapping, "k": key})).collect();
        let found = spi::rows(
            r#"SELECT json_agg(json_build_array(v.m, v.k, f.id, (extract(epoch FROM f.forgotten_at) * 1000000)::bigint))::text
               FROM (SELECT DISTINCT m, k FROM json_to_recordset($1::json) AS v (m int, k text)) v
               JOIN hubspot.object_mapping o ON o.id = v.m
               JOIN hubspot.forgotten f ON f.ignoring AND f.entity_type = o.entity_type AND f.key_digest = sha256(convert_to(v.k, 'UTF8'))"#,
            &Json::Array(asked),
        );
        let known = found.iter().filter_map(|row| {
            let mapping = i32::try_from(row[0].as_i64()?).ok()?;
            let proof = Proof {
                id: row[2].as_i64()?,
                at_us: row[3].as_i64()?,
            };
            Some(((mapping, row[1].as_str()?.to_owned()), proof))
        });
        Ignored(known.collect())
    }

    /// Whether a change is about a forgotten record. A row that is deleted ends that; one that is inserted afterwards is
    /// another record; one whose key changes stays forgotten under the new key.
    pub fn drops(&mut self, mapping: i32, op: &str, key: Option<&str>, old_key: Option<&str>, at_us: i64) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let place = |key: &str| (mapping, key.to_owned());
        if op == "K"
            && let (Some(old), Some(new)) = (old_key, key)
            && let Some(proof) = self.0.remove(&place(old))
        {
            spi::run(
                "UPDATE hubspot.forgotten SET key_digest = sha256(convert_to($1::json->>'k', 'UTF8')) WHERE id = ($1::json->>'id')::bigint",
                &json!({"id": proof.id, "k": new}),
            );
            self.0.insert(place(new), proof);
            return true;
        }
        let Some(place) = key.map(place) else { return false };
        let Some(proof) = self.0.get(&place).copied() else {
            return false;
        };
        let anew = op == "I" && at_us > proof.at_us;
        if anew || op == "D" {
            self.0.remove(&place);
            spi::run(
                "UPDATE hubspot.forgotten SET ignoring = false WHERE id = ($1::json->>'id')::bigint",
                &json!({"id": proof.id}),
            );
        }
        !anew
    }
}
