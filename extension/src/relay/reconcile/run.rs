//! A run's row: taking it, its position, what it has found, its end.

use crate::spi;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

/// Most findings of a kind that are kept one by one; more are only counted.
const KEPT: i64 = 10_000;

/// Where a run stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Position {
    /// Rows after the key with these parts; null: from the first.
    Rows { after: Json },
    /// Records of gone rows after this link.
    Gone { after: i64 },
    /// Linked records after this link; before them, the history of these. `upto`: the last one of the page that is out.
    Linked {
        after: i64,
        #[serde(default)]
        upto: i64,
        history: Vec<i64>,
        /// The export that these pages are read from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        export: Option<Export>,
    },
    /// Before the linked records: an export of HubSpot's may spare their reads; none: the relay has not said yet.
    Export {
        #[serde(default)]
        export: Option<Export>,
    },
    /// Records that changed, after this HubSpot id; before them, the history of these. `more`: there are others.
    Changed {
        after: String,
        more: bool,
        history: Vec<i64>,
    },
    /// HubSpot's records after this id; none: from the first.
    Listing { after: Option<String> },
    /// Nothing is left.
    #[default]
    End,
}

/// An export of HubSpot's that a backfill reads from. It is kept with the run, so that another relay can go on with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Export {
    /// HubSpot's id of it.
    pub task: String,
    /// No later than when it was asked for, on the database's clock: what moved since is not judged by it. Unit: microseconds.
    pub asked_us: i64,
    /// When it was asked for, on the clock of the relay that did. Unit: milliseconds.
    pub asked_ms: i64,
}

/// A run that this call holds: its row is locked.
#[derive(Debug, Deserialize)]
pub struct Run {
    pub id: i64,
    pub entity_type: String,
    pub kind: String,
    pub dry_run: bool,
    /// A backfill's: `WARP_TO_HUBSPOT` or `HUBSPOT_TO_WARP`.
    pub direction: Option<String>,
    /// When the run began, on the database's clock. Unit: microseconds, like the two that follow.
    pub started_us: i64,
    /// When the page that is out was handed out, on the database's clock.
    pub page_us: i64,
    /// Fields written to HubSpot since then (HubSpot's clock) have their history read even when both sides are equal.
    pub written_since: i64,
    /// HubSpot's instants between which changes are looked for; 0: a full run. Unit: microseconds.
    pub window_from_us: i64,
    pub window_to_us: i64,
    pub position: Position,
    pub page: i64,
    pub found: Map<String, Json>,
    #[serde(skip)]
    pub rows_read: i64,
    #[serde(skip)]
    pub records: i64,
    #[serde(skip)]
    pub histories: i64,
    #[serde(skip)]
    pub listed: i64,
    #[serde(skip)]
    pub api_calls: i64,
    #[serde(skip)]
    findings: Vec<Finding>,
}

/// One difference, as `hubspot.reconciliation_discrepancies` keeps it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Finding {
    pub entity_key: Option<String>,
    pub hubspot_id: Option<String>,
    pub field: Option<String>,
    pub kind: &'static str,
    pub warp_value: Option<String>,
    pub hubspot_value: Option<String>,
    pub action: &'static str,
}

const COLUMNS: &str = "json_build_object('id', r.id, 'entity_type', r.entity_type, 'kind', r.kind, 'dry_run', r.dry_run, 'direction', r.direction, 'position', r.position,
  'page', r.page, 'found', r.found, 'written_since', r.written_since,
  'window_from_us', coalesce((extract(epoch FROM r.window_from) * 1000000)::bigint, 0),
  'window_to_us', coalesce((extract(epoch FROM r.window_to) * 1000000)::bigint, 0),
  'started_us', (extract(epoch FROM r.started_at) * 1000000)::bigint,
  'page_us', (extract(epoch FROM coalesce(r.page_at, r.started_at)) * 1000000)::bigint)::text";

/// A run that nobody drives, or that this relay drove and lost the thread of.
const TAKE: &str = r#"
WITH picked AS MATERIALIZED (
  SELECT r.id FROM hubspot.reconciliation_runs r
  WHERE r.finished_at IS NULL AND r.status <> 'paused' AND (r.kind IN ('poll', 'incremental')) = ($1::json->>'changes')::boolean
    AND (r.claimed_by IS NULL OR r.claimed_by = $1::json->>'relay' OR r.lease_expires_at < clock_timestamp())
  ORDER BY r.claimed_by IS DISTINCT FROM $1::json->>'relay', r.kind <> 'poll', r.id LIMIT 1 FOR UPDATE SKIP LOCKED)
UPDATE hubspot.reconciliation_runs r SET status = 'running', claimed_by = $1::json->>'relay',
  lease_expires_at = clock_timestamp() + interval '1 minute'
FROM picked p WHERE r.id = p.id RETURNING r.id::text"#;

/// What a run that begins needs to know. A minute is left to webhooks that are on their way; the windows of searches overlap,
/// because HubSpot's index lags.
const BEGIN: &str = r#"
UPDATE hubspot.reconciliation_runs r SET started_at = clock_timestamp(),
  position = CASE WHEN r.direction = 'HUBSPOT_TO_WARP' THEN '{"phase": "export"}' WHEN r.kind = 'poll' THEN '{"phase": "changed", "after": "0", "more": true, "history": []}'
    ELSE '{"phase": "rows", "after": null}' END::jsonb,
  written_since = CASE WHEN r.kind = 'full' THEN coalesce(
    (SELECT (extract(epoch FROM p.started_at) * 1000000)::bigint + c.clock_offset_us - c.clock_uncertainty_us - 60000000
     FROM hubspot.reconciliation_runs p WHERE p.entity_type = r.entity_type AND p.kind = 'full' AND p.status = 'finished' AND NOT p.dry_run
     ORDER BY p.id DESC LIMIT 1), 0) ELSE 9223372036854775807 END,
  window_to = CASE r.kind WHEN 'poll' THEN h.now WHEN 'incremental' THEN h.now - interval '1 minute' END,
  window_from = CASE WHEN r.kind IN ('poll', 'incremental') THEN coalesce(
      (SELECT p.window_to FROM hubspot.reconciliation_runs p WHERE p.entity_type = r.entity_type AND p.kind = r.kind AND p.status = 'finished'
       ORDER BY p.id DESC LIMIT 1),
      (SELECT m.imported_at + h.ahead FROM hubspot.object_mapping m WHERE m.entity_type = r.entity_type))
    - CASE r.kind WHEN 'poll' THEN interval '10 minutes' ELSE interval '1 hour' END END
FROM hubspot.binding c
CROSS JOIN LATERAL (SELECT clock_timestamp() + c.clock_offset_us * interval '1 microsecond' AS now,
                           c.clock_offset_us * interval '1 microsecond' AS ahead) h
WHERE r.id = ($1::json->>'run')::bigint AND r.started_at IS NULL"#;

const LOAD: &str = " FROM hubspot.reconciliation_runs r WHERE r.id = ($1::json->>'run')::bigint";

const HELD: &str = r#" FROM hubspot.reconciliation_runs r
WHERE r.id = ($1::json->>'run')::bigint AND r.page = ($1::json->>'page')::bigint AND r.claimed_by = $1::json->>'relay'
  AND r.status = 'running' FOR UPDATE"#;

const STORE: &str = r#"
UPDATE hubspot.reconciliation_runs r SET rows_read = r.rows_read + ($1::jsonb->>'rows_read')::bigint, records = r.records + ($1::jsonb->>'records')::bigint,
  histories = r.histories + ($1::jsonb->>'histories')::bigint, listed = r.listed + ($1::jsonb->>'listed')::bigint,
  api_calls = r.api_calls + ($1::jsonb->>'api_calls')::bigint, found = $1::jsonb->'found',
  discrepancies = CASE WHEN r.kind IN ('poll', 'backfill') THEN 0 ELSE (SELECT coalesce(sum(v::bigint), 0) FROM jsonb_each_text($1::jsonb->'found') AS f (k, v)) END,
  position = $1::jsonb->'position', page = ($1::jsonb->>'page')::bigint, page_at = clock_timestamp(),
  status = $1::jsonb->>'status', message = $1::jsonb->>'message',
  finished_at = CASE WHEN $1::jsonb->>'status' <> 'running' THEN clock_timestamp() END,
  claimed_by = $1::jsonb->>'relay',
  lease_expires_at = CASE WHEN $1::jsonb->>'relay' IS NOT NULL THEN clock_timestamp() + ($1::jsonb->>'lease_ms')::bigint * interval '1 millisecond' END
WHERE r.id = ($1::jsonb->>'id')::bigint"#;

const KEEP: &str = r#"
INSERT INTO hubspot.reconciliation_discrepancies (run_id, entity_type, entity_key, hubspot_id, field, kind, warp_value, hubspot_value, action)
SELECT ($1::json->>'run')::bigint, $1::json->>'entity_type', v.entity_key, v.hubspot_id, v.field, v.kind, v.warp_value, v.hubspot_value, v.action
FROM json_to_recordset($1::json->'findings') AS v (entity_key text, hubspot_id text, field text, kind text, warp_value text,
  hubspot_value text, action text)"#;

impl Run {
    /// Takes a run that waits, or goes on with one whose relay is gone.
    ///
    /// `changes`: an incremental run or a poll; else a full one. So a relay drives both at a time.
    pub fn take(relay_id: &str, changes: bool) -> Option<Run> {
        let taken = spi::call_text(TAKE, &json!({"relay": relay_id, "changes": changes}))?;
        let arg = json!({"run": taken});
        spi::run(BEGIN, &arg);
        Run::load(&format!("SELECT {COLUMNS}{LOAD}"), &arg)
    }

    /// The run whose page this relay brings back; none when the page is not out any more.
    pub fn held(relay_id: &str, run: i64, page: i64) -> Option<Run> {
        let sql = format!("SELECT {COLUMNS}{HELD}");
        Run::load(&sql, &json!({"relay": relay_id, "run": run, "page": page}))
    }

    fn load(sql: &str, arg: &Json) -> Option<Run> {
        let row = spi::call(sql, arg);
        (!row.is_null()).then(|| serde_json::from_value(row).ok()).flatten()
    }

    /// Records a difference.
    pub fn find(&mut self, finding: Finding) {
        if self.is_backfill() {
            return self.count(finding.action, 1);
        }
        let count = self.found.get(finding.kind).and_then(Json::as_i64).unwrap_or(0) + 1;
        self.found.insert(finding.kind.to_owned(), json!(count));
        // What a poll finds is how changes come in, and no discrepancy.
        if count <= KEPT && self.kind != "poll" {
            self.findings.push(finding);
        }
    }

    /// Counts what a backfill did.
    pub fn count(&mut self, what: &str, fields: i64) {
        let count = self.found.get(what).and_then(Json::as_i64).unwrap_or(0) + fields;
        self.found.insert(what.to_owned(), json!(count));
    }

    /// Whether it brings the rows' values to HubSpot.
    pub fn to_hubspot(&self) -> bool {
        self.direction.as_deref() == Some("WARP_TO_HUBSPOT")
    }

    /// Whether it brings values over instead of comparing.
    pub fn is_backfill(&self) -> bool {
        self.kind == "backfill"
    }

    /// Stores everything and hands the next page to the relay.
    pub fn hand_out(mut self, relay_id: &str, lease_ms: i32, mut work: Json) -> Json {
        self.page += 1;
        work["run"] = json!(self.id);
        work["page"] = json!(self.page);
        work["kind"] = json!(self.kind);
        self.store("running", None, Some(relay_id), lease_ms.max(1000));
        work
    }

    /// Stores everything and ends the run.
    pub fn end(&mut self, status: &str, message: Option<&str>) {
        self.store(status, message, None, 0);
    }

    fn store(&mut self, status: &str, message: Option<&str>, relay_id: Option<&str>, lease_ms: i32) {
        if !self.findings.is_empty() {
            let findings = std::mem::take(&mut self.findings);
            spi::run(
                KEEP,
                &json!({"run": self.id, "entity_type": self.entity_type, "findings": findings}),
            );
        }
        spi::run(
            STORE,
            &json!({"id": self.id, "rows_read": self.rows_read, "records": self.records, "histories": self.histories,
                "listed": self.listed, "api_calls": self.api_calls, "found": self.found, "position": self.position,
                "page": self.page, "status": status, "message": message, "relay": relay_id, "lease_ms": lease_ms}),
        );
    }
}
