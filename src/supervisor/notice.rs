//! What is asked of a supervisor, and what it tells.

use std::{fmt, sync::Arc};

use super::exec::ExecSpec;
use crate::{
    ids::WorkerId,
    machine::{Event, Exit, Process, Signal, SpawnError},
};

/// What a supervisor is asked for.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Run a worker's program. Answered by [`Notice::Started`] or [`Notice::StartFailed`], and
    /// after `Started`, once nothing of the worker is left, by [`Notice::Ended`].
    Start {
        /// The worker.
        worker: WorkerId,
        /// What to run.
        spec: Arc<ExecSpec>,
    },
    /// Find a worker that another supervisor started. Answered by [`Notice::Adopted`] and, in the
    /// end, [`Notice::Ended`]; or by one of `Ended` and [`Notice::NeverRan`].
    Adopt {
        /// The worker.
        worker: WorkerId,
        /// Its first process, if that is known.
        process: Option<Process>,
    },
    /// Look for a worker that another supervisor was about to start when it died. Answered as
    /// `Start`.
    FinishStart {
        /// The worker.
        worker: WorkerId,
    },
    /// Hold a handle on a worker that another supervisor looks after. Answered by nothing.
    Track {
        /// The worker.
        worker: WorkerId,
        /// Its first process.
        process: Process,
    },
    /// Look after a worker from now on, tracked or not: its supervisor is gone. Answered by
    /// [`Notice::Ended`] alone.
    TakeOver {
        /// The worker.
        worker: WorkerId,
        /// Its first process.
        process: Process,
    },
    /// Kill a tracked worker, until nothing is left of it. Its end is another's to tell.
    BackupKill {
        /// The worker.
        worker: WorkerId,
    },
    /// Signal everything of a worker; SIGKILL until nothing is left. A worker that has ended, or is
    /// not known, is not signalled, and that is no error.
    Signal {
        /// The worker.
        worker: WorkerId,
        /// The signal.
        signal: Signal,
    },
    /// Track a worker no longer: nothing of it is left.
    Untrack {
        /// The worker.
        worker: WorkerId,
    },
}

/// What a supervisor tells.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    /// A worker's program runs.
    Started {
        /// The worker.
        worker: WorkerId,
        /// Its first process.
        process: Process,
    },
    /// It does not, and nothing is left of the attempt.
    StartFailed {
        /// The worker.
        worker: WorkerId,
        /// Why.
        failure: StartFailure,
    },
    /// A worker that was to be adopted is alive.
    Adopted {
        /// The worker.
        worker: WorkerId,
        /// Its first process.
        process: Process,
    },
    /// There is no trace of a worker that was to be adopted.
    NeverRan(WorkerId),
    /// Nothing of a worker is alive any more.
    Ended {
        /// The worker.
        worker: WorkerId,
        /// How its first process ended.
        exit: Exit,
    },
    /// A signal could not be sent, though there is a process to send it to.
    SignalFailed {
        /// The worker.
        worker: WorkerId,
        /// Why.
        error: String,
    },
    /// For the log: something that is tried again.
    Warning {
        /// The worker.
        worker: WorkerId,
        /// What is wrong.
        text: String,
    },
}

impl Notice {
    /// What it means for the node; `None`: nothing. `spawn_error` makes the reason of a failed
    /// start one that names the program.
    pub fn into_event(self, spawn_error: impl Fn(&str) -> SpawnError) -> Option<Event> {
        Some(match self {
            Self::Started { worker, process } => Event::Spawned { worker, process },
            Self::StartFailed { worker, failure } => {
                Event::SpawnFailed { worker, error: spawn_error(&failure.to_string()) }
            }
            Self::Adopted { worker, process } => Event::Adopted { worker, process },
            Self::NeverRan(worker) => Event::NeverRan(worker),
            Self::Ended { worker, exit } => Event::Exited { worker, exit },
            Self::SignalFailed { worker, error } => {
                Event::SignalFailed { worker, error: error.into() }
            }
            Self::Warning { .. } => return None,
        })
    }
}

/// Why a worker's program does not run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartFailure {
    /// The operating system says so.
    Refused(String),
    /// The supervisor that was to start it is gone, and so is all that it started.
    SupervisorDied,
    /// There is a worker of this name already.
    AlreadyStarted,
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => f.write_str(reason),
            Self::SupervisorDied => f.write_str("the shim died while it was to run it"),
            Self::AlreadyStarted => f.write_str("this worker has been started already"),
        }
    }
}
