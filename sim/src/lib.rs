//! The simulator of whole clusters: the driver, services, clients, journal and reference controller
//! that run in production, on a simulated network, simulated time and simulated processes, under
//! faults; the same from run to run, to the byte.
//!
//! ```text
//!  seed ─▶ plan ─▶ world ── facts ─▶ recorder ─▶ trace, oracles, marks ─▶ outcome
//!                   │ agents, controller, caller on turmoil; process tables; links; disks
//! ```
//!
//! Apart from that, [`scale`] runs very many machines, without the stack around them.

pub mod fact;
pub mod interpose;
mod marking;
pub mod marks;
pub mod oracles;
pub mod outcome;
pub mod past;
pub mod picture;
pub mod plan;
mod process;
pub mod recorder;
pub mod scale;
pub mod scenarios;
pub mod streams;
pub mod triggers;
pub mod watchdog;
pub mod world;
