//! One worker: who it is, what became of it. A [`Worker`] is at once the machine's state, the row
//! of the journal and the line of the view, so that these three cannot disagree.
//!
//! ```text
//!  Starting ─▶ Running ─▶ Stopping ─▶ Exited ─▶ Reported ─▶ (forgotten after retention)
//! ```

use std::{fmt, num::NonZeroU64, sync::Arc};

use super::time::{Mono, Wall};
use crate::ids::{Generation, JobId, PipelineId, WorkerId};

/// Everything that is kept about a worker.
#[derive(Clone, PartialEq, Debug)]
pub struct Worker {
    /// Its name, for ever.
    pub id: WorkerId,
    /// What it was started for.
    pub spec: Arc<WorkerSpec>,
    /// When it was admitted.
    pub admitted_at: Wall,
    /// Its first process; `None` until that runs.
    pub process: Option<Process>,
    /// Set once the worker has been told to end.
    pub stop: Option<Stop>,
    /// Since when no controller has known of it: it was alive when the controller turned out to
    /// have forgotten this node, and no controller has named it since.
    pub abandoned_at: Option<Mono>,
    /// Set once it and everything it started is gone.
    pub end: Option<End>,
    /// When the controller acknowledged the report of the end.
    pub reported_at: Option<Wall>,
}

/// What StartWorker said about a worker, except its environment.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkerSpec {
    /// Of the job, for people.
    pub name: String,
    /// The job it serves.
    pub job: JobId,
    /// The job's pipeline, where the controller sends it.
    pub pipeline: Option<PipelineId>,
    /// The job's scheduling attempt.
    pub generation: Generation,
    /// The capacity it holds while it is alive.
    pub slots: NonZeroU64,
    /// How its end is to be reported.
    pub dialect: Dialect,
    /// The caller's name for this attempt, for recognising a repeat.
    pub key: Option<StartKey>,
}

/// A caller's own name for one StartWorker, the same in every repeat of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StartKey(pub Arc<str>);

/// The form of WorkerFinished that a controller understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `WorkerInfo`, with a run id.
    V0_15,
    /// `WorkerContext`, with a generation and a pipeline id.
    V0_16,
}

/// A process, named beyond doubt: a pid alone is reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its start, in clock ticks since the machine booted (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

/// A worker's stop, once begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// When what is left of it is killed; `None`: it is left to end by itself.
    pub kill_at: Option<Mono>,
}

/// A worker's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// How its first process ended.
    pub exit: Exit,
    /// When the agent saw it.
    pub at: Wall,
    /// Its place among all ends on this node: a later end has a higher number. Zero: unknown, from
    /// a journal that did not keep it; earlier than all others.
    pub sequence: u64,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// The kernel killed it for memory.
    OomKilled,
    /// The machine was restarted under it.
    Lost,
    /// Nobody could tell. Never to be read as success.
    Unknown,
}

/// Where in its life a worker is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Admitted; the program does not run yet.
    Starting,
    /// The program runs.
    Running,
    /// It has been told to end and is still alive.
    Stopping,
    /// It and everything it started is gone; the controller has not acknowledged that.
    Exited,
    /// The controller knows.
    Reported,
}

impl Worker {
    /// Where in its life it is.
    pub fn phase(&self) -> Phase {
        match self {
            Worker { reported_at: Some(_), .. } => Phase::Reported,
            Worker { end: Some(_), .. } => Phase::Exited,
            Worker { process: None, .. } => Phase::Starting,
            Worker { stop: Some(_), .. } => Phase::Stopping,
            Worker { .. } => Phase::Running,
        }
    }

    /// Whether it holds its slots: from admission until it and everything it started is gone.
    pub fn is_live(&self) -> bool {
        self.end.is_none()
    }

    /// Orders workers that are alive by age, the oldest first: by the start of their processes,
    /// which no jump of the wall clock moves.
    pub(super) fn age(&self) -> (u64, WorkerId) {
        (self.process.map_or(u64::MAX, |process| process.start_time), self.id)
    }

    /// Whether it is alive and no controller counts its slots.
    pub fn is_abandoned(&self) -> bool {
        self.is_live() && self.abandoned_at.is_some()
    }

    /// Whether the controller is still to be told of its end.
    pub fn is_owed(&self) -> bool {
        self.end.is_some() && self.reported_at.is_none()
    }
}

impl Process {
    /// Whether whoever has that pid now is still this process: whatever is signalled by what was
    /// noted earlier asks this first.
    pub fn is_same_as(self, holder: Self) -> bool {
        self == holder
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
            Exit::OomKilled => f.write_str("out of memory"),
            Exit::Lost => f.write_str("lost"),
            Exit::Unknown => f.write_str("unknown"),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Exited => "exited",
            Phase::Reported => "reported",
        })
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Dialect::V0_15 => "0.15",
            Dialect::V0_16 => "0.16",
        })
    }
}
