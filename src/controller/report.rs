//! WorkerFinished, read: one form for what the two dialects say.

use thiserror::Error;

use crate::{
    ids::{Generation, JobId, MachineId, PipelineId, WorkerId},
    machine::{Dialect, Wall},
    rpc::wire::{FinishedWorker, WorkerFinishedReq},
};

/// A node's word that a worker ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FinishedReport {
    /// Which worker.
    pub worker: WorkerId,
    /// The node that says so.
    pub node: MachineId,
    /// The worker's job.
    pub job: JobId,
    /// The job's scheduling attempt.
    pub generation: Generation,
    /// The job's pipeline; 0.15 does not say.
    pub pipeline: Option<PipelineId>,
    /// The slots that are free now.
    pub slots: u64,
    /// When it ended; 0.15 does not say.
    pub ended_at: Option<Wall>,
    /// How all this was said.
    pub dialect: Dialect,
}

/// A report that does not say whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("WorkerFinished without an identity: field 1 must hold a WorkerContext or a WorkerInfo")]
pub struct NoIdentity;

impl TryFrom<WorkerFinishedReq> for FinishedReport {
    type Error = NoIdentity;

    fn try_from(request: WorkerFinishedReq) -> Result<Self, NoIdentity> {
        let slots = request.slots;
        match request.worker.ok_or(NoIdentity)? {
            FinishedWorker::Info(info) => Ok(Self {
                worker: WorkerId(info.worker_id),
                node: info.machine_id.into(),
                job: info.job_id.into(),
                generation: Generation(info.run_id),
                pipeline: None,
                slots,
                ended_at: None,
                dialect: Dialect::V0_15,
            }),
            FinishedWorker::Context(context) => Ok(Self {
                worker: WorkerId(context.worker_id),
                node: context.machine_id.into(),
                job: context.job_id.into(),
                generation: Generation(context.generation),
                pipeline: Some(context.pipeline_id.into()),
                slots,
                ended_at: Some(Wall(request.time)),
                dialect: Dialect::V0_16,
            }),
        }
    }
}

/// What a report did to the books. Stock answers all of them alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FinishOutcome {
    /// The worker is gone from the books, its slots are free.
    Freed,
    /// The worker is gone from the books; its slots had been freed before: its scheduling failed
    /// half-way, or its node was forgotten meanwhile.
    NotHeld,
    /// The same was reported before. Stock only warns.
    Duplicate,
    /// No such worker was started by this controller. Stock only warns.
    Unknown,
}
