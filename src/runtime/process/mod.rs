//! Supervises real worker processes: the port [`Processes`](super::ports::Processes). What is decided
//! is decided by [`crate::supervisor`] and [`crate::shim`]; here it is carried out.
//!
//! ```text
//!  fork, child ─▶ start a program      pidfd, procfs ─▶ which process is which
//!                      ╲        linux        ╱
//!                         (the kernel port)
//!                       ╱                  ╲
//!      local ─▶ in_process, shim/agent      shim/serve
//!      (a thread of the agent)              (a process of its own)
//! ```

mod child;
mod descriptors;
mod discard;
mod errands;
mod fork;
mod in_process;
mod inspect;
mod linux;
mod local;
mod pidfd;
mod procfs;
pub mod program;
pub mod shim;
mod ticks;

#[cfg(test)]
mod tests;

pub use crate::supervisor::{CommandError, WorkerCommand};
pub use descriptors::raise_descriptor_limit;
pub use in_process::{InProcess, ProcessesConfig};
pub use inspect::{Marked, alive_of, alive_with, identify, send_signal};
