//! Claiming: the records with the longest wait get a lease and a fencing token, and the relay is told what to read, or what
//! to send where nothing has to be read.

use super::decide::{self, Next};
use super::{absorb, may_work, now_us};
use crate::book::{Book, Fields, Lifecycle, Queue, Record, read_rows};
use crate::catalog::{Catalog, Clock, Field, Mapping};
use crate::spi;
use hubspot_sync_core::field::Read;
use hubspot_sync_core::mapping::Direction;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Expired leases first, then due records, real-time ones before batch ones, each in the order in which they fell due.
///
/// Each kind is one stretch of an index, from its mark (`hubspot.queue_mark`) on: neither what cannot be claimed yet nor
/// what was delivered and not vacuumed is stepped over. The clock is read in a subquery, once, because a volatile
/// function in the condition could not bound an index scan. Nobody else claims or queues meanwhile: [`one_at_a_time`].
///
/// A kind that gave less than was left to claim has nothing more before this instant: its mark moves here. Else it moves to
/// the last record that was claimed.
///
/// [`one_at_a_time`]: super::one_at_a_time
const CLAIM: &str = r#"
WITH now AS MATERIALIZED (SELECT clock_timestamp() AS at, ($1::json->>'max')::int AS max),
picked AS MATERIALIZED (
  SELECT * FROM (
    (SELECT 2 AS kind, link_id, lease_expires_at AS at FROM hubspot.queue WHERE claimed_by IS NOT NULL
     AND lease_expires_at >= (SELECT from_at FROM hubspot.queue_mark WHERE kind = 2) AND lease_expires_at < (SELECT at FROM now)
     ORDER BY lease_expires_at LIMIT (SELECT max FROM now))
    UNION ALL
    (SELECT 0, link_id, due_at FROM hubspot.queue WHERE claimed_by IS NULL AND priority = 0
     AND due_at >= (SELECT from_at FROM hubspot.queue_mark WHERE kind = 0) AND due_at <= (SELECT at FROM now)
     ORDER BY due_at LIMIT (SELECT max FROM now))
    UNION ALL
    (SELECT 1, link_id, due_at FROM hubspot.queue WHERE claimed_by IS NULL AND priority = 1
     AND due_at >= (SELECT from_at FROM hubspot.queue_mark WHERE kind = 1) AND due_at <= (SELECT at FROM now)
     ORDER BY due_at LIMIT (SELECT max FROM now))) x
  LIMIT (SELECT max FROM now)),
claimed AS (
  UPDATE hubspot.queue q SET claimed_by = $1::json->>'relay', token = nextval('hubspot.claim_token_seq'), attempts = q.attempts + 1,
    lease_expires_at = clock_timestamp() + ($1::json->>'lease_ms')::bigint * interval '1 millisecond'
  -- As an array: a join might be planned while the queue is empty, and read all of it for each record later.
  WHERE q.link_id = ANY (ARRAY(SELECT link_id FROM picked)) RETURNING q.link_id, q.token, q.attempts),
found AS (
  SELECT k.kind, max(p.at) AS last,
    -- Kinds in the order in which they are picked.
    (SELECT count(*) FROM picked o WHERE array_position('{2,0,1}', o.kind) <= array_position('{2,0,1}', k.kind)) < (SELECT max FROM now) AS all
  FROM (VALUES (0), (1), (2)) AS k (kind) LEFT JOIN picked p ON p.kind = k.kind GROUP BY k.kind),
raised AS (
  UPDATE hubspot.queue_mark m SET from_at = CASE WHEN f.all THEN (SELECT at FROM now) ELSE f.last END
  FROM found f WHERE m.kind = f.kind AND m.from_at < CASE WHEN f.all THEN (SELECT at FROM now) ELSE f.last END
    -- A snapshot older than the lock could miss records.
    AND current_setting('transaction_isolation') = 'read committed')
SELECT json_agg(json_build_array(link_id, token, attempts))::text FROM claimed"#;

const NEXT: &str = r#"
WITH first (kind, at) AS MATERIALIZED (
  (SELECT 2, lease_expires_at FROM hubspot.queue WHERE claimed_by IS NOT NULL
   AND lease_expires_at >= (SELECT from_at FROM hubspot.queue_mark WHERE kind = 2) ORDER BY lease_expires_at LIMIT 1)
  UNION ALL
  (SELECT 0, due_at FROM hubspot.queue WHERE claimed_by IS NULL AND priority = 0
   AND due_at >= (SELECT from_at FROM hubspot.queue_mark WHERE kind = 0) ORDER BY due_at LIMIT 1)
  UNION ALL
  (SELECT 1, due_at FROM hubspot.queue WHERE claimed_by IS NULL AND priority = 1
   AND due_at >= (SELECT from_at FROM hubspot.queue_mark WHERE kind = 1) ORDER BY due_at LIMIT 1))
SELECT json_build_object(
  'more', ($1::json->>'captured')::boolean OR EXISTS (SELECT 1 FROM first WHERE kind <> 2 AND at <= clock_timestamp()),
  'next_due_ms', (SELECT greatest(0, ceil(extract(epoch FROM min(at) - clock_timestamp()) * 1000))::bigint FROM first))::text
WHERE $1::text IS NOT NULL"#;

/// See the contract.
pub fn claim(relay_id: &str, max_records: i32, lease_ms: i32, cache_ttl_ms: i32) -> Json {
    if !may_work() {
        return json!({"claims": [], "more": false, "next_due_ms": null});
    }
    let full_page = absorb(super::absorb::PAGE) >= super::absorb::PAGE;
    let max = max_records.clamp(1, 10_000);
    let claimed: BTreeMap<i64, (i64, i64)> = spi::rows(
        CLAIM,
        &json!({"relay": relay_id, "max": max, "lease_ms": lease_ms.max(1000)}),
    )
    .iter()
    .filter_map(|row| Some((row[0].as_i64()?, (row[1].as_i64()?, row[2].as_i64()?))))
    .collect();
    let claims = match spi::subtransaction(|| hand_out(&claimed, cache_ttl_ms, true)) {
        Ok(claims) => claims,
        // What is recorded of one record is refused: the relay finds out which by deciding fewer at a time.
        Err(_) => hand_out(&claimed, cache_ttl_ms, false),
    };
    let next = spi::call(NEXT, &json!({"captured": full_page}));
    json!({"claims": claims, "more": next["more"], "next_due_ms": next["next_due_ms"]})
}

/// The claims of these records, each with its fencing token and attempt. With `decide`, what needs no read is decided at once.
fn hand_out(claimed: &BTreeMap<i64, (i64, i64)>, cache_ttl_ms: i32, decide: bool) -> Vec<Json> {
    let ids: Vec<i64> = claimed.keys().copied().collect();
    let mut book = Book::open_for(Catalog::load(), &ids, &Fields::AtWork(&[]), now_us());
    identify(&mut book);
    decide::show_rows(&book);
    let mut claims = Vec::new();
    let (clock, now) = (book.catalog.clock, book.now);
    for record in book.records.values_mut() {
        record.queue = Queue::Keep;
        if !record.mapping.enabled {
            record.queue = Queue::Retry {
                delay_ms: 60_000,
                spent: false,
            };
            continue;
        }
        if record.mapping.braked {
            record.queue = Queue::Hold;
            continue;
        }
        if !record.needs_delivery() {
            record.queue = Queue::Finish;
            continue;
        }
        let Some((token, attempt)) = claimed.get(&record.link_id) else {
            continue;
        };
        if record.row_is_gone() {
            claims.push(super::archive::claim(record, *token, *attempt));
            continue;
        }
        let fresh_since = now - i64::from(cache_ttl_ms) * 1000;
        match what_to_read(record, fresh_since) {
            // Nothing to look at: what is to be sent can be said at once.
            Read::Nothing if decide => match decide::unread(record, *token, clock, now) {
                Next::Write(write) => claims.push(decided(record, *token, *attempt, write)),
                Next::Read(read) => claims.push(numbered(record, *token, *attempt, read)),
                Next::Settled => record.queue = Queue::Finish,
            },
            read => claims.push(numbered(record, *token, *attempt, read)),
        }
    }
    book.flush();
    claims
}

/// Finds out, for records not linked yet, the HubSpot id their row holds or the value that identifies them.
fn identify(book: &mut Book) {
    let mut by_mapping: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for record in book
        .records
        .values()
        .filter(|r| r.hubspot_id.is_none() && r.status == "new")
    {
        by_mapping.entry(record.mapping.id).or_default().push(record.link_id);
    }
    for (mapping_id, links) in by_mapping {
        let Some(mapping) = book.catalog.mappings.get(&mapping_id).cloned() else {
            continue;
        };
        let Some(id_field) = mapping.id_field().cloned() else {
            continue;
        };
        let keys: Vec<String> = links
            .iter()
            .filter_map(|id| book.records.get(id))
            .map(|r| r.key.clone())
            .collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let rows = read_rows(&mapping, &keys, std::slice::from_ref(&id_field), false);
        let held: Vec<(i64, String)> = links
            .iter()
            .filter_map(|id| {
                let text = rows.get(&book.records.get(id)?.key)?.get(&id_field.id)?.clone()?;
                let gone = book.records.get(id)?.gone_id.as_deref() == Some(text.as_str());
                (!text.is_empty() && !gone).then_some((*id, text))
            })
            .collect();
        for (link_id, hubspot_id) in unclaimed(mapping_id, held) {
            if let Some(record) = book.records.get_mut(&link_id) {
                record.hubspot_id = Some(hubspot_id.clone());
                record.status = "linked".into();
                record.touch_link();
                record.log(
                    None,
                    "SYNC",
                    "linked",
                    json!({"detail": "by the id the row holds", "hubspot_value": hubspot_id}),
                );
            }
        }
    }
    for record in book.records.values_mut().filter(|r| r.status == "new") {
        let problem = match (&record.mapping.match_field, match_value(record)) {
            (None, _) => "no match option: the mapping does not say which unique property finds the record",
            (Some(_), None) => "the match field is null: the record can neither be found nor created",
            _ => continue,
        };
        record.status = "parked".into();
        record.touch_link();
        record.fail(None, "outbound", "unlinked", problem, json!({}));
    }
}

/// Leaves out ids that another record of the mapping holds already.
fn unclaimed(mapping_id: i32, held: Vec<(i64, String)>) -> Vec<(i64, String)> {
    let ids: Vec<&str> = held.iter().map(|(_, id)| id.as_str()).collect();
    let taken: Vec<String> = spi::rows(
        r#"SELECT json_agg(hubspot_id)::text FROM hubspot.link WHERE mapping_id = ($1::json->>'m')::int
           AND hubspot_id IN (SELECT json_array_elements_text($1::json->'ids'))"#,
        &json!({"m": mapping_id, "ids": ids}),
    )
    .iter()
    .filter_map(|id| id.as_str().map(str::to_owned))
    .collect();
    let mut seen = std::collections::BTreeSet::new();
    held.into_iter()
        .filter(|(_, id)| !taken.contains(id) && seen.insert(id.clone()))
        .collect()
}

/// The value of the mapping's match field, in HubSpot's form.
pub fn match_value(record: &Record) -> Option<String> {
    let field: &Rc<Field> = record
        .mapping
        .match_field
        .as_deref()
        .and_then(|name| record.mapping.field(name))?;
    let entry = record.fields.get(&field.id)?;
    crate::convert::to_hubspot(field, &entry.state.row)
        .ok()
        .filter(|text| !text.is_empty())
}

/// What must be read before the record can be decided; also notes the generations the claim is made at.
fn what_to_read(record: &mut Record, fresh_since: i64) -> Read {
    let mut read = Read::Nothing;
    for entry in record.fields.values_mut() {
        if !entry.state.needs_delivery() {
            continue;
        }
        entry.note_claim();
        let fresh = entry.hubspot_read_at > fresh_since && entry.hubspot_read_at > 0;
        read = read.max(entry.state.read_needed(&entry.field.policy(Clock::default()), fresh));
    }
    if record.hubspot_id.is_none() {
        // Does the record exist at all? Its values are enough to know.
        read = Read::Value;
    } else if !record.contacted {
        // Equal values and empty ones need no history; where both sides met before, it is certain to be needed.
        let known = |e: &crate::book::Entry| e.state.in_flight.is_some() || e.state.base.is_some();
        read = if record.fields.values().any(known) {
            Read::History
        } else {
            Read::Value
        };
    } else if record.lifecycle == Some(Lifecycle::Heard) {
        // Is it gone, or has it become another one?
        read = read.max(Read::Value);
    }
    read
}

/// A claim of which something is to be read.
fn numbered(record: &Record, token: i64, attempt: i64, read: Read) -> Json {
    let mut claim = document(record, token, read);
    claim["attempt"] = json!(attempt);
    claim
}

/// A claim that is decided: recorded as in flight, it only has to be sent.
fn decided(record: &Record, token: i64, attempt: i64, write: Json) -> Json {
    json!({
        "claim": record.link_id.to_string(), "token": token, "attempt": attempt, "entity_type": record.mapping.entity_type,
        "object_type": record.mapping.hubspot_object, "operation": "sync", "hubspot_id": record.hubspot_id,
        "match": null, "read": "none", "write": write,
    })
}

/// A claim as the relay gets it.
pub fn document(record: &Record, token: i64, read: Read) -> Json {
    let matched = match (&record.hubspot_id, &record.mapping.match_property) {
        (None, Some(property)) => json!({"property": property, "value": match_value(record)}),
        _ => Json::Null,
    };
    json!({
        "claim": record.link_id.to_string(), "token": token, "attempt": 1, "entity_type": record.mapping.entity_type,
        "object_type": record.mapping.hubspot_object, "operation": "sync", "hubspot_id": record.hubspot_id,
        "match": matched, "read": match read { Read::Nothing => "none", Read::Value => "values", Read::History => "history" },
        "properties": properties(record, &record.mapping),
    })
}

/// What to read: every synced property at first contact, afterwards those with something to deliver.
fn properties(record: &Record, mapping: &Mapping) -> Vec<String> {
    mapping
        .fields
        .iter()
        .filter(|f| f.sync_direction != Direction::None)
        .filter(|f| !record.contacted || record.fields.get(&f.id).is_some_and(|e| e.state.needs_delivery()))
        .map(|f| f.hubspot_property.clone())
        .collect()
}
