//! Calls to the controller, and what their answers mean.

use std::error::Error;

use tonic::{Code, Status};

use crate::{
    ids::MachineId,
    machine::{CallError, Dialect, Registration, Report, Wall},
    rpc::wire::{
        FinishedWorker, HeartbeatNodeReq, RegisterNodeReq, WorkerContext, WorkerFinishedReq,
        WorkerInfo,
    },
};

/// RegisterNode.
pub fn registration(registration: Registration) -> RegisterNodeReq {
    RegisterNodeReq {
        machine_id: registration.machine.as_str().into(),
        task_slots: registration.task_slots,
        addr: registration.address,
    }
}

/// HeartbeatNode.
pub fn heartbeat(machine: &MachineId, at: Wall) -> HeartbeatNodeReq {
    HeartbeatNodeReq { machine_id: machine.as_str().into(), time: at.as_millis() }
}

/// WorkerFinished, in the report's dialect and no other.
pub fn worker_finished(report: &Report) -> WorkerFinishedReq {
    let machine_id = report.machine.as_str().to_owned();
    let worker_id = report.worker.0;
    let job_id = report.job.as_str().to_owned();
    let generation = report.generation.0;
    let (worker, time) = match report.dialect {
        Dialect::V0_15 => {
            let info = WorkerInfo { worker_id, job_id, run_id: generation, machine_id };
            (FinishedWorker::Info(info), 0)
        }
        Dialect::V0_16 => {
            let pipeline_id = report.pipeline.as_ref().map(|id| id.as_str().to_owned());
            let context = WorkerContext {
                machine_id,
                worker_id,
                job_id,
                generation,
                pipeline_id: pipeline_id.unwrap_or_default(),
            };
            (FinishedWorker::Context(context), report.ended_at.0)
        }
    };
    WorkerFinishedReq { worker: Some(worker), time, slots: report.slots }
}

/// Why a call did not succeed.
pub fn call_error(status: &Status) -> CallError {
    match status.code() {
        Code::NotFound => CallError::NotFound,
        code => {
            // A status that this side made up, since there was no connection, has a cause.
            let cause = status.source().map_or_else(|| status.message().to_owned(), root_cause);
            CallError::Failed(format!("{code:?}: {cause}").into())
        }
    }
}

/// The innermost cause, which says what really happened.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
