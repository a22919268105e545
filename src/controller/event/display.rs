//! Events in words, for people: one sentence each.

use std::fmt;

use super::{ControllerEvent, StopAnswer};
use crate::{
    controller::{job::JobState, report::FinishOutcome},
    ids::{Generation, JobId},
};

impl fmt::Display for ControllerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeRegistered { node, slots, address, repeat: false } => {
                write!(f, "node {node} registered: {slots} slots at {address}")
            }
            Self::NodeRegistered { node, repeat: true, .. } => {
                write!(f, "node {node} registered again, which changes nothing")
            }
            Self::Heartbeat { node, known: true } => write!(f, "node {node} is alive"),
            Self::Heartbeat { node, known: false } => {
                write!(f, "node {node} is not known here: its heartbeat was answered NOT_FOUND")
            }
            Self::NodeExpired { node } => {
                write!(f, "node {node} was unheard for too long: forgotten")
            }
            Self::NodeForgotten { node } => write!(f, "node {node} was forgotten on purpose"),
            Self::JobChanged { job, generation, state } => job_changed(f, job, *generation, state),
            Self::NotEnoughSlots { job, wanted, free } => {
                write!(f, "job {job} waits for slots: it takes {wanted}, and {free} are free")
            }
            Self::WorkerStarted { node, worker, job, generation, slots } => {
                write!(f, "job {job}: worker {worker} of generation {generation} ")?;
                write!(f, "was started on node {node} with {slots} slots")
            }
            Self::StartRefused { node, job, generation, refusal, .. } => {
                write!(f, "job {job}: node {node} started no worker of generation {generation}: ")?;
                write!(f, "{refusal}")
            }
            Self::AttemptFailed { job, generation } => {
                write!(f, "job {job}: a task failed while generation {generation} was starting")
            }
            Self::StopTried { worker, answer } => write!(f, "stop of worker {worker}: {answer}"),
            Self::WorkerFinished { report, outcome } => {
                let (worker, job, slots) = (report.worker, &report.job, report.slots);
                write!(f, "worker {worker} of job {job} has ended: ")?;
                match outcome {
                    FinishOutcome::Freed => write!(f, "{slots} slots are free again"),
                    other => other.fmt(f),
                }
            }
            Self::Violation(violation) => write!(f, "a node broke a promise: {violation}"),
        }
    }
}

fn job_changed(
    f: &mut fmt::Formatter<'_>,
    job: &JobId,
    generation: Generation,
    state: &JobState,
) -> fmt::Result {
    match state {
        JobState::Scheduling => write!(f, "job {job}: scheduling generation {generation}"),
        JobState::Running => write!(f, "job {job}: generation {generation} runs"),
        JobState::Recovering => {
            write!(f, "job {job}: generation {generation} is broken, and will be scheduled anew")
        }
        JobState::Stopping => write!(f, "job {job}: stopping"),
        JobState::Stopped => write!(f, "job {job}: stopped"),
        JobState::Failed(why) => write!(f, "job {job}: failed: {why}"),
    }
}

impl fmt::Display for StopAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "answered {}", status.as_str_name()),
            Self::Gone => f.write_str("done, since its end was reported"),
            Self::NodeUnknown => f.write_str("counts as done, since its node is not known here"),
            Self::CallFailed(refusal) => {
                write!(f, "counts as done, since the call failed: {refusal}")
            }
        }
    }
}

impl fmt::Display for FinishOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Freed => "its slots are free again",
            Self::NotHeld => "it held no slots here",
            Self::Duplicate => "this was reported before",
            Self::Unknown => "this controller did not start it",
        })
    }
}
