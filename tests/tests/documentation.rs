//! Every SQL block and every command of the documentation is run, or says in its own first line why not.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::cluster;
use hubspot_sync_tests::documents::{Block, blocks, parse, repository, statements};
use hubspot_sync_tests::program::relay_folder;
use hubspot_sync_tests::world::World;

/// Pages whose blocks this file runs. `relay/GUIDE.md`, and what the README has for newcomers, are followed by `packages`.
const PAGES: [&str; 4] = [
    "README.md",
    "extension/README.md",
    "relay/README.md",
    "relay/deploy/RUNBOOK.md",
];

/// What a block may be, and nothing else: an unknown one would be run by nobody.
const LANGUAGES: [&str; 7] = ["sql", "psql", "psql-session", "sh", "json", "toml", "text"];

fn of(page: &str, language: &str) -> Result<Vec<Block>> {
    Ok(blocks(page)?.into_iter().filter(|b| b.language == language).collect())
}

#[test]
fn blocks_and_statements_are_found() {
    let page = "x\n```sql\nSELECT 1;  -- one\nSELECT\n  2;\n```\n1. y\n   ```sh (not run: no)\n   a\n     b\n   ```\n";
    let found = parse(page);
    assert_eq!(found.len(), 2);
    assert_eq!(statements(&found[0].text), ["SELECT 1;  -- one", "SELECT\n  2;"]);
    assert_eq!(
        (found[1].skipped(), found[1].text.as_str(), found[1].line),
        (Some("no"), "a\n  b\n", 8)
    );
    assert_eq!(statements("DO $$\nBEGIN;\nEND $$;\n").len(), 1);
}

#[test]
fn every_block_says_what_it_is_and_what_is_not_run_says_why() -> Result<()> {
    for page in PAGES.into_iter().chain(["relay/GUIDE.md"]) {
        for block in blocks(page)? {
            assert!(
                LANGUAGES.contains(&block.language.as_str()),
                "{page}:{}: \"{}\" is no language we run",
                block.line,
                block.language
            );
            if let Some(when) = block.newcomer() {
                assert!(
                    page == "README.md"
                        && ["", "install", "after the first sync", "after the conflict"].contains(&when),
                    "{page}:{}: {when:?} is no time that the newcomer's test knows",
                    block.line
                );
            }
            if block.note.starts_with('(') {
                assert!(
                    block.skipped().is_some_and(|why| why.len() > 10),
                    "{page}:{}: no reason",
                    block.line
                );
            }
        }
    }
    Ok(())
}

/// A world in which what the pages speak of exists: record 42, an open conflict 17 of its phone, an open failure 23.
async fn world(name: &str) -> Result<World> {
    let mut world = World::without_relay(name, |mapping| {
        mapping["phone"] = serde_json::json!({"hubspot_property": "phone", "warp_field": "contact", "warp_field_path": "contact->>'phone'",
            "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "MANUAL"});
        mapping.as_object_mut().map(|m| m.remove("contact_phone"));
    })
    .await?;
    world
        .sql
        .batch_execute("ALTER TABLE customers ALTER COLUMN id RESTART WITH 42; ALTER TABLE hubspot.failed_syncs ALTER COLUMN id RESTART WITH 23")
        .await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-42", "Acme").await?;
    ensure!(key == "42");
    world.sim.hold_webhooks();
    world.person_sets(&id, "phone", "1")?;
    world.update(&key, "contact = '{\"phone\": \"2\"}'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")
        .await?;
    world.update(&key, "status = 'BOGUS'").await?;
    world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    world.sim.release_webhooks();
    world.settle().await?;
    world.take_relay().context("a relay")?.stop().await;
    world
        .sql
        .batch_execute("UPDATE hubspot.sync_state SET conflict_id = 17 WHERE conflict_id IS NOT NULL; UPDATE hubspot.conflicts SET id = 17 WHERE status = 'open'")
        .await?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sql_block_runs() -> Result<()> {
    let world = world("documents").await?;
    let mut run = 0;
    for page in PAGES {
        for block in of(page, "sql")? {
            if block.skipped().is_some() {
                continue;
            }
            for statement in statements(&block.text) {
                // Each by itself: one that decides a conflict must not keep the next from deciding it.
                world.sql.batch_execute("BEGIN").await?;
                let done = world.sql.simple_query(&statement).await;
                world.sql.batch_execute("ROLLBACK").await?;
                done.with_context(|| format!("{page}:{}: {statement}", block.line))?;
                run += 1;
            }
        }
    }
    assert!(run >= 60, "only {run} statements were found");
    Ok(())
}

/// Sessions whose later lines need the earlier ones: psql runs them whole, and takes everything back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_runs_in_psql() -> Result<()> {
    let world = world("sessions").await?;
    let mut run = 0;
    for page in PAGES {
        for block in of(page, "psql-session")? {
            let folder = tempfile::tempdir()?;
            let script = folder.path().join("session.sql");
            std::fs::write(&script, format!("BEGIN;\n{}ROLLBACK;\n", block.text))?;
            let output = Command::new(cluster::shared().bin_dir().join("psql"))
                .args(["-X", "-v", "ON_ERROR_STOP=1", "-f"])
                .arg(&script)
                .arg(&world.url)
                .output()?;
            ensure!(
                output.status.success(),
                "{page}:{}: {}",
                block.line,
                String::from_utf8_lossy(&output.stderr)
            );
            run += statements(&block.text).len();
        }
    }
    assert!(run >= 15, "only {run} statements were found");
    Ok(())
}

/// The README's start, as it stands there: psql with its mapping file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_start_in_the_readme_works() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mapping = of("README.md", "json")?;
    std::fs::write(
        folder.path().join("customer.json"),
        &mapping.first().context("customer.json")?.text,
    )?;
    let cluster = cluster::shared();
    let url = cluster.create_empty_database("readme").await?;
    let script: String = of("README.md", "psql")?.iter().map(|b| b.text.as_str()).collect();
    ensure!(
        script.contains("CREATE EXTENSION") && script.contains("import_mapping"),
        "{script}"
    );
    std::fs::write(folder.path().join("start.sql"), &script)?;
    let output = Command::new(cluster.bin_dir().join("psql"))
        .args(["-X", "-v", "ON_ERROR_STOP=1", "-f", "start.sql", &url])
        .current_dir(folder.path())
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let client = cluster::connect(&url).await?;
    let armed: bool = client
        .query_one("SELECT armed FROM hubspot.status()", &[])
        .await?
        .get(0);
    let fields: i64 = client
        .query_one("SELECT count(*) FROM hubspot.field_mapping WHERE active", &[])
        .await?
        .get(0);
    assert!(armed && fields == 3);
    // Its settings are what the relay takes, with the secrets' files in place.
    let toml = of("README.md", "toml")?;
    let mut text = toml.first().context("relay.toml")?.text.clone();
    for secret in ["token", "client_secret", "admin_token"] {
        let file = folder.path().join(secret);
        std::fs::write(&file, "11111111-2222-3333-4444-555555555555")?;
        let (named, here) = (
            format!("/etc/hubspot-relay/{secret}\""),
            format!("{}\"", file.display()),
        );
        ensure!(text.contains(&named), "{text}");
        text = text.replace(&named, &here);
    }
    hubspot_relay::Config::from_toml(&text)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_runs() -> Result<()> {
    let world = world("commands").await?;
    let folder = tempfile::tempdir()?;
    // Its check finds nothing wrong: the failure the other pages speak of is none of the settings'.
    std::fs::write(folder.path().join("relay.toml"), world.config_toml(&world.url, ""))?;
    let path = format!("{}:{}", relay_folder()?.display(), std::env::var("PATH")?);
    let mut run = 0;
    for page in PAGES {
        for block in of(page, "sh")? {
            // On the machine the tests run on, nothing is installed: that is done in a root folder.
            if block.skipped().is_some() || block.newcomer().is_some() {
                continue;
            }
            for line in block
                .text
                .lines()
                .filter(|l| !l.trim().is_empty() && !l.starts_with('#'))
            {
                // A make target is not run in a test that one of them runs: that it exists, and what it would do, is asked.
                let line = line.replacen(
                    "make ",
                    &format!("make -n -C {} ", repository().display()),
                    usize::from(line.starts_with("make ")),
                );
                // What runs until it is told to stop is told to.
                let line = line.replacen(
                    "hubspot-relay run",
                    "timeout --preserve-status --signal=TERM 3 hubspot-relay run",
                    1,
                );
                let output = Command::new("bash")
                    .args(["-euc", &line])
                    .current_dir(folder.path())
                    .env("PATH", &path)
                    .env("HUBSPOT_RELAY_DATABASE_URL", &world.url)
                    .output()?;
                ensure!(
                    output.status.success(),
                    "{page}:{}: {line}\n{}{}",
                    block.line,
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
                run += 1;
            }
        }
    }
    assert!(run >= 4, "only {run} commands were found");
    Ok(())
}

/// Targets of make that any page names exist, with a line in `make help`.
#[test]
fn every_make_target_that_is_named_exists() -> Result<()> {
    let makefile = std::fs::read_to_string(repository().join("Makefile"))?;
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|l| l.contains(": ") && l.contains("## "))
        .filter_map(|l| l.split(':').next())
        .collect();
    for page in PAGES.into_iter().chain(["relay/GUIDE.md"]) {
        let text = std::fs::read_to_string(repository().join(page))?;
        for named in text
            .split("`make ")
            .skip(1)
            .filter_map(|rest| rest.split(['`', ' ', '\n']).next())
        {
            assert!(targets.contains(named), "{page} names make {named}");
        }
    }
    for target in ["test-alerts", "test-packages", "test-docs", "deb"] {
        let readme = std::fs::read_to_string(repository().join("README.md"))?;
        assert!(targets.contains(target) && readme.contains(target), "{target}");
    }
    Ok(())
}

/// Files of the repository that a page links to, or names with their folder, are there.
#[test]
fn every_file_that_is_named_exists() -> Result<()> {
    let endings = [
        ".rs", ".sql", ".sh", ".toml", ".service", ".yml", ".json", ".md", ".png",
    ];
    let mut seen = 0;
    for page in PAGES
        .into_iter()
        .chain(["relay/GUIDE.md", "extension/RELAY_CONTRACT.md"])
    {
        let text = std::fs::read_to_string(repository().join(page))?;
        let folder = repository().join(page);
        let folder = folder.parent().context("folder")?;
        let linked = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next());
        for link in linked.filter(|l| !l.is_empty() && !l.contains("://")) {
            assert!(folder.join(link).exists(), "{page} links to {link}");
            seen += 1;
        }
        // Every other piece between backquotes is code.
        for name in text.split('`').skip(1).step_by(2) {
            let path = name.contains('/') && !name.starts_with('/') && !name.contains(char::is_whitespace);
            if !path || name.starts_with("target/") || !endings.iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let places = ["", "relay", "relay/src", "extension", "extension/src", "tests/tests"];
            assert!(
                folder.join(name).exists() || places.iter().any(|p| repository().join(p).join(name).exists()),
                "{page} names {name}"
            );
            seen += 1;
        }
    }
    assert!(seen >= 25, "only {seen} names were found");
    Ok(())
}

/// What people may call or select from is in the SQL reference.
#[tokio::test]
async fn the_sql_reference_is_complete() -> Result<()> {
    let client = cluster::connect(&cluster::shared().create_database("reference").await?).await?;
    client
        .batch_execute("CREATE ROLE reference_admin; SELECT hubspot.grant_admin('reference_admin')")
        .await?;
    let rows = client
        .query(
            "SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'hubspot'::regnamespace AND has_function_privilege('reference_admin', p.oid, 'EXECUTE')
             UNION SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'hubspot'::regnamespace AND c.relkind IN ('r', 'v') AND has_table_privilege('reference_admin', c.oid, 'SELECT')",
            &[],
        )
        .await?;
    ensure!(rows.len() > 30);
    let page = std::fs::read_to_string(repository().join("extension/README.md"))?;
    let mut examples = String::new();
    for language in ["sql", "psql-session"] {
        for block in of("extension/README.md", language)? {
            ensure!(block.skipped().is_none(), "extension/README.md:{}", block.line);
            examples.push_str(&block.text);
        }
    }
    // Not for people, though they must be able to call them: what estimate and the views stand on.
    let private = ["instant", "estimate_captured"];
    let names = rows.iter().map(|r| r.get::<_, String>(0));
    let owners = ["grant_admin", "grant_relay", "grant_viewer"].map(str::to_owned);
    let names: Vec<String> = names.chain(owners).filter(|n| !private.contains(&n.as_str())).collect();
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !page.contains(&format!("`{name}")))
        .filter(|name| !page.contains(&format!("hubspot.{name}")))
        .collect();
    assert!(missing.is_empty(), "not in extension/README.md: {missing:?}");
    let example = |name: &str| {
        let called = format!("hubspot.{name}");
        examples
            .match_indices(&called)
            .any(|(at, _)| !examples[at + called.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    };
    let bare: Vec<&String> = names.iter().filter(|name| !example(name)).collect();
    assert!(bare.is_empty(), "without an example in extension/README.md: {bare:?}");
    Ok(())
}
