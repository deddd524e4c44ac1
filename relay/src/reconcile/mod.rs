//! Drives reconciliation runs: takes one, reads of HubSpot what its pages ask for, brings it back, until it is over.
//!
//! What is compared and what is done about it is the extension's matter. A page whose read fails is asked for again later;
//! a run whose relay died is taken over by another when its lease is over, at the page that was out.

pub mod command;
mod export;
pub(crate) mod schedule;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::db::contract::End;
use crate::db::reconcile::{Done, Listed, Page, SearchRequest};
use crate::deliver::{Context, read, round};
use crate::hubspot::client::CallError;
use crate::hubspot::error::FailureClass;
use crate::hubspot::model::Record;
use crate::hubspot::quota::Purpose;
use crate::telemetry::event;

/// How long a page may take; then another relay may go on with the run.
const LEASE: Duration = Duration::from_secs(60);
/// Time between two looks for a run.
const POLL: Duration = Duration::from_secs(1);
/// Wait after a failure, of the database or of HubSpot.
const WAIT: Duration = Duration::from_secs(2);

/// Most characters of a search that HubSpot reads, with room to spare.
const SEARCH_CHARS: usize = 2_900;
/// Most results of a page of a search.
const SEARCH_PAGE: usize = 200;

/// Runs until the context's `stop`: full runs, and beside them those that look at changes only, so that these need not wait
/// for hours.
pub(crate) async fn run(context: Arc<Context>) {
    tokio::join!(lane(&context, false), lane(&context, true));
}

async fn lane(context: &Arc<Context>, changes: bool) {
    // The file of the export that a first load is read from.
    let mut held = None;
    while !context.stop.is_cancelled() {
        let wait = match step(context, changes, &mut held).await {
            Next::Again => continue,
            Next::Wait(time) => time,
        };
        tokio::select! {
            () = context.stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What to do next.
enum Next {
    Again,
    Wait(Duration),
}

async fn step(context: &Arc<Context>, changes: bool, held: &mut Option<export::Held>) -> Next {
    if !context.status.snapshot().may_claim() || context.gate.blocked().is_some() {
        return Next::Wait(POLL);
    }
    match ask(context, None, changes).await {
        Ok(Some(page)) => drive(context, page, changes, held).await,
        Ok(None) => Next::Wait(POLL),
        Err(wait) => Next::Wait(wait),
    }
}

/// Drives a run until it is over, or something is in the way.
async fn drive(context: &Arc<Context>, first: Page, changes: bool, held: &mut Option<export::Held>) -> Next {
    let mut page = first;
    if page.page <= 1 && !page.finished {
        tracing::info!(
            event = event::RECONCILIATION,
            run = page.run,
            kind = page.kind,
            "a reconciliation run has begun"
        );
    }
    loop {
        if page.finished {
            *held = None;
            tracing::info!(
                event = event::RECONCILIATION,
                run = page.run,
                "a reconciliation run is over"
            );
            return Next::Again;
        }
        if context.stop.is_cancelled() {
            return Next::Wait(POLL);
        }
        let purposed = for_kind(context, &page.kind);
        let done = match work(&purposed, &page, held).await {
            Ok(done) => done,
            Err(wait) => return Next::Wait(wait),
        };
        match ask(context, Some(&done), changes).await {
            Ok(Some(next)) => page = next,
            // Another relay has gone on with it, or it was cancelled.
            Ok(None) => return Next::Again,
            Err(wait) => return Next::Wait(wait),
        }
    }
}

/// The context whose calls are counted for what the run is: backfills have their own share of the day.
fn for_kind(context: &Arc<Context>, kind: &str) -> Arc<Context> {
    if kind != "backfill" {
        return Arc::clone(context);
    }
    Arc::new(Context {
        client: context.client.with_purpose(Purpose::Backfill),
        ..context.as_ref().clone()
    })
}

async fn ask(context: &Context, done: Option<&Done>, changes: bool) -> Result<Option<Page>, Duration> {
    context
        .db
        .reconcile(&context.relay_id, done, changes, LEASE)
        .await
        .map_err(|error| {
            context.metrics.database_failed();
            tracing::warn!(event = event::DATABASE_FAILED, function = "relay_reconcile", %error, "no page");
            WAIT
        })
}

/// Reads what a page asks for. The error is how long to wait before the page is asked for again.
async fn work(context: &Arc<Context>, page: &Page, held: &mut Option<export::Held>) -> Result<Done, Duration> {
    let send_by = Instant::now() + LEASE - context.client.timeout();
    let mut done = Done {
        run: page.run,
        page: page.page,
        ..Done::default()
    };
    let mut exported = false;
    if let Some(request) = &page.export {
        if request.prepare {
            export::prepare(context, request, held, &mut done).await?;
        } else {
            exported = export::observe(context, page, request, held, &mut done).await?;
            if !exported {
                done.calls += u32::try_from(page.claims.len().div_ceil(100)).unwrap_or(u32::MAX);
            }
        }
    }
    if !page.claims.is_empty() && !exported {
        let (observations, failed) = read::all(context, page.claims.clone(), round::Lease { send_by }).await;
        if failed.iter().any(|outcome| !matches!(outcome.end, End::Refused { .. })) {
            return Err(WAIT);
        }
        done.observations = observations;
    }
    if let Some(list) = &page.list {
        let answer = context
            .client
            .list(&list.object_type, list.after.as_deref(), &list.properties, send_by)
            .await;
        match answer {
            Ok(listing) => {
                done.after = listing.paging.and_then(|paging| paging.next).map(|next| next.after);
                done.listed = listing.results.into_iter().map(listed).collect();
            }
            Err(error) => done.failed = Some(refused(context, error, &list.object_type).await?),
        }
    }
    if let Some(search) = &page.search {
        let query = query(search);
        let asked = query["properties"] != json!([]);
        match context.client.search(&search.object_type, &query, send_by).await {
            Ok(found) => {
                // The next page begins after this one's greatest id: HubSpot shows the first 10,000 results only.
                let more = found.total > found.results.len() as u64;
                done.after = found
                    .results
                    .iter()
                    .filter_map(|record| record.id.parse::<u64>().ok())
                    .max()
                    .filter(|_| more)
                    .map(|id| id.to_string());
                done.listed = found
                    .results
                    .into_iter()
                    .map(|record| shown(record, &search.properties, asked))
                    .collect();
            }
            Err(error) => done.failed = Some(refused(context, error, &search.object_type).await?),
        }
    }
    Ok(done)
}

/// HubSpot's search document. A long list of properties is left out: the records are then read.
fn query(search: &SearchRequest) -> Value {
    let document = |properties: &[String]| {
        json!({"filterGroups":[{"filters":[
                {"propertyName": search.modified_property, "operator": "BETWEEN",
                 "value": search.from_ms.to_string(), "highValue": search.to_ms.to_string()},
                {"propertyName": "hs_object_id", "operator": "GT", "value": search.after}]}],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "properties": properties, "limit": SEARCH_PAGE})
    };
    let whole = document(&search.properties);
    if whole.to_string().len() <= SEARCH_CHARS {
        return whole;
    }
    document(&[])
}

/// A found record with all its properties, null where it has none; without any when HubSpot was not asked for them.
fn shown(record: Record, wanted: &[String], asked: bool) -> Listed {
    let value = |name: &String| {
        (
            name.clone(),
            record.properties.get(name).cloned().unwrap_or(Value::Null),
        )
    };
    Listed {
        properties: wanted.iter().filter(|_| asked).map(value).collect(),
        hubspot_id: record.id,
    }
}

fn listed(record: Record) -> Listed {
    Listed {
        hubspot_id: record.id,
        properties: record.properties,
    }
}

/// Why HubSpot will never answer this, or how long to wait before asking again.
async fn refused(context: &Context, error: CallError, object_type: &str) -> Result<String, Duration> {
    match error {
        CallError::NotSent { wait } => Err(wait.clamp(POLL, LEASE)),
        CallError::Failed(failure) => {
            context.gate.judge(&failure, object_type).await;
            match failure.class {
                FailureClass::Invalid | FailureClass::NotFound | FailureClass::Conflict => Ok(failure.message),
                _ => Err(WAIT),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_stays_below_hubspots_limit() {
        let mut search = SearchRequest {
            modified_property: "hs_lastmodifieddate".to_owned(),
            after: "17".to_owned(),
            properties: vec!["name".to_owned()],
            ..SearchRequest::default()
        };
        assert_eq!(query(&search)["properties"], json!(["name"]));
        search.properties = (0..200).map(|n| format!("a_property_with_a_long_name_{n}")).collect();
        assert_eq!(query(&search)["properties"], json!([]));
        assert!(query(&search).to_string().len() < 3_000);
    }
}
