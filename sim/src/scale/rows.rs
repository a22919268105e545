//! A node's journal: rows in memory. What is here outlives the agent.

use std::{collections::BTreeMap, sync::Arc};

use arroyo_node::{
    ids::WorkerId,
    machine::{Commit, Mono, Record, Recovered, Worker},
};

/// The rows, with what of them is alive and what is owed.
#[derive(Debug, Default)]
pub(super) struct Rows {
    workers: BTreeMap<WorkerId, Arc<Worker>>,
    draining: bool,
    known_at: Option<Mono>,
    live: usize,
    owed: usize,
}

impl Rows {
    pub(super) fn commit(&mut self, commit: Commit) {
        if commit.rewrite {
            *self = Self::default();
        }
        for record in commit.records {
            match record {
                Record::Worker(worker) => {
                    self.count_in(&worker);
                    if let Some(before) = self.workers.insert(worker.id, worker) {
                        self.count_out(&before);
                    }
                }
                Record::Forget(id) => {
                    if let Some(before) = self.workers.remove(&id) {
                        self.count_out(&before);
                    }
                }
                Record::Draining(draining) => self.draining = draining,
                Record::KnownAt(at) => self.known_at = Some(at),
            }
        }
    }

    /// What the next agent reads.
    pub(super) fn recover(&self) -> Recovered {
        Recovered {
            workers: self.workers.values().map(|worker| worker.as_ref().clone()).collect(),
            draining: self.draining,
            known_at: self.known_at,
            ..Recovered::default()
        }
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &Arc<Worker>> {
        self.workers.values()
    }

    /// How many workers are alive.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// How many ends the controller has not acknowledged.
    pub(super) fn owed(&self) -> usize {
        self.owed
    }

    fn count_in(&mut self, worker: &Worker) {
        self.live += usize::from(worker.is_live());
        self.owed += usize::from(worker.is_owed());
    }

    fn count_out(&mut self, worker: &Worker) {
        self.live -= usize::from(worker.is_live());
        self.owed -= usize::from(worker.is_owed());
    }
}
