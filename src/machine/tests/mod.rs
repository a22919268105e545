//! The machine's behaviour, one file per part of it, on a small fixture.
//!
//! [`Agent`] is a machine with its clock, its journal and a record of all that it did. It keeps the
//! driver's contract (see [the machine's](super)): events are handled, records committed, effects
//! executed; a commit that fails is reported back the way the driver does it. Processes and the
//! controller are the test: nothing is answered unless the test says so.

mod abandoned;
mod admission;
mod draining;
mod durability;
mod fencing;
mod forgetting;
mod invariants;
mod journal;
mod lifecycle;
mod pacing;
mod program;
mod recovery;
mod reporting;
mod retention;
mod room;
mod session;
mod shutdown;
mod stopping;
mod superseding;

use std::{collections::BTreeSet, num::NonZeroU64, time::Duration};

use super::{session::State, *};
use crate::ids::{Generation, JobId, MachineId, RequestId, WorkerId};
use journal::MemoryJournal;

const MACHINE: &str = "machine-1";

/// A machine and the world as far as its contract goes.
struct Agent {
    machine: Machine,
    now: Now,
    journal: MemoryJournal,
    /// Everything executed so far, and when.
    history: Vec<(Mono, Effect)>,
    /// How much of it [`Agent::effects`] has shown.
    shown: usize,
    next_request: u64,
}

impl Agent {
    /// An agent with 16 slots that has registered.
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, with other settings.
    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut agent = Self::unregistered(change, Recovered::default());
        agent.registered();
        agent.effects();
        agent
    }

    /// An agent that has begun, with dice of its own.
    fn unregistered_with_seed(seed: Seed) -> Self {
        Self::begun(|_| {}, Recovered::default(), seed)
    }

    /// An agent that has begun and whose first probe is under way.
    fn unregistered(change: impl FnOnce(&mut Config), recovered: Recovered) -> Self {
        Self::begun(change, recovered, [7; 32])
    }

    fn begun(change: impl FnOnce(&mut Config), recovered: Recovered, seed: Seed) -> Self {
        let mut config = Config::new(MachineId::from(MACHINE));
        change(&mut config);
        let now = Now { mono: Mono(3_600_000_000_000), wall: Wall(1_750_000_000_000_000) };
        let journal = MemoryJournal::holding(&recovered);
        let machine = Machine::new(config, seed, recovered, now);
        let mut agent =
            Self { machine, now, journal, history: Vec::new(), shown: 0, next_request: 1 };
        agent.give(Event::Begin);
        agent
    }

    /// The agent that comes after this one was killed: it has what was committed, and nothing else.
    fn successor(self) -> Self {
        self.successor_with(|_| {})
    }

    fn successor_with(self, change: impl FnOnce(&mut Recovered)) -> Self {
        let mut recovered = self.journal.recover();
        change(&mut recovered);
        let journal = MemoryJournal::holding(&recovered);
        let machine = Machine::new(self.machine.config, [8; 32], recovered, self.now);
        let mut agent = Self {
            machine,
            journal,
            history: Vec::new(),
            shown: 0,
            now: self.now,
            next_request: self.next_request,
        };
        agent.give(Event::Begin);
        agent
    }

    // What happens to it.

    fn give(&mut self, event: Event) {
        self.batch([event]);
    }

    /// Several events with one commit.
    fn batch(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut batch = Effects::default();
        for event in events {
            self.machine.handle(self.now, event, &mut batch);
        }
        while !batch.is_empty() {
            batch = self.settle(batch);
        }
    }

    fn settle(&mut self, batch: Effects) -> Effects {
        let mut next = Effects::default();
        let committed = self.journal.commit(&batch.commit);
        if let Err(error) = &committed {
            let error = error.as_str().into();
            self.machine.handle(self.now, Event::JournalFailed(error), &mut next);
        } else if batch.commit.rewrite {
            self.machine.handle(self.now, Event::JournalRestored, &mut next);
        }
        for effect in batch.effects {
            if committed.is_err() && effect.awaits_commit() {
                self.machine.handle(self.now, Event::NotDurable(Box::new(effect)), &mut next);
            } else {
                self.history.push((self.now.mono, effect));
            }
        }
        next
    }

    /// Lets time pass; every timer goes off at its time.
    fn advance(&mut self, duration: Duration) {
        let until = self.now.mono + duration;
        while let Some((at, _)) = self.machine.next_timeout().filter(|(at, _)| *at <= until) {
            self.pass_to(at.max(self.now.mono));
            self.give(Event::Timeout);
        }
        self.pass_to(until);
    }

    fn pass_to(&mut self, mono: Mono) {
        let passed = mono.since(self.now.mono);
        self.now.mono = mono;
        self.now.wall.0 += u64::try_from(passed.as_micros()).expect("a short time");
    }

    fn request(&mut self, ask: Ask) -> RequestId {
        let (request, event) = self.asking(ask);
        self.give(event);
        request
    }

    /// A request that has yet to be handed in.
    fn asking(&mut self, ask: Ask) -> (RequestId, Event) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        (request, Event::Request { request, ask })
    }

    fn start(&mut self, start: Start) -> RequestId {
        self.request(Ask::Start(start))
    }

    fn stop(&mut self, worker: WorkerId, how: StopHow) -> RequestId {
        self.request(Ask::Stop { worker, how })
    }

    /// The worker's program runs now.
    fn spawned(&mut self, worker: WorkerId) {
        self.give(Event::Spawned { worker, process: process_of(worker) });
    }

    fn exited(&mut self, worker: WorkerId, exit: Exit) {
        self.give(Event::Exited { worker, exit });
    }

    fn delivered(&mut self, request: RequestId) {
        self.give(Event::Delivered(request));
    }

    /// Starts a worker and lets its program run; the answer has reached the controller.
    fn run(&mut self, start: Start) -> WorkerId {
        let request = self.start(start);
        let worker = self.last_spawn();
        self.spawned(worker);
        assert_eq!(self.answer(request), Some(&Reply::Started(Ok(worker))));
        self.delivered(request);
        worker
    }

    /// The controller knows this node, and takes its registration.
    fn registered(&mut self) {
        if self.machine.session.state() == State::Probing {
            self.beat_answered(Ok(()));
        }
        self.give(Event::Registered(Ok(())));
    }

    /// The last heartbeat is answered.
    fn beat_answered(&mut self, result: Result<(), CallError>) {
        let heartbeat = self.last_heartbeat();
        self.give(Event::HeartbeatAnswered { heartbeat, result });
    }

    /// The last heartbeat is answered: the controller knows this node.
    fn known(&mut self) {
        self.beat_answered(Ok(()));
    }

    /// The last heartbeat is answered: the controller has forgotten this node.
    fn forgotten(&mut self) {
        self.beat_answered(Err(CallError::NotFound));
    }

    /// The last heartbeat is not answered: the controller is away.
    fn controller_away(&mut self) {
        self.beat_answered(Err(refused()));
    }

    /// The connection has ended.
    fn connection_lost(&mut self, loss: Loss) {
        self.give(Event::ConnectionLost(loss));
    }

    /// The connection ends; the next heartbeat finds the same controller again.
    fn reconnected(&mut self) {
        self.connection_lost(Loss::Broken);
        self.advance_to_heartbeat();
        self.registered();
    }

    /// Lets time pass until the next heartbeat is sent.
    fn advance_to_heartbeat(&mut self) {
        let before = self.heartbeats().len();
        while self.heartbeats().len() == before {
            let (at, _) = self.machine.next_timeout().expect("a heartbeat to come");
            self.advance(at.since(self.now.mono));
        }
    }

    fn acknowledged(&mut self, worker: WorkerId) {
        self.give(Event::ReportAnswered { worker, result: Ok(()) });
    }

    fn report_refused(&mut self, worker: WorkerId) {
        self.give(Event::ReportAnswered { worker, result: Err(refused()) });
    }

    // What it did.

    /// What was executed since the last look.
    fn effects(&mut self) -> Vec<Effect> {
        let new = self.history[self.shown..].iter().map(|(_, effect)| effect.clone()).collect();
        self.shown = self.history.len();
        new
    }

    /// What a caller heard, if anything yet. Nobody is answered twice.
    fn answer(&self, request: RequestId) -> Option<&Reply> {
        let mut replies = self.history.iter().filter_map(|(_, effect)| match effect {
            Effect::Reply { request: to, reply } if *to == request => Some(reply),
            _ => None,
        });
        let first = replies.next();
        assert_eq!(replies.next(), None, "a second answer to {request:?}");
        first
    }

    fn refusal(&self, request: RequestId) -> &StartError {
        match self.answer(request) {
            Some(Reply::Started(Err(error))) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Every worker that was spawned, in order.
    fn spawns(&self) -> Vec<WorkerId> {
        self.pick(|effect| match effect {
            Effect::Spawn(launch) => Some(launch.worker),
            _ => None,
        })
    }

    fn last_spawn(&self) -> WorkerId {
        *self.spawns().last().expect("a worker was spawned")
    }

    /// The signals that a worker was sent, in order.
    fn signals(&self, worker: WorkerId) -> Vec<Signal> {
        self.pick(|effect| match effect {
            Effect::Signal { worker: to, signal } if *to == worker => Some(*signal),
            _ => None,
        })
    }

    /// Whose ends were reported, in order.
    fn reports(&self) -> Vec<WorkerId> {
        self.pick(|effect| match effect {
            Effect::Report(report) => Some(report.worker),
            _ => None,
        })
    }

    fn registrations(&self) -> usize {
        self.times(|effect| matches!(effect, Effect::Register(_))).len()
    }

    /// Whether the last registration may go over a new connection: so it is where the controller
    /// does not know this node.
    fn last_registration_may_reconnect(&self) -> Option<bool> {
        let registrations = self.pick(|effect| match effect {
            Effect::Register(registration) => Some(registration.reconnect),
            _ => None,
        });
        registrations.last().copied()
    }

    /// When heartbeats were sent, probes among them.
    fn heartbeats(&self) -> Vec<Mono> {
        self.times(|effect| matches!(effect, Effect::Heartbeat(_)))
    }

    /// When probes were sent.
    fn probes(&self) -> Vec<Mono> {
        self.times(|effect| matches!(effect, Effect::Heartbeat(Heartbeat { probe: true, .. })))
    }

    fn last_heartbeat(&self) -> Heartbeat {
        let heartbeats = self.pick(|effect| match effect {
            Effect::Heartbeat(heartbeat) => Some(*heartbeat),
            _ => None,
        });
        *heartbeats.last().expect("a heartbeat was sent")
    }

    fn released(&self, worker: WorkerId) -> bool {
        !self.times(|effect| *effect == Effect::Release(worker)).is_empty()
    }

    fn finished(&self) -> bool {
        !self.times(|effect| *effect == Effect::Finish).is_empty()
    }

    fn pick<T>(&self, choose: impl Fn(&Effect) -> Option<T>) -> Vec<T> {
        self.history.iter().filter_map(|(_, effect)| choose(effect)).collect()
    }

    fn times(&self, choose: impl Fn(&Effect) -> bool) -> Vec<Mono> {
        self.history.iter().filter(|(_, effect)| choose(effect)).map(|(at, _)| *at).collect()
    }

    // What it is.

    fn worker(&self, worker: WorkerId) -> Option<Worker> {
        self.machine.view().workers.get(worker).map(|known| known.as_ref().clone())
    }

    fn phase(&self, worker: WorkerId) -> Option<Phase> {
        self.worker(worker).map(|worker| worker.phase())
    }

    fn free_slots(&self) -> u64 {
        self.machine.view().free_slots
    }

    fn is_registered(&self) -> bool {
        self.machine.view().registered
    }

    fn is_abandoned(&self, worker: WorkerId) -> bool {
        self.worker(worker).is_some_and(|worker| worker.is_abandoned())
    }
}

/// A StartWorker for a job's generation.
fn start(job: &str, generation: u64, slots: u64) -> Start {
    Start {
        machine: MachineId::from(MACHINE),
        name: format!("{job}, the pipeline"),
        job: JobId::from(job),
        pipeline: None,
        generation: Generation(generation),
        slots: NonZeroU64::new(slots).expect("tests ask for slots"),
        dialect: Dialect::V0_15,
        env: BTreeMap::new(),
        key: None,
    }
}

fn with_key(key: &str, start: Start) -> Start {
    Start { key: Some(StartKey(key.into())), ..start }
}

fn process_of(worker: WorkerId) -> Process {
    Process { pid: 1_000 + u32::try_from(worker.0 % 1_000).expect("small"), start_time: 42 }
}

fn refused() -> CallError {
    CallError::Failed("the controller is ill".into())
}

fn spawn_error() -> SpawnError {
    SpawnError { program: "/bin/worker".into(), reason: "No such file or directory".into() }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The worker is gone, and the controller has acknowledged the report of that.
fn stopped(exit: Exit) -> Reply {
    Reply::Stopped(StopStatus::Stopped { exit: Some(exit), acknowledged: true })
}

/// The worker is gone, and the controller does not know yet.
fn stopped_unheard(exit: Exit) -> Reply {
    Reply::Stopped(StopStatus::Stopped { exit: Some(exit), acknowledged: false })
}

const STOPPING: Reply = Reply::Stopped(StopStatus::Stopping);
const STOP_FAILED: Reply = Reply::Stopped(StopStatus::Failed);
const NOT_FOUND: Reply = Reply::Stopped(StopStatus::NotFound);
