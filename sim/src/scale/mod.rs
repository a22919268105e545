//! Many nodes: ten thousand real machines and the real books of a controller in one loop, for
//! questions about clusters rather than about agents. What happens to a controller that has lost
//! its memory when everybody comes back? Is anybody kept waiting? Is anything lost?
//!
//! ```text
//!            ┌────────────── Agenda: what happens next, in order of simulated time ─────────────┐
//!            ▼                                                                                  │
//!  Node: Machine, Rows, Processes, Link ══ Network: delay, jitter, cuts ══ Controller: Books, lock
//!            │ 10,000 of them                                                │ one
//!            └──────────────▶ Tally, Ledger ─▶ Outcome: bounds ◀─────────────┘
//! ```
//!
//! Real: every decision of the agents ([`arroyo_node::machine`]) and the controller's bookkeeping
//! ([`arroyo_node::controller::Books`]). Models, as small as the question allows: the network, the
//! journal (rows in memory), the worker processes, the order in which the controller calls. There
//! is no tokio, no thread and no clock here: the same settings give the same outcomes.
//!
//! The scenarios follow one another in one cluster, so that each begins in what the last one left.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod agenda;
mod audit;
pub mod chart;
mod cluster;
mod controller;
mod ledger;
mod link;
mod network;
mod node;
mod outcome;
mod processes;
mod rows;
mod scenarios;
mod settings;
pub mod table;
mod tally;
mod world;

pub use outcome::{Bound, Count, Outcome, Results, Span};
pub use settings::{Planted, Settings};
pub use tally::Kind;

use cluster::Cluster;
use scenarios::Scenario;

/// Plays every scenario; `watch` hears of each when it is over.
pub fn run(settings: &Settings, mut watch: impl FnMut(&Outcome)) -> Results {
    let mut cluster = Cluster::new(settings);
    let mut outcomes = Vec::new();
    for scenario in Scenario::all(settings) {
        let outcome = scenario.play(&mut cluster);
        watch(&outcome);
        outcomes.push(outcome);
    }
    Results { settings: settings.clone(), outcomes, rates: cluster.world.tally.rates() }
}
