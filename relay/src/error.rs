//! Why the relay ends with an error.

use std::net::SocketAddr;

use crate::config::ConfigError;

/// An error that ends the relay. Failures of single calls never do.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A setting is wrong: needs a person.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {source}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A command could not do what it was asked for.
    #[error("{problem}")]
    Command {
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A part of the relay ended although nobody asked it to: start again.
    #[error("the relay's {task} ended unexpectedly")]
    Task {
        /// Which part.
        task: &'static str,
    },
}
