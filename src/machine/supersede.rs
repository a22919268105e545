//! Generations: a newer one of a job ends the older ones here, and an older one is not let in.
//!
//! A controller that restarted knows no worker; it schedules its jobs anew, one generation up, while
//! the workers of before still hold their slots. They are killed to make room (`room.rs`).

use super::{
    Machine,
    event::StartError,
    worker::{Worker, WorkerSpec},
};

impl WorkerSpec {
    /// Whether this is for a lower generation of the same job.
    pub(super) fn is_older_than(&self, other: &WorkerSpec) -> bool {
        self.job == other.job && self.generation < other.generation
    }

    /// Whether a start of this is a retry of that one: a caller that names its attempts says so.
    pub(super) fn is_retry_of(&self, other: &WorkerSpec) -> bool {
        let same = self.job == other.job && self.generation == other.generation;
        same && self.key.is_none()
    }
}

impl Machine {
    /// The live workers of the same job and a lower generation.
    pub(super) fn live_older_than(&self, spec: &WorkerSpec) -> impl Iterator<Item = &Worker> {
        self.roster.live_before(&spec.job, spec.generation).map(AsRef::as_ref)
    }

    pub(super) fn stale_generation(&self, spec: &WorkerSpec) -> Option<StartError> {
        let live = self.roster.latest_generation(&spec.job).into_iter();
        let waiting = self.waiting.iter().map(|start| &start.admission.spec);
        let waiting = waiting.filter(|other| other.job == spec.job).map(|other| other.generation);
        let alive = live.chain(waiting).max()?;
        (alive > spec.generation).then(|| StartError::StaleGeneration {
            job: spec.job.clone(),
            asked: spec.generation,
            alive,
        })
    }
}
