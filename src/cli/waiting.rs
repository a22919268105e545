//! Jobs that wait for slots. Their controller says so each second; people are told when a wait
//! begins and when it is over.

use std::collections::BTreeSet;

use crate::{controller::ControllerEvent, ids::JobId};

/// The jobs that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeSet<JobId>);

impl Waiting {
    /// A job has not enough slots. Returns whether this is news.
    pub(super) fn begins(&mut self, job: &JobId) -> bool {
        self.0.insert(job.clone())
    }

    /// The job whose wait is over with this event, if there is one.
    pub(super) fn ended_by<'a>(&mut self, event: &'a ControllerEvent) -> Option<&'a JobId> {
        let job = match event {
            ControllerEvent::JobChanged { job, .. }
            | ControllerEvent::WorkerStarted { job, .. }
            | ControllerEvent::StartRefused { job, .. }
            | ControllerEvent::AttemptFailed { job, .. } => job,
            ControllerEvent::NodeRegistered { .. }
            | ControllerEvent::Heartbeat { .. }
            | ControllerEvent::NodeExpired { .. }
            | ControllerEvent::NodeForgotten { .. }
            | ControllerEvent::NotEnoughSlots { .. }
            | ControllerEvent::StopTried { .. }
            | ControllerEvent::WorkerFinished { .. }
            | ControllerEvent::Violation(_) => return None,
        };
        self.0.remove(job).then_some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{controller::JobState, ids::Generation};

    #[test]
    fn a_wait_is_told_once_and_so_is_its_end() {
        let mut waiting = Waiting::default();
        let job = JobId::from("j");
        let stopped = ControllerEvent::JobChanged {
            job: job.clone(),
            generation: Generation(1),
            state: JobState::Stopping,
        };
        assert_eq!(waiting.ended_by(&stopped), None, "it did not wait");
        assert!(waiting.begins(&job));
        assert!(!waiting.begins(&job));
        assert_eq!(waiting.ended_by(&stopped), Some(&job));
        assert_eq!(waiting.ended_by(&stopped), None);
        assert!(waiting.begins(&job), "it waits again");
    }
}
