//! A row whose key changed: its record, and what is on record of it, go by the new key.

use crate::spi;
use serde_json::{Value as Json, json};

/// The record behind the old key, the record that has the new key now, and whether that one's row is gone. A record that
/// had to give its key to another row, and whose own change comes next, is found by the key it gave up.
const FIND: &str = r#"
SELECT json_build_object('entity_type', m.entity_type,
  'source', (SELECT json_build_array(l.id, l.entity_key) FROM hubspot.link l WHERE l.mapping_id = m.id
             AND l.entity_key IN ($1::json->>'old', ($1::json->>'old') || ($1::json->>'moving'))
             ORDER BY l.entity_key = $1::json->>'old' LIMIT 1),
  'occupant', (SELECT json_build_array(l.id, l.status = 'deleted_here') FROM hubspot.link l WHERE l.mapping_id = m.id
               AND l.entity_key = $1::json->>'new'))::text
FROM hubspot.object_mapping m WHERE m.id = ($1::json->>'mapping')::int"#;

/// One statement for all that names a record by its key.
const RENAME: &str = r#"
WITH v AS (SELECT $1::json->>'entity_type' AS entity_type, $1::json->>'from' AS old, $1::json->>'to' AS new),
log AS (UPDATE hubspot.sync_log t SET entity_key = v.new FROM v WHERE t.entity_type = v.entity_type AND t.entity_key = v.old),
conflicts AS (UPDATE hubspot.conflicts t SET entity_key = v.new FROM v WHERE t.entity_type = v.entity_type AND t.entity_key = v.old),
failures AS (UPDATE hubspot.failed_syncs t SET entity_key = v.new FROM v WHERE t.entity_type = v.entity_type AND t.entity_key = v.old)
UPDATE hubspot.link l SET entity_key = v.new FROM v WHERE l.id = ($1::json->>'link')::bigint"#;

const LOG: &str = r#"
INSERT INTO hubspot.sync_log (entity_type, entity_key, side, action, edited_at, actor, application_name, detail)
SELECT $1::json->>'entity_type', $1::json->>'key', 'WARP', 'key_changed', to_timestamp(($1::json->>'at_us')::bigint / 1e6),
  $1::json->>'actor', $1::json->>'app', 'was ' || ($1::json->>'old')"#;

/// Added to the key of a record whose row gives its key to another one in the same statement.
const MOVING: &str = " (key is changing)";

/// Takes a key change over. `who`: actor and application of the change.
pub fn rekey(mapping: i32, old: &str, new: &str, at_us: i64, who: (&Option<String>, &Option<String>)) {
    let found = spi::call(
        FIND,
        &json!({"mapping": mapping, "old": old, "new": new, "moving": MOVING}),
    );
    let (Some(link), Some(from)) = (found["source"][0].as_i64(), found["source"][1].as_str()) else {
        return;
    };
    let entity_type = &found["entity_type"];
    let rename = |link: i64, from: &str, to: &str| {
        let arg = json!({"entity_type": entity_type, "link": link, "from": from, "to": to});
        spi::run(RENAME, &arg);
    };
    if let Some(occupant) = found["occupant"][0].as_i64()
        && occupant != link
    {
        let elsewhere = match found["occupant"][1] {
            Json::Bool(true) => format!("{new} (deleted, link {occupant})"),
            _ => format!("{new}{MOVING}"),
        };
        rename(occupant, new, &elsewhere);
    }
    rename(link, from, new);
    spi::run(
        LOG,
        &json!({"entity_type": entity_type, "key": new, "old": old, "at_us": at_us, "actor": who.0, "app": who.1}),
    );
}
