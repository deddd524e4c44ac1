//! What the commands of `hubspot-relay` print, and what their exit codes say, against a database and a portal.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::program::relay_folder;
use hubspot_sync_tests::world::World;
use serde_json::{Value as Json, json};

/// The commands of one world.
struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    fn new(world: &World) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("relay.toml"), world.config_toml(&world.url, ""))?;
        Ok(Self { folder })
    }

    /// Exit code, standard output and standard error.
    fn run(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
        let output = Command::new(relay_folder()?.join("hubspot-relay"))
            .args(arguments)
            .args(["--config", "relay.toml"])
            .current_dir(self.folder.path())
            .env_remove("SUDO_USER")
            .env("USER", "ada")
            .output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    /// All of standard output is one JSON document.
    fn json(&self, code: i32, arguments: &[&str]) -> Result<Json> {
        let (seen, out, err) = self.run(arguments)?;
        ensure!(seen == Some(code), "{arguments:?} ended with {seen:?}: {out}{err}");
        serde_json::from_str(&out).with_context(|| format!("{arguments:?}: {out}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_are_listed_and_decided() -> Result<()> {
    let world = World::start_with("terminal_conflicts", |mapping| {
        mapping["company_name"]["conflict_resolution"] = json!("MANUAL");
    })
    .await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    let terminal = Terminal::new(&world)?;
    let (code, out, _) = terminal.run(&["conflicts"])?;
    assert_eq!((code, out.as_str()), (Some(0), "no conflict waits for a person\n"));
    let mut conflicts = Vec::new();
    for (here, there) in [("Acme Ltd", "Acme Limited"), ("Acme AG", "Acme GmbH")] {
        world.sim.hold_webhooks();
        world.person_sets(&id, "name", there)?;
        world.update(&key, &format!("company_name = '{here}'")).await?;
        world.sim.release_webhooks();
        world
            .until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")
            .await?;
        let (code, out, _) = terminal.run(&["conflicts"])?;
        ensure!(
            code == Some(0) && out.contains(here) && out.contains(there) && out.contains("1 in all"),
            "{out}"
        );
        let listed = terminal.json(0, &["conflicts", "--json", "--entity-type", "customer"])?;
        let conflict = listed["rows"][0]["id"].as_i64().context("id")?;
        let none = terminal.json(0, &["conflicts", "--json", "--field", "tier"])?;
        assert_eq!((&listed["total"], &none["total"]), (&json!(1), &json!(0)));
        let number = conflict.to_string();
        let how: &[&str] = match conflicts.len() {
            0 => &["--keep", "hubspot"],
            _ => &["--value", "-Acme of all-"],
        };
        let decided = terminal.json(0, &[&["conflicts", "--json", "--resolve", &number], how].concat())?;
        assert_eq!(decided["done"], json!([conflict]));
        // Once more: somebody was quicker, and the exit code says so.
        let (code, out, _) = terminal.run(&["conflicts", "--resolve", &number, "--keep", "warp"])?;
        ensure!(code == Some(1) && out.contains("resolved already"), "{code:?} {out}");
        conflicts.push(conflict);
        world.settle().await?;
    }
    assert_eq!(world.row(&key, "company_name").await?.as_deref(), Some("-Acme of all-"));
    world.until_hubspot(&id, "name", Some("-Acme of all-")).await?;
    let by = "SELECT string_agg(DISTINCT resolved_by, ', ') FROM hubspot.conflicts";
    assert_eq!(world.text(by).await?.as_deref(), Some("ada (postgres)"));
    // What cannot be, and half a decision.
    let (code, _, err) = terminal.run(&["conflicts", "--resolve", "4711", "--keep", "warp"])?;
    ensure!(code == Some(1) && err.contains("there is no conflict 4711"), "{err}");
    for half in [
        &["conflicts", "--resolve", "1"][..],
        &["conflicts", "--keep", "warp"][..],
    ] {
        assert_eq!(terminal.run(half)?.0, Some(2), "{half:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_that_prints_data_prints_json_when_asked() -> Result<()> {
    let world = World::start("terminal_json").await?;
    world.linked("BAN-1", "Acme").await?;
    let terminal = Terminal::new(&world)?;
    let check = terminal.json(0, &["check", "--json"])?;
    ensure!(
        check
            .as_array()
            .is_some_and(|all| all.len() > 5 && all.iter().all(|f| f["ok"] == true)),
        "{check}"
    );
    let made = terminal.json(0, &["provision", "--dry-run", "--json"])?;
    ensure!(made.as_array().is_some_and(|all| !all.is_empty()), "{made}");
    let draft = terminal.json(0, &["init", "public.customers", "companies", "--json"])?;
    ensure!(
        draft["mapping"]["ban"].is_object() && draft["notes"].is_array(),
        "{draft}"
    );
    let compared = terminal.json(0, &["reconcile", "--entity-type", "customer", "--dry-run", "--json"])?;
    assert_eq!(
        (
            &compared[0]["run"]["kind"],
            &compared[0]["run"]["status"],
            &compared[0]["summary"]
        ),
        (&json!("full"), &json!("finished"), &json!([]))
    );
    let loaded = [
        "backfill",
        "--entity-type",
        "customer",
        "--direction",
        "warp-to-hubspot",
        "--json",
    ];
    assert_eq!(terminal.json(0, &loaded)?[0]["run"]["kind"], "backfill");
    // A fault is in the JSON and in the exit code.
    world.sql.batch_execute("SELECT hubspot.arm(4711)").await?;
    let check = terminal.json(1, &["check", "--json"])?;
    ensure!(
        check
            .as_array()
            .is_some_and(|all| all.iter().any(|f| f["ok"] == false && f["mend"].is_string())),
        "{check}"
    );
    Ok(())
}
