//! What capture costs and what the relay does: `make bench`, `make bench-capture`, `make bench-relay`,
//! `make bench-reconcile`.
//!
//! Every section prints one table and notes its figures by name. Runs of the compared ways take turns, and a ratio is the
//! median of the rounds' own ratios, so that what else the machine does cancels out. Nothing here is an assertion about
//! time: people and the acceptance checks read the figures.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`server`] | the measured cluster, its settings and its CPU time |
//! | [`fixture`] | the database: customers, once for each way of capturing |
//! | [`pgbench`] | the load generator |
//! | [`stats`], [`figures`] | medians, ratios, tables, the JSON file |
//! | [`rows`], [`unmapped`], [`bulk`], [`committers`] | sections about an application's writes |
//! | [`wakeup`] | section: how soon after a commit the relay looks |
//! | [`claims`], with databases from [`backlog`]; [`apply`] | sections about the relay's calls |
//! | [`relay`] | section: the relay's own throughput |
//! | [`reconcile`] | section: comparing both sides |

pub mod apply;
pub mod backlog;
pub mod bulk;
pub mod claims;
pub mod committers;
pub mod figures;
pub mod fixture;
pub mod pgbench;
pub mod reconcile;
pub mod relay;
pub mod rows;
pub mod server;
pub mod stats;
pub mod unmapped;
pub mod wakeup;

use std::path::PathBuf;

use anyhow::Result;

use figures::Figures;
use server::{Choice, Server};

/// The sections in the order in which they run.
pub const SECTIONS: [&str; 9] = [
    "rows",
    "unmapped",
    "bulk",
    "committers",
    "wakeup",
    "claims",
    "apply",
    "relay",
    "reconcile",
];

/// How large the sections' databases are.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Rows of one bulk statement.
    pub bulk: u64,
    /// Records that wait to be claimed, at most.
    pub waiting: u64,
    /// Records that are leased or delayed, before those that can be claimed.
    pub held: u64,
    /// Records that were claimed and delivered before, without a vacuum since.
    pub drained: u64,
}

impl Sizes {
    /// Those that the documents state.
    pub const FULL: Self = Self {
        bulk: 200_000,
        waiting: 10_000_000,
        held: 500_000,
        drained: 1_000_000,
    };
    /// For a glance, or a machine with little memory.
    pub const SMALL: Self = Self {
        bulk: 20_000,
        waiting: 200_000,
        held: 50_000,
        drained: 50_000,
    };
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Length of each pgbench run.
    pub seconds: u64,
    /// Measured rounds; one more comes first and is thrown away.
    pub rounds: u32,
    /// Customers in each table.
    pub rows: u64,
    /// How large the other sections' databases are.
    pub sizes: Sizes,
    /// Numbers of sessions for the row path.
    pub clients: Vec<u32>,
    /// Sections to run.
    pub sections: Vec<String>,
    /// Parts of the section `relay`; all when empty.
    pub parts: Vec<String>,
    /// Ways of capturing to compare; all when empty. Without `none` and `ours` most ratios are missing.
    pub ways: Vec<String>,
    /// The server.
    pub server: Choice,
    /// Where the figures go.
    pub out: PathBuf,
}

impl Settings {
    /// Whether a part of the section `relay` is to be measured.
    fn wants_part(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }
}

/// A run of the benchmarks.
#[derive(Debug)]
pub struct Bench {
    /// The measured server.
    pub server: Server,
    /// How to measure.
    pub settings: Settings,
    /// What was found so far.
    pub figures: Figures,
}

impl Bench {
    /// Whether a way of capturing is to be measured.
    fn wants_way(&self, way: &str) -> bool {
        self.settings.ways.is_empty() || self.settings.ways.iter().any(|wanted| wanted == way)
    }

    /// Tells people that it goes on; not part of the result.
    fn progress(&self, what: &str) {
        eprintln!("   {what}");
    }
}

/// Runs the sections and writes their figures after each.
///
/// # Errors
///
/// When the server does not start or a run fails.
pub async fn run(settings: Settings) -> Result<()> {
    let mut bench = Bench {
        server: Server::start(settings.server)?,
        settings,
        figures: Figures::default(),
    };
    println!("{}\n", bench.server.describe().await?);
    for section in bench.settings.sections.clone() {
        match section.as_str() {
            "rows" => rows::run(&mut bench).await?,
            "unmapped" => unmapped::run(&mut bench).await?,
            "bulk" => bulk::run(&mut bench).await?,
            "committers" => committers::run(&mut bench).await?,
            "wakeup" => wakeup::run(&mut bench).await?,
            "claims" => claims::run(&mut bench).await?,
            "apply" => apply::run(&mut bench).await?,
            // Writes its figures itself: they have a file of their own.
            "reconcile" => {
                reconcile::run(&bench).await?;
                continue;
            }
            "relay" => {
                relay::run(&bench).await?;
                continue;
            }
            other => anyhow::bail!("there is no section {other}; there are {}", SECTIONS.join(", ")),
        }
        bench.figures.merge_into(&bench.settings.out)?;
    }
    println!("figures: {}", bench.settings.out.display());
    Ok(())
}

/// A whole number with thousands separated.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
