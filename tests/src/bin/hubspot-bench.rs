//! `hubspot-bench`: what capture costs, beside the alternatives.

use std::path::PathBuf;

use clap::Parser;
use hubspot_sync_tests::bench::{self, SECTIONS, Settings, Sizes, figures, server::Choice};

/// Measures in a private PostgreSQL on a RAM disk, prints a table per section and merges the figures into a JSON file.
#[derive(Debug, Parser)]
#[command(name = "hubspot-bench", version)]
struct Arguments {
    /// Seconds of each pgbench run.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Rounds; the first, a warm-up, comes on top.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Run only this section (may be given several times).
    #[arg(long = "only", value_name = "SECTION", value_parser = clap::builder::PossibleValuesParser::new(SECTIONS))]
    sections: Vec<String>,
    /// Measure only this part of the section `relay` (may be given several times).
    #[arg(long = "part", value_name = "PART", value_parser = clap::builder::PossibleValuesParser::new(bench::relay::PARTS))]
    parts: Vec<String>,
    /// Compare only these ways of capturing: none, ours, pipelined, same_statement, plpgsql, hstore.
    #[arg(long, value_delimiter = ',')]
    ways: Vec<String>,
    /// Sessions of the row path.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
    clients: Vec<u32>,
    /// Customers in each table.
    #[arg(long, default_value_t = 200_000)]
    rows: u64,
    /// Records that wait to be claimed, in the largest of the section `claims`. Ten million take 8 GB of memory and some
    /// minutes to make.
    #[arg(long)]
    waiting: Option<u64>,
    /// Small databases in the sections bulk, claims and apply.
    #[arg(long)]
    small: bool,
    /// A glance: three rounds of two seconds.
    #[arg(long, conflicts_with_all = ["seconds", "rounds"])]
    quick: bool,
    /// Write full page images, which PostgreSQL does by default. Each run begins after a checkpoint and so with many.
    #[arg(long)]
    full_page_writes: bool,
    /// Connect over TCP instead of the Unix socket.
    #[arg(long)]
    tcp: bool,
    /// Only run a relay with this settings file: the measured process of the section reconcile.
    #[arg(long, hide = true)]
    relay: Option<PathBuf>,
    /// Where the figures go; those of other sections that are in there stay.
    #[arg(long, default_value_os_t = figures::default_path())]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let given = Arguments::parse();
    if let Some(settings) = &given.relay {
        return bench::reconcile::relay(settings).await;
    }
    let (seconds, rounds) = if given.quick {
        (2, 3)
    } else {
        (given.seconds, given.rounds)
    };
    let mut sizes = if given.small { Sizes::SMALL } else { Sizes::FULL };
    if let Some(waiting) = given.waiting {
        sizes.waiting = waiting;
    }
    bench::run(Settings {
        seconds,
        rounds,
        rows: given.rows,
        sizes,
        clients: given.clients,
        sections: if given.sections.is_empty() {
            SECTIONS.map(str::to_owned).to_vec()
        } else {
            given.sections
        },
        parts: given.parts,
        server: Choice {
            full_page_writes: given.full_page_writes,
            tcp: given.tcp,
        },
        ways: given.ways,
        out: given.out,
    })
    .await
}
