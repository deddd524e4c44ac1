//! `hubspot-simulator`: the simulator as a program of its own.

use std::net::SocketAddr;

use clap::Parser;
use hubspot_sync_tests::simulator::{SimConfig, Simulator};
use tokio::signal::unix::{SignalKind, signal};

/// A strict, offline fake of HubSpot's API.
#[derive(Debug, Parser)]
#[command(name = "hubspot-simulator", version)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Static access token.
    #[arg(long)]
    token: Option<String>,
    /// Account id.
    #[arg(long)]
    portal_id: Option<u64>,
    /// App id: source of the writes made with the token.
    #[arg(long)]
    app_id: Option<u64>,
    /// Secret that signs webhooks.
    #[arg(long)]
    client_secret: Option<String>,
    /// Where webhooks go.
    #[arg(long)]
    webhook_url: Option<String>,
    /// Requests allowed in any 10 s; 0 switches the limit off.
    #[arg(long, default_value_t = 100)]
    rate_limit: u32,
    /// Adds the warp_* properties of the customer mapping.
    #[arg(long)]
    warp: bool,
    /// Milliseconds added to the system clock.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    clock_offset_ms: i64,
    /// Seed of random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let given = Arguments::parse();
    let mut config = SimConfig {
        listen: given.listen,
        webhook_url: given.webhook_url,
        rate_limit: given.rate_limit,
        warp: given.warp,
        clock_offset_ms: given.clock_offset_ms,
        seed: given.seed,
        ..SimConfig::default()
    };
    config.token = given.token.unwrap_or(config.token);
    config.portal_id = given.portal_id.unwrap_or(config.portal_id);
    config.app_id = given.app_id.unwrap_or(config.app_id);
    config.client_secret = given.client_secret.unwrap_or(config.client_secret);
    let mut terminate = signal(SignalKind::terminate())?;
    let simulator = Simulator::start(config).await?;
    println!("listening on {}", simulator.base_url());
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    simulator.stop().await;
    Ok(())
}
