//! A journal without a file, for an agent without a state directory. It also says what
//! [`SqliteJournal`](super::SqliteJournal) must say: tests hold the one against the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    ids::WorkerId,
    machine::{Commit, Mono, Record, Recovered, Worker},
    runtime::{journal::BlockingJournal, ports::JournalError},
};

/// A journal that ends with the agent.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    workers: BTreeMap<WorkerId, Arc<Worker>>,
    draining: bool,
    known_at: Option<Mono>,
}

impl MemoryJournal {
    /// What an agent would find that came after this one on the same boot: workers in the order of
    /// their ids, none of them lost.
    pub fn recovered(&self) -> Recovered {
        Recovered {
            workers: self.workers.values().map(|worker| Worker::clone(worker)).collect(),
            lost: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            draining: self.draining,
            known_at: self.known_at,
        }
    }
}

impl BlockingJournal for MemoryJournal {
    fn commit(&mut self, commit: &Commit) -> Result<(), JournalError> {
        if commit.rewrite {
            *self = Self::default();
        }
        for record in &commit.records {
            match record {
                Record::Worker(worker) => {
                    self.workers.insert(worker.id, worker.clone());
                }
                Record::Forget(id) => {
                    self.workers.remove(id);
                }
                Record::Draining(draining) => self.draining = *draining,
                Record::KnownAt(at) => self.known_at = Some(*at),
            }
        }
        Ok(())
    }
}
