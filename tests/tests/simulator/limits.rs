//! Search, rate limits, faults and gates.

use super::{Account, COMPANIES, update};
use hubspot_sync_tests::simulator::ClearedForm;
use hubspot_sync_tests::simulator::Fault;
use hubspot_sync_tests::simulator::FaultKind;
use hubspot_sync_tests::simulator::Op;
use hubspot_sync_tests::simulator::Policy;
use hubspot_sync_tests::simulator::SimConfig;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

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
