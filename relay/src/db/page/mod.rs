//! The functions behind the admin page, one method each: what `sql/schema/85_page.sql` and `86_page_decisions.sql` answer.

mod decisions;
mod mappings;
mod overview;
mod records;
mod reports;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::types::Json;

use super::error::DbError;
use super::pool::Db;

pub use decisions::*;
pub use mappings::*;
pub use overview::*;
pub use records::*;
pub use reports::*;

/// A filter of conflicts or failures; an empty text filters nothing.
pub type Filter = serde_json::Map<String, Value>;

/// An instant as PostgreSQL writes it into JSON.
pub type Instant = Option<String>;

/// A page of something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page<T> {
    /// How many match; 100001 for more than 100,000.
    pub total: i64,
    /// This page's.
    pub rows: Vec<T>,
    /// Kinds that occur, where there are kinds.
    #[serde(default)]
    pub kinds: Vec<String>,
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

    /// What trying again would be about: these failures, or all that match.
    pub async fn page_retry_preview(
        &self,
        filter: &Filter,
        ids: Option<&[i64]>,
        max: i32,
    ) -> Result<RetryPreview, DbError> {
        let sql = "select hubspot.page_retry_preview($1::jsonb, $2::bigint[], $3::int)";
        self.call("page_retry_preview", sql, &[&Json(filter), &ids, &max]).await
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

    /// Asks for a comparison of a type, for a person.
    pub async fn page_compare(&self, actor: &str, entity_type: &str, dry_run: bool) -> Result<Asked, DbError> {
        let sql = "select hubspot.page_compare($1::text, $2::text, $3::bool)";
        self.call("page_compare", sql, &[&actor, &entity_type, &dry_run]).await
    }

    /// Ends a run that waits or runs, for a person.
    pub async fn page_cancel(&self, actor: &str, id: i64) -> Result<Asked, DbError> {
        let sql = "select hubspot.page_cancel($1::text, $2::bigint)";
        self.call("page_cancel", sql, &[&actor, &id]).await
    }
}
