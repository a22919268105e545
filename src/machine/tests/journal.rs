//! The journal as the machine's contract describes it: rows, all or none.

use std::collections::{BTreeMap, BTreeSet};

use super::{Commit, Mono, Record, Recovered, Worker};
use crate::ids::WorkerId;

#[derive(Default)]
pub(super) struct MemoryJournal {
    rows: BTreeMap<WorkerId, Worker>,
    draining: bool,
    known_at: Option<Mono>,
    /// Whether commits fail.
    pub(super) broken: bool,
    /// How many commits were tried.
    pub(super) attempts: usize,
}

impl MemoryJournal {
    pub(super) fn holding(recovered: &Recovered) -> Self {
        let held = recovered.workers.iter().filter(|w| !recovered.unwritten.contains(&w.id));
        let rows = held.map(|worker| (worker.id, worker.clone())).collect();
        let (draining, known_at) = (recovered.draining, recovered.known_at);
        Self { rows, draining, known_at, ..Self::default() }
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
            (self.draining, self.known_at) = (false, None);
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
                Record::KnownAt(at) => self.known_at = Some(*at),
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
            known_at: self.known_at,
        }
    }
}
