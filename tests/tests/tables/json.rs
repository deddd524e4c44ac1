//! JSON paths: what capture reads where a jsonb is stored is what PostgreSQL's own operator gives.

use super::{database, texts};
use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Map, Value as Json, json};

/// Field, path.
const PATHS: [(&str, &str); 7] = [
    ("plain", "doc->>'k'"),
    ("longer", "doc->>'key number 40'"),
    ("inner", "doc#>>'{o,k}'"),
    ("deep", r#"doc#>>'{o,o,"ä \"q\""}'"#),
    ("element", "doc#>>'{a,1}'"),
    ("last", "doc#>>'{a,-1}'"),
    ("empty", "doc->>''"),
];

fn scalar(rng: &mut StdRng) -> Json {
    let long = "long ".repeat(rng.random_range(1..2000));
    let random: String = (0..rng.random_range(0..4000))
        .map(|_| rng.random_range('!'..'~'))
        .collect();
    [
        Json::Null,
        json!(true),
        json!(false),
        json!(""),
        json!("plain"),
        json!("ü\u{1f600} \"quoted\" \\ \n \u{1}"),
        json!(0),
        json!(-17),
        json!(1234567890123456789_i64),
        json!(0.1),
        json!(-123.4500),
        json!(1e40),
        json!(1e-30),
        json!(long),
        json!(random),
        json!([]),
        json!({}),
    ]
    .choose(rng)
    .cloned()
    .unwrap_or_default()
}

fn object(rng: &mut StdRng, depth: u32) -> Json {
    let mut object = Map::new();
    // More than 32 keys: then some entries hold an offset instead of a length.
    for n in 0..*[0, 1, 5, 40, 100].choose(rng).unwrap_or(&0) {
        object.insert(format!("key number {n}"), scalar(rng));
    }
    for key in ["k", "ä \"q\"", "", "kk"] {
        if rng.random_bool(0.7) {
            object.insert(key.into(), scalar(rng));
        }
    }
    if rng.random_bool(0.7) {
        let inner = if depth == 0 || rng.random_bool(0.2) {
            scalar(rng)
        } else {
            object_or_array(rng, depth - 1)
        };
        object.insert("o".into(), inner);
    }
    if rng.random_bool(0.5) {
        object.insert(
            "a".into(),
            Json::Array((0..rng.random_range(0..4)).map(|_| scalar(rng)).collect()),
        );
    }
    Json::Object(object)
}

fn object_or_array(rng: &mut StdRng, depth: u32) -> Json {
    if rng.random_bool(0.85) {
        object(rng, depth)
    } else {
        Json::Array((0..rng.random_range(0..3)).map(|_| object(rng, 0)).collect())
    }
}

#[tokio::test]
async fn a_path_gives_what_postgresql_gives() -> Result<()> {
    for kind in ["jsonb", "json"] {
        let (sql, _) = database(
            &format!("path_{kind}"),
            &format!("CREATE TABLE p (id int PRIMARY KEY, doc {kind})"),
        )
        .await?;
        let mapping: Map<String, Json> = PATHS
            .iter()
            .map(|(field, path)| {
                let entry = json!({"hubspot_property": format!("warp_{field}"), "warp_field": "doc", "warp_field_path": path,
                    "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"});
                ((*field).to_owned(), entry)
            })
            .collect();
        sql.query_one(
            "SELECT hubspot.import_mapping('t', 'p'::regclass, 'companies', $1)",
            &[&Json::Object(mapping)],
        )
        .await?;
        let mut rng = StdRng::seed_from_u64(4);
        for id in 1..=150 {
            let document = match rng.random_range(0..12) {
                0 => None,
                1 => Some(scalar(&mut rng)),
                _ => Some(object_or_array(&mut rng, 2)),
            };
            let text = document.map(|document| document.to_string());
            sql.execute(&format!("INSERT INTO p VALUES ($1, $2::text::{kind})"), &[&id, &text])
                .await?;
        }
        for (field, path) in PATHS {
            let wrong = texts(
                &sql,
                &format!(
                    "SELECT id || ': ' || left((changes->'{field}')::text, 100) || ', not ' || coalesce(left({path}, 100), 'null')
                     FROM p JOIN hubspot.capture c ON c.entity_key = p.id::text
                     WHERE changes->'{field}'->>1 IS DISTINCT FROM {path}"
                ),
            )
            .await?;
            assert_eq!(wrong, Vec::<String>::new(), "{kind}, {path}");
        }
        if kind == "json" {
            // Below, what is the same would be written in another way.
            continue;
        }
        // What is the same at the path is not captured, however the rest differs and is stored.
        sql.batch_execute(&format!(
            "TRUNCATE hubspot.capture;
             UPDATE p SET doc = (doc::jsonb || jsonb_build_object('unmapped', repeat('x', id * 20), 'k2', id))::{kind}
             WHERE jsonb_typeof(doc::jsonb) = 'object'"
        ))
        .await?;
        let seen = texts(
            &sql,
            "SELECT entity_key FROM hubspot.capture WHERE changes::text <> '{}'",
        )
        .await?;
        assert_eq!(seen, Vec::<String>::new(), "{kind}");
    }
    Ok(())
}
