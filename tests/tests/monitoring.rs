//! Metrics, alert rules, dashboard and runbook: each is held against a relay that runs.
//!
//! The rules' unit tests are promtool's; here a real Prometheus scrapes a relay and answers every query of the dashboard.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hubspot_sync_tests::cluster::connect;
use hubspot_sync_tests::simulator::{Fault, FaultKind, Op};
use hubspot_sync_tests::world::{RunningRelay, World};
use serde_json::Value as Json;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../relay/deploy")
}

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(deploy().join(file)).with_context(|| file.to_owned())
}

/// Names of our metrics in a text, `_bucket` and the like left on.
fn metric_names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("hubspot_relay_") || word.starts_with("hubspot_sync_"))
        // The two prefixes alone, as prose has them.
        .filter(|word| !word.ends_with('_'))
        .map(str::to_owned)
        .collect()
}

/// The names after `- alert: `.
fn alerts(rules: &str) -> Vec<&str> {
    rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect()
}

fn promtool(args: &[&str], folder: &Path) -> Result<(bool, String)> {
    let output = Command::new("promtool")
        .args(args)
        .current_dir(folder)
        .output()
        .context("promtool is missing: run make setup")?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn the_rules_are_sound_and_each_alert_fires_and_is_silent_when_it_should() -> Result<()> {
    let (sound, text) = promtool(&["check", "rules", "alerts.yml"], &deploy())?;
    ensure!(sound, "{text}");
    let (passed, text) = promtool(&["test", "rules", "alerts_test.yml"], &deploy())?;
    ensure!(passed, "{text}");

    let (rules, tests, runbook) = (read("alerts.yml")?, read("alerts_test.yml")?, read("RUNBOOK.md")?);
    let names = alerts(&rules);
    for expected in [
        "HighConflictRate",
        "SyncQueueBacklog",
        "HubSpotAPIErrors",
        "RelayDown",
        "AuthFailed",
        "QuotaNearlySpent",
        "OldestChangeTooOld",
        "WebhookSilence",
        "ClockOffset",
    ] {
        assert!(names.contains(&expected), "{expected} is missing");
    }
    for name in &names {
        let blocks: Vec<&str> = tests
            .split("alertname: ")
            .filter(|b| b.starts_with(&format!("{name}\n")))
            .collect();
        assert!(
            blocks.iter().any(|b| b.contains("exp_labels")),
            "{name} never fires in alerts_test.yml"
        );
        assert!(
            blocks.iter().any(|b| b.contains("exp_alerts: []")),
            "{name} is never silent in alerts_test.yml"
        );
        assert!(
            runbook.contains(&format!("\n## {name}\n")),
            "{name} has no section in RUNBOOK.md"
        );
        assert!(
            rules.contains(&format!("runbook: \"RUNBOOK.md#{}\"", name.to_lowercase())),
            "{name} does not name its section"
        );
    }
    for section in runbook.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(names.contains(&section), "RUNBOOK.md has {section}, which is no alert");
    }
    Ok(())
}

/// The unit tests of the rules would notice: each threshold moved far away makes them fail.
#[test]
fn the_tests_of_the_rules_can_fail() -> Result<()> {
    let (rules, tests) = (read("alerts.yml")?, read("alerts_test.yml")?);
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("alerts_test.yml"), tests)?;
    for (from, to) in [
        ("> 0.05", "> 0.5"),
        ("> 1000", "> 100000"),
        ("{class!=\"ok\"}[5m])) /", "{class=\"ok\"}[5m])) /"),
        ("for: 10m", "for: 1m"),
        ("< 0.1", "< 0.01"),
        (
            "state=\"webhooks_expected\"} ) == 1",
            "state=\"webhooks_expected\"}) == 0",
        ),
    ] {
        let from = from.replace("} )", "})");
        ensure!(rules.contains(&from), "{from} is not in alerts.yml");
        std::fs::write(folder.path().join("alerts.yml"), rules.replace(&from, to))?;
        let (passed, _) = promtool(&["test", "rules", "alerts_test.yml"], folder.path())?;
        assert!(!passed, "nobody noticed {from} turned into {to}");
    }
    Ok(())
}

/// A relay that has done everything once: delivered, failed, met a conflict, taken a webhook in and refused one.
async fn busy_world(name: &str) -> Result<(World, RunningRelay)> {
    let mut world = World::without_relay(name, |_| ()).await?;
    world
        .sql
        .batch_execute("SELECT hubspot.import_mapping('customer', 'customers', 'companies', hubspot.export_mapping('customer'), '{\"freshness_target_seconds\": 60}')")
        .await?;
    let toml = world
        .config_toml(&world.url, "")
        .replace("[hubspot]\n", "[hubspot]\nrequests_per_day = 100000\n");
    let relay = World::run_config(hubspot_relay::Config::from_toml(&toml)?).await?;
    let url = relay.webhook_url.clone();
    world.adopt_relay(relay);
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    // Everything fails for a moment.
    world.sim.fault(Fault {
        op: Op::BatchUpdate,
        kind: FaultKind::Status(500),
        times: 1,
    });
    world.update(&key, "status = 'SUSPENDED'").await?;
    world.until_hubspot(&id, "warp_status", Some("SUSPENDED")).await?;
    world.person_sets(&id, "name", "Acme there")?;
    world.update(&key, "company_name = 'Acme here'").await?;
    world.update(&key, "status = 'BOGUS'").await?;
    world.until("EXISTS (SELECT 1 FROM hubspot.failed_syncs)").await?;
    world.settle().await?;
    let http = reqwest::Client::new();
    ensure!(
        http.post(url)
            .header("X-HubSpot-Signature", "00")
            .body("[]")
            .send()
            .await?
            .status()
            == 401
    );
    let relay = world.take_relay().context("a relay")?;
    Ok((world, relay))
}

async fn scrape(relay: &RunningRelay) -> Result<String> {
    Ok(reqwest::get(format!("{}/metrics", relay.admin_url))
        .await?
        .text()
        .await?)
}

/// Metrics with a sample, as Prometheus names them.
fn sampled(scrape: &str) -> BTreeSet<String> {
    scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_that_is_used_is_scraped_and_every_scraped_one_is_documented() -> Result<()> {
    let (world, relay) = busy_world("scrape").await?;
    let text = scrape(&relay).await?;
    ensure!(
        text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1,
        "{text}"
    );
    let there = sampled(&text);
    for file in ["alerts.yml", "alerts_test.yml", "grafana-dashboard.json", "RUNBOOK.md"] {
        let used = metric_names(&read(file)?);
        ensure!(used.len() >= 3, "{file} names no metrics");
        let missing: Vec<&String> = used.difference(&there).collect();
        assert!(
            missing.is_empty(),
            "{file} names {missing:?}, which a relay does not show:\n{text}"
        );
    }
    // The README documents each, without Prometheus' own endings of histograms.
    let readme = std::fs::read_to_string(deploy().join("../README.md"))?;
    let documented = metric_names(&readme);
    let plain = |name: &String| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name)
            .to_owned()
    };
    let silent: BTreeSet<String> = there
        .iter()
        .map(plain)
        .filter(|name| !documented.contains(name))
        .collect();
    assert!(silent.is_empty(), "not in relay/README.md: {silent:?}");
    let invented: BTreeSet<&String> = documented
        .iter()
        .filter(|name| !there.iter().any(|t| plain(t) == **name))
        .collect();
    assert!(invented.is_empty(), "in relay/README.md, but not shown: {invented:?}");
    // What is shown is so: values against the database's own.
    let value = |name: &str| -> Option<f64> { text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok()) };
    assert_eq!(value("hubspot_sync_links "), Some(1.0));
    assert_eq!(value("hubspot_sync_failures_open "), Some(1.0));
    assert_eq!(value("hubspot_sync_quota_limit "), Some(100_000.0));
    assert_eq!(value("hubspot_sync_queue_depth "), Some(0.0));
    let delivered = world.count("FROM hubspot.sync_log WHERE outcome = 'delivered'").await?;
    ensure!(delivered > 0);
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let delivered = delivered as f64;
    assert_eq!(value("hubspot_sync_delivery_seconds_count "), Some(delivered));
    assert_eq!(
        value("hubspot_sync_delivery_seconds_bucket{le=\"+Inf\"} "),
        Some(delivered)
    );
    assert_eq!(value("hubspot_relay_webhook_signature_failures_total "), Some(1.0));
    assert_eq!(
        value("hubspot_sync_mapping_freshness_target_seconds{entity_type=\"customer\"} "),
        Some(60.0)
    );
    relay.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_the_relays_own_metrics_remain() -> Result<()> {
    let world = World::without_relay("figures_gone", |_| ()).await?;
    let nowhere = world.config_toml("postgres://nobody@127.0.0.1:9/none", "");
    let relay = World::run_config(hubspot_relay::Config::from_toml(&nowhere)?).await?;
    let there = sampled(&scrape(&relay).await?);
    assert!(
        there.contains("hubspot_relay_state") && !there.iter().any(|n| n.starts_with("hubspot_sync_")),
        "{there:?}"
    );
    relay.stop().await;
    Ok(())
}

/// A Prometheus of our own that scrapes one relay every second. It ends with this value.
struct Prometheus {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(target: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let rules = deploy().join("alerts.yml").canonicalize()?;
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n  - job_name: relay\n    static_configs: [{{targets: ['{target}']}}]\n",
            rules.display()
        );
        std::fs::write(folder.path().join("prometheus.yml"), config)?;
        let child = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                folder.path().join("prometheus.yml").display()
            ))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("prometheus is missing: run make setup")?;
        Ok(Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            _folder: folder,
        })
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Json> {
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url), query)?;
        Ok(serde_json::from_str(&reqwest::get(url).await?.text().await?)?)
    }

    /// What a query answers.
    async fn query(&self, query: &str) -> Result<Vec<Json>> {
        let answer = self.get("/api/v1/query", &[("query", query)]).await?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until the query answers something.
    async fn until(&self, query: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.query(query).await {
                Ok(found) if !found.is_empty() => return Ok(()),
                last if begun.elapsed() > Duration::from_secs(60) => bail!("no answer to {query}: {last:?}"),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_answers_every_query_of_the_dashboard() -> Result<()> {
    let (world, relay) = busy_world("dashboard").await?;
    let target = relay.admin_url.strip_prefix("http://").context("http")?;
    let prometheus = Prometheus::start(target)?;
    // Three scrapes: rates have something to work on.
    prometheus
        .until("count_over_time(hubspot_sync_queue_depth[1m]) >= 3")
        .await?;
    let dashboard: Json = serde_json::from_str(&read("grafana-dashboard.json")?)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let mut queries = 0;
    for panel in panels {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"]
                .as_str()
                .context("expr")?
                .replace("$__rate_interval", "1m");
            assert!(
                !prometheus.query(&query).await?.is_empty(),
                "{} shows nothing: {query}",
                panel["title"]
            );
            queries += 1;
        }
    }
    assert!(queries >= 30, "only {queries} queries");
    // The five key figures of the strategy are there by name.
    let titles: Vec<&str> = panels.iter().filter_map(|p| p["title"].as_str()).collect();
    for title in [
        "Sync latency",
        "Conflict rate",
        "Error rate",
        "Queue depth",
        "API call rate",
    ] {
        assert!(titles.contains(&title), "{title} is not among {titles:?}");
    }
    // The rules are loaded and evaluate without an error; one that waits for nothing but its time is pending.
    let rules = prometheus.get("/api/v1/rules", &[]).await?;
    let rules: Vec<Json> = rules["data"]["groups"][0]["rules"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert_eq!(rules.len(), alerts(&read("alerts.yml")?).len());
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let state = |name: &str| rules.iter().find(|r| r["name"] == name).map(|r| r["state"].clone());
    assert_eq!(state("FailedSyncsWaiting"), Some("pending".into()));
    assert_eq!(state("RelayDown"), Some("inactive".into()));
    drop(world);
    relay.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_prometheus_the_database_raises_tells_and_clears_alerts() -> Result<()> {
    let world = World::without_relay("alerts", |_| ()).await?;
    let (client, mut connection) = tokio_postgres::connect(&world.url, tokio_postgres::NoTls).await?;
    let (heard, mut notices) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let tokio_postgres::AsyncMessage::Notification(n) = message {
                let _ = heard.send(n.payload().to_owned());
            }
        }
    });
    client.batch_execute("LISTEN hubspot_alert").await?;
    let judge = async |own: &str| -> Result<Vec<(String, String)>> {
        let row = world
            .sql
            .query_one(&format!("SELECT hubspot.relay_alerts('r1', '{own}')"), &[])
            .await?;
        let changes: Json = row.get(0);
        Ok(changes
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| {
                (
                    c["alert"].as_str().unwrap_or_default().to_owned(),
                    c["state"].as_str().unwrap_or_default().to_owned(),
                )
            })
            .collect())
    };
    let pair = |a: &str, s: &str| (a.to_owned(), s.to_owned());
    assert_eq!(judge("{}").await?, []);
    let refused = r#"{"auth_failed": true}"#;
    assert_eq!(judge(refused).await?, [pair("AuthFailed", "raised")]);
    // It stands: nothing is told twice.
    assert_eq!(judge(refused).await?, []);
    assert_eq!(
        world
            .count("FROM hubspot.alerts WHERE alert = 'AuthFailed' AND source = 'r1' AND severity = 'critical'")
            .await?,
        1
    );
    let notice: Json = serde_json::from_str(&notices.recv().await.context("a notification")?)?;
    assert_eq!(
        (&notice["alert"], &notice["state"]),
        (&Json::from("AuthFailed"), &Json::from("raised"))
    );
    // What another relay sees is not this one's to clear while that one lives.
    world
        .sql
        .batch_execute("SELECT hubspot.relay_hello('r1', 'x', 1); SELECT hubspot.relay_alerts('r2', '{}')")
        .await?;
    assert_eq!(world.count("FROM hubspot.alerts").await?, 1);
    assert_eq!(judge("{}").await?, [pair("AuthFailed", "cleared")]);
    let notice: Json = serde_json::from_str(&notices.recv().await.context("a notification")?)?;
    assert_eq!(notice["state"], "cleared");

    // Each of the database's own conditions, brought about and ended.
    let deliveries = "INSERT INTO hubspot.sync_log (entity_type, entity_key, side, action, outcome, outcome_at)
        SELECT 'customer', 'x', 'WARP', 'edit', 'delivered', now() - interval '40 minutes'";
    let sample = |figures: &str| {
        format!(
            "INSERT INTO hubspot.metric_history SELECT date_trunc('minute', now()) - n * interval '1 minute', {figures} FROM generate_series(0, 9) n ON CONFLICT (at) DO UPDATE SET figures = excluded.figures"
        )
    };
    let expected = r#"{"webhooks_expected": true}"#;
    for (alert, begin, end) in [
        ("HighConflictRate", "INSERT INTO hubspot.conflicts (entity_type, entity_key, field, kind, strategy, status) SELECT 'customer', n::text, 'tier', 'BOTH_MODIFIED', 'MANUAL', 'open' FROM generate_series(1, 6) n".to_owned(),
         "DELETE FROM hubspot.conflicts"),
        ("SyncQueueBacklog", format!("INSERT INTO hubspot.capture (mapping_id, op, entity_key, captured_at, db_user) SELECT 1, 'F', n::text, now(), 10 FROM generate_series(1, 1001) n; {}", sample("'{\"queue_depth\": 1001}'")),
         "DELETE FROM hubspot.capture; DELETE FROM hubspot.metric_history"),
        ("HubSpotAPIErrors", sample("jsonb_build_object('api_requests_total', 1000 - n * 10, 'api_requests_failed_total', 100 - n * 5)"), "DELETE FROM hubspot.metric_history"),
        ("OldestChangeTooOld", "INSERT INTO hubspot.capture (mapping_id, op, entity_key, captured_at, db_user) SELECT id, 'U', '1', now() - interval '16 minutes', 10 FROM hubspot.object_mapping".to_owned(), "DELETE FROM hubspot.capture"),
        ("FreshnessTargetMissed", "UPDATE hubspot.object_mapping SET options = '{\"freshness_target_seconds\": 60}'; INSERT INTO hubspot.capture (mapping_id, op, entity_key, captured_at, db_user) SELECT id, 'U', '1', now() - interval '2 minutes', 10 FROM hubspot.object_mapping".to_owned(), "DELETE FROM hubspot.capture"),
        ("QuotaNearlySpent", "UPDATE hubspot.quota_day SET calls_per_day = 100, elsewhere = 95, elsewhere_day = (now() AT TIME ZONE zone)::date".to_owned(), "UPDATE hubspot.quota_day SET elsewhere = 0"),
        ("WebhookSilence", deliveries.to_owned(), "DELETE FROM hubspot.sync_log"),
        ("NotArmed", "UPDATE hubspot.binding SET database_name = 'other'".to_owned(), "UPDATE hubspot.binding SET database_name = current_database()"),
        ("SyncPaused", "SELECT hubspot.pause(); UPDATE hubspot.binding SET paused_at = now() - interval '61 minutes'".to_owned(), "SELECT hubspot.resume()"),
        ("FailedSyncsWaiting", "INSERT INTO hubspot.failed_syncs (entity_type, entity_key, field, direction, kind, message, failed_at) VALUES ('customer', '1', 'tier', 'outbound', 'invalid', 'x', now() - interval '61 minutes')".to_owned(), "DELETE FROM hubspot.failed_syncs"),
        ("MappingProblems", "ALTER TABLE customers DISABLE TRIGGER USER".to_owned(), "ALTER TABLE customers ENABLE TRIGGER USER"),
        ("ClockOffset", "UPDATE hubspot.binding SET clock_offset_us = -6000000, clock_measured_at = now()".to_owned(), "UPDATE hubspot.binding SET clock_offset_us = 0"),
    ] {
        world.sql.batch_execute(&begin).await.context(alert)?;
        assert_eq!(judge(expected).await?, [pair(alert, "raised")]);
        world.sql.batch_execute(end).await.context(alert)?;
        assert_eq!(judge(expected).await?, [pair(alert, "cleared")]);
    }
    // What the README marks as seen by the database is what the database judges.
    let readme = std::fs::read_to_string(deploy().join("../README.md"))?;
    let marked: BTreeSet<&str> = readme
        .lines()
        .filter_map(|l| l.strip_prefix("| ")?.split_once(" ◆ |").map(|(name, _)| name))
        .collect();
    let judged = world
        .text("SELECT prosrc FROM pg_proc WHERE proname = 'alert_conditions'")
        .await?;
    let judged = judged.context("alert_conditions")?;
    let judged: BTreeSet<&str> = judged
        .split("SELECT '")
        .skip(1)
        .filter_map(|rest| rest.split('\'').next())
        .collect();
    assert_eq!(judged, marked);
    // A relay that takes no webhooks in does not complain of silence.
    world.sql.batch_execute(deliveries).await?;
    assert_eq!(judge(r#"{"webhooks_expected": false}"#).await?, []);
    Ok(())
}

/// What no relay can tell: that there is none. Somebody asks from outside, such as cron.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_no_relay_runs_is_judged_for_whoever_asks() -> Result<()> {
    let world = World::without_relay("alerts_asked", |_| ()).await?;
    world
        .sql
        .batch_execute("CREATE ROLE alert_admin LOGIN; SELECT hubspot.grant_admin('alert_admin')")
        .await?;
    let admin = connect(&world.url.replace("postgres@", "alert_admin@")).await?;
    let judge = async || -> Result<Vec<(String, String)>> {
        let rows = admin
            .query("SELECT alert, state FROM hubspot.judge_alerts()", &[])
            .await?;
        Ok(rows.iter().map(|r| (r.get(0), r.get(1))).collect())
    };
    let pair = |a: &str, s: &str| (a.to_owned(), s.to_owned());
    assert_eq!(judge().await?, [pair("RelayDown", "raised")]);
    assert_eq!(judge().await?, []);
    // Whether webhooks are missed, a relay knows: whoever asks from outside leaves that as it is.
    let silent =
        "INSERT INTO hubspot.alerts (alert, source, severity, detail) VALUES ('WebhookSilence', '', 'warning', 'x')";
    world.sql.batch_execute(silent).await?;
    // A relay comes, and is seen.
    world
        .sql
        .batch_execute("SELECT hubspot.relay_hello('r1', 'x', 1)")
        .await?;
    assert_eq!(judge().await?, [pair("RelayDown", "cleared")]);
    assert_eq!(
        world
            .count("FROM hubspot.alerts WHERE alert = 'WebhookSilence'")
            .await?,
        1
    );
    // It dies.
    world
        .sql
        .batch_execute("UPDATE hubspot.relay_status SET last_seen_at = now() - interval '121 seconds'")
        .await?;
    assert_eq!(judge().await?, [pair("RelayDown", "raised")]);
    // A database that nobody may work on misses no relay, but says that nobody may.
    world.sql.batch_execute("SELECT hubspot.relay_alerts('r1', '{\"webhooks_expected\": true}'); UPDATE hubspot.binding SET system_identifier = 1").await?;
    assert_eq!(judge().await?, [pair("NotArmed", "raised")]);
    Ok(())
}

/// The histogram holds each delivery once, whatever was counted when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_delivery_is_in_the_histogram_once() -> Result<()> {
    let world = World::without_relay("alerts_histogram", |_| ()).await?;
    let histogram = async || -> Result<(Vec<i64>, f64)> {
        let row = world
            .sql
            .query_one("SELECT hubspot.relay_figures()->'delivery'", &[])
            .await?;
        let delivery: Json = row.get(0);
        let counts = delivery["counts"].as_array().context("counts")?;
        assert_eq!(counts.len(), delivery["bounds"].as_array().context("bounds")?.len() + 1);
        Ok((
            counts.iter().filter_map(Json::as_i64).collect(),
            delivery["seconds"].as_f64().context("seconds")?,
        ))
    };
    let delivered = |age: &str, took: &str| {
        format!(
            "INSERT INTO hubspot.sync_log (entity_type, entity_key, field, side, action, edited_at, outcome, outcome_at)
             SELECT 'customer', '1', 'tier', 'WARP', 'edit', t - interval '{took}', 'delivered', t FROM (SELECT now() - interval '{age}' AS t) s;"
        )
    };
    world.sql.batch_execute(&delivered("2 hours", "20 seconds")).await?;
    world.sql.batch_execute(&delivered("1 second", "7200 seconds")).await?;
    let expected = (vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], 7220.0);
    assert_eq!(histogram().await?, expected);
    // What is older than half a minute is put away, once; asked again, it is the same.
    for _ in 0..3 {
        world
            .sql
            .batch_execute("DELETE FROM hubspot.metric_history; SELECT hubspot.sample_figures()")
            .await?;
        assert_eq!(histogram().await?, expected);
    }
    let stored = "SELECT counts[8]::text || ' ' || counts[13] FROM hubspot.delivery_histogram";
    assert_eq!(world.text(stored).await?.as_deref(), Some("1 0"));
    // The log may go by retention: what was counted stays counted.
    world
        .sql
        .batch_execute("DELETE FROM hubspot.sync_log WHERE outcome_at < now() - interval '1 hour'")
        .await?;
    assert_eq!(histogram().await?, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_an_alert_within_moments_and_readyz_says_so() -> Result<()> {
    let world = World::start("alert_auth").await?;
    let (key, _) = world.linked("BAN-1", "Acme").await?;
    let admin = &world.relay().context("a relay")?.admin_url;
    assert_eq!(reqwest::get(format!("{admin}/healthz")).await?.text().await?, "ok\n");
    assert_eq!(reqwest::get(format!("{admin}/readyz")).await?.status(), 200);
    for op in [Op::BatchUpdate, Op::BatchRead, Op::AccountDetails] {
        world.sim.fault(Fault {
            op,
            kind: FaultKind::Unauthorized,
            times: 1000,
        });
    }
    world.update(&key, "status = 'SUSPENDED'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.alerts WHERE alert = 'AuthFailed')")
        .await?;
    let answer = reqwest::get(format!("{admin}/readyz")).await?;
    assert_eq!(answer.status(), 503);
    let body: Json = serde_json::from_str(&answer.text().await?)?;
    assert_eq!(
        (&body["auth_failed"], &body["database_up"]),
        (&Json::from(true), &Json::from(true))
    );
    // The process is well: restarting it would not help.
    assert_eq!(reqwest::get(format!("{admin}/healthz")).await?.status(), 200);
    Ok(())
}

/// A viewer reads what stands; nobody else does.
#[tokio::test]
async fn viewers_read_alerts_and_freshness_and_a_bad_target_is_refused() -> Result<()> {
    let world = World::without_relay("alert_rights", |_| ()).await?;
    world
        .sql
        .batch_execute("CREATE ROLE alert_viewer LOGIN; SELECT hubspot.grant_viewer('alert_viewer')")
        .await?;
    let viewer = connect(&world.url.replace("postgres@", "alert_viewer@")).await?;
    for table in ["alerts", "freshness"] {
        viewer.query(&format!("SELECT * FROM hubspot.{table}"), &[]).await?;
    }
    for function in [
        "relay_figures()",
        "relay_alerts('r', '{}')",
        "webhook_silence_seconds()",
    ] {
        let refused = viewer.query(&format!("SELECT hubspot.{function}"), &[]).await;
        assert!(refused.is_err(), "{function}");
    }
    for bad in ["0", "\"60\"", "1.5", "-1"] {
        let sql = format!(
            "SELECT hubspot.import_mapping('customer', 'customers', 'companies', hubspot.export_mapping('customer'), '{{\"freshness_target_seconds\": {bad}}}')"
        );
        let error = world.sql.query(&sql, &[]).await.err().context("refused")?;
        let error = error.as_db_error().context("by the database")?;
        assert_eq!(error.code().code(), "22023");
        assert!(format!("{error:?}").contains("freshness_target_seconds"), "{error:?}");
    }
    Ok(())
}
