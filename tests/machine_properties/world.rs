//! The world of one agent: the driver's loop in miniature, and what actions do to it.

mod acting;
mod healing;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arroyo_node::{
    ids::{MachineId, RequestId, WorkerId},
    machine::{
        Ask, Config, Effect, Effects, Event, Exit, Machine, Mono, Now, Reply, Report, Shutdown,
        View, Wall, invariants,
    },
};
use proptest::test_runner::TestCaseError;

use crate::{
    actions::Settings,
    controller::Controller,
    journal::Journal,
    processes::Processes,
    promises::Promises,
    trace::{Line, Trace},
};

pub const MACHINE: &str = "machine-1";

pub struct World {
    config: Config,
    seed: u8,
    now: Now,
    machine: Machine,
    /// Whether an agent has ended and its successor is still to come.
    finished: bool,
    /// The capacity of the agent that comes next.
    next_task_slots: u64,
    journal: Journal,
    processes: Processes,
    controller: Controller,
    /// What the next turn takes in.
    inbox: Vec<Event>,
    /// What the agent has submitted and nobody has answered yet.
    pending: Vec<Pending>,
    callers: BTreeMap<RequestId, Ask>,
    next_request: u64,
    /// Workers that ended with the computer: nobody else's process is to be taken for theirs.
    lost: BTreeSet<WorkerId>,
    /// Every worker that was ever spawned.
    known: Vec<WorkerId>,
    signals_work: bool,
    /// The agent is killed when this many effects more have been executed.
    doom: Option<u8>,
    turns: u64,
    /// How long the agent has been registered since its last heartbeat.
    silence: Duration,
    shutdown_due: Option<Mono>,
    detaching: bool,
    promises: Promises,
    pub trace: Trace,
}

/// Something submitted. A port answers in its own time.
#[derive(Clone, PartialEq, Debug)]
enum Pending {
    Spawn(WorkerId),
    Adopt(WorkerId),
    Death(WorkerId, Exit),
    SignalFailure(WorkerId),
    Register,
    Heartbeat,
    Report(Report),
    Delivery(RequestId),
}

impl World {
    pub fn new(settings: &Settings) -> Self {
        let mut config = Config::new(MachineId::from(MACHINE));
        config.task_slots = settings.task_slots;
        config.address = "10.0.0.1:5118".into();
        config.reports_in_flight = 2.try_into().expect("two is not zero");
        config.retain_for = Duration::from_secs(20);
        config.retain_most = 5;
        config.fence_after = settings.fencing.then_some(Duration::from_secs(30));
        let now = Now { mono: Mono(1_000_000_000_000), wall: Wall(1_750_000_000_000_000) };
        let journal = Journal::new();
        let mut world = Self {
            machine: Machine::new(config.clone(), [settings.seed; 32], journal.recover(false), now),
            next_task_slots: config.task_slots,
            config,
            seed: settings.seed,
            now,
            finished: false,
            journal,
            processes: Processes::default(),
            controller: Controller::default(),
            inbox: Vec::new(),
            pending: Vec::new(),
            callers: BTreeMap::new(),
            next_request: 1,
            lost: BTreeSet::new(),
            known: Vec::new(),
            signals_work: true,
            doom: None,
            turns: 0,
            silence: Duration::ZERO,
            shutdown_due: None,
            detaching: false,
            promises: Promises::default(),
            trace: Trace::default(),
        };
        world.begin();
        world
    }

    /// What has been broken so far, with what led to it.
    pub fn verdict(&self) -> Result<(), TestCaseError> {
        match self.promises.broken.first() {
            None => Ok(()),
            Some(broken) => Err(TestCaseError::fail(format!("{broken}\n{}", self.trace.tail(60)))),
        }
    }

    /// A new agent comes up on what is in the journal.
    fn boot(&mut self, reboot: bool) {
        self.promises.agent_lost();
        self.promises.rebooted |= reboot;
        for pending in std::mem::take(&mut self.pending) {
            if let Pending::Death(id, exit) = pending {
                self.processes.end(id, exit);
            }
        }
        self.processes.lose_agent(reboot);
        self.inbox.clear();
        self.callers.clear();
        self.doom = None;
        self.finished = false;
        self.shutdown_due = None;
        self.detaching = false;
        self.seed = self.seed.wrapping_add(101);
        self.config.task_slots = self.next_task_slots;
        let (recovered, seed) = (self.journal.recover(reboot), [self.seed; 32]);
        self.lost = recovered.lost.clone();
        self.machine = Machine::new(self.config.clone(), seed, recovered, self.now);
        self.begin();
    }

    fn begin(&mut self) {
        self.trace.push(Line::Boot(self.now));
        self.silence = Duration::ZERO;
        self.heard_controller();
        self.inbox.push(Event::Begin);
        self.turn();
    }

    fn heard_controller(&mut self) {
        self.promises.signalling.heard_controller(self.now.mono, self.config.fence_after);
    }

    /// The driver takes in all that is ready: one mutation, then drain.
    pub fn turn(&mut self) {
        self.turns += 1;
        let mut batch = Effects::default();
        for event in std::mem::take(&mut self.inbox) {
            self.handle(event, &mut batch);
        }
        while !batch.is_empty() {
            let Some(next) = self.settle(batch) else { return self.boot(false) };
            batch = next;
        }
        if self.finished {
            let asked = self.shutdown_due.is_some() || self.detaching;
            self.promises.expect(asked, || "the agent ends and nobody asked".into());
            return self.boot(false);
        }
        self.look();
    }

    fn handle(&mut self, event: Event, batch: &mut Effects) {
        self.trace.push(Line::Event(self.now, event.clone()));
        // What shares a batch with the agent's end comes too late to count.
        if !batch.effects.contains(&Effect::Finish) {
            self.note(&event);
        }
        self.machine.handle(self.now, event, batch);
        let sound = invariants::check(&self.machine);
        self.promises.expect(sound.is_ok(), || format!("{sound:?}"));
    }

    /// What the agent knows from now on.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Exited { worker, .. } => {
                self.promises.sees_end(*worker, self.now.mono, self.turns);
                self.promises.signalling.killed(*worker);
            }
            Event::ReportAnswered { worker, result: Ok(()) } => {
                self.promises.sees_acknowledgement(*worker);
                self.heard_controller();
            }
            Event::HeartbeatAnswered(Ok(())) | Event::Registered(Ok(())) => self.heard_controller(),
            Event::HeartbeatAnswered(Err(_)) | Event::Registered(Err(_)) => {
                self.silence = Duration::ZERO;
            }
            Event::Request { ask: Ask::Shutdown(how), .. } | Event::Shutdown(how) => {
                self.sees_shutdown(*how);
            }
            Event::Request { ask: Ask::SetDraining(draining), .. } => {
                self.promises.draining_asked = *draining;
            }
            Event::Timeout if self.promises.signalling.fences(self.now.mono) => {
                let workers = self.view().workers.into_iter().map(|worker| worker.id);
                self.promises.signalling.fenced(workers);
            }
            Event::NeverRan(worker) => self.promises.signalling.killed(*worker),
            Event::Delivered(request) => self.promises.sees_delivery(*request),
            _ => {}
        }
    }

    fn sees_shutdown(&mut self, how: Shutdown) {
        match how {
            Shutdown::Detach => self.detaching = true,
            Shutdown::StopWorkers => {
                self.promises.signalling.shutdown_asked();
                let patience = self.config.shutdown_kill_after + self.config.shutdown_patience;
                self.shutdown_due.get_or_insert(self.now.mono + patience);
            }
        }
    }

    /// Commits, then executes. Returns what the machine makes of it, unless the agent is killed.
    fn settle(&mut self, batch: Effects) -> Option<Effects> {
        let mut next = Effects::default();
        let committed = self.journal.commit(&batch.commit);
        self.trace.push(Line::Commit(batch.commit.clone(), committed.is_ok()));
        self.judge_stops(&batch);
        if let Err(error) = committed {
            self.promises.journal_has_failed = true;
            self.handle(Event::JournalFailed(error.into()), &mut next);
        } else if batch.commit.rewrite {
            self.handle(Event::JournalRestored, &mut next);
        }
        if committed.is_ok() && self.machine.view().journal_error.is_none() {
            self.promises.sees_durable();
        }
        for effect in batch.effects {
            match self.doom.as_mut() {
                Some(0) => return None,
                Some(left) => *left -= 1,
                None => {}
            }
            if committed.is_err() && effect.awaits_commit() {
                self.handle(Event::NotDurable(Box::new(effect)), &mut next);
            } else {
                self.trace.push(Line::Effect(effect.clone()));
                self.execute(effect);
            }
        }
        Some(next)
    }

    /// Workers whose stop is on its way into the journal: is there a reason?
    fn judge_stops(&mut self, batch: &Effects) {
        for record in &batch.commit.records {
            if let arroyo_node::machine::Record::Worker(worker) = record
                && worker.stop.is_some()
            {
                let result = self.promises.signalling.stops(worker.id, &worker.spec, self.now.mono);
                self.promises.expect(result.is_ok(), || format!("P7, P9: {result:?}"));
            }
        }
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { request, reply } => self.deliver(request, &reply),
            Effect::Spawn(launch) => {
                let (promises, processes) = (&mut self.promises, &self.processes);
                promises.sees_spawn(&launch, &self.config, processes, &self.journal);
                self.known.push(launch.worker);
                self.pending.push(Pending::Spawn(launch.worker));
                self.processes.launch(launch);
            }
            Effect::Adopt { worker, process } => {
                let meant = self.processes.get(worker).map(|proc| proc.process);
                let right = process.is_none() || process == meant;
                let right = right && !self.lost.contains(&worker);
                self.promises.expect(right, || format!("P6: {process:?} is not {worker}'s"));
                self.submit(Pending::Adopt(worker));
            }
            Effect::Signal { worker, signal } => self.send(worker, signal),
            Effect::Release(worker) => {
                self.promises.sees_release(worker, &self.journal);
                self.processes.release(worker);
            }
            Effect::Discard(worker) => {
                let ran = self.processes.get(worker).is_some();
                self.promises.sees_discard(worker, ran);
            }
            Effect::Register(registration) => {
                let said = (registration.machine.as_str(), registration.task_slots);
                let right = said == (MACHINE, self.config.task_slots);
                self.promises.expect(right, || format!("{registration:?}"));
                self.submit(Pending::Register);
            }
            Effect::Heartbeat { at } => {
                self.promises.expect(at == self.now.wall, || format!("heartbeat at {at:?}"));
                self.silence = Duration::ZERO;
                self.pending.push(Pending::Heartbeat);
            }
            Effect::Report(report) => {
                let proc = self.processes.get(report.worker);
                self.promises.sees_report(&report, proc, self.now.mono);
                self.submit(Pending::Report(report));
            }
            Effect::Announce(report) => {
                let proc = self.processes.get(report.worker);
                self.promises.sees_announcement(&report, proc);
            }
            Effect::Finish => self.finished = true,
        }
    }

    /// A call of which there is at most one at a time.
    fn submit(&mut self, call: Pending) {
        let twice = self.pending.contains(&call);
        self.promises.expect(!twice, || format!("{call:?} is under way already"));
        self.pending.push(call);
        let reports = self.pending.iter().filter(|call| matches!(call, Pending::Report(_))).count();
        let most = self.config.reports_in_flight.get();
        self.promises.expect(reports <= most, || format!("{reports} reports under way"));
    }

    fn deliver(&mut self, request: RequestId, reply: &Reply) {
        let Some(ask) = self.callers.remove(&request) else {
            return self.promises.broken.push(format!("{request:?} is answered again: {reply:?}"));
        };
        let (world, config) = ((&self.processes, &self.journal), (&self.config, self.turns));
        self.promises.sees_reply((request, &ask), reply, world, config);
        self.pending.push(Pending::Delivery(request));
    }

    /// What can be seen of an agent at rest.
    fn look(&mut self) {
        let view = self.machine.view();
        if view.journal_error.is_none() {
            let agree = self.journal.agrees_with(&view);
            self.promises.expect(agree, || "the journal is up and says something else".into());
        }
        let late: Vec<_> = self.promises.signalling.overdue(self.now.mono).collect();
        for id in late {
            let watched = self.processes.get(id).is_some_and(|proc| proc.watched);
            self.promises.expect(!watched, || format!("P8: {id} should have been killed"));
        }
    }

    fn view(&self) -> View {
        self.machine.view()
    }

    /// Time passes; timers go off when they are due.
    fn pass(&mut self, duration: Duration) {
        let until = self.now.mono + duration;
        while self.promises.broken.is_empty() {
            if !self.inbox.is_empty() {
                // What came back at once is not left lying until the next timer.
                self.turn();
                continue;
            }
            let next = self.machine.next_timeout();
            let Some((at, _)) = next.filter(|(at, _)| *at <= until) else { break };
            self.pass_to(at.max(self.now.mono));
            self.inbox.push(Event::Timeout);
            self.turn();
        }
        self.pass_to(until);
        self.look();
    }

    fn pass_to(&mut self, mono: Mono) {
        let passed = mono.since(self.now.mono);
        self.now.mono = mono;
        let micros = u64::try_from(passed.as_micros()).expect("a short time");
        self.now.wall.0 = self.now.wall.0.wrapping_add(micros);
        if self.view().registered {
            self.silence += passed;
        }
        let most = self.config.heartbeat_every + self.config.heartbeat_jitter;
        let silence = self.silence;
        self.promises.expect(silence <= most, || format!("P10: no heartbeat for {silence:?}"));
        let late = self.shutdown_due.is_some_and(|due| due < mono);
        self.promises.expect(!late, || "the shutdown goes on for too long".into());
    }
}
