//! Before and after the extension is installed.

use super::refused;
use anyhow::Result;
use hubspot_sync_tests::cluster::{self, connect};
use tokio_postgres::error::SqlState;

/// Whoever may create schemas could own the extension's before it is there, and plant functions beside its own.
#[tokio::test]
async fn a_schema_that_somebody_made_beforehand_is_refused() -> Result<()> {
    let sql = connect(&cluster::shared().create_empty_database("early").await?).await?;
    sql.batch_execute("CREATE ROLE early_bird; CREATE SCHEMA hubspot AUTHORIZATION early_bird")
        .await?;
    let duplicate = SqlState::DUPLICATE_SCHEMA;
    let said = refused(&sql, "CREATE EXTENSION hubspot_sync", &duplicate).await?;
    assert!(said.contains("schema hubspot"), "{said}");
    sql.batch_execute("ALTER SCHEMA hubspot OWNER TO postgres; GRANT CREATE ON SCHEMA hubspot TO early_bird")
        .await?;
    refused(&sql, "CREATE EXTENSION hubspot_sync", &duplicate).await?;
    sql.batch_execute(
        "REVOKE CREATE ON SCHEMA hubspot FROM early_bird;
         CREATE FUNCTION hubspot.armed_reason(text) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
    )
    .await?;
    refused(&sql, "CREATE EXTENSION hubspot_sync", &duplicate).await?;
    sql.batch_execute("DROP FUNCTION hubspot.armed_reason(text)").await?;
    sql.batch_execute("CREATE EXTENSION hubspot_sync").await?;
    Ok(())
}

/// Every SECURITY DEFINER function, and every function at all that is not plain C, has its search_path pinned. `estimate` alone runs
/// its caller's statement with its caller's rights and search_path, and names everything of its own with its schema.
#[tokio::test]
async fn every_function_has_its_search_path_pinned() -> Result<()> {
    let sql = connect(&cluster::shared().create_database("pinned").await?).await?;
    let rows = sql
        .query(
            "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
             WHERE p.pronamespace = 'hubspot'::regnamespace AND (p.prosecdef OR l.lanname <> 'c') AND NOT (p.proname = 'estimate' AND NOT p.prosecdef)
               AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)",
            &[],
        )
        .await?;
    let loose: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
    assert!(loose.is_empty(), "{loose:?}");
    let owner: bool = sql
        .query_one("SELECT bool_and(v.relowner = e.extowner) FROM pg_class v, pg_extension e WHERE e.extname = 'hubspot_sync' AND v.relnamespace = 'hubspot'::regnamespace", &[])
        .await?
        .get(0);
    assert!(owner);
    Ok(())
}
