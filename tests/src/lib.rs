//! placeholder
pub mod cluster;
pub mod simulator;
