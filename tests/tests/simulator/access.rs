//! Paths, tokens and scopes.

use super::{Account, COMPANIES};
use serde_json::Value;
use serde_json::json;

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
