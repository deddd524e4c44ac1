//! Every seed of the fuzz targets, through the functions that the targets call: what fuzzing once found stays mended.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

#[path = "../fuzz/relay_rules.rs"]
mod relay_rules;
#[path = "../fuzz/rules.rs"]
mod rules;

fn replay(target: &str, rule: fn(&[u8])) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        println!("{}", path.display());
        rule(&fs::read(&path)?);
        seeds += 1;
    }
    ensure!(seeds >= 5, "{seeds} seeds of {target}");
    Ok(())
}

#[test]
fn paths() -> Result<()> {
    replay("path", rules::path)
}

#[test]
fn mappings() -> Result<()> {
    replay("mapping", rules::mapping)
}

#[test]
fn values() -> Result<()> {
    replay("value", rules::value)
}

#[test]
fn webhooks() -> Result<()> {
    replay("webhook", relay_rules::webhook)
}

#[test]
fn responses() -> Result<()> {
    replay("response", relay_rules::response)
}

/// A rule that accepts everything would make every replay pass.
#[test]
fn the_rules_can_fail() {
    let read = |text: &[u8]| std::panic::catch_unwind(|| rules::path(text));
    assert!(read(b"contact->>'email'\nx\n{}").is_ok());
    let (good, bad) = (
        r#"{"a": {"hubspot_property": "a", "warp_field": "a", "sync_direction": "NONE"}}"#,
        r#"{"a": 1}"#,
    );
    let document =
        |text: &str| serde_json::from_str(text).map(|json| hubspot_sync_core::mapping::parse_mapping(&json).is_ok());
    assert!(
        document(good).is_ok_and(|read| read),
        "no mapping gets past the first look"
    );
    assert!(document(bad).is_ok_and(|read| !read));
}
