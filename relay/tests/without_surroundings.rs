//! A relay whose database and HubSpot are away: it starts, says so, takes nothing in, and stops when asked.

use std::time::{Duration, Instant};

use hubspot_relay::{Config, Relay};
use tokio_util::sync::CancellationToken;

const BODY: &str = "[]";
/// SHA-256 of the secret and the body: a v1 signature.
const SIGNATURE: &str = "dd9714774fe02ae08de7379b952583d669974c401f20179df269dcb3de593349";

/// A loopback address on which nobody listens.
fn nobody() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn config() -> Config {
    let text = format!(
        "[database]\nurl = 'postgres://relay@{}/app'\n\
         [hubspot]\naccess_token = 'pat-test'\nbase_url = 'http://{}'\nportal_id = 1\n\
         [webhook]\nlisten = '127.0.0.1:0'\nclient_secret = '11111111-2222-3333-4444-555555555555'\n\
         [admin]\nlisten = '127.0.0.1:0'\n",
        nobody(),
        nobody()
    );
    Config::from_toml(&text).unwrap()
}

#[tokio::test]
async fn says_so_takes_nothing_in_and_stops() {
    let relay = Relay::bind(config()).await.unwrap();
    let admin = format!("http://{}", relay.admin_address());
    let webhook = format!("http://{}/v1/webhooks/hubspot/company", relay.webhook_address());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(relay.run(shutdown.clone()));

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| http.get(format!("{admin}{path}")).send().await.unwrap();
    assert_eq!(get("/healthz").await.status(), 200);
    assert_eq!(get("/readyz").await.status(), 503);
    let post = async |signature: &str| {
        let request = http.post(&webhook).header("X-HubSpot-Signature", signature).body(BODY);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("00").await, 401);
    assert_eq!(post(SIGNATURE).await, 503);
    assert_eq!(http.get(&webhook).send().await.unwrap().status(), 405);
    let metrics = get("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains("hubspot_relay_webhook_signature_failures_total 1"),
        "{metrics}"
    );

    let asked = Instant::now();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config();
    config.admin.listen = taken.local_addr().unwrap();
    let error = Relay::bind(config).await.err().unwrap().to_string();
    assert!(error.contains("admin.listen"), "{error}");
}
