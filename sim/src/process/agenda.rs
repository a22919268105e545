//! What is going to happen on a machine, in order of time; of equal times in order of entry.

use std::{collections::BTreeMap, time::Duration};

use arroyo_node::{
    ids::WorkerId,
    machine::{Event, Exit, Process},
};

/// One thing that is going to happen.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Due {
    /// A worker's program is run.
    Exec(WorkerId),
    /// A process ends.
    Die(Process, Exit),
    /// A worker's process starts another, which may end by itself after so long.
    Fork(WorkerId, Option<Duration>),
    /// A process starts that is no worker's.
    Stranger,
    /// What is left of a worker is killed.
    Sweep(WorkerId),
    /// The agent's process of this life hears something.
    Tell(u32, Event),
    /// A new shim runs.
    ShimBack,
}

/// The list of what is due.
#[derive(Clone, Debug, Default)]
pub(super) struct Agenda {
    due: BTreeMap<(Duration, u64), Due>,
    next: u64,
}

impl Agenda {
    /// Enters something.
    pub(super) fn add(&mut self, at: Duration, due: Due) {
        self.due.insert((at, self.next), due);
        self.next += 1;
    }

    /// Takes out the first thing whose time has come, with its time.
    pub(super) fn take(&mut self, now: Duration) -> Option<(Duration, Due)> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((at, _), due) = entry.remove_entry();
        Some((at, due))
    }

    /// Strikes out everything.
    pub(super) fn clear(&mut self) {
        self.due.clear();
    }
}
