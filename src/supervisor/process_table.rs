//! A process table as it was read: the kinship of processes at about one time.

use std::collections::BTreeMap;

use crate::{ids::WorkerId, machine::Process};

/// What the table says of one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Which process.
    pub process: Process,
    /// Whether it has ended and only waits to be reaped.
    pub dead: bool,
    /// Its parent's pid; 0 where the pid may not have meant the same process all the while.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// The worker whose program it has yet to run: a supervisor names its child after the worker
    /// until then.
    pub loading: Option<WorkerId>,
    /// Whether it is a thread of the kernel.
    pub kernel_thread: bool,
}

/// Processes by pid. No snapshot: processes start and end while it is read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProcessTable {
    /// The processes.
    pub processes: BTreeMap<u32, Stat>,
    /// The pid of the process that has read it: it and pid 1 belong to no worker.
    pub reader: u32,
    /// Whether each of them was started by a worker, though perhaps by one that is not known any
    /// more.
    pub of_workers_only: bool,
    /// Whether it is known not to hold all of them.
    pub cut_short: bool,
}
