//! What each action does to the world.

use std::{collections::BTreeMap, time::Duration};

use arroyo_node::{
    ids::{Generation, JobId, MachineId, PipelineId, RequestId, WorkerId},
    machine::{Ask, Dialect, Event, Exit, Signal, Start, StartKey, StopHow},
};

use super::{MACHINE, Pending, World};
use crate::actions::{Action, Outcome};

impl World {
    pub fn act(&mut self, action: &Action) {
        match *action {
            Action::Start { job, generation, slots, key, elsewhere } => {
                self.start(job, generation, slots, key, elsewhere);
            }
            Action::Stop { which, how } => self.stop(which, how),
            Action::Alive { elsewhere } => self.ask(Ask::Alive(machine(elsewhere))),
            Action::Drain(draining) => self.ask(Ask::SetDraining(draining)),
            Action::Shutdown { how, by_request: true } => self.ask(Ask::Shutdown(how)),
            Action::Shutdown { how, by_request: false } => self.inbox.push(Event::Shutdown(how)),
            Action::Answer { which, outcome } => {
                if let Some(index) = pick(which, self.pending.len()) {
                    let call = self.pending.remove(index);
                    self.answer(call, outcome);
                }
            }
            Action::AnswerAll => self.answer_all(),
            Action::Exit { which, code } => {
                let alive = self.processes.alive();
                if let Some(index) = pick(which, alive.len()) {
                    self.end(alive[index], Exit::Code(code.into()));
                }
            }
            Action::Connected => self.inbox.push(Event::Connected),
            Action::ForgetNodes => self.controller.knows_node = false,
            Action::PassMillis(millis) => {
                self.turn();
                self.pass(Duration::from_millis(millis.into()));
            }
            Action::JumpWall(seconds) => {
                let micros = i64::from(seconds) * 1_000_000;
                self.now.wall.0 = self.now.wall.0.saturating_add_signed(micros);
            }
            Action::JournalWorks(works) => self.journal.works = works,
            Action::SignalsWork(work) => {
                self.signals_work = work;
                self.promises.signals_have_failed |= !work;
            }
            Action::Crash { after, reboot, deaths, task_slots } => {
                self.crash(after, reboot, deaths, task_slots);
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.callers.insert(request, ask.clone());
        self.inbox.push(Event::Request { request, ask });
    }

    fn start(&mut self, job: u8, generation: u8, slots: u8, key: Option<u8>, elsewhere: bool) {
        let start = Start {
            machine: machine(elsewhere),
            name: "a pipeline".into(),
            job: JobId::new(format!("job-{job}")),
            pipeline: (job == 1).then(|| PipelineId::from("pipeline-1")),
            generation: Generation(generation.into()),
            slots: u64::from(slots).try_into().expect("actions ask for slots"),
            dialect: if job == 1 { Dialect::V0_16 } else { Dialect::V0_15 },
            env: BTreeMap::new(),
            // A key of its own for each payload, mostly: the same one names the same attempt.
            key: key.map(|key| StartKey(format!("{key}/{job}/{}", generation / 2).into())),
        };
        self.promises.signalling.start_asked(&start.job, start.generation);
        self.ask(Ask::Start(start));
    }

    fn stop(&mut self, which: u8, how: StopHow) {
        let known = pick(which, self.known.len()).map(|index| self.known[index]);
        let worker = known.unwrap_or(WorkerId(1));
        if how != StopHow::Ask {
            self.promises.signalling.stop_asked(worker);
        }
        if how == StopHow::Force {
            // The deadline counts from when the agent hears of it: at once.
            self.turn();
            let mut workers = self.view().workers.into_iter();
            if workers.any(|known| known.id == worker && known.is_live()) {
                let at = self.now.mono + self.config.kill_after;
                self.promises.signalling.kill_due(worker, at);
            }
        }
        self.ask(Ask::Stop { worker, how });
        if how == StopHow::Force {
            self.turn();
        }
    }

    pub(super) fn answer_all(&mut self) {
        for call in std::mem::take(&mut self.pending) {
            self.answer(call, Outcome::Good);
        }
    }

    fn answer(&mut self, call: Pending, outcome: Outcome) {
        let event = match call {
            Pending::Spawn(id) => {
                let events = self.processes.settle_launch(id, outcome);
                return self.inbox.extend(events);
            }
            Pending::Death(id, exit) => return self.end(id, exit),
            Pending::Adopt(worker) => self.processes.settle_adoption(worker, outcome),
            Pending::Register => Event::Registered(self.controller.register(outcome)),
            Pending::Heartbeat => Event::HeartbeatAnswered(self.controller.heartbeat(outcome)),
            Pending::Report(report) => Event::ReportAnswered {
                worker: report.worker,
                result: self.controller.report(report, outcome),
            },
            Pending::Delivery(request) => Event::Delivered(request),
            Pending::SignalFailure(worker) => {
                self.promises.signalling.failed(worker, self.now.mono);
                Event::SignalFailed { worker, error: "EPERM".into() }
            }
        };
        self.inbox.push(event);
    }

    fn end(&mut self, id: WorkerId, exit: Exit) {
        let event = self.processes.end(id, exit);
        self.inbox.extend(event);
    }

    pub(super) fn send(&mut self, id: WorkerId, signal: Signal) {
        let Some(proc) = self.processes.get(id) else {
            return self.promises.broken.push(format!("P6: {id} is signalled and never ran"));
        };
        let spec = proc.launch.spec.clone();
        let result = self.promises.signalling.stops(id, &spec, self.now.mono);
        self.promises.expect(result.is_ok(), || format!("P7, P9: {result:?}"));
        if !self.signals_work {
            self.promises.signalling.sent_in_vain(id);
            return self.pending.push(Pending::SignalFailure(id));
        }
        if signal == Signal::Kill {
            self.promises.signalling.killed(id);
        }
        if let Some(exit) = self.processes.fatal(id, signal) {
            self.pending.push(Pending::Death(id, exit));
        }
    }

    fn crash(&mut self, after: u8, reboot: bool, deaths: u8, task_slots: u64) {
        self.next_task_slots = task_slots;
        if reboot {
            // All at once: what was not handed in is lost, and every process with it.
            return self.boot(true);
        }
        self.doom = Some(after);
        self.turn();
        if self.doom.take().is_some() {
            // It survived the turn.
            for (index, id) in self.processes.alive().into_iter().enumerate() {
                if deaths >> (index % 8) & 1 == 1 {
                    self.processes.end(id, Exit::Code(1));
                }
            }
            self.boot(false);
        }
    }
}

fn machine(elsewhere: bool) -> MachineId {
    MachineId::from(if elsewhere { "machine-2" } else { MACHINE })
}

fn pick(which: u8, among: usize) -> Option<usize> {
    usize::from(which).checked_rem(among)
}
