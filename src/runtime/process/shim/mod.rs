//! The shim: a tiny process that parents the workers, so that they and their exit statuses
//! outlive the agent.
//!
//! ```text
//!  agent: ShimProcesses ◀── shim.sock ──▶ shim ──▶ workers
//!         (client)          (protocol)    (server: the engine, subreaper)
//! ```
//!
//! One shim per state directory, kept so by a lock on `shim.lock`. It is started by the first
//! agent that finds none, serves one agent at a time, and ends by itself when nobody needs it.

mod books;
mod client;
mod daemon;
mod hung;
mod label;
mod launcher;
mod link;
pub mod payload;
pub mod protocol;
mod server;
mod silence;
mod socket;

pub use client::{Known, ShimConfig, ShimProcesses};
pub use launcher::ShimError;
pub use server::{ShimOptions, serve};
