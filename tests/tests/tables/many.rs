//! Statements that change many rows: their captured rows wait in memory and are written together. None may be lost, doubled
//! or put out of order, whatever runs in between.

use super::{absorb, captured, database, map, recorded, texts};
use anyhow::Result;
use serde_json::json;
use tokio_postgres::Client;

const PLAIN: &str = "CREATE TABLE p (id int PRIMARY KEY, name text, phone text, other text)";

/// Rows with their names, as [`recorded`] gives them.
async fn rows(sql: &Client) -> Result<Vec<String>> {
    texts(
        sql,
        "SELECT id || '=' || coalesce(name, '') FROM p ORDER BY id::text COLLATE \"C\"",
    )
    .await
}

async fn recorded_names(sql: &Client) -> Result<Vec<String>> {
    let mut names = recorded(sql, "name").await?;
    names.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
    Ok(names)
}

async fn count(sql: &Client, what: &str) -> Result<i64> {
    Ok(sql.query_one(&format!("SELECT count(*) {what}"), &[]).await?.get(0))
}

#[tokio::test]
async fn one_statement_over_many_rows_is_captured_when_it_has_ended() -> Result<()> {
    let (sql, _) = database("many", PLAIN).await?;
    map(&sql, "p", &["name", "phone"], json!({})).await?;
    // Rows of every size: several a page, one a page, and some that are stored elsewhere.
    sql.batch_execute(
        "BEGIN;
         INSERT INTO p SELECT g, repeat(md5(g::text), CASE g % 50 WHEN 0 THEN 400 WHEN 1 THEN 60 ELSE 1 END), NULL FROM generate_series(1, 1000) g",
    )
    .await?;
    assert_eq!(
        count(&sql, "FROM hubspot.capture").await?,
        1000,
        "in the same transaction"
    );
    sql.batch_execute("UPDATE p SET name = name || '!', phone = id::text WHERE id > 1")
        .await?;
    assert_eq!(count(&sql, "FROM hubspot.capture").await?, 1999);
    sql.batch_execute("DELETE FROM p WHERE id > 900; COMMIT").await?;
    assert_eq!(count(&sql, "FROM hubspot.capture").await?, 2099);
    let twice = count(
        &sql,
        "FROM (SELECT op, entity_key FROM hubspot.capture GROUP BY 1, 2 HAVING count(*) > 1) x",
    )
    .await?;
    assert_eq!(twice, 0);
    // Of two changes of one record the later one is never in an earlier block, and in one block behind.
    let inverted = count(
        &sql,
        "FROM hubspot.capture a JOIN hubspot.capture b USING (entity_key)
         WHERE a.op = 'I' AND b.op = 'U' AND (((a.ctid::text::point)[0], a.position) >= ((b.ctid::text::point)[0], b.position))",
    )
    .await?;
    assert_eq!(inverted, 0);
    let wrong = count(
        &sql,
        "FROM hubspot.capture c JOIN p ON p.id::text = c.entity_key
         WHERE c.op = 'U' AND (c.changes->'name'->>1 IS DISTINCT FROM p.name OR c.changes->'phone'->>1 IS DISTINCT FROM p.phone)",
    )
    .await?;
    assert_eq!(wrong, 0);
    absorb(&sql).await?;
    assert_eq!(recorded_names(&sql).await?, rows(&sql).await?);
    Ok(())
}

#[tokio::test]
async fn statements_inside_a_statement_keep_their_order() -> Result<()> {
    let (sql, _) = database(
        "many_nested",
        &format!("{PLAIN}; INSERT INTO p SELECT g, 'n', '0' FROM generate_series(1, 400) g"),
    )
    .await?;
    map(&sql, "p", &["name", "phone"], json!({})).await?;
    absorb(&sql).await?;
    // While the outer statement's rows wait: others are changed, again, in a subtransaction that succeeds and in one that
    // does not, by one row and by many.
    sql.batch_execute(
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF pg_trigger_depth() > 1 THEN RETURN NULL; END IF;
           IF new.id % 7 = 0 THEN UPDATE p SET name = 'seven ' || new.id WHERE id IN (new.id, new.id - 1); END IF;
           IF new.id % 11 = 0 THEN
             BEGIN UPDATE p SET name = 'lost', phone = 'lost'; RAISE EXCEPTION 'x'; EXCEPTION WHEN OTHERS THEN NULL; END;
           END IF;
           IF new.id % 13 = 0 THEN
             BEGIN UPDATE p SET name = 'thirteen ' || new.id WHERE id <= new.id; EXCEPTION WHEN division_by_zero THEN NULL; END;
           END IF;
           IF new.id % 17 = 0 THEN
             BEGIN
               UPDATE p SET phone = 'kept' WHERE id = new.id;
               BEGIN UPDATE p SET phone = 'gone'; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END;
               UPDATE p SET phone = phone || '!' WHERE id BETWEEN new.id AND new.id + 2;
             END;
           END IF;
           RETURN NULL; END $$;
         CREATE TRIGGER z AFTER UPDATE ON p FOR EACH ROW EXECUTE FUNCTION again();
         UPDATE p SET name = 'outer ' || id",
    )
    .await?;
    assert_eq!(
        count(&sql, "FROM hubspot.capture WHERE changes::text ~ 'lost|gone'").await?,
        0
    );
    let broken = count(
        &sql,
        "FROM (SELECT c.changes->'name'->>0 AS old, lag(c.changes->'name'->>1) OVER (PARTITION BY entity_key
                 ORDER BY (c.ctid::text::point)[0], c.position, c.ctid) AS before FROM hubspot.capture c WHERE c.changes->'name' IS NOT NULL) x
         WHERE before IS NOT NULL AND old IS DISTINCT FROM before",
    )
    .await?;
    assert_eq!(broken, 0, "each change begins with what the one before it ended with");
    absorb(&sql).await?;
    assert_eq!(recorded_names(&sql).await?, rows(&sql).await?);
    let phones = texts(&sql, "SELECT id || '=' || phone FROM p ORDER BY id::text COLLATE \"C\"").await?;
    let mut seen = recorded(&sql, "phone").await?;
    seen.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
    assert_eq!(seen, phones);
    Ok(())
}

#[tokio::test]
async fn what_fails_half_way_leaves_nothing() -> Result<()> {
    let (sql, _) = database(
        "many_failed",
        &format!("{PLAIN}; INSERT INTO p SELECT g, 'n', '0' FROM generate_series(1, 500) g"),
    )
    .await?;
    map(&sql, "p", &["name"], json!({})).await?;
    absorb(&sql).await?;
    sql.batch_execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF new.id = 333 AND new.phone = '1' THEN RAISE EXCEPTION 'refused'; END IF; RETURN NULL; END $$;
         CREATE TRIGGER z AFTER UPDATE ON p FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await?;
    assert!(sql.batch_execute("UPDATE p SET name = 'a', phone = '1'").await.is_err());
    assert_eq!(captured(&sql).await?, Vec::<String>::new());
    sql.batch_execute("BEGIN; UPDATE p SET name = 'b' WHERE id <= 200; SAVEPOINT s")
        .await?;
    assert!(sql.batch_execute("UPDATE p SET name = 'c', phone = '1'").await.is_err());
    sql.batch_execute("ROLLBACK TO s; UPDATE p SET name = 'd' WHERE id > 300; RELEASE s; COMMIT")
        .await?;
    assert_eq!(count(&sql, "FROM hubspot.capture").await?, 400);
    absorb(&sql).await?;
    assert_eq!(recorded_names(&sql).await?, rows(&sql).await?);
    // Prepared: written before the session lets go of it.
    sql.batch_execute("BEGIN; UPDATE p SET name = 'e'; PREPARE TRANSACTION 'many'")
        .await?;
    assert_eq!(captured(&sql).await?, Vec::<String>::new());
    sql.batch_execute("COMMIT PREPARED 'many'").await?;
    assert_eq!(count(&sql, "FROM hubspot.capture").await?, 500);
    Ok(())
}

#[tokio::test]
async fn a_table_with_an_index_of_somebodys_is_still_captured_into() -> Result<()> {
    let (sql, _) = database(
        "many_indexed",
        &format!("{PLAIN}; CREATE INDEX ON hubspot.capture (mapping_id)"),
    )
    .await?;
    map(&sql, "p", &["name"], json!({})).await?;
    sql.batch_execute(
        "INSERT INTO p SELECT g, 'n' || g FROM generate_series(1, 300) g; UPDATE p SET name = name || '!'",
    )
    .await?;
    assert_eq!(count(&sql, "FROM hubspot.capture").await?, 600);
    absorb(&sql).await?;
    assert_eq!(recorded_names(&sql).await?, rows(&sql).await?);
    Ok(())
}
