//! A field becomes sensitive, or ceases to be: by importing its mapping again.
//!
//! Nobody writes the table meanwhile, and what was captured in the old form is taken over first. What is on record of a field
//! that becomes sensitive is hashed, locked or blanked. Hashes cannot be turned back: a field that ceases to be sensitive
//! is met anew, as one that was just mapped.

use super::{hide, key};
use crate::catalog::{Catalog, Field};
use crate::relay::{absorb_all, lock_event, one_at_a_time};
use crate::spi;
use hubspot_sync_core::value::Value;
use pgrx::pg_sys;
use serde_json::{Value as Json, json};

/// States or events that are turned in one go.
const PAGE: i64 = 5_000;

/// The columns of a state that hold values.
const VALUES: [&str; 6] = [
    "row_value",
    "base_value",
    "flight_value",
    "held_value",
    "form_sent",
    "form_returned",
];

const MAKE_KEY: &str = r#"
INSERT INTO hubspot.sensitive_key (key) SELECT encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex')
WHERE $1::text IS NOT NULL ON CONFLICT DO NOTHING"#;

const STATES: &str = r#"
SELECT json_agg(x.s)::text FROM (SELECT row_to_json(s) AS s FROM hubspot.sync_state s WHERE s.field_id = ($1::json->>'field')::int
  AND s.link_id > ($1::json->>'after')::bigint ORDER BY s.link_id LIMIT ($1::json->>'max')::int) x"#;

const TURN: &str = r#"
UPDATE hubspot.sync_state s SET row_value = v.row_value, base_value = v.base_value, flight_value = v.flight_value, held_value = v.held_value,
  form_sent = v.form_sent, form_returned = v.form_returned, hubspot_value = CASE WHEN s.hubspot_value IS NOT NULL THEN 'hidden' END
FROM json_to_recordset($1::json) AS v (link_id bigint, field_id int, row_value text, base_value text, flight_value text, held_value text,
  form_sent text, form_returned text) WHERE s.link_id = v.link_id AND s.field_id = v.field_id"#;

const HOLD: &str = r#"
INSERT INTO hubspot.sensitive_held (link_id, field_id, token, locked)
SELECT v.link_id, v.field_id, v.token, v.locked FROM json_to_recordset($1::json) AS v (link_id bigint, field_id int, token text, locked text)
ON CONFLICT (link_id, field_id) DO NOTHING"#;

/// What people could read of the field so far.
const BLANK: &str = r#"
WITH v AS (SELECT $1::json->>'entity_type' AS entity_type, $1::json->>'field' AS field),
log AS (UPDATE hubspot.sync_log t SET warp_value = CASE WHEN t.warp_value IS NOT NULL THEN 'hidden' END,
    hubspot_value = CASE WHEN t.hubspot_value IS NOT NULL THEN 'hidden' END,
    detail = CASE WHEN t.action IN ('failed', 'retry') THEN 'hidden' ELSE t.detail END
  FROM v WHERE t.entity_type = v.entity_type AND t.field = v.field),
conflicts AS (UPDATE hubspot.conflicts t SET warp_value = CASE WHEN t.warp_value IS NOT NULL THEN 'hidden' END,
    hubspot_value = CASE WHEN t.hubspot_value IS NOT NULL THEN 'hidden' END, base_value = CASE WHEN t.base_value IS NOT NULL THEN 'hidden' END
  FROM v WHERE t.entity_type = v.entity_type AND t.field = v.field),
-- HubSpot's and the table's words may quote values, also of other fields of the call.
failures AS (UPDATE hubspot.failed_syncs t SET value = CASE WHEN t.field = v.field AND t.value IS NOT NULL THEN 'hidden' WHEN t.field = v.field THEN NULL ELSE t.value END,
    message = 'hidden' FROM v WHERE t.entity_type = v.entity_type),
states AS (UPDATE hubspot.sync_state s SET message = 'hidden' FROM v, hubspot.object_mapping m, hubspot.field_mapping f
  WHERE m.entity_type = v.entity_type AND f.mapping_id = m.id AND s.field_id = f.id AND s.message IS NOT NULL AND f.field <> v.field),
links AS (UPDATE hubspot.link l SET message = 'hidden' FROM v, hubspot.object_mapping m
  WHERE m.entity_type = v.entity_type AND l.mapping_id = m.id AND l.message IS NOT NULL),
retries AS (UPDATE hubspot.sync_log t SET detail = 'hidden' FROM v WHERE t.entity_type = v.entity_type AND t.field IS DISTINCT FROM v.field
  AND t.action IN ('failed', 'retry'))
UPDATE hubspot.reconciliation_discrepancies t SET warp_value = CASE WHEN t.warp_value IS NOT NULL THEN 'hidden' END,
  hubspot_value = CASE WHEN t.hubspot_value IS NOT NULL THEN 'hidden' END
FROM v WHERE t.entity_type = v.entity_type AND t.field = v.field"#;

const EVENTS: &str = r#"
SELECT json_agg(x.e)::text FROM (SELECT json_build_object('id', e.id, 'event', e.event, 'done', e.status IN ('applied', 'skipped')) AS e
  FROM hubspot.webhook_events e WHERE e.event->>'propertyName' = $1::json->>'property' AND e.event ? 'propertyValue'
    AND e.id > ($1::json->>'after')::bigint ORDER BY e.id LIMIT ($1::json->>'max')::int) x"#;

const TURN_EVENTS: &str = r#"
UPDATE hubspot.webhook_events e SET event = v.event,
  identity = sha256(convert_to((v.event - 'attemptNumber' - 'subscriptionId' - 'lockedValue')::text, 'UTF8'))
FROM jsonb_to_recordset($1::jsonb) AS v (id bigint, event jsonb) WHERE e.id = v.id"#;

const OFF: &str = r#"
WITH v AS (SELECT e::int AS id FROM json_array_elements_text($1::json) e),
held AS (DELETE FROM hubspot.sensitive_held h USING v WHERE h.field_id = v.id),
conflicts AS (UPDATE hubspot.conflicts c SET status = 'resolved', resolved_at = clock_timestamp(), resolved_by = 'agreement',
  reason = 'the field is not sensitive any more: both sides are compared anew' FROM v WHERE c.field_id = v.id AND c.status = 'open')
DELETE FROM hubspot.sync_state s USING v WHERE s.field_id = v.id"#;

/// Fields that change sides with an import.
pub struct Switch {
    entity_type: String,
    /// Names of those that become sensitive.
    on: Vec<String>,
    /// Ids and names of those that cease to be.
    pub off: Vec<(i64, String)>,
}

/// Finds out what changes, before it does, and sees to it that nothing is captured meanwhile. `rows`: the fields to be.
pub fn prepare(entity_type: &str, table: pg_sys::Oid, rows: &[Json]) -> Switch {
    let is_to_be = |field: &Json| rows.iter().any(|r| r["field"] == *field && r["sensitive"] == true);
    if rows.iter().any(|r| r["sensitive"] == true) {
        spi::run(MAKE_KEY, &json!({}));
    }
    let known = spi::rows(
        r#"SELECT json_agg(json_build_array(f.id, f.field, f.sensitive))::text FROM hubspot.field_mapping f
           JOIN hubspot.object_mapping m ON m.id = f.mapping_id WHERE m.entity_type = $1::json->>'e'"#,
        &json!({"e": entity_type}),
    );
    let mapped = |field: &Json| rows.iter().any(|r| r["field"] == *field);
    let name = |row: &Json| row[1].as_str().unwrap_or_default().to_owned();
    let on: Vec<String> = known
        .iter()
        .filter(|k| k[2] == false && is_to_be(&k[1]))
        .map(name)
        .collect();
    let off: Vec<(i64, String)> = known
        .iter()
        .filter(|k| k[2] == true && mapped(&k[1]) && !is_to_be(&k[1]))
        .filter_map(|k| Some((k[0].as_i64()?, name(k))))
        .collect();
    if !on.is_empty() || !off.is_empty() {
        one_at_a_time();
        let lock = spi::call_text(
            r#"SELECT format('LOCK TABLE %I.%I IN SHARE ROW EXCLUSIVE MODE', n.nspname, c.relname)
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ($1::json->>'t')::oid"#,
            &json!({"t": table.to_u32().to_string()}),
        );
        if let Some(lock) = lock {
            spi::run_ddl(&lock);
        }
        absorb_all();
    }
    Switch {
        entity_type: entity_type.to_owned(),
        on,
        off,
    }
}

impl Switch {
    /// Turns what is on record, once the fields are what they are to be.
    pub fn carry_out(&self) {
        if !self.off.is_empty() {
            let ids: Vec<i64> = self.off.iter().map(|(id, _)| *id).collect();
            spi::run(OFF, &json!(ids));
        }
        if self.on.is_empty() {
            return;
        }
        let catalog = Catalog::load();
        let mapping = catalog.by_entity_type(&self.entity_type);
        for name in &self.on {
            spi::run(BLANK, &json!({"entity_type": self.entity_type, "field": name}));
            if let Some(field) = mapping.field(name) {
                states(field);
                events(&field.hubspot_property);
            }
        }
    }
}

fn states(field: &Field) {
    let mut after = 0;
    loop {
        // Each page's values are forgotten with the next.
        super::begin();
        let mut page = spi::rows(STATES, &json!({"field": field.id, "after": after, "max": PAGE}));
        let Some(last) = page.last().and_then(|state| state["link_id"].as_i64()) else {
            return;
        };
        after = last;
        let mut held = Vec::new();
        for state in &mut page {
            if let (true, Some(text)) = (state["held"] == true, state["held_value"].as_str()) {
                let link = state["link_id"].as_i64().unwrap_or_default();
                let token = hide(field, Value::text(text));
                held.push(json!({"link_id": link, "field_id": field.id, "token": token.as_deref(),
                                 "locked": key().lock(&super::held::place(link, field.id), text)}));
            }
            for column in VALUES {
                if let Some(text) = state[column].as_str() {
                    state[column] = json!(hide(field, Value::text(text)).as_deref());
                }
            }
        }
        spi::run(TURN, &Json::Array(page));
        spi::run(HOLD, &Json::Array(held));
    }
}

fn events(property: &str) {
    let mut after = 0;
    loop {
        let mut page = spi::rows(EVENTS, &json!({"property": property, "after": after, "max": PAGE}));
        let Some(last) = page.last().and_then(|event| event["id"].as_i64()) else {
            return;
        };
        after = last;
        for row in &mut page {
            let done = row["done"] == true;
            lock_event(&mut row["event"], property);
            if let (true, Some(event)) = (done, row["event"].as_object_mut()) {
                event.remove("lockedValue");
            }
        }
        spi::run(TURN_EVENTS, &Json::Array(page));
    }
}
