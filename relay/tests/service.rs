//! The service as an operator meets it: unit files, settings example, readiness and watchdog, command line.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hubspot_relay::Config;

const RELAY: &str = env!("CARGO_BIN_EXE_hubspot-relay");

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(RELAY).args(arguments).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Whether a tool is at hand; without it the test says so and checks nothing.
fn at_hand(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("{tool} is not installed: not checked");
    }
    found
}

#[test]
fn the_units_are_sound_and_locked_down() {
    if !at_hand("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for file in ["hubspot-relay.service", "hubspot-relay@.service"] {
        let text = std::fs::read_to_string(packaging(file)).unwrap();
        for line in [
            "Type=notify",
            "WatchdogSec=60",
            "RestartPreventExitStatus=78",
            "User=hubspot-relay",
            "Restart=always",
        ] {
            assert!(text.lines().any(|l| l == line), "{file} lacks {line}");
        }
        // The program is not installed here: point to the one that was built.
        let unit = folder.path().join(file.replace("@.", "@eu."));
        std::fs::write(&unit, text.replace("/usr/bin/hubspot-relay", RELAY)).unwrap();
        let verify = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&unit)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&verify.stderr).into_owned();
        // Unknown keys are only warned of.
        let ours: Vec<&str> = said.lines().filter(|l| l.contains("hubspot-relay")).collect();
        assert!(ours.is_empty(), "{file}: {said}");
        let security = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
            .arg(&unit)
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&security.stdout).into_owned();
        assert!(security.status.success(), "{file} is above 2.0: {report}");
    }
}

/// A unit with a misspelt key would be noticed.
#[test]
fn a_misspelt_key_is_noticed() {
    if !at_hand("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("hubspot-relay.service");
    let text = std::fs::read_to_string(packaging("hubspot-relay.service")).unwrap();
    let text = text
        .replace("/usr/bin/hubspot-relay", RELAY)
        .replace("ProtectClock=", "ProtectClok=");
    std::fs::write(&unit, text).unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&verify.stderr).contains("ProtectClok"));
}

#[test]
fn the_settings_example_is_valid_and_explains_every_key() {
    let text = std::fs::read_to_string(packaging("relay.toml")).unwrap();
    let required = [
        (
            "HUBSPOT_RELAY_DATABASE_URL".to_owned(),
            "postgres://relay@db/app".to_owned(),
        ),
        ("HUBSPOT_RELAY_HUBSPOT_ACCESS_TOKEN".to_owned(), "pat-test".to_owned()),
    ];
    let shipped = Config::from_parts(&text, &required).unwrap();
    let bare = Config::from_parts("", &required).unwrap();
    assert_eq!(
        format!("{shipped:?}"),
        format!("{bare:?}"),
        "as shipped, every key has its default"
    );

    // Each key is shown once, below an explanation.
    let (mut section, mut shown, mut explained) = (String::new(), Vec::new(), false);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if line.starts_with("# ") {
            explained = true;
        } else if let Some((key, value)) = line.strip_prefix('#').and_then(|l| l.split_once(" = ")) {
            assert!(explained, "{section}.{key} has no explanation");
            shown.push((format!("{section}.{key}"), value.to_owned()));
        } else if line.is_empty() {
            explained = false;
        }
    }
    let mut names: Vec<String> = shown.iter().map(|(name, _)| name.clone()).collect();
    let mut known: Vec<String> = Config::keys().collect();
    names.sort();
    known.sort();
    assert_eq!(names, known);

    // What is shown as a default is the default: setting it changes nothing. Examples are of a valid form.
    let examples = [
        "database.url",
        "hubspot.access_token",
        "hubspot.access_token_file",
        "hubspot.client_id",
        "hubspot.client_secret",
        "hubspot.client_secret_file",
        "hubspot.refresh_token_file",
        "hubspot.refresh_token",
        "hubspot.app_id",
        "hubspot.portal_id",
        "hubspot.requests_per_day",
        "webhook.public_url",
        "webhook.client_secret",
        "webhook.client_secret_file",
        "poll.interval",
        "admin.token",
        "admin.token_file",
        "schedule.incremental",
        "schedule.reconcile",
        "schedule.time_zone",
    ];
    for (name, value) in &shown {
        let (section, key) = name.split_once('.').unwrap();
        let toml = format!("[{section}]\n{key} = {value}\n");
        if examples.contains(&name.as_str()) {
            continue;
        }
        let set = Config::from_parts(&toml, &required).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            format!("{set:?}"),
            format!("{bare:?}"),
            "{name} = {value} is not the default"
        );
    }
    let more = "[database]\nurl = 'postgres://hubspot-relay@%2Fvar%2Frun%2Fpostgresql/app'\n[hubspot]\napp_id = 89012\nportal_id = 1234567\nrequests_per_day = 250000\n";
    Config::from_parts(more, &required[1..]).unwrap();
}

#[test]
fn systemd_hears_ready_the_watchdogs_food_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut child = Command::new(RELAY)
        .args(["run", "--config"])
        .arg(packaging("relay.toml"))
        .env_clear()
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "600000")
        .env("HUBSPOT_RELAY_DATABASE_URL", "postgres://relay@127.0.0.1:9/app")
        .env("HUBSPOT_RELAY_HUBSPOT_ACCESS_TOKEN", "pat-test")
        .env("HUBSPOT_RELAY_HUBSPOT_BASE_URL", "http://127.0.0.1:9")
        .env("HUBSPOT_RELAY_WEBHOOK_LISTEN", "127.0.0.1:0")
        .env("HUBSPOT_RELAY_ADMIN_LISTEN", "127.0.0.1:0")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let heard = |wanted: &str| {
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        while begun.elapsed() < Duration::from_secs(20) {
            let length = socket.recv(&mut buffer).unwrap_or(0);
            if String::from_utf8_lossy(&buffer[..length])
                .lines()
                .any(|l| l.starts_with(wanted))
            {
                return true;
            }
        }
        false
    };
    assert!(heard("READY=1"), "never ready");
    // Again and again, while neither database nor HubSpot can be reached.
    for _ in 0..3 {
        assert!(heard("WATCHDOG=1"), "the watchdog starves");
    }
    assert!(heard("STATUS=the database cannot be worked with"));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(heard("STOPPING=1"), "did not say that it stops");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(!log.contains("pat-test") && log.contains("stopped"), "{log}");
}

#[test]
fn the_command_line_helps_and_tells_by_its_exit_code() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for part in [
        "Exit codes:",
        "Examples:",
        "78  wrong configuration",
        "init",
        "check",
        "run",
        "completions",
        "man",
    ] {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 9 && commands.contains(&"conflicts"), "{commands:?}");
    let readme = std::fs::read_to_string(packaging("../README.md")).unwrap();
    for command in commands {
        assert!(
            readme.contains(&format!("hubspot-relay {command}")),
            "{command} is not in README.md"
        );
        let (code, help, _) = run(&[command, "--help"]);
        assert_eq!(code, Some(0));
        // These print no data, or a form of their own.
        if !["run", "completions", "man"].contains(&command) {
            assert!(help.contains("--json"), "{command} has no --json:\n{help}");
        }
        assert!(help.contains("Example"), "{command} --help has no example:\n{help}");
        let (code, page, _) = run(&["man", command]);
        assert_eq!(code, Some(0));
        assert!(
            page.contains(&format!("hubspot\\-relay\\-{command}")) && page.contains(".SH DESCRIPTION"),
            "{page}"
        );
    }
    let (code, page, _) = run(&["man"]);
    assert_eq!(code, Some(0));
    assert!(
        page.starts_with(".ie") && page.contains(".TH hubspot-relay 1") && page.contains("Exit codes"),
        "{page}"
    );
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(&["completions", shell]);
        assert_eq!(code, Some(0));
        assert!(
            script.contains("hubspot-relay") && script.contains("completions"),
            "{shell}"
        );
    }
    assert_eq!(run(&["no-such-command"]).0, Some(2));
    assert_eq!(run(&["man", "no-such-command"]).0, Some(2));
    let (code, _, error) = run(&["check", "--config", "/nonexistent/relay.toml"]);
    assert_eq!(code, Some(78));
    assert!(error.contains("/nonexistent/relay.toml"), "{error}");
    // Data goes to standard output, and nothing else does.
    let missing = packaging("relay.toml");
    let (code, out, error) = run(&["check", "--config", missing.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(
        error.contains("database.url") || error.contains("database: "),
        "{error}"
    );
}

/// bash accepts the completion script, and man's formatter the page.
#[test]
fn the_generated_files_are_sound() {
    let check = |tool: &str, arguments: &[&str], text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, text).unwrap();
        Command::new(tool).args(arguments).arg(&file).output().unwrap()
    };
    let script = run(&["completions", "bash"]).1;
    assert!(check("bash", &["-n"], &script).status.success());
    if at_hand("groff") {
        let formatted = check("groff", &["-man", "-Tascii", "-ww"], &run(&["man"]).1);
        assert!(
            formatted.status.success() && formatted.stderr.is_empty(),
            "{formatted:?}"
        );
    }
}
