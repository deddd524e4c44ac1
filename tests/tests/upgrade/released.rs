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
INSERT INTO kept VALUES (3, 'B-3', 'three');
SELECT hubspot.relay_receive('[{"eventId": 1, "subscriptionType": "company.propertyChange", "portalId": 42, "objectId": 501, "propertyName": "name",
  "propertyValue": "x", "occurredAt": 1764000000000}]');
INSERT INTO hubspot.conflicts (entity_type, entity_key, field, kind, strategy, status) VALUES ('kept', '1', 'name', 'BOTH_MODIFIED', 'MANUAL', 'open');
INSERT INTO hubspot.failed_syncs (entity_type, entity_key, direction, kind, message) VALUES ('kept', '1', 'outbound', 'invalid', 'no');
"#;

/// Tables with the rows above; how many each has, by columns that no version may take away.
const COUNTS: &str = "SELECT format('%s %s %s %s %s %s %s %s %s',
  (SELECT count(*) FROM hubspot.object_mapping), (SELECT count(*) FROM hubspot.field_mapping), (SELECT count(*) FROM hubspot.transform),
  (SELECT count(*) FROM hubspot.capture), (SELECT count(*) FROM hubspot.link), (SELECT count(*) FROM hubspot.sync_state),
  (SELECT count(*) FROM hubspot.conflicts), (SELECT count(*) FROM hubspot.failed_syncs), (SELECT count(*) FROM hubspot.webhook_events))";

async fn text(sql: &tokio_postgres::Client, query: &str) -> Result<String> {
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
        sql.batch_execute(DATA).await.context("data")?;
        let before = text(&sql, COUNTS).await?;
        sql.batch_execute("ALTER EXTENSION hubspot_sync UPDATE")
            .await
            .context("update")?;
        assert_eq!(text(&sql, COUNTS).await?, before, "from {version}");
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
        "UPDATE kept SET name = 'after' WHERE id = 2; SELECT hubspot.relay_maintain(); SELECT hubspot.enable('kept')",
    )
    .await?;
    let claims = text(
        sql,
        "SELECT jsonb_array_length(hubspot.relay_claim('r', 10, 60000, 0)->'claims')::text",
    )
    .await?;
    assert_eq!(claims, "2", "of three records one is claimed already");
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
        sql.batch_execute(DATA).await.context("data")?;
        sql.batch_execute("ALTER EXTENSION hubspot_sync UPDATE TO '91.0.0'")
            .await?;
        let left = difference(&fresh, &take(&sql).await?);
        assert_eq!(left.is_empty(), forgotten.is_empty(), "{forgotten:?}: {left:#?}");
        still_works(&sql).await?;
    }
    Ok(())
}
