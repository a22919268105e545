//! What each action does to the world.

use std::{collections::BTreeMap, time::Duration};

use arroyo_node::{
    ids::{Generation, JobId, MachineId, PipelineId, RequestId, WorkerId},
    machine::{Ask, CallError, Dialect, Event, Exit, Loss, Signal, Start, StartKey, StopHow},
};

use super::{Doom, MACHINE, Pending, World};
use crate::scenario::{Action, Outcome};

impl World {
    /// Lets something happen.
    pub fn act(&mut self, action: &Action) {
        match *action {
            Action::Start { job, generation, slots, key, elsewhere } => {
                let start = a_start(job % 3, generation % 6, slots % 8 + 1, key);
                let start = Start { machine: machine(elsewhere), ..start };
                self.last_start = Some(start.clone());
                self.ask(Ask::Start(start));
            }
            Action::StartAgain => {
                if let Some(start) = self.last_start.clone() {
                    self.ask(Ask::Start(start));
                }
            }
            Action::Stop { which, how } => self.stop(which, how),
            Action::Alive { elsewhere } => self.ask(Ask::Alive(machine(elsewhere))),
            Action::Drain(draining) => self.ask(Ask::SetDraining(draining)),
            Action::Shutdown { how, by_request: true } => self.ask(Ask::Shutdown(how)),
            Action::Shutdown { how, by_request: false } => self.inbox.push(Event::Shutdown(how)),
            Action::Answer { which, outcome } => {
                if let Some(index) = pick(which, self.pending.len()) {
                    self.answer(index, outcome);
                }
            }
            Action::AnswerAll => self.answer_all(),
            Action::Exit { which, code } => {
                let alive = self.processes.alive();
                if let Some(index) = pick(which, alive.len()) {
                    self.end(alive[index], Exit::Code(code.into()));
                }
            }
            Action::LoseConnection { closed } => self.lose_connection(closed),
            Action::ForgetNodes => self.forget_nodes(),
            Action::LateAnswer => self.inbox.push(Event::LateAnswer),
            Action::ProgramWorks(works) => self.set_program(works),
            Action::Pass(millis) => {
                self.turn();
                self.pass(Duration::from_millis(millis.0.into()));
            }
            Action::Sleep(millis) => {
                let until = self.now.mono + Duration::from_millis(millis.0.into());
                self.sleep_until(until);
            }
            Action::JumpWall(seconds) => {
                let micros = i64::from(seconds) * 1_000_000;
                self.now.wall.0 = self.now.wall.0.saturating_add_signed(micros);
            }
            Action::JournalWorks(works) => self.journal.works = works,
            Action::SignalsWork(work) => self.signals_work = work,
            Action::Crash { after, reboot, deaths, capacity } => {
                self.next_task_slots = capacity.slots();
                self.crash(Doom { after: after % 16, reboot }, deaths);
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.ask_as(request, ask);
    }

    pub(crate) fn ask_as(&mut self, request: RequestId, ask: Ask) {
        self.callers.insert(request, ask.clone());
        self.inbox.push(Event::Request { request, ask });
    }

    /// The controller loses its memory, as one does that is started anew.
    fn forget_nodes(&mut self) {
        // Workers that were started while it did not know the node never were in its books.
        if std::mem::take(&mut self.controller.knows_node) {
            self.promises.sees_forgetting(self.processes.iter().map(|(id, _)| id));
        }
        self.cut_registration();
    }

    fn lose_connection(&mut self, closed: bool) {
        let loss = if closed { Loss::Closed } else { Loss::Broken };
        self.cut_registration();
        self.inbox.push(Event::ConnectionLost(loss));
    }

    /// What may go over one connection only does not go over the next.
    fn cut_registration(&mut self) {
        self.connected = false;
        for pending in &mut self.pending {
            if let Pending::Register { cut } = pending {
                *cut |= self.one_connection;
            }
        }
    }

    pub(super) fn set_program(&mut self, works: bool) {
        let missing = || Err("/opt/arroyo/arroyo: No such file or directory".into());
        let checked = if works { Ok(()) } else { missing() };
        self.inbox.push(Event::ProgramChecked(checked));
    }

    fn stop(&mut self, which: u8, how: StopHow) {
        let known = pick(which, self.known.len()).map(|index| self.known[index]);
        let worker = known.unwrap_or(WorkerId(1));
        self.promises.sees_named(worker);
        self.ask(Ask::Stop { worker, how });
    }

    pub(super) fn answer_all(&mut self) {
        while !self.pending.is_empty() {
            self.answer(0, Outcome::Good);
        }
    }

    /// Answers one of the calls that are under way.
    pub(crate) fn answer(&mut self, index: usize, outcome: Outcome) {
        let event = match self.pending.remove(index) {
            Pending::Spawn(id) => {
                let events = self.processes.settle_launch(id, outcome);
                return self.inbox.extend(events);
            }
            Pending::Death(id, exit) => return self.end(id, exit),
            Pending::Adopt(worker) => self.processes.settle_adoption(worker, outcome),
            Pending::Register { cut: true } => Event::Registered(Err(CallError::NotConnected)),
            Pending::Register { cut: false } => {
                Event::Registered(self.controller.register(outcome))
            }
            Pending::Heartbeat(heartbeat) => {
                Event::HeartbeatAnswered { heartbeat, result: self.controller.heartbeat(outcome) }
            }
            Pending::Report(report) => Event::ReportAnswered {
                worker: report.worker,
                result: self.controller.report(report, outcome),
            },
            Pending::Delivery(request) => Event::Delivered(request),
            Pending::SignalFailure(worker) => Event::SignalFailed { worker, error: "EPERM".into() },
        };
        self.inbox.push(event);
    }

    pub(crate) fn end(&mut self, id: WorkerId, exit: Exit) {
        let event = self.processes.end(id, exit);
        self.inbox.extend(event);
    }

    pub(super) fn send(&mut self, id: WorkerId, signal: Signal) {
        if self.processes.get(id).is_none() {
            return self.promises.expect(false, || format!("P6: {id} is signalled and never ran"));
        }
        if !self.signals_work {
            return self.pending.push(Pending::SignalFailure(id));
        }
        if let Some(exit) = self.processes.fatal(id, signal) {
            self.pending.push(Pending::Death(id, exit));
        }
    }

    /// What is ready is taken in; on the way, or at its end, the agent is killed.
    pub(crate) fn crash(&mut self, doom: Doom, deaths: u8) {
        self.doom = Some(doom);
        self.turn();
        if self.doom.take().is_some() {
            for (index, id) in self.processes.alive().into_iter().enumerate() {
                if deaths >> (index % 8) & 1 == 1 {
                    self.processes.end(id, Exit::Code(1));
                }
            }
            self.boot(doom.reboot);
        }
    }
}

/// A StartWorker. Each job has its habits.
pub(crate) fn a_start(job: u8, generation: u8, slots: u8, key: Option<u8>) -> Start {
    Start {
        machine: machine(false),
        name: "a pipeline".into(),
        job: JobId::new(format!("job-{job}")),
        pipeline: (job == 1).then(|| PipelineId::from("pipeline-1")),
        generation: Generation(generation.into()),
        slots: u64::from(slots).try_into().expect("actions ask for slots"),
        dialect: if job == 1 { Dialect::V0_16 } else { Dialect::V0_15 },
        env: BTreeMap::new(),
        // A key of its own for each payload, mostly: the same one names the same attempt.
        key: key.map(|key| StartKey(format!("{}/{job}/{}", key % 3, generation / 2).into())),
    }
}

fn machine(elsewhere: bool) -> MachineId {
    MachineId::from(if elsewhere { "machine-2" } else { MACHINE })
}

fn pick(which: u8, among: usize) -> Option<usize> {
    usize::from(which).checked_rem(among)
}
