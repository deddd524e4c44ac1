//! The simulator as a program: its line of output, its control endpoints, its end.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

async fn post(url: String, body: Value) -> (u16, Value) {
    let answer = reqwest::Client::new()
        .post(url)
        .bearer_auth("secret")
        .json(&body)
        .send()
        .await
        .expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn program() {
    // Fails when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hubspot-simulator"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--token",
            "secret",
            "--portal-id",
            "7",
            "--app-id",
            "8",
            "--warp",
        ])
        .args(["--client-secret", "s", "--rate-limit", "100"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the simulator starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let line = lines.next_line().await.expect("a line").expect("a line");
    let base = line.strip_prefix("listening on ").expect("the address").to_owned();
    let sim = |action: &str| format!("{base}/_sim/{action}");
    let values = json!({"name": "Acme", "warp_ban": "B-1"});
    let (status, made) = post(
        sim("ui_create"),
        json!({"object_type": "companies", "properties": values}),
    )
    .await;
    assert_eq!(status, 200, "{made}");
    let id = made["id"].clone();
    let set = json!({"object_type": "companies", "id": id, "property": "phone", "value": "1"});
    assert_eq!(post(sim("ui_set"), set).await.0, 200);
    let (status, refused) = post(
        sim("ui_set"),
        json!({"object_type": "companies", "id": id, "property": "nope"}),
    )
    .await;
    assert_eq!(
        (status, &refused["errors"][0]["code"]),
        (400, &json!("PROPERTY_DOESNT_EXIST"))
    );
    assert_eq!(post(sim("nonsense"), json!({})).await.0, 404);
    let fault = json!({"op": "batch_read", "kind": {"status": 503}, "times": 1});
    assert_eq!(post(sim("fault"), fault).await.0, 200);
    let read = format!("{base}/crm/v3/objects/companies/batch/read");
    let body = json!({"inputs": [{"id": id}], "properties": ["phone"], "propertiesWithHistory": []});
    assert_eq!(post(read.clone(), body.clone()).await.0, 503);
    assert_eq!(post(read, body).await.1["results"][0]["properties"]["phone"], "1");
    assert_eq!(post(sim("count"), json!({"op": "batch_read"})).await.1["count"], 2);
    assert_eq!(post(sim("max_in_window"), json!({"ms": 10_000})).await.1["count"], 2);
    let (_, history) = post(
        sim("history"),
        json!({"object_type": "companies", "id": id, "property": "phone"}),
    )
    .await;
    assert_eq!(history[0]["source_type"], "CRM_UI");
    assert_eq!(post(sim("flush"), json!({})).await.0, 200);
    let pid = child.id().expect("a process id").to_string();
    let killed = Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .await
        .expect("kill runs");
    assert!(killed.success());
    let end = tokio::time::timeout(Duration::from_secs(5), child.wait())
        .await
        .expect("an end")
        .expect("an end");
    assert!(end.success());
}
