//! What DDL does to mappings: they follow, or say why they cannot.

use super::{absorb, captured, database, map, recorded, texts};
use anyhow::Result;
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

const TABLE: &str = "CREATE TABLE p (id int PRIMARY KEY, name text, phone text, contact jsonb);
                     INSERT INTO p VALUES (1, 'n', '07', '{}')";

async fn warnings(sql: &Client) -> Result<String> {
    Ok(
        texts(sql, "SELECT array_to_string(warnings, '; ') FROM hubspot.status()")
            .await?
            .join(""),
    )
}

async fn mapped(name: &str) -> Result<Client> {
    let (sql, _) = database(name, TABLE).await?;
    map(&sql, "p", &["name", "phone"], json!({})).await?;
    absorb(&sql).await?;
    assert_eq!(warnings(&sql).await?, "");
    Ok(sql)
}

#[tokio::test]
async fn renames_are_followed() -> Result<()> {
    let sql = mapped("renames").await?;
    sql.batch_execute(
        r#"CREATE SCHEMA s; ALTER TABLE p RENAME COLUMN name TO "the Name"; ALTER TABLE p RENAME COLUMN id TO key;
           ALTER TABLE p RENAME TO q; ALTER TABLE q SET SCHEMA s; UPDATE s.q SET "the Name" = 'm'"#,
    )
    .await?;
    assert_eq!(captured(&sql).await?, ["U 1 name"]);
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "name").await?, ["1=m"]);
    let exported: Json = sql.query_one("SELECT hubspot.export_mapping('t')", &[]).await?.get(0);
    assert_eq!(exported["name"]["warp_field"], "the Name");
    assert_eq!(warnings(&sql).await?, "");
    Ok(())
}

#[tokio::test]
async fn a_dropped_column_disables_its_field_alone() -> Result<()> {
    let sql = mapped("dropped").await?;
    sql.batch_execute("ALTER TABLE p DROP COLUMN phone; UPDATE p SET name = 'm'")
        .await?;
    assert_eq!(captured(&sql).await?, ["U 1 name"]);
    let said = warnings(&sql).await?;
    assert!(
        said.contains("has no column \"phone\"") && said.contains("hubspot.enable('t')"),
        "{said}"
    );
    sql.batch_execute("ALTER TABLE p ADD phone text DEFAULT '9'; SELECT hubspot.enable('t')")
        .await?;
    assert_eq!(warnings(&sql).await?, "");
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "phone").await?, ["1=9"]);
    Ok(())
}

#[tokio::test]
async fn a_retyped_column_is_checked_and_its_rows_compared() -> Result<()> {
    let sql = mapped("retyped").await?;
    sql.batch_execute(
        "ALTER TABLE p ALTER phone TYPE int USING phone::int; ALTER TABLE p ALTER name TYPE text USING upper(name)",
    )
    .await?;
    sql.batch_execute("SELECT hubspot.relay_maintain()").await?;
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "phone").await?, ["1=7"]);
    assert_eq!(recorded(&sql, "name").await?, ["1=N"]);
    sql.batch_execute("ALTER TABLE p ALTER phone TYPE point USING point(1, 2); UPDATE p SET name = 'on'")
        .await?;
    assert_eq!(captured(&sql).await?, ["U 1 name"]);
    assert!(
        warnings(&sql).await?.contains("cannot be mapped whole"),
        "{}",
        warnings(&sql).await?
    );
    Ok(())
}

#[tokio::test]
async fn a_dropped_table_disables_its_mapping() -> Result<()> {
    let sql = mapped("table_gone").await?;
    sql.batch_execute("DROP TABLE p").await?;
    assert!(warnings(&sql).await?.contains("its table was dropped"));
    absorb(&sql).await?;
    sql.batch_execute(TABLE).await?;
    map(&sql, "p", &["name", "phone"], json!({})).await?;
    sql.batch_execute("UPDATE p SET name = 'again'").await?;
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "name").await?, ["1=again"]);
    assert_eq!(warnings(&sql).await?, "");
    Ok(())
}

#[tokio::test]
async fn a_dropped_key_disables_the_mapping() -> Result<()> {
    let sql = mapped("key_gone").await?;
    sql.batch_execute("ALTER TABLE p DROP COLUMN id; UPDATE p SET name = 'm'")
        .await?;
    assert_eq!(captured(&sql).await?, Vec::<String>::new());
    assert!(warnings(&sql).await?.contains("key column \"id\""));
    let refused = sql.batch_execute("SELECT hubspot.enable('t')").await.err();
    assert_eq!(
        refused.and_then(|e| e.code().map(|c| c.code().to_owned())).as_deref(),
        Some("55000")
    );
    absorb(&sql).await
}

#[tokio::test]
async fn without_event_triggers_nothing_fails() -> Result<()> {
    let sql = mapped("no_events").await?;
    sql.batch_execute(
        "ALTER EVENT TRIGGER hubspot_ddl_end DISABLE; ALTER EVENT TRIGGER hubspot_ddl_drop DISABLE;
         ALTER EVENT TRIGGER hubspot_ddl_rewrite DISABLE;
         ALTER TABLE p RENAME COLUMN phone TO mobile; UPDATE p SET mobile = '1', name = 'm'",
    )
    .await?;
    assert_eq!(captured(&sql).await?, ["U 1 name"]);
    assert!(
        warnings(&sql)
            .await?
            .contains("event trigger hubspot_ddl_end is missing or switched off")
    );
    sql.batch_execute("SELECT hubspot.enable('t')").await?;
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "phone").await?, ["1=1"], "enable follows the rename");
    sql.batch_execute("ALTER TABLE p DROP COLUMN id; UPDATE p SET name = 'x'")
        .await?;
    absorb(&sql).await?;
    sql.batch_execute("DROP TABLE p").await?;
    absorb(&sql).await
}

#[tokio::test]
async fn a_fault_of_ours_never_fails_the_statement() -> Result<()> {
    let sql = mapped("fault").await?;
    sql.batch_execute(
        "ALTER TABLE hubspot.field_mapping ADD CONSTRAINT broken CHECK (column_name <> 'renamed');
         ALTER TABLE p RENAME COLUMN phone TO renamed; UPDATE p SET name = 'm'",
    )
    .await?;
    assert_eq!(captured(&sql).await?, ["U 1 name"]);
    Ok(())
}

#[tokio::test]
async fn a_plain_owner_alters_a_mapped_table_and_gains_nothing() -> Result<()> {
    let sql = mapped("plain_owner").await?;
    sql.batch_execute(
        "CREATE ROLE ddl_owner; ALTER TABLE p OWNER TO ddl_owner; GRANT CREATE, USAGE ON SCHEMA public TO ddl_owner;
         SET ROLE ddl_owner; ALTER TABLE p RENAME COLUMN name TO label; UPDATE p SET label = 'm'; ALTER TABLE p DISABLE TRIGGER \"!hubspot_capture_1\";",
    )
    .await?;
    assert!(
        sql.batch_execute("SELECT hubspot.follow_table('p'::regclass)")
            .await
            .is_err()
    );
    sql.batch_execute("RESET ROLE").await?;
    assert_eq!(captured(&sql).await?, ["U 1 name"]);
    assert!(
        warnings(&sql).await?.contains("switched off"),
        "{}",
        warnings(&sql).await?
    );
    Ok(())
}

#[tokio::test]
async fn the_extension_is_dropped_and_created_again() -> Result<()> {
    let sql = mapped("dropped_extension").await?;
    sql.batch_execute(
        "DROP EXTENSION hubspot_sync CASCADE; UPDATE p SET name = 'm'; ALTER TABLE p DROP COLUMN phone; DROP SCHEMA IF EXISTS hubspot;
         CREATE EXTENSION hubspot_sync; DROP TABLE p",
    )
    .await?;
    assert_eq!(texts(&sql, "SELECT count(*)::text FROM pg_event_trigger").await?, ["3"]);
    Ok(())
}
