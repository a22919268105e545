//! Supervises real worker processes: the port [`Processes`](super::ports::Processes).
//!
//! ```text
//!  recipe ─▶ what to execute      spawn, child ─▶ execute it     pidfd, procfs ─▶ who is who
//!                     tree ─▶ whose is a process
//!                        ╲        │        ╱
//!                          engine (+ clear)
//!                            ╱         ╲
//!       supervisor, in_process         shim ─ ─ ─ client, in the agent
//! ```

mod child;
mod clear;
mod command;
mod descriptors;
mod engine;
mod in_process;
mod inspect;
mod pidfd;
mod procfs;
pub mod program;
mod recipe;
pub mod shim;
mod spawn;
mod stand_in;
mod supervised;
mod supervisor;
mod ticks;
mod tree;

#[cfg(test)]
mod tests;

pub use command::{CommandError, Image, WorkerCommand};
pub use descriptors::raise_descriptor_limit;
pub use in_process::{InProcess, ProcessesConfig};
pub use inspect::{Marked, alive_of, alive_with, identify, send_signal};
