//! The report of reconciliation runs: HTML for people, JSON and CSV for programs. It holds customers' values.

mod html;
mod words;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::db::reconcile::RunReport;
use crate::error::RelayError;

/// In which form a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One page that needs nothing from outside.
    Html,
    /// An array with an object for each run.
    Json,
    /// A line for each difference.
    Csv,
}

impl Form {
    /// The form that a file's name ends in.
    ///
    /// # Errors
    /// Another ending.
    pub fn of(file: &Path) -> Result<Self, RelayError> {
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "html" | "htm" => Ok(Self::Html),
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ => Err(RelayError::Command {
                problem: format!(
                    "--report {}: expected a name that ends in .html, .json or .csv",
                    file.display()
                ),
            }),
        }
    }
}

/// Writes a report of these runs.
///
/// # Errors
/// A file that cannot be written, or another ending of its name.
pub fn write(file: &Path, runs: &[RunReport]) -> Result<(), RelayError> {
    let fault = |error: &dyn std::fmt::Display| RelayError::Command {
        problem: format!("--report {}: cannot be written: {error}", file.display()),
    };
    let form = Form::of(file)?;
    let mut out = BufWriter::new(File::create(file).map_err(|e| fault(&e))?);
    match form {
        Form::Html => out
            .write_all(html::page(runs).map_err(|e| fault(&e))?.as_bytes())
            .map_err(|e| fault(&e))?,
        Form::Json => serde_json::to_writer_pretty(&mut out, runs).map_err(|e| fault(&e))?,
        Form::Csv => csv(&mut out, runs).map_err(|e| fault(&e))?,
    }
    out.flush().map_err(|e| fault(&e))
}

fn csv(out: impl Write, runs: &[RunReport]) -> Result<(), csv::Error> {
    let mut lines = csv::Writer::from_writer(out);
    lines.write_record([
        "run",
        "entity_type",
        "entity_key",
        "hubspot_id",
        "field",
        "kind",
        "warp_value",
        "hubspot_value",
        "action",
        "found_at",
    ])?;
    for report in runs {
        for found in &report.discrepancies {
            let text = |value: &Option<String>| plain(value.as_deref().unwrap_or_default());
            lines.write_record([
                report.run.id.to_string(),
                found.entity_type.clone(),
                text(&found.entity_key),
                text(&found.hubspot_id),
                text(&found.field),
                found.kind.clone(),
                text(&found.warp_value),
                text(&found.hubspot_value),
                found.action.clone(),
                found.found_at.clone(),
            ])?;
        }
    }
    lines.flush()?;
    Ok(())
}

/// A value that a spreadsheet shows and does not compute: what would begin a formula is put behind an apostrophe. Numbers and
/// telephone numbers stay as they are.
fn plain(value: &str) -> String {
    let number = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || " .,()-/".contains(c));
    let formula = match value.chars().next() {
        Some('=' | '@' | '\t' | '\r') => true,
        Some('+' | '-') => !number(&value[1..]),
        _ => false,
    };
    if formula { format!("'{value}") } else { value.to_owned() }
}

/// Whether there is anything that waits for a person, or that a dry run would set right.
pub fn summary(runs: &[RunReport]) -> String {
    runs.iter().map(words::sentence).collect::<Vec<_>>().join("\n")
}

/// The runs and what they found, summed up, for programs. No customer's value but an example's key.
pub fn summed_up(runs: &[RunReport]) -> serde_json::Value {
    runs.iter()
        .map(|report| serde_json::json!({"run": report.run, "summary": report.summary}))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::reconcile::{Discrepancy, Run, Sum};

    fn report() -> RunReport {
        RunReport {
            run: Run {
                id: 7,
                entity_type: "customer".to_owned(),
                kind: "full".to_owned(),
                status: "finished".to_owned(),
                records: 1_234,
                discrepancies: 2,
                found: [("one_way_drift".to_owned(), 1), ("missing_here".to_owned(), 1)].into(),
                ..Run::default()
            },
            summary: vec![Sum {
                kind: "one_way_drift".to_owned(),
                field: Some("status".to_owned()),
                action: "sent_to_hubspot".to_owned(),
                discrepancies: 1,
                example_key: Some("42".to_owned()),
            }],
            discrepancies: vec![Discrepancy {
                entity_type: "customer".to_owned(),
                entity_key: Some("42".to_owned()),
                field: Some("status".to_owned()),
                kind: "one_way_drift".to_owned(),
                warp_value: Some("=1+1".to_owned()),
                hubspot_value: Some("<script>alert(1)</script>, \"q\"".to_owned()),
                action: "sent_to_hubspot".to_owned(),
                ..Discrepancy::default()
            }],
        }
    }

    #[test]
    fn values_are_escaped_in_every_form() {
        let page = html::page(&[report()]).unwrap();
        assert!(
            page.contains("&lt;script&gt;") || page.contains("&#60;script&#62;"),
            "{page}"
        );
        assert!(!page.contains("<script>alert"));
        let mut lines = Vec::new();
        csv(&mut lines, &[report()]).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert!(
            lines.contains(",'=1+1,\"<script>alert(1)</script>, \"\"q\"\"\","),
            "{lines}"
        );
    }

    #[test]
    fn a_page_needs_nothing_from_outside_and_shows_a_chart() {
        let page = html::page(&[report()]).unwrap();
        assert!(
            page.contains("<svg") && page.contains("1 changed on the receiving side"),
            "{page}"
        );
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside} in the page");
        }
    }

    #[test]
    fn telephone_numbers_are_no_formulas() {
        assert_eq!(plain("+41 44 000 00 00"), "+41 44 000 00 00");
        assert_eq!(plain("-12.50"), "-12.50");
        assert_eq!(plain("+cmd|' /C calc'!A0"), "'+cmd|' /C calc'!A0");
        assert_eq!(plain("@SUM(A1)"), "'@SUM(A1)");
        assert_eq!(plain(""), "");
    }

    #[test]
    fn the_ending_says_the_form() {
        assert_eq!(Form::of(Path::new("a/b.HTML")).unwrap(), Form::Html);
        let error = Form::of(Path::new("report.pdf")).unwrap_err().to_string();
        assert!(error.contains("report.pdf") && error.contains(".csv"), "{error}");
    }
}
