//! What a soak found.

use std::fmt;
use std::time::Duration;

/// Cases that are told in full.
pub(crate) const SHOWN: usize = 5;

/// The figures of one soak.
#[derive(Debug, Default)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// Edits of rows.
    pub warp_edits: usize,
    /// Edits in HubSpot.
    pub hubspot_edits: usize,
    /// Faults of requests that were met, of the relay and of the database, by kind.
    pub faults: Vec<(String, usize)>,
    /// Faults that the seed plays and no request met.
    pub unmet: Vec<String>,
    /// What became of the webhooks.
    pub webhooks: Vec<(&'static str, usize)>,
    /// Conflicts by strategy, kind and outcome.
    pub conflicts: Vec<(String, i64)>,
    /// Ledger entries by outcome.
    pub outcomes: Vec<(String, i64)>,
    /// Values in `failed_syncs` that wait for a person.
    pub failed: i64,
    /// Calls that read.
    pub read_calls: usize,
    /// Calls that wrote.
    pub write_calls: usize,
    /// Records in the calls that wrote.
    pub record_writes: usize,
    /// Values that these calls changed in HubSpot.
    pub value_writes: usize,
    /// The clocks' largest uncertainty that was seen, microseconds.
    pub tie_us: i64,
    /// Records checked.
    pub records: usize,
    /// Fields checked.
    pub fields: usize,
    /// Fields with an open `MANUAL` conflict that shows both sides.
    pub held: usize,
    /// Fields of HubSpot's whose row was edited, so that equality is not promised.
    pub skipped: usize,
    /// Fields that hold one of two values that are right.
    pub ambiguous: usize,
    /// Fields that are not as they must be.
    pub diverged: usize,
    /// Things missing in the ledger.
    pub incomplete: usize,
    /// Why it did not come to rest.
    pub unsettled: Vec<String>,
    /// The first wrong cases in full.
    pub cases: Vec<String>,
}

impl Report {
    /// Everything is as it must be.
    pub fn passed(&self) -> bool {
        self.diverged == 0 && self.incomplete == 0 && self.unsettled.is_empty() && self.failed == 0
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {name:<46} {value:>8}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edits = self.warp_edits + self.hubspot_edits;
        writeln!(f, "== soak, seed {}, {:.1} s", self.seed, self.took.as_secs_f64())?;
        line(f, "edits in the rows", self.warp_edits)?;
        line(f, "edits in HubSpot", self.hubspot_edits)?;
        for (what, count) in &self.faults {
            line(f, &format!("fault, {what}"), count)?;
        }
        for (what, count) in &self.webhooks {
            line(f, &format!("webhooks, {what}"), count)?;
        }
        for (what, count) in &self.conflicts {
            line(f, &format!("conflicts, {what}"), count)?;
        }
        for (what, count) in &self.outcomes {
            line(f, &format!("ledger, {what}"), count)?;
        }
        line(f, "API reads, calls", self.read_calls)?;
        line(f, "API writes, calls", self.write_calls)?;
        line(f, "API writes, records", self.record_writes)?;
        line(f, "API writes, values changed", self.value_writes)?;
        let share = |of: usize, all: usize| if all == 0 { 0.0 } else { of as f64 / all as f64 };
        let per_edit = |writes| format!("{:.2}", share(writes, self.warp_edits));
        line(f, "calls that write per edit of a row", per_edit(self.write_calls))?;
        line(f, "values changed per edit of a row", per_edit(self.value_writes))?;
        let per_any = format!("{:.2}", share(self.value_writes, edits));
        line(f, "values changed per edit of either side", per_any)?;
        let tie = format!("{} ms", self.tie_us / 1000);
        line(f, "largest uncertainty of the clocks", tie)?;
        line(f, "records checked", self.records)?;
        line(f, "fields checked", self.fields)?;
        line(f, "fields with an open conflict", self.held)?;
        line(f, "fields skipped, drift by direction", self.skipped)?;
        line(f, "ambiguous", self.ambiguous)?;
        line(f, "failed syncs open", self.failed)?;
        line(f, "diverged", self.diverged)?;
        line(f, "ledger incomplete", self.incomplete)?;
        for what in &self.unmet {
            writeln!(f, "no request met the fault {what}")?;
        }
        for why in &self.unsettled {
            writeln!(f, "did not come to rest: {why}")?;
        }
        for case in &self.cases {
            writeln!(f, "--- {case}")?;
        }
        Ok(())
    }
}
