//! Reading a first load from an export of HubSpot's: a file with all records, for a handful of calls.
//!
//! It is another way of reading the same pages, and decides nothing: what comes of a page is as old as the export, and
//! whatever moved since it was asked for is left alone. Whether an export is made, and whether its file can be trusted, is the
//! relay's matter; it says so page by page, and a page it read by batch calls ends the export's use.

use super::linked::synced;
use super::run::{Export, Position, Run};
use crate::catalog::Mapping;
use crate::spi;
use serde::Deserialize;
use serde_json::{Value as Json, json};

/// What the relay says of an export.
#[derive(Deserialize)]
pub struct Told {
    task: String,
    asked_ms: i64,
    /// Its file is there.
    #[serde(default)]
    ready: bool,
}

const LINKED: &str = r#"
SELECT to_json(count(*))::text FROM hubspot.link l WHERE l.mapping_id = ($1::json)::text::int AND l.status = 'linked'"#;

/// What the relay is to prepare, or to go on waiting for.
pub fn request(mapping: &Mapping, export: Option<&Export>) -> Json {
    let mut request = match export {
        Some(export) => named(mapping, export),
        None => json!({"object_type": mapping.hubspot_object, "properties": properties(mapping),
            "expected": spi::call(LINKED, &json!(mapping.id))}),
    };
    request["prepare"] = json!(true);
    json!({"export": request})
}

/// The export that a page is to be read from.
pub fn named(mapping: &Mapping, export: &Export) -> Json {
    json!({"object_type": mapping.hubspot_object, "properties": properties(mapping), "task": export.task,
        "asked_ms": export.asked_ms})
}

fn properties(mapping: &Mapping) -> Vec<&String> {
    synced(mapping).map(|field| &field.hubspot_property).collect()
}

/// Where the run goes on after what the relay said.
pub fn take(run: &Run, known: Option<Export>, told: Option<Told>) -> Position {
    let export = told.as_ref().map(|told| match &known {
        Some(known) if known.task == told.task => known.clone(),
        // It was asked for while this page was out.
        _ => Export {
            task: told.task.clone(),
            asked_us: run.page_us,
            asked_ms: told.asked_ms,
        },
    });
    match told {
        Some(told) if !told.ready => Position::Export { export },
        _ => super::linked_after(0, Vec::new(), export),
    }
}
