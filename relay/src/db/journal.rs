//! The webhooks journal's part of the contract: a lease, and entries that are stored together with the offset reached.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::types::Json;

use super::contract::{millis, storable};
use super::error::DbError;
use super::pool::Db;

/// The lease of a portal's journal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hold {
    /// Fences what is stored under it.
    pub fence: i64,
    /// The newest entry that was stored; none: not begun; empty: from the earliest one.
    pub offset: Option<String>,
    /// For how long nothing was read.
    pub unread_seconds: Option<i64>,
}

/// What an entry told, and how far it brings us.
#[derive(Debug)]
pub struct Stored<'a> {
    /// The offset it comes after, as [`Hold`] has it.
    pub after: Option<&'a str>,
    /// The offset from now on.
    pub reached: &'a str,
    /// Events in the form of a webhook's.
    pub events: &'a [Value],
    /// Entries may have been missed before it.
    pub gap: bool,
}

impl Db {
    /// Takes or keeps the lease of the portal's journal; none while another relay has it.
    pub async fn journal_take(
        &self,
        relay_id: &str,
        portal_id: i64,
        lease: Duration,
        caught_up: bool,
    ) -> Result<Option<Hold>, DbError> {
        let sql = "select hubspot.relay_journal_take($1::text, $2::bigint, $3::bigint, $4::boolean)";
        let lease = i64::from(millis(lease));
        self.call("relay_journal_take", sql, &[&relay_id, &portal_id, &lease, &caught_up])
            .await
    }

    /// Stores an entry; none when the lease or the offset are another relay's by now. When this returns, it is committed.
    pub async fn journal_store(
        &self,
        relay_id: &str,
        portal_id: i64,
        fence: i64,
        stored: &Stored<'_>,
    ) -> Result<Option<i64>, DbError> {
        let sql = "select to_jsonb(hubspot.relay_journal_store($1::text, $2::bigint, $3::bigint, $4::text, $5::text, $6::jsonb, $7::boolean))";
        let events = Json(storable(stored.events)?);
        self.call(
            "relay_journal_store",
            sql,
            &[
                &relay_id,
                &portal_id,
                &fence,
                &stored.after,
                &stored.reached,
                &events,
                &stored.gap,
            ],
        )
        .await
    }
}
