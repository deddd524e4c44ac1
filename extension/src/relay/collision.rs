//! Two rows that the same HubSpot record answers to: the first keeps it, the other is parked for a person.

use crate::book::Record;
use crate::spi;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

/// An id that HubSpot gave for a record that does not have it yet.
pub fn found(record: &Record, hubspot_id: &str) -> Json {
    json!({"link_id": record.link_id, "mapping_id": record.mapping.id, "hubspot_id": hubspot_id})
}

/// The records among `news` (see [`found`]) whose id belongs to another row already, or to an earlier one of them.
pub fn taken(news: &[Json]) -> BTreeSet<i64> {
    if news.is_empty() {
        return BTreeSet::new();
    }
    // A row that is gone does not keep its record from a row that took its place.
    spi::run(
        r#"UPDATE hubspot.link l SET hubspot_id = NULL, lifecycle = NULL FROM json_to_recordset($1::json) AS v (link_id bigint, mapping_id int, hubspot_id text)
           WHERE l.mapping_id = v.mapping_id AND l.hubspot_id = v.hubspot_id AND l.id <> v.link_id AND l.status = 'deleted_here'"#,
        &json!(news),
    );
    spi::rows(
        r#"SELECT json_agg(v.link_id)::text FROM (SELECT *, row_number() OVER (PARTITION BY mapping_id, hubspot_id ORDER BY link_id) AS n
             FROM json_to_recordset($1::json) AS v (link_id bigint, mapping_id int, hubspot_id text)) v
           WHERE v.n > 1 OR EXISTS (SELECT 1 FROM hubspot.link l WHERE l.mapping_id = v.mapping_id AND l.hubspot_id = v.hubspot_id AND l.id <> v.link_id)"#,
        &json!(news),
    )
    .iter()
    .filter_map(Json::as_i64)
    .collect()
}

/// Parks a record whose match value stands for another row's HubSpot record. `value`: the id, or the match value when
/// there is no id yet.
pub fn park(record: &mut Record, value: &str) {
    let message = "another row has the same match value, and HubSpot's record belongs to that row: give one of the two \
                   another match value, or delete one and call hubspot.retry_failed()";
    record.status = "parked".into();
    record.touch_link();
    record.fail(None, "outbound", "unlinked", message, json!({"value": value}));
}
