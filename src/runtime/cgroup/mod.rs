//! The cgroup v2 files: one cgroup for each worker, which holds all that the worker ever starts.
//!
//! ```text
//!  mount       where is the hierarchy, and where in it is this process?    (text → paths)
//!  delegation  may we divide our cgroup, and how?                discover() ─▶ Subtree
//!  group       one worker's directory                    Subtree::create() ─▶ Group
//!  core        the files cgroup.*        memory        the files memory.*
//!  cpu, pids, io: to come, with the limits; each one file that takes a directory, like memory
//! ```
//!
//! The tree. `top` is the cgroup that was delegated to this node: its systemd unit, its container,
//! or the root of the hierarchy.
//!
//! ```text
//!  top/
//!  ├── agent/                 the agent ┐ only where controllers may be enabled in `top`: a cgroup
//!  ├── shim/                  the shim  ┘ that passes controllers on may hold no process itself
//!  └── arroyo-node-<name>/    passes the controllers on to
//!      └── <worker>/          one worker and all its descendants; it may divide this further
//! ```
//!
//! The life of a group. `populated 0` is the kernel's word that no process is left, in the group or
//! below it.
//!
//! ```text
//!  create ─▶ clone3(CLONE_INTO_CGROUP, directory()) ─▶ events() polled ─▶ populated 0
//!               adopted after a restart: open ─▶ ┘          ▲                │
//!                                                  kill() ──┘   oom_kills(), then remove()
//! ```
//!
//! Enter a group by clone3 only. Writing a pid to `cgroup.procs` instead takes 5 to 50 ms, and the
//! kernel holds up forks and exits meanwhile.
//!
//! Each operation is a few system calls on small files and returns at once; none waits for a
//! process to end. Everything takes a directory, so tests need neither root nor a cgroup. Blocking
//! file IO: the kernel may make a caller wait for its cgroup lock, for milliseconds at most.
//!
//! What a group does not hold: a process with write access to `cgroup.procs` of the group and of
//! `top` can move out. A worker of the same user can therefore leave on purpose, but not by
//! `setsid`, by forking twice, or by clearing its environment.

mod core;
mod delegation;
mod error;
mod group;
mod memory;
mod mode;
mod mount;
mod subtree;

#[cfg(test)]
mod tests;

pub use self::core::Controller;
pub use delegation::{Discovery, Host, Role, WORKERS_PREFIX, discover};
pub use error::{Error, Result, Unavailable};
pub use group::{Events, Group, list};
pub use mode::{Mode, ParseModeError};
pub use subtree::{Placement, Subtree};
