//! Drives reconciliation runs: takes one, reads of HubSpot what its pages ask for, brings it back, until it is over.
//!
//! What is compared and what is done about it is the extension's matter. A page whose read fails is asked for again later;
//! a run whose relay died is taken over by another when its lease is over, at the page that was out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::db::contract::End;
use crate::db::reconcile::{Done, Listed, Page};
use crate::deliver::{Context, read, round};
use crate::hubspot::client::CallError;
use crate::hubspot::error::FailureClass;
use crate::telemetry::event;

/// How long a page may take; then another relay may go on with the run.
const LEASE: Duration = Duration::from_secs(60);
/// Time between two looks for a run.
const POLL: Duration = Duration::from_secs(1);
/// Wait after a failure, of the database or of HubSpot.
const WAIT: Duration = Duration::from_secs(2);

/// Runs until the context's `stop`.
pub(crate) async fn run(context: Arc<Context>) {
    while !context.stop.is_cancelled() {
        let wait = match step(&context).await {
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

async fn step(context: &Arc<Context>) -> Next {
    if !context.status.snapshot().may_claim() || context.gate.blocked().is_some() {
        return Next::Wait(POLL);
    }
    match ask(context, None).await {
        Ok(Some(page)) => drive(context, page).await,
        Ok(None) => Next::Wait(POLL),
        Err(wait) => Next::Wait(wait),
    }
}

/// Drives a run until it is over, or something is in the way.
async fn drive(context: &Arc<Context>, first: Page) -> Next {
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
        let done = match work(context, &page).await {
            Ok(done) => done,
            Err(wait) => return Next::Wait(wait),
        };
        match ask(context, Some(&done)).await {
            Ok(Some(next)) => page = next,
            // Another relay has gone on with it, or it was cancelled.
            Ok(None) => return Next::Again,
            Err(wait) => return Next::Wait(wait),
        }
    }
}

async fn ask(context: &Context, done: Option<&Done>) -> Result<Option<Page>, Duration> {
    context
        .db
        .reconcile(&context.relay_id, done, LEASE)
        .await
        .map_err(|error| {
            context.metrics.database_failed();
            tracing::warn!(event = event::DATABASE_FAILED, function = "relay_reconcile", %error, "no page");
            WAIT
        })
}

/// Reads what a page asks for. The error is how long to wait before the page is asked for again.
async fn work(context: &Arc<Context>, page: &Page) -> Result<Done, Duration> {
    let send_by = Instant::now() + LEASE - context.client.timeout();
    let mut done = Done {
        run: page.run,
        page: page.page,
        ..Done::default()
    };
    if !page.claims.is_empty() {
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
    Ok(done)
}

fn listed(record: crate::hubspot::model::Record) -> Listed {
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
