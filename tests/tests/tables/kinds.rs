//! Keys, partitions, children, triggers, roles and statements.

use super::{absorb, captured, database, map, recorded};
use anyhow::Result;
use hubspot_sync_tests::cluster::connect;
use serde_json::json;

const PLAIN: &str = "CREATE TABLE p (id int PRIMARY KEY, name text, phone text, other text)";

#[tokio::test]
async fn composite_uuid_text_and_timestamp_keys() -> Result<()> {
    let key = r#"["2026-01-02T03:04:05.000000Z","a,\"b","6b0d3c0e-0000-4000-8000-000000000001"]"#;
    let (sql, _) = database(
        "keys",
        "CREATE TABLE k (at timestamptz, code text, u uuid, name text, PRIMARY KEY (at, code, u));
         INSERT INTO k VALUES ('2026-01-02 03:04:05Z', 'a,\"b', '6b0d3c0e-0000-4000-8000-000000000001', 'x')",
    )
    .await?;
    map(&sql, "k", &["name"], json!({})).await?;
    assert_eq!(captured(&sql).await?, [format!("F {key} name")]);
    sql.batch_execute("SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'German'; UPDATE k SET name = 'y'")
        .await?;
    assert_eq!(
        captured(&sql).await?[1],
        format!("U {key} name"),
        "the first sync's key is capture's"
    );
    sql.batch_execute("UPDATE k SET code = 'z'").await?;
    assert!(captured(&sql).await?[2].starts_with("K "));
    absorb(&sql).await?;
    assert_eq!(
        recorded(&sql, "name").await?,
        [format!("{}=y", key.replace(r#"a,\"b"#, "z"))]
    );
    Ok(())
}

#[tokio::test]
async fn partitions_and_their_movements() -> Result<()> {
    let (sql, _) = database(
        "partitions",
        "CREATE TABLE t (id int, region text, name text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
         CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a');
         CREATE TABLE t_c (name text, dropped int, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region));
         ALTER TABLE t_c DROP COLUMN dropped",
    )
    .await?;
    map(&sql, "t", &["name"], json!({"key_columns": ["id"]})).await?;
    sql.batch_execute(
        "CREATE TABLE t_b PARTITION OF t FOR VALUES IN ('b');
         ALTER TABLE t ATTACH PARTITION t_c FOR VALUES IN ('c');
         INSERT INTO t VALUES (1, 'a', 'one'), (2, 'b', 'two'), (3, 'c', 'three');
         UPDATE t SET region = 'c' WHERE id = 1;
         UPDATE t SET region = 'b', name = 'uno' WHERE id = 1;
         UPDATE t_c SET name = 'drei'",
    )
    .await?;
    let seen = captured(&sql).await?;
    assert_eq!(seen, ["I 1 name", "I 2 name", "I 3 name", "U 1 name", "U 3 name"]);
    absorb(&sql).await?;
    sql.batch_execute("TRUNCATE t_b").await?;
    absorb(&sql).await?;
    assert_eq!(
        recorded(&sql, "name").await?,
        ["3=drei"],
        "a truncated partition's rows alone are deleted"
    );
    sql.batch_execute("ALTER TABLE t DETACH PARTITION t_c; UPDATE t_c SET name = 'detached'; TRUNCATE t_c")
        .await?;
    assert_eq!(captured(&sql).await?, Vec::<String>::new());
    let left = super::texts(
        &sql,
        "SELECT tgname::text FROM pg_trigger WHERE tgrelid = 't_c'::regclass AND tgname ~ '^!?hubspot'",
    )
    .await?;
    assert_eq!(left, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn inheritance_children() -> Result<()> {
    let (sql, _) = database(
        "children",
        "CREATE TABLE p (id int PRIMARY KEY, name text); CREATE TABLE c1 (extra int) INHERITS (p)",
    )
    .await?;
    map(&sql, "p", &["name"], json!({})).await?;
    sql.batch_execute(
        "CREATE TABLE c2 () INHERITS (p); INSERT INTO c1 VALUES (1, 'x', 0); INSERT INTO c2 VALUES (2, 'y'); UPDATE p SET name = name || '!'",
    )
    .await?;
    assert_eq!(captured(&sql).await?, ["I 1 name", "I 2 name", "U 1 name", "U 2 name"]);
    sql.batch_execute("ALTER TABLE c2 NO INHERIT p; UPDATE c2 SET name = 'z'")
        .await?;
    assert_eq!(captured(&sql).await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn statements_of_every_kind() -> Result<()> {
    let (sql, _) = database("statements", PLAIN).await?;
    map(&sql, "p", &["name", "phone"], json!({})).await?;
    for (statement, expected) in [
        (
            "INSERT INTO p SELECT g, 'n', NULL FROM generate_series(1, 2) g",
            vec!["I 1 name", "I 2 name"],
        ),
        ("UPDATE p SET other = 'unmapped'", vec![]),
        ("UPDATE p SET name = 'n'", vec![]),
        (
            "UPDATE p SET phone = '1' FROM generate_series(2, 2) g WHERE id = g",
            vec!["U 2 phone"],
        ),
        (
            "INSERT INTO p VALUES (2, 'c') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            vec!["U 2 name"],
        ),
        ("INSERT INTO p VALUES (2, 'd') ON CONFLICT DO NOTHING", vec![]),
        (
            "MERGE INTO p USING (VALUES (2, 'm'), (3, 'm')) v (i, n) ON p.id = v.i
             WHEN MATCHED THEN UPDATE SET name = n WHEN NOT MATCHED THEN INSERT (id, name) VALUES (i, n)",
            vec!["U 2 name", "I 3 name"],
        ),
        (
            "WITH d AS (DELETE FROM p WHERE id = 3 RETURNING name) UPDATE p SET name = d.name FROM d WHERE id = 1",
            vec!["D 3", "U 1 name"],
        ),
        (
            "BEGIN; SAVEPOINT s; UPDATE p SET name = 'gone'; ROLLBACK TO s; UPDATE p SET phone = '2' WHERE id = 1; COMMIT",
            vec!["U 1 phone"],
        ),
        (
            "DO $$ BEGIN BEGIN UPDATE p SET name = 'gone'; RAISE EXCEPTION 'x'; EXCEPTION WHEN OTHERS THEN UPDATE p SET name = 'kept' WHERE id = 1; END; END $$",
            vec!["U 1 name"],
        ),
        (
            "BEGIN; UPDATE p SET name = 'two-phase' WHERE id = 1; PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'",
            vec!["U 1 name"],
        ),
        (
            "BEGIN; UPDATE p SET name = 'rolled back'; PREPARE TRANSACTION 'y'; ROLLBACK PREPARED 'y'",
            vec![],
        ),
        (
            "PREPARE u (text) AS UPDATE p SET phone = $1 WHERE id = 1; EXECUTE u('7')",
            vec!["U 1 phone"],
        ),
        (
            "SET session_replication_role = replica; UPDATE p SET name = 'unseen'; RESET session_replication_role",
            vec![],
        ),
        ("TRUNCATE p RESTART IDENTITY CASCADE", vec!["T *"]),
    ] {
        sql.batch_execute("DISCARD PLANS").await?;
        for part in statement.split("; ").filter(|_| !statement.starts_with("DO")) {
            sql.batch_execute(part).await?;
        }
        if statement.starts_with("DO") {
            sql.batch_execute(statement).await?;
        }
        assert_eq!(captured(&sql).await?, expected, "{statement}");
        absorb(&sql).await?;
    }
    Ok(())
}

#[tokio::test]
async fn user_triggers_before_and_after_ours() -> Result<()> {
    let (sql, _) = database("triggers", PLAIN).await?;
    map(&sql, "p", &["name", "phone"], json!({})).await?;
    sql.batch_execute(
        "CREATE FUNCTION b() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.phone := upper(new.other); RETURN new; END $$;
         CREATE TRIGGER b BEFORE INSERT OR UPDATE ON p FOR EACH ROW EXECUTE FUNCTION b();
         CREATE FUNCTION a() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF new.name = 'again' THEN UPDATE p SET name = 'done' WHERE id = new.id; END IF; RETURN NULL; END $$;
         CREATE TRIGGER a AFTER UPDATE ON p FOR EACH ROW EXECUTE FUNCTION a();
         CREATE VIEW v AS SELECT * FROM p;
         CREATE FUNCTION i() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO p VALUES (new.id, new.name); RETURN new; END $$;
         CREATE TRIGGER i INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION i();
         INSERT INTO p VALUES (1, 'n', NULL, 'x');
         UPDATE p SET other = 'y';
         INSERT INTO v VALUES (2, 'view')",
    )
    .await?;
    assert_eq!(captured(&sql).await?, ["I 1 name,phone", "U 1 phone", "I 2 name"]);
    // Triggers fire in the order of their names: ours comes first, whatever the user's is called.
    sql.batch_execute("UPDATE p SET name = 'again' WHERE id = 1").await?;
    absorb(&sql).await?;
    let row = super::texts(&sql, "SELECT id || '=' || name FROM p ORDER BY id").await?;
    assert_eq!(
        recorded(&sql, "name").await?,
        row,
        "the last state of the row is recorded last"
    );
    Ok(())
}

#[tokio::test]
async fn a_row_that_comes_back_under_its_key() -> Result<()> {
    let (sql, _) = database("comes_back", PLAIN).await?;
    map(&sql, "p", &["name", "phone"], json!({})).await?;
    sql.batch_execute("INSERT INTO p VALUES (1, 'n', '1')").await?;
    absorb(&sql).await?;
    sql.batch_execute("DELETE FROM p; INSERT INTO p VALUES (1, 'm')")
        .await?;
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "phone").await?, ["1="]);
    Ok(())
}

#[tokio::test]
async fn hostile_names_row_security_and_column_shapes() -> Result<()> {
    let (sql, url) = database(
        "hostile",
        r#"CREATE SCHEMA "S.%s"; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN d AS text;
           CREATE ROLE hostile_app LOGIN; GRANT USAGE ON SCHEMA "S.%s" TO hostile_app;
           CREATE TABLE "S.%s"."tä'b""l%I.e" ("I""d" int PRIMARY KEY, gone int, "n%s.ä'" d, m mood, tags text[], big text,
             gen int GENERATED ALWAYS AS (1) STORED);
           ALTER TABLE "S.%s"."tä'b""l%I.e" DROP COLUMN gone;
           INSERT INTO "S.%s"."tä'b""l%I.e" VALUES (1, 'x', 'sad', '{a}', repeat('z', 30000));
           ALTER TABLE "S.%s"."tä'b""l%I.e" ADD late text DEFAULT 'fast';
           ALTER TABLE "S.%s"."tä'b""l%I.e" ENABLE ROW LEVEL SECURITY;
           CREATE POLICY p ON "S.%s"."tä'b""l%I.e" USING ("I""d" = 1);
           GRANT ALL ON "S.%s"."tä'b""l%I.e" TO hostile_app"#,
    )
    .await?;
    let table = r#""S.%s"."tä'b""l%I.e""#;
    let mut mapping = super::document(&["m", "tags", "big", "late", "gen"]);
    mapping["n"] = json!({"hubspot_property": "n", "warp_field": "n%s.ä'", "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS"});
    sql.query_one(
        "SELECT hubspot.import_mapping('t', $1::text::regclass, 'companies', $2)",
        &[&table, &mapping],
    )
    .await?;
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "late").await?, ["1=fast"]);
    let app = connect(&url.replace("postgres@", "hostile_app@")).await?;
    app.batch_execute(&format!(
        "UPDATE {table} SET m = 'ok', tags = '{{b,a}}', \"n%s.ä'\" = 'y'"
    ))
    .await?;
    assert_eq!(
        captured(&sql).await?,
        ["U 1 m,n,tags"],
        "neither the toasted nor the defaulted value counts as changed"
    );
    absorb(&sql).await?;
    assert_eq!(recorded(&sql, "n").await?, ["1=y"]);
    Ok(())
}
