//! The threat list itself: no line without a test that is there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hubspot_sync_tests::documents::repository;

/// The text of every test below a folder.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path)?;
            found.push((path, text));
        }
    }
    Ok(())
}

#[test]
fn every_line_of_the_threat_list_names_tests_that_exist() -> Result<()> {
    let readme = std::fs::read_to_string(repository().join("extension/README.md"))?;
    let (_, section) = readme.split_once("\n## Threats\n").context("the section Threats")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut tests = Vec::new();
    sources(&repository().join("tests/tests"), &mut tests)?;
    let lines: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("| who |") && !line.starts_with("| ---"))
        .collect();
    ensure!(lines.len() >= 15, "only {} lines were found", lines.len());
    for line in lines {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        ensure!(cells.len() == 4, "{line} has {} cells", cells.len());
        // Names in backticks; one that ends in .rs says which file the next one is in.
        let names: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        let mut file = None;
        let mut named = 0;
        for name in names {
            if name.ends_with(".rs") {
                file = Some(name);
                continue;
            }
            let place = file.take();
            let there = tests.iter().any(|(path, text)| {
                place.is_none_or(|file| path.ends_with(file))
                    && (text.contains(&format!("]\nasync fn {name}()")) || text.contains(&format!("]\nfn {name}()")))
            });
            ensure!(there, "{name} ({place:?}) is no test; the line is {line}");
            named += 1;
        }
        ensure!(named > 0, "no test: {line}");
    }
    Ok(())
}
