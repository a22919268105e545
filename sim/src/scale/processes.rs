//! A node's worker processes: they run soon after they are started, heed SIGTERM after a moment,
//! and outlive the agent, with their exit statuses, as they do under the shim.

use std::collections::BTreeMap;

use arroyo_node::{
    ids::WorkerId,
    machine::{Event, Exit, Process, Signal},
};

use super::{
    agenda::{Happening, NodeIndex},
    world::World,
};

/// What a process does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// Its program runs.
    Runs,
    /// It ends.
    Ends(Exit),
    /// The agent learns what became of it.
    Found,
}

/// The process table.
#[derive(Debug)]
pub(super) struct Processes {
    node: NodeIndex,
    table: BTreeMap<WorkerId, Entry>,
    last_pid: u32,
}

#[derive(Debug)]
struct Entry {
    process: Process,
    end: Option<Exit>,
}

impl Processes {
    pub(super) fn new(node: NodeIndex) -> Self {
        Self { node, table: BTreeMap::new(), last_pid: 100 }
    }

    pub(super) fn spawn(&mut self, worker: WorkerId, world: &mut World) {
        self.last_pid += 1;
        let process = Process { pid: self.last_pid, start_time: world.now.0 / 10_000_000 };
        self.table.insert(worker, Entry { process, end: None });
        self.soon(worker, Change::Runs, (2, 20), world);
    }

    pub(super) fn signal(&mut self, worker: WorkerId, signal: Signal, world: &mut World) {
        match signal {
            Signal::Terminate => self.soon(worker, Change::Ends(Exit::Code(0)), (20, 200), world),
            Signal::Kill => self.soon(worker, Change::Ends(Exit::Signal(9)), (1, 5), world),
        }
    }

    /// Finds out for the agent what became of a worker.
    pub(super) fn adopt(&mut self, worker: WorkerId, world: &mut World) {
        self.soon(worker, Change::Found, (1, 5), world);
    }

    /// The end is durable: its status need not be kept.
    pub(super) fn release(&mut self, worker: WorkerId) {
        if self.table.get(&worker).is_some_and(|entry| entry.end.is_some()) {
            self.table.remove(&worker);
        }
    }

    /// The worker that has run longest.
    pub(super) fn eldest(&self) -> Option<WorkerId> {
        let running = self.table.iter().filter(|(_, entry)| entry.end.is_none());
        running.min_by_key(|(_, entry)| entry.process.pid).map(|(worker, _)| *worker)
    }

    /// A process has come to this. Returns what the agent hears of it, if there is one.
    pub(super) fn change(
        &mut self,
        worker: WorkerId,
        change: Change,
        world: &mut World,
    ) -> Option<Event> {
        let Some(entry) = self.table.get_mut(&worker) else {
            return matches!(change, Change::Found).then_some(Event::NeverRan(worker));
        };
        let process = entry.process;
        match change {
            Change::Runs => Some(Event::Spawned { worker, process }),
            Change::Ends(_) if entry.end.is_some() => None,
            Change::Ends(exit) => {
                entry.end = Some(exit);
                world.ledger.ended(worker);
                Some(Event::Exited { worker, exit })
            }
            Change::Found => Some(match entry.end {
                None => Event::Adopted { worker, process },
                Some(exit) => Event::Exited { worker, exit },
            }),
        }
    }

    fn soon(
        &self,
        worker: WorkerId,
        change: Change,
        (least_ms, most_ms): (u64, u64),
        world: &mut World,
    ) {
        let takes = world.process_takes(least_ms, most_ms);
        world.after(takes, Happening::Process(self.node, worker, change));
    }
}
