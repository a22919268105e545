//! The agent's way to its machine's processes.

use std::sync::{Arc, Mutex, PoisonError};

use arroyo_node::{
    ids::WorkerId,
    machine::{Launch, Process, Signal},
    runtime::ports::Processes,
};

use super::Table;

/// One life of an agent, as its machine's process table sees it.
pub(crate) struct Port {
    table: Arc<Mutex<Table>>,
}

impl Port {
    /// The port of the agent that the table was last [told of](Table::begin).
    pub(crate) fn new(table: Arc<Mutex<Table>>) -> Self {
        Self { table }
    }

    fn table<R>(&self, work: impl FnOnce(&mut Table) -> R) -> R {
        work(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Processes for Port {
    fn spawn(&mut self, launch: Launch) {
        self.table(|table| table.spawn(launch));
    }

    fn adopt(&mut self, worker: WorkerId, process: Option<Process>) {
        self.table(|table| table.adopt(worker, process));
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        self.table(|table| table.signal(worker, signal));
    }

    fn release(&mut self, worker: WorkerId) {
        self.table(|table| table.release(worker));
    }

    fn discard(&mut self, _worker: WorkerId) {}
}
