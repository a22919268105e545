//! The reference controller: as small as it can be while it behaves on the wire like the node
//! scheduler of a stock Arroyo controller. For development, for tests and for the simulator.
//!
//! ```text
//!      nodes ──ControllerGrpc──▶ service ──┐            ┌── reconcile (one task a job)
//!                                          ▼            ▼        │
//!   snapshot, subscribe ◀────────────── books (pure) ◀──┘        ▼
//!                                                         nodes ──NodeGrpc──▶ nodes
//! ```
//!
//! - [`Books`] is the bookkeeping alone: no clock, no IO, nothing whose order is left to chance.
//! - [`Controller`] puts it on the network. Its clock ([`Clock`](crate::runtime::ports::Clock)),
//!   its way to nodes ([`Connector`]) and its incoming connections are given to it, so that it
//!   runs on real sockets and in a simulated network alike.
//! - It remembers nothing: to restart it "with empty memory" is to drop it and make a new one.
//! - What stock does and nobody would do on purpose is kept, and switched in [`Quirks`].
//!
//! Given the same clock, connections and peers it does the same: it draws no entropy, reads no
//! clock of its own, and waits in a fixed order wherever it waits for two things.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod book;
mod event;
mod handle;
mod job;
mod nodes;
mod reconcile;
mod report;
mod scheduling;
mod serve;
mod service;
mod settings;
mod shared;
#[cfg(test)]
mod tests;

pub use book::{Books, NotEnoughSlots, Placement, StopTarget};
pub use event::{ControllerEvent, Counters, Node, Snapshot, StopAnswer, Violation, Worker};
pub use handle::Controller;
pub use job::{Job, JobSpec, JobState, Stop, SubmitError, UnknownJob};
pub use nodes::{ConnectError, Connector, Refusal, TcpConnector, TlsConnector, endpoint};
pub use report::{FinishOutcome, FinishedReport, NoIdentity};
pub use service::ControllerService;
pub use settings::{Quirks, Settings};
