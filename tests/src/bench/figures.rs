//! Figures by name: collected, printed as tables, and merged into one JSON file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value as Json, json};

use super::stats;

/// Figures by name.
#[derive(Debug, Default)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Notes a figure; one that could not be computed is left out.
    pub fn set(&mut self, name: impl Into<String>, value: Option<f64>) {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            self.0.insert(name.into(), value);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them into the file and keeps what is in there of other runs.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn merge_into(&self, path: &Path) -> Result<()> {
        let mut all: Map<String, Json> = fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        for (name, value) in &self.0 {
            // Four digits are more than any run repeats.
            let digits = if value.abs() >= 1000.0 { 1.0 } else { 10_000.0 };
            all.insert(name.clone(), json!((value * digits).round() / digits));
        }
        let sorted: BTreeMap<_, _> = all.into_iter().collect();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Renamed into place: a reader finds the old file or the new one.
        let new = path.with_extension("json.new");
        fs::write(&new, format!("{}\n", serde_json::to_string_pretty(&sorted)?))
            .and_then(|()| fs::rename(&new, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Where the figures go unless the command line says otherwise.
pub fn default_path() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    target.join("bench/capture.json")
}

/// A table for people, in the form that documents use too.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Names to the left, figures to the right.
                let pad = " ".repeat(width - cell.chars().count());
                if at == 0 {
                    write!(f, "| {cell}{pad} ")?;
                } else {
                    write!(f, "| {pad}{cell} ")?;
                }
            }
            writeln!(f, "|")?;
            if number == 0 {
                for (at, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(*width);
                    write!(f, "| {dashes}{}", if at == 0 { " " } else { ":" })?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// Median and spread, such as `0.94 (0.91..0.96)`; a dash where there is nothing.
pub fn with_spread(values: &[f64], digits: usize) -> String {
    match (stats::median(values), stats::spread(values)) {
        (Some(median), Some((low, high))) if values.len() > 1 => {
            format!("{median:.digits$} ({low:.digits$}..{high:.digits$})")
        }
        (Some(median), _) => format!("{median:.digits$}"),
        _ => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_other_runs_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bench/capture.json");
        let mut first = Figures::default();
        first.set("a", Some(1.0));
        first.set("b", Some(0.123_456));
        first.merge_into(&path).unwrap();
        let mut second = Figures::default();
        second.set("a", Some(2.0));
        second.set("c", None);
        second.set("d", Some(f64::NAN));
        second.merge_into(&path).unwrap();
        let read: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, json!({"a": 2.0, "b": 0.1235}));
    }

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(&["way", "TPS"]);
        table.row(vec!["ours".into(), "12,345".into()]);
        assert_eq!(
            table.to_string(),
            "| way  |    TPS |\n| ---- | ------:|\n| ours | 12,345 |\n"
        );
        assert_eq!(with_spread(&[0.9, 0.95, 0.92], 2), "0.92 (0.90..0.95)");
        assert_eq!(with_spread(&[], 2), "–");
    }
}
