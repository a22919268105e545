//! The table itself: processes come and go, whatever the agent does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arroyo_node::{
    ids::WorkerId,
    machine::{Event, Exit, Process, Signal, Wall, Worker, WorkerSpec},
    runtime::ports::Events,
};

use super::{
    agenda::{Agenda, Due},
    behaviour::Behaviour,
};
use crate::{
    fact::{Fact, Place},
    plan::Temper,
    recorder::Recorder,
    streams::{Stream, between, percent, stream_of},
};

/// How long a look for what is left of a worker takes.
pub(super) const SWEEP: Duration = Duration::from_millis(3);
/// Whose a process is that is no worker's: no worker has this id.
const NOBODY: WorkerId = WorkerId(0);
/// How long a new shim takes to come up.
const SHIM_START: Duration = Duration::from_millis(120);

/// What a table belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The agent's number.
    pub agent: usize,
    /// The run's seed.
    pub seed: u64,
    /// Whether workers have a shim for a parent; else the agent is their parent.
    pub has_shim: bool,
    /// How many pids there are.
    pub pids: u32,
    /// Whether a pid is given out again as soon as it is free; there are others to take it.
    pub pids_at_once: bool,
    /// How its processes behave.
    pub temper: Temper,
}

/// The processes of one machine.
pub(crate) struct Table {
    pub(super) machine: Machine,
    pub(super) recorder: Recorder,
    pub(super) agenda: Agenda,
    /// When the machine was booted.
    pub(super) booted_at: Duration,
    next_pid: u32,
    /// Every pid that was ever given out, with the start time of the last to have it.
    used_pids: BTreeMap<u32, u64>,
    /// Who is alive, and whose it is.
    pub(super) alive: BTreeMap<u32, (Process, WorkerId)>,
    pub(super) workers: BTreeMap<WorkerId, Tracked>,
    /// Whether the shim runs. Without one, whether the agent does.
    pub(super) shim_up: bool,
    pub(super) agent: Option<Follower>,
    /// Signals that wait for a shim.
    pub(super) deferred: Vec<(WorkerId, Signal)>,
}

/// The agent's process that hears of what happens.
pub(super) struct Follower {
    pub(super) life: u32,
    pub(super) events: Events,
    /// The workers it has spawned or adopted.
    pub(super) workers: BTreeSet<WorkerId>,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) spec: Arc<WorkerSpec>,
    pub(super) admitted_at: Wall,
    /// The life of the agent that asked for it.
    pub(super) life: u32,
    pub(super) behaviour: Behaviour,
    pub(super) stage: Stage,
    pub(super) leader: Option<Process>,
    /// What was seen of it, by pid and start time: its leader, and what earlier looks found.
    pub(super) known: BTreeSet<Process>,
    /// How the leader ended, as far as anybody can know.
    pub(super) exit: Option<Exit>,
    /// Whether whoever started it can still read its exit status.
    pub(super) has_parent: bool,
    /// When the agent hears that it runs: its end is not told before.
    pub(super) known_at: Duration,
    pub(super) killed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Asked for.
    Queued,
    /// Its leader lives.
    Running,
    /// Its leader has ended; nobody has looked for what is left.
    Orphaned,
    /// What is left is being killed.
    Clearing,
    /// Nothing is left.
    Gone,
}

impl Table {
    /// A machine that was booted at the start of the simulation.
    pub(crate) fn new(machine: Machine, recorder: Recorder) -> Self {
        let mut agenda = Agenda::default();
        if machine.pids_at_once {
            agenda.add(Duration::ZERO, Due::Stranger);
        }
        Self {
            next_pid: 0,
            used_pids: BTreeMap::new(),
            shim_up: machine.has_shim,
            machine,
            recorder,
            agenda,
            booted_at: Duration::ZERO,
            alive: BTreeMap::new(),
            workers: BTreeMap::new(),
            agent: None,
            deferred: Vec::new(),
        }
    }

    /// Lets happen what is due.
    pub(crate) fn run(&mut self, now: Duration) {
        while let Some((at, due)) = self.agenda.take(now) {
            match due {
                Due::Exec(worker) => self.exec(worker, at),
                Due::Die(process, exit) => self.die(process, exit, at),
                Due::Fork(worker, life) => self.fork(worker, life, at),
                Due::Stranger => self.stranger(at),
                Due::Sweep(worker) => self.sweep(worker, at),
                Due::Tell(life, event) => self.tell(life, event),
                Due::ShimBack => self.shim_back(at),
            }
        }
    }

    /// A new process of the agent listens from now on.
    pub(crate) fn begin(&mut self, life: u32, events: Events, now: Duration) {
        self.agent = Some(Follower { life, events, workers: BTreeSet::new() });
        if !self.machine.has_shim {
            self.shim_up = true;
        } else if !self.shim_up {
            self.agenda.add(now + SHIM_START, Due::ShimBack);
        }
    }

    /// The agent's process is gone. What it asked for a moment ago may not have got through.
    pub(crate) fn agent_gone(&mut self) {
        let Some(Follower { life, .. }) = self.agent.take() else { return };
        let queued = self.workers.iter().filter(|(_, worker)| worker.stage == Stage::Queued);
        let queued: Vec<WorkerId> = queued.map(|(id, _)| *id).collect();
        for id in queued {
            let what: [&dyn std::fmt::Display; 2] = [&id, &life];
            let mut rng = stream_of(self.machine.seed, Stream::Processes, &what);
            if !self.machine.has_shim || percent(&mut rng, 30) {
                self.workers.remove(&id);
                self.note(Fact::NeverRan(id));
            }
        }
        if !self.machine.has_shim {
            self.lose_parent();
        }
    }

    /// What the shim has to say of the workers that it started and still keeps, as they were then.
    pub(crate) fn known(&self) -> Vec<Worker> {
        let keeps = self.machine.has_shim && self.shim_up;
        let kept = self.workers.iter().filter(|(_, worker)| keeps && worker.has_parent);
        kept.filter(|(_, worker)| worker.leader.is_some())
            .map(|(id, worker)| Worker {
                id: *id,
                spec: worker.spec.clone(),
                admitted_at: worker.admitted_at,
                process: worker.leader,
                stop: None,
                abandoned_at: None,
                end: None,
                reported_at: None,
            })
            .collect()
    }

    /// kill -9 of the shim. Nothing happens where there is none.
    pub(crate) fn kill_shim(&mut self, now: Duration) -> bool {
        if !self.machine.has_shim || !self.shim_up {
            return false;
        }
        self.note(Fact::ShimDied);
        if self.workers.values().any(|worker| worker.stage == Stage::Running) {
            self.recorder.mark("shim died with workers");
        }
        self.lose_parent();
        if self.agent.is_some() {
            self.agenda.add(now + SHIM_START, Due::ShimBack);
        }
        true
    }

    /// The machine lost power: no process is left, and nobody knows of any.
    pub(crate) fn lose_power(&mut self, now: Duration) {
        self.agent = None;
        self.agenda.clear();
        self.alive.clear();
        self.workers.clear();
        self.deferred.clear();
        self.shim_up = self.machine.has_shim;
        self.booted_at = now;
        self.next_pid = 0;
        self.used_pids.clear();
        if self.machine.pids_at_once {
            self.agenda.add(now, Due::Stranger);
        }
    }

    /// The kernel kills one of the workers for memory. Returns whether there was one.
    pub(crate) fn run_out_of_memory(&mut self, nth: u64, now: Duration) -> bool {
        let running = self.workers.values().filter(|worker| worker.stage == Stage::Running);
        let leaders: Vec<Process> = running.filter_map(|worker| worker.leader).collect();
        let Ok(nth) = usize::try_from(nth) else { return false };
        match leaders.get(nth % leaders.len().max(1)) {
            None => false,
            Some(leader) => {
                self.agenda.add(now, Due::Die(*leader, Exit::OomKilled));
                true
            }
        }
    }

    fn lose_parent(&mut self) {
        self.shim_up = false;
        for worker in self.workers.values_mut() {
            worker.has_parent = false;
            if matches!(worker.stage, Stage::Gone | Stage::Clearing | Stage::Orphaned) {
                worker.exit = Some(Exit::Unknown);
            }
        }
    }

    fn shim_back(&mut self, now: Duration) {
        if self.shim_up || self.agent.is_none() {
            return;
        }
        self.shim_up = true;
        self.note(Fact::ShimBack);
        // It is told of every worker that the agent follows, and looks after them.
        let orphaned = self.workers.iter().filter(|(_, worker)| worker.stage == Stage::Orphaned);
        let orphaned = orphaned.map(|(id, _)| *id).filter(|id| self.is_followed(*id));
        for id in orphaned.collect::<Vec<_>>() {
            self.clear(id, now);
        }
        for (worker, signal) in std::mem::take(&mut self.deferred) {
            self.deliver(worker, signal, now);
        }
    }

    pub(super) fn is_followed(&self, worker: WorkerId) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.workers.contains(&worker))
    }

    fn exec(&mut self, id: WorkerId, now: Duration) {
        if !self.shim_up {
            self.agenda.add(now + SHIM_START, Due::Exec(id));
            return;
        }
        let process = self.new_process(now);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let behaviour = worker.behaviour.clone();
        worker.known_at = now + behaviour.answer_after;
        let known_at = worker.known_at;
        if let Some(reason) = behaviour.exec_error {
            return self.exec_failed(id, reason, known_at);
        }
        let Some(process) = process else {
            return self.exec_failed(id, "Resource temporarily unavailable", known_at);
        };
        worker.stage = Stage::Running;
        worker.leader = Some(process);
        worker.known.insert(process);
        self.alive.insert(process.pid, (process, id));
        self.note(Fact::Ran(id, process));
        if let Some((after, exit)) = behaviour.end {
            self.agenda.add(now + after, Due::Die(process, exit));
        }
        for (after, life) in &behaviour.children {
            self.agenda.add(now + *after, Due::Fork(id, *life));
        }
        self.answer_exec(id, process, known_at);
    }

    /// A free pid and this moment; `None`: there is no pid left. No kernel gives a pid out twice
    /// within one tick of its clock.
    fn new_process(&mut self, now: Duration) -> Option<Process> {
        const FIRST: u32 = 300;
        let ticks = now.saturating_sub(self.booted_at).as_millis() / 10;
        let start_time = u64::try_from(ticks).unwrap_or(u64::MAX);
        if self.machine.pids_at_once {
            self.next_pid = 0;
        }
        for _ in 0..self.machine.pids {
            let pid = FIRST + self.next_pid;
            self.next_pid = (self.next_pid + 1) % self.machine.pids;
            let last = self.used_pids.get(&pid).copied();
            if !self.alive.contains_key(&pid) && last != Some(start_time) {
                if last.is_some() {
                    self.recorder.mark("pid reused");
                }
                self.used_pids.insert(pid, start_time);
                return Some(Process { pid, start_time });
            }
        }
        None
    }

    fn fork(&mut self, id: WorkerId, life: Option<Duration>, now: Duration) {
        let lives = self.workers.get(&id).is_some_and(|worker| worker.stage == Stage::Running);
        if lives && let Some(process) = self.new_process(now) {
            self.alive.insert(process.pid, (process, id));
            if let Some(life) = life {
                self.agenda.add(now + life, Due::Die(process, Exit::Code(0)));
            }
        }
    }

    /// The rest of the machine goes about its business, and takes the pids that come free.
    fn stranger(&mut self, now: Duration) {
        let what: [&dyn std::fmt::Display; 3] = [&"stranger", &self.machine.agent, &now.as_nanos()];
        let mut rng = stream_of(self.machine.seed, Stream::Processes, &what);
        if let Some(process) = self.new_process(now) {
            self.alive.insert(process.pid, (process, NOBODY));
            let life = Duration::from_millis(between(&mut rng, 50, 3_000));
            self.agenda.add(now + life, Due::Die(process, Exit::Code(0)));
        }
        let next = Duration::from_millis(between(&mut rng, 20, 800));
        self.agenda.add(now + next, Due::Stranger);
    }

    fn die(&mut self, process: Process, exit: Exit, now: Duration) {
        let Some((found, id)) = self.alive.get(&process.pid).copied() else { return };
        if found != process {
            // The pid is another's by now.
            return;
        }
        self.alive.remove(&process.pid);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.leader != Some(process) || worker.stage != Stage::Running {
            return;
        }
        let seen = if worker.has_parent { exit } else { Exit::Unknown };
        worker.exit = Some(seen);
        worker.stage = Stage::Orphaned;
        if now < worker.known_at && self.agent.is_some() {
            self.recorder.mark("worker ended before its start was answered");
        }
        if self.agent.is_none() {
            self.recorder.mark("worker ended while the agent was down");
        }
        self.note(Fact::LeaderEnded(id, exit));
        if self.shim_up {
            self.clear(id, now);
        }
    }

    /// Whoever looks after the worker kills what it left.
    pub(super) fn clear(&mut self, id: WorkerId, now: Duration) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if matches!(worker.stage, Stage::Orphaned) {
            worker.stage = Stage::Clearing;
        }
        self.agenda.add(now + SWEEP, Due::Sweep(id));
    }

    fn sweep(&mut self, id: WorkerId, now: Duration) {
        let Some(worker) = self.workers.get(&id) else { return };
        if !matches!(worker.stage, Stage::Clearing | Stage::Running) {
            return;
        }
        let (dying, killed) = (worker.behaviour.dying, worker.killed);
        if worker.stage == Stage::Running && !killed {
            return;
        }
        let escaped = worker.behaviour.escape;
        let left = self.look(id);
        if left.is_empty() {
            return self.gone(id, now);
        }
        for process in left {
            if Some(process) != self.workers[&id].leader && escaped {
                self.recorder.mark("escaped process cleared away");
            }
            self.hit(id, process, Signal::Kill);
            self.agenda.add(now + dying, Due::Die(process, Exit::Signal(9)));
        }
        self.agenda.add(now + dying + SWEEP, Due::Sweep(id));
    }

    /// What is alive of a worker: what descends from it, and what an earlier look has found to be
    /// its own. That is how the engine of the agent and its shim looks, too, and as there it is for
    /// [`Process::is_same_as`] to tell who has a pid now from who had it then.
    pub(super) fn look(&mut self, id: WorkerId) -> Vec<Process> {
        let Some(worker) = self.workers.get_mut(&id) else { return Vec::new() };
        let is_its = |(holder, owner): &&(Process, WorkerId)| {
            *owner == id || worker.known.iter().any(|known| known.is_same_as(*holder))
        };
        let found: Vec<_> = self.alive.values().filter(is_its).map(|(holder, _)| *holder).collect();
        worker.known.extend(&found);
        found
    }

    pub(super) fn hit(&self, meant: WorkerId, process: Process, signal: Signal) {
        let owner = self.alive.get(&process.pid).map(|(_, owner)| *owner);
        let owner = owner.filter(|owner| *owner != NOBODY);
        self.note(Fact::Hit { meant, owner, pid: process.pid, signal });
    }

    fn gone(&mut self, id: WorkerId, now: Duration) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.stage = Stage::Gone;
        let exit = worker.exit.unwrap_or(Exit::Unknown);
        let known_at = worker.known_at.max(now);
        self.note(Fact::TreeGone(id, exit));
        if self.is_followed(id) {
            self.say(known_at + SWEEP, Event::Exited { worker: id, exit });
        }
    }

    pub(super) fn say(&mut self, at: Duration, event: Event) {
        if let Some(agent) = &self.agent {
            self.agenda.add(at, Due::Tell(agent.life, event));
        }
    }

    fn tell(&mut self, life: u32, event: Event) {
        if let Some(agent) = self.agent.as_ref().filter(|agent| agent.life == life) {
            agent.events.send(event);
        }
    }

    pub(super) fn note(&self, fact: Fact) {
        self.recorder.note(Place::Agent(self.machine.agent), fact);
    }
}
