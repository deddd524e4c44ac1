//! What changed while nothing was captured is found when the mapping is enabled again.

use super::{absorb, captured, database, map, recorded};
use anyhow::Result;
use serde_json::json;

#[tokio::test]
async fn what_changed_while_disabled_is_queued() -> Result<()> {
    let (sql, _) = database(
        "while_disabled",
        "CREATE TABLE p (id int PRIMARY KEY, name text, phone text);
         INSERT INTO p SELECT g, 'n' || g, NULL FROM generate_series(1, 6) g",
    )
    .await?;
    map(&sql, "p", &["name", "phone"], json!({})).await?;
    absorb(&sql).await?;
    sql.batch_execute("DELETE FROM p WHERE id = 6").await?;
    absorb(&sql).await?;
    sql.batch_execute(
        "SELECT hubspot.disable('t');
         UPDATE p SET name = 'changed' WHERE id = 1; UPDATE p SET phone = '2' WHERE id = 2; DELETE FROM p WHERE id = 3;
         INSERT INTO p VALUES (5000, 'new'), (6, 'back')",
    )
    .await?;
    assert_eq!(captured(&sql).await?, Vec::<String>::new());
    sql.batch_execute("SELECT hubspot.enable('t')").await?;
    let mut seen = captured(&sql).await?;
    seen.sort();
    assert_eq!(seen, ["D 3", "F 5000 name", "I 6 name", "U 1 name", "U 2 phone"]);
    absorb(&sql).await?;
    assert_eq!(
        recorded(&sql, "name").await?,
        ["1=changed", "2=n2", "4=n4", "5=n5", "5000=new", "6=back"]
    );
    sql.batch_execute("SELECT hubspot.enable('t')").await?;
    assert_eq!(captured(&sql).await?, Vec::<String>::new(), "nothing differs any more");
    Ok(())
}

#[tokio::test]
async fn replica_role_is_found_later_or_captured_when_asked_for() -> Result<()> {
    let (sql, _) = database("replica", "CREATE TABLE p (id int PRIMARY KEY, name text)").await?;
    map(&sql, "p", &["name"], json!({})).await?;
    let load = "SET session_replication_role = replica; INSERT INTO p VALUES (1, 'x'); RESET session_replication_role";
    sql.batch_execute(load).await?;
    assert_eq!(captured(&sql).await?, Vec::<String>::new());
    sql.batch_execute("SELECT hubspot.enable('t')").await?;
    assert_eq!(captured(&sql).await?, ["F 1 name"]);
    absorb(&sql).await?;
    map(&sql, "p", &["name"], json!({"capture_replicated": true})).await?;
    sql.batch_execute("SELECT hubspot.enable('t'); TRUNCATE p").await?;
    absorb(&sql).await?;
    sql.batch_execute(load).await?;
    assert_eq!(captured(&sql).await?, ["I 1 name"]);
    Ok(())
}
