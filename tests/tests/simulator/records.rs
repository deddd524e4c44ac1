//! Values, history, listing, merging and privacy deletion.

use super::{Account, COMPANIES, update};
use hubspot_sync_tests::simulator::PropertyDef;
use serde_json::Value;
use serde_json::json;

#[tokio::test]
async fn values_are_checked() {
    let account = Account::warp().await;
    let id = account.company("Acme", "B-1");
    account
        .sim
        .define_property("companies", PropertyDef::new("since", "date"))
        .expect("defined");
    account
        .sim
        .define_property("companies", PropertyDef::new("seen_at", "datetime"))
        .expect("defined");
    account
        .sim
        .define_property("companies", PropertyDef::new("active", "bool"))
        .expect("defined");
    let multi = PropertyDef::new("tags", "enumeration")
        .field_type("checkbox")
        .options(&["a", "b", "c"]);
    account.sim.define_property("companies", multi).expect("defined");
    let path = format!("{COMPANIES}/{id}");
    let long = "x".repeat(65_537);
    for (name, value, code) in [
        ("warp_credit_limit", "1,000", "INVALID_LONG"),
        ("warp_credit_limit", "1e3", "INVALID_LONG"),
        ("warp_tier", "premium", "INVALID_OPTION"),
        ("active", "TRUE", "INVALID_OPTION"),
        ("since", "2026-02-30", "INVALID_DATE"),
        ("since", "1764000000000", "INVALID_DATE"),
        ("seen_at", "2026-02-28T03:30:17", "INVALID_DATE"),
        ("tags", "a;z", "INVALID_OPTION"),
        ("hs_object_id", "1", "READ_ONLY_VALUE"),
        ("num_associated_contacts", "1", "READ_ONLY_VALUE"),
        ("nope", "1", "PROPERTY_DOESNT_EXIST"),
        ("name", long.as_str(), "PROPERTY_VALUE_TOO_LONG"),
    ] {
        let (status, body) = account.call("PATCH", &path, json!({"properties": {name: value}})).await;
        assert_eq!((status, &body["errors"][0]["code"]), (400, &json!(code)), "{name}");
    }
    for (name, value, stored) in [
        ("warp_credit_limit", "-1000.50", Some("-1000.50")),
        ("since", "1764028800000", Some("2025-11-25")),
        ("seen_at", "1764000000123", Some("2025-11-24T16:00:00.123Z")),
        ("active", "true", Some("true")),
        ("tags", "c;a", Some("c;a")),
        ("tags", ";b", Some("c;a;b")),
        ("tags", "", None),
    ] {
        let (status, body) = account.call("PATCH", &path, json!({"properties": {name: value}})).await;
        assert_eq!((status, body["properties"][name].as_str()), (200, stored), "{body}");
    }
    for value in [Value::Null, json!(1), json!(true)] {
        assert_eq!(
            account
                .call("PATCH", &path, json!({"properties": {"name": value}}))
                .await
                .0,
            400
        );
    }
    account.sim.set_behaviour(|behaviour| {
        behaviour.lower_domain = true;
        behaviour.strip_domain = true;
        behaviour.reformat_numbers = true;
        behaviour.reorder_multi = true;
    });
    let wanted =
        json!({"properties": {"domain": "https://WWW.Acme.com/x", "warp_credit_limit": "007.500", "tags": "c;a"}});
    let body = account.call("PATCH", &path, wanted).await.1;
    assert_eq!(body["properties"]["domain"], "acme.com");
    assert_eq!(body["properties"]["warp_credit_limit"], "7.5");
    assert_eq!(body["properties"]["tags"], "a;c");
}

#[tokio::test]
async fn history_and_clock() {
    let account = Account::warp().await;
    account.sim.set_clock_offset(-60_000);
    let id = account.company("Acme", "B-1");
    let path = format!("{COMPANIES}/{id}");
    let body = account
        .call("PATCH", &path, json!({"properties": {"name": "Acme 2", "phone": "1"}}))
        .await
        .1;
    let before = account.sim.get("companies", &id).expect("a record");
    account
        .call("PATCH", &path, json!({"properties": {"name": "Acme 2"}}))
        .await;
    let record = account.sim.get("companies", &id).expect("a record");
    assert_eq!(
        record.updated_at_ms, before.updated_at_ms,
        "an unchanged value leaves no trace"
    );
    let versions = account.sim.history("companies", &id, "name");
    assert_eq!(versions.len(), 2);
    assert_eq!(
        (versions[0].source_type.as_str(), versions[0].source_id.as_str()),
        ("INTEGRATION", "54321")
    );
    assert_eq!(
        (versions[1].source_type.as_str(), versions[1].source_id.as_str()),
        ("CRM_UI", "userId:77")
    );
    assert!(versions[0].timestamp_ms > versions[1].timestamp_ms);
    assert_eq!(versions[0].timestamp_ms, record.updated_at_ms);
    assert_eq!(
        versions[0].timestamp_ms,
        account.sim.history("companies", &id, "phone")[0].timestamp_ms
    );
    let read = json!({"inputs": [{"id": id}], "properties": ["name"], "propertiesWithHistory": ["name"]});
    let history = account.batch("read", read).await.1["results"][0]["propertiesWithHistory"]["name"].clone();
    assert_eq!(history[0]["value"], "Acme 2");
    assert_eq!(history[0]["timestamp"], body["updatedAt"]);
    assert_eq!(history[1]["updatedByUserId"], 77);
    let mut last = 0;
    for round in 0..50 {
        account
            .sim
            .ui_set("companies", &id, "name", &round.to_string())
            .expect("set");
        let now = account.sim.history("companies", &id, "name")[0].timestamp_ms;
        assert!(now > last);
        last = now;
    }
    account
        .sim
        .set_behaviour(|behaviour| behaviour.unchanged_creates_version = true);
    account.sim.ui_set("companies", &id, "name", "49").expect("set");
    assert!(account.sim.history("companies", &id, "name")[0].timestamp_ms > last);
}

#[tokio::test]
async fn list_pages_and_deleted_records() {
    let account = Account::warp().await;
    let ids: Vec<String> = (0..25)
        .map(|n| account.company(&format!("C{n}"), &format!("B-{n}")))
        .collect();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let (status, body) = account.get(&format!("{COMPANIES}?limit=10&after={after}")).await;
        assert_eq!(status, 200);
        let page = body["results"].as_array().cloned().unwrap_or_default();
        seen.extend(
            page.iter()
                .filter_map(|record| record["id"].as_str().map(str::to_owned)),
        );
        match body["paging"]["next"]["after"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    assert_eq!(account.get(&format!("{COMPANIES}?limit=101")).await.0, 400);
    assert_eq!(
        account
            .get(&format!("{COMPANIES}?limit=51&propertiesWithHistory=name"))
            .await
            .0,
        400
    );
    assert_eq!(
        account
            .call("DELETE", &format!("{COMPANIES}/{}", ids[0]), Value::Null)
            .await
            .0,
        204
    );
    assert_eq!(account.get(&format!("{COMPANIES}/{}", ids[0])).await.0, 404);
    let (status, body) = account.get(&format!("{COMPANIES}/{}?archived=true", ids[0])).await;
    assert_eq!((status, &body["archived"]), (200, &json!(true)));
    assert!(body["archivedAt"].is_string());
    let body = account.get(&format!("{COMPANIES}?archived=true")).await.1;
    assert_eq!(body["results"].as_array().map(Vec::len), Some(1));
    let rows = json!({"inputs": [{"id": ids[1]}, {"id": ids[2]}, {"id": "1"}]});
    assert_eq!(account.batch("archive", rows).await.0, 204);
    account.sim.ui_restore("companies", &ids[1]).expect("restored");
    assert_eq!(account.get(&format!("{COMPANIES}/{}", ids[1])).await.0, 200);
}

#[tokio::test]
async fn merge_makes_a_new_record() {
    let account = Account::warp().await;
    let (first, second) = (account.company("One", "B-1"), account.company("Two", "B-2"));
    account.sim.ui_set("companies", &second, "phone", "22").expect("set");
    let already = account.sim.events().len();
    let merge = json!({"primaryObjectId": first, "objectIdToMerge": second});
    let (status, body) = account.call("POST", &format!("{COMPANIES}/merge"), merge).await;
    assert_eq!(status, 200, "{body}");
    let survivor = body["id"].as_str().expect("an id").to_owned();
    assert!(survivor != first && survivor != second);
    let kinds: Vec<Value> = account.sim.events()[already..]
        .iter()
        .map(|event| event["subscriptionType"].clone())
        .collect();
    assert_eq!(kinds, ["company.merge", "company.deletion", "company.deletion"]);
    for old in [&first, &second] {
        assert_eq!(
            account.get(&format!("{COMPANIES}/{old}")).await.1["id"],
            json!(survivor)
        );
        let read = json!({"inputs": [{"id": old}], "properties": ["phone"], "propertiesWithHistory": []});
        assert_eq!(account.batch("read", read).await.1["results"][0]["id"], json!(survivor));
        let rows = json!({"inputs": [update(old, json!({"city": "Kiel"}))]});
        assert_eq!(account.batch("update", rows).await.1["results"], json!([]));
    }
    let patch = json!({"properties": {"city": "Bonn"}});
    assert_eq!(
        account.call("PATCH", &format!("{COMPANIES}/{first}"), patch).await.1["id"],
        json!(survivor)
    );
    let record = account.sim.get("companies", &survivor).expect("the survivor");
    assert_eq!((record.value("name"), record.value("phone")), (Some("One"), Some("22")));
    assert_eq!(
        (record.value("warp_ban"), record.value("city")),
        (Some("B-1"), Some("Bonn"))
    );
    let merged = format!("{first};{second}");
    assert_eq!(record.value("hs_merged_object_ids"), Some(merged.as_str()));
    account
        .sim
        .set_behaviour(|behaviour| behaviour.merge_keeps_primary = true);
    let third = account.company("Three", "B-3");
    assert_eq!(
        account.sim.ui_merge("companies", &survivor, &third).expect("merged"),
        survivor
    );
}

#[tokio::test]
async fn property_definitions() {
    let account = Account::warp().await;
    let base = "/crm/properties/2026-03/companies";
    let body = json!({"groupName": "companyinformation", "name": "pg_id", "label": "Id", "type": "string",
        "fieldType": "text", "hasUniqueValue": true});
    assert_eq!(account.call("POST", base, body.clone()).await.0, 201);
    let (status, again) = account.call("POST", base, body).await;
    assert_eq!(
        (status, &again["subCategory"]),
        (409, &json!("Properties.PROPERTY_WITH_NAME_EXISTS"))
    );
    assert_eq!(account.get(&format!("{base}/nope")).await.0, 404);
    let options = json!({"options": [{"label": "X", "value": "X", "displayOrder": 0, "hidden": false}]});
    let (status, body) = account.call("PATCH", &format!("{base}/warp_tier"), options).await;
    assert_eq!(
        (status, body["options"].as_array().map(Vec::len)),
        (200, Some(1)),
        "options are replaced"
    );
    let (_, body) = account.get(&format!("{base}/hs_object_id")).await;
    assert_eq!(body["modificationMetadata"]["readOnlyValue"], true);
    assert_eq!(
        account.call("DELETE", &format!("{base}/pg_id"), Value::Null).await.0,
        204
    );
    assert_eq!(account.get(&format!("{base}/pg_id")).await.0, 404);
    let list = account.get("/crm/v3/properties/0-2").await.1;
    assert!(
        list["results"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["name"] == "warp_ban"))
    );
    let group = format!("{base}/groups/companyinformation");
    assert_eq!(account.call("DELETE", &group, Value::Null).await.0, 400);
    let group = json!({"name": "sync", "label": "Sync"});
    assert_eq!(account.call("POST", &format!("{base}/groups"), group).await.0, 201);
    let read = json!({"archived": false, "inputs": [{"name": "name"}, {"name": "nope"}]});
    let (status, body) = account.call("POST", &format!("{base}/batch/read"), read).await;
    assert_eq!((status, &body["numErrors"]), (207, &json!(1)));
}

#[tokio::test]
async fn results_are_shuffled() {
    let account = Account::warp().await;
    let inputs: Vec<Value> = (0..30)
        .map(|n| json!({"properties": {"name": format!("{n:02}")}}))
        .collect();
    let (status, body) = account.batch("create", json!({"inputs": inputs})).await;
    assert_eq!(status, 201);
    let names: Vec<&str> = body["results"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["properties"]["name"].as_str())
        .collect();
    assert_eq!(names.len(), 30);
    assert!(!names.is_sorted());
}

#[tokio::test]
async fn privacy_deletion() {
    let account = Account::warp().await;
    let contacts = "/crm/objects/2026-03/contacts";
    let made = account
        .call("POST", contacts, json!({"properties": {"email": "a@example.com"}}))
        .await
        .1;
    let before = account.sim.events().len();
    let body = json!({"objectId": "A@example.com", "idProperty": "email"});
    assert_eq!(
        account.call("POST", &format!("{contacts}/gdpr-delete"), body).await.0,
        204
    );
    let id = made["id"].as_str().expect("an id");
    assert_eq!(account.get(&format!("{contacts}/{id}?archived=true")).await.0, 404);
    let kinds: Vec<Value> = account.sim.events()[before..]
        .iter()
        .map(|event| event["subscriptionType"].clone())
        .collect();
    assert_eq!(kinds, ["contact.privacyDeletion", "contact.deletion"]);
}
