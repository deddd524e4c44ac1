//! Keeps the database's memory of HubSpot's property definitions fresh: `hubspot.plan` and `hubspot.check_mapping` use it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db::pool::Db;
use crate::hubspot::client::Client;
use crate::status::Status;
use crate::telemetry::event;

/// Not at once: deliveries come first.
const FIRST: Duration = Duration::from_secs(60);
/// Definitions change seldom.
const NEXT: Duration = Duration::from_secs(6 * 60 * 60);
/// After a failure, or while the relay may not work.
const AGAIN: Duration = Duration::from_secs(600);
/// Longest wait for a slot of the rate limit.
const SLOT_WAIT: Duration = Duration::from_secs(30);

/// Runs until `stop`.
pub(crate) async fn run(db: Db, client: Client, status: Status, stop: CancellationToken) {
    let mut wait = FIRST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = if status.snapshot().may_claim() && refresh(&db, &client).await {
            NEXT
        } else {
            AGAIN
        };
    }
}

/// One call for each mapped object type; whether all succeeded.
async fn refresh(db: &Db, client: &Client) -> bool {
    let mappings = match db.mapping().await {
        Ok(mappings) => mappings,
        Err(error) => {
            tracing::debug!(event = event::DATABASE_FAILED, function = "relay_mapping", %error, "definitions are not read");
            return false;
        }
    };
    let types: BTreeSet<&str> = mappings.iter().map(|mapping| mapping.object_type.as_str()).collect();
    let mut all = true;
    for object_type in types {
        let Ok(list) = client.properties(object_type, Instant::now() + SLOT_WAIT).await else {
            all = false;
            continue;
        };
        if let Err(error) = db.remember_properties(object_type, &list.results).await {
            tracing::warn!(event = event::DATABASE_FAILED, function = "relay_properties", %error, "definitions are not remembered");
            all = false;
        }
    }
    all
}
