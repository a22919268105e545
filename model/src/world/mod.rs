//! The world of one agent: the driver's loop in miniature, and everything around it.
//!
//! ```text
//!  actions ─▶ world: callers, controller, processes, journal, clocks
//!               ▲                    │ events
//!               │          ┌─────────┴─────────┐
//!               │          ▼                   ▼
//!               │       machine            reference
//!               │          │ effects           │ what is owed
//!               │          └───── agree? ──────┘
//!               └──────────────┤ commit, then execute
//!                              ▼
//!                          promises: and does it hold of the world itself?
//! ```
//!
//! It is pure and small: no tasks, no sockets, no files. Everything that can go wrong goes wrong
//! when an action says so: commits fail, the agent is killed between any two effects, answers get
//! lost after they took effect, programs do not start, signals do not arrive, the agent sleeps
//! through its deadlines, clocks jump. When all faults stop, within a minute everything must be in
//! order.

mod acting;
mod controller;
mod healing;
mod journal;
mod processes;
mod promises;
mod stepping;
mod trace;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use arroyo_node::{
    ids::{MachineId, RequestId, WorkerId},
    machine::{
        AbandonedPolicy, Ask, Config, Effect, Effects, Event, Exit, Heartbeat, Machine, Mono, Now,
        Reply, Report, Start, StartError, Wall, invariants,
    },
};

use crate::{
    reference::Reference,
    scenario::{Abandoned, Settings},
};
pub(crate) use acting::a_start;
use controller::Controller;
use journal::Journal;
use processes::Processes;
use promises::Promises;
use trace::Line;
pub use trace::Trace;

const MACHINE: &str = "machine-1";

/// An agent and everything around it.
#[derive(Clone)]
pub struct World {
    config: Config,
    seed: u8,
    now: Now,
    machine: Machine,
    reference: Reference,
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
    last_start: Option<Start>,
    /// Workers that ended with the computer: nobody else's process is to be taken for theirs.
    lost: BTreeSet<WorkerId>,
    /// Every worker that was ever spawned.
    known: Vec<WorkerId>,
    signals_work: bool,
    /// Whether the registration under way may go over the present connection only.
    one_connection: bool,
    /// Whether the connection stands on which the last probe went.
    connected: bool,
    doom: Option<Doom>,
    promises: Promises,
    trace: Trace,
}

/// Something submitted. A port answers in its own time.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Pending {
    Spawn(WorkerId),
    Adopt(WorkerId),
    Death(WorkerId, Exit),
    SignalFailure(WorkerId),
    /// `cut`: the connection that it was to go over has ended.
    Register {
        cut: bool,
    },
    Heartbeat(Heartbeat),
    Report(Report),
    Delivery(RequestId),
}

/// The agent is killed when so many effects more have been executed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doom {
    pub(crate) after: u8,
    /// And the computer is restarted.
    pub(crate) reboot: bool,
}

impl World {
    /// A world in which an agent has just begun, and its trace is kept.
    pub fn traced(settings: &Settings) -> Self {
        Self::with_trace(Self::config(settings), settings.seed, Trace::kept())
    }

    /// The same, without a trace.
    pub fn new(settings: &Settings) -> Self {
        Self::with_trace(Self::config(settings), settings.seed, Trace::default())
    }

    /// Times are short and numbers small, so that runs come to all of them.
    pub(crate) fn config(settings: &Settings) -> Config {
        let mut config = Config::new(MachineId::from(MACHINE));
        config.task_slots = settings.capacity.slots();
        config.address = "10.0.0.1:5118".into();
        config.reports_in_flight = 2.try_into().expect("two is not zero");
        config.retain_for = Duration::from_secs(20);
        config.retain_most = 5;
        config.fence_after = settings.fencing.then_some(Duration::from_secs(30));
        config.abandoned = match settings.abandoned {
            Abandoned::StopAfter => AbandonedPolicy::StopAfter(Duration::from_secs(15)),
            Abandoned::End => AbandonedPolicy::End,
            Abandoned::Keep => AbandonedPolicy::Keep,
        };
        config
    }

    pub(crate) fn with_trace(config: Config, seed: u8, trace: Trace) -> Self {
        let now = Now { mono: Mono(1_000_000_000_000), wall: Wall(1_750_000_000_000_000) };
        let mut journal = Journal::new();
        let mut world = Self {
            machine: Machine::new(config.clone(), [seed; 32], journal.recover(false), now),
            reference: Reference::new(config.clone()),
            next_task_slots: config.task_slots,
            config,
            seed,
            now,
            finished: false,
            journal,
            processes: Processes::default(),
            controller: Controller::default(),
            inbox: Vec::new(),
            pending: Vec::new(),
            callers: BTreeMap::new(),
            next_request: 1,
            last_start: None,
            lost: BTreeSet::new(),
            known: Vec::new(),
            signals_work: true,
            one_connection: false,
            connected: false,
            doom: None,
            promises: Promises::default(),
            trace,
        };
        world.begin();
        world
    }

    /// What has gone in and come out.
    pub fn into_trace(self) -> Trace {
        self.trace
    }

    /// Whether all promises have been kept so far.
    ///
    /// # Errors
    /// The first that was not, with what led to it.
    pub fn verdict(&self) -> Result<(), String> {
        match &self.promises.broken {
            None => Ok(()),
            Some(broken) => Err(format!("{broken}\n{}", self.trace.tail(60))),
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
        self.seed = self.seed.wrapping_add(101);
        self.config.task_slots = self.next_task_slots;
        let (recovered, seed) = (self.journal.recover(reboot), [self.seed; 32]);
        self.lost = recovered.lost.clone();
        self.reference = self.reference.successor(self.config.clone(), reboot);
        let agree = self.reference.lists(recovered.workers.iter());
        self.promises.hold(agree.map_err(|error| format!("P2, P7: after a restart: {error}")));
        let (found, meant) = (recovered.known_at, self.reference.recorded());
        self.promises.expect(found == meant, || format!("known at {found:?}, not {meant:?}"));
        self.machine = Machine::new(self.config.clone(), seed, recovered, self.now);
        self.begin();
    }

    fn begin(&mut self) {
        let now = self.now;
        self.trace.push(|| Line::Boot(now));
        self.inbox.push(Event::Begin);
        self.turn();
    }

    /// The driver takes in all that is ready: one mutation, then drain.
    pub fn turn(&mut self) {
        let mut batch = Effects::default();
        let due = self.machine.next_timeout().is_some_and(|(at, _)| at <= self.now.mono);
        let timeout = due.then_some(Event::Timeout);
        for event in timeout.into_iter().chain(std::mem::take(&mut self.inbox)) {
            self.handle(event, &mut batch);
        }
        while !batch.is_empty() {
            match self.settle(batch) {
                Ok(next) => batch = next,
                Err(Killed { reboot }) => return self.boot(reboot),
            }
        }
        if self.finished {
            return self.boot(false);
        }
        self.look();
    }

    /// Machine and reference are told the same, and must agree on what comes of it.
    fn handle(&mut self, event: Event, batch: &mut Effects) {
        let now = self.now;
        self.trace.push(|| Line::Event(now, event.clone()));
        if let Event::ReportAnswered { worker, result: Ok(()) } = &event
            && !batch.effects.contains(&Effect::Finish)
        {
            self.promises.sees_acknowledgement(*worker);
        }
        let before = batch.effects.len();
        let fits = self.fits_books(&event);
        self.reference.hears(now, &event);
        self.machine.handle(now, event.clone(), batch);
        for effect in &batch.effects[before..] {
            let seen = self.reference.sees(effect);
            self.promises.hold(seen.map_err(|error| format!("{error}; after {event:?}")));
            if let Effect::Reply { request, reply } = effect
                && let Reply::Started(Err(StartError::NotEnoughSlots { .. })) = reply
            {
                let wrong = fits == Some(*request);
                self.promises.expect(!wrong, || format!("P15: {reply:?}, and it fits the books"));
            }
        }
        self.promises.hold(self.reference.satisfied(&event));
        if !cfg!(debug_assertions) {
            let sound = invariants::check(&self.machine);
            self.promises.hold(sound.map_err(|violation| violation.to_string()));
        }
    }

    /// The start that this event asks for, if it fits into the books of a controller that knows this
    /// node, and if this node ends what nobody counts.
    fn fits_books(&self, event: &Event) -> Option<RequestId> {
        let Event::Request { request, ask: Ask::Start(start) } = event else { return None };
        // A stock controller holds its lock over a start: there is one at a time.
        let mut others = self.callers.iter().filter(|(other, _)| *other != request);
        let alone = !others.any(|(_, ask)| matches!(ask, Ask::Start(_)));
        let ends = self.config.abandoned != AbandonedPolicy::Keep;
        let view = self.machine.view();
        // Of a worker that is being looked for, a moment later more is known.
        let sought = view
            .workers
            .iter()
            .filter(|worker| self.pending.contains(&Pending::Adopt(worker.id)) && worker.is_live());
        let sought: u64 = sought.map(|worker| worker.spec.slots.get()).sum();
        let asked = start.slots.get() + sought;
        let fits = self.promises.fits_books(asked, &view);
        (ends && alone && self.controller.knows_node && fits).then_some(*request)
    }

    /// Commits, then executes. Returns what the machine makes of it, unless the agent is killed.
    fn settle(&mut self, batch: Effects) -> Result<Effects, Killed> {
        let mut next = Effects::default();
        let committed = self.journal.commit(&batch.commit);
        self.trace.push(|| Line::Commit(batch.commit.clone(), committed.is_ok()));
        let expected = self.reference.commits(committed.is_ok(), batch.commit.rewrite);
        self.promises.hold(expected);
        if let Err(error) = committed {
            self.handle(Event::JournalFailed(error.into()), &mut next);
        } else if batch.commit.rewrite {
            self.handle(Event::JournalRestored, &mut next);
        }
        if committed.is_ok() && self.machine.view().journal_error.is_none() {
            self.promises.sees_durable();
        }
        for effect in batch.effects {
            self.live_on()?;
            if committed.is_err() && effect.awaits_commit() {
                self.handle(Event::NotDurable(Box::new(effect)), &mut next);
            } else {
                self.carry_out(effect);
            }
        }
        Ok(next)
    }

    /// Unless its hour has come.
    fn live_on(&mut self) -> Result<(), Killed> {
        match &mut self.doom {
            Some(Doom { after: 0, reboot }) => return Err(Killed { reboot: *reboot }),
            Some(doom) => doom.after -= 1,
            None => {}
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        self.trace.push(|| Line::Effect(effect.clone()));
        self.execute(effect);
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
                self.one_connection = !registration.reconnect;
                let other = self.pending.iter().any(|it| matches!(it, Pending::Register { .. }));
                self.promises.expect(!other, || "two registrations at a time".into());
                let cut = self.one_connection && !self.connected;
                self.pending.push(Pending::Register { cut });
            }
            Effect::Heartbeat(heartbeat) => {
                self.connected |= heartbeat.probe;
                self.pending.push(Pending::Heartbeat(heartbeat));
            }
            Effect::Report(report) => {
                self.promises.sees_report(&report, self.processes.get(report.worker));
                self.submit(Pending::Report(report));
            }
            Effect::Announce(report) => {
                self.promises.sees_report(&report, self.processes.get(report.worker));
            }
            Effect::Finish => self.finished = true,
        }
    }

    /// A call of which there is at most one at a time.
    fn submit(&mut self, call: Pending) {
        let twice = self.pending.contains(&call);
        self.promises.expect(!twice, || format!("{call:?} is under way already"));
        self.pending.push(call);
    }

    fn deliver(&mut self, request: RequestId, reply: &Reply) {
        let Some(ask) = self.callers.remove(&request) else {
            return self.promises.expect(false, || format!("{request:?} is answered {reply:?}"));
        };
        self.promises.sees_reply(&ask, reply, &self.processes, &self.journal);
        if *reply == Reply::Draining(Ok(())) {
            // A later request of the same batch may have changed it again.
            let durable = self.journal.draining == self.reference.is_draining();
            self.promises.expect(durable, || "draining is confirmed and not durable".into());
        }
        self.pending.push(Pending::Delivery(request));
    }

    /// What can be seen of an agent at rest.
    fn look(&mut self) {
        let view = self.machine.view();
        self.promises.hold(self.reference.agrees_with(&view));
        if view.journal_error.is_none() {
            let agree = self.journal.agrees_with(&view);
            self.promises.expect(agree, || "the journal is up and says something else".into());
        }
    }

    /// Time passes; timers go off when they are due.
    fn pass(&mut self, duration: Duration) {
        let until = self.now.mono + duration;
        while self.promises.broken.is_none() {
            if !self.inbox.is_empty() {
                // What came back at once is not left lying until the next timer.
                self.turn();
                continue;
            }
            let next = self.machine.next_timeout();
            let Some((at, _)) = next.filter(|(at, _)| *at <= until) else { break };
            self.wake_at(at.max(self.now.mono));
            self.turn();
        }
        self.wake_at(until);
    }

    /// The agent has slept until now, as it wished to.
    fn wake_at(&mut self, mono: Mono) {
        self.sleep_until(mono);
        self.promises.hold(self.reference.overdue(mono));
    }

    fn sleep_until(&mut self, mono: Mono) {
        let passed = mono.since(self.now.mono);
        self.now.mono = mono;
        let micros = u64::try_from(passed.as_micros()).expect("a short time");
        self.now.wall.0 = self.now.wall.0.wrapping_add(micros);
    }
}

struct Killed {
    reboot: bool,
}

/// All that makes a difference to what happens next.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let around = (&self.journal, &self.processes, &self.controller, &self.promises);
        let under_way = (&self.inbox, &self.pending, &self.callers, &self.known, &self.lost);
        let rest = (self.seed, self.now, self.signals_work, self.doom, self.finished);
        (&self.machine, &self.reference, around, under_way, rest).fmt(f)
    }
}
