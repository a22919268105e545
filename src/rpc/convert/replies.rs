//! The machine's answers, as gRPC says them.

use tonic::{Code, Status};

use crate::{
    machine::{JournalDown, StartError, StopStatus, WrongMachine},
    rpc::wire::StopWorkerStatus,
};

/// The status of a StartWorker that was refused.
pub fn start_status(error: &StartError) -> Status {
    let code = match error {
        StartError::WrongMachine(_)
        | StartError::StaleGeneration { .. }
        | StartError::Superseded { .. } => Code::FailedPrecondition,
        StartError::NotEnoughSlots { .. } => Code::ResourceExhausted,
        StartError::Draining
        | StartError::ShuttingDown
        | StartError::JournalDown(_)
        | StartError::SupersededStillAlive { .. } => Code::Unavailable,
        StartError::Spawn(_) => Code::Internal,
        StartError::KeyReused { .. } => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}

/// The status of a request for another machine.
pub fn wrong_machine_status(error: &WrongMachine) -> Status {
    Status::failed_precondition(error.to_string())
}

/// The status of a change of draining that would not survive a restart.
pub fn draining_status(error: &JournalDown) -> Status {
    Status::unavailable(format!("in force, but a restart would forget it: {error}"))
}

/// Where a stop stands, in the wire's words.
pub fn stop_status(status: StopStatus) -> StopWorkerStatus {
    match status {
        StopStatus::Stopped => StopWorkerStatus::Stopped,
        StopStatus::Stopping => StopWorkerStatus::Stopping,
        StopStatus::Failed => StopWorkerStatus::StopFailed,
        StopStatus::NotFound => StopWorkerStatus::NotFound,
    }
}
