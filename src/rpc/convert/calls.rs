//! Calls to the controller, and what their answers mean.

use std::{error::Error, io};

use tokio::time::error::Elapsed;
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
            let cause = match status.source().map(innermost) {
                None => status.message().to_owned(),
                Some(cause) if is_out_of_time(cause) => NOT_CONNECTED.to_owned(),
                Some(cause) => cause.to_string(),
            };
            CallError::Failed(format!("{code:?}: {cause}").into())
        }
    }
}

/// What the end of the time for connecting means.
const NOT_CONNECTED: &str = "connecting took too long (calls.connect-deadline): a name server is silent, or \
                             what is sent to that address is dropped";

/// The innermost cause, which says what really happened.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    innermost(error).to_string()
}

/// Whether it is the end of a time that this side has set.
fn is_out_of_time(cause: &(dyn Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<Elapsed>())
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}
