//! The machine's answers, as gRPC says them.

use std::fmt::Display;

use tonic::{Code, Status};

use super::BadStart;
use crate::{
    machine::{JournalDown, StartError, StopStatus, WrongMachine},
    rpc::wire::{StopWorkerReq, StopWorkerResp, StopWorkerStatus},
};

/// The most bytes of a status's text. It travels in the response's headers, escaped to as much as
/// three times its length, and peers take 8 or 16 KiB of headers, all in all.
const MAX_TEXT: usize = 1_024;

/// The status of a StartWorker whose form is wrong.
pub fn bad_start_status(error: &BadStart) -> Status {
    status(Code::InvalidArgument, error)
}

/// The status of a StartWorker that was refused.
pub fn start_status(error: &StartError) -> Status {
    let code = match error {
        StartError::WrongMachine(_)
        | StartError::StaleGeneration { .. }
        | StartError::Superseded { .. }
        | StartError::Retried { .. } => Code::FailedPrecondition,
        StartError::NotEnoughSlots { .. } => Code::ResourceExhausted,
        StartError::Draining
        | StartError::ShuttingDown
        | StartError::JournalDown(_)
        | StartError::RoomNotFree { .. }
        | StartError::Forgotten
        | StartError::NotRunning { .. }
        | StartError::NeverRan => Code::Unavailable,
        StartError::Spawn(_) => Code::Internal,
        StartError::KeyReused { .. } => Code::InvalidArgument,
    };
    status(code, error)
}

/// The status of a request for another machine.
pub fn wrong_machine_status(error: &WrongMachine) -> Status {
    status(Code::FailedPrecondition, error)
}

/// The status of a change of draining that would not survive a restart.
pub fn draining_status(error: &JournalDown) -> Status {
    status(Code::Unavailable, format_args!("in force, but a restart would forget it: {error}"))
}

/// How a stop that is done is answered to a caller that asked for it by force and does not say that
/// it understands a status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StopReply {
    /// With the error NOT_FOUND: a stock controller believes nothing else, and does not go on to
    /// the next worker before (arroyo-compat: "any gRPC error count as done; STOPPED counts as
    /// failed-for-now").
    #[default]
    Stock,
    /// With its status.
    Status,
}

/// The answer to a StopWorker.
///
/// # Errors
/// The worker is gone, the controller has acknowledged that, or it was never known; and the caller
/// is to be told as [`StopReply::Stock`] says.
pub fn stop_reply(
    request: &StopWorkerReq,
    status: StopStatus,
    policy: StopReply,
) -> Result<StopWorkerResp, Status> {
    let is_stock = policy == StopReply::Stock && !request.wants_status;
    let worker = request.worker_id;
    let done = match status {
        _ if !is_stock || !request.force || request.finished => None,
        StopStatus::Stopped { exit: Some(exit), acknowledged: true } => {
            Some(format!("worker {worker} has ended: {exit}"))
        }
        StopStatus::Stopped { exit: None, .. } => {
            Some(format!("worker {worker} never ran: its program could not be started"))
        }
        StopStatus::NotFound => Some(format!(
            "worker {worker} is not known here: it was never started, or ended long ago"
        )),
        StopStatus::Stopped { .. } | StopStatus::Stopping | StopStatus::Failed => None,
    };
    match done {
        Some(text) => Err(self::status(Code::NotFound, text)),
        None => Ok(StopWorkerResp { status: stop_status(status).into() }),
    }
}

/// Where a stop stands, in the wire's words.
pub fn stop_status(status: StopStatus) -> StopWorkerStatus {
    match status {
        StopStatus::Stopped { .. } => StopWorkerStatus::Stopped,
        StopStatus::Stopping => StopWorkerStatus::Stopping,
        StopStatus::Failed => StopWorkerStatus::StopFailed,
        StopStatus::NotFound => StopWorkerStatus::NotFound,
    }
}

fn status(code: Code, text: impl Display) -> Status {
    const ELLIPSIS: &str = "…";
    let mut text = text.to_string();
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT - ELLIPSIS.len()));
        text.push_str(ELLIPSIS);
    }
    Status::new(code, text)
}
