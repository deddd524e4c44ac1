//! The functions behind the admin page, one method each: what `sql/schema/85_page.sql` and `86_page_decisions.sql` answer.

use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::types::Json;

use super::error::DbError;
use super::pool::Db;

/// A filter of conflicts or failures; an empty text filters nothing.
pub type Filter = serde_json::Map<String, Value>;

/// Whether the relay may work, and what waits for a person.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Chrome {
    /// Why relays may not work.
    pub reason: Option<String>,
    /// An operator paused it.
    pub paused: bool,
    /// Which role did.
    pub paused_by: Option<String>,
    /// Relays seen in the last 15 seconds.
    pub relays_alive: i64,
    /// Open conflicts, 1000 for that many or more.
    pub conflicts: i64,
    /// Open failures, likewise.
    pub failures: i64,
    /// Mapped types.
    pub types: Vec<EntityType>,
}

/// A mapped type.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct EntityType {
    /// Its name.
    pub name: String,
    /// Its fields.
    pub fields: Vec<String>,
}

/// An instant as PostgreSQL writes it into JSON.
pub type Instant = Option<String>;

/// A page of something.
#[derive(Debug, Clone, Deserialize)]
pub struct Page<T> {
    /// How many match; 100001 for more than 100,000.
    pub total: i64,
    /// This page's.
    pub rows: Vec<T>,
    /// Kinds that occur, where there are kinds.
    #[serde(default)]
    pub kinds: Vec<String>,
}

/// A conflict.
#[derive(Debug, Clone, Deserialize)]
pub struct Conflict {
    /// Its id.
    pub id: i64,
    /// The record's type.
    pub entity_type: String,
    /// The record's key.
    pub entity_key: String,
    /// The field.
    pub field: String,
    /// `BOTH_MODIFIED` or `INITIAL_MISMATCH`.
    pub kind: String,
    /// The row's value.
    pub warp_value: Option<String>,
    /// When it was edited.
    pub warp_changed_at: Instant,
    /// By whom.
    pub warp_changed_by: Option<String>,
    /// HubSpot's value.
    pub hubspot_value: Option<String>,
    /// When it was edited.
    pub hubspot_changed_at: Instant,
    /// By whom.
    pub hubspot_changed_by: Option<String>,
    /// What both sides last agreed on.
    pub base_value: Option<String>,
    /// The policy.
    pub strategy: String,
    /// `open` or `resolved`.
    pub status: String,
    /// Who won.
    pub winner: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Who decided.
    pub resolved_by: Option<String>,
    /// When.
    pub resolved_at: Instant,
    /// When it was found.
    pub detected_at: Instant,
    /// The record's id at HubSpot.
    pub hubspot_id: Option<String>,
    /// The property.
    pub hubspot_property: Option<String>,
    /// Values the field allows.
    pub enum_values: Option<Vec<String>>,
    /// Stands for what is shown here.
    pub fingerprint: String,
    /// A person's decision that can be taken back.
    #[serde(default)]
    pub undoable: Option<bool>,
}

/// What a decision in bulk would be about.
#[derive(Debug, Clone, Deserialize)]
pub struct Preview {
    /// How many match.
    pub total: i64,
    /// Those that one decision takes, as `id:fingerprint`.
    pub chosen: Vec<String>,
    /// How many of which field.
    pub groups: Vec<Group>,
    /// The first of them.
    pub rows: Vec<Conflict>,
}

/// A count by field.
#[derive(Debug, Clone, Deserialize)]
pub struct Group {
    /// The type.
    pub entity_type: String,
    /// The field.
    pub field: String,
    /// How many.
    pub n: i64,
}

/// A failed sync.
#[derive(Debug, Clone, Deserialize)]
pub struct Failure {
    /// Its id.
    pub id: i64,
    /// When it failed last.
    pub failed_at: Instant,
    /// The record's type.
    pub entity_type: String,
    /// The record's key.
    pub entity_key: String,
    /// The field; none: the whole record.
    pub field: Option<String>,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// The property.
    pub hubspot_property: Option<String>,
    /// The class.
    pub kind: String,
    /// HTTP status.
    pub http_status: Option<i32>,
    /// HubSpot's message, or the table's.
    pub message: String,
    /// The value.
    pub value: Option<String>,
    /// How often it failed.
    pub attempts: i32,
    /// `open`, `retried` or `resolved`.
    pub status: String,
    /// When it ended.
    pub ended_at: Instant,
    /// The record's id at HubSpot.
    #[serde(default)]
    pub hubspot_id: Option<String>,
    /// Values the field allows.
    #[serde(default)]
    pub enum_values: Option<Vec<String>>,
}

/// What came of a decision.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Decided {
    /// Ids it was done to.
    pub done: Vec<i64>,
    /// Ids that were left as they were.
    pub refused: Vec<Refusal>,
    /// The entry of the log.
    pub log_id: Option<i64>,
}

/// One that was left as it was.
#[derive(Debug, Clone, Deserialize)]
pub struct Refusal {
    /// Its id.
    pub id: i64,
    /// Why.
    pub message: String,
    /// The mend.
    pub hint: Option<String>,
}

/// The overview.
#[derive(Debug, Clone, Deserialize)]
pub struct Overview {
    /// As `hubspot.status()`.
    pub status: Status,
    /// As `hubspot.quota`.
    pub quota: Option<Quota>,
    /// Relays, the one seen last first.
    pub relays: Vec<Relay>,
    /// Latency by field.
    pub latency: Vec<Latency>,
    /// Figures over time.
    pub history: Vec<Point>,
}

/// What the overview shows of `hubspot.status()`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The portal.
    pub portal_id: Option<i64>,
    /// Changes that wait.
    pub queue_depth: i64,
    /// Since when.
    pub oldest_waiting_seconds: Option<i64>,
    /// Open conflicts.
    pub conflicts_open: i64,
    /// Open failures.
    pub failed_open: i64,
    /// Events that wait.
    pub webhook_events_pending: i64,
    /// Linked records.
    pub links: i64,
    /// The last webhook.
    pub last_webhook_at: Instant,
    /// What is wrong.
    pub warnings: Option<Vec<String>>,
}

/// What the overview shows of `hubspot.quota`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// The limit.
    pub calls_per_day: Option<i64>,
    /// Calls used.
    pub used: i64,
    /// Of those, for live changes.
    pub live: i64,
    /// For first loads.
    pub backfill: i64,
    /// For comparisons.
    pub reconcile: i64,
    /// By other apps.
    pub used_elsewhere: i64,
    /// Left of the limit.
    pub calls_left: Option<i64>,
    /// For the whole day.
    pub forecast: Option<i64>,
}

/// A relay.
#[derive(Debug, Clone, Deserialize)]
pub struct Relay {
    /// Its name.
    pub relay_id: String,
    /// Its version.
    pub version: String,
    /// Since when.
    pub started_at: Instant,
    /// Its last heartbeat.
    pub last_seen_at: Instant,
    /// Calls to HubSpot.
    pub requests: i64,
    /// Answers 429.
    pub rate_limited: i64,
    /// Calls that failed.
    pub failed: i64,
    /// Seen in the last 15 seconds.
    pub alive: bool,
}

/// Latency of a field.
#[derive(Debug, Clone, Deserialize)]
pub struct Latency {
    /// The type.
    pub entity_type: String,
    /// The field.
    pub field: String,
    /// Deliveries.
    pub delivered: i64,
    /// Seconds, the half of them.
    pub p50_seconds: f64,
    /// Seconds, 95 of 100.
    pub p95_seconds: f64,
    /// Seconds, the slowest.
    pub worst_seconds: f64,
}

/// Figures of a span of time.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Point {
    /// Its begin.
    pub at: Instant,
    /// Highest number of waiting changes.
    pub queue_depth: Option<f64>,
    /// Highest 95th percentile, seconds.
    pub latency_p95_seconds: Option<f64>,
    /// Deliveries.
    pub delivered: Option<f64>,
    /// Conflicts found.
    pub conflicts: Option<f64>,
    /// Failures.
    pub failures: Option<f64>,
}

/// A record in a list.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordLine {
    /// Id of the link.
    pub id: i64,
    /// The type.
    pub entity_type: String,
    /// The key.
    pub entity_key: String,
    /// HubSpot's id.
    pub hubspot_id: Option<String>,
    /// The link's status.
    pub status: String,
    /// Why it is parked.
    pub message: Option<String>,
    /// Since when it is linked.
    pub linked_at: Instant,
    /// Fields held.
    pub conflicts: i64,
    /// Fields that failed.
    pub failures: i64,
}

/// A record.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    /// The type.
    pub entity_type: String,
    /// The key.
    pub entity_key: String,
    /// HubSpot's id.
    pub hubspot_id: Option<String>,
    /// The link's status.
    pub status: String,
    /// Why it is parked.
    pub message: Option<String>,
    /// Since when it is linked.
    pub linked_at: Instant,
    /// HubSpot's object type.
    pub hubspot_object: String,
    /// The table.
    pub source_table: String,
    /// It waits to be delivered.
    pub waiting_since: Instant,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// A field of a record.
#[derive(Debug, Clone, Deserialize)]
pub struct Field {
    /// Its name.
    pub field: String,
    /// As `hubspot.field_state`.
    pub status: String,
    /// The row's value.
    pub warp_value: Option<String>,
    /// HubSpot's value.
    pub hubspot_value: Option<String>,
    /// What both last agreed on.
    pub base_value: Option<String>,
    /// When the row's was edited.
    pub warp_changed_at: Instant,
    /// When HubSpot's was edited.
    pub hubspot_changed_at: Instant,
    /// When both came to agree.
    pub synced_at: Instant,
    /// The direction.
    pub sync_direction: String,
    /// The policy.
    pub conflict_resolution: Option<String>,
    /// The property.
    pub hubspot_property: String,
    /// The open conflict.
    pub conflict_id: Option<i64>,
    /// The open failure.
    pub failure: Option<Failure>,
}

/// A line of a record's history.
#[derive(Debug, Clone, Deserialize)]
pub struct LogLine {
    /// Its id.
    pub id: i64,
    /// When.
    pub at: Instant,
    /// The field.
    pub field: Option<String>,
    /// Which side.
    pub side: String,
    /// What.
    pub action: String,
    /// The row's value.
    pub warp_value: Option<String>,
    /// HubSpot's value.
    pub hubspot_value: Option<String>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Who.
    pub actor: Option<String>,
    /// With what.
    pub application_name: Option<String>,
    /// Why.
    pub detail: Option<String>,
}

/// The mappings and what is wrong with them.
#[derive(Debug, Clone, Deserialize)]
pub struct Mappings {
    /// The mappings.
    pub mappings: Vec<MappingLine>,
    /// What is wrong for all of them.
    pub problems: Vec<Problem>,
}

/// A mapping.
#[derive(Debug, Clone, Deserialize)]
pub struct MappingLine {
    /// Its name.
    pub entity_type: String,
    /// The table.
    pub source_table: String,
    /// HubSpot's object type.
    pub hubspot_object: String,
    /// Columns that identify a row.
    pub key_columns: Vec<String>,
    /// The field that finds a record.
    pub match_field: Option<String>,
    /// The property it is compared with.
    pub match_property: Option<String>,
    /// Whether it takes part.
    pub enabled: bool,
    /// Whether rows without a record get one.
    pub on_create: String,
    /// When it was imported.
    pub imported_at: Instant,
    /// By which role.
    pub imported_by: String,
    /// Known records.
    pub records: i64,
    /// Its fields.
    pub fields: Vec<MappedField>,
    /// What `hubspot.check_mapping` says, worst first.
    pub findings: Vec<Lint>,
}

/// A finding of `hubspot.check_mapping`.
#[derive(Debug, Clone, Deserialize)]
pub struct Lint {
    /// `error`, `warning` or `note`.
    pub severity: String,
    /// The field; none: the mapping.
    pub field: Option<String>,
    /// What was seen.
    pub finding: String,
    /// What to do.
    pub mend: String,
}

/// A mapped field.
#[derive(Debug, Clone, Deserialize)]
pub struct MappedField {
    /// Its name.
    pub field: String,
    /// The property.
    pub hubspot_property: String,
    /// The column.
    pub column_name: String,
    /// Keys inside it.
    pub path: Option<Vec<String>>,
    /// The direction.
    pub sync_direction: String,
    /// The policy.
    pub conflict_resolution: Option<String>,
    /// `real-time` or `batch`.
    pub update_frequency: String,
    /// Allowed values.
    pub enum_values: Option<Vec<String>>,
    /// The transform.
    pub transform: Option<String>,
    /// How values compare.
    pub kind: String,
    /// For people.
    pub description: Option<String>,
}

/// Something that is wrong with all mappings.
#[derive(Debug, Clone, Deserialize)]
pub struct Problem {
    /// What.
    pub problem: String,
    /// What was seen, and the mend.
    pub detail: String,
}

/// An entry of the page's log.
#[derive(Debug, Clone, Deserialize)]
pub struct Action {
    /// Its id.
    pub id: i64,
    /// When.
    pub at: Instant,
    /// Who.
    pub actor: String,
    /// As which role.
    pub role: String,
    /// `resolve`, `undo` or `retry`.
    pub action: String,
    /// Who won.
    pub winner: Option<String>,
    /// To how many.
    pub done: i64,
    /// How many were left.
    pub refused: i64,
    /// The first subjects.
    pub first: Vec<i64>,
}

/// A reconciliation run.
#[derive(Debug, Clone, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: i64,
    /// The type.
    pub entity_type: String,
    /// `full`, `incremental` or `poll`.
    pub kind: String,
    /// Differences were only reported.
    pub dry_run: bool,
    /// How far it is.
    pub status: String,
    /// When it began.
    #[serde(default)]
    pub started_at: Instant,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Instant,
    /// Why it ended so.
    #[serde(default)]
    pub message: Option<String>,
    /// Findings.
    pub discrepancies: i64,
    /// Who asked for it.
    pub requested_by: String,
    /// When.
    pub requested_at: Instant,
    /// Rows compared.
    pub rows_read: i64,
    /// Records compared.
    pub records: i64,
    /// Calls to HubSpot.
    pub api_calls: i64,
    /// Summed up.
    #[serde(default)]
    pub report: Vec<ReportLine>,
    /// A page of findings.
    #[serde(default)]
    pub found: Vec<Finding>,
}

/// A line of a run's report.
#[derive(Debug, Clone, Deserialize)]
pub struct ReportLine {
    /// What differed.
    pub kind: String,
    /// In which field.
    pub field: Option<String>,
    /// What was done.
    pub action: String,
    /// How often.
    pub discrepancies: i64,
    /// An example.
    pub example_key: Option<String>,
}

/// A finding of a run.
#[derive(Debug, Clone, Deserialize)]
pub struct Finding {
    /// Its id.
    pub id: i64,
    /// The type.
    pub entity_type: String,
    /// The key.
    pub entity_key: Option<String>,
    /// HubSpot's id.
    pub hubspot_id: Option<String>,
    /// The field.
    pub field: Option<String>,
    /// What differed.
    pub kind: String,
    /// The row's value.
    pub warp_value: Option<String>,
    /// HubSpot's value.
    pub hubspot_value: Option<String>,
    /// What was done.
    pub action: String,
}

/// How many conflicts or failures one transaction decides: it keeps the relays waiting.
const CHUNK: usize = 50;

impl Db {
    /// What every screen shows.
    pub async fn page_chrome(&self) -> Result<Chrome, DbError> {
        self.call("page_chrome", "select hubspot.page_chrome()", &[]).await
    }

    /// The overview of the last hours, in at most `points` points.
    pub async fn page_overview(&self, hours: i32, points: i32) -> Result<Overview, DbError> {
        let sql = "select hubspot.page_overview($1::int, $2::int)";
        self.call("page_overview", sql, &[&hours, &points]).await
    }

    /// Conflicts below an id.
    pub async fn page_conflicts(
        &self,
        filter: &Filter,
        before: Option<i64>,
        max: i32,
    ) -> Result<Page<Conflict>, DbError> {
        let sql = "select hubspot.page_conflicts($1::jsonb, $2::bigint, $3::int)";
        self.call("page_conflicts", sql, &[&Json(filter), &before, &max]).await
    }

    /// One conflict.
    pub async fn page_conflict(&self, id: i64) -> Result<Option<Conflict>, DbError> {
        self.call("page_conflict", "select hubspot.page_conflict($1::bigint)", &[&id])
            .await
    }

    /// What a decision in bulk would be about: these ids, or all that match.
    pub async fn page_preview(&self, filter: &Filter, ids: Option<&[i64]>, max: i32) -> Result<Preview, DbError> {
        let sql = "select hubspot.page_preview($1::jsonb, $2::bigint[], $3::int)";
        self.call("page_preview", sql, &[&Json(filter), &ids, &max]).await
    }

    /// Resolves conflicts, given as `id:fingerprint`, for a person.
    pub async fn page_resolve(
        &self,
        actor: &str,
        chosen: &[String],
        winner: &str,
        value: Option<&str>,
    ) -> Result<Decided, DbError> {
        let sql = "select hubspot.page_resolve($1::text, $2::text[], $3::text, $4::text, $5::bigint)";
        let mut all = Decided::default();
        for part in chosen.chunks(CHUNK) {
            let one: Decided = self
                .call("page_resolve", sql, &[&actor, &part, &winner, &value, &all.log_id])
                .await?;
            all.add(one);
        }
        Ok(all)
    }

    /// Opens conflicts again, for a person.
    pub async fn page_undo(&self, actor: &str, ids: &[i64]) -> Result<Decided, DbError> {
        self.in_chunks(
            "page_undo",
            "select hubspot.page_undo($1::text, $2::bigint[], $3::bigint)",
            actor,
            ids,
        )
        .await
    }

    /// Tries failures again, for a person.
    pub async fn page_retry(&self, actor: &str, ids: &[i64]) -> Result<Decided, DbError> {
        self.in_chunks(
            "page_retry",
            "select hubspot.page_retry($1::text, $2::bigint[], $3::bigint)",
            actor,
            ids,
        )
        .await
    }

    async fn in_chunks(&self, name: &'static str, sql: &str, actor: &str, ids: &[i64]) -> Result<Decided, DbError> {
        let mut all = Decided::default();
        for part in ids.chunks(CHUNK) {
            let one: Decided = self.call(name, sql, &[&actor, &part, &all.log_id]).await?;
            all.add(one);
        }
        Ok(all)
    }

    /// Failures below an id.
    pub async fn page_failures(
        &self,
        filter: &Filter,
        before: Option<i64>,
        max: i32,
    ) -> Result<Page<Failure>, DbError> {
        let sql = "select hubspot.page_failures($1::jsonb, $2::bigint, $3::int)";
        self.call("page_failures", sql, &[&Json(filter), &before, &max]).await
    }

    /// Ids of the newest open failures that match.
    pub async fn page_failure_ids(&self, filter: &Filter, max: i32) -> Result<Vec<i64>, DbError> {
        let sql = "select hubspot.page_failure_ids($1::jsonb, $2::int)";
        self.call("page_failure_ids", sql, &[&Json(filter), &max]).await
    }

    /// Records below an id.
    pub async fn page_records(
        &self,
        entity_type: &str,
        search: &str,
        before: Option<i64>,
        max: i32,
    ) -> Result<Vec<RecordLine>, DbError> {
        let sql = "select hubspot.page_records($1::text, $2::text, $3::bigint, $4::int)";
        self.call("page_records", sql, &[&entity_type, &search, &before, &max])
            .await
    }

    /// One record.
    pub async fn page_record(&self, entity_type: &str, entity_key: &str) -> Result<Option<Record>, DbError> {
        let sql = "select hubspot.page_record($1::text, $2::text)";
        self.call("page_record", sql, &[&entity_type, &entity_key]).await
    }

    /// A record's history below an id; an empty field is all fields.
    pub async fn page_history(
        &self,
        entity_type: &str,
        entity_key: &str,
        field: &str,
        before: Option<i64>,
        max: i32,
    ) -> Result<Vec<LogLine>, DbError> {
        let sql = "select hubspot.page_history($1::text, $2::text, $3::text, $4::bigint, $5::int)";
        self.call("page_history", sql, &[&entity_type, &entity_key, &field, &before, &max])
            .await
    }

    /// The mappings.
    pub async fn page_mappings(&self) -> Result<Mappings, DbError> {
        self.call("page_mappings", "select hubspot.page_mappings()", &[]).await
    }

    /// The page's log below an id.
    pub async fn page_actions(&self, before: Option<i64>, max: i32) -> Result<Vec<Action>, DbError> {
        let sql = "select hubspot.page_actions($1::bigint, $2::int)";
        self.call("page_actions", sql, &[&before, &max]).await
    }

    /// The conflicts that an entry of the log resolved.
    pub async fn page_subjects(&self, log_id: i64) -> Result<Option<Vec<i64>>, DbError> {
        self.call("page_subjects", "select hubspot.page_subjects($1::bigint)", &[&log_id])
            .await
    }

    /// Reconciliation runs below an id.
    pub async fn page_runs(&self, before: Option<i64>, max: i32) -> Result<Vec<Run>, DbError> {
        let sql = "select hubspot.page_runs($1::bigint, $2::int)";
        self.call("page_runs", sql, &[&before, &max]).await
    }

    /// One run with its findings above an id.
    pub async fn page_run(&self, id: i64, after: Option<i64>, max: i32) -> Result<Option<Run>, DbError> {
        let sql = "select hubspot.page_run($1::bigint, $2::bigint, $3::int)";
        self.call("page_run", sql, &[&id, &after, &max]).await
    }
}

impl Decided {
    fn add(&mut self, more: Self) {
        self.done.extend(more.done);
        self.refused.extend(more.refused);
        self.log_id = more.log_id.or(self.log_id);
    }
}
