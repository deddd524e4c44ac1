//! Reconciliation: a run compares both sides page by page. The relay reads HubSpot, this side compares and sets right.
//!
//! A run has these phases; each page is one call, so that no lock is held while HubSpot is asked, and memory does not
//! grow with the table:
//!
//! | phase | looks at | page |
//! | --- | --- | --- |
//! | rows | rows against what is recorded of them | 5,000 rows, read here |
//! | gone | records whose rows are gone | 5,000 records, read here |
//! | export | whether an export of HubSpot's spares the reads of an inbound backfill | one look, by the relay |
//! | linked | records HubSpot should know | 400 records, read by the relay; of the unclear ones the history |
//! | listing | HubSpot's records that nobody is linked to | 100 records, listed by the relay |
//! | changed | records that HubSpot says were modified in a window of time | 200 records, searched by the relay; the history of those that differ |
//!
//! A full run has all but the last. An incremental one looks at rows whose `updated_at_column` moved, then at the records
//! that changed; a poll at the latter alone.
//!
//! The results of a page and the position after it are stored in one transaction: a run that loses its relay goes on with
//! the page that was out, and nothing is found twice.

mod backfill;
mod changed;
mod export;
mod linked;
mod listing;
mod rows;
mod run;

use super::decide::Observation;
use super::{may_work, parse};
use crate::catalog::{Catalog, Mapping};
use run::{Export, Position, Run};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::rc::Rc;

/// What a relay brings back from a page.
#[derive(Deserialize)]
struct Done {
    run: i64,
    page: i64,
    /// What it read of the page's claims.
    #[serde(default)]
    observations: Vec<Observation>,
    /// What it listed.
    #[serde(default)]
    listed: Vec<Listed>,
    /// Where the listing goes on; none at its end.
    after: Option<String>,
    /// The run cannot go on, and why.
    failed: Option<String>,
    /// Of an export's page: the export; none: there is none, and records are read by batch calls.
    export: Option<export::Told>,
    /// The observations are an export's, as old as that.
    #[serde(default)]
    exported: bool,
    /// Calls that the relay made beside those the page named.
    #[serde(default)]
    calls: u32,
}

/// One record of a listing or a search.
#[derive(Deserialize)]
struct Listed {
    hubspot_id: String,
    #[serde(default)]
    properties: serde_json::Map<String, Json>,
}

/// See the contract.
pub fn reconcile(relay_id: &str, done: Option<&Json>, changes: bool, lease_ms: i32) -> Json {
    if !may_work() {
        return Json::Null;
    }
    let done: Option<Done> = done.filter(|d| !d.is_null()).map(|d| parse("done", d));
    let held = match &done {
        Some(done) => Run::held(relay_id, done.run, done.page),
        None => Run::take(relay_id, changes),
    };
    let Some(mut run) = held else { return Json::Null };
    let catalog = Catalog::load();
    let mapping = catalog
        .mappings
        .values()
        .find(|m| m.entity_type == run.entity_type)
        .cloned();
    let Some(mapping) = mapping.filter(|m| m.enabled) else {
        run.end("cancelled", Some("its mapping is disabled or gone"));
        return json!({"run": run.id, "finished": true});
    };
    if let Some(done) = done {
        if let Some(reason) = &done.failed {
            run.end("failed", Some(reason));
            return json!({"run": run.id, "finished": true});
        }
        take(&mut run, &mapping, done);
    }
    let Some(work) = work(&mut run, &mapping) else {
        run.end("finished", None);
        return json!({"run": run.id, "finished": true});
    };
    run.hand_out(relay_id, lease_ms, work)
}

/// Takes in what the relay read, and moves the position past it.
fn take(run: &mut Run, mapping: &Rc<Mapping>, done: Done) {
    run.api_calls += i64::from(done.calls);
    match run.position.clone() {
        // These pages are read here: the relay only calls again.
        Position::Rows { after } => rows::page(run, mapping, after),
        Position::Gone { after } => rows::gone(run, mapping, after),
        Position::Export { export } => run.position = export::take(run, export, done.export),
        Position::Linked {
            after, history, export, ..
        } if !history.is_empty() => {
            run.histories += history.len() as i64;
            compare(run, &done.observations);
            run.position = linked_after(after, Vec::new(), export);
        }
        Position::Linked { upto, export, .. } => {
            run.records += done.observations.len() as i64;
            // An export that did not serve for this page does not for the others.
            let export = export.filter(|_| done.exported);
            if let Some(export) = &export {
                run.page_us = run.page_us.min(export.asked_us);
            }
            let history = compare(run, &done.observations);
            run.position = linked_after(upto, history, export);
        }
        Position::Listing { .. } => {
            run.listed += done.listed.len() as i64;
            listing::take(run, mapping, &done.listed);
            run.position = match done.after {
                Some(after) => Position::Listing { after: Some(after) },
                None => Position::End,
            };
        }
        Position::Changed { after, more, history } if !history.is_empty() => {
            run.histories += history.len() as i64;
            linked::compare(run, &done.observations);
            run.position = changed_after(after, more, Vec::new());
        }
        Position::Changed { after, .. } => {
            run.listed += done.listed.len() as i64;
            let history = changed::compare(run, mapping, &done.listed);
            let more = done.after.is_some();
            run.position = changed_after(done.after.unwrap_or(after), more, history);
        }
        Position::End => {}
    }
}

/// The next page's work for the relay; none when the run is at its end.
fn work(run: &mut Run, mapping: &Rc<Mapping>) -> Option<Json> {
    loop {
        match run.position.clone() {
            // One page a call: others wait for the lock it takes.
            Position::Rows { .. } | Position::Gone { .. } => return Some(json!({})),
            Position::Linked { history, .. } if !history.is_empty() => {
                run.api_calls += calls(history.len(), 50);
                return Some(json!({"claims": linked::claims(mapping, &history, "history")}));
            }
            Position::Export { export } => return Some(export::request(mapping, export.as_ref())),
            Position::Linked { after, export, .. } => {
                let ids = linked::after(run, mapping, after);
                if let Some(last) = ids.last() {
                    let mut work = json!({"claims": linked::claims(mapping, &ids, "values")});
                    match &export {
                        // The relay counts what the export does not spare.
                        Some(export) => work["export"] = export::named(mapping, export),
                        None => run.api_calls += calls(ids.len(), 100),
                    }
                    run.position = Position::Linked {
                        after,
                        upto: *last,
                        history: Vec::new(),
                        export,
                    };
                    return Some(work);
                }
                run.position = match run.is_backfill() {
                    true => Position::End,
                    false => Position::Listing { after: None },
                };
            }
            Position::Changed { history, .. } if !history.is_empty() => {
                run.api_calls += calls(history.len(), 50);
                return Some(json!({"claims": linked::claims(mapping, &history, "history")}));
            }
            Position::Changed { more: false, .. } => run.position = Position::End,
            Position::Changed { after, .. } => {
                run.api_calls += 1;
                return Some(json!({"search": changed::request(run, mapping, &after)}));
            }
            Position::Listing { after } => {
                run.api_calls += 1;
                return Some(json!({"list": listing::request(mapping, after)}));
            }
            Position::End => return None,
        }
    }
}

fn compare(run: &mut Run, seen: &[Observation]) -> Vec<i64> {
    match run.is_backfill() {
        true => backfill::compare(run, seen),
        false => linked::compare(run, seen),
    }
}

fn changed_after(after: String, more: bool, history: Vec<i64>) -> Position {
    Position::Changed { after, more, history }
}

fn linked_after(after: i64, history: Vec<i64>, export: Option<Export>) -> Position {
    Position::Linked {
        after,
        upto: after,
        history,
        export,
    }
}

fn calls(records: usize, a_call: usize) -> i64 {
    records.div_ceil(a_call) as i64
}
