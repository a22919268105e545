//! Worker processes, and whoever keeps their exit statuses: both outlive the agent.

use std::collections::BTreeMap;

use arroyo_node::{
    ids::WorkerId,
    machine::{Event, Exit, Launch, Process, Signal, SpawnError},
};

use crate::scenario::Outcome;

#[derive(Clone, Debug, Default)]
pub(super) struct Processes {
    table: BTreeMap<WorkerId, Proc>,
    launched: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Proc {
    pub(super) launch: Launch,
    pub(super) process: Process,
    pub(super) state: State,
    /// Whether the exit status can still be had.
    pub(super) kept: bool,
    /// Whether the present agent has been told that it runs, and so will be told of its end.
    pub(super) watched: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Asked for; nobody can tell yet whether it will run.
    Launching,
    Alive,
    Gone(Exit),
}

impl Proc {
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone(_))
    }

    /// Those of the first job do not care to be asked.
    pub(super) fn ignores_sigterm(&self) -> bool {
        self.launch.spec.job.as_str() == "job-0"
    }
}

impl Processes {
    pub(super) fn get(&self, id: WorkerId) -> Option<&Proc> {
        self.table.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Proc)> {
        self.table.iter().map(|(id, proc)| (*id, proc))
    }

    pub(super) fn alive(&self) -> Vec<WorkerId> {
        let alive = self.table.iter().filter(|(_, proc)| proc.state == State::Alive);
        alive.map(|(id, _)| *id).collect()
    }

    pub(super) fn slots_in_use(&self) -> u64 {
        let held = self.table.values().filter(|proc| !proc.is_gone());
        held.map(|proc| proc.launch.spec.slots.get()).sum()
    }

    pub(super) fn launch(&mut self, launch: Launch) {
        let id = launch.worker;
        let pid = u32::try_from(id.0 % 4_000_000).expect("a small number");
        self.launched += 1;
        let process = Process { pid, start_time: self.launched };
        let proc = Proc { launch, process, state: State::Launching, kept: true, watched: false };
        self.table.insert(id, proc);
    }

    /// The answer to a spawn.
    pub(super) fn settle_launch(&mut self, id: WorkerId, outcome: Outcome) -> Vec<Event> {
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
    pub(super) fn settle_adoption(&mut self, id: WorkerId, outcome: Outcome) -> Event {
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
    pub(super) fn end(&mut self, id: WorkerId, exit: Exit) -> Option<Event> {
        let proc = self.table.get_mut(&id).filter(|proc| proc.state == State::Alive)?;
        proc.state = State::Gone(exit);
        proc.watched.then_some(Event::Exited { worker: id, exit })
    }

    /// How a signal will end it, if it will.
    pub(super) fn fatal(&self, id: WorkerId, signal: Signal) -> Option<Exit> {
        let proc = self.get(id).filter(|proc| !proc.is_gone())?;
        match signal {
            Signal::Kill => Some(Exit::Signal(9)),
            Signal::Terminate if proc.ignores_sigterm() => None,
            Signal::Terminate => Some(Exit::Signal(15)),
        }
    }

    pub(super) fn release(&mut self, id: WorkerId) {
        if let Some(proc) = self.table.get_mut(&id) {
            proc.kept = false;
        }
    }

    /// The agent is gone, and perhaps the computer with it.
    pub(super) fn lose_agent(&mut self, reboot: bool) {
        for proc in self.table.values_mut() {
            proc.watched = false;
            if reboot && !proc.is_gone() {
                proc.state = State::Gone(Exit::Lost);
            }
        }
    }
}
