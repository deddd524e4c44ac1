//! Reading captured changes in order, and giving their space back.
//!
//! `hubspot.capture` has no index. What `capture/insert.rs` promises is: of two changes of one row the later one is never
//! in an earlier block, and within a block `position` orders them. So whole blocks are taken from the front, as many as
//! hold a page of rows, each block's rows in order of `position`. Everything is read under one snapshot, in which a visible
//! change has all its predecessors: they were committed before it began, and they are in the same blocks or before.
//!
//! **A long backlog.** Blocks whose rows are gone stay where they are, and reading past them costs a little each. Beyond
//! [`SHORT`] blocks `hubspot.capture_mark` remembers where reading goes on. A block is behind the mark only when nothing
//! can appear in it any more: whoever was going to write into a block before the last one had a transaction id when that
//! block was not the last any more, so once all those transactions have ended (`tick_xid`), what is visible before
//! `tick_block` is all there will ever be. A transaction that stays open holds the mark, never a row.
//!
//! **Giving back.** A table in which everything was taken over is truncated, by a call of its own: the lock that it needs
//! stops captures, and must not be held while anything else is done. It is taken when nobody holds the table, without
//! waiting; a table beyond [`LONG`] blocks is worth a wait of [`PATIENCE`]. TRUNCATE empties a table also for snapshots
//! that still see its rows (a dump that has just begun would miss changes whose taking over it does not see either); so it
//! waits until the newest deletion is older than every snapshot, that of a standby or a replication slot included.

use crate::spi;
use crate::spi::tuples;
use pgrx::pg_sys;
use serde_json::{Map, Value as Json, json};

/// Up to this many blocks the whole table is read each time.
const SHORT: i64 = 2_048;
/// From this many blocks on the table is given back.
const WORTH_IT: i64 = 512;
/// From this many blocks on it is worth a wait.
const LONG: i64 = 65_536;
/// How long captures may be kept waiting then.
const PATIENCE: &str = "SET LOCAL lock_timeout = '10ms'";

/// `block`: where to begin. Scans must not begin in the middle of the table, as those of long tables may.
const LOOK: &str = r#"
SELECT json_build_object('blocks', t.blocks, 'filenode', t.filenode, 'block', coalesce(m.block, 0), 'tick_block', m.tick_block, 'tick_xid', m.tick_xid,
  'passed', m.tick_xid <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
  'deleted_by', (SELECT d.deleted_by FROM hubspot.capture_mark d),
  'scan', set_config('synchronize_seqscans', 'off', true))::text
FROM (SELECT pg_relation_size('hubspot.capture') / current_setting('block_size')::bigint AS blocks,
        pg_relation_filenode('hubspot.capture')::bigint AS filenode WHERE $1::text IS NOT NULL) t
LEFT JOIN hubspot.capture_mark m ON m.filenode = t.filenode AND m.tick_block <= t.blocks"#;

const TAKE: &str = r#"
WITH page AS MATERIALIZED (
  SELECT c.ctid AS at FROM hubspot.capture c WHERE c.ctid >= ($1::json->>'from')::tid LIMIT ($1::json->>'max')::int),
taken AS (
  DELETE FROM hubspot.capture c WHERE c.ctid >= ($1::json->>'from')::tid
    AND c.ctid < (SELECT format('(%s,0)', ((p.at::text::point)[0] + 1)::bigint)::tid FROM page p ORDER BY p.at DESC LIMIT 1)
  RETURNING (c.ctid::text::point)[0] AS block, c.ctid AS at, c.position, c.mapping_id, c.op, c.entity_key, c.old_key, c.changes,
    c.captured_at, c.db_user, c.application_name)
SELECT t.block::bigint, t.mapping_id, t.op::text, t.entity_key, t.old_key, t.changes::text,
  CASE WHEN isfinite(t.captured_at) THEN (extract(epoch FROM t.captured_at) * 1000000)::bigint ELSE 0 END,
  coalesce(r.rolname::text, t.db_user::text), t.application_name
FROM taken t LEFT JOIN pg_catalog.pg_roles r ON r.oid = t.db_user ORDER BY t.block, t.position, t.at"#;

/// A captured change.
pub struct Change {
    /// Of `hubspot.object_mapping`.
    pub mapping_id: i32,
    /// See `hubspot.capture`.
    pub op: String,
    /// The record's key; none: a truncate.
    pub key: Option<String>,
    /// The key it had before, when that changed.
    pub old_key: Option<String>,
    /// Changed fields: name to `[old, new]`.
    pub changes: Option<Map<String, Json>>,
    /// Unit: microseconds since 1970; 0 when it is not known.
    pub at_us: i64,
    /// The database role.
    pub actor: Option<String>,
    /// Its application's name.
    pub app: Option<String>,
}

const REMEMBER: &str = r#"
INSERT INTO hubspot.capture_mark AS m (filenode, block, tick_block, tick_xid, deleted_by)
SELECT v.filenode, v.block, v.tick_block, v.tick_xid, pg_current_xact_id()::text::bigint
FROM json_to_record($1::json) AS v (filenode oid, block bigint, tick_block bigint, tick_xid bigint)
ON CONFLICT (only_one) DO UPDATE SET filenode = excluded.filenode, block = excluded.block, deleted_by = excluded.deleted_by,
  tick_block = excluded.tick_block, tick_xid = excluded.tick_xid"#;

/// Takes away `max` rows and those behind them in the same block, and gives them in order. The caller holds the relay's
/// lock.
pub fn take(max: i64) -> Vec<Change> {
    // SAFETY: the transaction writes below.
    unsafe { crate::capture::flush() };
    let seen = Seen::now();
    let from = if seen.blocks > SHORT { seen.block } else { 0 };
    let next_xid = next_xid();
    let mut rows = Vec::new();
    let mut last_block: Option<i64> = None;
    let page = json!({"max": max, "from": format!("({from},0)")}).to_string();
    tuples::read_with(TAKE, &page, |row| {
        last_block = row.next();
        rows.push(Change {
            mapping_id: row.or_zero(),
            op: row.or_zero(),
            key: row.next(),
            old_key: row.next(),
            changes: row.next::<String>().and_then(|text| serde_json::from_str(&text).ok()),
            at_us: row.or_zero(),
            actor: row.next(),
            app: row.next(),
        });
    });
    let end = match last_block {
        // Everything that is visible was taken.
        _ if (rows.len() as i64) < max => i64::MAX,
        Some(block) => block + 1,
        None => from,
    };
    seen.remember(end, next_xid, !rows.is_empty());
    rows
}

/// What is known of the table before it is read.
struct Seen {
    blocks: i64,
    filenode: i64,
    block: i64,
    /// The newest tick: block and transaction id.
    tick: Option<(i64, i64)>,
    /// Every transaction that the tick waits for has ended, before the snapshot that rows are taken under.
    passed: bool,
    deleted_by: Option<i64>,
}

impl Seen {
    fn now() -> Self {
        let found = spi::call(LOOK, &json!({}));
        Seen {
            blocks: found["blocks"].as_i64().unwrap_or(0),
            filenode: found["filenode"].as_i64().unwrap_or(0),
            block: found["block"].as_i64().unwrap_or(0),
            tick: found["tick_block"].as_i64().zip(found["tick_xid"].as_i64()),
            passed: found["passed"].as_bool().unwrap_or(false),
            deleted_by: found["deleted_by"].as_i64(),
        }
    }

    /// All rows that were visible before block `end` have been taken: moves the mark, where it can move.
    fn remember(&self, end: i64, next_xid: i64, took: bool) {
        let long = self.blocks > SHORT;
        let block = match self.tick {
            Some((tick, _)) if self.passed && long => end.min(tick).max(self.block),
            _ => self.block,
        };
        let new_tick = ((self.blocks - 1).max(0), next_xid);
        let tick = match self.tick {
            // This one's blocks are done. The last block is still written to.
            Some((tick, _)) if long && block == tick => new_tick,
            Some(tick) => tick,
            None => new_tick,
        };
        let moved = block != self.block || Some(tick) != self.tick;
        if took || (long && moved) {
            spi::run(
                REMEMBER,
                &json!({"filenode": self.filenode, "block": block, "tick_block": tick.0, "tick_xid": tick.1}),
            );
        }
    }
}

/// Gives the table's space back if everything was taken over; the bytes that were freed. Of a transaction's calls it must
/// be the only one, for it keeps captures waiting until the transaction ends.
pub fn reclaim() -> i64 {
    const ANY: &str = "SELECT 'yes' FROM hubspot.capture WHERE ctid >= ($1::json->>'from')::tid LIMIT 1";
    let any = |from: i64| spi::call_text(ANY, &json!({"from": format!("({from},0)")})).is_some();
    if Seen::now().blocks < WORTH_IT {
        return 0;
    }
    super::one_at_a_time();
    let seen = Seen::now();
    if seen.blocks < WORTH_IT || any(if seen.blocks > SHORT { seen.block } else { 0 }) {
        return 0;
    }
    let Some(table) = spi::call_text(
        "SELECT 'hubspot.capture'::regclass::oid::text WHERE $1::text IS NOT NULL",
        &json!({}),
    )
    .and_then(|oid| oid.parse::<u32>().ok()) else {
        return 0;
    };
    if !lock(pg_sys::Oid::from(table), seen.blocks) {
        return 0;
    }
    // Nobody writes now, and whoever did has ended: this is all there is.
    if any(0) {
        // One committed meanwhile; or was put before the mark by hand, and must be found from now on.
        spi::run_ddl("UPDATE hubspot.capture_mark SET block = 0, tick_block = 0, tick_xid = 0");
        return 0;
    }
    // Without a mark nothing was ever taken away: what filled the table was rolled back.
    if seen
        .deleted_by
        .is_some_and(|newest| newest >= oldest_needed(pg_sys::Oid::from(table)))
    {
        return 0;
    }
    spi::run_ddl("TRUNCATE hubspot.capture; DELETE FROM hubspot.capture_mark");
    seen.blocks * i64::from(pg_sys::BLCKSZ)
}

/// Locks the table against everybody; false when it is in use.
fn lock(table: pg_sys::Oid, blocks: i64) -> bool {
    // SAFETY: plain C call on a table that exists; it does not wait.
    if unsafe { pg_sys::ConditionalLockRelationOid(table, pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE) } {
        return true;
    }
    if blocks < LONG {
        return false;
    }
    let locked = spi::attempt(|| {
        spi::run_ddl(PATIENCE);
        spi::run_ddl("LOCK TABLE hubspot.capture IN ACCESS EXCLUSIVE MODE");
    });
    locked.is_ok()
}

/// The next transaction id, with its epoch.
fn next_xid() -> i64 {
    // SAFETY: plain C call without arguments.
    unsafe { pg_sys::ReadNextFullTransactionId() }.value as i64
}

/// The oldest transaction id, with its epoch, whose deletions somebody may still not see.
fn oldest_needed(table: pg_sys::Oid) -> i64 {
    // SAFETY: the table exists and is locked.
    let oldest = unsafe {
        let relation = pg_sys::table_open(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        #[cfg(feature = "pg13")]
        let oldest = pg_sys::GetOldestXmin(relation, pg_sys::PROCARRAY_FLAGS_VACUUM as i32);
        #[cfg(not(feature = "pg13"))]
        let oldest = pg_sys::GetOldestNonRemovableTransactionId(relation);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        oldest
    };
    let next = next_xid();
    // Both are less than half the range apart.
    next - i64::from((next as u32).wrapping_sub(u32::from(oldest)))
}
