//! Worker processes, and whoever keeps their exit statuses: both outlive the agent.

use std::collections::BTreeMap;

use arroyo_node::{
    ids::WorkerId,
    machine::{Event, Exit, Launch, Process, Signal, SpawnError},
};

use crate::actions::Outcome;

#[derive(Default)]
pub struct Processes {
    table: BTreeMap<WorkerId, Proc>,
    next_pid: u32,
}

pub struct Proc {
    pub launch: Launch,
    pub process: Process,
    pub state: State,
    /// Whether the exit status can still be had.
    pub kept: bool,
    /// Whether the present agent has been told that it runs, and so will be told of its end.
    pub watched: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Asked for; nobody can tell yet whether it will run.
    Launching,
    Alive,
    Gone(Exit),
}

impl Proc {
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone(_))
    }

    /// Half of them do not care to be asked.
    pub fn ignores_sigterm(&self) -> bool {
        self.process.pid.is_multiple_of(2)
    }
}

impl Processes {
    pub fn get(&self, id: WorkerId) -> Option<&Proc> {
        self.table.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Proc)> {
        self.table.iter().map(|(id, proc)| (*id, proc))
    }

    pub fn alive(&self) -> Vec<WorkerId> {
        let alive = self.table.iter().filter(|(_, proc)| proc.state == State::Alive);
        alive.map(|(id, _)| *id).collect()
    }

    pub fn slots_in_use(&self) -> u64 {
        let held = self.table.values().filter(|proc| !proc.is_gone());
        held.map(|proc| proc.launch.spec.slots.get()).sum()
    }

    pub fn launch(&mut self, launch: Launch) {
        self.next_pid += 1;
        let process = Process { pid: self.next_pid, start_time: 7 };
        let id = launch.worker;
        let proc = Proc { launch, process, state: State::Launching, kept: true, watched: false };
        self.table.insert(id, proc);
    }

    /// The answer to a spawn.
    pub fn settle_launch(&mut self, id: WorkerId, outcome: Outcome) -> Vec<Event> {
        let Some(proc) = self.table.get_mut(&id) else { return Vec::new() };
        let spawned = Event::Spawned { worker: id, process: proc.process };
        match outcome {
            Outcome::Good => {
                (proc.state, proc.watched) = (State::Alive, true);
                vec![spawned]
            }
            Outcome::Bad => {
                self.table.remove(&id);
                let error = SpawnError { program: "worker".into(), reason: "ENOENT".into() };
                vec![Event::SpawnFailed { worker: id, error }]
            }
            Outcome::Odd => {
                let exit = Exit::Code(77);
                proc.state = State::Gone(exit);
                vec![Event::Exited { worker: id, exit }, spawned]
            }
        }
    }

    /// The answer to an adoption.
    pub fn settle_adoption(&mut self, id: WorkerId, outcome: Outcome) -> Event {
        let never_ran = Event::NeverRan(id);
        let Some(proc) = self.table.get_mut(&id) else { return never_ran };
        match proc.state {
            State::Launching if outcome == Outcome::Bad => {
                self.table.remove(&id);
                never_ran
            }
            State::Launching | State::Alive => {
                (proc.state, proc.watched) = (State::Alive, true);
                Event::Adopted { worker: id, process: proc.process }
            }
            State::Gone(exit) => {
                let exit = if proc.kept { exit } else { Exit::Unknown };
                Event::Exited { worker: id, exit }
            }
        }
    }

    /// A process ends; if the agent watches it, it is told.
    pub fn end(&mut self, id: WorkerId, exit: Exit) -> Option<Event> {
        let proc = self.table.get_mut(&id).filter(|proc| proc.state == State::Alive)?;
        proc.state = State::Gone(exit);
        proc.watched.then_some(Event::Exited { worker: id, exit })
    }

    /// How a signal will end it, if it will.
    pub fn fatal(&self, id: WorkerId, signal: Signal) -> Option<Exit> {
        let proc = self.get(id).filter(|proc| !proc.is_gone())?;
        match signal {
            Signal::Kill => Some(Exit::Signal(9)),
            Signal::Terminate if proc.ignores_sigterm() => None,
            Signal::Terminate => Some(Exit::Signal(15)),
        }
    }

    pub fn release(&mut self, id: WorkerId) {
        if let Some(proc) = self.table.get_mut(&id) {
            proc.kept = false;
        }
    }

    /// The agent is gone, and perhaps the computer with it.
    pub fn lose_agent(&mut self, reboot: bool) {
        for proc in self.table.values_mut() {
            proc.watched = false;
            if reboot && !proc.is_gone() {
                proc.state = State::Gone(Exit::Lost);
            }
        }
    }
}
