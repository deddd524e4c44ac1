//! Both Debian packages in a clean Debian root folder: installed, started, upgraded, purged, by the guide's own text.
//!
//! Takes root, debootstrap and the network, so it is not among the tests that run by themselves: `make test-packages`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hubspot_sync_tests::documents::{Block, blocks, repository};
use hubspot_sync_tests::simulator::{SimConfig, Simulator};

/// A Debian root folder. Dropping it stops what runs in it and removes it.
struct Root {
    dir: PathBuf,
    _folder: tempfile::TempDir,
    port: u16,
    variables: Vec<(&'static str, String)>,
}

impl Root {
    fn make() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("hubspot_debian-").tempdir()?;
        let dir = folder.path().join("root");
        let script = repository().join("tests/setup/clean-root.sh");
        let made = Command::new(script)
            .arg(&dir)
            .arg(target().join("debian-root"))
            .status()?;
        ensure!(made.success(), "no clean root folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self {
            dir,
            _folder: folder,
            port,
            variables: Vec::new(),
        })
    }

    /// A command in the root folder, by its shell, with /proc in a mount namespace of its own.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "sh",
                "-ec",
                "mount -t proc proc \"$0/proc\"; exec chroot \"$0\" bash -euo pipefail -c \"$1\"",
            ])
            .arg(&self.dir)
            .arg(format!("cd /var/tmp/packages\n{script}"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PGPORT", self.port.to_string());
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    fn run(&self, script: &str) -> Result<String> {
        let Output { status, stdout, stderr } = self.command(script).stdin(Stdio::null()).output()?;
        let (out, err) = (
            String::from_utf8_lossy(&stdout).into_owned(),
            String::from_utf8_lossy(&stderr).into_owned(),
        );
        ensure!(status.success(), "{script}\n{out}{err}");
        Ok(out)
    }

    fn psql(&self, sql: &str) -> Result<String> {
        Ok(self
            .run(&format!(
                "runuser -u postgres -- psql app -XAtq -v ON_ERROR_STOP=1 <<'END'\n{sql}\nEND"
            ))?
            .trim()
            .to_owned())
    }

    fn until(&self, condition: &str) -> Result<()> {
        let begun = Instant::now();
        while self.psql(&format!("SELECT coalesce(({condition})::text, 'null')"))? != "true" {
            if begun.elapsed() > Duration::from_secs(60) {
                let seen = self.psql("SELECT to_jsonb(s) FROM hubspot.status() s; SELECT to_jsonb(s) FROM hubspot.field_state s; SELECT to_jsonb(f) FROM hubspot.failed_syncs f")?;
                bail!("gave up waiting until {condition}\n{seen}");
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = self.run(
            "if command -v pg_ctlcluster >/dev/null; then pg_ctlcluster 15 main stop --mode immediate || true; fi",
        );
    }
}

/// The relay, as its unit starts it. Ends with this value.
struct Service(Child);

impl Service {
    fn start(root: &Root) -> Result<Self> {
        let unit = std::fs::read_to_string(root.dir.join("lib/systemd/system/hubspot-relay.service"))?;
        let start = unit
            .lines()
            .find_map(|l| l.strip_prefix("ExecStart="))
            .context("ExecStart")?;
        // The last process of the chain is the relay itself.
        let child = root
            .command(&format!(
                "exec setpriv --reuid hubspot-relay --regid hubspot-relay --clear-groups {start}"
            ))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(root.dir.join("var/tmp/relay.log"))?)
            .spawn()?;
        Ok(Self(child))
    }

    /// As systemd stops it; gives its exit code.
    fn stop(mut self) -> Result<Option<i32>> {
        Command::new("kill")
            .args(["-TERM", &self.0.id().to_string()])
            .status()?;
        Ok(self.0.wait()?.code())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

fn packages_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("{}: run make deb", folder.display()))?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "deb"))
        .collect();
    found.sort();
    ensure!(found.len() == 2, "two packages were expected: {found:?}");
    Ok(found)
}

/// The packages once more, with the next revision.
fn next_revision(out: &Path) -> Result<()> {
    for (script, arguments) in [
        (
            "relay/packaging/build-deb.sh",
            vec![target().join("release/hubspot-relay")],
        ),
        (
            "extension/packaging/build-deb.sh",
            vec![target().join("pgrx-package"), "15".into()],
        ),
    ] {
        let built = Command::new(repository().join(script))
            .args(arguments)
            .arg(out)
            .env("DEB_REVISION", "2")
            .status()?;
        ensure!(built.success(), "{script}");
    }
    Ok(())
}

/// A block of the guide with this portal's numbers and ports, and nothing else changed.
fn adapted(block: &Block, sim: &Simulator, root: &Root) -> String {
    block
        .text
        .replace("1234567", &sim.portal_id().to_string())
        .replace("89012", &sim.app_id().to_string())
        .replace("Fpostgresql/app", &format!("Fpostgresql:{}/app", root.port))
        .replace(
            "[hubspot]\n",
            &format!("[hubspot]\nbase_url = \"{}\"\n", sim.base_url()),
        )
        .replace(
            "[webhook]\n",
            "[admin]\nlisten = \"127.0.0.1:0\"\n[webhook]\nlisten = \"127.0.0.1:18080\"\n",
        )
        .replace("public_url = \"https://sync.example.com\"\n", "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes root, the network and minutes: make test-packages"]
async fn the_guide_is_followed_in_a_clean_root_and_the_packages_upgrade_and_go() -> Result<()> {
    let packages = packages_in(&target().join("debian"))?;
    let sim = Simulator::start(SimConfig::warp()).await?;
    let mut root = Root::make()?;
    root.variables = vec![
        ("TOKEN", sim.token().to_string()),
        ("CLIENT_SECRET", sim.client_secret().to_string()),
    ];
    std::fs::create_dir_all(root.dir.join("var/tmp/packages"))?;
    for package in &packages {
        std::fs::copy(
            package,
            root.dir
                .join("var/tmp/packages")
                .join(package.file_name().context("name")?),
        )?;
    }
    root.run("apt-get update -q")?;
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
                    .run(&adapted(block, &sim, root))
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
        "hubspot-relay 0.1.0-1 installed\npostgresql-15-hubspot-sync 0.1.0-1 installed\n"
    );
    assert_eq!(
        root.run("stat -c '%a %U %G' /etc/hubspot-relay /etc/hubspot-relay/relay.toml")?,
        "750 root hubspot-relay\n640 root hubspot-relay\n"
    );
    let user = root.run("getent passwd hubspot-relay")?;
    assert!(user.contains("/nonexistent:/usr/sbin/nologin"), "{user}");
    assert!(root.run("hubspot-relay --version")?.contains("0.1.0"));
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

    // The server, on a port of this test's, on a Unix socket alone.
    root.run(&format!(
        "pg_conftool 15 main set port {}; pg_conftool 15 main set listen_addresses ''; pg_ctlcluster 15 main start",
        root.port
    ))?;
    let said = follow(&root, "")?;
    assert!(
        said.contains("warp_ban") && said.contains("ok    token") && said.contains("read: match"),
        "{said}"
    );

    // Start: the first sync.
    sim.set_webhook_url(Some("http://127.0.0.1:18080/v1/webhooks/hubspot"));
    let service = Service::start(&root)?;
    root.until(
        "EXISTS (SELECT 1 FROM hubspot.link WHERE status = 'linked') AND NOT EXISTS (SELECT 1 FROM hubspot.outbox)",
    )
    .with_context(|| std::fs::read_to_string(root.dir.join("var/tmp/relay.log")).unwrap_or_default())?;
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
        std::fs::copy(
            &package,
            root.dir
                .join("var/tmp/packages")
                .join(package.file_name().context("name")?),
        )?;
    }
    let before = root.run("cat /etc/hubspot-relay/relay.toml")?;
    root.run("apt-get install --yes ./*_0.1.0-2_*.deb")?;
    assert_eq!(root.run("cat /etc/hubspot-relay/relay.toml")?, before);
    assert_eq!(root.run("dpkg-query -W -f '${Version}' hubspot-relay")?, "0.1.0-2");
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
