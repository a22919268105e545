//! What the machine lets others see: a snapshot for readers who must never wait for it.

use std::sync::Arc;

use super::{
    time::{Mono, Wall},
    workers::Workers,
};
use crate::ids::MachineId;

/// An agent's state at one moment. Cheap to make and to clone, however many
/// workers there are.
#[derive(Clone, PartialEq, Debug)]
pub struct View {
    /// The agent's name.
    pub machine: MachineId,
    /// The capacity it offers.
    pub task_slots: u64,
    /// What of it is free.
    pub free_slots: u64,
    /// What it is doing.
    pub mode: Mode,
    /// Whether the controller's last answer was good.
    pub registered: bool,
    /// The controller's last good answer.
    pub last_contact: Option<Mono>,
    /// Every worker that is not forgotten, by id.
    pub workers: Workers,
    /// How many of them are alive.
    pub live_workers: usize,
    /// How many of those are abandoned: no controller counts their slots.
    pub abandoned_workers: usize,
    /// How many ends the controller has not acknowledged.
    pub reports_owed: usize,
    /// Why the journal takes no commits, if so.
    pub journal_error: Option<Arc<str>>,
    /// Why the worker program cannot be executed, if so. The agent does not register meanwhile.
    pub program_error: Option<Arc<str>>,
    /// When the agent started.
    pub started_at: Wall,
}

/// What an agent is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Taking new workers.
    Serving,
    /// Taking no new workers; the rest goes on.
    Draining,
    /// Ending.
    ShuttingDown,
}
