//! HubSpot's official Python SDK works against the simulator.
//!
//! Needs Python 3 with `venv` (Debian: `python3-venv`) and pip's package index.

use std::path::Path;
use std::time::Duration;

use hubspot_sync_tests::simulator::{SimConfig, Simulator};
use tokio::process::Command;

const SDK: &str = "hubspot-api-client==12.0.0";

/// Runs a program; its output, or what went wrong.
async fn run(step: &str, program: &Path, arguments: &[&str]) -> Result<String, String> {
    let run = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(300), run)
        .await
        .map_err(|_| format!("{step} took longer than five minutes"))?
        .map_err(|error| format!("{step}: {} could not be started: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!(
        "{step} failed ({}):\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

#[tokio::test]
async fn official_sdk() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let venv = folder.path().join("venv");
    let venv_text = venv.to_string_lossy().into_owned();
    let step = "making a Python environment (Debian needs the package python3-venv)";
    run(step, Path::new("python3"), &["-m", "venv", &venv_text]).await?;
    let python = venv.join("bin/python");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", SDK];
    run(
        &format!("installing {SDK} with pip (needs its package index)"),
        &python,
        &install,
    )
    .await?;
    let sim = Simulator::start(SimConfig {
        rate_limit: 0,
        search_limit: 0,
        ..SimConfig::warp()
    })
    .await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/test_official_sdk.py");
    let (script, base) = (script.to_string_lossy().into_owned(), sim.base_url());
    let output = run(
        "the SDK's checks",
        &python,
        &[&script, &base, sim.token(), sim.client_secret()],
    )
    .await?;
    print!("{output}");
    sim.stop().await;
    let last = output.lines().last().unwrap_or_default();
    assert!(
        last.ends_with(" passed, 0 failed") && !last.starts_with("0 "),
        "{output}"
    );
    Ok(())
}
