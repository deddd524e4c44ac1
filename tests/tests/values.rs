//! Every pair of PostgreSQL type and HubSpot property type: what the row holds, what HubSpot holds, and that both stay so.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::simulator::{Op, PropertyDef};
use hubspot_sync_tests::world::World;
use serde_json::{Value as Json, json};

/// Column, its type, and the type of the HubSpot property of the same name; `checkbox` is the multi-select.
const COLUMNS: [(&str, &str, &str); 35] = [
    ("other", "text", "string"),
    ("c_text", "text", "string"),
    ("c_varchar", "varchar(5)", "string"),
    ("c_char", "char(5)", "string"),
    ("c_citext", "citext", "string"),
    ("c_uuid", "uuid", "string"),
    ("c_mood", "mood", "string"),
    ("c_label", "label", "string"),
    ("c_phone", "text", "phone_number"),
    ("c_varchar_phone", "varchar(20)", "phone_number"),
    ("c_smallint", "smallint", "number"),
    ("c_integer", "integer", "number"),
    ("c_bigint", "bigint", "number"),
    ("c_numeric", "numeric", "number"),
    ("c_money", "numeric(12,2)", "number"),
    ("c_real", "real", "number"),
    ("c_double", "double precision", "number"),
    ("c_positive", "positive", "number"),
    ("c_decimal_text", "numeric", "string"),
    ("c_text_number", "text", "number"),
    ("c_boolean", "boolean", "bool"),
    ("c_flag", "boolean", "enumeration"),
    ("c_boolean_text", "boolean", "string"),
    ("c_date", "date", "date"),
    ("c_date_text", "date", "string"),
    ("c_timestamptz", "timestamptz", "datetime"),
    ("c_timestamp", "timestamp", "datetime"),
    ("c_instant_text", "timestamptz", "string"),
    ("c_choice", "text", "enumeration"),
    ("c_mood_choice", "mood", "enumeration"),
    ("c_set", "text[]", "checkbox"),
    ("c_varchar_set", "varchar(3)[]", "checkbox"),
    ("c_citext_set", "citext[]", "checkbox"),
    ("c_web", "text", "domain"),
    ("c_doc", "jsonb", "string"),
];

const CHOICES: [&str; 6] = ["glad", "sad", "c", "b", "a", "two words"];

/// The property a column is mapped to.
fn property(column: &str) -> &str {
    if column == "c_web" { "domain" } else { column }
}

/// One row with a column per type, linked to a company.
struct Table {
    world: World,
    key: String,
    id: String,
    citext: bool,
}

/// A world whose table has a column per type, without a relay.
async fn unlinked(name: &str) -> Result<(World, bool)> {
    let world = World::without_relay(&format!("v_{name}"), |_| ()).await?;
    world.sim.set_behaviour(|b| b.require_company_name = false);
    let citext = world
        .count("FROM pg_available_extensions WHERE name = 'citext'")
        .await?
        == 1;
    if citext {
        world.sql.batch_execute("CREATE EXTENSION citext").await?;
    }
    world
        .sql
        .batch_execute(
            "SET timezone = 'UTC';
             CREATE TYPE mood AS ENUM ('sad', 'glad');
             CREATE DOMAIN label AS varchar(10) CHECK (VALUE <> 'forbidden');
             CREATE DOMAIN positive AS integer CHECK (VALUE > 0);",
        )
        .await?;
    let mut columns = String::new();
    let mut mapping = json!({"code": {"hubspot_property": "code", "warp_field": "code",
        "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"}});
    define(&world, PropertyDef::new("code", "string").unique())?;
    for (column, pg_type, kind) in COLUMNS {
        if pg_type.starts_with("citext") && !citext {
            continue;
        }
        columns.push_str(&format!(", {column} {pg_type}"));
        mapping[column] = json!({"hubspot_property": property(column), "warp_field": column,
            "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS"});
        if pg_type == "jsonb" {
            mapping[column]["warp_field_path"] = json!(format!("{column}#>>'{{a,b}}'"));
        }
        match kind {
            "domain" => {}
            "checkbox" => define(
                &world,
                PropertyDef::new(column, "enumeration")
                    .field_type("checkbox")
                    .options(&CHOICES),
            )?,
            "enumeration" if pg_type == "boolean" => define(
                &world,
                PropertyDef::new(column, kind)
                    .field_type("booleancheckbox")
                    .options(&["true", "false"]),
            )?,
            "enumeration" => define(&world, PropertyDef::new(column, kind).options(&CHOICES))?,
            _ => define(&world, PropertyDef::new(column, kind))?,
        }
    }
    world
        .sql
        .batch_execute(&format!(
            "CREATE TABLE things (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text UNIQUE{columns})"
        ))
        .await?;
    import(&world, &mapping).await?;
    Ok((world, citext))
}

fn define(world: &World, definition: PropertyDef) -> Result<()> {
    world
        .sim
        .define_property("companies", definition)
        .map_err(|e| anyhow::anyhow!("{e:?}"))
}

async fn import(world: &World, mapping: &Json) -> Result<()> {
    world
        .sql
        .query_one(
            "SELECT hubspot.import_mapping('thing', 'things', 'companies', $1)",
            &[mapping],
        )
        .await
        .context("import_mapping")?;
    Ok(())
}

impl Table {
    async fn start(name: &str) -> Result<Table> {
        let (world, citext) = unlinked(name).await?;
        Table::link(world, citext).await
    }

    /// Starts the relay and waits until the one row is linked.
    async fn link(world: World, citext: bool) -> Result<Table> {
        Table::link_with(world, citext, "").await
    }

    /// The same with more settings of the relay.
    async fn link_with(mut world: World, citext: bool, more: &str) -> Result<Table> {
        world.start_relay(more).await?;
        let key: String = world
            .sql
            .query_one("INSERT INTO things (code) VALUES ('T-1') RETURNING id::text", &[])
            .await?
            .get(0);
        world.settle().await?;
        let id = world.hubspot_id(&key).await?.context("the row was not linked")?;
        Ok(Table { world, key, id, citext })
    }

    async fn set(&self, column: &str, expression: &str) -> Result<()> {
        let sql = format!("UPDATE things SET {column} = {expression} WHERE id = {}", self.key);
        self.world.sql.batch_execute(&sql).await.with_context(|| sql.clone())
    }

    async fn row(&self, column: &str) -> Result<Option<String>> {
        self.world
            .text(&format!("SELECT {column}::text FROM things WHERE id = {}", self.key))
            .await
    }

    fn hubspot(&self, column: &str) -> Option<String> {
        self.world.hubspot(&self.id, property(column))
    }

    fn person_sets(&self, column: &str, value: &str) -> Result<()> {
        self.world
            .person_sets(&self.id, property(column), value)
            .with_context(|| format!("{column} = {value}"))
    }

    async fn state(&self, column: &str, what: &str) -> Result<Option<String>> {
        self.world.state(&self.key, column, what).await
    }

    /// Writes HubSpot was asked for.
    fn writes(&self) -> usize {
        [
            Op::Create,
            Op::Update,
            Op::BatchCreate,
            Op::BatchUpdate,
            Op::BatchUpsert,
        ]
        .into_iter()
        .map(|op| self.world.sim.count(op))
        .sum()
    }

    /// Edits of the application that are on record for a column.
    async fn edits(&self, column: &str) -> Result<usize> {
        Ok(self.world.outcomes(&self.key, column).await?.len())
    }

    /// Failures of a column that wait for a person: direction and kind.
    async fn failures(&self, column: &str) -> Result<Vec<String>> {
        let rows = self
            .world
            .sql
            .query(
                "SELECT direction || ' ' || kind FROM hubspot.failed_syncs
                 WHERE entity_key = $1 AND field = $2 AND status = 'open' ORDER BY id",
                &[&self.key, &column],
            )
            .await?;
        Ok(rows.iter().map(|r| r.get(0)).collect())
    }

    /// Both sides agree, nobody was asked for anything, and nothing more is sent.
    async fn calm(&self, column: &str, case: &str) -> Result<()> {
        let writes = self.writes();
        self.world.settle().await?;
        assert_eq!(self.writes(), writes, "{case}: something more was sent");
        assert_eq!(
            self.state(column, "status").await?.as_deref(),
            Some("in_sync"),
            "{case}\n{}",
            self.world.picture().await?
        );
        assert_eq!(
            self.state(column, "hubspot_value").await?,
            self.hubspot(column),
            "{case}: field_state.hubspot_value"
        );
        assert_eq!(
            self.state(column, "base_value").await?,
            self.state(column, "warp_value").await?,
            "{case}: field_state.base_value"
        );
        assert_eq!(
            self.world.count("FROM hubspot.conflicts").await?,
            0,
            "{case}: conflicts"
        );
        assert_eq!(self.failures(column).await?, [""; 0], "{case}: failed_syncs");
        Ok(())
    }

    /// The row is given `expression`; HubSpot must then hold `sent`.
    async fn out(&self, column: &str, expression: &str, sent: Option<&str>) -> Result<()> {
        let case = format!("{column} = {expression}");
        let (before, writes) = (self.hubspot(column), self.writes());
        self.set(column, expression).await?;
        let kept = self.row(column).await?;
        self.world.settle().await?;
        assert_eq!(
            self.hubspot(column).as_deref(),
            sent,
            "{case}: HubSpot\n{}",
            self.world.picture().await?
        );
        assert_eq!(
            self.writes() - writes,
            usize::from(before.as_deref() != sent),
            "{case}: writes"
        );
        assert_eq!(self.row(column).await?, kept, "{case}: the row was rewritten");
        self.calm(column, &case).await
    }

    /// A person sets `there`; the row must then hold `here`, and HubSpot what the person set, or `back` when the row's
    /// type cannot hold it exactly.
    async fn come(&self, column: &str, there: &str, here: Option<&str>, back: Option<&str>) -> Result<()> {
        let case = format!("HubSpot's {column} = {there:?}");
        let writes = self.writes();
        self.person_sets(column, there)?;
        self.world.settle().await?;
        assert_eq!(
            self.row(column).await?.as_deref(),
            here,
            "{case}: the row\n{}",
            self.world.picture().await?
        );
        let history = self.world.sim.history("companies", &self.id, property(column));
        let theirs = history
            .iter()
            .find(|v| v.source_type == "CRM_UI")
            .context("the person's version")?;
        let expected = back.map_or_else(|| theirs.value.clone(), str::to_owned);
        assert_eq!(self.hubspot(column).unwrap_or_default(), expected, "{case}: HubSpot");
        let sent_back = usize::from(back.is_some());
        assert_eq!(self.writes() - writes, sent_back, "{case}: writes");
        self.calm(column, &case).await
    }

    /// HubSpot's value cannot be brought into the row: the field fails, and a field that came with it goes on.
    async fn cannot_come(&self, column: &str, there: &str, kind: &str) -> Result<()> {
        let case = format!("HubSpot's {column} = {there:?}");
        let (kept, writes) = (self.row(column).await?, self.writes());
        let witness = format!("with {column} {there}").replace('\0', "");
        self.world
            .sim
            .ui_set_many(
                "companies",
                &self.id,
                &[(property(column), there), ("other", witness.as_str())],
            )
            .map_err(|e| anyhow::anyhow!("{case}: {e:?}"))?;
        self.world.settle().await?;
        assert_eq!(
            self.row("other").await?.as_deref(),
            Some(witness.as_str()),
            "{case}: the other field\n{}",
            self.world.picture().await?
        );
        assert_eq!(
            (self.row(column).await?, self.hubspot(column)),
            (kept, Some(there.to_owned())),
            "{case}: the row and HubSpot"
        );
        assert_eq!(self.failures(column).await?, [format!("inbound {kind}")], "{case}");
        assert_eq!(self.writes(), writes, "{case}: writes");
        Ok(())
    }

    /// The row's value cannot be brought to HubSpot: the field fails, and a field edited with it goes on.
    async fn cannot_go(&self, column: &str, expression: &str) -> Result<()> {
        let case = format!("{column} = {expression}");
        let kept = self.hubspot(column);
        let witness = format!("with {column} {}", self.writes());
        let sql = format!(
            "UPDATE things SET {column} = {expression}, other = '{witness}' WHERE id = {}",
            self.key
        );
        self.world.sql.batch_execute(&sql).await?;
        let row = self.row(column).await?;
        self.world.settle().await?;
        assert_eq!(
            self.hubspot("other").as_deref(),
            Some(witness.as_str()),
            "{case}: the other field\n{}",
            self.world.picture().await?
        );
        assert_eq!(self.hubspot(column), kept, "{case}: HubSpot");
        assert_eq!(self.row(column).await?, row, "{case}: the row");
        assert_eq!(self.failures(column).await?, ["outbound invalid"], "{case}");
        assert_eq!(self.state(column, "status").await?.as_deref(), Some("failed"), "{case}");
        Ok(())
    }
}

/// One pair: values of the row with what HubSpot must hold, and values of HubSpot with what the row must hold and, where
/// the row's type keeps another value, what HubSpot gets back. Then each side clears it.
async fn pair(column: &str, outs: &[(&str, &str)], ins: &[(&str, &str, Option<&str>)]) -> Result<()> {
    let table = Table::start(column).await?;
    if column.starts_with("c_citext") && !table.citext {
        eprintln!("the extension citext is not available: nothing to test");
        return Ok(());
    }
    check_pair(&table, column, outs, ins).await
}

async fn check_pair(
    table: &Table,
    column: &str,
    outs: &[(&str, &str)],
    ins: &[(&str, &str, Option<&str>)],
) -> Result<()> {
    for (expression, sent) in outs {
        table.out(column, expression, Some(sent)).await?;
    }
    for (there, here, back) in ins {
        table.come(column, there, Some(here), *back).await?;
    }
    table.out(column, "NULL", None).await?;
    table.out(column, outs[0].0, Some(outs[0].1)).await?;
    table.come(column, "", None, None).await
}

/// A test per pair.
macro_rules! pairs {
    ($($name:ident: $column:literal, out $outs:tt, come $ins:tt;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            pair($column, &$outs, &$ins).await
        }
    )*};
}

pairs! {
    text_and_string: "c_text",
        out [("'plain'", "plain"), ("' blanks '", " blanks "), ("'Zürich 🦀;\"\\'", "Zürich 🦀;\"\\"), ("E'two\\nlines\\t'", "two\nlines\t"), ("'0012.50'", "0012.50")],
        come [("there", "there", None), ("  ", "  ", None), ("It's {\"a\",NULL} \\ $1 ü", "It's {\"a\",NULL} \\ $1 ü", None), ("NULL", "NULL", None), ("1e2", "1e2", None)];
    varchar_and_string: "c_varchar",
        out [("'abcde'", "abcde"), ("'ä€🦀'", "ä€🦀")],
        come [("vwxyz", "vwxyz", None), ("🦀🦀🦀🦀🦀", "🦀🦀🦀🦀🦀", None)];
    char_and_string: "c_char",
        out [("'abcde'", "abcde"), ("'zyxwv'", "zyxwv")],
        come [("vwxyz", "vwxyz", None), ("ABCDE", "ABCDE", None)];
    citext_and_string: "c_citext",
        out [("'Acme'", "Acme"), ("'ACME'", "ACME")],
        come [("acme", "acme", None), ("AcMe", "AcMe", None)];
    uuid_and_string: "c_uuid",
        out [("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")],
        come [("b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", None),
              ("{C0EEBC999C0B4EF8BB6D6BB9BD380A11}", "c0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", Some("c0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"))];
    enum_and_string: "c_mood", out [("'glad'", "glad"), ("'sad'", "sad")], come [("glad", "glad", None)];
    domain_and_string: "c_label", out [("'one'", "one")], come [("two", "two", None)];
    text_and_phone_number: "c_phone",
        out [("'+41 44 123 45 67'", "+41 44 123 45 67")],
        come [("(030) 123-45", "(030) 123-45", None), ("0012", "0012", None)];
    varchar_and_phone_number: "c_varchar_phone", out [("'+1'", "+1")], come [("+1 ext. 2", "+1 ext. 2", None)];
    smallint_and_number: "c_smallint",
        out [("32767", "32767"), ("-32768", "-32768"), ("0", "0")],
        come [("12", "12", None), ("-7.0", "-7", None), ("0007", "7", None)];
    integer_and_number: "c_integer",
        out [("2147483647", "2147483647"), ("-2147483648", "-2147483648")],
        come [("1000000.00", "1000000", None), ("-0", "0", None)];
    bigint_and_number: "c_bigint",
        out [("9007199254740993", "9007199254740993"), ("9223372036854775807", "9223372036854775807")],
        come [("-9007199254740993", "-9007199254740993", None), ("9007199254740993.000", "9007199254740993", None)];
    numeric_and_number: "c_numeric",
        out [("12345678901234567890.123456789", "12345678901234567890.123456789"), ("100.00", "100"), ("1e-10", "0.0000000001"), ("-0.50", "-0.5"), ("0.00", "0")],
        come [("98765432109876543210.987654321", "98765432109876543210.987654321", None), ("7.", "7", None), (".5", "0.5", None), ("100", "100", None)];
    numeric_with_scale_and_number: "c_money",
        out [("100", "100"), ("0.1", "0.1"), ("9999999999.99", "9999999999.99"), ("-1.005", "-1.01")],
        come [("100", "100.00", None), ("5.00", "5.00", None), ("10.005", "10.01", Some("10.01")), ("0.001", "0.00", Some("0"))];
    real_and_number: "c_real",
        out [("0.1", "0.1"), ("1e20", "100000000000000000000"), ("1.5e-7", "0.00000015"), ("-2.5", "-2.5"), ("'-0'", "0")],
        come [("0.25", "0.25", None), ("3.14159265358979", "3.1415927", Some("3.1415927")), ("1000000", "1e+06", None)];
    double_and_number: "c_double",
        out [("0.1", "0.1"), ("0.1::float8 + 0.2", "0.30000000000000004"), ("1e300 / 1e280", "100000000000000000000")],
        come [("0.1", "0.1", None), ("9007199254740993", "9.007199254740992e+15", Some("9007199254740992")), ("1000000000000000000000", "1e+21", None)];
    domain_and_number: "c_positive", out [("3", "3")], come [("4.0", "4", None)];
    numeric_and_string: "c_decimal_text",
        out [("1.50", "1.5")],
        come [("1.5e3", "1500", None), ("+2.50E-2", "0.025", None), ("1.2345678901234567890123E+22", "12345678901234567890123", None), (" 7 ", "7", None)];
    text_and_number: "c_text_number", out [("'1.50'", "1.50")], come [("2.0", "2.0", None)];
    boolean_and_bool: "c_boolean", out [("true", "true"), ("false", "false")], come [("true", "true", None), ("false", "false", None)];
    boolean_and_enumeration: "c_flag", out [("'on'", "true"), ("'no'", "false")], come [("true", "true", None), ("false", "false", None)];
    boolean_and_string: "c_boolean_text", out [("true", "true")], come [("False", "false", None), ("TRUE", "true", None)];
    date_and_date: "c_date",
        out [("date '2026-02-28'", "2026-02-28"), ("date '0001-01-01'", "0001-01-01"), ("date '9999-12-31'", "9999-12-31")],
        come [("2024-02-29", "2024-02-29", None), ("1772236800000", "2026-02-28", None), ("-86400000", "1969-12-31", None)];
    date_and_string: "c_date_text",
        out [("date '2026-02-28'", "2026-02-28")],
        come [("1772150400000", "2026-02-27", None), ("2026-03-01T00:00:00.000Z", "2026-03-01", None)];
    timestamptz_and_datetime: "c_timestamptz",
        out [("'2026-01-05 11:00:00.123999+01'", "2026-01-05T10:00:00.123Z"), ("'2026-01-05 10:00:00.123001Z'", "2026-01-05T10:00:00.123Z"), ("'1969-12-31 23:59:59.999999Z'", "1969-12-31T23:59:59.999Z"), ("'2026-07-01 00:00Z'", "2026-07-01T00:00:00.000Z")],
        come [("2026-02-28T03:30:17.001Z", "2026-02-28 03:30:17.001+00", None), ("1772249417000", "2026-02-28 03:30:17+00", None)];
    timestamp_and_datetime: "c_timestamp",
        out [("'2026-01-05 10:00:00.123456'", "2026-01-05T10:00:00.123Z")],
        come [("2026-02-28T03:30:17.120Z", "2026-02-28 03:30:17.12", None)];
    timestamptz_and_string: "c_instant_text",
        out [("'2026-01-05 10:00Z'", "2026-01-05T10:00:00.000Z")],
        come [("1772249417000", "2026-02-28 03:30:17+00", None), ("2026-02-28T16:30:17+13:00", "2026-02-28 03:30:17+00", None), ("2026-02-28T03:30:18Z", "2026-02-28 03:30:18+00", None)];
    text_and_enumeration: "c_choice", out [("'two words'", "two words")], come [("b", "b", None)];
    enum_and_enumeration: "c_mood_choice", out [("'glad'", "glad")], come [("sad", "sad", None)];
    text_array_and_multi: "c_set",
        out [("'{b,a,b}'", "a;b"), ("'{a,b}'", "a;b"), ("ARRAY['two words', NULL, '', 'c']", "c;two words")],
        come [("c;a;c", "{a,c}", None), ("b", "{b}", None), ("two words;b", "{b,\"two words\"}", None)];
    varchar_array_and_multi: "c_varchar_set", out [("'{b,a}'", "a;b")], come [("c;b", "{b,c}", None)];
    citext_array_and_multi: "c_citext_set", out [("'{b,a}'", "a;b")], come [("c;b", "{b,c}", None)];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_path_and_string() -> Result<()> {
    let table = Table::start("json_path").await?;
    for (document, sent) in [
        (r#"'{"a":{"b":"x"},"k":1}'"#, Some("x")),
        (r#"'{"a":{"b":2.50},"k":1}'"#, Some("2.50")),
        (r#"'{"a":{"b":true}}'"#, Some("true")),
        (r#"'{"a":{"b":null},"k":1}'"#, None),
        (r#"'{"a":{"b":"ü \"q\""},"k":1}'"#, Some("ü \"q\"")),
        ("NULL", None),
    ] {
        table.out("c_doc", document, sent).await?;
    }
    for (there, document) in [
        ("first", Some(r#"{"a": {"b": "first"}}"#)),
        (r#"y "z" \"#, Some(r#"{"a": {"b": "y \"z\" \\"}}"#)),
        ("", Some(r#"{"a": {}}"#)),
    ] {
        table.come("c_doc", there, document, None).await?;
    }
    Ok(())
}

/// Blanks at the end of a `char(n)` mean nothing in PostgreSQL, so nobody is to find them in HubSpot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_char_is_padded_in_the_row_alone() -> Result<()> {
    let table = Table::start("padded").await?;
    table.out("c_char", "'ab'", Some("ab")).await?;
    table.come("c_char", "xy", Some("xy"), None).await?;
    table.out("c_char", "''", None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_text_and_null_are_one_value() -> Result<()> {
    let table = Table::start("empty").await?;
    let column = "c_text";
    table.out(column, "''", None).await?;
    assert_eq!(table.state(column, "warp_value").await?, None);
    table.out(column, "NULL", None).await?;
    table.out(column, "'x'", Some("x")).await?;
    table.out(column, "''", None).await?;
    table.out(column, "NULL", None).await?;
    table.come(column, "y", Some("y"), None).await?;
    table.come(column, "", None, None).await?;
    table.out(column, "''", None).await?;
    table.come(column, "z", Some("z"), None).await?;
    for empty in ["'{}'", "'{NULL}'", "ARRAY['']", "NULL"] {
        table.out("c_set", "'{a}'", Some("a")).await?;
        table.out("c_set", empty, None).await?;
    }
    table.come("c_set", "b", Some("{b}"), None).await?;
    table.come("c_set", "", None, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_property_is_cleared_however_the_event_shows_it() -> Result<()> {
    use hubspot_sync_tests::simulator::ClearedForm;
    let table = Table::start("cleared").await?;
    for form in [ClearedForm::Empty, ClearedForm::Null, ClearedForm::Absent] {
        table.world.sim.set_behaviour(|b| b.cleared_event = form);
        for (column, there, here) in [("c_text", "x", "x"), ("c_numeric", "1.5", "1.5"), ("c_set", "a", "{a}")] {
            table.come(column, there, Some(here), None).await?;
            table.come(column, "", None, None).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_equal_value_in_another_spelling_moves_nothing() -> Result<()> {
    let table = Table::start("spelling").await?;
    table.out("c_numeric", "100.00", Some("100")).await?;
    for same in ["100", "100.000", "1e2"] {
        table.out("c_numeric", same, Some("100")).await?;
    }
    // HubSpot's own spelling stays there, and the row's stays here.
    let row = table.row("c_numeric").await?;
    for same in ["100.00", "0100", "100."] {
        table.come("c_numeric", same, row.as_deref(), None).await?;
    }
    table.out("c_numeric", "100.0", Some("100.")).await?;
    table
        .out(
            "c_timestamptz",
            "'2026-01-05 10:00:00.123456Z'",
            Some("2026-01-05T10:00:00.123Z"),
        )
        .await?;
    table.come("c_text", "elsewhere", Some("elsewhere"), None).await?;
    assert_eq!(
        table.row("c_timestamptz").await?.as_deref(),
        Some("2026-01-05 10:00:00.123456+00"),
        "the microseconds stay in the row"
    );
    table
        .out(
            "c_timestamptz",
            "'2026-01-05 10:00:00.123999Z'",
            Some("2026-01-05T10:00:00.123Z"),
        )
        .await?;
    table.out("c_set", "'{a,b}'", Some("a;b")).await?;
    table.come("c_set", "b;a", Some("{a,b}"), None).await?;
    table.out("c_set", "'{b,b,a}'", Some("b;a")).await
}

/// Every session of the database, the relay's too, prints dates and instants in its own way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dates_do_not_move_with_the_session() -> Result<()> {
    let (world, citext) = unlinked("zones").await?;
    let database = world
        .text("SELECT current_database()::text")
        .await?
        .context("database")?;
    world
        .sql
        .batch_execute(&format!(
            "ALTER DATABASE \"{database}\" SET timezone = 'Pacific/Auckland';
             ALTER DATABASE \"{database}\" SET datestyle = 'SQL, DMY';
             SET timezone = 'Pacific/Auckland'; SET datestyle = 'SQL, DMY';"
        ))
        .await?;
    let table = Table::link(world, citext).await?;
    table.out("c_date", "'01/02/2026'", Some("2026-02-01")).await?;
    table.come("c_date", "2026-03-04", Some("04/03/2026"), None).await?;
    table.come("c_date", "1772236800000", Some("28/02/2026"), None).await?;
    // Midnight in Auckland is the day before in UTC.
    table
        .out("c_timestamptz", "'01/02/2026 00:00'", Some("2026-01-31T11:00:00.000Z"))
        .await?;
    table
        .come(
            "c_timestamptz",
            "2026-07-01T12:00:00.500Z",
            Some("02/07/2026 00:00:00.5 NZST"),
            None,
        )
        .await?;
    // A timestamp without a zone is UTC, whatever the session's zone.
    table
        .out("c_timestamp", "'01/02/2026 00:00'", Some("2026-02-01T00:00:00.000Z"))
        .await?;
    table
        .come(
            "c_timestamp",
            "2026-07-01T12:00:00.500Z",
            Some("01/07/2026 12:00:00.5"),
            None,
        )
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_text_goes_and_one_more_is_parked() -> Result<()> {
    let table = Table::start("longest").await?;
    let column = "c_text";
    // Characters count, not bytes.
    let longest = "ü".repeat(65_536);
    table.out(column, "repeat('ü', 65536)", Some(&longest)).await?;
    table.cannot_go(column, "repeat('ü', 65537)").await?;
    table.out(column, "'short again'", Some("short again")).await?;
    let theirs = "🦀".repeat(65_536);
    table.come(column, &theirs, Some(&theirs), None).await
}

/// Refused by the mapping's types, or by HubSpot; the next value of the field goes through and ends the failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_hubspot_refuses_are_parked() -> Result<()> {
    let table = Table::start("refused_there").await?;
    for (column, refused, accepted, sent) in [
        ("c_numeric", "'NaN'", "1", "1"),
        ("c_double", "'Infinity'", "1", "1"),
        ("c_real", "'-Infinity'", "1", "1"),
        ("c_text_number", "'1,5'", "'1.5'", "1.5"),
        ("c_date", "'infinity'", "'2026-01-01'", "2026-01-01"),
        ("c_date", "'10000-01-01'", "'2026-01-02'", "2026-01-02"),
        ("c_date", "'0044-03-15 BC'", "'2026-01-03'", "2026-01-03"),
        (
            "c_timestamptz",
            "'-infinity'",
            "'2026-01-01Z'",
            "2026-01-01T00:00:00.000Z",
        ),
        (
            "c_timestamp",
            "'20000-01-01'",
            "'2026-01-01'",
            "2026-01-01T00:00:00.000Z",
        ),
        ("c_choice", "'not an option'", "'a'", "a"),
        ("c_set", "'{a,\"not an option\"}'", "'{a}'", "a"),
        ("c_set", "'{\"a;b\"}'", "'{b}'", "b"),
        ("c_set", "'{{a,b},{c,c}}'", "'{c}'", "c"),
    ] {
        table.cannot_go(column, refused).await?;
        table.out(column, accepted, Some(sent)).await?;
    }
    Ok(())
}

/// Refused by the table or its types; the row keeps its value until either side gets a better one.
async fn refused_by_the_row(
    name: &str,
    column: &str,
    kept: &str,
    refused: &[&str],
    kind: &str,
    good: &str,
) -> Result<()> {
    let table = Table::start(name).await?;
    table.set(column, kept).await?;
    for there in refused {
        table.world.settle().await?;
        table.cannot_come(column, there, kind).await?;
        // A good value from HubSpot ends it.
        table.person_sets(column, good)?;
        table.world.settle().await?;
        let held = table.row(column).await?.unwrap_or_default();
        // A set of one prints in braces.
        assert_eq!(
            held.trim_start_matches('{').trim_end_matches('}'),
            good,
            "after {there:?}"
        );
        table.calm(column, &format!("after {there:?}")).await?;
    }
    // A good value from the row ends it as well.
    table.cannot_come(column, refused[0], kind).await?;
    let before = table.row(column).await?;
    table.set(column, kept).await?;
    assert_ne!(table.row(column).await?, before);
    table.world.settle().await?;
    assert_ne!(
        table.hubspot(column).as_deref(),
        Some(refused[0]),
        "{}",
        table.world.picture().await?
    );
    table.calm(column, "after the row's edit").await
}

macro_rules! refusals {
    ($($name:ident: $column:literal, $kept:literal, $refused:tt, $kind:literal, $good:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            refused_by_the_row(stringify!($name), $column, $kept, &$refused, $kind, $good).await
        }
    )*};
}

refusals! {
    a_text_too_long_for_varchar: "c_varchar", "'kept'", ["too long"], "row", "good";
    a_text_too_long_for_char: "c_char", "'kept!'", ["too long"], "row", "good!";
    a_text_that_is_no_uuid: "c_uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", ["no uuid"], "row", "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    a_text_that_is_no_label: "c_mood", "'sad'", ["furious"], "row", "glad";
    an_option_that_is_no_label: "c_mood_choice", "'sad'", ["two words"], "row", "glad";
    a_text_the_domain_forbids: "c_label", "'kept'", ["forbidden", "longer than ten"], "row", "good";
    a_number_the_domain_forbids: "c_positive", "3", ["0", "-1"], "row", "4";
    numbers_beyond_smallint: "c_smallint", "3", ["32768", "1.5"], "row", "4";
    numbers_beyond_integer: "c_integer", "3", ["2147483648", "-2147483649", "0.5"], "row", "4";
    numbers_beyond_bigint: "c_bigint", "3", ["9223372036854775808"], "row", "4";
    numbers_beyond_the_scale: "c_money", "3.00", ["10000000000"], "row", "4.00";
    numbers_beyond_double: "c_double", "3", ["1000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"], "row", "4";
    a_text_that_is_no_number: "c_decimal_text", "3", ["NaN", "1,5", "0x10", "1e9999", "Infinity"], "invalid", "4";
    a_text_that_is_no_boolean: "c_boolean_text", "true", ["maybe", "1", "yes"], "invalid", "false";
    a_text_that_is_no_date: "c_date_text", "'2026-01-01'", ["01/02/2026", "1772236800001", "2026-02-30", "infinity"], "invalid", "2026-01-02";
    a_text_that_is_no_instant: "c_instant_text", "'2026-01-01Z'", ["now", "yesterday", "infinity"], "invalid", "2026-01-02 00:00:00+00";
    an_option_too_long_for_the_array: "c_varchar_set", "'{a}'", ["two words"], "row", "b";
    a_nul_character: "c_text", "'kept'", ["a\0b"], "invalid", "good";
}

/// What HubSpot returned for our write is what it holds: its form of our value is no edit, and the row keeps its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubspots_form_of_our_domain_is_no_edit() -> Result<()> {
    let (world, citext) = unlinked("forms").await?;
    world
        .sim
        .set_behaviour(|b| (b.lower_domain, b.strip_domain) = (true, true));
    let table = Table::link(world, citext).await?;
    let column = "c_web";
    table.out(column, "'ACME.Example'", Some("acme.example")).await?;
    assert_eq!(table.row(column).await?.as_deref(), Some("ACME.Example"));
    assert_eq!(
        table.state(column, "hubspot_value").await?.as_deref(),
        Some("acme.example")
    );
    assert_eq!(
        table.state(column, "warp_value").await?.as_deref(),
        Some("ACME.Example")
    );
    // Another spelling that HubSpot stores in the same form.
    let writes = table.writes();
    table.set(column, "'https://www.Acme.example/start'").await?;
    table.world.settle().await?;
    assert_eq!(table.writes(), writes + 1);
    assert_eq!(table.hubspot(column).as_deref(), Some("acme.example"));
    assert_eq!(
        table.row(column).await?.as_deref(),
        Some("https://www.Acme.example/start")
    );
    table.calm(column, "the same form again").await?;
    // A person's edit is one, and the way back too.
    table.come(column, "other.example", Some("other.example"), None).await?;
    table.come(column, "acme.example", Some("acme.example"), None).await?;
    table.out(column, "NULL", None).await?;
    table.out(column, "'ACME.Example'", Some("acme.example")).await
}

/// The same for a record that is created, not only for one that is updated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubspots_form_of_a_new_records_values_is_no_edit() -> Result<()> {
    let (mut world, _) = unlinked("forms_new").await?;
    world.sim.set_behaviour(|b| {
        (b.lower_domain, b.reformat_numbers, b.reorder_multi) = (true, true, true);
    });
    world.start_relay("").await?;
    world
        .sql
        .batch_execute(
            "INSERT INTO things (code, c_web, c_text_number, c_set) VALUES ('T-2', 'ACME.Example', '1.50', '{a,b}')",
        )
        .await?;
    world.settle().await?;
    let key = world.text("SELECT id::text FROM things").await?.context("the row")?;
    let id = world.hubspot_id(&key).await?.context("the row was not linked")?;
    let table = Table {
        world,
        key,
        id,
        citext: false,
    };
    for (column, here, there) in [
        ("c_web", "ACME.Example", "acme.example"),
        ("c_text_number", "1.50", "1.5"),
        ("c_set", "{a,b}", "b;a"),
    ] {
        table.calm(column, column).await?;
        assert_eq!(table.row(column).await?.as_deref(), Some(here));
        assert_eq!(table.hubspot(column).as_deref(), Some(there));
        assert_eq!(
            table.world.versions(&table.id, property(column)),
            [there],
            "{column}: versions"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubspots_form_of_our_numbers_and_sets_is_no_edit() -> Result<()> {
    let (world, citext) = unlinked("forms_numbers").await?;
    world
        .sim
        .set_behaviour(|b| (b.reformat_numbers, b.reorder_multi) = (true, true));
    let table = Table::link(world, citext).await?;
    // Text that HubSpot takes for a number: two texts here, one value there.
    table.out("c_text_number", "'1.50'", Some("1.5")).await?;
    assert_eq!(table.row("c_text_number").await?.as_deref(), Some("1.50"));
    table.out("c_text_number", "'007'", Some("7")).await?;
    table.out("c_numeric", "1.50", Some("1.5")).await?;
    table.come("c_numeric", "2.500", Some("2.5"), None).await?;
    table.come("c_money", "10.005", Some("10.01"), Some("10.01")).await?;
    // The options' order is c, b, a.
    table.out("c_set", "'{a,b}'", Some("b;a")).await?;
    table.out("c_set", "'{b,a}'", Some("b;a")).await?;
    table.come("c_set", "a;c", Some("{a,c}"), None).await?;
    table.out("c_set", "'{a,c,c}'", Some("c;a")).await
}

/// Every type a property can have, the multi-select among them, stands opposite some column.
#[test]
fn every_type_of_hubspot_is_in_the_table() {
    for kind in [
        "string",
        "number",
        "bool",
        "enumeration",
        "checkbox",
        "date",
        "datetime",
        "phone_number",
    ] {
        assert!(COLUMNS.iter().any(|c| c.2 == kind), "{kind}");
    }
}

/// The row as the applier wrote it is no edit of the application's, whatever the type prints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_from_hubspot_is_no_edit_of_the_row() -> Result<()> {
    let table = Table::start("no_edit").await?;
    let mut taken_for_edits = Vec::new();
    for (column, pg_type, kind) in COLUMNS {
        if pg_type.starts_with("citext") && !table.citext {
            continue;
        }
        let there = match (pg_type, kind) {
            ("uuid", _) => "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ("mood", _) => "glad",
            ("boolean", _) => "true",
            ("date", _) => "2026-02-28",
            ("timestamptz" | "timestamp", _) => "2026-02-28T03:30:17.001Z",
            ("real" | "double precision", _) => "1000000000000000000000",
            ("smallint" | "integer" | "bigint" | "positive", _) | (_, "number") => "7",
            ("numeric", _) => "12345678901234567890.5",
            ("char(5)", _) => "abcde",
            (_, "checkbox" | "enumeration") => "a",
            _ => "value",
        };
        table.person_sets(column, there)?;
        table.world.settle().await?;
        assert!(
            table.row(column).await?.is_some(),
            "{column}\n{}",
            table.world.picture().await?
        );
        let side = table.state(column, "last_edited_in").await?;
        if table.edits(column).await? > 0 || side.as_deref() != Some("HUBSPOT") {
            taken_for_edits.push(format!("{column} {pg_type}"));
        }
    }
    assert_eq!(taken_for_edits, [""; 0]);
    Ok(())
}

/// A value the database cannot store, met when the relay looks before it writes, stops neither the record nor others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nul_character_met_when_looking() -> Result<()> {
    let (world, citext) = unlinked("nul_look").await?;
    let table = Table::link_with(world, citext, "[cache]\nttl = \"0s\"").await?;
    table.out("c_text", "'kept'", Some("kept")).await?;
    table.world.sim.hold_webhooks();
    table.person_sets("c_text", "a\0b")?;
    table.world.later().await?;
    // Both are looked at before they are written.
    table.set("other", "'goes on', c_text = 'later'").await?;
    table.world.until_hubspot(&table.id, "other", Some("goes on")).await?;
    table.world.until("NOT EXISTS (SELECT 1 FROM hubspot.outbox)").await?;
    assert_eq!(table.row("c_text").await?.as_deref(), Some("later"));
    Ok(())
}

/// Sessions that round what they print do not round what is compared and sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floats_keep_their_digits_in_a_session_that_rounds() -> Result<()> {
    let (world, citext) = unlinked("digits").await?;
    let database = world
        .text("SELECT current_database()::text")
        .await?
        .context("database")?;
    world
        .sql
        .batch_execute(&format!("ALTER DATABASE \"{database}\" SET extra_float_digits = -5"))
        .await?;
    let table = Table::link(world, citext).await?;
    for (column, digits) in [("c_double", "0.30000000000000004"), ("c_real", "0.12345679")] {
        table.out(column, digits, Some(digits)).await?;
    }
    for (column, digits) in [("c_double", "0.7000000000000001"), ("c_real", "0.15654312")] {
        table.come(column, digits, Some(digits), None).await?;
    }
    Ok(())
}

/// While HubSpot holds a value the row could not take, nobody is told that both sides agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_the_row_could_not_take_is_not_in_sync() -> Result<()> {
    let table = Table::start("not_in_sync").await?;
    let mut seen = Vec::new();
    for (column, there, kind) in [("c_positive", "0", "row"), ("c_boolean_text", "maybe", "invalid")] {
        table.cannot_come(column, there, kind).await?;
        for what in ["status", "hubspot_value"] {
            seen.push(table.state(column, what).await?.unwrap_or_default());
        }
    }
    assert_eq!(seen, ["failed", "0", "failed", "maybe"]);
    Ok(())
}
