//! Supervises real worker processes: the port [`Processes`](super::ports::Processes).
//!
//! ```text
//!  command ─▶ what to execute     spawn ─▶ executes it     pidfd, procfs ─▶ who is who
//!                     tree ─▶ whose is a process
//!                        ╲        │        ╱
//!                          engine (+ clear)
//!                                 │
//!                            in_process
//! ```

mod clear;
mod command;
mod engine;
mod in_process;
mod inspect;
mod pidfd;
mod procfs;
mod spawn;
mod supervised;
mod tree;

#[cfg(test)]
mod tests;

pub use command::{CommandError, Image, Inherited, WorkerCommand};
pub use in_process::{InProcess, ProcessesConfig};
pub use inspect::{alive_of, send_signal};
