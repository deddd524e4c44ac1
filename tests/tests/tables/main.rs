//! Every kind of table and statement: what is captured of it, and what DDL does to mappings.

mod ddl;
mod enable;
mod json;
mod kinds;
mod many;
mod statements;
mod twin;

use anyhow::{Context as _, Result};
use hubspot_sync_tests::cluster::{self, connect};
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

/// A database with the extension, armed, and `setup` run in it.
async fn database(name: &str, setup: &str) -> Result<(Client, String)> {
    let url = cluster::shared().create_database(name).await?;
    let sql = connect(&url).await?;
    sql.batch_execute(setup).await?;
    sql.batch_execute("SELECT hubspot.arm(1)").await?;
    Ok((sql, url))
}

/// A document that maps these columns one to one, towards HubSpot.
fn document(columns: &[&str]) -> Json {
    let entries = columns.iter().map(|c| {
        let property = format!(
            "warp_{}",
            c.to_lowercase().replace(|x: char| !x.is_ascii_alphanumeric(), "_")
        );
        let entry = json!({"hubspot_property": property, "warp_field": c, "sync_direction": "WARP_TO_HUBSPOT",
                           "conflict_resolution": "WARP_WINS"});
        ((*c).to_owned(), entry)
    });
    Json::Object(entries.collect())
}

/// Maps a table under the entity type `t`.
async fn map(sql: &Client, table: &str, columns: &[&str], options: Json) -> Result<()> {
    sql.query_one(
        "SELECT hubspot.import_mapping('t', $1::text::regclass, 'companies', $2, $3)",
        &[&table, &document(columns), &options],
    )
    .await
    .with_context(|| format!("mapping {table}"))?;
    Ok(())
}

/// What is captured and not taken over yet: operation, key and fields, in order.
async fn captured(sql: &Client) -> Result<Vec<String>> {
    let rows = sql
        .query(
            "SELECT op || ' ' || coalesce(entity_key, '*') || coalesce(' ' || nullif(array_to_string(ARRAY(SELECT unnest(fields) ORDER BY 1), ','), ''), '')
             FROM hubspot.outbox WHERE state = 'captured' ORDER BY id",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

/// Takes over what is captured, as a relay does.
async fn absorb(sql: &Client) -> Result<()> {
    for _ in 0..20 {
        sql.query_one("SELECT hubspot.relay_claim('test', 1000, 1000, 0)", &[])
            .await?;
        if captured(sql).await?.is_empty() {
            return Ok(());
        }
    }
    anyhow::bail!("changes keep coming: {:?}", captured(sql).await?)
}

async fn texts(sql: &Client, query: &str) -> Result<Vec<String>> {
    let rows = sql.query(query, &[]).await.with_context(|| query.to_owned())?;
    Ok(rows
        .iter()
        .map(|r| r.get::<_, Option<String>>(0).unwrap_or_default())
        .collect())
}

/// What is recorded of a field, by key: `key=value`.
async fn recorded(sql: &Client, field: &str) -> Result<Vec<String>> {
    texts(
        sql,
        &format!(
            "SELECT entity_key || '=' || coalesce(warp_value, '') FROM hubspot.field_state
             WHERE field = '{field}' AND status <> 'deleted_here' ORDER BY entity_key"
        ),
    )
    .await
}
