//! Statements and tables that a change could slip through: bulk loads, identity columns, cascades, forced row security,
//! deferred constraints, transactions that end in every way, and rows that arrive by logical replication.

use super::{absorb, captured, database, document, map, recorded, texts};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::SinkExt as _;
use hubspot_sync_tests::cluster::{Cluster, Options, connect};
use serde_json::json;
use std::pin::pin;
use std::time::Duration;
use tokio_postgres::Client;

const PLAIN: &str = "CREATE TABLE p (id int PRIMARY KEY, name text, phone text)";

async fn copy(sql: &Client, statement: &str, lines: &str) -> Result<u64> {
    let mut sink = pin!(sql.copy_in::<_, Bytes>(statement).await?);
    sink.send(Bytes::copy_from_slice(lines.as_bytes())).await?;
    Ok(sink.finish().await?)
}

#[tokio::test]
async fn copy_plain_filtered_and_frozen() -> Result<()> {
    let (sql, _) = database("copy", PLAIN).await?;
    map(&sql, "p", &["name"], json!({})).await?;
    let lines = "1\ta\t\\N\n2\t\\N\t\\N\n3\tc\t\\N\n";
    assert_eq!(copy(&sql, "COPY p FROM STDIN WHERE id < 3", lines).await?, 2);
    assert_eq!(captured(&sql).await?, ["I 1 name", "I 2"]);
    absorb(&sql).await?;
    sql.batch_execute("BEGIN; TRUNCATE p").await?;
    copy(&sql, "COPY p FROM STDIN (FREEZE)", lines).await?;
    sql.batch_execute("COMMIT").await?;
    assert_eq!(captured(&sql).await?, ["T *", "I 1 name", "I 2", "I 3 name"]);
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "name").await?, ["1=a", "2=", "3=c"]);
    let failed = copy(&sql, "COPY p FROM STDIN", "4\td\t\\N\n1\ttwice\t\\N\n").await;
    assert!(failed.is_err(), "a key twice");
    assert_eq!(captured(&sql).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn identity_and_generated_columns() -> Result<()> {
    let (sql, _) = database(
        "identity",
        "CREATE TABLE p (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text,
           shout text GENERATED ALWAYS AS (upper(name)) STORED, n serial)",
    )
    .await?;
    map(&sql, "p", &["shout", "n"], json!({})).await?;
    sql.batch_execute(
        "INSERT INTO p (name) VALUES ('a'); INSERT INTO p (id, name) OVERRIDING SYSTEM VALUE VALUES (7, 'b');
         UPDATE p SET name = 'A' WHERE id = 1; UPDATE p SET name = 'c' WHERE id = 7",
    )
    .await?;
    assert_eq!(
        captured(&sql).await?,
        ["I 1 n,shout", "I 7 n,shout", "U 7 shout"],
        "a generated column counts by its value"
    );
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "shout").await?, ["1=A", "7=C"]);
    Ok(())
}

#[tokio::test]
async fn truncation_and_deletion_that_cascade() -> Result<()> {
    let (sql, _) = database(
        "cascade",
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE p (id int PRIMARY KEY, name text, parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
         INSERT INTO parent VALUES (1), (2); INSERT INTO p VALUES (1, 'a', 1), (2, 'b', 2)",
    )
    .await?;
    map(&sql, "p", &["name", "parent"], json!({})).await?;
    absorb(&sql).await?;
    sql.batch_execute("UPDATE parent SET id = 3 WHERE id = 1; DELETE FROM parent WHERE id = 2")
        .await?;
    assert_eq!(captured(&sql).await?, ["U 1 parent", "D 2"]);
    absorb(&sql).await?;
    sql.batch_execute("TRUNCATE parent CASCADE").await?;
    assert_eq!(captured(&sql).await?, ["T *"]);
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "name").await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn forced_row_security_hides_no_change() -> Result<()> {
    let (sql, url) = database(
        "forced_rls",
        "CREATE ROLE rls_owner LOGIN; CREATE ROLE rls_app LOGIN; GRANT USAGE, CREATE ON SCHEMA public TO rls_owner;
         SET ROLE rls_owner; CREATE TABLE p (id int PRIMARY KEY, name text, tenant text);
         ALTER TABLE p ENABLE ROW LEVEL SECURITY; ALTER TABLE p FORCE ROW LEVEL SECURITY;
         CREATE POLICY own ON p USING (tenant = current_setting('app.tenant', true));
         GRANT ALL ON p TO rls_app; RESET ROLE;
         INSERT INTO p VALUES (1, 'a', 'x'), (2, 'b', 'y')",
    )
    .await?;
    map(&sql, "p", &["name"], json!({})).await?;
    absorb(&sql).await?;
    let app = connect(&url.replace("postgres@", "rls_app@")).await?;
    app.batch_execute("SET app.tenant = 'y'; UPDATE p SET name = name || '!'; INSERT INTO p VALUES (3, 'c', 'y')")
        .await?;
    assert_eq!(
        captured(&sql).await?,
        ["U 2 name", "I 3 name"],
        "what the policy let through, and no more"
    );
    let refused = app.batch_execute("INSERT INTO p VALUES (4, 'd', 'x')").await;
    assert!(refused.is_err(), "another tenant's row");
    absorb(&sql).await?;
    assert_eq!(
        recorded(&sql, "name").await?,
        ["1=a", "2=b!", "3=c"],
        "rows of every tenant are known"
    );
    Ok(())
}

#[tokio::test]
async fn two_mappings_on_one_table() -> Result<()> {
    let (sql, _) = database("two_mappings", PLAIN).await?;
    for (entity, object, column) in [("a", "companies", "name"), ("b", "contacts", "phone")] {
        sql.query_one(
            "SELECT hubspot.import_mapping($1, 'p'::regclass, $2, $3)",
            &[&entity, &object, &document(&[column])],
        )
        .await?;
    }
    let by_mapping = "SELECT entity_type || ' ' || op || ' ' || entity_key FROM hubspot.outbox
                      WHERE state = 'captured' ORDER BY entity_type, id";
    sql.batch_execute("INSERT INTO p VALUES (1, 'n', '1'); UPDATE p SET name = 'm'; UPDATE p SET phone = '2'")
        .await?;
    assert_eq!(texts(&sql, by_mapping).await?, ["a I 1", "a U 1", "b I 1", "b U 1"]);
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "name").await?, ["1=m"]);
    assert_eq!(recorded(&sql, "phone").await?, ["1=2"]);
    sql.batch_execute("SELECT hubspot.disable('a'); UPDATE p SET name = 'k', phone = '3'")
        .await?;
    assert_eq!(texts(&sql, by_mapping).await?, ["b U 1"], "each is switched by itself");
    Ok(())
}

#[tokio::test]
async fn deferred_constraints() -> Result<()> {
    let (sql, _) = database(
        "deferred",
        "CREATE TABLE owner (id int PRIMARY KEY);
         CREATE TABLE p (id int PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED,
           owner int REFERENCES owner DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO p VALUES (1, 'a'), (2, 'b')",
    )
    .await?;
    map(&sql, "p", &["name", "owner"], json!({})).await?;
    absorb(&sql).await?;
    sql.batch_execute(
        "BEGIN; UPDATE p SET name = 'b' WHERE id = 1; UPDATE p SET name = 'a' WHERE id = 2;
         UPDATE p SET owner = 9 WHERE id = 1; INSERT INTO owner VALUES (9); COMMIT",
    )
    .await?;
    assert_eq!(captured(&sql).await?, ["U 1 name", "U 2 name", "U 1 owner"]);
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "name").await?, ["1=b", "2=a"]);
    let refused = sql
        .batch_execute("BEGIN; UPDATE p SET name = 'same'; UPDATE p SET owner = 10; COMMIT")
        .await;
    assert!(refused.is_err(), "the constraint is checked at the commit");
    assert_eq!(captured(&sql).await?, Vec::<String>::new());
    assert_eq!(recorded(&sql, "name").await?, ["1=b", "2=a"]);
    Ok(())
}

#[tokio::test]
async fn a_cursor_a_data_changing_query_and_a_function() -> Result<()> {
    let (sql, _) = database("cursor", PLAIN).await?;
    map(&sql, "p", &["name"], json!({})).await?;
    sql.batch_execute(
        "INSERT INTO p SELECT g, 'n' FROM generate_series(1, 3) g;
         BEGIN; DECLARE c CURSOR FOR SELECT * FROM p ORDER BY id FOR UPDATE; FETCH 2 FROM c;
         UPDATE p SET name = 'cursor' WHERE CURRENT OF c; COMMIT;
         WITH gone AS (DELETE FROM p WHERE id = 3 RETURNING *) INSERT INTO p SELECT id + 10, name FROM gone;
         CREATE FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC UPDATE p SET name = 'atomic' WHERE id = 1; END;
         SELECT f();
         CREATE PROCEDURE q() LANGUAGE plpgsql AS $$ BEGIN
           FOR i IN 1..3 LOOP
             UPDATE p SET name = 'loop' || i WHERE id = 1;
             IF i = 2 THEN ROLLBACK; ELSE COMMIT; END IF;
           END LOOP; END $$",
    )
    .await?;
    sql.batch_execute("CALL q()").await?;
    assert_eq!(
        captured(&sql).await?[3..],
        ["U 2 name", "D 3", "I 13 name", "U 1 name", "U 1 name", "U 1 name"]
    );
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "name").await?, ["1=loop3", "13=n", "2=cursor"]);
    Ok(())
}

/// How a transaction ends before its commit.
const ENDS: [&str; 5] = ["rollback", "error", "savepoint", "killed", "two-phase"];

/// A transaction that ends without a commit leaves nothing, wherever it ends and however.
#[tokio::test]
async fn a_transaction_that_aborts_at_every_point() -> Result<()> {
    let (sql, url) = database("aborts", &format!("{PLAIN}; INSERT INTO p VALUES (1, 'a'), (2, 'b')")).await?;
    map(&sql, "p", &["name", "phone"], json!({})).await?;
    absorb(&sql).await?;
    let state = "SELECT to_jsonb(s)::text FROM hubspot.field_state s ORDER BY entity_key, field";
    let before = texts(&sql, state).await?;
    let steps = [
        "INSERT INTO p VALUES (3, 'c', '3')",
        "UPDATE p SET name = name || '!'",
        "SAVEPOINT inner_one; UPDATE p SET phone = '9'",
        "RELEASE inner_one; DELETE FROM p WHERE id = 1",
        "UPDATE p SET id = 20 WHERE id = 2",
        "TRUNCATE p",
        "INSERT INTO p VALUES (1, 'again')",
    ];
    for length in 1..=steps.len() {
        for end in ENDS {
            let session = connect(&url).await?;
            session.batch_execute("BEGIN; SAVEPOINT outer_one").await?;
            for step in &steps[..length] {
                session
                    .batch_execute(step)
                    .await
                    .with_context(|| format!("{step}, {length} steps, {end}"))?;
            }
            match end {
                "rollback" => session.batch_execute("ROLLBACK").await?,
                "savepoint" => session.batch_execute("ROLLBACK TO outer_one; COMMIT").await?,
                "two-phase" => {
                    session.batch_execute("PREPARE TRANSACTION 'aborts'").await?;
                    session.batch_execute("ROLLBACK PREPARED 'aborts'").await?;
                }
                "error" => {
                    let failed = session.batch_execute("SELECT 1 / 0").await;
                    assert!(failed.is_err());
                    session.batch_execute("COMMIT").await?;
                }
                _ => {
                    let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
                    sql.execute("SELECT pg_terminate_backend($1, 10000)", &[&pid]).await?;
                }
            }
            assert_eq!(captured(&sql).await?, Vec::<String>::new(), "{length} steps, {end}");
        }
    }
    absorb(&sql).await?;
    assert_eq!(texts(&sql, state).await?, before);
    sql.batch_execute("UPDATE p SET name = 'after' WHERE id = 1").await?;
    assert_eq!(captured(&sql).await?, ["U 1 name"], "capture goes on");
    Ok(())
}

/// Waits until the query answers with true, for 30 seconds at most; what is asserted next tells what is wrong.
async fn until(sql: &Client, query: &str) -> Result<()> {
    for _ in 0..300 {
        if sql.query_one(query, &[]).await?.get::<_, Option<bool>>(0) == Some(true) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Rows that a subscription applies: the apply worker runs as a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logical_subscriber() -> Result<()> {
    let settings = "wal_level = logical\nmax_wal_senders = 4\nmax_replication_slots = 4\n".to_owned();
    let cluster = Cluster::start_with(&Options {
        settings,
        ..Options::default()
    })?;
    let publisher = connect(&cluster.create_empty_database("publisher").await?).await?;
    publisher
        .batch_execute(&format!("{PLAIN}; CREATE PUBLICATION pub FOR TABLE p"))
        .await?;
    let name: String = publisher
        .query_one("SELECT current_database()::text", &[])
        .await?
        .get(0);
    let sql = connect(&cluster.create_database("subscriber").await?).await?;
    sql.batch_execute(PLAIN).await?;
    sql.batch_execute("SELECT hubspot.arm(1)").await?;
    map(&sql, "p", &["name"], json!({"capture_replicated": true})).await?;
    // In one cluster the slot is made beforehand: the subscription would wait for its own transaction.
    publisher
        .query_one(
            "SELECT pg_create_logical_replication_slot('sub', 'pgoutput')::text",
            &[],
        )
        .await?;
    sql.batch_execute(&format!(
        "CREATE SUBSCRIPTION sub CONNECTION '{}' PUBLICATION pub WITH (create_slot = false, slot_name = 'sub')",
        cluster.superuser_url(&name)
    ))
    .await?;
    // What is there already is copied in one piece; what follows is applied change by change.
    until(&sql, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel").await?;
    publisher
        .batch_execute(
            "INSERT INTO p VALUES (1, 'a'), (2, 'b'); UPDATE p SET name = 'A' WHERE id = 1; DELETE FROM p WHERE id = 2",
        )
        .await?;
    let expected = ["I 1 name", "I 2 name", "U 1 name", "D 2"];
    let all = format!(
        "SELECT count(*) >= {} FROM hubspot.outbox WHERE state = 'captured'",
        expected.len()
    );
    until(&sql, &all).await?;
    let seen = captured(&sql).await?;
    sql.batch_execute("ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE)")
        .await
        .context("detaching the subscription")?;
    sql.batch_execute("DROP SUBSCRIPTION sub").await?;
    assert_eq!(seen, expected, "{}", cluster.log_tail());
    Ok(())
}
