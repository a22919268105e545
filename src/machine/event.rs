//! What can happen to an agent, and what it can answer. Plain data throughout: replies name a
//! [`RequestId`], no channel enters the machine.

use std::{collections::BTreeMap, fmt, num::NonZeroU64, sync::Arc, time::Duration};

use thiserror::Error;

use super::{
    effect::{Effect, Heartbeat},
    worker::{Dialect, Exit, Process, StartKey},
};
use crate::ids::{Generation, JobId, MachineId, PipelineId, RequestId, WorkerId};

/// One thing that happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The agent can be reached: look after the workers that were recovered, and register.
    /// The first event, and only the first.
    Begin,
    /// Somebody asks for something.
    Request {
        /// Where the reply goes.
        request: RequestId,
        /// What is asked.
        ask: Ask,
    },
    /// The reply to a request has been sent, or its caller has gone away; told of the replies that
    /// [`Reply::is_followed`].
    Delivered(RequestId),
    /// A signal (SIGTERM, SIGINT) or the embedding program asks the agent to end.
    Shutdown(Shutdown),

    /// The worker's program runs.
    Spawned {
        /// Which worker.
        worker: WorkerId,
        /// Its first process.
        process: Process,
    },
    /// The worker's program could not be run; no process is left.
    SpawnFailed {
        /// Which worker.
        worker: WorkerId,
        /// Why.
        error: SpawnError,
    },
    /// A worker that an earlier agent started is alive.
    Adopted {
        /// Which worker.
        worker: WorkerId,
        /// Its first process.
        process: Process,
    },
    /// The worker and everything it started is gone.
    Exited {
        /// Which worker.
        worker: WorkerId,
        /// How its first process ended.
        exit: Exit,
    },
    /// A worker that an earlier agent was about to start never ran.
    NeverRan(WorkerId),
    /// A signal could not be sent, though the worker is alive.
    SignalFailed {
        /// Which worker.
        worker: WorkerId,
        /// The operating system's word.
        error: Arc<str>,
    },

    /// A connection to the controller has ended, or could not be made.
    ConnectionLost(Loss),
    /// RegisterNode ended.
    Registered(Result<(), CallError>),
    /// HeartbeatNode ended.
    HeartbeatAnswered {
        /// Which one.
        heartbeat: Heartbeat,
        /// Whether the controller knows this node, or there was no answer in time.
        result: Result<(), CallError>,
    },
    /// A heartbeat that had no answer in time has been answered after all, whatever the answer is.
    LateAnswer,
    /// WorkerFinished ended.
    ReportAnswered {
        /// Whose report.
        worker: WorkerId,
        /// Acknowledged, or not.
        result: Result<(), CallError>,
    },

    /// Whether the worker program can be executed was looked at: if not, why not, with its path.
    /// Until the first such event it is taken to be executable.
    ProgramChecked(Result<(), Arc<str>>),

    /// A commit failed: none of its records is durable.
    JournalFailed(Arc<str>),
    /// A commit that rewrites everything succeeded.
    JournalRestored,
    /// This effect was not executed, since it rests on a commit that failed.
    NotDurable(Box<Effect>),

    /// The time of `next_timeout` has come.
    Timeout,
}

/// What can be asked of an agent.
#[derive(Clone, PartialEq, Debug)]
pub enum Ask {
    /// Start a worker.
    Start(Start),
    /// Stop a worker, or ask whether it has ended.
    Stop {
        /// Which.
        worker: WorkerId,
        /// How.
        how: StopHow,
    },
    /// Is this agent alive, and the one of this name?
    Alive(MachineId),
    /// Refuse new workers, or accept them again.
    SetDraining(bool),
    /// End the agent.
    Shutdown(Shutdown),
}

/// A StartWorker whose form has been checked. Debug shows no values of variables: they may be secret.
#[derive(Clone, PartialEq)]
pub struct Start {
    /// For whom it is meant.
    pub machine: MachineId,
    /// Of the job, for people.
    pub name: String,
    /// The job.
    pub job: JobId,
    /// Its pipeline, where the controller sends it.
    pub pipeline: Option<PipelineId>,
    /// Its scheduling attempt.
    pub generation: Generation,
    /// The capacity the worker will hold.
    pub slots: NonZeroU64,
    /// How the worker's end is to be reported.
    pub dialect: Dialect,
    /// Variables for the worker's environment.
    pub env: BTreeMap<String, String>,
    /// The caller's name for this attempt.
    pub key: Option<StartKey>,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("machine", &self.machine)
            .field("name", &self.name)
            .field("job", &self.job)
            .field("pipeline", &self.pipeline)
            .field("generation", &self.generation)
            .field("slots", &self.slots)
            .field("dialect", &self.dialect)
            .field("env", &self.env.keys())
            .field("key", &self.key)
            .finish()
    }
}

/// How to stop a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopHow {
    /// Not at all: only ask whether it has ended.
    Ask,
    /// SIGTERM.
    Gentle,
    /// SIGTERM, then SIGKILL.
    Force,
}

/// How an agent ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// Stop all workers, deliver what is owed, end.
    StopWorkers,
    /// End at once and leave the workers to the next agent.
    Detach,
}

/// What a request is answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// To [`Ask::Start`].
    Started(Result<WorkerId, StartError>),
    /// To [`Ask::Stop`].
    Stopped(StopStatus),
    /// To [`Ask::Alive`].
    Alive(Result<(), WrongMachine>),
    /// To [`Ask::SetDraining`].
    Draining(Result<(), JournalDown>),
    /// To [`Ask::Shutdown`].
    ShuttingDown,
}

impl Reply {
    /// Whether the machine waits to hear that this reply has left: a worker's end is not reported before its
    /// start is known.
    pub fn is_followed(&self) -> bool {
        matches!(self, Self::Started(Ok(_)))
    }
}

/// How a connection to the controller was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The controller's computer refused or closed it: the process that served there has gone.
    Closed,
    /// Otherwise: it fell silent, say, or this agent gave it up.
    Broken,
}

/// Where a stop stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopStatus {
    /// Nothing of the worker is alive.
    Stopped {
        /// How it ended; `None`: its program never ran.
        exit: Option<Exit>,
        /// Whether the controller has acknowledged the report of the end.
        acknowledged: bool,
    },
    /// It is still alive; signalled, unless only asked about.
    Stopping,
    /// It is alive and could not be signalled.
    Failed,
    /// Never known, or forgotten.
    NotFound,
}

/// A request for another agent.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("this is machine {this:?}, not {asked:?}: the address may have been given to another node")]
pub struct WrongMachine {
    /// Who was meant.
    pub asked: String,
    /// Who this is.
    pub this: String,
}

/// The journal does not take commits.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "the journal cannot be written ({reason}); check the state directory's disk, then try again"
)]
pub struct JournalDown {
    /// What the journal said.
    pub reason: Arc<str>,
}

/// Why a worker was not started. Nothing of it is left.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StartError {
    /// It was meant for another agent.
    #[error(transparent)]
    WrongMachine(#[from] WrongMachine),
    /// A newer generation of the job is alive here.
    #[error(
        "generation {asked} of job {:?} is stale: generation {alive} of it is alive here",
        .job.as_str()
    )]
    StaleGeneration {
        /// The job.
        job: JobId,
        /// The generation asked for.
        asked: Generation,
        /// The highest one alive here.
        alive: Generation,
    },
    /// A newer generation arrived while this start waited.
    #[error(
        "generation {asked} of job {:?} was superseded by generation {by} while it waited",
        .job.as_str()
    )]
    Superseded {
        /// The job.
        job: JobId,
        /// The generation asked for.
        asked: Generation,
        /// The one that arrived.
        by: Generation,
    },
    /// The same start was asked for again while this one waited.
    #[error(
        "generation {generation} of job {:?} was asked for again while this start waited",
        .job.as_str()
    )]
    Retried {
        /// The job.
        job: JobId,
        /// The generation.
        generation: Generation,
    },
    /// Not enough capacity.
    #[error("not enough slots: asked {asked}, free {free} of {total}")]
    NotEnoughSlots {
        /// How many were asked for.
        asked: u64,
        /// How many are free.
        free: u64,
        /// How many there are.
        total: u64,
    },
    /// The agent is draining.
    #[error("this node is draining and takes no new workers; `arroyo-node undrain` ends that")]
    Draining,
    /// The agent is ending.
    #[error("this node is shutting down and takes no new workers")]
    ShuttingDown,
    /// The start could not be made durable.
    #[error(transparent)]
    JournalDown(#[from] JournalDown),
    /// Workers that were ended to make room for this start did not end in time.
    #[error(
        "{left} workers that make room for job {:?} have been killed and not ended yet; try again",
        .job.as_str()
    )]
    RoomNotFree {
        /// The job of the start.
        job: JobId,
        /// How many are left.
        left: usize,
    },
    /// The controller forgot this node while this start waited: whoever asked for it is gone.
    #[error("the controller has forgotten this node while the start waited for room; try again")]
    Forgotten,
    /// The program could not be run.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The program does not run yet.
    #[error(
        "the worker's program does not run after {}s: this machine may be overloaded, or its disk hang; \
         what runs later is ended at once; try again",
        .wait.as_secs_f64()
    )]
    NotRunning {
        /// How long it was waited for.
        wait: Duration,
    },
    /// The agent was restarted before it started the program.
    #[error("this node was restarted before it started the worker, which never ran; try again")]
    NeverRan,
    /// The caller's name for this attempt has been used for another one.
    #[error(
        "request id {:?} was used for another worker, of job {:?}; use a new one for each attempt",
        .key.0, .job.as_str()
    )]
    KeyReused {
        /// The name.
        key: StartKey,
        /// The job of the attempt that it named first.
        job: JobId,
    },
}

/// Why a program could not be run.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("cannot run worker program {program:?}: {reason}")]
pub struct SpawnError {
    /// The program's path, as configured.
    pub program: Arc<str>,
    /// The operating system's word.
    pub reason: Arc<str>,
}

/// Why a call to the controller did not succeed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CallError {
    /// The controller does not know this node.
    #[error("the controller does not know this node")]
    NotFound,
    /// The connection that it was to go over has ended.
    #[error("the connection to the controller has ended")]
    NotConnected,
    /// It did not answer, or not in time, or with an error.
    #[error("{0}")]
    Failed(Arc<str>),
}
