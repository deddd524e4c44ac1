//! Reconciliation's part of the contract: a run is driven page by page.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_postgres::types::Json;

use super::contract::{Claim, Observation, millis, storable};
use super::error::DbError;
use super::pool::Db;

/// A page of a run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Page {
    /// The run.
    pub run: i64,
    /// The page's number: results of an older one come too late.
    pub page: i64,
    /// `full`, `incremental` or `poll`.
    pub kind: String,
    /// The run is over.
    pub finished: bool,
    /// Records to read.
    pub claims: Vec<Claim>,
    /// A page of records to list.
    pub list: Option<ListRequest>,
}

/// Records of a type to list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ListRequest {
    /// HubSpot's object type.
    pub object_type: String,
    /// From this id on; none: from the first.
    pub after: Option<String>,
    /// Properties wanted.
    pub properties: Vec<String>,
}

/// What a page brought.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Done {
    /// The run.
    pub run: i64,
    /// The page's number.
    pub page: i64,
    /// Of the page's claims; claims that HubSpot refuses to read are left out.
    pub observations: Vec<Observation>,
    /// Of the page's list.
    pub listed: Vec<Listed>,
    /// Where the listing goes on; none at its end.
    pub after: Option<String>,
    /// The run cannot go on, and why.
    pub failed: Option<String>,
}

/// One record of a listing.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// HubSpot's id.
    pub hubspot_id: String,
    /// Properties asked for.
    pub properties: Map<String, Value>,
}

impl Db {
    /// Brings back a page and takes the next; without one, takes a run. None: nothing to do, or the page came too late.
    pub async fn reconcile(
        &self,
        relay_id: &str,
        done: Option<&Done>,
        lease: Duration,
    ) -> Result<Option<Page>, DbError> {
        let sql = "select hubspot.relay_reconcile($1::text, $2::jsonb, $3::int)";
        let done = done.map(storable).transpose()?.map(Json);
        self.call("relay_reconcile", sql, &[&relay_id, &done, &millis(lease)])
            .await
    }
}
