//! Intake: HubSpot's events are stored raw, each once, before they are acknowledged.

use crate::spi;
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
  SELECT sha256(convert_to((e - 'attemptNumber' - 'subscriptionId')::text, 'UTF8')),
    CASE WHEN forgotten THEN e - 'propertyValue' ELSE e END, object_type, object_id,
    CASE WHEN occurred ~ '^[0-9]{1,15}$' THEN occurred::bigint * 1000 ELSE 0 END,
    CASE WHEN forgotten THEN 'skipped' ELSE 'pending' END, CASE WHEN forgotten THEN 'forgotten' END,
    CASE WHEN forgotten THEN clock_timestamp() END
  FROM judged ON CONFLICT (identity) DO NOTHING RETURNING 1)
SELECT count(*)::text FROM stored"#;

/// See the contract.
pub fn receive(events: &Json) -> i64 {
    let list = match events {
        Json::Array(list) => Json::Array(list.iter().filter(|e| e.is_object()).cloned().collect()),
        Json::Object(_) => json!([events]),
        _ => crate::error::invalid(
            "argument events is neither an object nor an array of objects".into(),
            "pass the webhook's body as HubSpot sent it",
        ),
    };
    spi::call_text(STORE, &list).and_then(|n| n.parse().ok()).unwrap_or(0)
}
