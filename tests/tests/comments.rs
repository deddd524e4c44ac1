//! Everything that the extension puts into the schema says what it is.

use anyhow::Result;
use hubspot_sync_tests::cluster::{self, connect};

/// Members of the extension in its schema, with their comments. Row types, array types and the sequences of identity
/// columns are parts of something else that has one.
const MEMBERS: &str = "
WITH member AS (
  SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
  WHERE e.extname = 'hubspot_sync' AND d.deptype = 'e')
SELECT pg_describe_object(m.classid, m.objid, 0), c.description
FROM member m
LEFT JOIN pg_description c ON c.classoid = m.classid AND c.objoid = m.objid AND c.objsubid = 0
LEFT JOIN pg_class r ON m.classid = 'pg_class'::regclass AND r.oid = m.objid
LEFT JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
LEFT JOIN pg_class row_of ON row_of.oid = t.typrelid
WHERE (r.oid IS NULL OR r.relkind IN ('r', 'p', 'v', 'm', 'S', 'f'))
  AND NOT EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = m.classid AND i.objid = m.objid AND i.deptype = 'i'
                  AND i.refclassid IN ('pg_class'::regclass, 'pg_type'::regclass))
  AND (t.oid IS NULL OR (t.typelem = 0 AND (row_of.oid IS NULL OR row_of.relkind = 'c')))
  AND m.classid IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass, 'pg_namespace'::regclass)
ORDER BY 1";

#[tokio::test]
async fn every_object_has_a_comment() -> Result<()> {
    let client = connect(&cluster::shared().create_database("comments").await?).await?;
    let rows = client.query(MEMBERS, &[]).await?;
    let names: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
    for expected in [
        "table hubspot.object_mapping",
        "view hubspot.field_state",
        "sequence hubspot.claim_token_seq",
        "type hubspot.sync_direction",
        "function hubspot.status()",
        "function hubspot.resolve_conflict(bigint,text,text)",
    ] {
        assert!(
            names.iter().any(|n| n == expected),
            "{expected} is not among {names:#?}"
        );
    }
    let silent: Vec<&String> = names
        .iter()
        .zip(&rows)
        .filter(|(_, row)| {
            row.get::<_, Option<String>>(1)
                .is_none_or(|text| text.trim().len() < 10)
        })
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "without a comment: {silent:#?}");
    Ok(())
}

/// Nothing of the extension is outside its schema.
#[tokio::test]
async fn nothing_is_outside_the_schema() -> Result<()> {
    let client = connect(&cluster::shared().create_database("outside").await?).await?;
    let rows = client
        .query(
            "SELECT pg_describe_object(d.classid, d.objid, 0)
             FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
             WHERE e.extname = 'hubspot_sync' AND d.deptype = 'e'
               AND coalesce((SELECT relnamespace FROM pg_class WHERE d.classid = 'pg_class'::regclass AND oid = d.objid),
                            (SELECT pronamespace FROM pg_proc WHERE d.classid = 'pg_proc'::regclass AND oid = d.objid),
                            (SELECT typnamespace FROM pg_type WHERE d.classid = 'pg_type'::regclass AND oid = d.objid))
                   IS DISTINCT FROM 'hubspot'::regnamespace
               AND d.classid NOT IN ('pg_namespace'::regclass, 'pg_event_trigger'::regclass)",
            &[],
        )
        .await?;
    let outside: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
    assert!(outside.is_empty(), "{outside:?}");
    Ok(())
}

/// What people select from has the columns they were promised.
#[tokio::test]
async fn the_promised_columns_exist() -> Result<()> {
    let client = connect(&cluster::shared().create_database("columns").await?).await?;
    for (name, columns) in [
        (
            "field_state",
            "entity_type, entity_key, field, status, warp_value, hubspot_value, base_value, warp_changed_at, hubspot_changed_at, synced_at, winner",
        ),
        (
            "conflicts",
            "id, entity_type, entity_key, field, kind, warp_value, warp_changed_at, hubspot_value, hubspot_changed_at, strategy, status, winner, resolved_by, resolved_at",
        ),
        ("object_mapping", "*"),
        ("field_mapping", "*"),
        ("link", "*"),
        ("outbox", "*"),
        ("sync_log", "*"),
        ("webhook_events", "*"),
        ("failed_syncs", "*"),
        ("reconciliation_runs", "*"),
        ("reconciliation_discrepancies", "*"),
        ("relay_status", "*"),
        ("metrics", "*"),
    ] {
        client
            .execute(&format!("SELECT {columns} FROM hubspot.{name}"), &[])
            .await?;
    }
    Ok(())
}
