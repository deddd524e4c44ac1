//! Intake: HubSpot's events are stored raw, each once, before they are acknowledged.

use crate::{sensitive, spi};
use serde_json::{Value as Json, json};

/// The identity is the digest of the whole event without what changes from one delivery attempt to the next.
const STORE: &str = r#"
WITH events AS (
  SELECT e, coalesce(e->>'objectId', e->>'fromObjectId') AS object_id, e->>'occurredAt' AS occurred,
    CASE split_part(e->>'subscriptionType', '.', 1)
      WHEN 'company' THEN 'companies' WHEN 'contact' THEN 'contacts' WHEN 'deal' THEN 'deals' WHEN 'ticket' THEN 'tickets'
      WHEN 'product' THEN 'products' WHEN 'line_item' THEN 'line_items'
      WHEN 'object' THEN CASE e->>'objectTypeId' WHEN '0-1' THEN 'contacts' WHEN '0-2' THEN 'companies' WHEN '0-3' THEN 'deals'
        WHEN '0-5' THEN 'tickets' WHEN '0-7' THEN 'products' WHEN '0-8' THEN 'line_items' ELSE e->>'objectTypeId' END
    END AS object_type
  FROM jsonb_array_elements($1::jsonb) AS e),
judged AS (
  -- Of a record that was forgotten, and that no row has got again, no value is stored.
  SELECT *, EXISTS (SELECT 1 FROM hubspot.forgotten f WHERE f.hubspot_object = v.object_type AND f.hubspot_ids @> ARRAY[v.object_id])
    AND NOT EXISTS (SELECT 1 FROM hubspot.link l JOIN hubspot.object_mapping m ON m.id = l.mapping_id
                    WHERE m.hubspot_object = v.object_type AND l.hubspot_id = v.object_id) AS forgotten
  FROM events v),
stored AS (
  INSERT INTO hubspot.webhook_events (identity, event, hubspot_object, hubspot_id, occurred_at, status, detail, processed_at)
  SELECT sha256(convert_to((e - 'attemptNumber' - 'subscriptionId' - 'lockedValue')::text, 'UTF8')),
    CASE WHEN forgotten THEN e - '{propertyValue,lockedValue,valueHash}'::text[] ELSE e END, object_type, object_id,
    CASE WHEN occurred ~ '^[0-9]{1,15}$' THEN occurred::bigint * 1000 ELSE 0 END,
    CASE WHEN forgotten THEN 'skipped' ELSE 'pending' END, CASE WHEN forgotten THEN 'forgotten' END,
    CASE WHEN forgotten THEN clock_timestamp() END
  FROM judged ON CONFLICT (identity) DO NOTHING RETURNING 1)
SELECT count(*)::text FROM stored"#;

/// See the contract.
pub fn receive(events: &Json) -> i64 {
    let mut list: Vec<Json> = match events {
        Json::Array(list) => list.iter().filter(|e| e.is_object()).cloned().collect(),
        Json::Object(_) => vec![events.clone()],
        _ => crate::error::invalid(
            "argument events is neither an object nor an array of objects".into(),
            "pass the webhook's body as HubSpot sent it",
        ),
    };
    lock_sensitive(&mut list);
    spi::call_text(STORE, &Json::Array(list))
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// Values of sensitive properties are stored locked, until they are applied. A keyed hash takes their place in what
/// identifies the event.
fn lock_sensitive(events: &mut [Json]) {
    sensitive::begin();
    let properties = spi::rows(
        "SELECT json_agg(DISTINCT hubspot_property)::text FROM hubspot.field_mapping WHERE sensitive AND active AND $1::text IS NOT NULL",
        &json!({}),
    );
    if properties.is_empty() {
        return;
    }
    for event in events.iter_mut() {
        let named = event["propertyName"].as_str().map(str::to_owned);
        if let Some(property) = named.filter(|name| properties.iter().any(|p| p == name)) {
            lock_event(event, &property);
        }
    }
}

/// Locks the value of an event about a property.
pub fn lock_event(event: &mut Json, property: &str) {
    let Some(event) = event.as_object_mut() else { return };
    let Some(value) = event.remove("propertyValue") else {
        return;
    };
    let text = match &value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    };
    let key = sensitive::key();
    let hash = key.short(&format!("event {property}"), &text, 32);
    event.insert("valueHash".into(), json!(hash));
    event.insert("lockedValue".into(), json!(key.lock(&place(property), &text)));
}

/// What a locked value belongs to.
fn place(property: &str) -> String {
    format!("event {property}")
}

/// Puts a locked value back into an event that was read; false when it cannot be opened.
pub fn unlock(event: &mut Json) -> bool {
    let Some(locked) = event.get("lockedValue").and_then(Json::as_str) else {
        return event.get("valueHash").is_none();
    };
    let property = event["propertyName"].as_str().unwrap_or_default();
    let Some(text) = sensitive::key().open(&place(property), locked) else {
        return false;
    };
    event["propertyValue"] = json!(text);
    true
}
