//! The jobs' part of the books: what was asked for, and how it stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Books;
use crate::{
    controller::{
        event::ControllerEvent,
        job::{Job, JobSpec, JobState, Stop, SubmitError, UnknownJob},
    },
    ids::{Generation, JobId, WorkerId},
};

impl Books {
    /// Takes a job. One of the same name must have come to its end; the new one's generations
    /// follow on from it.
    pub fn submit(&mut self, spec: JobSpec) -> Result<Arc<JobSpec>, SubmitError> {
        spec.check()?;
        let mut generation = spec.last_generation;
        if let Some(old) = self.jobs.get(&spec.id) {
            if !old.state.is_final() {
                return Err(SubmitError::Exists(spec.id));
            }
            generation = generation.max(old.generation);
        }
        let spec = Arc::new(spec);
        let job = Job {
            spec: spec.clone(),
            generation,
            state: JobState::Scheduling,
            workers: BTreeSet::new(),
            stop: None,
            unwell: false,
        };
        self.jobs.insert(spec.id.clone(), job);
        Ok(spec)
    }

    /// Every job.
    pub fn jobs(&self) -> &BTreeMap<JobId, Job> {
        &self.jobs
    }

    /// Begins a job's next scheduling attempt.
    pub fn next_generation(&mut self, id: &JobId) -> Option<Generation> {
        let job = self.jobs.get_mut(id)?;
        job.generation = Generation(job.generation.0 + 1);
        job.workers.clear();
        job.unwell = false;
        let generation = job.generation;
        self.set_state(id, JobState::Scheduling);
        Some(generation)
    }

    /// A job's workers have all been started: it runs.
    pub fn scheduled(&mut self, id: &JobId, workers: BTreeSet<WorkerId>) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.workers = workers;
        }
        self.set_state(id, JobState::Running);
    }

    /// A job stands differently.
    pub fn set_state(&mut self, id: &JobId, state: JobState) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.state = state.clone();
        let generation = job.generation;
        self.events.push(ControllerEvent::JobChanged { job: id.clone(), generation, state });
    }

    /// Whether a running job has lost a worker, or was reported to be unwell.
    pub fn is_disturbed(&self, id: &JobId) -> bool {
        self.jobs.get(id).is_some_and(|job| {
            job.unwell || !job.workers.iter().all(|worker| self.workers.contains_key(worker))
        })
    }

    /// Asks for a job's stop. A stop can be made forceful later, not gentle.
    pub fn request_stop(&mut self, id: &JobId, how: Stop) -> Result<(), UnknownJob> {
        let job = self.jobs.get_mut(id).ok_or_else(|| UnknownJob(id.clone()))?;
        job.stop = job.stop.max(Some(how));
        Ok(())
    }

    /// Says that a job is not well, as the heartbeats of its workers would: if it runs, it is
    /// scheduled anew.
    pub fn report_unwell(&mut self, id: &JobId) -> Result<(), UnknownJob> {
        let job = self.jobs.get_mut(id).ok_or_else(|| UnknownJob(id.clone()))?;
        job.unwell = true;
        Ok(())
    }
}
