//! Applying stored events: each property change is shown to its field's machine, and what wins is written to the rows.

use super::{archive, lifecycle, now_us};
use crate::book::{Book, Record};
use crate::catalog::{Catalog, Clock, Field};
use crate::{convert, privacy, spi};
use hubspot_sync_core::field::{Intake, Source, Version};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Pending events in the order in which HubSpot made them, each with the links that hold its record.
const NEXT: &str = r#"
WITH page AS MATERIALIZED (
  SELECT id, event, hubspot_object, hubspot_id, occurred_at FROM hubspot.webhook_events
  WHERE status = 'pending' ORDER BY occurred_at, id LIMIT ($1::json->>'max')::int FOR UPDATE SKIP LOCKED)
SELECT json_agg(json_build_object('id', p.id, 'event', p.event, 'at_us', p.occurred_at, 'object', p.hubspot_object,
  'archived_by_us', EXISTS (SELECT 1 FROM hubspot.link l JOIN hubspot.object_mapping m ON m.id = l.mapping_id
                            WHERE l.gone_id = p.hubspot_id AND m.hubspot_object = p.hubspot_object),
  'links', (SELECT json_agg(l.id ORDER BY l.id) FROM hubspot.link l JOIN hubspot.object_mapping m ON m.id = l.mapping_id
            WHERE m.hubspot_object = p.hubspot_object AND l.hubspot_id = ANY (ARRAY[p.hubspot_id, p.event->>'primaryObjectId']
              || ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(p.event->'mergedObjectIds') WHEN 'array' THEN p.event->'mergedObjectIds' ELSE '[]' END))))) ORDER BY p.occurred_at, p.id)::text
FROM page p"#;

const MARK: &str = r#"
UPDATE hubspot.webhook_events e SET status = v.status, detail = v.detail,
  event = CASE WHEN v.status IN ('applied', 'skipped') THEN e.event - 'lockedValue' ELSE e.event END,
  processed_at = CASE WHEN v.status IN ('applied', 'skipped', 'failed') THEN clock_timestamp() END
FROM json_to_recordset($1::json) AS v (id bigint, status text, detail text) WHERE e.id = v.id"#;

/// A stored event.
#[derive(Deserialize)]
pub struct Event {
    id: i64,
    event: Json,
    /// HubSpot's instant, microseconds.
    pub at_us: i64,
    object: Option<String>,
    /// The links that hold its record.
    pub links: Option<Vec<i64>>,
    /// We had this very record archived.
    #[serde(default)]
    pub archived_by_us: bool,
}

impl Event {
    /// A member of the event as text.
    pub fn text(&self, key: &str) -> Option<String> {
        match &self.event[key] {
            Json::String(s) => Some(s.clone()),
            Json::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// `propertyChange`, `deletion`, … without the object's name.
    fn what(&self) -> String {
        self.text("subscriptionType")
            .and_then(|t| t.split('.').nth(1).map(str::to_owned))
            .unwrap_or_default()
    }

    /// A list of the event as texts.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let list = self.event[key].as_array().into_iter().flatten();
        list.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect()
    }

    /// Who made the change, as HubSpot names it.
    fn author(&self) -> String {
        let parts = [self.text("changeSource"), self.text("sourceId")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// HubSpot says that this app wrote it.
    pub fn source(&self) -> Source {
        let ours = self.text("changeSource").as_deref() == Some("INTEGRATION")
            && self.text("appId").is_some()
            && self.text("sourceId") == self.text("appId");
        if ours { Source::Own } else { Source::Foreign }
    }
}

/// What became of an event.
pub type Verdict = (&'static str, Option<String>);

/// See the contract.
pub fn apply(max_events: i32) -> Json {
    if !super::may_work() {
        return json!({"applied": 0, "skipped": 0, "failed": 0, "waiting": 0, "more": false});
    }
    super::absorb_all();
    let max = max_events.clamp(1, 10_000);
    let mut events: Vec<Event> = spi::rows(NEXT, &json!({"max": max}))
        .into_iter()
        .filter_map(|e| serde_json::from_value(e).ok())
        .collect();
    let taken = events.len();
    let mut verdicts = BTreeMap::new();
    events.retain_mut(|event| {
        let open = super::receive::unlock(&mut event.event);
        if !open {
            verdicts.insert(
                event.id,
                ("failed", Some("its locked value cannot be opened".to_owned())),
            );
        }
        open
    });
    page(&events.iter().collect::<Vec<_>>(), &mut verdicts);
    let marks: Vec<Json> = verdicts
        .iter()
        .map(|(id, (status, detail))| json!({"id": id, "status": status, "detail": detail}))
        .collect();
    spi::run(MARK, &Json::Array(marks));
    let count = |s: &str| verdicts.values().filter(|v| v.0 == s).count();
    let done = verdicts.len() - count("pending");
    json!({"applied": count("applied"), "skipped": count("skipped") + count("unmatched"), "failed": count("failed"),
           "waiting": count("waiting") + count("pending"), "more": taken == max as usize && done > 0})
}

/// Applies these events. Where a table refuses a row, that record's events are taken one by one, so that only the culprit
/// fails.
fn page(events: &[&Event], verdicts: &mut BTreeMap<i64, Verdict>) {
    let mut ids: Vec<i64> = events.iter().flat_map(|e| e.links.iter().flatten().copied()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut book = Book::open(Catalog::load(), &ids, now_us());
    for event in events {
        let verdict = one(&mut book, event);
        verdicts.insert(event.id, verdict);
    }
    offer_again(&mut book, events, verdicts);
    let rows_deleted: Vec<i64> = book
        .records
        .values()
        .filter(|r| r.delete_row)
        .map(|r| r.link_id)
        .collect();
    let written = book.write_rows();
    book.flush();
    let touches = |event: &Event, hit: &dyn Fn(&i64) -> bool| event.links.iter().flatten().any(hit);
    for event in events {
        if touches(event, &|link| written.busy.contains(link)) {
            verdicts.insert(
                event.id,
                ("pending", Some("the row is locked or has moved: offered again".into())),
            );
        }
    }
    let erased = events.iter().filter(|e| e.what() == "privacyDeletion");
    for link in erased
        .flat_map(|e| e.links.iter().flatten())
        .filter(|l| !written.busy.contains(l))
    {
        match written.refused.contains_key(link) {
            false => forget(*link, rows_deleted.contains(link)),
            // The table keeps the row: it stays, and is ignored from now on.
            true if events.len() == 1 => forget(*link, false),
            true => {}
        }
    }
    let again: Vec<&Event> = events
        .iter()
        .filter(|e| touches(e, &|link| written.refused.contains_key(link)))
        .copied()
        .collect();
    match again.as_slice() {
        [] => {}
        [only] if events.len() == 1 => {
            verdicts.insert(only.id, ("failed", Some("the table refused the row".into())));
            for (link, reason) in written.refused.iter().filter(|_| only.what() != "privacyDeletion") {
                super::refused_by_table(
                    *link,
                    only.text("propertyName").as_deref(),
                    only.text("propertyValue"),
                    only.at_us,
                    reason,
                );
            }
        }
        several => several.iter().for_each(|event| page(&[event], verdicts)),
    }
}

/// HubSpot erased the record: nothing of it stays here either.
fn forget(link: i64, row_deleted: bool) {
    let there = spi::call_text(
        "SELECT 'yes' FROM hubspot.link WHERE id = ($1::json->>'id')::bigint AND status <> 'deleted_here'",
        &json!({"id": link}),
    );
    let table_row = match (row_deleted, there) {
        (true, _) => "deleted",
        (false, Some(_)) => "kept",
        (false, None) => "absent",
    };
    privacy::scrub(link, "HubSpot privacyDeletion", table_row);
}

/// An event later in the page, the echo of the write itself, may have told the outcome that an earlier event waits for.
fn offer_again(book: &mut Book, events: &[&Event], verdicts: &mut BTreeMap<i64, Verdict>) {
    loop {
        let waiting: Vec<&Event> = events
            .iter()
            .filter(|e| verdicts.get(&e.id).is_some_and(|v| v.0 == "waiting"))
            .copied()
            .collect();
        let mut progress = false;
        for event in waiting {
            let verdict = one(book, event);
            progress |= verdict.0 != "waiting";
            verdicts.insert(event.id, verdict);
        }
        if !progress {
            return;
        }
    }
}

fn one(book: &mut Book, event: &Event) -> Verdict {
    let (clock, now) = (book.catalog.clock, book.now);
    if !book
        .catalog
        .mappings
        .values()
        .any(|m| Some(&m.hubspot_object) == event.object.as_ref())
    {
        return ("skipped", Some("this object type is not mapped".into()));
    }
    let links: Vec<i64> = event.links.iter().flatten().copied().collect();
    if links.is_empty() {
        return ("unmatched", Some("the record is not linked".into()));
    }
    let what = event.what();
    if what == "merge" {
        return lifecycle::merge(book, event);
    }
    let mut verdict: Verdict = ("skipped", Some(format!("{what} events change nothing here")));
    for link in links {
        let Some(record) = book.records.get_mut(&link) else {
            continue;
        };
        match what.as_str() {
            "propertyChange" => {
                let Some(property) = event.text("propertyName") else {
                    return ("failed", Some("the event names no property".into()));
                };
                let Some(field) = record.mapping.by_property(&property).cloned() else {
                    verdict = ("skipped", Some("this property is not mapped".into()));
                    continue;
                };
                if record.row_is_gone() {
                    verdict = row_is_gone(record, &field, event, clock, now);
                    continue;
                }
                if !matches!(record.status.as_str(), "linked") || !record.contacted {
                    verdict = ("unmatched", Some("the record was not compared yet".into()));
                    continue;
                }
                let text = event.text("propertyValue");
                let value = match convert::from_hubspot(&field, text.as_deref()) {
                    Ok(value) => value,
                    Err(refused) => {
                        record.fail(Some(&field), "inbound", "invalid", &refused.0, json!({"value": text}));
                        record.entry(&field).note_remote(text, event.at_us, now);
                        verdict = ("failed", Some(refused.0));
                        continue;
                    }
                };
                let source = event.source();
                record.authors.insert((field.id, event.at_us), event.author());
                let intake = record.event(&field, clock, now, |state, policy, out| {
                    state.inbound(policy, &value, event.at_us, source, out)
                });
                verdict = match intake {
                    Intake::Wait => ("waiting", Some("until the outcome of a write is known".into())),
                    Intake::Taken => {
                        record.entry(&field).note_remote(text, event.at_us, now);
                        ("applied", None)
                    }
                };
            }
            "privacyDeletion" => verdict = lifecycle::privacy_deletion(record, clock, now),
            "deletion" => verdict = lifecycle::deletion(record, event, clock, now),
            "restore" => verdict = lifecycle::restore(record, event),
            _ => {}
        }
    }
    verdict
}

/// A property of a record whose row was deleted.
fn row_is_gone(record: &mut Record, field: &Rc<Field>, event: &Event, clock: Clock, now: i64) -> Verdict {
    let Ok(value) = convert::from_hubspot(field, event.text("propertyValue").as_deref()) else {
        return ("skipped", Some("the row is deleted".into()));
    };
    let version = Version {
        value,
        at: event.at_us,
        source: event.source(),
    };
    record.authors.insert((field.id, event.at_us), event.author());
    archive::edited(record, field, &version, clock, now)
}
