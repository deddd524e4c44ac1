//! The simulator refuses what HubSpot refuses.

mod access;
mod batches;
mod limits;
mod records;

use hubspot_sync_tests::simulator::SimConfig;
use hubspot_sync_tests::simulator::Simulator;
use serde_json::Value;
use serde_json::json;

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
