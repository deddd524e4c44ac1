//! The guide, followed from an empty machine to the first sync; then the packages are upgraded and purged.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::documents::{Block, blocks};
use hubspot_sync_tests::simulator::{SimConfig, Simulator};

use crate::root::{Root, Service, next_revision, packages_in};

/// Of both packages.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes root and packages that were built before: make test-packages"]
async fn the_guide_is_followed_in_a_clean_root_and_the_packages_upgrade_and_go() -> Result<()> {
    let sim = Simulator::start(SimConfig::warp()).await?;
    let root = Root::make(&sim)?;
    let mut guide: std::collections::VecDeque<Block> = blocks("relay/GUIDE.md")?
        .into_iter()
        .filter(|b| b.language == "sh" && b.skipped().is_none())
        .collect();
    let total = guide.len();
    let mut follow = |root: &Root, until: &str| -> Result<String> {
        let mut said = String::new();
        while let Some(block) = guide.front() {
            if block.note != until {
                break;
            }
            said.push_str(
                &root
                    .run(&root.adapted(block, &sim))
                    .with_context(|| format!("relay/GUIDE.md:{}", block.line))?,
            );
            guide.pop_front();
            if block_installs(&said) {
                break;
            }
        }
        Ok(said)
    };

    // Install.
    follow(&root, "")?;
    let listed = root.run(
        "dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n' hubspot-relay postgresql-15-hubspot-sync",
    )?;
    assert_eq!(
        listed,
        format!("hubspot-relay {VERSION}-1 installed\npostgresql-15-hubspot-sync {VERSION}-1 installed\n")
    );
    assert_eq!(
        root.run("stat -c '%a %U %G' /etc/hubspot-relay /etc/hubspot-relay/relay.toml")?,
        "750 root hubspot-relay\n640 root hubspot-relay\n"
    );
    let user = root.run("getent passwd hubspot-relay")?;
    assert!(user.contains("/nonexistent:/usr/sbin/nologin"), "{user}");
    assert!(root.run("hubspot-relay --version")?.contains(VERSION));
    for file in [
        "/usr/share/man/man1/hubspot-relay.1.gz",
        "/usr/share/man/man1/hubspot-relay-check.1.gz",
        "/usr/share/bash-completion/completions/hubspot-relay",
        "/usr/share/doc/hubspot-relay/README.md",
        "/usr/share/doc/hubspot-relay/RUNBOOK.md",
        "/usr/share/hubspot-relay/alerts.yml",
        "/usr/share/hubspot-relay/grafana-dashboard.json",
        "/lib/systemd/system/hubspot-relay@.service",
        "/usr/share/doc/postgresql-15-hubspot-sync/README.md",
    ] {
        root.run(&format!("test -s {file}")).with_context(|| file.to_owned())?;
    }
    // Unconfigured, the service says what is missing and is not restarted.
    let unconfigured = root
        .command("exec setpriv --reuid hubspot-relay --regid hubspot-relay --clear-groups hubspot-relay run")
        .output()?;
    assert_eq!(unconfigured.status.code(), Some(78), "{unconfigured:?}");

    root.start_server()?;
    let said = follow(&root, "")?;
    assert!(
        said.contains("warp_ban") && said.contains("ok    token") && said.contains("read: match"),
        "{said}"
    );

    // Start: the first sync.
    sim.set_webhook_url(Some(&root.webhook_url()));
    let service = Service::start(&root)?;
    root.until(
        "EXISTS (SELECT 1 FROM hubspot.link WHERE status = 'linked') AND NOT EXISTS (SELECT 1 FROM hubspot.outbox)",
    )?;
    let said = follow(&root, "after the first sync")?;
    assert!(said.contains("in_sync") && said.contains("Acme"), "{said}");
    let id = root.psql("SELECT hubspot_id FROM hubspot.link")?;
    assert_eq!(
        sim.get("companies", &id)
            .and_then(|r| r.value("name").map(str::to_owned))
            .as_deref(),
        Some("Acme")
    );

    // A conflict, decided in SQL.
    sim.flush().await;
    sim.hold_webhooks();
    sim.ui_set("companies", &id, "phone", "+41 44 111 11 11")
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    root.psql("UPDATE customers SET phone = '+41 44 222 22 22' WHERE id = 42")?;
    root.until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")?;
    sim.release_webhooks();
    let said = follow(&root, "after the conflict")?;
    assert!(said.contains("+41 44 222 22 22") && said.contains("resolved"), "{said}");
    root.until("(SELECT phone FROM customers WHERE id = 42) = '+41 44 111 11 11' AND NOT EXISTS (SELECT 1 FROM hubspot.outbox)")?;
    assert_eq!(
        guide_left(&guide),
        0,
        "blocks of the guide that nobody followed, of {total}"
    );
    assert_eq!(service.stop()?, Some(0));

    // Upgrade: settings and data stay, and it goes on.
    let next = tempfile::tempdir()?;
    next_revision(next.path())?;
    for package in packages_in(next.path())? {
        root.bring(&package)?;
    }
    let before = root.run("cat /etc/hubspot-relay/relay.toml")?;
    root.run(&format!("apt-get install --yes ./*_{VERSION}-2_*.deb"))?;
    assert_eq!(root.run("cat /etc/hubspot-relay/relay.toml")?, before);
    assert_eq!(
        root.run("dpkg-query -W -f '${Version}' hubspot-relay")?,
        format!("{VERSION}-2")
    );
    root.run("pg_ctlcluster 15 main restart")?;
    root.psql("ALTER EXTENSION hubspot_sync UPDATE; UPDATE customers SET name = 'Acme 2' WHERE id = 42")?;
    let service = Service::start(&root)?;
    root.until("(SELECT hubspot_value FROM hubspot.field_state WHERE field = 'name') = 'Acme 2'")?;
    assert_eq!(service.stop()?, Some(0));

    // Purge: nothing of it is left but what the administrator made.
    root.run("pg_ctlcluster 15 main stop; apt-get remove --yes hubspot-relay")?;
    root.run("test -e /etc/hubspot-relay/relay.toml")?;
    root.run("rm /etc/hubspot-relay/token /etc/hubspot-relay/client_secret; apt-get purge --yes hubspot-relay postgresql-15-hubspot-sync")?;
    let left = root.run(
        "find / -xdev \\( -iname '*hubspot*' \\) -not -path '/proc/*' -not -path '/var/tmp/*' -not -path '/tmp/*'",
    )?;
    assert_eq!(left, "", "left behind after the purge");
    assert!(
        root.run("getent passwd hubspot-relay").is_err(),
        "the user is still there"
    );
    Ok(())
}

/// The block that installs ends the first stretch: the server has to be started by hand.
fn block_installs(said: &str) -> bool {
    said.contains("Setting up hubspot-relay") && !said.contains("\"hubspot_property\"")
}

fn guide_left(guide: &std::collections::VecDeque<Block>) -> usize {
    guide.len()
}
