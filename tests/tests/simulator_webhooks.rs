//! The simulator's webhooks: form, signatures, echoes, retries and faults.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hubspot_sync_tests::simulator::{SimConfig, Simulator, WebhookConfig, WebhookFaults, signature};
use serde_json::{Value, json};

/// What the receiver got, and how many deliveries it still refuses.
#[derive(Default)]
struct Inbox {
    requests: Mutex<Vec<(HeaderMap, Bytes)>>,
    refuse: AtomicU32,
    sleep_ms: AtomicU32,
}

impl Inbox {
    fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn events(&self) -> Vec<Value> {
        let bodies = self.requests();
        bodies
            .iter()
            .flat_map(|(_, body)| serde_json::from_slice::<Vec<Value>>(body).expect("an array of events"))
            .collect()
    }
}

async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    inbox
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((headers, body));
    tokio::time::sleep(Duration::from_millis(inbox.sleep_ms.load(Ordering::SeqCst).into())).await;
    let refuse = |left: u32| left.checked_sub(1);
    match inbox.refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse) {
        Ok(_) => StatusCode::UNAUTHORIZED,
        Err(_) => StatusCode::OK,
    }
}

async fn start(config: WebhookConfig) -> (Simulator, Arc<Inbox>) {
    let inbox = Arc::new(Inbox::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hubspot/webhook", listener.local_addr().expect("an address"));
    let app = Router::new()
        .route("/hubspot/webhook", post(receive))
        .with_state(Arc::clone(&inbox));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let config = SimConfig {
        webhook_url: Some(url),
        webhooks: config,
        ..SimConfig::warp()
    };
    (Simulator::start(config).await.expect("the simulator starts"), inbox)
}

fn quick() -> WebhookConfig {
    WebhookConfig {
        retry_delay: Duration::from_millis(20),
        ..WebhookConfig::default()
    }
}

#[tokio::test]
async fn events_are_signed_and_echo_own_writes() {
    let (sim, inbox) = start(quick()).await;
    let id = sim
        .ui_create("companies", &[("name", "Zoë & Søn 🚀")])
        .expect("created");
    let url = format!("{}/crm/v3/objects/companies/{id}", sim.base_url());
    let patch = json!({"properties": {"phone": "1"}});
    let http = reqwest::Client::new();
    http.patch(url)
        .bearer_auth(sim.token())
        .json(&patch)
        .send()
        .await
        .expect("an answer");
    sim.flush().await;
    let events = inbox.events();
    let by = |kind: &str, name: &str| {
        let found = events.iter().find(|it| {
            it["subscriptionType"] == json!(kind) && it["propertyName"].as_str().unwrap_or_default() == name
        });
        found.cloned().expect("the event")
    };
    let created = by("company.creation", "");
    assert_eq!(created["objectId"].to_string(), id);
    assert_eq!(
        (&created["changeSource"], &created["sourceId"]),
        (&json!("CRM_UI"), &json!("userId:77"))
    );
    assert_eq!(
        (&created["portalId"], &created["appId"]),
        (&json!(62515), &json!(54321))
    );
    let echo = by("company.propertyChange", "phone");
    assert_eq!(
        (&echo["changeSource"], &echo["sourceId"]),
        (&json!("INTEGRATION"), &json!("54321"))
    );
    assert_eq!(
        (&echo["propertyValue"], &echo["attemptNumber"]),
        (&json!("1"), &json!(0))
    );
    assert_eq!(
        echo["occurredAt"],
        json!(sim.history("companies", &id, "phone")[0].timestamp_ms)
    );
    let target = sim.config().webhook_url.clone().expect("a target");
    for (headers, body) in inbox.requests() {
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        assert_eq!(header("x-hubspot-signature-version"), "v1");
        assert_eq!(header("x-hubspot-signature"), signature::v1(sim.client_secret(), &body));
        let stamp = header("x-hubspot-request-timestamp");
        let v3 = signature::v3(sim.client_secret(), "POST", &target, &body, stamp);
        assert_eq!(header("x-hubspot-signature-v3"), v3);
    }
}

#[tokio::test]
async fn batches_hold_at_most_100_events() {
    let (sim, inbox) = start(quick()).await;
    sim.hold_webhooks();
    let id = sim.ui_create("companies", &[("name", "0")]).expect("created");
    for n in 1..=250 {
        sim.ui_set("companies", &id, "name", &n.to_string()).expect("set");
    }
    sim.flush().await;
    assert!(inbox.requests().is_empty());
    assert_eq!(sim.held_webhooks().len(), 252);
    assert_eq!(sim.deliver_held(|event| event["propertyValue"] == json!("77")), 1);
    sim.flush().await;
    assert_eq!(inbox.events().len(), 1);
    assert_eq!(sim.discard_held(|event| event["propertyValue"] == json!("78")), 1);
    sim.release_webhooks();
    sim.flush().await;
    assert_eq!(inbox.events().len(), 251);
    assert!(
        sim.deliveries()
            .iter()
            .all(|delivery| delivery.events <= 100 && delivery.status == 200)
    );
}

#[tokio::test]
async fn refused_deliveries_are_repeated() {
    let (sim, inbox) = start(quick()).await;
    inbox.refuse.store(2, Ordering::SeqCst);
    sim.ui_create("companies", &[("name", "Acme")]).expect("created");
    sim.flush().await;
    let attempts: Vec<Value> = inbox
        .events()
        .iter()
        .filter(|event| event["subscriptionType"] == json!("company.creation"))
        .map(|event| event["attemptNumber"].clone())
        .collect();
    assert_eq!(attempts, [json!(0), json!(1), json!(2)]);
    assert_eq!(sim.given_up(), 0);
    inbox.refuse.store(100, Ordering::SeqCst);
    sim.ui_create("companies", &[]).expect("created");
    sim.flush().await;
    assert_eq!(sim.given_up(), 1);
}

#[tokio::test]
async fn slow_receivers_time_out() {
    let (sim, inbox) = start(WebhookConfig {
        timeout: Duration::from_millis(100),
        max_attempts: 2,
        ..quick()
    })
    .await;
    inbox.sleep_ms.store(400, Ordering::SeqCst);
    sim.ui_create("companies", &[]).expect("created");
    sim.flush().await;
    let statuses: Vec<u16> = sim.deliveries().iter().map(|delivery| delivery.status).collect();
    assert_eq!((statuses, sim.given_up()), (vec![0, 0], 1));
}

#[tokio::test]
async fn webhook_faults_change_the_stream() {
    let (sim, inbox) = start(quick()).await;
    let id = sim.ui_create("companies", &[]).expect("created");
    sim.flush().await;
    sim.hold_webhooks();
    sim.webhook_faults(WebhookFaults {
        drop: 0.2,
        double: 0.3,
        reorder: 0.5,
        delay: 0.2,
        delay_ms: 50,
    });
    for n in 0..200 {
        sim.ui_set("companies", &id, "name", &n.to_string()).expect("set");
    }
    sim.release_webhooks();
    sim.flush().await;
    let values: Vec<u32> = inbox
        .events()
        .iter()
        .filter_map(|event| event["propertyValue"].as_str()?.parse().ok())
        .collect();
    let mut counts: HashMap<u32, u32> = HashMap::new();
    for value in &values {
        *counts.entry(*value).or_default() += 1;
    }
    assert!(
        counts.len() < 190 && counts.len() > 120,
        "{} of 200 arrived",
        counts.len()
    );
    assert!(counts.values().filter(|count| **count == 2).count() > 20);
    assert!(!values.is_sorted());
    assert_eq!(sim.events().len(), 201);
}

#[tokio::test]
async fn custom_objects_use_the_generic_form() {
    let (sim, inbox) = start(quick()).await;
    let id = sim.ui_create("subscriptions", &[("name", "x")]).expect("created");
    sim.ui_delete("2-1000", &id).expect("deleted");
    sim.ui_restore("2-1000", &id).expect("restored");
    sim.flush().await;
    let mut kinds: Vec<String> = inbox
        .events()
        .iter()
        .filter(|event| event["objectTypeId"] == json!("2-1000"))
        .filter_map(|event| event["subscriptionType"].as_str().map(str::to_owned))
        .collect();
    kinds.sort();
    assert_eq!(
        kinds,
        [
            "object.creation",
            "object.deletion",
            "object.propertyChange",
            "object.restore"
        ]
    );
    sim.stop().await;
    assert!(reqwest::get(sim.base_url()).await.is_err());
}
