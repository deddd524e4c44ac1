//! Values that HubSpot refused because it lacked a property or an option: shown to the relay, which looks whether they are
//! there now.

use super::now_us;
use crate::catalog::Catalog;
use crate::{convert, spi};
use hubspot_sync_core::value::Value;
use serde_json::{Value as Json, json};

/// Most refusals looked at in one go.
const PAGE: i64 = 1_000;

/// Each refusal of a value is looked at again after as many minutes as it was refused times, an hour at most: what HubSpot
/// refuses again although the option is there must not go round in circles. The first look is at once.
const OPEN: &str = r#"
SELECT json_agg(json_build_array(f.id, f.field_id, s.row_value, m.hubspot_object, f.message) ORDER BY f.id)::text
FROM (SELECT * FROM hubspot.failed_syncs WHERE status = 'open' AND direction = 'outbound' AND kind = 'invalid'
        AND http_status IS NOT NULL AND field_id IS NOT NULL
        AND failed_at <= to_timestamp(($1::json->>'now')::bigint / 1e6) - least(attempts - 1, 60) * interval '1 minute'
      ORDER BY id LIMIT ($1::json->>'max')::int) f
JOIN hubspot.sync_state s ON s.link_id = f.link_id AND s.field_id = f.field_id AND s.parked
JOIN hubspot.field_mapping x ON x.id = f.field_id AND NOT x.sensitive JOIN hubspot.object_mapping m ON m.id = x.mapping_id AND m.enabled"#;

/// See the contract.
pub fn refusals() -> Json {
    let catalog = Catalog::load();
    let found = spi::rows(OPEN, &json!({"now": now_us(), "max": PAGE}));
    let refusals = found.iter().filter_map(|row| {
        let field = catalog.field(i32::try_from(row[1].as_i64()?).ok()?)?;
        let value: Value = serde_json::from_value(row[2].clone()).ok()?;
        Some(json!({
            "id": row[0], "object_type": row[3], "property": field.hubspot_property,
            "value": convert::to_hubspot(field, &value).ok()?, "message": row[4],
        }))
    });
    Json::Array(refusals.collect())
}
