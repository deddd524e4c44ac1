//! The simulator refuses what HubSpot refuses.

use std::time::{Duration, Instant};

use hubspot_sync_tests::simulator::{ClearedForm, Fault, FaultKind, Op, Policy, PropertyDef, SimConfig, Simulator};
use serde_json::{Value, json};

const COMPANIES: &str = "/crm/objects/2026-03/companies";

struct Account {
    sim: Simulator,
    http: reqwest::Client,
}

impl Account {
    async fn start(config: SimConfig) -> Self {
        let sim = Simulator::start(config).await.expect("the simulator starts");
        Account {
            sim,
            http: reqwest::Client::new(),
        }
    }

    async fn warp() -> Self {
        Self::start(SimConfig {
            rate_limit: 0,
            ..SimConfig::warp()
        })
        .await
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> reqwest::Result<reqwest::Response> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let url = format!("{}{path}", self.sim.base_url());
        let mut request = self.http.request(method, url).bearer_auth(self.sim.token());
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { None } else { Some(&body) };
        let answer = self.send(method, path, body).await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn batch(&self, call: &str, body: Value) -> (u16, Value) {
        self.call("POST", &format!("{COMPANIES}/batch/{call}"), body).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, Value::Null).await
    }

    fn company(&self, name: &str, ban: &str) -> String {
        self.sim
            .ui_create("companies", &[("name", name), ("warp_ban", ban)])
            .expect("a company")
    }

    fn value(&self, id: &str, property: &str) -> Option<String> {
        self.sim
            .get("companies", id)
            .and_then(|record| record.value(property).map(str::to_owned))
    }
}

fn update(id: &str, properties: Value) -> Value {
    json!({"id": id, "properties": properties})
}

fn traced(trace: &str, id: &str, properties: Value) -> Value {
    json!({"objectWriteTraceId": trace, "id": id, "properties": properties})
}

#[tokio::test]
async fn both_path_families_and_names() {
    let account = Account::warp().await;
    let id = account.company("Acme", "B-1");
    for prefix in [
        "/crm/v3/objects/companies",
        "/crm/objects/2025-09/0-2",
        "/crm/objects/2026-09/company",
    ] {
        let (status, body) = account
            .get(&format!("{prefix}/{id}?properties=name,phone,nonsense"))
            .await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["properties"]["name"], "Acme");
        assert_eq!(body["properties"]["phone"], Value::Null);
        assert!(body["properties"].get("nonsense").is_none());
    }
    assert_eq!(account.get("/crm/objects/2024-01/companies").await.0, 404);
    assert_eq!(account.get("/crm/v3/objects/spaceships").await.0, 400);
    assert_eq!(account.get("/crm/v3/objects/subscriptions").await.0, 200);
    assert_eq!(account.get("/account-info/2026-03/details").await.1["portalId"], 62515);
}

#[tokio::test]
async fn tokens_and_scopes() {
    let account = Account::warp().await;
    let url = format!("{}{COMPANIES}", account.sim.base_url());
    let answer = account
        .http
        .get(&url)
        .bearer_auth("wrong")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 401);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["category"], "INVALID_AUTHENTICATION");
    account.sim.set_scopes(Some(&["crm.objects.companies.read"]));
    assert_eq!(account.get(COMPANIES).await.0, 200);
    let (status, body) = account
        .call("POST", COMPANIES, json!({"properties": {"name": "A"}}))
        .await;
    assert_eq!((status, &body["category"]), (403, &json!("MISSING_SCOPES")));
    assert_eq!(
        body["errors"][0]["context"]["requiredGranularScopes"],
        json!(["crm.objects.companies.write"])
    );
}

#[tokio::test]
async fn oauth_tokens_expire() {
    let account = Account::warp().await;
    let url = format!("{}/oauth/v3/token", account.sim.base_url());
    let form = |refresh: &str| {
        format!(
            "grant_type=refresh_token&client_id=client-id&client_secret={}&refresh_token={refresh}",
            account.sim.client_secret()
        )
    };
    let post = |body: String| {
        account
            .http
            .post(&url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
    };
    let refused = post(form("wrong")).await.expect("an answer");
    assert_eq!(refused.status(), 400);
    assert_eq!(
        refused.json::<Value>().await.expect("JSON")["status"],
        "BAD_REFRESH_TOKEN"
    );
    let issued: Value = post(form("na1-refresh-token"))
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let token = issued["access_token"].as_str().expect("a token").to_owned();
    assert_eq!(issued["expires_in"], 1800);
    let list = format!("{}{COMPANIES}", account.sim.base_url());
    let with = || account.http.get(&list).bearer_auth(&token).send();
    assert_eq!(with().await.expect("an answer").status(), 200);
    account.sim.expire_tokens();
    let expired = with().await.expect("an answer");
    assert_eq!(expired.status(), 401);
    assert_eq!(
        expired.json::<Value>().await.expect("JSON")["category"],
        "EXPIRED_AUTHENTICATION"
    );
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
async fn search_rules() {
    let account = Account::start(SimConfig {
        search_limit: 0,
        ..SimConfig::warp()
    })
    .await;
    for n in 0..30 {
        account.company(&format!("Firm {n}"), &format!("B-{n}"));
    }
    let path = format!("{COMPANIES}/search");
    let by = |operator: &str, name: &str, value: &str| json!([{"filters": [{"propertyName": name, "operator": operator, "value": value}]}]);
    let body = account
        .call(
            "POST",
            &path,
            json!({"filterGroups": by("EQ", "name", "firm 7"), "limit": 5}),
        )
        .await
        .1;
    assert_eq!(body["total"], 1);
    let sorts = json!([{"propertyName": "hs_object_id", "direction": "DESCENDING"}]);
    let all = json!({"filterGroups": by("GTE", "hs_lastmodifieddate", "1000"), "sorts": sorts, "limit": 20});
    let body = account.call("POST", &path, all).await.1;
    assert_eq!(
        (&body["total"], &body["paging"]["next"]["after"]),
        (&json!(30), &json!("20"))
    );
    assert_eq!(body["results"][0]["properties"]["name"], "Firm 29");
    for (what, wrong) in [
        ("page", json!({"limit": 201})),
        ("cap", json!({"limit": 200, "after": "9900"})),
        ("length", json!({"query": "x".repeat(3000)})),
        ("property", json!({"filterGroups": by("EQ", "nope", "1")})),
        ("operator", json!({"filterGroups": by("LIKE", "name", "1")})),
        (
            "groups",
            json!({"filterGroups": vec![by("EQ", "name", "1")[0].clone(); 6]}),
        ),
        ("sorts", json!({"sorts": ["name", "domain"]})),
    ] {
        assert_eq!(account.call("POST", &path, wrong).await.0, 400, "{what}");
    }
    account.sim.set_behaviour(|behaviour| behaviour.search_lag_ms = 2000);
    let id = account.company("Fresh", "B-fresh");
    let fresh = json!({"filterGroups": by("EQ", "name", "Fresh")});
    assert_eq!(account.call("POST", &path, fresh.clone()).await.1["total"], 0);
    tokio::time::sleep(Duration::from_millis(2200)).await;
    assert_eq!(
        account.call("POST", &path, fresh).await.1["results"][0]["id"],
        json!(id)
    );
}

#[tokio::test]
async fn search_has_its_own_limit() {
    let account = Account::warp().await;
    let path = format!("{COMPANIES}/search");
    let mut allowed = 0;
    let answer = loop {
        let answer = account.send("POST", &path, Some(&json!({}))).await.expect("an answer");
        if answer.status() == 429 {
            break answer;
        }
        allowed += 1;
        assert!(allowed < 1000, "no search was refused");
    };
    assert!(allowed >= 5);
    assert!(answer.headers().keys().all(|name| !name.as_str().contains("ratelimit")));
    assert_eq!(answer.json::<Value>().await.expect("JSON")["policyName"], "SECONDLY");
    assert_eq!(account.get(COMPANIES).await.0, 200);
    assert_eq!(account.sim.max_in_window(10_000), 1);
}

#[tokio::test]
async fn rolling_window() {
    let account = Account::start(SimConfig {
        rate_limit: 3,
        ..SimConfig::warp()
    })
    .await;
    let first = account.send("GET", COMPANIES, None).await.expect("an answer");
    let header = |name: &str| {
        first
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    assert_eq!(header("X-HubSpot-RateLimit-Max").as_deref(), Some("3"));
    assert_eq!(header("X-HubSpot-RateLimit-Remaining").as_deref(), Some("2"));
    assert_eq!(
        header("X-HubSpot-RateLimit-Interval-Milliseconds").as_deref(),
        Some("10000")
    );
    assert!(header("X-HubSpot-Correlation-Id").is_some());
    for expected in [200, 200, 429] {
        assert_eq!(account.get(COMPANIES).await.0, expected);
    }
    let refused = account.send("GET", COMPANIES, None).await.expect("an answer");
    assert!(refused.headers().get("retry-after").is_none());
    let body: Value = refused.json().await.expect("JSON");
    assert_eq!(
        (&body["policyName"], &body["errorType"]),
        (&json!("TEN_SECONDLY_ROLLING"), &json!("RATE_LIMIT"))
    );
    assert_eq!(account.sim.max_in_window(10_000), 5);
    // The limit is per app.
    account.sim.add_token("other", 999);
    let url = format!("{}{COMPANIES}", account.sim.base_url());
    let other = account
        .http
        .get(url)
        .bearer_auth("other")
        .send()
        .await
        .expect("an answer");
    assert_eq!(other.status(), 200);
    account.sim.set_rate_limit(0);
    account.sim.set_daily_limit(Some(1));
    assert_eq!(account.get(COMPANIES).await.0, 200);
    assert_eq!(account.get(COMPANIES).await.1["policyName"], "DAILY");
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
async fn faults() {
    let account = Account::warp().await;
    let id = account.company("Acme", "B-1");
    let name = |value: &str| json!({"inputs": [update(&id, json!({"name": value}))]});
    let path = format!("{COMPANIES}/batch/update");
    let fault = |kind: FaultKind| {
        account.sim.fault(Fault {
            op: Op::BatchUpdate,
            kind,
            times: 1,
        })
    };
    for (kind, status) in [
        (FaultKind::Status(423), 423),
        (FaultKind::Status(502), 502),
        (FaultKind::RateLimited(Policy::TenSecondlyRolling), 429),
        (FaultKind::Migrating(7), 477),
        (FaultKind::Unauthorized, 401),
        (FaultKind::Expired, 401),
        (FaultKind::Forbidden, 403),
    ] {
        fault(kind);
        let answer = account
            .send("POST", &path, Some(&name("never")))
            .await
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), status);
        let wait = answer
            .headers()
            .get("retry-after")
            .map(|value| value.as_bytes().to_vec());
        assert_eq!(wait, (status == 477).then(|| b"7".to_vec()));
        assert_eq!(account.value(&id, "name").as_deref(), Some("Acme"));
    }
    fault(FaultKind::CloseBeforeApply);
    assert!(account.send("POST", &path, Some(&name("never"))).await.is_err());
    assert_eq!(account.value(&id, "name").as_deref(), Some("Acme"));
    fault(FaultKind::CloseAfterApply);
    assert!(account.send("POST", &path, Some(&name("closed"))).await.is_err());
    assert_eq!(account.value(&id, "name").as_deref(), Some("closed"));
    fault(FaultKind::TimeoutAfterApply);
    assert_eq!(account.call("POST", &path, name("524")).await.0, 524);
    assert_eq!(account.value(&id, "name").as_deref(), Some("524"));
    fault(FaultKind::LateApply(150));
    assert!(account.send("POST", &path, Some(&name("late"))).await.is_err());
    assert_eq!(account.value(&id, "name").as_deref(), Some("524"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(account.value(&id, "name").as_deref(), Some("late"));
    fault(FaultKind::Delay(100));
    let before = Instant::now();
    assert_eq!(account.call("POST", &path, name("slow")).await.0, 200);
    assert!(before.elapsed() >= Duration::from_millis(100));
    assert_eq!(account.sim.pending_faults(), 0);
    account.sim.fault_by_chance(Op::Any, FaultKind::Status(503), 1.0);
    assert_eq!(account.get(COMPANIES).await.0, 503);
    account.sim.clear_faults();
    assert_eq!(account.get(COMPANIES).await.0, 200);
}

#[tokio::test]
async fn gates() {
    let account = Account::warp().await;
    let id = account.company("Acme", "B-1");
    let gate = account.sim.gate(Op::BatchUpdate);
    let body = json!({"inputs": [update(&id, json!({"name": "held"}))]});
    let call = account.batch("update", body);
    let during = async {
        gate.reached().await;
        assert_eq!(account.value(&id, "name").as_deref(), Some("held"));
        account.sim.ui_set("companies", &id, "name", "person").expect("set");
        gate.release();
    };
    let ((status, body), ()) = tokio::join!(call, during);
    assert_eq!(
        (status, &body["results"][0]["properties"]["name"]),
        (200, &json!("held"))
    );
    assert_eq!(account.value(&id, "name").as_deref(), Some("person"));
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
async fn cleared_event_forms_and_subscriptions() {
    let account = Account::warp().await;
    let id = account.company("Acme", "B-1");
    for (form, shown) in [
        (ClearedForm::Empty, Some(json!(""))),
        (ClearedForm::Null, Some(Value::Null)),
        (ClearedForm::Absent, None),
    ] {
        account.sim.set_behaviour(|behaviour| behaviour.cleared_event = form);
        account.sim.ui_set("companies", &id, "phone", "1").expect("set");
        account.sim.ui_set("companies", &id, "phone", "").expect("cleared");
        assert_eq!(
            account
                .sim
                .events()
                .last()
                .and_then(|event| event.get("propertyValue").cloned()),
            shown
        );
    }
    account
        .sim
        .set_subscriptions(Some(vec![("company.propertyChange".into(), Some("name".into()))]));
    let before = account.sim.events().len();
    account
        .sim
        .ui_set_many("companies", &id, &[("name", "x"), ("phone", "2")])
        .expect("set");
    assert_eq!(account.sim.events().len(), before + 1);
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
