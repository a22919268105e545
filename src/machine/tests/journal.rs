//! The journal as the machine's contract describes it: rows, all or none.

use std::collections::{BTreeMap, BTreeSet};

use super::{Commit, Record, Recovered, Worker};
use crate::ids::WorkerId;

#[derive(Default)]
pub(super) struct MemoryJournal {
    rows: BTreeMap<WorkerId, Worker>,
    draining: bool,
    /// Whether commits fail.
    pub(super) broken: bool,
    /// How many commits were tried.
    pub(super) attempts: usize,
}

impl MemoryJournal {
    pub(super) fn holding(recovered: &Recovered) -> Self {
        let held = recovered.workers.iter().filter(|w| !recovered.unwritten.contains(&w.id));
        let rows = held.map(|worker| (worker.id, worker.clone())).collect();
        Self { rows, draining: recovered.draining, ..Self::default() }
    }

    pub(super) fn commit(&mut self, commit: &Commit) -> Result<(), String> {
        if commit.is_empty() {
            return Ok(());
        }
        self.attempts += 1;
        if self.broken {
            return Err("disk full".into());
        }
        if commit.rewrite {
            self.rows.clear();
            self.draining = false;
        }
        for record in &commit.records {
            match record {
                Record::Worker(worker) => {
                    self.rows.insert(worker.id, worker.as_ref().clone());
                }
                Record::Forget(id) => {
                    self.rows.remove(id);
                }
                Record::Draining(draining) => self.draining = *draining,
            }
        }
        Ok(())
    }

    pub(super) fn row(&self, id: WorkerId) -> Option<&Worker> {
        self.rows.get(&id)
    }

    pub(super) fn recover(&self) -> Recovered {
        Recovered {
            workers: self.rows.values().cloned().collect(),
            lost: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            draining: self.draining,
        }
    }
}
