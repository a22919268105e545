//! Workers, as GetWorkers lists them.

use crate::{
    machine::{Exit, Phase, Worker},
    rpc::wire::{WorkerExit, WorkerState, WorkerStatus, worker_exit::How},
};

/// A worker's line: what stock has, and what it lacks.
pub fn worker_status(worker: &Worker) -> WorkerStatus {
    let spec = &worker.spec;
    WorkerStatus {
        abandoned: worker.is_abandoned(),
        name: spec.name.clone(),
        slots: spec.slots.get(),
        running: worker.is_live(),
        worker_id: worker.id.0,
        job_id: spec.job.as_str().into(),
        generation: spec.generation.0,
        pipeline_id: spec.pipeline.as_ref().map(|id| id.as_str().into()).unwrap_or_default(),
        pid: worker.process.map_or(0, |process| process.pid),
        state: state(worker.phase()).into(),
        started_at: worker.admitted_at.0,
        ended_at: worker.end.map_or(0, |end| end.at.0),
        exit: worker.end.map(|end| WorkerExit { how: Some(how(end.exit)) }),
        reported: worker.reported_at.is_some(),
    }
}

fn state(phase: Phase) -> WorkerState {
    match phase {
        Phase::Starting => WorkerState::Starting,
        Phase::Running => WorkerState::Running,
        Phase::Stopping => WorkerState::Stopping,
        Phase::Exited | Phase::Reported => WorkerState::Exited,
    }
}

fn how(exit: Exit) -> How {
    match exit {
        Exit::Code(code) => How::Code(code),
        Exit::Signal(signal) => How::Signal(signal),
        Exit::OomKilled => How::OomKilled(()),
        Exit::Lost => How::Lost(()),
        Exit::Unknown => How::Unknown(()),
    }
}
