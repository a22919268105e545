//! A node: a real machine, with the small world that its contract asks for. The driver's loop in
//! miniature: handle, commit, execute.
//!
//! ```text
//!        give(event) ─▶ Machine ─▶ commit ─▶ Rows
//!                          │ effects ─▶ Processes, Link, the controller that asked
//!                          └ next_timeout ─▶ Wake
//! ```

use std::time::Duration;

use arroyo_node::{
    ids::{MachineId, RequestId},
    machine::{
        Ask, Config, Effect, Effects, Event, Machine, Mono, Recovered, Seed, Shutdown, Timer, View,
    },
};
use rand_chacha::rand_core::Rng as _;

use super::{
    agenda::{Happening, NodeIndex},
    controller::ToldBack,
    link::{Answer, Link, LinkEvent, Request},
    processes::{Change, Processes},
    rows::Rows,
    settings::Planted,
    world::World,
};
use crate::streams::{Stream, stream_of};

/// Planted: everybody's backoff ends at the next multiple of this.
const STEP: Duration = Duration::from_secs(5);

/// One computer of the cluster.
pub(super) struct Node {
    index: NodeIndex,
    config: Config,
    /// How many agents there have been.
    lives: u32,
    machine: Option<Machine>,
    /// The first time for which a wake is entered.
    armed: Option<Mono>,
    rows: Rows,
    processes: Processes,
    link: Link,
    pub(super) wait: Option<Wait>,
}

/// What is waited for at a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pub(super) since: Mono,
    pub(super) until: Until,
    /// When it came about.
    pub(super) over: Option<Mono>,
}

/// When a wait is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// The agent has a good answer of its controller.
    Heard,
    /// No worker is alive and no report is owed.
    Empty,
}

/// A node's name in the controller's books.
pub(super) fn machine_id(node: NodeIndex) -> MachineId {
    MachineId::from(format!("node-{:05}", node.0))
}

/// Where the controller finds it.
pub(super) fn address(node: NodeIndex) -> String {
    format!("{}:5118", node.0)
}

/// Who is found there.
pub(super) fn node_at(address: &str) -> Option<NodeIndex> {
    address.split_once(':')?.0.parse().ok().map(NodeIndex)
}

impl Node {
    /// A computer on which no agent runs yet.
    pub(super) fn new(index: NodeIndex, slots: u64) -> Self {
        let mut config = Config::new(machine_id(index));
        config.task_slots = slots;
        config.address = address(index);
        Self {
            index,
            config,
            lives: 0,
            machine: None,
            armed: None,
            rows: Rows::default(),
            processes: Processes::new(index),
            link: Link::new(index),
            wait: None,
        }
    }

    /// A new agent comes up on what is in the rows.
    pub(super) fn boot(&mut self, world: &mut World) {
        self.lives += 1;
        let recovered = match world.planted {
            Some(Planted::LosesRows) => Recovered::default(),
            _ => self.rows.recover(),
        };
        let seed = self.seed(world);
        self.machine = Some(Machine::new(self.config.clone(), seed, recovered, world.reading()));
        self.armed = None;
        self.give(Event::Begin, world);
    }

    fn seed(&self, world: &World) -> Seed {
        let who: [&dyn std::fmt::Display; 2] = [&self.index.0, &self.lives];
        let mut seed = Seed::default();
        stream_of(world.seed, Stream::Machines, &who).fill_bytes(&mut seed);
        seed
    }

    /// The agent leaves its workers to the next one.
    pub(super) fn detach(&mut self, world: &mut World) {
        self.await_from(world.now, Until::Heard);
        self.give(Event::Shutdown(Shutdown::Detach), world);
    }

    /// From now on this is waited for.
    pub(super) fn await_from(&mut self, since: Mono, until: Until) {
        self.wait = Some(Wait { since, until, over: None });
    }

    /// Whether nothing is waited for.
    pub(super) fn is_back(&self) -> bool {
        self.wait.is_none_or(|wait| wait.over.is_some())
    }

    /// The controller asks for something. Returns false if no agent runs here.
    pub(super) fn ask(&mut self, request: RequestId, ask: Ask, world: &mut World) -> bool {
        let up = self.machine.is_some();
        self.give(Event::Request { request, ask }, world);
        up
    }

    /// The time of a timer may have come.
    pub(super) fn wake(&mut self, world: &mut World) {
        if self.armed != Some(world.now) {
            return;
        }
        self.armed = None;
        if self.due(world).is_some_and(|due| due <= world.now) {
            self.give(Event::Timeout, world);
        }
        self.arm(world);
    }

    /// A process does something.
    pub(super) fn process(
        &mut self,
        worker: arroyo_node::ids::WorkerId,
        change: Change,
        world: &mut World,
    ) {
        if let Some(event) = self.processes.change(worker, change, world) {
            self.give(event, world);
        }
    }

    /// A worker crashes. Returns false if there is none.
    pub(super) fn crash_one(&mut self, world: &mut World) -> bool {
        let Some(worker) = self.processes.eldest() else { return false };
        let exit = arroyo_node::machine::Exit::Signal(11);
        self.process(worker, Change::Ends(exit), world);
        true
    }

    /// The connection to the controller changes.
    pub(super) fn link_changed(&mut self, event: LinkEvent, world: &mut World) {
        for event in self.link.changed(event, world) {
            self.give(event, world);
        }
    }

    /// The controller's answer has come.
    pub(super) fn answered(&mut self, answer: Answer, world: &mut World) {
        let Some(event) = self.link.answered(answer) else { return };
        let heard = matches!(
            event,
            Event::Registered(Ok(())) | Event::HeartbeatAnswered { result: Ok(()), .. }
        );
        if matches!(event, Event::ReportAnswered { result: Ok(()), .. }) {
            world.tally.acknowledged += 1;
        }
        self.give(event, world);
        if heard {
            self.reached(Until::Heard, world);
        }
    }

    fn reached(&mut self, what: Until, world: &World) {
        if let Some(wait) = self.wait.as_mut().filter(|wait| wait.until == what) {
            wait.over.get_or_insert(world.now);
        }
    }

    fn give(&mut self, event: Event, world: &mut World) {
        let Some(machine) = &mut self.machine else { return };
        let mut batch = Effects::default();
        machine.handle(world.reading(), event, &mut batch);
        world.tally.machine_events += 1;
        while !batch.is_empty() {
            batch = self.settle(batch, world);
        }
        if self.rows.live() == 0 && self.rows.owed() == 0 {
            self.reached(Until::Empty, world);
        }
        self.arm(world);
    }

    /// Commits, then executes. Returns what the machine makes of it.
    fn settle(&mut self, batch: Effects, world: &mut World) -> Effects {
        self.rows.commit(batch.commit);
        let mut next = Effects::default();
        for effect in batch.effects {
            let Some(request) = self.execute(effect, world) else { continue };
            if let Some(machine) = &mut self.machine {
                machine.handle(world.reading(), Event::Delivered(request), &mut next);
                world.tally.machine_events += 1;
            }
        }
        next
    }

    /// Returns the request whose reply has left.
    fn execute(&mut self, effect: Effect, world: &mut World) -> Option<RequestId> {
        match effect {
            Effect::Reply { request, reply } => {
                world.after_legs(1, Happening::Told(request, ToldBack::Replied(reply)));
                return Some(request);
            }
            Effect::Spawn(launch) => self.processes.spawn(launch.worker, world),
            Effect::Adopt { worker, .. } => self.processes.adopt(worker, world),
            Effect::Signal { worker, signal } => self.processes.signal(worker, signal, world),
            Effect::Release(worker) => self.processes.release(worker),
            Effect::Register(registration) => {
                self.link.call(Request::Register(registration), world);
            }
            Effect::Heartbeat(heartbeat) => self.link.call(Request::Heartbeat(heartbeat), world),
            Effect::Report(report) => {
                world.tally.reports_sent += 1;
                self.link.call(Request::Report(report), world);
            }
            Effect::Finish => {
                self.machine = None;
                self.armed = None;
                self.link.abandon();
            }
            Effect::Announce(_) | Effect::Discard(_) => {}
        }
        None
    }

    fn due(&self, world: &World) -> Option<Mono> {
        let (at, timer) = self.machine.as_ref()?.next_timeout()?;
        let in_step = world.planted == Some(Planted::InStep) && timer == Timer::Probe;
        let step = u64::try_from(STEP.as_nanos()).unwrap_or(u64::MAX);
        Some(if in_step { Mono(at.0.next_multiple_of(step)) } else { at })
    }

    /// Enters a wake, unless there is one that comes early enough.
    fn arm(&mut self, world: &mut World) {
        let Some(due) = self.due(world).map(|due| due.max(world.now)) else { return };
        if self.armed.is_none_or(|armed| due < armed) {
            self.armed = Some(due);
            world.at(due, Happening::Wake(self.index));
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The agent as readers see it, if there is one.
    pub(super) fn view(&self) -> Option<View> {
        self.machine.as_ref().map(Machine::view)
    }
}
