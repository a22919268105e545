//! The shim, and the agent's way to it: pure, like the supervisor that both contain.
//!
//! ```text
//!  agent                                                       shim
//!  node ─▶ Client ─ ─ ─ requests ─ ─ ─ ─ protocol ─ ─ ─ ─ ─ ─▶ Server ─▶ Supervisor ─▶ kernel
//!            │ ▲ ◀ ─ ─ ─ responses ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─    │
//!            ▼ │                                                  ▼
//!          Supervisor of the agent: tracks the shim's workers,    workers
//!          and looks after them when the shim has died
//! ```
//!
//! The shim is a tiny process that parents the workers, so that they and their exit statuses
//! outlive the agent. There is one per state directory, kept so by a lock. It is started by the first agent
//! that finds none, serves one agent at a time, and ends by itself when nothing needs it.
//!
//! [`Server`] decides what the shim does, [`Client`] what the agent does about its shim: to
//! connect, to start one, to end one that does not answer, and by whom each worker is looked after.
//! What carries it out is `runtime::process` in production, and the simulator.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod client;
mod label;
pub mod payload;
pub mod protocol;
mod registry;
mod server;
#[cfg(test)]
mod tests;
mod watchdog;

pub use client::{
    Client, ClientAction, ClientInput, ClientOutput, ClientSettings, Known, LogLevel, ShimError,
};
pub use server::{Place, Server, ServerAction, ServerInput, ServerOutput};

/// Names a connection. Never reused by the side that numbers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkId(pub u64);
