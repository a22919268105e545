//! The workers that are not forgotten, with the few indexes that questions about them need.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    worker::{StartKey, Worker},
    workers::Workers,
};
use crate::ids::{Generation, JobId, WorkerId};

#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    workers: Workers,
    /// The latest generation comes last.
    live_by_job: BTreeMap<JobId, BTreeSet<(Generation, WorkerId)>>,
    /// A key names one worker, unless somebody wrote the journal who is no agent.
    by_key: BTreeSet<(StartKey, WorkerId)>,
    live: usize,
    /// Those of the live ones that no controller counts.
    abandoned: BTreeSet<WorkerId>,
    /// Wide enough for any number of workers of any size, of which earlier agents may have left some.
    used_slots: u128,
}

impl Roster {
    pub(super) fn get(&self, id: WorkerId) -> Option<&Arc<Worker>> {
        self.workers.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Worker>> {
        self.workers.iter()
    }

    /// All of them, as they are now and stay in this copy.
    pub(super) fn workers(&self) -> Workers {
        self.workers.clone()
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Arc<Worker>> {
        self.live_by_job.values().flatten().map(|&(_, id)| &self.workers[id])
    }

    /// The live workers of a job whose generation is below this one.
    pub(super) fn live_before(
        &self,
        job: &JobId,
        generation: Generation,
    ) -> impl Iterator<Item = &Arc<Worker>> {
        let ids = self.live_by_job.get(job).into_iter();
        let older = ids.flat_map(move |ids| ids.range(..(generation, WorkerId(0))));
        older.map(|&(_, id)| &self.workers[id])
    }

    /// The live workers of a job in this generation.
    pub(super) fn live_in(
        &self,
        job: &JobId,
        generation: Generation,
    ) -> impl Iterator<Item = &Arc<Worker>> {
        let ids = self.live_by_job.get(job).into_iter();
        let same = (generation, WorkerId(0))..=(generation, WorkerId(u64::MAX));
        ids.flat_map(move |ids| ids.range(same.clone())).map(|&(_, id)| &self.workers[id])
    }

    /// The abandoned workers.
    pub(super) fn abandoned(&self) -> impl ExactSizeIterator<Item = &Arc<Worker>> {
        self.abandoned.iter().map(|id| &self.workers[*id])
    }

    /// The highest generation of a job's live workers.
    pub(super) fn latest_generation(&self, job: &JobId) -> Option<Generation> {
        Some(self.live_by_job.get(job)?.last()?.0)
    }

    pub(super) fn by_key(&self, key: &StartKey) -> Option<&Arc<Worker>> {
        let first = (key.clone(), WorkerId(0));
        let last = (key.clone(), WorkerId(u64::MAX));
        self.by_key.range(first..=last).next_back().map(|(_, id)| &self.workers[*id])
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&StartKey, WorkerId)> {
        self.by_key.iter().map(|(key, id)| (key, *id))
    }

    pub(super) fn live_count(&self) -> usize {
        self.live
    }

    /// The slots of all live workers.
    pub(super) fn used_slots(&self) -> u64 {
        self.used_slots.try_into().unwrap_or(u64::MAX)
    }

    pub(super) fn insert(&mut self, worker: Arc<Worker>) {
        if let Some(key) = &worker.spec.key {
            self.by_key.insert((key.clone(), worker.id));
        }
        if worker.is_live() {
            self.count_in(&worker);
        }
        self.workers.insert(worker);
    }

    /// Changes a worker; the indexes follow. Returns it as it is now.
    pub(super) fn amend(
        &mut self,
        id: WorkerId,
        change: impl FnOnce(&mut Worker),
    ) -> Option<Arc<Worker>> {
        let before = self.workers.get(id)?;
        let was_live = before.is_live();
        let mut worker = Worker::clone(before);
        change(&mut worker);
        let worker = Arc::new(worker);
        self.workers.insert(worker.clone());
        if was_live && !worker.is_live() {
            self.count_out(&worker);
        } else if worker.is_abandoned() {
            self.abandoned.insert(id);
        } else {
            self.abandoned.remove(&id);
        }
        Some(worker)
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Arc<Worker>> {
        let worker = self.workers.remove(id)?;
        if worker.is_live() {
            self.count_out(&worker);
        }
        if let Some(key) = &worker.spec.key {
            self.by_key.remove(&(key.clone(), id));
        }
        Some(worker)
    }

    fn count_in(&mut self, worker: &Worker) {
        self.live += 1;
        if worker.is_abandoned() {
            self.abandoned.insert(worker.id);
        }
        self.used_slots += u128::from(worker.spec.slots.get());
        self.live_by_job
            .entry(worker.spec.job.clone())
            .or_default()
            .insert((worker.spec.generation, worker.id));
    }

    fn count_out(&mut self, worker: &Worker) {
        self.live -= 1;
        self.abandoned.remove(&worker.id);
        self.used_slots -= u128::from(worker.spec.slots.get());
        if let Some(ids) = self.live_by_job.get_mut(&worker.spec.job) {
            ids.remove(&(worker.spec.generation, worker.id));
            if ids.is_empty() {
                self.live_by_job.remove(&worker.spec.job);
            }
        }
    }
}
