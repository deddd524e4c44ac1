//! Deciding: what the relay read is shown to the machine, and what must be sent is recorded as in flight before it leaves.

use super::claim::{document, match_value};
use super::{absorb, archive, collision, lifecycle, now_us, parse};
use crate::book::{Book, Lifecycle, Queue, Record, read_rows, recapture};
use crate::catalog::{Catalog, Clock, Field};
use crate::{convert, sensitive, spi};
use hubspot_sync_core::field::{Decision, Effect, Observation as Seen, Read, Source, Version};
use hubspot_sync_core::mapping::Direction;
use hubspot_sync_core::value::Value;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a relay read of one record.
#[derive(Deserialize)]
pub struct Observation {
    /// The record's link.
    pub claim: String,
    /// The claim's fence.
    pub token: i64,
    /// None: nothing was asked.
    pub found: Option<bool>,
    /// HubSpot's id; another than the record's after a merge.
    pub hubspot_id: Option<String>,
    /// When the read was sent, on the relay's clock.
    #[serde(default)]
    pub read_at_ms: i64,
    /// HubSpot's instant of the record's last change; none when not known.
    pub updated_at_ms: Option<i64>,
    /// Values by property.
    #[serde(default)]
    pub properties: Map<String, Json>,
    /// Histories by property, when they were read.
    pub versions: Option<BTreeMap<String, Vec<Reported>>>,
}

/// One version of a property's history as HubSpot reports it.
#[derive(Deserialize)]
pub struct Reported {
    value: Option<String>,
    timestamp_ms: i64,
    #[serde(default)]
    own: Option<bool>,
    source_type: Option<String>,
    source_id: Option<String>,
}

/// Claims that still hold: link to token.
pub fn held_claims(relay_id: &str, claims: &[(i64, i64)]) -> BTreeSet<i64> {
    let rows: Vec<Json> = claims
        .iter()
        .map(|(link, token)| json!({"link_id": link, "token": token}))
        .collect();
    spi::rows(
        r#"SELECT json_agg(q.link_id)::text FROM json_to_recordset($1::json->'rows') AS v (link_id bigint, token bigint)
           JOIN hubspot.queue q ON q.link_id = v.link_id AND q.token = v.token AND q.claimed_by = $1::json->>'relay'"#,
        &json!({"relay": relay_id, "rows": rows}),
    )
    .iter()
    .filter_map(Json::as_i64)
    .collect()
}

/// See the contract.
pub fn decide(relay_id: &str, observations: &Json) -> Json {
    let observations: Vec<Observation> = parse("observations", observations);
    absorb(super::absorb::PAGE);
    let claims: Vec<(i64, i64)> = observations
        .iter()
        .filter_map(|o| Some((o.claim.parse().ok()?, o.token)))
        .collect();
    let ids: Vec<i64> = claims.iter().map(|c| c.0).collect();
    let mut book = Book::open(Catalog::load(), &ids, now_us());
    let held = held_claims(relay_id, &claims);
    book.records.retain(|id, _| held.contains(id));
    adopt(&mut book, &observations);
    show_rows(&book);
    let (clock, now) = (book.catalog.clock, book.now);
    // Two rows with one match value would be upserted into one record: the first alone is created.
    let mut creating = BTreeSet::new();
    let (mut reads, mut writes, mut settled) = (Vec::new(), BTreeMap::new(), Vec::new());
    for seen in &observations {
        let Some(record) = seen.claim.parse().ok().and_then(|id: i64| book.records.get_mut(&id)) else {
            settled.push(json!(seen.claim));
            continue;
        };
        if record.mapping.braked {
            // It was stopped since the claim.
            record.queue = Queue::Hold;
            settled.push(json!(seen.claim));
            continue;
        }
        if seen.found == Some(false)
            && record.status == "new"
            && record.hubspot_id.is_none()
            && let Some(value) = match_value(record)
            && !creating.insert((record.mapping.id, value.clone()))
        {
            collision::park(record, &value);
            record.queue = Queue::Finish;
            settled.push(json!(seen.claim));
            continue;
        }
        match one(record, seen, clock, now) {
            Next::Read(read) => {
                record.queue = Queue::Keep;
                reads.push(match record.row_is_gone() {
                    true => archive::look_again(record, seen.token, read),
                    false => document(record, seen.token, read),
                });
            }
            Next::Write(write) => {
                record.queue = Queue::Keep;
                writes.insert(record.link_id, write);
            }
            Next::Settled => {
                record.queue = Queue::Finish;
                settled.push(json!(seen.claim));
            }
        }
    }
    let written = book.write_rows();
    let given_back: Vec<Json> = written
        .busy
        .iter()
        .map(|l| (l, 50))
        .chain(written.refused.keys().map(|l| (l, 60_000)))
        .map(|(link, delay_ms)| {
            writes.remove(link);
            settled.push(json!(link.to_string()));
            json!({"link_id": link, "delay_ms": delay_ms})
        })
        .collect();
    release(given_back);
    book.flush();
    for (link, reason) in &written.refused {
        super::refused_by_table(*link, None, None, 0, reason);
    }
    json!({"reads": reads, "writes": writes.into_values().collect::<Vec<_>>(), "settled": settled})
}

/// Reads the sensitive fields of these records' rows: what is sent of them is known from there and nowhere
/// else. A row that holds something else than is recorded is captured, should nobody have done so.
pub fn show_rows(book: &Book) {
    let mut by_mapping: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    for record in book.records.values().filter(|r| r.mapping.is_sensitive()) {
        by_mapping.entry(record.mapping.id).or_default().push(&record.key);
    }
    for (id, keys) in by_mapping {
        let Some(mapping) = book.catalog.mappings.get(&id) else {
            continue;
        };
        let fields: Vec<Rc<Field>> = mapping.fields.iter().filter(|f| f.sensitive).cloned().collect();
        let rows = read_rows(mapping, &keys, &fields, false);
        for record in book.records.values().filter(|r| r.mapping.id == id) {
            let Some(texts) = rows.get(&record.key) else { continue };
            let moved: Vec<_> = waiting(record)
                .into_iter()
                .filter_map(|f| Some((texts.get(&f.id)?.clone(), f)))
                .filter(|(text, f)| {
                    record
                        .fields
                        .get(&f.id)
                        .is_some_and(|e| e.state.row.as_deref() != text.as_deref())
                })
                .map(|(text, f)| (f, text))
                .collect();
            if !moved.is_empty() {
                recapture(record, &moved);
            }
        }
    }
}

/// Gives back the claims of records whose rows could not be written; their decisions are made again later.
fn release(claims: Vec<Json>) {
    if claims.is_empty() {
        return;
    }
    spi::run(
        r#"UPDATE hubspot.queue q SET claimed_by = NULL, lease_expires_at = NULL, attempts = greatest(attempts - 1, 0),
           due_at = clock_timestamp() + v.delay_ms * interval '1 millisecond'
           FROM json_to_recordset($1::json) AS v (link_id bigint, delay_ms bigint) WHERE q.link_id = v.link_id"#,
        &Json::Array(claims),
    );
}

/// Links records that were found by their match property, or under another id after a merge. An id that belongs to
/// another row already is a collision: the record is parked for a person.
fn adopt(book: &mut Book, observations: &[Observation]) {
    let news: Vec<Json> = observations
        .iter()
        .filter(|o| o.found == Some(true))
        .filter_map(|o| {
            let record = book.records.get(&o.claim.parse().ok()?)?;
            let id = o.hubspot_id.as_ref()?;
            // A record whose row is gone is not looked for elsewhere: it may belong to another row.
            let looks = !record.row_is_gone() || record.hubspot_id.is_none();
            (looks && record.hubspot_id.as_ref() != Some(id)).then(|| collision::found(record, id))
        })
        .collect();
    let taken = collision::taken(&news);
    for new in &news {
        let (Some(link), Some(id)) = (new["link_id"].as_i64(), new["hubspot_id"].as_str()) else {
            continue;
        };
        let Some(mapping) = book
            .records
            .get(&link)
            .filter(|r| !r.row_is_gone())
            .map(|r| r.mapping.id)
        else {
            if let (Some(record), false) = (book.records.get_mut(&link), taken.contains(&link)) {
                record.hubspot_id = Some(id.to_owned());
                record.touch_link();
            }
            continue;
        };
        if !taken.contains(&link) {
            book.yield_id(mapping, id);
        }
        let Some(record) = book.records.get_mut(&link) else {
            continue;
        };
        if taken.contains(&link) {
            collision::park(record, id);
            continue;
        }
        let how = if record.hubspot_id.is_none() {
            record.hubspot_id = Some(id.to_owned());
            record.status = "linked".into();
            record.write_id_back = true;
            record.touch_link();
            "by the match property"
        } else {
            record.follow_to(id);
            "HubSpot merged the record into another"
        };
        record.log(None, "SYNC", "linked", json!({"hubspot_value": id, "detail": how}));
    }
}

/// What follows from an observation.
pub enum Next {
    Read(Read),
    Write(Json),
    Settled,
}

/// Decides a record that was just claimed and of which nothing has to be read.
pub fn unread(record: &mut Record, token: i64, clock: Clock, now: i64) -> Next {
    let nothing = Observation {
        claim: record.link_id.to_string(),
        token,
        found: None,
        hubspot_id: None,
        read_at_ms: 0,
        updated_at_ms: None,
        properties: Map::new(),
        versions: None,
    };
    one(record, &nothing, clock, now)
}

fn one(record: &mut Record, seen: &Observation, clock: Clock, now: i64) -> Next {
    if record.row_is_gone() && record.needs_delivery() {
        return archive::decide(record, seen, clock, now);
    }
    if !matches!(record.status.as_str(), "new" | "linked") {
        return Next::Settled;
    }
    if seen.found == Some(true) && matches!(record.lifecycle, Some(Lifecycle::Heard | Lifecycle::Archiving)) {
        // It lives: it was restored, merged, or the archive did not land (and is met as it comes, should it land late).
        record.set_lifecycle(None);
    }
    match (seen.found, record.hubspot_id.is_some()) {
        (Some(false), true) if record.lifecycle == Some(Lifecycle::Archiving) => {
            archive::archived(record, clock, now, "HubSpot has no such record any more");
            return Next::Settled;
        }
        (Some(false), true) if record.lifecycle == Some(Lifecycle::Heard) => {
            lifecycle::gone(record, clock, now);
            return Next::Settled;
        }
        (Some(false), true) => {
            record.gone_missing();
            return Next::Settled;
        }
        (Some(false), false) => return create(record, seen.token, clock, now),
        (None, false) => return Next::Read(Read::Value),
        _ => {}
    }
    let versions = remember(record, seen);
    if !record.contacted {
        return match present(record, seen) {
            Some(values) if seen.versions.is_none() => {
                let newest = seen.updated_at_ms.unwrap_or(0) * 1000;
                first_contact(record, &values, &versions, newest, clock, now);
                send_contacted(record, seen, clock, now)
            }
            // Times and authors decide between two values that never agreed.
            _ if seen.versions.is_none() => Next::Read(Read::History),
            _ => {
                first_contact(record, &BTreeMap::new(), &versions, 0, clock, now);
                send_contacted(record, seen, clock, now)
            }
        };
    }
    let mut sends = Vec::new();
    for field in waiting(record) {
        let decision = decide_field(record, &field, seen, &versions, clock, now);
        match decision {
            Decision::Settled => {}
            // One read serves the whole record: what the other fields decided to send is taken up again after it.
            Decision::Read(read) => {
                for (field, _) in sends {
                    record.event(&field, clock, now, |state, _, out| state.forget_in_flight(out));
                }
                return Next::Read(read);
            }
            Decision::Send(value) => sends.push((field, value)),
        }
    }
    write(record, seen.token, sends, clock, now)
}

/// The fields with something to deliver.
fn waiting(record: &Record) -> Vec<Rc<Field>> {
    record
        .fields
        .values()
        .filter(|e| e.state.needs_delivery())
        .map(|e| e.field.clone())
        .collect()
}

fn decide_field(
    record: &mut Record,
    field: &Rc<Field>,
    seen: &Observation,
    versions: &BTreeMap<i32, Vec<Version>>,
    clock: Clock,
    now: i64,
) -> Decision {
    let current = seen
        .properties
        .get(&field.hubspot_property)
        .map(|v| convert::from_hubspot(field, v.as_str()));
    let generation = record.entry(field).claim_generation.unwrap_or(-1);
    record.event(field, clock, now, |state, policy, out| {
        let observation = match (versions.get(&field.id), &current) {
            (Some(history), _) => Seen::History(history),
            (None, Some(Ok(value))) => Seen::Value(value, seen.updated_at_ms.unwrap_or(0) * 1000),
            // HubSpot holds something this field cannot hold: only its history could say more.
            (None, Some(Err(_))) if policy.direction.receives() => return Decision::Read(Read::History),
            (None, _) => Seen::Nothing,
        };
        state.decide(policy, generation, &observation, out)
    })
}

/// Notes what HubSpot holds and gives the histories that were read, by field.
pub fn remember(record: &mut Record, seen: &Observation) -> BTreeMap<i32, Vec<Version>> {
    let mut versions = BTreeMap::new();
    let fields: Vec<Rc<Field>> = record.mapping.fields.clone();
    for field in fields.iter().filter(|f| f.sync_direction != Direction::None) {
        if let Some(text) = seen.properties.get(&field.hubspot_property) {
            let newest = seen
                .versions
                .as_ref()
                .and_then(|v| v.get(&field.hubspot_property))
                .and_then(|h| h.iter().map(|v| v.timestamp_ms).max());
            record.entry(field).note_remote(
                text.as_str().map(str::to_owned),
                newest.unwrap_or(0) * 1000,
                seen.read_at_ms * 1000,
            );
        }
        let Some(all) = &seen.versions else { continue };
        let mut list = Vec::new();
        for reported in all.get(&field.hubspot_property).into_iter().flatten() {
            // A version that this field cannot hold is as if nobody had written it; the newest one is recorded.
            if let Ok(value) = convert::from_hubspot(field, reported.value.as_deref()) {
                let author = [&reported.source_type, &reported.source_id]
                    .into_iter()
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>();
                record
                    .authors
                    .insert((field.id, reported.timestamp_ms * 1000), author.join(" "));
                let source = if reported.own == Some(true) {
                    Source::Own
                } else {
                    Source::Foreign
                };
                list.push(Version {
                    value,
                    at: reported.timestamp_ms * 1000,
                    source,
                });
            }
        }
        versions.insert(field.id, list);
    }
    versions
}

/// The present values by field, when they are enough for a first contact: the record's last change is known, so that no
/// older event can be taken for news, and no field needs its history.
fn present(record: &mut Record, seen: &Observation) -> Option<BTreeMap<i32, Value>> {
    seen.updated_at_ms?;
    let mapping = record.mapping.clone();
    let mut values = BTreeMap::new();
    for field in mapping.fields.iter().filter(|f| f.sync_direction != Direction::None) {
        let text = seen.properties.get(&field.hubspot_property)?.as_str();
        let value = match convert::from_hubspot(field, text) {
            Ok(value) => value,
            // HubSpot's value does not count: what it is does not matter.
            Err(_) if !field.sync_direction.receives() => Value::NULL,
            Err(_) => return None,
        };
        let policy = field.policy(Clock::default());
        if record.entry(field).state.first_contact_needs_history(&policy, &value) {
            return None;
        }
        values.insert(field.id, value);
    }
    Some(values)
}

/// Both sides exist and were never compared. HubSpot's side is `values`, none of them newer than `changed_at`, or else the
/// newest of `versions`.
fn first_contact(
    record: &mut Record,
    values: &BTreeMap<i32, Value>,
    versions: &BTreeMap<i32, Vec<Version>>,
    changed_at: i64,
    clock: Clock,
    now: i64,
) {
    let mapping = record.mapping.clone();
    let merged = record.lifecycle == Some(Lifecycle::Merged);
    if merged {
        record.set_lifecycle(None);
    }
    for field in mapping.fields.iter().filter(|f| f.sync_direction != Direction::None) {
        let history = versions.get(&field.id).cloned().unwrap_or_default();
        if merged && record.fields.contains_key(&field.id) {
            record.event(field, clock, now, |state, policy, out| {
                state.merged(policy, &history, out)
            });
            continue;
        }
        let newest = match values.get(&field.id) {
            Some(value) => (value.clone(), changed_at),
            None => history
                .iter()
                .max_by_key(|v| v.at)
                .map_or((Value::NULL, 0), |v| (v.value.clone(), v.at)),
        };
        record.event(field, clock, now, |state, policy, out| {
            if state.in_flight.is_some() || state.base.is_some() {
                // An earlier create whose answer was lost, or a record that became another one by a merge or a restore:
                // the history tells what is ours and what is new.
                state.learn(policy, &history, out);
            }
            state.first_contact(policy, &newest.0, newest.1, out);
        });
    }
    record.contacted = true;
    record.write_id_back = true;
    record.touch_link();
}

/// After a first contact: what the row's side won is sent at once, on the strength of the same read.
fn send_contacted(record: &mut Record, seen: &Observation, clock: Clock, now: i64) -> Next {
    let changed_at = seen.updated_at_ms.unwrap_or(0) * 1000;
    let mut sends = Vec::new();
    let waiting = waiting(record);
    if waiting.iter().all(|f| f.is_batch()) {
        return Next::Settled;
    }
    for field in waiting {
        if record.entry(&field).state.in_flight.is_some() {
            continue;
        }
        record.entry(&field).note_claim();
        let decision = record.event(&field, clock, now, |state, policy, out| {
            let decision = state.decide(policy, state.generation, &Seen::Nothing, out);
            if let Some(flight) = &mut state.in_flight {
                flight.after = flight.after.max(changed_at);
            }
            decision
        });
        if let Decision::Send(value) = decision {
            sends.push((field, value));
        }
    }
    write(record, seen.token, sends, clock, now)
}

/// HubSpot has no such record: create it, found again by its unique property should the answer be lost.
fn create(record: &mut Record, token: i64, clock: Clock, now: i64) -> Next {
    if record.mapping.on_create == "ignore" {
        record.status = "parked".into();
        record.message =
            Some("HubSpot has no such record and the mapping does not create any (on_create ignore)".into());
        record.touch_link();
        return Next::Settled;
    }
    let (Some(property), Some(value)) = (record.mapping.match_property.clone(), match_value(record)) else {
        return Next::Settled;
    };
    let mapping = record.mapping.clone();
    let mut sends = Vec::new();
    for field in mapping.fields.iter().filter(|f| f.sync_direction.sends()) {
        let known = record.entry(field);
        if known.state.row.is_null() || known.state.parked {
            continue;
        }
        let generation = known.state.generation;
        known.claim_generation = Some(generation);
        let decision = record.event(field, clock, now, |state, policy, out| {
            state.dirty = true;
            state.forget_in_flight(out);
            state.decide(policy, generation, &Seen::Nothing, out)
        });
        if let Decision::Send(value) = decision {
            sends.push((field.clone(), value));
        }
    }
    let mut properties = convert_all(record, sends, clock, now);
    properties.insert(property.clone(), json!(value));
    record.log(None, "SYNC", "sent", json!({"detail": "create"}));
    Next::Write(json!({
        "claim": record.link_id.to_string(), "token": token, "object_type": mapping.hubspot_object,
        "operation": "upsert", "hubspot_id": null, "id_property": property, "id_value": value, "properties": properties,
    }))
}

fn write(record: &mut Record, token: i64, sends: Vec<(Rc<Field>, Value)>, clock: Clock, now: i64) -> Next {
    let properties = convert_all(record, sends, clock, now);
    if properties.is_empty() {
        return Next::Settled;
    }
    Next::Write(json!({
        "claim": record.link_id.to_string(), "token": token, "object_type": record.mapping.hubspot_object,
        "operation": "update", "hubspot_id": record.hubspot_id, "id_property": null, "id_value": null,
        "properties": properties,
    }))
}

/// The property map of a write. A value that has no form in HubSpot is refused here, and its field parked.
fn convert_all(record: &mut Record, sends: Vec<(Rc<Field>, Value)>, clock: Clock, now: i64) -> Map<String, Json> {
    let mut properties = Map::new();
    for (field, value) in sends {
        if sensitive::clear(&field, &value).is_none() {
            // The row holds something else by now: that is sent, once it is taken over.
            record.event(&field, clock, now, |state, _, out| state.forget_in_flight(out));
            continue;
        }
        match convert::to_hubspot(&field, &value) {
            Ok(text) => {
                record.log(
                    Some(&field),
                    "SYNC",
                    "sent",
                    json!({"warp_value": value.as_deref(), "hubspot_value": text}),
                );
                properties.insert(field.hubspot_property.clone(), json!(text));
            }
            Err(refused) => {
                record.event(&field, clock, now, |state, _, out: &mut Vec<Effect>| {
                    let generation = state.generation;
                    state.refuse(generation, out);
                });
                record.fail(
                    Some(&field),
                    "outbound",
                    "invalid",
                    &refused.0,
                    json!({"value": value.as_deref()}),
                );
            }
        }
    }
    properties
}
