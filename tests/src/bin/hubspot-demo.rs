//! `hubspot-demo`: the customer mapping in both directions, told step by step and checked.

use std::process::ExitCode;

use clap::Parser;

/// Plays the customer mapping in both directions against the HubSpot simulator and checks every outcome.
///
/// Needs nothing but the built extension (`make ext`): PostgreSQL, relay and simulator are started for the demo and
/// stopped with it. Exit codes: 0 everything was as it should be, 1 something was not, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "hubspot-demo", version)]
struct Arguments {}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    hubspot_sync_tests::demo::play().await
}
