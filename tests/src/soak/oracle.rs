//! What a field must hold in the end, from what was done to it and from HubSpot's history alone.
//!
//! The rules are those of a person who looks at both sides afterwards. Where what was done leaves two answers open, both
//! are accepted, and the case counts as ambiguous.

use super::fields::Rule;
use super::journal::WarpEdit;
use crate::simulator::Version;

/// Edits of the two sides that are closer than this to each other happened at the same time, microseconds: HubSpot's
/// times are whole milliseconds.
const SAME_TIME_US: i64 = 2_000;

/// The least that counts as a tie of `LATEST_WINS`, microseconds: what the soak sees of the clocks' uncertainty is a
/// sample.
const LEAST_TIE_US: i64 = 300_000;

/// A version of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The value.
    pub value: String,
    /// HubSpot's time, microseconds since 1970.
    pub at: i64,
    /// Written by the app, not by a person.
    pub own: bool,
}

/// A conflict as the product recorded it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conflict {
    /// The row's value.
    pub warp: Option<String>,
    /// HubSpot's value.
    pub hubspot: Option<String>,
    /// It waits for a person.
    pub open: bool,
}

/// Everything about one field of one record.
#[derive(Debug)]
pub struct Case<'a> {
    /// How it is decided.
    pub rule: Rule,
    /// `LATEST_WINS` gives edits to HubSpot that are closer than the clocks can be compared, which is half the time that
    /// the newest write took: the most that the soak saw, microseconds.
    pub tie_us: i64,
    /// What both sides held in the beginning.
    pub initial: Option<String>,
    /// Edits of the row.
    pub warp: &'a [WarpEdit],
    /// HubSpot's history, oldest first.
    pub history: Vec<Written>,
    /// What the row holds.
    pub row: Option<String>,
    /// What HubSpot holds.
    pub hubspot: Option<String>,
    /// `field_state.status`
    pub status: Option<String>,
    /// Conflicts that were recorded.
    pub conflicts: &'a [Conflict],
}

/// What a case is found to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Right,
    /// One of two values that the history allows.
    Ambiguous,
    /// An open conflict, which a person decides.
    Held,
    /// Equality is not promised: the row of a field that HubSpot is authoritative for was edited.
    Skipped,
    /// Not as it must be.
    Wrong(String),
}

/// The history with the app's writes told apart, oldest first.
pub fn told_apart(newest_first: &[Version], app_id: &str) -> Vec<Written> {
    newest_first
        .iter()
        .rev()
        .map(|version| Written {
            value: version.value.clone(),
            at: version.timestamp_ms * 1000,
            own: version.source_type == "INTEGRATION" && version.source_id == app_id,
        })
        .collect()
}

impl Case<'_> {
    /// The newest edit that a person made in HubSpot.
    pub(crate) fn theirs(&self) -> Option<&Written> {
        self.history.iter().rev().find(|version| !version.own)
    }

    fn mine(&self) -> Option<&WarpEdit> {
        self.warp.last()
    }

    fn somebody_wrote(&self, value: Option<&str>) -> bool {
        value == self.initial.as_deref()
            || self.warp.iter().any(|edit| Some(edit.value.as_str()) == value)
            || self
                .history
                .iter()
                .any(|version| !version.own && Some(version.value.as_str()) == value)
    }

    /// Instants at which the app wrote this value.
    fn landed(&self, value: &str) -> impl Iterator<Item = i64> {
        self.history
            .iter()
            .filter(move |version| version.own && version.value == value)
            .map(|version| version.at)
    }

    /// A write of an older edit landed after one of a newer edit, or a value was written more than once.
    fn landed_late(&self) -> bool {
        let order: Vec<usize> = self
            .history
            .iter()
            .filter(|version| version.own)
            .filter_map(|version| self.warp.iter().position(|edit| edit.value == version.value))
            .collect();
        order.windows(2).any(|pair| pair[0] >= pair[1])
    }

    /// The values that the policy may pick; the second only where the first is not certain.
    fn expected(&self) -> (Option<String>, Option<String>) {
        let (Some(mine), Some(theirs)) = (self.mine(), self.theirs()) else {
            let only = self.mine().map(|edit| edit.value.clone());
            let only = only.or_else(|| self.theirs().map(|version| version.value.clone()));
            return (only.or_else(|| self.initial.clone()), None);
        };
        let (a, b) = (Some(mine.value.clone()), Some(theirs.value.clone()));
        match self.rule {
            Rule::Latest | Rule::Manual => {
                let tie = match self.rule {
                    Rule::Latest => self.tie_us.max(LEAST_TIE_US),
                    _ => SAME_TIME_US,
                };
                if theirs.at > mine.ended + SAME_TIME_US {
                    (b, None)
                } else if theirs.at < mine.begun - tie {
                    (a, None)
                } else {
                    (b, a)
                }
            }
            Rule::Warp => {
                // An edit made in HubSpot after the row's last one had landed is no conflict. When an older value of the
                // row lands afterwards, its repair is one again.
                let wins = self.landed(&mine.value).next().is_none_or(|at| theirs.at < at);
                match (wins, self.landed_late()) {
                    (true, false) => (a, None),
                    (false, false) => (b, None),
                    (true, true) => (a, b),
                    (false, true) => (b, a),
                }
            }
            Rule::Hubspot => {
                // An edit of a row that had held HubSpot's last value already is no conflict.
                let knew = self
                    .warp
                    .iter()
                    .any(|edit| edit.replaced.as_deref() == Some(theirs.value.as_str()));
                if knew { (a, None) } else { (b, None) }
            }
            Rule::WarpOnly => (a, None),
            Rule::HubspotOnly => (b, None),
        }
    }
}

/// Judges one field of one record.
pub fn judge(case: &Case) -> Verdict {
    let wrong = |why: &str| {
        Verdict::Wrong(format!(
            "{why}: row {:?}, HubSpot {:?}, status {:?}",
            case.row, case.hubspot, case.status
        ))
    };
    if case.rule == Rule::HubspotOnly {
        let newest = case.theirs().map(|version| version.value.clone());
        return match (case.hubspot == newest, case.row == newest, case.warp.is_empty()) {
            (false, _, _) => wrong("HubSpot lost its own value"),
            (true, _, false) => Verdict::Skipped,
            (true, false, true) => wrong("HubSpot's value did not reach the row"),
            (true, true, true) => Verdict::Right,
        };
    }
    match (case.rule, case.status.as_deref()) {
        (Rule::Manual, Some("conflict")) => return held(case),
        (_, Some("in_sync")) => {}
        _ => return wrong("not settled"),
    }
    if case.row != case.hubspot {
        return wrong("the sides differ");
    }
    if !case.somebody_wrote(case.row.as_deref()) {
        return wrong("nobody wrote this value");
    }
    if case.rule == Rule::Manual && !case.conflicts.is_empty() {
        // A person decided, or both came to agree.
        return Verdict::Right;
    }
    let (first, second) = case.expected();
    match (case.row == first, second) {
        (true, None) => Verdict::Right,
        (true, Some(_)) => Verdict::Ambiguous,
        (false, Some(second)) if case.row.as_ref() == Some(&second) => Verdict::Ambiguous,
        (false, _) => wrong(&format!("the policy picks {first:?}")),
    }
}

/// An open conflict shows what both sides hold.
fn held(case: &Case) -> Verdict {
    let theirs = case.theirs().map(|version| version.value.as_str());
    let shows = case
        .conflicts
        .iter()
        .any(|conflict| conflict.open && conflict.warp == case.row && conflict.hubspot.as_deref() == theirs);
    if shows {
        Verdict::Held
    } else {
        Verdict::Wrong(format!(
            "the open conflict does not show the two newest values {:?} and {theirs:?}: {:?}",
            case.row, case.conflicts
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warp(value: &str, at: i64, replaced: &str) -> WarpEdit {
        WarpEdit {
            value: value.into(),
            begun: at,
            ended: at + 100,
            replaced: Some(replaced.into()),
        }
    }

    fn written(value: &str, at: i64, own: bool) -> Written {
        Written {
            value: value.into(),
            at,
            own,
        }
    }

    fn case<'a>(rule: Rule, warp: &'a [WarpEdit], history: Vec<Written>, both: &str) -> Case<'a> {
        Case {
            rule,
            tie_us: 0,
            initial: Some("start".into()),
            warp,
            history,
            row: Some(both.into()),
            hubspot: Some(both.into()),
            status: Some("in_sync".into()),
            conflicts: &[],
        }
    }

    #[test]
    fn the_later_edit_wins() {
        let edits = [warp("w", 900_000, "start")];
        let history = || vec![written("h", 50_000, false), written("w", 950_000, true)];
        assert_eq!(judge(&case(Rule::Latest, &edits, history(), "w")), Verdict::Right);
        let lost = judge(&case(Rule::Latest, &edits, history(), "h"));
        assert!(matches!(lost, Verdict::Wrong(_)), "{lost:?}");
        let close = || vec![written("h", 800_000, false), written("w", 950_000, true)];
        assert_eq!(judge(&case(Rule::Latest, &edits, close(), "w")), Verdict::Ambiguous);
        assert_eq!(judge(&case(Rule::Latest, &edits, close(), "h")), Verdict::Ambiguous);
    }

    #[test]
    fn hubspots_edit_after_the_delivery_is_no_conflict() {
        let edits = [warp("w", 100_000, "start")];
        let after = vec![written("w", 200_000, true), written("h", 300_000, false)];
        assert_eq!(judge(&case(Rule::Warp, &edits, after, "h")), Verdict::Right);
        let before = vec![written("h", 150_000, false), written("w", 200_000, true)];
        assert_eq!(judge(&case(Rule::Warp, &edits, before, "w")), Verdict::Right);
    }

    #[test]
    fn an_edit_of_hubspots_value_is_no_conflict() {
        let history = || vec![written("h", 50_000, false), written("w", 200_000, true)];
        let knew = [warp("w", 100_000, "h")];
        assert_eq!(judge(&case(Rule::Hubspot, &knew, history(), "w")), Verdict::Right);
        let blind = [warp("w", 100_000, "start")];
        assert!(matches!(
            judge(&case(Rule::Hubspot, &blind, history(), "w")),
            Verdict::Wrong(_)
        ));
    }

    #[test]
    fn a_value_that_nobody_wrote_is_found() {
        let verdict = judge(&case(Rule::Latest, &[], Vec::new(), "phantom"));
        assert!(matches!(verdict, Verdict::Wrong(why) if why.starts_with("nobody wrote")));
    }
}
