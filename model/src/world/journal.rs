//! Rows, all or none. What is here survives the agent.

use std::collections::{BTreeMap, BTreeSet};

use arroyo_node::{
    ids::WorkerId,
    machine::{Commit, Mono, Record, Recovered, View, Worker},
};

#[derive(Clone, Debug)]
pub(super) struct Journal {
    pub(super) rows: BTreeMap<WorkerId, Worker>,
    pub(super) draining: bool,
    pub(super) known_at: Option<Mono>,
    pub(super) works: bool,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { rows: BTreeMap::new(), draining: false, known_at: None, works: true }
    }

    pub(super) fn commit(&mut self, commit: &Commit) -> Result<(), &'static str> {
        if commit.is_empty() {
            return Ok(());
        }
        if !self.works {
            return Err("disk full");
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

    pub(super) fn recover(&mut self, reboot: bool) -> Recovered {
        if reboot {
            // Times count from the boot.
            self.known_at = None;
        }
        let live = self.rows.values().filter(|row| row.is_live()).map(|row| row.id);
        Recovered {
            workers: self.rows.values().cloned().collect(),
            lost: if reboot { live.collect() } else { BTreeSet::new() },
            unwritten: BTreeSet::new(),
            draining: self.draining,
            known_at: self.known_at,
        }
    }

    /// Whether it says the same as the agent does.
    pub(super) fn agrees_with(&self, view: &View) -> bool {
        self.rows.len() == view.workers.len()
            && view.workers.iter().all(|worker| self.rows.get(&worker.id) == Some(worker.as_ref()))
    }
}
