//! The product's own books: field states, the ledger of edits, conflicts.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use anyhow::Result;

use super::fields::{Field, Rule};
use super::oracle::{Case, Conflict};
use crate::world::World;

type Key = (String, String);

/// An entry of the ledger.
#[derive(Debug)]
struct Entry {
    value: Option<String>,
    outcome: Option<String>,
    update: bool,
}

/// The books as they stand at the end.
#[derive(Debug, Default)]
pub struct Books {
    states: HashMap<Key, String>,
    edits: HashMap<Key, Vec<Entry>>,
    inbound: HashMap<Key, Vec<Option<String>>>,
    conflicts: HashMap<Key, Vec<Conflict>>,
    conflict_counts: BTreeMap<String, i64>,
    outcome_counts: BTreeMap<String, i64>,
    /// Values that wait for a person in `failed_syncs`.
    pub(crate) failed: i64,
}

impl Books {
    /// Reads the books.
    pub(crate) async fn load(world: &World) -> Result<Books> {
        let mut books = Books::default();
        let sql = &world.sql;
        let states = "SELECT entity_key, field, status FROM hubspot.field_state";
        for row in sql.query(states, &[]).await? {
            books.states.insert((row.get(0), row.get(1)), row.get(2));
        }
        let log = "SELECT entity_key, field, warp_value, outcome, action, coalesce(detail, '') = 'update'
                   FROM hubspot.sync_log WHERE action IN ('edit', 'inbound') ORDER BY id";
        for row in sql.query(log, &[]).await? {
            let key: Key = (row.get(0), row.get(1));
            if row.get::<_, &str>(4) == "inbound" {
                books.inbound.entry(key).or_default().push(row.get(2));
                continue;
            }
            let entry = Entry {
                value: row.get(2),
                outcome: row.get(3),
                update: row.get(5),
            };
            let label = entry.outcome.clone().unwrap_or_else(|| "none yet".into());
            *books.outcome_counts.entry(label).or_default() += 1;
            books.edits.entry(key).or_default().push(entry);
        }
        let conflicts = "SELECT entity_key, field, warp_value, hubspot_value, status = 'open',
            concat_ws(' ', strategy, kind, CASE WHEN status = 'open' THEN 'open' ELSE coalesce('won by ' || winner, 'settled') END)
            FROM hubspot.conflicts ORDER BY id";
        for row in sql.query(conflicts, &[]).await? {
            let conflict = Conflict {
                warp: row.get(2),
                hubspot: row.get(3),
                open: row.get(4),
            };
            *books.conflict_counts.entry(row.get(5)).or_default() += 1;
            books
                .conflicts
                .entry((row.get(0), row.get(1)))
                .or_default()
                .push(conflict);
        }
        let failed = sql
            .query_one("SELECT count(*) FROM hubspot.failed_syncs WHERE status = 'open'", &[])
            .await?;
        books.failed = failed.get(0);
        Ok(books)
    }

    /// `field_state.status`
    pub(crate) fn status(&self, key: &str, field: &str) -> Option<String> {
        self.states.get(&(key.to_owned(), field.to_owned())).cloned()
    }

    /// Conflicts of a field of a record.
    pub(crate) fn conflicts(&self, key: &str, field: &str) -> &[Conflict] {
        self.conflicts
            .get(&(key.to_owned(), field.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    /// Conflicts by strategy, kind and outcome.
    pub(crate) fn conflict_counts(&self) -> Vec<(String, i64)> {
        self.conflict_counts.clone().into_iter().collect()
    }

    /// Entries of the ledger by outcome, those of the first sync included.
    pub(crate) fn outcome_counts(&self) -> Vec<(String, i64)> {
        self.outcome_counts.clone().into_iter().collect()
    }
}

/// What is missing in the books about one field of one record.
pub(crate) fn incomplete(books: &Books, key: &str, field: &Field, case: &Case) -> Vec<String> {
    let mut problems = Vec::new();
    let at = (key.to_owned(), field.name.to_owned());
    let entries = books.edits.get(&at).map_or(&[][..], Vec::as_slice);
    let held = case.status.as_deref() == Some("conflict");
    for edit in case.warp {
        let count = entries
            .iter()
            .filter(|entry| entry.update && entry.value.as_ref() == Some(&edit.value))
            .count();
        if count != 1 {
            problems.push(format!("the edit {:?} is in the ledger {count} times", edit.value));
        }
    }
    for entry in entries {
        let made = case.warp.iter().any(|edit| Some(&edit.value) == entry.value.as_ref());
        if entry.update && !made {
            problems.push(format!("the ledger has the edit {:?}, which nobody made", entry.value));
        }
        let newest = case.warp.last().map(|edit| &edit.value) == entry.value.as_ref();
        if entry.outcome.is_none() && !(held && newest) {
            problems.push(format!("the edit {:?} has no outcome", entry.value));
        }
        let recorded = case.conflicts.iter().any(|conflict| conflict.warp == entry.value);
        if entry.outcome.as_deref() == Some("lost_conflict") && !recorded {
            problems.push(format!("the losing edit {:?} is in no conflict", entry.value));
        }
    }
    let receives = field.rule != Rule::WarpOnly;
    if let Some(theirs) = case
        .theirs()
        .filter(|theirs| receives && case.hubspot.as_ref() != Some(&theirs.value))
    {
        let value = Some(theirs.value.clone());
        let reached = books.inbound.get(&at).is_some_and(|values| values.contains(&value));
        let recorded = case.conflicts.iter().any(|conflict| conflict.hubspot == value);
        if !reached && !recorded {
            problems.push(format!(
                "HubSpot's losing edit {value:?} reached no row and is in no conflict"
            ));
        }
    }
    problems
}

/// What happened to the field, from all sources, for a person who must find out why.
pub(crate) async fn story(world: &World, key: &str, field: &Field, case: &Case<'_>) -> Result<String> {
    let mut text = String::new();
    for edit in case.warp {
        let _ = writeln!(
            text,
            "  row edited   {}..{} {:?} over {:?}",
            edit.begun, edit.ended, edit.value, edit.replaced
        );
    }
    for version in &case.history {
        let who = if version.own { "the app" } else { "a person" };
        let _ = writeln!(text, "  HubSpot      {} {:?} by {who}", version.at, version.value);
    }
    let log = "SELECT concat_ws(' ', id, (extract(epoch FROM at) * 1e6)::bigint, side, action, 'warp=' || warp_value,
          'hubspot=' || hubspot_value, 'edited=' || (extract(epoch FROM edited_at) * 1e6)::bigint, outcome,
          'ended=' || (extract(epoch FROM outcome_at) * 1e6)::bigint, detail)
        FROM hubspot.sync_log WHERE entity_key = $1 AND (field = $2 OR field IS NULL) ORDER BY id";
    for row in world.sql.query(log, &[&key, &field.name]).await? {
        let _ = writeln!(text, "  sync_log     {}", row.get::<_, String>(0));
    }
    let events = "SELECT concat_ws(' ', id, event->>'occurredAt', (extract(epoch FROM received_at) * 1e6)::bigint,
          (extract(epoch FROM processed_at) * 1e6)::bigint, event->>'propertyValue', event->>'changeSource', status, detail)
        FROM hubspot.webhook_events e WHERE event->>'propertyName' = $2 AND hubspot_id =
          (SELECT hubspot_id FROM hubspot.link WHERE entity_key = $1 LIMIT 1) ORDER BY id";
    for row in world.sql.query(events, &[&key, &field.property]).await? {
        let _ = writeln!(text, "  webhook      {}", row.get::<_, String>(0));
    }
    let state = "SELECT to_jsonb(s)::text FROM hubspot.sync_state s JOIN hubspot.link l ON l.id = s.link_id
        JOIN hubspot.field_mapping f ON f.id = s.field_id WHERE l.entity_key = $1 AND f.field = $2";
    for row in world.sql.query(state, &[&key, &field.name]).await? {
        let _ = writeln!(text, "  state        {}", row.get::<_, String>(0));
    }
    Ok(text)
}
