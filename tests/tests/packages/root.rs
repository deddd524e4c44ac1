//! A Debian root folder in namespaces of its own, and what is started in it.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hubspot_sync_tests::documents::{Block, repository};
use hubspot_sync_tests::simulator::Simulator;

/// Longest wait for anything that happens in there.
const PATIENCE: Duration = Duration::from_secs(90);

/// The folder for packages and settings' drafts in the root folder: everybody there may read it.
const PLACE: &str = "var/tmp/packages";

/// A Debian root folder. What runs in it are processes of a namespace that ends with this value, or with the test's
/// process however that ends; nothing is mounted anywhere else.
pub struct Root {
    /// Where it is.
    pub dir: PathBuf,
    /// The port of its PostgreSQL, and those of its relay.
    pub port: u16,
    pub webhook_port: u16,
    pub admin_port: u16,
    variables: Vec<(&'static str, String)>,
    // In this order: first all that runs ends, then the folder goes.
    space: Space,
    _folder: tempfile::TempDir,
}

/// Mount and process namespaces. Their first process waits for its input to end, and takes all others with it.
struct Space {
    parent: Child,
    input: Option<ChildStdin>,
}

impl Space {
    fn open(dir: &Path) -> Result<Self> {
        let mut parent = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "sh", "-ec"])
            .arg("mount -t proc proc \"$0/proc\"; echo ready; exec cat >/dev/null")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare")?;
        let input = parent.stdin.take();
        let mut said = [0; 6];
        use std::io::Read as _;
        let heard = parent.stdout.as_mut().context("output")?.read_exact(&mut said).is_ok();
        let space = Self { parent, input };
        ensure!(
            heard && said == *b"ready\n",
            "no namespaces: this takes root and the right to mount"
        );
        Ok(space)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.input.take();
        let _ = self.parent.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Root {
    /// A fresh one with the packages in it, whose commands see the portal's secrets as the pages name them.
    pub fn make(sim: &Simulator) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("hubspot_debian-").tempdir()?;
        let dir = folder.path().join("root");
        let (script, cache) = if std::env::var_os("HUBSPOT_SYNC_ROOT").is_some_and(|how| how == "download") {
            ("clean-root.sh", "debian-root")
        } else {
            ("local-root.sh", "debian-root-local")
        };
        let made = Command::new(repository().join("tests/setup").join(script))
            .arg(&dir)
            .arg(target().join(cache))
            .status()?;
        ensure!(made.success(), "no clean root folder: {script}");
        // Others pass through: PostgreSQL's user and the relay's do.
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let root = Self {
            space: Space::open(&dir)?,
            dir,
            port: free_port()?,
            webhook_port: free_port()?,
            admin_port: free_port()?,
            variables: vec![
                ("TOKEN", sim.token().to_string()),
                ("CLIENT_SECRET", sim.client_secret().to_string()),
            ],
            _folder: folder,
        };
        std::fs::create_dir_all(root.place())?;
        for package in packages_in(&debs())? {
            root.bring(&package)?;
        }
        if script == "clean-root.sh" {
            root.run("apt-get update -q")?;
        }
        Ok(root)
    }

    /// The folder in which commands are run.
    pub fn place(&self) -> PathBuf {
        self.dir.join(PLACE)
    }

    /// Copies a package into that folder.
    pub fn bring(&self, package: &Path) -> Result<()> {
        std::fs::copy(package, self.place().join(package.file_name().context("name")?))?;
        Ok(())
    }

    /// A command in the root folder, by its shell.
    pub fn command(&self, script: &str) -> Command {
        let of = |name: &str| format!("/proc/{}/ns/{name}", self.space.parent.id());
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount={}", of("mnt")))
            .arg(format!("--pid={}", of("pid_for_children")))
            .arg("chroot")
            .arg(&self.dir)
            .args(["bash", "-euo", "pipefail", "-c"])
            .arg(format!("cd /{PLACE}\n{script}"))
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

    /// Its output; an error has all that was said.
    pub fn run(&self, script: &str) -> Result<String> {
        let Output { status, stdout, stderr } = self.command(script).stdin(Stdio::null()).output()?;
        let (out, err) = (
            String::from_utf8_lossy(&stdout).into_owned(),
            String::from_utf8_lossy(&stderr).into_owned(),
        );
        ensure!(status.success(), "{script}\n{out}{err}");
        Ok(out)
    }

    /// SQL as PostgreSQL's administrator, by psql.
    pub fn psql(&self, sql: &str) -> Result<String> {
        Ok(self
            .run(&format!(
                "runuser -u postgres -- psql app -XAtq -v ON_ERROR_STOP=1 <<'END'\n{sql}\nEND"
            ))?
            .trim()
            .to_owned())
    }

    /// Waits until an SQL expression is true.
    pub fn until(&self, condition: &str) -> Result<()> {
        let begun = Instant::now();
        while self.psql(&format!("SELECT coalesce(({condition})::text, 'null')"))? != "true" {
            if begun.elapsed() > PATIENCE {
                let seen = self.psql("SELECT to_jsonb(s) FROM hubspot.status() s; SELECT to_jsonb(s) FROM hubspot.field_state s; SELECT to_jsonb(f) FROM hubspot.failed_syncs f")?;
                let log = std::fs::read_to_string(self.dir.join("var/tmp/relay.log")).unwrap_or_default();
                bail!("gave up waiting until {condition}\n{seen}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    }

    /// Starts the server that the packages installed: on a port of this test's, on a Unix socket alone. A machine with systemd
    /// has it started by then.
    pub fn start_server(&self) -> Result<()> {
        self.run(&format!(
            "pg_conftool 15 main set port {}; pg_conftool 15 main set listen_addresses ''; pg_ctlcluster 15 main start",
            self.port
        ))?;
        Ok(())
    }

    /// A page's text with this portal's numbers and ports, and nothing else changed.
    pub fn adapted(&self, block: &Block, sim: &Simulator) -> String {
        let listen = |port: u16| format!("listen = \"127.0.0.1:{port}\"\n");
        let admin = format!("[admin]\n{}", listen(self.admin_port));
        let webhook = format!("[webhook]\n{}", listen(self.webhook_port));
        let mut text = block
            .text
            .replace("1234567", &sim.portal_id().to_string())
            .replace("89012", &sim.app_id().to_string())
            .replace("Fpostgresql/app", &format!("Fpostgresql:{}/app", self.port))
            .replace(
                "[hubspot]\n",
                &format!("[hubspot]\nbase_url = \"{}\"\n", sim.base_url()),
            )
            .replace("public_url = \"https://sync.example.com\"\n", "");
        text = if text.contains("[admin]\n") {
            text.replace("[admin]\n", &admin).replace("[webhook]\n", &webhook)
        } else {
            text.replace("[webhook]\n", &format!("{admin}{webhook}"))
        };
        text
    }

    /// Where the relay takes webhooks in.
    pub fn webhook_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/webhooks/hubspot", self.webhook_port)
    }
}

/// The relay, as its unit starts it. Ends with the root folder at the latest.
pub struct Service<'a> {
    root: &'a Root,
    child: Child,
}

impl<'a> Service<'a> {
    /// By the line of the installed unit, as the user it names.
    pub fn start(root: &'a Root) -> Result<Self> {
        let unit = std::fs::read_to_string(root.dir.join("lib/systemd/system/hubspot-relay.service"))?;
        let of = |key: &str| {
            unit.lines()
                .find_map(|l| l.strip_prefix(key))
                .with_context(|| key.to_owned())
        };
        let (start, user) = (of("ExecStart=")?, of("User=")?);
        let child = root
            .command(&format!(
                "echo $$ >/run/hubspot-relay.pid; exec setpriv --reuid {user} --regid {user} --clear-groups {start}"
            ))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(root.dir.join("var/tmp/relay.log"))?)
            .spawn()?;
        Ok(Self { root, child })
    }

    /// As systemd stops it; gives its exit code.
    pub fn stop(mut self) -> Result<Option<i32>> {
        self.root
            .run("kill -TERM \"$(cat /run/hubspot-relay.pid)\"; rm /run/hubspot-relay.pid")?;
        Ok(self.child.wait()?.code())
    }
}

/// The build's folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Where the packages are that are tested: `make test-packages` builds them of what the other tests run.
fn debs() -> PathBuf {
    std::env::var_os("HUBSPOT_SYNC_DEBS").map_or_else(|| target().join("debian-test"), PathBuf::from)
}

/// The relay's program in them.
fn relay_program() -> PathBuf {
    std::env::var_os("HUBSPOT_SYNC_RELAY").map_or_else(|| target().join("debug/hubspot-relay"), PathBuf::from)
}

/// The two packages of a folder.
pub fn packages_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("{}: run make test-packages", folder.display()))?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "deb"))
        .collect();
    found.sort();
    ensure!(found.len() == 2, "two packages were expected: {found:?}");
    Ok(found)
}

/// The packages once more, with the next revision.
pub fn next_revision(out: &Path) -> Result<()> {
    for (script, arguments) in [
        ("relay/packaging/build-deb.sh", vec![relay_program()]),
        (
            "extension/packaging/build-deb.sh",
            vec![target().join("pgrx-package"), "15".into()],
        ),
    ] {
        let built = Command::new(repository().join(script))
            .args(arguments)
            .arg(out)
            .env("DEB_REVISION", "2")
            .env("DEB_COMPRESSION", "gzip")
            .status()?;
        ensure!(built.success(), "{script}");
    }
    Ok(())
}
