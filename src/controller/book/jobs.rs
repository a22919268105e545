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
    machine::Dialect,
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

    /// Begins another attempt after one that failed: in 0.15 it is the same run, in 0.16 a newer
    /// generation.
    pub fn retry(&mut self, id: &JobId) -> Option<Generation> {
        let job = self.jobs.get_mut(id)?;
        match job.spec.dialect {
            Dialect::V0_15 => {
                job.unwell = false;
                Some(job.generation)
            }
            Dialect::V0_16 => self.next_generation(id),
        }
    }

    /// A scheduling attempt has started all its workers. Returns whether the attempt has failed all
    /// the same, since a worker said meanwhile that a task of the job failed. Its workers are
    /// abandoned then, and the message is used up.
    pub fn fail_if_unwell(&mut self, id: &JobId, workers: &BTreeSet<WorkerId>) -> bool {
        let Some(job) = self.jobs.get_mut(id) else { return false };
        if !std::mem::take(&mut job.unwell) {
            return false;
        }
        let generation = job.generation;
        self.events.push(ControllerEvent::AttemptFailed { job: id.clone(), generation });
        workers.iter().for_each(|worker| self.abandon(*worker));
        true
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

    /// Says that a job is not well, as its workers do when a task of it fails. Stock matches such a
    /// message by the job alone, so the worker of an earlier run says it of the latest one. If the
    /// job runs, it is scheduled anew. If it is being scheduled, the attempt fails. Otherwise the
    /// message is lost.
    pub fn report_unwell(&mut self, id: &JobId) -> Result<(), UnknownJob> {
        let job = self.jobs.get_mut(id).ok_or_else(|| UnknownJob(id.clone()))?;
        job.unwell = true;
        Ok(())
    }
}
