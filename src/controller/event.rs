//! What can be seen of a controller: its entries, its events, its counters. All of it is plain
//! data.

mod display;

use std::collections::BTreeMap;

use thiserror::Error;

use super::{
    job::{Job, JobState},
    nodes::Refusal,
    report::{FinishOutcome, FinishedReport},
};
use crate::{
    ids::{Generation, JobId, MachineId, PipelineId, WorkerId},
    machine::{Dialect, Mono},
    rpc::wire::StopWorkerStatus,
};

/// A node as the books have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// The capacity with which it registered.
    pub slots: u64,
    /// `host:port` at which it is reached.
    pub address: String,
    /// When it last registered as new, or sent a heartbeat.
    pub last_heard: Mono,
    /// The slots that its workers hold.
    pub held: BTreeMap<WorkerId, u64>,
    /// The slots of starts that are under way, by placement.
    pub reserved: BTreeMap<u64, u64>,
}

impl Node {
    /// The slots that nothing holds and nothing is about to hold.
    pub fn free(&self) -> u64 {
        let taken: u64 = self.held.values().chain(self.reserved.values()).sum();
        self.slots.saturating_sub(taken)
    }
}

/// A worker as the books have it: from the answer to its StartWorker until it is reported ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Worker {
    /// Where it was started.
    pub node: MachineId,
    /// For which job.
    pub job: JobId,
    /// The job's pipeline, if it was sent.
    pub pipeline: Option<PipelineId>,
    /// For which scheduling attempt of the job.
    pub generation: Generation,
    /// With how many slots.
    pub slots: u64,
    /// In which dialect its end must be reported.
    pub dialect: Dialect,
    /// When its StartWorker was answered.
    pub started_at: Mono,
    /// False once a stop of it has been given up as done, though nobody reported its end.
    pub running: bool,
}

/// One thing that happened at a controller.
#[derive(Clone, PartialEq, Debug)]
pub enum ControllerEvent {
    /// RegisterNode was called.
    NodeRegistered {
        /// By whom.
        node: MachineId,
        /// The capacity that it offers.
        slots: u64,
        /// Where it says it is.
        address: String,
        /// The node was known: nothing of this was taken over.
        repeat: bool,
    },
    /// HeartbeatNode was called.
    Heartbeat {
        /// By whom.
        node: MachineId,
        /// Otherwise it was answered NOT_FOUND.
        known: bool,
    },
    /// A node was unheard for too long, and is forgotten.
    NodeExpired {
        /// Which one.
        node: MachineId,
    },
    /// A node was forgotten on purpose, as a fault.
    NodeForgotten {
        /// Which one.
        node: MachineId,
    },
    /// A job changed its state.
    JobChanged {
        /// Which one.
        job: JobId,
        /// Its latest scheduling attempt.
        generation: Generation,
        /// How it stands now.
        state: JobState,
    },
    /// A job cannot be placed now.
    NotEnoughSlots {
        /// Which one.
        job: JobId,
        /// What it takes.
        wanted: u64,
        /// What all nodes together have.
        free: u64,
    },
    /// A node answered StartWorker with a worker.
    WorkerStarted {
        /// Which node.
        node: MachineId,
        /// The name that it gave the worker.
        worker: WorkerId,
        /// For which job.
        job: JobId,
        /// For which scheduling attempt of it.
        generation: Generation,
        /// With how many slots.
        slots: u64,
    },
    /// StartWorker failed.
    StartRefused {
        /// On which node.
        node: MachineId,
        /// For which job.
        job: JobId,
        /// For which scheduling attempt of it.
        generation: Generation,
        /// With how many slots.
        slots: u64,
        /// Why.
        refusal: Refusal,
    },
    /// A scheduling attempt started all its workers, and has failed: a worker said meanwhile
    /// that a task of the job failed.
    AttemptFailed {
        /// Of which job.
        job: JobId,
        /// Which attempt of it.
        generation: Generation,
    },
    /// An attempt to stop a worker ended.
    StopTried {
        /// Which worker.
        worker: WorkerId,
        /// How.
        answer: StopAnswer,
    },
    /// WorkerFinished was called.
    WorkerFinished {
        /// What it said.
        report: FinishedReport,
        /// What that did.
        outcome: FinishOutcome,
    },
    /// A node did what it must never do.
    Violation(Violation),
}

/// How an attempt to stop a worker ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StopAnswer {
    /// The node answered with a status. Whatever it said, stock ends its round here.
    Answered(StopWorkerStatus),
    /// The worker is not in the books: done.
    Gone,
    /// Its node is not in the books: done.
    NodeUnknown,
    /// The node could not be called, or answered with a gRPC error: done.
    CallFailed(Refusal),
}

/// What a node must never do.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Violation {
    /// It reported other slots than it was given. Stock panics here.
    #[error(
        "worker {worker} was started with {started} slots and reported finished with {reported}: \
         a report must carry the slots of its StartWorker"
    )]
    WrongSlots {
        /// Whose report.
        worker: WorkerId,
        /// The slots of its StartWorker.
        started: u64,
        /// The slots of the report.
        reported: u64,
    },
    /// It reported a worker as something else than was started.
    #[error(
        "worker {worker} was started with {field} {started:?} and reported finished with \
         {reported:?}: a report must carry what its StartWorker said"
    )]
    WrongIdentity {
        /// Whose report.
        worker: WorkerId,
        /// What differs.
        field: &'static str,
        /// As the books have it.
        started: String,
        /// As it was reported.
        reported: String,
    },
    /// It reported in the dialect of another Arroyo. Stock cannot read that.
    #[error(
        "worker {worker} was started in the dialect of {started} and reported finished in that of \
         {reported}, which a stock {started} controller cannot read"
    )]
    WrongDialect {
        /// Whose report.
        worker: WorkerId,
        /// The dialect of its StartWorker.
        started: Dialect,
        /// The dialect of the report.
        reported: Dialect,
    },
    /// A worker's name was given out a second time.
    #[error("node {node} named a new worker {worker}, a name that was given out before")]
    WorkerIdReused {
        /// The name.
        worker: WorkerId,
        /// Who gave it the second time.
        node: MachineId,
    },
}

/// How often things happened since the controller was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// RegisterNode calls.
    pub registered: u64,
    /// HeartbeatNode calls, whatever was answered.
    pub heartbeats: u64,
    /// Nodes forgotten because they were unheard for too long.
    pub expired: u64,
    /// Workers started.
    pub started: u64,
    /// StartWorker calls that failed.
    pub refused: u64,
    /// WorkerFinished calls, whatever they did.
    pub finished: u64,
    /// Those of them that reported the same worker again.
    pub duplicates: u64,
    /// Those of them that reported a worker unknown here for the first time.
    pub unknown: u64,
    /// Things that a node must never do.
    pub violations: u64,
}

/// A controller's books at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// Every node that is not forgotten.
    pub nodes: BTreeMap<MachineId, Node>,
    /// Every job that was submitted.
    pub jobs: BTreeMap<JobId, Job>,
    /// Every worker that was started and not reported ended.
    pub workers: BTreeMap<WorkerId, Worker>,
    /// How often things happened.
    pub counters: Counters,
    /// Everything that a node did and must never do.
    pub violations: Vec<Violation>,
}

impl Snapshot {
    /// A job's state, if there is such a job.
    pub fn state(&self, job: &JobId) -> Option<&JobState> {
        self.jobs.get(job).map(|job| &job.state)
    }

    /// The slots that are free on all nodes together.
    pub fn free_slots(&self) -> u64 {
        self.nodes.values().map(Node::free).fold(0, u64::saturating_add)
    }
}
