//! What the database's words mean, for people who do not know them.

use crate::db::reconcile::RunReport;

/// Every kind of difference, in the order of a report: its word, its short name and what it means.
pub(super) const KINDS: [(&str, &str, &str); 6] = [
    (
        "value_differs",
        "different values",
        "Both sides hold different values although neither changed since they agreed, or a person has to decide first.",
    ),
    (
        "found_only_by_reconciling",
        "changes nobody had told of",
        "A change that neither the database's trigger nor a webhook reported. Many of these: look at webhooks and triggers.",
    ),
    (
        "one_way_drift",
        "changed on the receiving side",
        "A field that flows one way was changed on the side that only receives it.",
    ),
    (
        "missing_here",
        "only in HubSpot",
        "HubSpot has a record that no row stands for. Nothing is done about it.",
    ),
    (
        "missing_there",
        "gone from HubSpot",
        "A row's record does not exist in HubSpot any more.",
    ),
    (
        "unlinked",
        "not linked",
        "A row without a record in HubSpot, or a record that was found again.",
    ),
];

/// What was done, or in a dry run would have been done.
pub(super) fn action(word: &str) -> &str {
    match word {
        "row_updated" => "the row takes HubSpot's value",
        "sent_to_hubspot" => "the row's value goes to HubSpot",
        "conflict_opened" => "a conflict for a person to decide",
        "waits_for_person" => "waits for a person",
        "captured" => "the row's change is taken over",
        "compared_again" => "both sides are compared again",
        "marked_missing" => "marked as missing",
        "reported" => "reported only",
        "row_busy" => "the row was in use: next time",
        "row_refused" => "the table refused the value",
        other => other,
    }
}

/// Whether a person has to do something.
pub(super) fn needs_person(action: &str) -> bool {
    matches!(
        action,
        "conflict_opened" | "waits_for_person" | "row_refused" | "marked_missing"
    )
}

/// A run in one sentence.
pub(super) fn sentence(report: &RunReport) -> String {
    let run = &report.run;
    if let Some(direction) = &run.direction {
        let brought: Vec<String> = run.found.iter().map(|(what, n)| format!("{n} {what}")).collect();
        let brought = if brought.is_empty() {
            "nothing differed".to_owned()
        } else {
            brought.join(", ")
        };
        return format!(
            "{}: backfill {direction}, {} records, {brought} ({}; run {})",
            run.entity_type, run.records, run.status, run.id
        );
    }
    let people: u64 = report
        .summary
        .iter()
        .filter(|sum| needs_person(&sum.action))
        .map(|sum| sum.discrepancies)
        .sum();
    let how = match (run.status.as_str(), run.dry_run) {
        ("finished", true) => "dry run, nothing was changed",
        ("finished", false) => "differences were set right by policy",
        (status, _) => status,
    };
    format!(
        "{}: {} records compared, {} differences, {} of them for a person ({how}; run {})",
        run.entity_type, run.records, run.discrepancies, people, run.id
    )
}
