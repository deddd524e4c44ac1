//! Housekeeping that needs rows: HubSpot ids that could not be written into their rows when they became known.

use super::now_us;
use crate::book::Book;
use crate::catalog::Catalog;
use crate::spi;
use serde_json::{Value as Json, json};

/// Tries to write the ids again, a page at a time; gives how many records were looked at.
pub fn write_ids() -> i64 {
    super::one_at_a_time();
    let ids: Vec<i64> = spi::rows(
        r#"SELECT json_agg(id)::text FROM (SELECT id FROM hubspot.link WHERE status = 'linked' AND NOT id_written
           ORDER BY id LIMIT ($1::json->>'max')::int) l"#,
        &json!({"max": 1000}),
    )
    .iter()
    .filter_map(Json::as_i64)
    .collect();
    let count = ids.len() as i64;
    let mut book = Book::open(Catalog::load(), &ids, now_us());
    for record in book.records.values_mut() {
        record.write_id_back = true;
    }
    book.write_ids();
    book.flush();
    count
}
