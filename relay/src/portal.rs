//! Which portal the token belongs to: asked once at the start, because a token of another portal than the one the
//! database is armed for must never write a record.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hubspot::client::{CallError, Client};
use crate::hubspot::error::FailureClass;
use crate::status::Status;
use crate::telemetry::event;

/// Until a refused or foreign token is looked at again.
const SLOW: Duration = Duration::from_secs(30);
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The portal, once known.
pub(crate) type PortalId = Arc<OnceLock<i64>>;

/// Asks until HubSpot has answered. `configured` is `hubspot.portal_id`.
pub(crate) async fn run(
    client: Client,
    configured: Option<i64>,
    portal: PortalId,
    status: Status,
    stop: CancellationToken,
) {
    let mut wait = FIRST_WAIT;
    loop {
        let deadline = Instant::now() + client.timeout();
        let answer = tokio::select! {
            answer = client.account_details(deadline) => answer,
            () = stop.cancelled() => return,
        };
        if let Ok(Some(zone)) = answer.as_ref().map(|details| details.time_zone.as_deref()) {
            client.limiter().set_time_zone(zone);
        }
        let next = match answer.map(|details| details.portal_id) {
            Ok(Some(id)) if configured.is_none_or(|configured| configured == id) => {
                let _ = portal.set(id);
                status.update(|status| {
                    status.portal_checked = true;
                    status.auth_failed = false;
                });
                return;
            }
            Ok(Some(id)) => {
                tracing::error!(
                    event = event::PORTAL_MISMATCH,
                    token_portal_id = id,
                    configured_portal_id = configured,
                    "the token belongs to another portal than hubspot.portal_id: nothing is sent"
                );
                client.reload_token();
                SLOW
            }
            // HubSpot does not say (no such call, or no right to it): the configured portal is taken for true.
            Ok(None) if configured.is_some() => return trust(&status),
            Err(CallError::Failed(failure))
                if configured.is_some()
                    && (failure.class.is_refusal()
                        || (failure.class == FailureClass::Auth && failure.status == Some(403))) =>
            {
                return trust(&status);
            }
            Err(CallError::Failed(failure)) if failure.class == FailureClass::Auth => {
                status.update(|status| status.auth_failed = true);
                tracing::error!(
                    event = event::AUTH_FAILED,
                    operation = failure.operation,
                    status = failure.status,
                    "HubSpot refuses the token: nothing is sent until it accepts; check hubspot.access_token"
                );
                client.reload_token();
                SLOW
            }
            Ok(None) | Err(_) => {
                wait = (wait * 2).min(SLOW);
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn trust(status: &Status) {
    tracing::warn!(
        event = event::PORTAL_MISMATCH,
        "HubSpot does not tell which portal the token belongs to; hubspot.portal_id is taken for true"
    );
    status.update(|status| status.portal_checked = true);
}
