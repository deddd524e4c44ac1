//! From every released version, and from a made-up one, so that the comparison itself is tested before anything is released.

use super::snapshot::{difference, take};
use super::{add_script, install_script, present};
use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::{Cluster, connect};
use std::fs;
use std::path::Path;

/// Rows in every table that a dump carries, made by the extension's own functions where they can.
const DATA: &str = r#"
CREATE TABLE kept (id int PRIMARY KEY, ban text UNIQUE, name text);
SELECT hubspot.import_mapping('kept', 'kept', 'companies', '{
  "ban": {"hubspot_property": "warp_ban", "warp_field": "ban", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"},
  "name": {"hubspot_property": "name", "warp_field": "name", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "MANUAL"}}');
SELECT hubspot.arm(42);
CREATE FUNCTION up(text) RETURNS text LANGUAGE sql AS 'SELECT upper($1)';
SELECT hubspot.register_transform('loud', 'up(text)', 'up(text)');
INSERT INTO kept VALUES (1, 'B-1', 'one'), (2, 'B-2', 'two');
SELECT hubspot.relay_hello('r', '0.1.0', 42);
SELECT hubspot.relay_claim('r', 1, 60000, 0);
INSERT INTO kept VALUES (3, 'B-3', 'three'), (4, 'B-4', 'four');
SELECT hubspot.relay_receive('[{"eventId": 1, "subscriptionType": "company.propertyChange", "portalId": 42, "objectId": 501, "propertyName": "name",
  "propertyValue": "x", "occurredAt": 1764000000000}]');
INSERT INTO hubspot.conflicts (entity_type, entity_key, field, kind, strategy, status) VALUES ('kept', '1', 'name', 'BOTH_MODIFIED', 'MANUAL', 'open');
INSERT INTO hubspot.failed_syncs (entity_type, entity_key, direction, kind, message) VALUES ('kept', '1', 'outbound', 'invalid', 'no');
SELECT hubspot.relay_properties('companies', '[{"name": "name", "type": "string", "fieldType": "text"}]');
SELECT hubspot.relay_quota('r', 5000, 1000, '{"seq": 1, "budgets": [], "day": {"zone": "UTC", "limit": 1000, "left": 900, "calls": {"live": 3}}}');
SELECT hubspot.reconcile('kept', true);
SELECT hubspot.relay_reconcile_schedule('incremental', 0);
SELECT hubspot.relay_maintain();
SELECT hubspot.page_retry('somebody', ARRAY[id], NULL) FROM hubspot.failed_syncs;
SELECT hubspot.forget('kept', '2');
INSERT INTO hubspot.capture_shed SELECT id, '4' FROM hubspot.object_mapping;
INSERT INTO hubspot.reconciliation_discrepancies (run_id, entity_type, entity_key, kind, action) SELECT id, 'kept', '1', 'value_differs', 'reported' FROM hubspot.reconciliation_runs;
SELECT hubspot.relay_journal_take('r', 42, 60000, false);
INSERT INTO hubspot.brake_held SELECT min(id), 0, now() FROM hubspot.link;
INSERT INTO hubspot.sensitive_key (key) VALUES (repeat('0f', 32));
INSERT INTO hubspot.sensitive_held SELECT l.id, f.id, 'token', 'locked' FROM hubspot.link l, hubspot.field_mapping f ORDER BY 1, 2 LIMIT 1;
INSERT INTO kept VALUES (5, 'B-5', 'five');
"#;

/// How many rows each table has that a dump carries.
const TABLES: &str = "SELECT c.oid::regclass::text FROM pg_extension e, unnest(e.extconfig) AS x (id) JOIN pg_class c ON c.oid = x.id AND c.relkind = 'r'
  WHERE e.extname = 'hubspot_sync' ORDER BY 1";

async fn counts(sql: &tokio_postgres::Client, tables: &[String]) -> Result<Vec<(String, i64)>> {
    let mut found = Vec::new();
    for table in tables {
        let row = sql.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await;
        found.push((table.clone(), row.with_context(|| table.clone())?.get(0)));
    }
    Ok(found)
}

/// Puts rows into every table that a dump carries; gives how many each has.
pub async fn fill(sql: &tokio_postgres::Client) -> Result<Vec<(String, i64)>> {
    sql.batch_execute(DATA).await.context("data")?;
    let tables: Vec<String> = sql.query(TABLES, &[]).await?.iter().map(|row| row.get(0)).collect();
    let filled = counts(sql, &tables).await?;
    let empty: Vec<_> = filled.iter().filter(|(_, rows)| *rows == 0).collect();
    assert!(empty.is_empty() && filled.len() >= 20, "no rows in {empty:?}");
    Ok(filled)
}

/// What was filled in is all there.
pub async fn kept(sql: &tokio_postgres::Client, before: &[(String, i64)]) -> Result<()> {
    let tables: Vec<String> = before.iter().map(|(table, _)| table.clone()).collect();
    assert_eq!(counts(sql, &tables).await?, before);
    Ok(())
}

pub async fn text(sql: &tokio_postgres::Client, query: &str) -> Result<String> {
    Ok(sql
        .query_one(query, &[])
        .await
        .with_context(|| query.to_owned())?
        .get(0))
}

/// Every version in `sql/released` becomes the present one, with its data.
#[tokio::test]
async fn an_upgraded_schema_equals_a_fresh_one() -> Result<()> {
    let cluster = Cluster::start()?;
    let fresh = take(&connect(&cluster.create_database("fresh").await?).await?).await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/released");
    for entry in fs::read_dir(&folder).context("sql/released")? {
        let path = entry?.path();
        let Some(version) = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.strip_prefix("hubspot_sync--"))
        else {
            continue;
        };
        assert_ne!(
            version,
            present(),
            "the present version is frozen: begin the next one, with make freeze"
        );
        add_script(&cluster, version, &fs::read_to_string(&path)?)?;
        let sql = connect(&cluster.create_empty_database("old").await?).await?;
        sql.batch_execute(&format!("CREATE EXTENSION hubspot_sync VERSION '{version}'"))
            .await
            .context(version.to_owned())?;
        let before = fill(&sql).await?;
        sql.batch_execute("ALTER EXTENSION hubspot_sync UPDATE")
            .await
            .context("update")?;
        kept(&sql, &before).await.with_context(|| format!("from {version}"))?;
        let left = difference(&fresh, &take(&sql).await?);
        assert!(
            left.is_empty(),
            "from {version}, - is missing, + is too much:\n{}",
            left.join("\n")
        );
        still_works(&sql).await?;
    }
    Ok(())
}

/// Mappings and what was captured are of use after the upgrade.
async fn still_works(sql: &tokio_postgres::Client) -> Result<()> {
    sql.batch_execute(
        "UPDATE kept SET name = 'after' WHERE id = 3; SELECT hubspot.relay_maintain(); SELECT hubspot.enable('kept')",
    )
    .await?;
    let claims = text(
        sql,
        "SELECT jsonb_array_length(hubspot.relay_claim('r', 10, 60000, 0)->'claims')::text",
    )
    .await?;
    assert_eq!(claims, "3", "of four records one is claimed already");
    Ok(())
}

/// An upgrade script that forgets a comment, a grant, a setting, a dump's mark or an index is found out.
#[tokio::test]
async fn the_comparison_finds_what_an_upgrade_forgot() -> Result<()> {
    let cluster = Cluster::start()?;
    let added = "
CREATE TABLE hubspot.added (id int PRIMARY KEY, what text NOT NULL DEFAULT 'x');
CREATE INDEX added_what_idx ON hubspot.added (what);
COMMENT ON TABLE hubspot.added IS 'Something a later version has.';
SELECT pg_catalog.pg_extension_config_dump('hubspot.added', '');
REVOKE ALL ON hubspot.added FROM PUBLIC;
CREATE FUNCTION hubspot.added_function() RETURNS int LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
REVOKE ALL ON FUNCTION hubspot.added_function() FROM PUBLIC;
";
    let base = install_script(&cluster)?;
    add_script(&cluster, "90.0.0", &base)?;
    add_script(&cluster, "91.0.0", &format!("{base}{added}"))?;
    let url = cluster.create_empty_database("later").await?;
    let sql = connect(&url).await?;
    sql.batch_execute("CREATE EXTENSION hubspot_sync VERSION '91.0.0'")
        .await?;
    let fresh = take(&sql).await?;
    for (number, forgotten) in [
        "",
        "CREATE INDEX",
        "COMMENT ON",
        "SELECT pg_catalog.pg_ext",
        "REVOKE ALL ON FUNCTION",
        " SET search_path = pg_catalog, pg_temp",
        " NOT NULL",
    ]
    .iter()
    .enumerate()
    {
        let script: String = added
            .lines()
            .filter(|line| forgotten.is_empty() || forgotten.starts_with(' ') || !line.starts_with(forgotten))
            .map(|line| if forgotten.starts_with(' ') { line.replace(forgotten, "") } else { line.to_owned() } + "\n")
            .collect();
        add_script(&cluster, "90.0.0--91.0.0", &script)?;
        let sql = connect(&cluster.create_empty_database(&format!("upgraded_{number}")).await?).await?;
        sql.batch_execute("CREATE EXTENSION hubspot_sync VERSION '90.0.0'")
            .await?;
        let before = fill(&sql).await?;
        sql.batch_execute("ALTER EXTENSION hubspot_sync UPDATE TO '91.0.0'")
            .await?;
        kept(&sql, &before).await?;
        let left = difference(&fresh, &take(&sql).await?);
        assert_eq!(left.is_empty(), forgotten.is_empty(), "{forgotten:?}: {left:#?}");
        still_works(&sql).await?;
    }
    Ok(())
}
