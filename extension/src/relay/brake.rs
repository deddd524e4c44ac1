//! The brake: changes in masses are counted while they are taken over, before any of them can be claimed.
//!
//! What counts are records, not changes: one that changes all day counts once in a window. Inserts, first syncs and
//! backfills do not count: they send what was always to be sent. The window ends with the newest change that is taken over,
//! so that a backlog of ordinary days is not taken for one mass change.

use super::backlog::Change;
use crate::catalog::{Brake, Catalog, Mapping};
use crate::spi;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, HashMap};

/// A share of fewer records than this is no mass.
const FEWEST: i64 = 10;

const NOTE: &str = r#"
INSERT INTO hubspot.brake_recent AS b (mapping_id, link_id, at, kind)
SELECT DISTINCT ON (v.link_id) ($1::json->>'mapping')::int, v.link_id, to_timestamp(v.at_us / 1e6), v.kind
FROM json_to_recordset($1::json->'records') AS v (link_id bigint, at_us bigint, kind text, ord int) ORDER BY v.link_id, v.ord DESC
ON CONFLICT (mapping_id, link_id) DO UPDATE SET at = greatest(b.at, excluded.at), kind = excluded.kind"#;

/// Neither count goes on beyond what decides.
const COUNT: &str = r#"
WITH w AS MATERIALIZED (SELECT r.kind FROM hubspot.brake_recent r WHERE r.mapping_id = ($1::json->>'mapping')::int
  AND r.at > to_timestamp(($1::json->>'until_us')::bigint / 1e6) - ($1::json->>'window')::bigint * interval '1 second')
SELECT json_build_object('all', count(*), 'changed', count(*) FILTER (WHERE kind = 'changed'), 'emptied', count(*) FILTER (WHERE kind = 'emptied'),
  'deleted', count(*) FILTER (WHERE kind = 'deleted'),
  'known', CASE WHEN ($1::json->>'percent') IS NOT NULL THEN (SELECT count(*) FROM (SELECT 1 FROM hubspot.link l
    WHERE l.mapping_id = ($1::json->>'mapping')::int AND l.hubspot_id IS NOT NULL
    LIMIT (SELECT ceil(count(*) * 100 / ($1::json->>'percent')::numeric)::bigint FROM w)) k) END)::text FROM w"#;

const STOP: &str = r#"
UPDATE hubspot.object_mapping SET braked_at = clock_timestamp(), brake_reason = $1::json->>'reason'
WHERE id = ($1::json->>'mapping')::int AND braked_at IS NULL"#;

/// A record that changed.
struct Hit {
    link: i64,
    at_us: i64,
    kind: &'static str,
}

/// Counts a page of changes; true: some mapping is braked now, and the catalogue is out of date.
pub fn count(catalog: &Catalog, changes: &[Change], links: &HashMap<(i32, String), i64>) -> bool {
    let mut hits: BTreeMap<i32, Vec<Hit>> = BTreeMap::new();
    for change in changes {
        let Some(mapping) = catalog.mappings.get(&change.mapping_id).filter(|m| counts(m)) else {
            continue;
        };
        let Some(kind) = kind(mapping, change) else { continue };
        let key = change.key.clone().unwrap_or_default();
        if let Some(link) = links.get(&(mapping.id, key)) {
            let (link, at_us) = (*link, change.at_us);
            hits.entry(mapping.id).or_default().push(Hit { link, at_us, kind });
        }
    }
    let mut stopped = false;
    for (id, hits) in hits {
        if let Some(mapping) = catalog.mappings.get(&id) {
            stopped |= judge(mapping, &hits);
        }
    }
    stopped
}

/// The same for a table that was truncated: its records.
pub fn count_truncated(mapping: &Mapping, links: &[i64], at_us: i64) -> bool {
    if !counts(mapping) || mapping.on_local_delete != "archive" {
        return false;
    }
    let hit = |link: &i64| Hit {
        link: *link,
        at_us,
        kind: "deleted",
    };
    judge(mapping, &links.iter().map(hit).collect::<Vec<_>>())
}

fn counts(mapping: &Mapping) -> bool {
    mapping.brake.is_some() && !mapping.braked
}

/// What a change does to HubSpot's record; none: nothing that counts.
fn kind(mapping: &Mapping, change: &Change) -> Option<&'static str> {
    match change.op.as_str() {
        "D" => (mapping.on_local_delete == "archive").then_some("deleted"),
        // A newly mapped field brings what was there before, without an instant.
        "U" | "K" if change.at_us > 0 => edited(mapping, change.changes.as_ref()?),
        _ => None,
    }
}

fn edited(mapping: &Mapping, changes: &Map<String, Json>) -> Option<&'static str> {
    let empty = |value: &Json| value.as_str().is_none_or(str::is_empty);
    let mut found = None;
    for (name, pair) in changes {
        let sent = mapping.field(name).is_some_and(|f| f.sync_direction.sends());
        if !sent || pair[0] == pair[1] {
            continue;
        }
        if empty(&pair[1]) && !empty(&pair[0]) {
            return Some("emptied");
        }
        found = Some("changed");
    }
    found
}

fn judge(mapping: &Mapping, hits: &[Hit]) -> bool {
    let (Some(brake), Some(until)) = (&mapping.brake, hits.iter().map(|h| h.at_us).max()) else {
        return false;
    };
    let records: Vec<Json> = hits
        .iter()
        .enumerate()
        .map(|(ord, h)| json!({"link_id": h.link, "at_us": h.at_us, "kind": h.kind, "ord": ord}))
        .collect();
    spi::run(NOTE, &json!({"mapping": mapping.id, "records": records}));
    let found = spi::call(
        COUNT,
        &json!({"mapping": mapping.id, "until_us": until, "window": brake.window(), "percent": brake.percent}),
    );
    let Some(limit) = passed(brake, &found) else {
        return false;
    };
    let number = |name: &str| found[name].as_i64().unwrap_or_default();
    let reason = format!(
        "{} records within {} seconds ({} changed, {} emptied, {} deleted); the limit is {limit}",
        number("all"),
        brake.window(),
        number("changed"),
        number("emptied"),
        number("deleted")
    );
    spi::run(STOP, &json!({"mapping": mapping.id, "reason": reason}));
    true
}

/// The limit that was passed.
fn passed(brake: &Brake, found: &Json) -> Option<String> {
    let all = found["all"].as_i64()?;
    if brake.records.is_some_and(|most| all > most) {
        return Some(format!("{} records", brake.records?));
    }
    let percent = brake.percent.filter(|_| all >= FEWEST)?;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let (all, known) = (all as f64, found["known"].as_i64()? as f64);
    (all * 100.0 > percent * known).then(|| format!("{percent} % of the records"))
}
