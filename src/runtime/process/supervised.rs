//! What the engine holds about one worker.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::pidfd::Pidfd;
use crate::machine::{Exit, Process};

/// One worker that is not known to be gone.
pub(super) struct Supervised {
    pub(super) leader: Leader,
    pub(super) task: Task,
    /// Everything alive of it, by the latest walk.
    pub(super) known: BTreeSet<Process>,
    /// Killed, not yet seen to be dead.
    pub(super) victims: BTreeMap<Process, Watch>,
    /// Whether a failed signal is still to be told of: once for each time one is asked for.
    pub(super) complain: bool,
    /// How often nothing was found since something was, or since there was a new reason to look,
    /// though it was unclear whether there is nothing.
    pub(super) unclear_looks: u32,
    /// When to look again at what does not end, and how long to wait the time after.
    pub(super) look_again_at: Option<Instant>,
    patience: Duration,
}

/// What is being done about a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Task {
    /// Nothing: its end is waited for.
    Watch,
    /// The next walk sends SIGTERM.
    Terminate,
    /// Every walk sends SIGKILL, until one finds nothing.
    Clear {
        /// Whether the latest walk found nothing.
        empty: bool,
    },
}

/// A pidfd in the engine's epoll, under this token.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) pidfd: Pidfd,
    pub(super) token: u64,
}

/// A worker's first process.
#[derive(Debug)]
pub(super) enum Leader {
    /// Not seen to have ended.
    Running { process: Process, watch: Watch },
    /// A child of this process that has ended and is not reaped: its pid is held.
    Held { process: Process, pidfd: Pidfd, exit: Exit },
    /// Somebody else's child that has ended. Its status is to be had once its parent reaps it.
    Foreign { process: Process, watch: Watch, give_up_at: Instant },
    /// Not there any more.
    Gone { process: Option<Process>, exit: Exit },
}

impl Supervised {
    const FIRST_PATIENCE: Duration = Duration::from_millis(100);
    const LAST_PATIENCE: Duration = Duration::from_secs(5);

    pub(super) fn new(leader: Leader) -> Self {
        Self {
            leader,
            task: Task::Watch,
            known: BTreeSet::new(),
            victims: BTreeMap::new(),
            complain: false,
            unclear_looks: 0,
            look_again_at: None,
            patience: Self::FIRST_PATIENCE,
        }
    }

    /// Have another look after a while, each time after a longer one.
    pub(super) fn look_again_later(&mut self, now: Instant) {
        self.look_again_at = Some(now + self.patience);
        self.patience = (self.patience * 2).min(Self::LAST_PATIENCE);
    }

    /// Somebody asked anew, or something happened: be quick again.
    pub(super) fn be_impatient(&mut self) {
        self.patience = Self::FIRST_PATIENCE;
        self.unclear_looks = 0;
    }
}

impl Leader {
    /// How long the parent of a foreign leader is given to reap it.
    const REAPING: Duration = Duration::from_secs(1);

    pub(super) fn process(&self) -> Option<Process> {
        match self {
            Self::Running { process, .. }
            | Self::Held { process, .. }
            | Self::Foreign { process, .. } => Some(*process),
            Self::Gone { process, .. } => *process,
        }
    }

    pub(super) fn pidfd(&self) -> Option<&Pidfd> {
        match self {
            Self::Running { watch, .. } | Self::Foreign { watch, .. } => Some(&watch.pidfd),
            Self::Held { pidfd, .. } => Some(pidfd),
            Self::Gone { .. } => None,
        }
    }

    /// Its status, once that is settled.
    pub(super) fn exit(&self, now: Instant) -> Option<Exit> {
        match self {
            Self::Running { .. } => None,
            Self::Held { exit, .. } | Self::Gone { exit, .. } => Some(*exit),
            Self::Foreign { watch, give_up_at, .. } => {
                let settled = *give_up_at <= now || !watch.pidfd.is_unreaped();
                watch.pidfd.exit_info().or(settled.then_some(Exit::Unknown))
            }
        }
    }

    /// What a running leader is once its pidfd is ready.
    pub(super) fn after_end(process: Process, watch: Watch, now: Instant) -> Self {
        match watch.pidfd.peek() {
            Ok(Some(exit)) => Self::Held { process, pidfd: watch.pidfd, exit },
            Ok(None) => Self::Running { process, watch },
            // Not our child, or the embedding program has reaped it behind our back.
            Err(_) => Self::Foreign { process, watch, give_up_at: now + Self::REAPING },
        }
    }
}
