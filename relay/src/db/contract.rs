//! The extension's private functions, one typed method each. `extension/RELAY_CONTRACT.md` is the reference.
//!
//! Unknown keys of a result are ignored. Nothing here holds a transaction open: each call is one statement.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_postgres::types::{Json, ToSql};

use super::error::DbError;
use super::pool::Db;
use crate::hubspot::quota::{Grant, Report};

/// Longest wait for a function's answer. Above any sane page, below forever.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Answer to `relay_hello`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Hello {
    /// Version of the extension's schema.
    #[serde(default)]
    pub schema_version: Option<String>,
    /// Whether the database is bound to this portal.
    #[serde(default)]
    pub armed: bool,
    /// Whether an operator paused it.
    #[serde(default)]
    pub paused: bool,
    /// Why it is not armed, or paused.
    #[serde(default)]
    pub reason: Option<String>,
}

/// One entry of `relay_mapping`.
#[derive(Debug, Clone, Deserialize)]
pub struct Mapping {
    /// Name of the mapping.
    pub entity_type: String,
    /// HubSpot's object type.
    pub object_type: String,
    /// Whether it takes part.
    #[serde(default)]
    pub enabled: bool,
    /// The unique property that identifies a record.
    #[serde(default)]
    pub match_property: Option<String>,
    /// The mapped properties.
    #[serde(default)]
    pub properties: Vec<MappedProperty>,
}

/// A mapped property.
#[derive(Debug, Clone, Deserialize)]
pub struct MappedProperty {
    /// HubSpot's internal name.
    pub name: String,
    /// The field's name.
    #[serde(default)]
    pub field: Option<String>,
    /// `hubspot.sync_direction`.
    #[serde(default)]
    pub direction: Option<String>,
    /// The canonical type.
    #[serde(default)]
    pub kind: Option<String>,
    /// The values it may have; none: any.
    #[serde(default)]
    pub enum_values: Option<Vec<String>>,
}

/// What must be read before deciding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadKind {
    /// Nothing.
    None,
    /// Current values.
    Values,
    /// Every version of the properties.
    History,
}

/// The record to read when it has no HubSpot id yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Match {
    /// A unique property.
    pub property: String,
    /// Its value.
    pub value: String,
}

/// One record taken for a time.
#[derive(Debug, Clone, Deserialize)]
pub struct Claim {
    /// The record.
    pub claim: String,
    /// The fence: outcomes with an older one are stale.
    pub token: i64,
    /// 1 is the first try.
    #[serde(default = "one")]
    pub attempt: u32,
    /// HubSpot's object type.
    pub object_type: String,
    /// `sync` or `archive`.
    pub operation: String,
    /// HubSpot's id, when linked.
    #[serde(default)]
    pub hubspot_id: Option<String>,
    /// How to find it when not linked.
    #[serde(default, rename = "match")]
    pub matching: Option<Match>,
    /// What to read.
    pub read: ReadKind,
    /// Of which properties.
    #[serde(default)]
    pub properties: Vec<String>,
    /// It is decided already, and recorded as in flight: only to be sent.
    #[serde(default)]
    pub write: Option<Write>,
}

fn one() -> u32 {
    1
}

/// Answer to `relay_claim`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Claimed {
    /// The records.
    pub claims: Vec<Claim>,
    /// Work that could be claimed at once was left.
    pub more: bool,
    /// In how many milliseconds the next delayed record falls due.
    pub next_due_ms: Option<i64>,
}

/// A value that HubSpot refused.
#[derive(Debug, Clone, Deserialize)]
pub struct Refusal {
    /// `failed_syncs.id`.
    pub id: i64,
    /// HubSpot's object type.
    pub object_type: String,
    /// The property.
    pub property: String,
    /// The value in HubSpot's form.
    pub value: String,
    /// HubSpot's message; never logged.
    pub message: String,
}

/// A claim that is given back.
#[derive(Debug, Clone, Serialize)]
pub struct GivenBack {
    /// The claim's record.
    pub claim: String,
    /// The claim's fence.
    pub token: i64,
    /// When it falls due again, in milliseconds.
    pub delay_ms: u64,
}

/// What HubSpot holds of one record.
#[derive(Debug, Clone, Serialize)]
pub struct Observation {
    /// The claim's record.
    pub claim: String,
    /// The claim's fence.
    pub token: i64,
    /// Whether HubSpot has it; none when nothing was asked.
    pub found: Option<bool>,
    /// HubSpot's id; another than the claim's after a merge.
    pub hubspot_id: Option<String>,
    /// When the read was sent, epoch milliseconds.
    pub read_at_ms: i64,
    /// When the record last changed, in HubSpot's time; epoch milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at_ms: Option<i64>,
    /// Whether `versions` was read.
    pub history: bool,
    /// Every property asked for; null when empty.
    pub properties: Map<String, Value>,
    /// Versions by property, newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<BTreeMap<String, Vec<ObservedVersion>>>,
}

/// One version of a property.
#[derive(Debug, Clone, Serialize)]
pub struct ObservedVersion {
    /// The value.
    pub value: Option<String>,
    /// When, epoch milliseconds.
    pub timestamp_ms: i64,
    /// What kind of client set it.
    pub source_type: Option<String>,
    /// Which client.
    pub source_id: Option<String>,
    /// Whether it was this app; known only when `hubspot.app_id` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<bool>,
}

/// Answer to `relay_decide`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Decided {
    /// Claims that need another read.
    pub reads: Vec<Claim>,
    /// Writes to send.
    pub writes: Vec<Write>,
    /// Claims that are finished.
    pub settled: Vec<Value>,
}

/// One record to write.
#[derive(Debug, Clone, Deserialize)]
pub struct Write {
    /// The claim's record.
    pub claim: String,
    /// The claim's fence.
    pub token: i64,
    /// HubSpot's object type.
    pub object_type: String,
    /// How.
    pub operation: Operation,
    /// By this id (update, archive).
    #[serde(default)]
    pub hubspot_id: Option<String>,
    /// By this unique property (upsert).
    #[serde(default)]
    pub id_property: Option<String>,
    /// Its value.
    #[serde(default)]
    pub id_value: Option<String>,
    /// The values; an empty string clears.
    #[serde(default)]
    pub properties: Map<String, Value>,
}

impl Write {
    /// Our name of this write at HubSpot.
    pub fn trace_id(&self) -> String {
        format!("{}-{}", self.claim, self.token)
    }
}

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// By id.
    Update,
    /// By unique property, creating it if need be.
    Upsert,
    /// Archive by id.
    Archive,
}

impl Operation {
    /// Its word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Upsert => "upsert",
            Self::Archive => "archive",
        }
    }
}

/// How a claim ended, for `relay_complete`.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The claim's record.
    pub claim: String,
    /// The claim's fence.
    pub token: i64,
    /// What happened.
    #[serde(flatten)]
    pub end: End,
}

/// What happened to a claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum End {
    /// HubSpot said so.
    Ok {
        /// HubSpot's id.
        hubspot_id: Option<String>,
        /// Whether the upsert made it.
        created: bool,
        /// HubSpot's time of the change.
        #[serde(skip_serializing_if = "Option::is_none")]
        updated_at_ms: Option<i64>,
        /// When it was sent.
        sent_at_ms: i64,
        /// When it was answered.
        answered_at_ms: i64,
        /// The written properties as HubSpot returned them.
        properties: Map<String, Value>,
    },
    /// To be tried again after the delay.
    Retry {
        /// Class of the failure.
        kind: &'static str,
        /// Whether the write may have landed.
        unknown: bool,
        /// Whether the try counts.
        spent: bool,
        /// When to try again.
        delay_ms: u64,
        /// For people.
        message: String,
        /// HTTP status, if there was one.
        http_status: Option<u16>,
    },
    /// Refused for good.
    Refused {
        /// Class of the refusal.
        kind: &'static str,
        /// The property, when HubSpot names one.
        property: Option<String>,
        /// HubSpot's message.
        message: String,
        /// HTTP status.
        http_status: Option<u16>,
    },
    /// Retries used up.
    Exhausted {
        /// Class of the last failure.
        kind: &'static str,
        /// Whether the last write may have landed.
        unknown: bool,
        /// For people.
        message: String,
        /// HTTP status, if there was one.
        http_status: Option<u16>,
    },
    /// HubSpot has no such record.
    Missing {
        /// Always `not_found`.
        kind: &'static str,
        /// For people.
        message: String,
        /// HTTP status.
        http_status: Option<u16>,
    },
}

impl End {
    /// Its word in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok { .. } => "ok",
            Self::Retry { .. } => "retry",
            Self::Refused { .. } => "refused",
            Self::Exhausted { .. } => "exhausted",
            Self::Missing { .. } => "missing",
        }
    }
}

/// Answer to `relay_complete`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Completed {
    /// Claims ended.
    pub completed: u64,
    /// Outcomes whose claim had passed on.
    pub stale: u64,
}

/// Answer to `relay_apply`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Applied {
    /// Events that took effect.
    pub applied: u64,
    /// Events without effect.
    pub skipped: u64,
    /// Events that failed.
    pub failed: u64,
    /// Events that wait for the outcome of a write.
    pub waiting: u64,
    /// Whether to call again at once.
    pub more: bool,
}

/// Answer to `relay_maintain`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Maintained {
    /// Leases that had run out.
    pub rescued: u64,
    /// Rows removed by retention.
    pub purged: u64,
}

/// Argument of `relay_record_calls`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CallCounts {
    /// Calls to HubSpot.
    pub requests: u64,
    /// Answers 429.
    pub rate_limited: u64,
    /// Calls that failed, those included.
    pub failed: u64,
}

impl CallCounts {
    /// Whether there is nothing to report.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// Stands for U+0000, which PostgreSQL's text cannot hold; the extension refuses a value that carries it, and the other
/// values of the call go on. A noncharacter that no text may carry; `hubspot_sync_core` has the same constant.
const NUL_STAND_IN: &str = "\u{FDD0}";

/// A document that PostgreSQL can take: without U+0000.
pub(super) fn storable<T: Serialize + ?Sized>(document: &T) -> Result<Value, DbError> {
    let mut value = serde_json::to_value(document).map_err(|e| DbError::Contract {
        function: "the relay's own document",
        problem: e.to_string(),
    })?;
    replace_nul(&mut value);
    Ok(value)
}

fn replace_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', NUL_STAND_IN),
        Value::Array(items) => items.iter_mut().for_each(replace_nul),
        Value::Object(members) => members.values_mut().for_each(replace_nul),
        _ => {}
    }
}

impl Db {
    /// Heartbeat. `portal_id` none asks without naming a portal.
    pub async fn hello(&self, relay_id: &str, portal_id: Option<i64>) -> Result<Hello, DbError> {
        let version = env!("CARGO_PKG_VERSION");
        let sql = "select to_jsonb(hubspot.relay_hello($1::text, $2::text, $3::bigint))";
        self.call("relay_hello", sql, &[&relay_id, &version, &portal_id]).await
    }

    /// The mappings.
    pub async fn mapping(&self) -> Result<Vec<Mapping>, DbError> {
        let mappings: Option<Vec<Mapping>> = self
            .call("relay_mapping", "select to_jsonb(hubspot.relay_mapping())", &[])
            .await?;
        Ok(mappings.unwrap_or_default())
    }

    /// The database's clock, in milliseconds since 1970.
    pub async fn now_ms(&self) -> Result<i64, DbError> {
        self.call(
            "clock",
            "select to_jsonb((extract(epoch from clock_timestamp()) * 1000)::bigint)",
            &[],
        )
        .await
    }

    /// Takes up to `max_records` records for `lease`.
    pub async fn claim(
        &self,
        relay_id: &str,
        max_records: i32,
        lease: Duration,
        cache_ttl: Duration,
    ) -> Result<Claimed, DbError> {
        let sql = "select to_jsonb(hubspot.relay_claim($1::text, $2::int, $3::int, $4::int))";
        self.call(
            "relay_claim",
            sql,
            &[&relay_id, &max_records, &millis(lease), &millis(cache_ttl)],
        )
        .await
    }

    /// Lets the extension decide on what was read.
    pub async fn decide(&self, relay_id: &str, observations: &[Observation]) -> Result<Decided, DbError> {
        let sql = "select to_jsonb(hubspot.relay_decide($1::text, $2::jsonb))";
        self.call("relay_decide", sql, &[&relay_id, &Json(storable(observations)?)])
            .await
    }

    /// Records how claims ended.
    pub async fn complete(&self, relay_id: &str, outcomes: &[Outcome]) -> Result<Completed, DbError> {
        let sql = "select to_jsonb(hubspot.relay_complete($1::text, $2::jsonb))";
        self.call("relay_complete", sql, &[&relay_id, &Json(storable(outcomes)?)])
            .await
    }

    /// Gives back the claims whose write was not started; returns how many.
    pub async fn release(&self, relay_id: &str) -> Result<i64, DbError> {
        let sql = "select to_jsonb(hubspot.relay_release($1::text))";
        self.call::<Value>("relay_release", sql, &[&relay_id])
            .await
            .map(|value| count(&value))
    }

    /// Gives back claims that cannot be gone on with; returns how many still held.
    pub async fn give_back(&self, relay_id: &str, claims: &[GivenBack], spent: bool) -> Result<i64, DbError> {
        let sql = "select to_jsonb(hubspot.relay_give_back($1::text, $2::jsonb, $3::boolean))";
        self.call::<Value>("relay_give_back", sql, &[&relay_id, &Json(storable(claims)?), &spent])
            .await
            .map(|value| count(&value))
    }

    /// Refused values that still wait.
    pub async fn refusals(&self) -> Result<Vec<Refusal>, DbError> {
        self.call("relay_refusals", "select to_jsonb(hubspot.relay_refusals())", &[])
            .await
    }

    /// Tries refused values again; returns how many still waited.
    pub async fn retry(&self, ids: &[i64]) -> Result<i64, DbError> {
        let sql = "select to_jsonb(hubspot.relay_retry($1::jsonb))";
        self.call::<Value>("relay_retry", sql, &[&Json(storable(ids)?)])
            .await
            .map(|value| count(&value))
    }

    /// Stores webhook events; returns how many were new. When this returns, they are committed.
    pub async fn receive(&self, events: &Value) -> Result<i64, DbError> {
        let sql = "select to_jsonb(hubspot.relay_receive($1::jsonb))";
        self.call::<Value>("relay_receive", sql, &[&Json(storable(events)?)])
            .await
            .map(|value| count(&value))
    }

    /// Applies stored events.
    pub async fn apply(&self, max_events: i32) -> Result<Applied, DbError> {
        self.call(
            "relay_apply",
            "select to_jsonb(hubspot.relay_apply($1::int))",
            &[&max_events],
        )
        .await
    }

    /// Housekeeping: gives the space of captured changes back, in a transaction of its own, then the rest.
    pub async fn maintain(&self) -> Result<Maintained, DbError> {
        let _freed: i64 = self
            .call("relay_reclaim", "select to_jsonb(hubspot.relay_reclaim())", &[])
            .await?;
        self.call("relay_maintain", "select to_jsonb(hubspot.relay_maintain())", &[])
            .await
    }

    /// Tells what is held and used of HubSpot's limits, and takes what the database lends.
    pub async fn quota(
        &self,
        relay_id: &str,
        lease: Duration,
        drain: Duration,
        report: &Report,
    ) -> Result<Grant, DbError> {
        let sql = "select hubspot.relay_quota($1::text, $2::bigint, $3::bigint, $4::jsonb)";
        let (lease, drain) = (i64::from(millis(lease)), i64::from(millis(drain)));
        self.call("relay_quota", sql, &[&relay_id, &lease, &drain, &Json(report)])
            .await
    }

    /// Reports the calls made, for the view `hubspot.metrics`.
    pub async fn record_calls(&self, relay_id: &str, calls: CallCounts) -> Result<(), DbError> {
        let connection = self.connection().await?;
        // Its result is nothing, and to_jsonb() of nothing does not exist.
        let statement = connection
            .prepare_cached("select hubspot.relay_record_calls($1::text, $2::jsonb)")
            .await?;
        connection.execute(&statement, &[&relay_id, &Json(calls)]).await?;
        Ok(())
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        function: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<T, DbError> {
        let result = tokio::time::timeout(CALL_TIMEOUT, self.query(function, sql, parameters)).await;
        let result = result.unwrap_or(Err(DbError::TooSlow { function }));
        if result.as_ref().is_err_and(DbError::is_read_only) {
            self.drop_connections();
        }
        result
    }

    async fn query<T: DeserializeOwned>(
        &self,
        function: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<T, DbError> {
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(sql).await?;
        let row = connection.query_one(&statement, parameters).await;
        if let Err(error) = &row
            && DbError::is_read_only_code(error)
        {
            // This very connection must not go back to the pool.
            drop(deadpool_postgres::Object::take(connection));
        }
        let value: Option<Value> = row?.try_get(0)?;
        serde_json::from_value(value.unwrap_or(Value::Null)).map_err(|error| DbError::Contract {
            function,
            problem: structure_only(&error),
        })
    }
}

/// Where an answer differs, without the value that does.
fn structure_only(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once('`') {
        Some((before, rest)) if text.starts_with("missing field") || text.starts_with("unknown variant") => {
            format!("{before}`{}`", rest.split('`').next().unwrap_or_default())
        }
        _ => text.split(':').next().unwrap_or_default().to_owned(),
    }
}

fn count(value: &Value) -> i64 {
    match value {
        Value::Number(number) => number.as_i64().unwrap_or(0),
        Value::Object(map) => map.values().find_map(Value::as_i64).unwrap_or(0),
        _ => 0,
    }
}

pub(super) fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_the_contracts_examples() {
        let claim: Claim =
            serde_json::from_value(json!({"claim":"812","token":17,"attempt":1,"entity_type":"customer",
            "object_type":"companies","operation":"sync","hubspot_id":"512",
            "match":{"property":"warp_ban","value":"BAN-1"},"read":"values","properties":["name","domain"]}))
            .unwrap();
        assert_eq!(claim.matching.unwrap().value, "BAN-1");
        assert_eq!(claim.read, ReadKind::Values);
        let write: Write = serde_json::from_value(json!({"claim":"812","token":17,"object_type":"companies",
            "operation":"update","hubspot_id":"512","id_property":null,"id_value":null,
            "properties":{"name":"Acme 2","phone":""}}))
        .unwrap();
        assert_eq!(write.trace_id(), "812-17");
        let claimed: Claimed = serde_json::from_value(json!({"claims":[],"more":false,"next_due_ms":null})).unwrap();
        assert!(claimed.claims.is_empty());
    }

    #[test]
    fn writes_the_contracts_examples() {
        let retry = Outcome {
            claim: "812".to_owned(),
            token: 17,
            end: End::Retry {
                kind: "timeout",
                unknown: true,
                spent: true,
                delay_ms: 1000,
                message: "m".to_owned(),
                http_status: None,
            },
        };
        let text = json!({"claim":"812","token":17,"outcome":"retry","kind":"timeout","unknown":true,"spent":true,
            "delay_ms":1000,"message":"m","http_status":null});
        assert_eq!(serde_json::to_value(&retry).unwrap(), text);
    }
}
