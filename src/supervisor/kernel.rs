//! What the supervisor asks of the kernel, and what the kernel answers: plain data.
//!
//! ```text
//!  Supervisor ── Operation ──▶ Kernel ── Answer (at once) ──▶ Supervisor
//!                                 └───── KernelEvent (later) ──▶
//! ```
//!
//! The production kernel is Linux (`runtime::process::linux`), the simulator's is a process table.
//! Neither decides anything.

use std::{collections::BTreeSet, fmt, io, sync::Arc};

use super::{
    exec::ExecSpec,
    process_table::{ProcessTable, Stat},
};
use crate::{
    ids::WorkerId,
    machine::{Exit, Process, Signal},
};

/// Carries out operations. Nothing here waits for a disk, a program that loads, or another process.
pub trait Kernel {
    /// Carries one out. Operations that have an answer are answered at once, or later by an event
    /// where the operation says so.
    fn carry_out(&mut self, operation: Operation) -> Option<Answer>;
}

/// Names a pidfd that the kernel port holds for the supervisor. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Handle(pub u64);

/// An error number of the operating system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Errno(pub i32);

/// Something to ask of the kernel.
#[derive(Clone, PartialEq, Debug)]
pub enum Operation {
    /// Fork a process that runs a worker's program in a session of its own, and watch it through
    /// this handle. Answered by [`Answer::Forked`]; then, once the program runs or could not be
    /// run, by [`KernelEvent::Executed`].
    Start {
        /// The worker.
        worker: WorkerId,
        /// The handle on its first process.
        handle: Handle,
        /// What to run.
        spec: Arc<ExecSpec>,
    },
    /// Open a handle on exactly this process, and watch it. Answered by [`Answer::Opened`].
    Open {
        /// The handle.
        handle: Handle,
        /// The process.
        process: Process,
    },
    /// Close a handle. No answer.
    Close(Handle),
    /// Send a signal through a handle. Answered by [`Answer::Signalled`].
    Signal {
        /// The handle.
        handle: Handle,
        /// The signal.
        signal: Signal,
        /// To whom.
        scope: SignalScope,
    },
    /// Send a signal to exactly this process, of which no handle is held. Answered by
    /// [`Answer::ProcessSignalled`].
    SignalProcess {
        /// The worker that it belongs to.
        worker: WorkerId,
        /// The process.
        process: Process,
        /// The signal.
        signal: Signal,
    },
    /// Tell whether the process of a handle has ended, and how. Answered by [`Answer::Status`].
    ReadStatus(Handle),
    /// Reap the process of a handle: a child that has ended. No answer.
    Reap(Handle),
    /// Read the process table, and after that which of these handles' processes still hold their
    /// pids. Answered by [`Answer::Processes`].
    ReadProcesses {
        /// Which scan asks.
        scan: u64,
        /// Which processes.
        scope: TableScope,
        /// The handles to check after the table was read.
        check: Vec<Handle>,
    },
    /// Read which worker the environment of each of these processes names. It may take long, as
    /// the kernel makes a reader wait for a process that is stuck. Answered later, by
    /// [`KernelEvent::Environments`].
    ReadEnvironments {
        /// Which scan asks.
        scan: u64,
        /// The processes.
        processes: Vec<Process>,
    },
    /// Name one child that has ended and is not reaped. Answered by [`Answer::DeadChild`].
    FindDeadChild,
    /// Reap the child that has this pid and has ended. No answer.
    ReapChild(u32),
    /// Tell what a worker's cgroup says. Answered by [`Answer::Group`].
    ReadGroup(WorkerId),
    /// Name the processes in a worker's cgroup. Answered by [`Answer::Members`].
    ReadMembers(WorkerId),
    /// Kill everything in a worker's cgroup, and say by [`KernelEvent::GroupChanged`] when it has
    /// become empty. Answered by [`Answer::GroupKilled`].
    KillGroup(WorkerId),
    /// Remove a worker's cgroup, which is empty. Answered by [`Answer::GroupRemoved`].
    RemoveGroup(WorkerId),
}

/// To whom a signal goes that is sent through a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignalScope {
    /// The process.
    Process,
    /// Every process of the group that it leads, in one go. Kernels before 6.9 answer `EINVAL`.
    ProcessGroup,
}

/// Which processes a table is to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableScope {
    /// All that can be seen.
    All,
    /// The descendants of this process, without the children of these pids and what is below them.
    Descendants {
        /// The children to leave out.
        skip: BTreeSet<u32>,
    },
}

/// What the kernel answers at once.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// To [`Operation::Start`]: there is a process, which has yet to run the program; or none is.
    Forked {
        /// The worker.
        worker: WorkerId,
        /// Its first process.
        result: Result<Process, String>,
    },
    /// To [`Operation::Open`]. `Ok(false)`: the process is gone, whatever has its pid now.
    Opened {
        /// The handle.
        handle: Handle,
        /// Whether it is open.
        result: Result<bool, Errno>,
    },
    /// To [`Operation::Signal`]. `Ok(false)`: there is no such process any more.
    Signalled {
        /// The handle.
        handle: Handle,
        /// To whom it went.
        scope: SignalScope,
        /// Whether it was sent.
        result: Result<bool, Errno>,
    },
    /// To [`Operation::SignalProcess`].
    ProcessSignalled {
        /// The worker.
        worker: WorkerId,
        /// The process.
        process: Process,
        /// Whether it was sent.
        result: Result<bool, Errno>,
    },
    /// To [`Operation::ReadStatus`].
    Status {
        /// The handle.
        handle: Handle,
        /// What is known of it.
        status: Status,
    },
    /// To [`Operation::ReadProcesses`].
    Processes {
        /// Which scan asked.
        scan: u64,
        /// The table, and those handles that were asked about and whose processes hold their pids.
        result: Result<(ProcessTable, BTreeSet<Handle>), Errno>,
    },
    /// To [`Operation::FindDeadChild`].
    DeadChild(Option<u32>),
    /// To [`Operation::ReadGroup`]. `Ok(None)`: there is no such cgroup.
    Group {
        /// The worker.
        worker: WorkerId,
        /// What its cgroup says.
        result: Result<Option<GroupState>, Errno>,
    },
    /// To [`Operation::ReadMembers`].
    Members {
        /// The worker.
        worker: WorkerId,
        /// Everything alive in its cgroup.
        result: Result<Vec<Stat>, Errno>,
    },
    /// To [`Operation::KillGroup`].
    GroupKilled {
        /// The worker.
        worker: WorkerId,
        /// Whether that could be asked.
        result: Result<(), Errno>,
    },
    /// To [`Operation::RemoveGroup`].
    GroupRemoved {
        /// The worker.
        worker: WorkerId,
        /// Whether it is gone.
        result: Result<(), Errno>,
    },
}

/// What the kernel tells unasked, or later.
#[derive(Clone, PartialEq, Debug)]
pub enum KernelEvent {
    /// Something has happened to the process of this handle: it has ended, or it was reaped.
    Ready(Handle),
    /// What became of a started program.
    Executed {
        /// The worker.
        worker: WorkerId,
        /// `Ok`: its first process no longer waits to run it. `Err`: it could not be run, and the
        /// process is about to exit.
        result: Result<(), String>,
    },
    /// To [`Operation::ReadEnvironments`].
    Environments {
        /// Which scan asked.
        scan: u64,
        /// What could be read, by pid.
        environments: Vec<(Process, Environment)>,
    },
    /// The cgroup of a worker that was killed may be empty now.
    GroupChanged(WorkerId),
    /// A child of this process has ended.
    ChildEnded,
}

/// What is known of the end of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It has not ended.
    Alive,
    /// A child that has ended like this and holds its pid until it is reaped.
    Ended(Exit),
    /// It has ended, and nobody has reaped it yet who may: it is another's child, or traced.
    Unwaitable,
    /// It has been reaped. `None`: how it ended cannot be told (Linux before 6.15).
    Reaped(Option<Exit>),
}

/// What a worker's cgroup says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupState {
    /// Whether a process is alive in it or below it.
    pub populated: bool,
    /// How many of its processes the kernel has killed for memory; 0 where memory is not counted.
    pub oom_kills: u64,
}

/// What a process's environment says about whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Environment {
    /// It names this worker.
    Names(WorkerId),
    /// It names none.
    NamesNone,
    /// It is empty or cannot be read: the process is loading a program, is hidden or has ended.
    Unreadable,
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}
