//! What the supervisor holds about one worker.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{kernel::Handle, notice::StartFailure};
use crate::machine::{Exit, Mono, Process, Signal};

/// One worker that is not known to be gone.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Worker {
    pub(super) origin: Origin,
    pub(super) leader: Leader,
    /// Whether the leader may not be the first process: how it ends says nothing then.
    pub(super) is_guess: bool,
    pub(super) program: Program,
    pub(super) task: Task,
    pub(super) group: Group,
    /// The strongest signal that was asked for.
    pub(super) signal: Option<Signal>,
    /// Everything alive of it, by the latest scan.
    pub(super) known: BTreeSet<Process>,
    /// Processes that were killed and are not seen to have ended.
    pub(super) victims: BTreeMap<Process, Handle>,
    /// Whether a failed signal is still to be reported: once for each time that one is asked for.
    pub(super) report_error: bool,
    /// How often it is still looked for, while no process of it is known.
    pub(super) looks_left: u32,
    /// Consecutive inconclusive scans that found nothing.
    pub(super) inconclusive_scans: u32,
    /// When to look again, in case that nothing happens before.
    pub(super) check_at: Option<Mono>,
    backoff: Duration,
}

/// How a worker came to this supervisor, and so what is told of it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Origin {
    /// It was started here.
    Started,
    /// Another supervisor started it; whether it lives was asked.
    Adopted,
    /// Another supervisor started it and it was known to run.
    TakenOver,
    /// Another supervisor was about to start it and died.
    Unclear,
    /// Another supervisor looks after it. Nothing is told of it.
    Tracked,
}

/// A worker's first process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leader {
    /// Being forked.
    Forking { handle: Handle },
    /// Not known; it is looked for.
    Sought,
    /// Known, and a handle on it is being opened.
    Opening { process: Process, handle: Handle },
    /// Not seen to have ended.
    Running { process: Process, handle: Handle },
    /// A child that has ended and is not reaped: it holds its pid.
    Held { process: Process, handle: Handle, exit: Exit },
    /// It has ended, and cannot be waited for: another's child, or traced.
    Unwaitable { process: Process, handle: Handle, give_up_at: Mono, exit: Option<Exit> },
    /// Not there any more.
    Gone { process: Option<Process>, exit: Exit },
}

/// Whether the worker's program has been run.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Program {
    /// Its first process has yet to run it.
    Loading,
    /// It was run.
    Run,
    /// It could not be run.
    Failed(StartFailure),
}

/// What is being done about a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Task {
    /// It is looked for.
    Seek,
    /// Its end is waited for.
    Watch,
    /// Its members are looked for, to send them SIGTERM.
    Terminate,
    /// Its members are killed until there are none.
    Kill {
        /// Whether the latest look found nothing.
        empty: bool,
    },
}

/// Whether a worker has a cgroup of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Group {
    /// It has none: its members are found in the process table.
    None,
    /// It was asked for.
    Sought,
    /// It has one: what is in it is the worker's, and nothing else.
    Own {
        /// Whether a process was alive in it, when last read.
        populated: bool,
        /// How many of its processes the kernel has killed for memory, when last read.
        oom_kills: u64,
    },
    /// It has one that cannot be used: its members are found in the process table.
    Broken,
}

impl Worker {
    const MIN_BACKOFF: Duration = Duration::from_millis(100);
    const MAX_BACKOFF: Duration = Duration::from_secs(5);
    const LOOKS: u32 = 4;

    pub(super) fn new(origin: Origin, leader: Leader, program: Program, group: Group) -> Self {
        let task = if leader == Leader::Sought { Task::Seek } else { Task::Watch };
        Self {
            origin,
            leader,
            is_guess: false,
            program,
            task,
            group,
            signal: None,
            known: BTreeSet::new(),
            victims: BTreeMap::new(),
            report_error: false,
            looks_left: Self::LOOKS,
            inconclusive_scans: 0,
            check_at: None,
            backoff: Self::MIN_BACKOFF,
        }
    }

    /// How long to wait before the next look, longer each time.
    pub(super) fn next_backoff(&mut self) -> Duration {
        let wait = self.backoff;
        self.backoff = (wait * 2).min(Self::MAX_BACKOFF);
        wait
    }

    /// There is a new reason to look: be quick again.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff = Self::MIN_BACKOFF;
        self.inconclusive_scans = 0;
    }

    pub(super) fn is_tracked(&self) -> bool {
        self.origin == Origin::Tracked
    }

    pub(super) fn has_group(&self) -> bool {
        matches!(self.group, Group::Own { .. })
    }

    /// Whether there is a cgroup to be removed in the end.
    pub(super) fn leaves_group(&self) -> bool {
        matches!(self.group, Group::Own { .. } | Group::Broken)
    }

    /// Whether the first process is known, or known to be gone: what is asked for can be done.
    pub(super) fn is_found(&self) -> bool {
        !matches!(self.leader, Leader::Forking { .. } | Leader::Sought | Leader::Opening { .. })
            && self.group != Group::Sought
    }

    /// How it ended, once it has and nothing more can be learnt.
    pub(super) fn exit(&self) -> Option<Exit> {
        let exit = self.leader.exit()?;
        match self.group {
            _ if self.is_guess => Some(Exit::Unknown),
            // The kernel killed one of its processes for memory, and nobody else killed this one.
            Group::Own { oom_kills: 1.., .. }
                if exit == Exit::Signal(SIGKILL) && self.signal != Some(Signal::Kill) =>
            {
                Some(Exit::OomKilled)
            }
            _ => Some(exit),
        }
    }
}

const SIGKILL: i32 = 9;

impl Leader {
    pub(super) fn process(&self) -> Option<Process> {
        match self {
            Self::Opening { process, .. }
            | Self::Running { process, .. }
            | Self::Held { process, .. }
            | Self::Unwaitable { process, .. } => Some(*process),
            Self::Gone { process, .. } => *process,
            Self::Forking { .. } | Self::Sought => None,
        }
    }

    /// The handle on it, if it is open.
    pub(super) fn handle(&self) -> Option<Handle> {
        match self {
            Self::Running { handle, .. }
            | Self::Held { handle, .. }
            | Self::Unwaitable { handle, .. } => Some(*handle),
            Self::Forking { .. } | Self::Sought | Self::Opening { .. } | Self::Gone { .. } => None,
        }
    }

    /// How it ended, if that is settled.
    fn exit(&self) -> Option<Exit> {
        match self {
            Self::Held { exit, .. } | Self::Gone { exit, .. } => Some(*exit),
            Self::Unwaitable { exit, .. } => *exit,
            Self::Forking { .. } | Self::Sought | Self::Opening { .. } | Self::Running { .. } => {
                None
            }
        }
    }
}
