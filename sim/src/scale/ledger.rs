//! What must come out even in the end: which workers ended, and of which ends the controller was
//! told.

use std::collections::BTreeSet;

use arroyo_node::ids::WorkerId;

/// Kept by nobody whom it could concern: ends as the processes know them, reports as they arrived.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Ends of which the controller has not been told.
    untold: BTreeSet<WorkerId>,
    ends: u64,
    told: BTreeSet<WorkerId>,
    /// Reports of workers that had not ended.
    false_reports: u64,
}

impl Ledger {
    /// A worker's process has ended.
    pub(super) fn ended(&mut self, worker: WorkerId) {
        self.ends += 1;
        self.untold.insert(worker);
    }

    /// The controller has taken a report.
    pub(super) fn told(&mut self, worker: WorkerId) {
        if self.untold.remove(&worker) {
            self.told.insert(worker);
        } else if !self.told.contains(&worker) {
            self.false_reports += 1;
        }
    }

    /// How many workers have ended.
    pub(super) fn ends(&self) -> u64 {
        self.ends
    }

    /// Of how many ends the controller was told.
    pub(super) fn told_of(&self) -> u64 {
        self.told.len() as u64
    }

    /// What does not come out even, if anything.
    pub(super) fn fault(&self) -> Option<String> {
        if self.false_reports > 0 {
            return Some(format!("{} reports of workers that had not ended", self.false_reports));
        }
        let first = self.untold.first()?;
        Some(format!("{} ends never reported, that of worker {first} first", self.untold.len()))
    }
}
