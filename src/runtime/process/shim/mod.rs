//! The shim in production: a process that runs [`crate::shim::Server`], and the agent's port that
//! runs [`crate::shim::Client`]. Here is what carries out their decisions.

mod agent;
mod channel;
mod daemon;
mod holders;
mod launch;
mod serve;
mod socket;

pub use agent::{ShimConfig, ShimProcesses};
pub use serve::{ShimOptions, serve};
