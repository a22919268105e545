//! What was asked for, and everything that was ever heard of it: the side of the books that nobody
//! kills.
//!
//! ```text
//!  load, rounds ─▶ jobs: what was submitted, what was asked to end
//!  watch        ─▶ workers: what the controller was answered and told   ─▶ broken promises
//!  promises     ─▶ workers: what the agent lists, what /proc shows
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::ending::Plan;
use crate::{
    admin::row::{Ending, Row},
    controller::{ControllerEvent, FinishedReport},
    ids::{Generation, JobId, WorkerId},
    machine::Process,
    runtime::process::identify,
};

/// See the module's words.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) round: u32,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) broken: Vec<Broken>,
    /// The rounds in which a shim was killed.
    shim_deaths: BTreeSet<u32>,
}

/// A job, as it was submitted.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) plan: Plan,
    /// It was told to stop.
    pub(super) stopped: bool,
    /// The controller that knew it is gone, and the next one was not told.
    pub(super) abandoned: bool,
    /// Workers up to this generation may be ended: a later one was asked for, or the controller has
    /// forgotten them.
    superseded: Generation,
}

/// A worker that somebody has told of.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) job: JobId,
    pub(super) generation: Generation,
    /// The round in which it was first told of.
    since: u32,
    /// Its first process, once that was seen.
    pub(super) process: Option<Process>,
    /// It was stopped past the controller, by its id.
    pub(super) stopped: bool,
    /// A controller was answered with it.
    pub(super) answered: bool,
    /// How often its end was reported.
    pub(super) reports: u64,
    pub(super) ending: Option<Ending>,
}

/// A promise that was not kept.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub(super) struct Broken {
    pub(super) round: u32,
    pub(super) what: String,
}

impl Worker {
    /// Whether it ran, or was promised to. Otherwise it was seen on its way, and its agent was
    /// killed before anything came of it: then there is no end to report.
    pub(super) fn counts(&self) -> bool {
        self.answered || self.process.is_some() || self.reports > 0 || self.ending.is_some()
    }
}

impl Ledger {
    pub(super) fn broke(&mut self, what: impl Into<String>) {
        let broken = Broken { round: self.round, what: what.into() };
        if !self.broken.iter().any(|known| known.what == broken.what) {
            self.broken.push(broken);
        }
    }

    pub(super) fn submitted(&mut self, job: JobId, plan: Plan) {
        let job_entry = Job { plan, stopped: false, abandoned: false, superseded: Generation(0) };
        self.jobs.insert(job, job_entry);
    }

    /// To be called before a shim is killed.
    pub(super) fn shim_dies(&mut self) {
        self.shim_deaths.insert(self.round);
    }

    /// To be called before the job is stopped.
    pub(super) fn stopping(&mut self, job: &JobId) {
        if let Some(job) = self.jobs.get_mut(job) {
            job.stopped = true;
        }
    }

    /// To be called before a later generation of the job than this is asked for.
    pub(super) fn superseding(&mut self, job: &JobId, last: Generation) {
        if let Some(job) = self.jobs.get_mut(job) {
            job.superseded = job.superseded.max(last);
        }
    }

    /// To be called before the controller loses its memory of the node: whatever runs there by then
    /// is abandoned, and may be ended.
    pub(super) fn forgetting(&mut self) {
        for worker in self.workers.values() {
            if let Some(job) = self.jobs.get_mut(&worker.job) {
                // One more than was heard of: another may have been asked for at the last moment.
                job.superseded = job.superseded.max(Generation(worker.generation.0 + 1));
            }
        }
        for job in self.jobs.values_mut() {
            job.superseded = job.superseded.max(Generation(1));
        }
    }

    /// Whether the worker may end, or may have been ended.
    pub(super) fn may_end(&self, worker: &Worker) -> bool {
        self.was_asked(worker)
            || self.jobs.get(&worker.job).is_none_or(|job| job.plan.by_itself.is_some())
    }

    fn was_asked(&self, worker: &Worker) -> bool {
        let job = self.jobs.get(&worker.job);
        worker.stopped || job.is_none_or(|job| job.stopped || worker.generation <= job.superseded)
    }

    /// What the controller was answered and told.
    pub(super) fn heard(&mut self, event: &ControllerEvent) {
        match event {
            ControllerEvent::WorkerStarted { worker, job, generation, slots, .. } => {
                let entry = self.worker(*worker, job, *generation, *slots, "StartWorker");
                if std::mem::replace(&mut entry.answered, true) {
                    self.broke(format!("worker id {worker} was given out twice"));
                }
            }
            // A worker that came of it all the same has to make way for the next attempt.
            ControllerEvent::StartRefused { job, generation, .. } => {
                self.superseding(job, *generation);
            }
            ControllerEvent::WorkerFinished { report, .. } => self.reported(report),
            ControllerEvent::Violation(violation) => self.broke(violation.to_string()),
            _ => {}
        }
    }

    fn reported(&mut self, report: &FinishedReport) {
        let (worker, job) = (report.worker, &report.job);
        self.worker(worker, job, report.generation, report.slots, "a report").reports += 1;
    }

    /// What the agent lists.
    pub(super) fn listed(&mut self, row: &Row) {
        let Some(id) = id_of(row) else { return };
        let (job, generation) = (JobId::new(&row.job_id), Generation(row.generation));
        let worker = self.worker(id, &job, generation, row.slots, "the agent's list");
        let ended_before = worker.ending.is_some();
        let known = worker.process;
        if row.alive && ended_before {
            self.broke(format!("worker {id} had ended and is alive again"));
        }
        match (known, row.pid.filter(|_| row.alive)) {
            (Some(known), Some(pid)) if known.pid != pid => {
                self.broke(format!("worker {id} was pid {} and is now {pid}", known.pid));
            }
            (None, Some(pid)) => {
                let process = identify(pid).ok().flatten();
                self.workers.entry(id).and_modify(|worker| worker.process = process);
            }
            _ => {}
        }
        if let Some(ending) = row.exit.filter(|_| !ended_before) {
            self.ended(id, ending);
        }
    }

    fn ended(&mut self, id: WorkerId, ending: Ending) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.ending = Some(ending);
        let worker = &self.workers[&id];
        // It may have been started in the round before it was told of.
        let life = worker.since.saturating_sub(1)..=self.round;
        if ending == Ending::Unknown && self.shim_deaths.range(life).next().is_none() {
            self.broke(format!("worker {id} had one shim all its life, and ended: {ending}"));
        }
        let worker = &self.workers[&id];
        let explained = self.was_asked(worker)
            || self.jobs.get(&worker.job).is_some_and(|job| job.plan.explains(&ending));
        if !explained {
            let plan = self.jobs.get(&worker.job).and_then(|job| job.plan.by_itself);
            let plan = plan.map_or("go on".to_owned(), |plan| format!("{plan:?}"));
            self.broke(format!(
                "worker {id} of {} was not asked to end and was to {plan}, but ended: {ending}",
                worker.job
            ));
        }
    }

    /// The worker's entry, made now or held against what is said of it now.
    fn worker(
        &mut self,
        id: WorkerId,
        job: &JobId,
        generation: Generation,
        slots: u64,
        who: &str,
    ) -> &mut Worker {
        let asked = self.jobs.get(job).map(|job| job.plan.slots);
        let known = self.workers.get(&id);
        let same = known.is_none_or(|known| known.job == *job && known.generation == generation);
        if asked != Some(slots) || !same {
            self.broke(format!(
                "{who} tells of worker {id} as of {job}, generation {generation}, {slots} slots; \
                 the job has {asked:?} slots, and before it was {known:?}",
                known = self.workers.get(&id).map(|known| (&known.job, known.generation)),
            ));
        }
        let since = self.round;
        self.workers.entry(id).or_insert_with(|| Worker {
            job: job.clone(),
            generation,
            since,
            process: None,
            stopped: false,
            answered: false,
            reports: 0,
            ending: None,
        })
    }
}

/// Which worker a line of the agent's list is of.
pub(super) fn id_of(row: &Row) -> Option<WorkerId> {
    row.worker_id.parse().ok().map(WorkerId)
}
