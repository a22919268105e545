//! What the machine wants done. Effects are plain data, executed by the driver in order, and only
//! after the records of the same batch are durable.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    event::Reply,
    record::Commit,
    time::{Now, Wall},
    worker::{Dialect, Exit, Process, WorkerSpec},
};
use crate::ids::{Generation, JobId, MachineId, PipelineId, RequestId, WorkerId};

/// One thing to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Answer a caller.
    Reply {
        /// Who waits.
        request: RequestId,
        /// What to say.
        reply: Reply,
    },
    /// Start a worker's process. Answered by `Spawned` or `SpawnFailed`.
    Spawn(Launch),
    /// Find out what became of a worker that an earlier agent started.
    /// Answered by `Adopted` or `Exited`.
    Adopt {
        /// Whose process.
        worker: WorkerId,
        /// The process, if an earlier agent got to know it.
        process: Option<Process>,
    },
    /// Send a signal to everything that a worker started. Answered only by `SignalFailed`, or by
    /// the worker's end.
    Signal {
        /// Whose processes.
        worker: WorkerId,
        /// Which signal.
        signal: Signal,
    },
    /// The worker's end is durable: who kept its exit status need not keep it any longer.
    Release(WorkerId),
    /// The worker is forgotten: what is left of it (its output) may go.
    Discard(WorkerId),
    /// Make the agent known to the controller. Answered by `Registered`.
    Register(Registration),
    /// Keep it known, or ask whether it is. Answered by `HeartbeatAnswered`.
    Heartbeat(Heartbeat),
    /// Tell the controller of a worker's end. Answered by `ReportAnswered`.
    Report(Report),
    /// Tell whoever listens inside this process of a worker's end: once per agent that owes it.
    Announce(Report),
    /// End the agent's process; nothing follows.
    Finish,
}

impl Effect {
    /// Whether this must not happen unless the records of its batch are durable. The driver hands
    /// such an effect back, as `Event::NotDurable`, when the commit fails.
    ///
    /// The rest is supervision, which goes on without a journal.
    pub fn awaits_commit(&self) -> bool {
        match self {
            // A process that no record names would be an orphan after a crash.
            Effect::Spawn(_) => true,
            // The only other copy of the exit status must not go first.
            Effect::Release(_) => true,
            // A controller that hears of this node anew counts all its slots as free: what it does
            // not count must be known to the next agent, too.
            Effect::Register(Registration { reconnect: true, .. }) => true,
            // The caller is promised that it survives.
            Effect::Reply { reply: Reply::Draining(Ok(())), .. } => true,
            Effect::Reply { .. }
            | Effect::Adopt { .. }
            | Effect::Signal { .. }
            | Effect::Discard(_)
            | Effect::Register(_)
            | Effect::Heartbeat(_)
            | Effect::Report(_)
            | Effect::Announce(_)
            | Effect::Finish => false,
        }
    }
}

/// What to start, for whom. How that becomes a command line is the process port's business.
/// Debug shows no values of variables: they may be secret.
#[derive(Clone, PartialEq)]
pub struct Launch {
    /// The worker's name.
    pub worker: WorkerId,
    /// What it is for.
    pub spec: Arc<WorkerSpec>,
    /// When it was admitted.
    pub admitted_at: Wall,
    /// The variables that its StartWorker asked for.
    pub env: BTreeMap<String, String>,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("worker", &self.worker)
            .field("spec", &self.spec)
            .field("admitted_at", &self.admitted_at)
            .field("env", &self.env.keys())
            .finish()
    }
}

/// The two signals that a stop consists of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Signal {
    /// SIGTERM: please end.
    Terminate,
    /// SIGKILL, until nothing of the worker is left.
    Kill,
}

/// HeartbeatNode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// When it is sent.
    pub sent: Now,
    /// Whether it asks if the controller still knows this node, on a new connection if there is
    /// none. Other heartbeats need the connection that there is.
    pub probe: bool,
}

/// RegisterNode.
#[derive(Clone, PartialEq, Debug)]
pub struct Registration {
    /// The agent's name.
    pub machine: MachineId,
    /// The capacity it offers: all of it, whatever is in use (arroyo-compat: a controller that
    /// restarted learns of what is in use by refusals).
    pub task_slots: u64,
    /// `host:port` at which it is reached.
    pub address: String,
    /// Whether it may go over a new connection. Not if the controller has just said that it knows
    /// this node: the next connection may lead to one that has forgotten it, which would take the
    /// registration without a word.
    pub reconnect: bool,
}

/// WorkerFinished.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// On which machine it ran.
    pub machine: MachineId,
    /// Which worker ended.
    pub worker: WorkerId,
    /// Its job.
    pub job: JobId,
    /// Its job's pipeline.
    pub pipeline: Option<PipelineId>,
    /// Its job's scheduling attempt.
    pub generation: Generation,
    /// Exactly the slots of its StartWorker.
    pub slots: u64,
    /// How it ended.
    pub exit: Exit,
    /// When it ended.
    pub ended_at: Wall,
    /// How to say all this.
    pub dialect: Dialect,
}

impl Report {
    /// The same, said otherwise.
    pub fn in_the_other_dialect(&self) -> Self {
        let dialect = match self.dialect {
            Dialect::V0_15 => Dialect::V0_16,
            Dialect::V0_16 => Dialect::V0_15,
        };
        Self { dialect, ..self.clone() }
    }
}

/// What one or more events brought about: records to commit, then effects to execute.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Effects {
    /// To be made durable first.
    pub commit: Commit,
    /// To be executed then, in this order.
    pub effects: Vec<Effect>,
}

impl Effects {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.commit.is_empty() && self.effects.is_empty()
    }
}
