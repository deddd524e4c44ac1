//! Reconciliation's part of the contract: a run is driven page by page.

use std::collections::BTreeMap;
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
    /// `full`, `incremental`, `poll` or `backfill`.
    pub kind: String,
    /// The run is over.
    pub finished: bool,
    /// Records to read.
    pub claims: Vec<Claim>,
    /// A page of records to list.
    pub list: Option<ListRequest>,
    /// A page of changed records to search for.
    pub search: Option<SearchRequest>,
    /// An export of HubSpot's: to be prepared, or to read the claims from.
    pub export: Option<ExportRequest>,
}

/// An export of HubSpot's that spares a first load's reads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ExportRequest {
    /// HubSpot's object type.
    pub object_type: String,
    /// Properties wanted.
    pub properties: Vec<String>,
    /// It is to be prepared; else the page's claims are to be read from it.
    pub prepare: bool,
    /// Records there are to be read.
    pub expected: u64,
    /// HubSpot's id of it; none: it is not asked for yet.
    pub task: Option<String>,
    /// When it was asked for, epoch milliseconds.
    pub asked_ms: i64,
}

/// What there is to say of an export.
#[derive(Debug, Clone, Serialize)]
pub struct ExportTold {
    /// HubSpot's id of it.
    pub task: String,
    /// When it was asked for, epoch milliseconds.
    pub asked_ms: i64,
    /// Its file is there.
    pub ready: bool,
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

/// Records of a type that were modified in a window of time.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SearchRequest {
    /// HubSpot's object type.
    pub object_type: String,
    /// The property that holds when a record was modified.
    pub modified_property: String,
    /// The window's begin, epoch milliseconds.
    pub from_ms: i64,
    /// Its end, included.
    pub to_ms: i64,
    /// Records with a greater id only.
    pub after: String,
    /// Properties wanted; they may be left out, then every record is read.
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
    /// Of the page's list or search.
    pub listed: Vec<Listed>,
    /// Where it goes on; none at its end.
    pub after: Option<String>,
    /// The run cannot go on, and why.
    pub failed: Option<String>,
    /// The export that was to be prepared; none: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportTold>,
    /// The observations are an export's.
    #[serde(skip_serializing_if = "is_false")]
    pub exported: bool,
    /// Calls made for an export's pages.
    #[serde(skip_serializing_if = "is_zero")]
    pub calls: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_false(value: &bool) -> bool {
    !value
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_zero(value: &u32) -> bool {
    *value == 0
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
    /// Brings back a page and takes the next; without one, takes a run: one that looks at changes only, or a full one. None:
    /// nothing to do, or the page came too late.
    pub async fn reconcile(
        &self,
        relay_id: &str,
        done: Option<&Done>,
        changes: bool,
        lease: Duration,
    ) -> Result<Option<Page>, DbError> {
        let sql = "select hubspot.relay_reconcile($1::text, $2::jsonb, $3::boolean, $4::int)";
        let done = done.map(storable).transpose()?.map(Json);
        self.call("relay_reconcile", sql, &[&relay_id, &done, &changes, &millis(lease)])
            .await
    }

    /// Says that a time for runs of a kind has come; returns how many runs were asked for.
    pub async fn reconcile_schedule(&self, kind: &str, slot_ms: i64) -> Result<i64, DbError> {
        let sql = "select to_jsonb(hubspot.relay_reconcile_schedule($1::text, $2::bigint))";
        self.call("relay_reconcile_schedule", sql, &[&kind, &slot_ms]).await
    }

    /// Asks for full runs, of one entity type or of all; returns their ids.
    pub async fn reconcile_request(&self, entity_type: Option<&str>, dry_run: bool) -> Result<Vec<i64>, DbError> {
        let sql = "select hubspot.relay_reconcile_request($1::text, $2::boolean)";
        self.call("relay_reconcile_request", sql, &[&entity_type, &dry_run])
            .await
    }

    /// Asks for a backfill; returns its run's id.
    pub async fn backfill_request(&self, entity_type: &str, direction: &str) -> Result<i64, DbError> {
        let sql = "select to_jsonb(hubspot.relay_backfill_request($1::text, $2::text))";
        self.call("relay_backfill_request", sql, &[&entity_type, &direction])
            .await
    }

    /// A run and a page of what it found; without `max` the run alone.
    pub async fn reconcile_report(&self, run: i64, after: i64, max: Option<i32>) -> Result<RunReport, DbError> {
        let sql = "select hubspot.relay_reconcile_report($1::bigint, $2::bigint, $3::int)";
        self.call("relay_reconcile_report", sql, &[&run, &after, &max]).await
    }
}

/// A run with what it found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunReport {
    /// The run.
    pub run: Run,
    /// What was found, summed up.
    pub summary: Vec<Sum>,
    /// What was found, one by one.
    pub discrepancies: Vec<Discrepancy>,
}

/// A row of `hubspot.reconciliation_runs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Its id.
    pub id: i64,
    /// What was compared.
    pub entity_type: String,
    /// `full`, `incremental`, `poll` or `backfill`.
    pub kind: String,
    /// Of a backfill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// Only reported.
    pub dry_run: bool,
    /// `waiting`, `running`, `finished`, `failed` or `cancelled`.
    pub status: String,
    /// When it was asked for.
    pub requested_at: Option<String>,
    /// By whom.
    pub requested_by: String,
    /// When it began.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// How long it took, or takes.
    pub seconds: Option<f64>,
    /// Rows read.
    pub rows_read: u64,
    /// Linked records compared.
    pub records: u64,
    /// Of those, with history.
    pub histories: u64,
    /// HubSpot's records listed.
    pub listed: u64,
    /// Calls to HubSpot.
    pub api_calls: u64,
    /// Differences found.
    pub discrepancies: u64,
    /// By kind.
    pub found: BTreeMap<String, u64>,
    /// Why it failed.
    pub message: Option<String>,
    /// What it is at.
    pub phase: Option<String>,
    /// Linked records there are.
    pub expected: u64,
}

/// One line of the summary.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sum {
    /// Kind of difference.
    pub kind: String,
    /// Field; none: the whole record.
    pub field: Option<String>,
    /// What was done.
    pub action: String,
    /// How many.
    pub discrepancies: u64,
    /// One of them.
    pub example_key: Option<String>,
}

/// One difference.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Discrepancy {
    /// Its id.
    pub id: i64,
    /// What was compared.
    pub entity_type: String,
    /// The row; none: HubSpot's record has none.
    pub entity_key: Option<String>,
    /// HubSpot's record.
    pub hubspot_id: Option<String>,
    /// Field; none: the whole record.
    pub field: Option<String>,
    /// Kind of difference.
    pub kind: String,
    /// What the row held.
    pub warp_value: Option<String>,
    /// What HubSpot held.
    pub hubspot_value: Option<String>,
    /// What was done.
    pub action: String,
    /// When.
    pub found_at: String,
}
