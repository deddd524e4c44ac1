//! The page: one file that needs nothing from outside, for somebody who has never seen the database.

use askama::Template;

use super::words::{self, KINDS};
use crate::db::reconcile::{Discrepancy, RunReport};

/// Most differences that the page shows one by one; JSON and CSV have all that are kept.
const SHOWN: usize = 500;
/// Width of the chart's longest bar, in its own units.
const BAR: f64 = 420.0;
/// Height of a bar with the space below it.
const STEP: usize = 34;

#[derive(Template)]
#[template(path = "reconciliation.html")]
struct Page {
    runs: Vec<Section>,
}

struct Section {
    entity_type: String,
    run: i64,
    dry_run: bool,
    headline: String,
    began: String,
    seconds: String,
    figures: Vec<(&'static str, u64)>,
    bars: Vec<Bar>,
    chart_height: usize,
    sums: Vec<Line>,
    people: Vec<Line>,
    found: Vec<Found>,
    left_out: u64,
}

/// A bar of the chart.
struct Bar {
    label: String,
    meaning: &'static str,
    y: usize,
    width: String,
    colour: usize,
}

/// A line of the summary.
struct Line {
    kind: String,
    field: String,
    action: String,
    count: u64,
    example: String,
}

/// One difference.
struct Found {
    key: String,
    hubspot_id: String,
    field: String,
    kind: String,
    warp: String,
    hubspot: String,
    action: String,
}

/// The page of these runs.
pub(super) fn page(runs: &[RunReport]) -> Result<String, askama::Error> {
    Page {
        runs: runs.iter().map(section).collect(),
    }
    .render()
}

fn section(report: &RunReport) -> Section {
    let run = &report.run;
    let lines = |wanted: &dyn Fn(&str) -> bool| -> Vec<Line> {
        let sums = report.summary.iter().filter(|sum| wanted(&sum.action));
        sums.map(|sum| Line {
            kind: kind(&sum.kind).to_owned(),
            field: sum.field.clone().unwrap_or_else(|| "whole record".to_owned()),
            action: words::action(&sum.action).to_owned(),
            count: sum.discrepancies,
            example: sum.example_key.clone().unwrap_or_default(),
        })
        .collect()
    };
    let bars = bars(report);
    Section {
        entity_type: run.entity_type.clone(),
        run: run.id,
        dry_run: run.dry_run,
        headline: headline(report),
        began: run.started_at.clone().map_or_else(String::new, |at| {
            at.chars().take(16).collect::<String>().replace('T', " ")
        }),
        seconds: run
            .seconds
            .map_or_else(String::new, |seconds| format!("{seconds:.0} s")),
        figures: vec![
            ("rows read", run.rows_read),
            ("records compared", run.records),
            ("histories read", run.histories),
            ("HubSpot records listed", run.listed),
            ("calls to HubSpot", run.api_calls),
        ],
        chart_height: bars.len() * STEP + 4,
        bars,
        sums: lines(&|_| true),
        people: lines(&words::needs_person),
        found: report.discrepancies.iter().take(SHOWN).map(found).collect(),
        left_out: run
            .discrepancies
            .saturating_sub(report.discrepancies.len().min(SHOWN) as u64),
    }
}

fn kind(word: &str) -> &str {
    KINDS.iter().find(|kind| kind.0 == word).map_or(word, |kind| kind.1)
}

fn bars(report: &RunReport) -> Vec<Bar> {
    let count = |word: &str| report.run.found.get(word).copied().unwrap_or(0);
    let most = KINDS.iter().map(|kind| count(kind.0)).max().unwrap_or(0).max(1);
    KINDS
        .iter()
        .enumerate()
        .map(|(place, (word, name, meaning))| Bar {
            label: format!("{} {name}", count(word)),
            meaning,
            y: place * STEP,
            // A bar of nothing is a line, so that the eye finds the row.
            width: format!("{:.1}", (count(word) as f64 / most as f64 * BAR).max(1.0)),
            colour: place + 1,
        })
        .collect()
}

fn headline(report: &RunReport) -> String {
    let run = &report.run;
    let people: u64 = report
        .summary
        .iter()
        .filter(|sum| words::needs_person(&sum.action))
        .map(|sum| sum.discrepancies)
        .sum();
    match (run.discrepancies, people) {
        (0, _) => format!("Both sides agree: {} records compared, no difference.", run.records),
        (all, 0) if run.dry_run => format!(
            "{all} differences in {} records. Nothing was changed: this was a dry run.",
            run.records
        ),
        (all, people) if run.dry_run => {
            format!(
                "{all} differences in {} records, {people} of them for a person. Nothing was changed: this was a dry run.",
                run.records
            )
        }
        (all, 0) => format!(
            "{all} differences in {} records. None of them needs a person.",
            run.records
        ),
        (all, people) => format!(
            "{all} differences in {} records. {people} of them need a person.",
            run.records
        ),
    }
}

fn found(found: &Discrepancy) -> Found {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Found {
        key: text(&found.entity_key),
        hubspot_id: text(&found.hubspot_id),
        field: text(&found.field),
        kind: kind(&found.kind).to_owned(),
        warp: text(&found.warp_value),
        hubspot: text(&found.hubspot_value),
        action: words::action(&found.action).to_owned(),
    }
}
