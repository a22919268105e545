//! One job's dealings with nodes, as stock has them: start all its workers or fail, and go through
//! its workers once to stop them.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{
    book::{NotEnoughSlots, Placement, StopTarget},
    event::{ControllerEvent, StopAnswer},
    job::{JobSpec, Stop},
    nodes::Refusal,
    shared::Shared,
};
use crate::{
    ids::{Generation, JobId, WorkerId},
    rpc::wire::{StartWorkerReq, StopWorkerReq, StopWorkerStatus},
};

/// Why a job's workers were not all started.
#[derive(Debug, Error)]
pub(super) enum Unscheduled {
    #[error(transparent)]
    NotEnoughSlots(#[from] NotEnoughSlots),
    #[error("node {node} did not start a worker: {refusal}")]
    Refused { node: String, refusal: Refusal },
    #[error("a task of it failed while its workers were being started")]
    TaskFailed,
    #[error("the controller is closing")]
    Closed,
}

/// Why a round of stops ended before it was through.
#[derive(Debug, Error)]
pub(super) enum RoundEnded {
    #[error("worker {worker} is not known to be gone: its node answered {}", status.as_str_name())]
    NotKnownGone { worker: WorkerId, status: StopWorkerStatus },
    #[error("the controller is closing")]
    Closed,
}

impl Shared {
    /// Starts the workers of one scheduling attempt, one node after the other. The first failure
    /// ends it; workers that run by then stay in the books, without slots.
    pub(super) async fn start_workers(
        &self,
        job: &JobSpec,
        generation: Generation,
    ) -> Result<BTreeSet<WorkerId>, Unscheduled> {
        let gate = self.gate().await.map_err(|_| Unscheduled::Closed)?;
        let placements = self.books(|books| {
            books.expire(self.clock.now().mono, self.settings.expire_after);
            books.place(job, generation)
        })?;
        // Without the quirk the lock covers the placing alone.
        let _gate = self.settings.quirks.hold_lock_during_start.then_some(gate);

        let mut started = BTreeSet::new();
        for (index, placement) in placements.iter().enumerate() {
            let request = start_request(job, placement);
            match self.nodes.start(&placement.address, request).await {
                Ok(worker) => {
                    let now = self.clock.now().mono;
                    self.books(|books| books.started(now, placement, worker));
                    started.insert(worker);
                }
                Err(refusal) => {
                    self.books(|books| {
                        books.start_failed(placement, refusal.clone());
                        placements[index + 1..].iter().for_each(|rest| books.unplace(rest));
                        started.iter().for_each(|worker| books.abandon(*worker));
                    });
                    let node = placement.node.to_string();
                    return Err(Unscheduled::Refused { node, refusal });
                }
            }
        }
        match self.books(|books| books.fail_if_unwell(&job.id, &started)) {
            true => Err(Unscheduled::TaskFailed),
            false => Ok(started),
        }
    }

    /// Stops a job's workers one after the other. Any status ends the round: even STOPPED is not
    /// believed until WorkerFinished has removed the worker. A worker counts as stopped when its
    /// node cannot be called or answers with a gRPC error, of whatever code.
    ///
    /// A controller that [wants statuses](super::Settings::wants_status) believes STOPPED and
    /// NOT_FOUND, too.
    pub(super) async fn stop_round(
        &self,
        job: &JobId,
        generation: Option<Generation>,
        how: Stop,
    ) -> Result<(), RoundEnded> {
        for worker in self.books(|books| books.workers_of(job, generation)) {
            let answer = self.stop_worker(job, worker, how).await?;
            let tried = ControllerEvent::StopTried { worker, answer: answer.clone() };
            match answer {
                StopAnswer::Answered(status) if !self.is_believed(status) => {
                    self.books(|books| books.note(tried));
                    return Err(RoundEnded::NotKnownGone { worker, status });
                }
                StopAnswer::Answered(_)
                | StopAnswer::Gone
                | StopAnswer::NodeUnknown
                | StopAnswer::CallFailed(_) => {
                    let _gate = self.gate().await.map_err(|_| RoundEnded::Closed)?;
                    self.books(|books| {
                        books.stopped(worker);
                        books.note(tried);
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether a status says that the worker is gone, for all that this controller makes of it.
    fn is_believed(&self, status: StopWorkerStatus) -> bool {
        match status {
            StopWorkerStatus::Stopped | StopWorkerStatus::NotFound => self.settings.wants_status,
            StopWorkerStatus::Placeholder
            | StopWorkerStatus::StopFailed
            | StopWorkerStatus::Stopping => false,
        }
    }

    async fn stop_worker(
        &self,
        job: &JobId,
        worker: WorkerId,
        how: Stop,
    ) -> Result<StopAnswer, RoundEnded> {
        // Here stock holds its lock only to look the worker up.
        let gate = self.gate().await.map_err(|_| RoundEnded::Closed)?;
        let target = self.books(|books| books.stop_target(worker));
        drop(gate);
        let address = match target {
            StopTarget::Gone => return Ok(StopAnswer::Gone),
            StopTarget::NodeUnknown => return Ok(StopAnswer::NodeUnknown),
            StopTarget::Call(address) => address,
        };
        let request = StopWorkerReq {
            worker_id: worker.0,
            force: how == Stop::Force,
            job_id: job.to_string(),
            finished: false,
            wants_status: self.settings.wants_status,
        };
        match self.nodes.stop(&address, request).await {
            Ok(status) => Ok(StopAnswer::Answered(status)),
            Err(refusal) => Ok(StopAnswer::CallFailed(refusal)),
        }
    }
}

fn start_request(job: &JobSpec, placement: &Placement) -> StartWorkerReq {
    StartWorkerReq {
        name: job.name.clone(),
        job_id: placement.job.to_string(),
        slots: placement.slots,
        machine_id: placement.node.to_string(),
        generation: placement.generation.0,
        env_vars: job.env.clone(),
        pipeline_id: placement.pipeline.as_ref().map(ToString::to_string).unwrap_or_default(),
        // Stock does not name its attempts.
        request_id: String::new(),
    }
}
