//! Batch calls: sizes, bad rows, upserts, unique values.

use super::{Account, COMPANIES, update};
use serde_json::Value;
use serde_json::json;

fn traced(trace: &str, id: &str, properties: Value) -> Value {
    json!({"objectWriteTraceId": trace, "id": id, "properties": properties})
}

#[tokio::test]
async fn batch_sizes_and_duplicates() {
    let account = Account::warp().await;
    let ids = |count: u32| (0..count).map(|id| json!({"id": id.to_string()})).collect::<Vec<_>>();
    let read =
        |count: u32, history: Value| json!({"inputs": ids(count), "properties": [], "propertiesWithHistory": history});
    assert_eq!(account.batch("read", read(101, json!([]))).await.0, 400);
    assert_eq!(account.batch("read", read(100, json!([]))).await.0, 207);
    let (status, body) = account.batch("read", read(51, json!(["name"]))).await;
    assert_eq!(status, 400);
    assert!(
        body["message"].as_str().is_some_and(|text| text.contains("50")),
        "{body}"
    );
    assert_eq!(account.batch("read", read(50, json!(["name"]))).await.0, 207);
    let id = account.company("Acme", "B-1");
    let rows = json!([
        traced("a", &id, json!({"name": "1"})),
        traced("b", &id, json!({"name": "2"}))
    ]);
    let (status, body) = account.batch("update", json!({"inputs": rows})).await;
    assert_eq!((status, &body["context"]["ids"]), (400, &json!([id])));
    assert_eq!(account.value(&id, "name").as_deref(), Some("Acme"));
}

#[tokio::test]
async fn one_bad_row() {
    let account = Account::warp().await;
    let (first, second) = (account.company("One", "B-1"), account.company("Two", "B-2"));
    let good = json!({"name": "Changed"});
    let bad = json!({"warp_tier": "GOLD"});
    let rows = json!([update(&first, good.clone()), update(&second, bad.clone())]);
    let (status, body) = account.batch("update", json!({"inputs": rows})).await;
    assert_eq!((status, &body["errors"][0]["code"]), (400, &json!("INVALID_OPTION")));
    assert!(body["correlationId"].is_string());
    assert_eq!(account.value(&first, "name").as_deref(), Some("One"));
    let rows = json!([traced("t-1", &first, good.clone()), traced("t-2", &second, bad)]);
    let (status, body) = account.batch("update", json!({"inputs": rows})).await;
    assert_eq!((status, &body["numErrors"]), (207, &json!(1)), "{body}");
    assert_eq!(body["errors"][0]["context"]["objectWriteTraceId"], json!(["t-2"]));
    assert_eq!(body["results"].as_array().map(Vec::len), Some(1));
    assert_eq!(account.value(&first, "name").as_deref(), Some("Changed"));
    // The same trace id twice is as good as none.
    let rows = json!([
        traced("t", &first, good),
        traced("t", &second, json!({"nonsense": "1"}))
    ]);
    let (status, body) = account.batch("update", json!({"inputs": rows})).await;
    assert_eq!(
        (status, &body["errors"][0]["code"]),
        (400, &json!("PROPERTY_DOESNT_EXIST"))
    );
}

#[tokio::test]
async fn unknown_ids() {
    let account = Account::warp().await;
    let id = account.company("One", "B-1");
    let rows = json!({"inputs": [update(&id, json!({"phone": "1"})), update("999", json!({"phone": "1"}))]});
    let (status, body) = account.batch("update", rows.clone()).await;
    assert_eq!((status, &body["numErrors"]), (207, &json!(0)));
    assert_eq!(body["results"].as_array().map(Vec::len), Some(1));
    account
        .sim
        .set_behaviour(|behaviour| behaviour.report_unknown_ids = true);
    let (status, body) = account.batch("update", rows).await;
    assert_eq!(
        (status, &body["errors"][0]["category"]),
        (207, &json!("OBJECT_NOT_FOUND"))
    );
    let read = json!({"inputs": [{"id": id}, {"id": "999"}], "properties": ["name"], "propertiesWithHistory": []});
    let (status, body) = account.batch("read", read).await;
    assert_eq!((status, &body["errors"][0]["context"]["ids"]), (207, &json!(["999"])));
    assert_eq!(
        account
            .call(
                "PATCH",
                &format!("{COMPANIES}/999"),
                json!({"properties": {"name": "x"}})
            )
            .await
            .0,
        404
    );
    assert_eq!(
        account.call("DELETE", &format!("{COMPANIES}/999"), Value::Null).await.0,
        204
    );
}

#[tokio::test]
async fn upsert() {
    let account = Account::warp().await;
    let known = account.company("Known", "B-1");
    let row = |id: &str, property: &str, properties: Value| json!({"inputs": [{"id": id, "idProperty": property, "properties": properties}]});
    for property in ["hs_object_id", "name", "domain", "nonsense"] {
        let (status, body) = account.batch("upsert", row("x", property, json!({"name": "x"}))).await;
        assert_eq!(status, 400, "{property}");
        assert!(
            body["message"]
                .as_str()
                .is_some_and(|text| text.contains("non-unique 0-2 property")),
            "{body}"
        );
    }
    let missing = json!({"inputs": [update("x", json!({"name": "x"}))]});
    assert_eq!(account.batch("upsert", missing).await.0, 400);
    let (status, body) = account
        .batch("upsert", row("B-1", "warp_ban", json!({"phone": "1"})))
        .await;
    assert_eq!((status, &body["results"][0]["new"]), (200, &json!(false)));
    assert_eq!(body["results"][0]["id"], json!(known));
    let (status, body) = account
        .batch("upsert", row("B-2", "warp_ban", json!({"name": "New"})))
        .await;
    assert_eq!((status, &body["results"][0]["new"]), (200, &json!(true)));
    assert_eq!(body["results"][0]["properties"]["warp_ban"], "B-2");
    let (status, body) = account
        .batch("upsert", row("B-3", "warp_ban", json!({"phone": "1"})))
        .await;
    assert_eq!(
        (status, &body["errors"][0]["code"]),
        (400, &json!("MISSING_REQUIRED_PROPERTY"))
    );
    let read = json!({"inputs": [{"id": "B-2"}], "idProperty": "warp_ban", "properties": ["name"], "propertiesWithHistory": []});
    assert_eq!(
        account.batch("read", read).await.1["results"][0]["properties"]["name"],
        "New"
    );
}

#[tokio::test]
async fn unique_values() {
    let account = Account::warp().await;
    let (_, second) = (account.company("One", "B-1"), account.company("Two", "B-2"));
    let (status, body) = account
        .call(
            "PATCH",
            &format!("{COMPANIES}/{second}"),
            json!({"properties": {"warp_ban": "B-1"}}),
        )
        .await;
    assert_eq!((status, &body["category"]), (400, &json!("VALIDATION_ERROR")));
    let twins = json!({"inputs": [{"properties": {"name": "a", "warp_ban": "B-9"}}, {"properties": {"name": "b", "warp_ban": "B-9"}}]});
    assert_eq!(account.batch("create", twins).await.0, 400);
    assert!(account.sim.find("companies", "warp_ban", "B-9").is_empty());
    // A deleted record gives its value back.
    account.sim.ui_delete("companies", &second).expect("deleted");
    let (status, _) = account
        .call(
            "POST",
            COMPANIES,
            json!({"properties": {"name": "c", "warp_ban": "B-2"}}),
        )
        .await;
    assert_eq!(status, 201);
    assert!(account.sim.ui_restore("companies", &second).is_err());
    let contacts = "/crm/v3/objects/contacts";
    let contact = json!({"properties": {"email": "Ann@Example.com"}});
    let (status, body) = account.call("POST", contacts, contact.clone()).await;
    assert_eq!((status, &body["properties"]["email"]), (201, &json!("ann@example.com")));
    let (status, again) = account.call("POST", contacts, contact).await;
    assert_eq!((status, &again["category"]), (409, &json!("CONFLICT")));
    let text = format!(
        "Contact already exists. Existing ID: {}",
        body["id"].as_str().unwrap_or_default()
    );
    assert_eq!(again["message"], json!(text));
}
