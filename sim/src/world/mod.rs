//! The simulated cluster: agents, a controller, somebody else who calls, a network between them, and
//! the plan that is carried out on it, one step at a time.
//!
//! ```text
//!  until the trouble ends:  deeds that are due ─▶ process tables ─▶ one step of the hosts ─▶ oracles
//!  then:                    everything heals ─▶ steps ─▶ converged within 60 s? ─▶ a calm while
//! ```
//!
//! One run a process: the panic hook, the log and the clocks of the process belong to it.

mod agent;
mod caller;
mod clock;
mod controller;
mod deeds;
mod disk;
mod gate;
mod healing;
mod links;
mod net;
mod peers;
mod ports;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use rand_chacha::rand_core::Rng as _;

use crate::{
    fact::{Fact, Place},
    oracles::{self, Sight},
    outcome::Outcome,
    past::Past,
    plan::Plan,
    process::{Machine, Table},
    recorder::Recorder,
    streams::{Stream, stream},
};
use agent::AgentHost;
pub(crate) use agent::STOP_ABANDONED_AFTER;
use caller::Caller;
pub(crate) use clock::wall_clock_at;
use controller::{Command, ControllerHost, Mood};
pub(crate) use deeds::DISK_WORKS;
use deeds::{End, Ends};
use links::Links;
use peers::Peers;

/// The controller's host.
pub const CONTROLLER: &str = "controller";
/// The host of whoever else calls.
pub const CALLER: &str = "caller";

/// Steps between two looks of the oracles at the whole.
const LOOK_EVERY: u64 = 5;

/// The host of an agent, which is its machine id, too.
pub fn agent_name(number: usize) -> String {
    format!("agent-{}", number + 1)
}

/// The number of the agent with this name.
pub fn agent_number(name: &str) -> Option<usize> {
    name.strip_prefix("agent-")?.parse::<usize>().ok()?.checked_sub(1)
}

/// A cluster and what is done to it.
pub struct World {
    plan: Plan,
    sim: turmoil::Sim<'static>,
    recorder: Recorder,
    agents: Vec<AgentHost>,
    controller: ControllerHost,
    caller: Caller,
    links: Links,
    peers: Peers,
    ends: Ends,
    /// Agents that were told to end, and how long they are away then.
    leaving: BTreeMap<usize, u64>,
    faults: BTreeMap<String, u64>,
    next_deed: usize,
    steps: u64,
}

impl World {
    /// The cluster of a plan, before anything has happened. Files are made in the current
    /// directory.
    pub fn new(plan: Plan) -> Self {
        let past = Past::new(plan.agents.iter().map(|agent| agent.slots));
        let recorder = Recorder::new(past, oracles::all(&plan));
        let mut sim = network(&plan);
        let links = Links::new(plan.agents.len());
        let controller = ControllerHost::new(plan.controller.clone(), recorder.clone());
        let host = controller.clone();
        sim.host(CONTROLLER, move || host.clone().run());
        let mut agents = Vec::new();
        for (number, agent) in plan.agents.iter().enumerate() {
            let machine = Machine {
                agent: number,
                seed: plan.seed,
                has_shim: agent.shim,
                pids: agent.pids,
                pids_at_once: agent.pids_at_once,
                temper: plan.temper.clone(),
            };
            let table = Table::new(machine, recorder.clone());
            let who = (number, plan.seed);
            let host = AgentHost::new(who, agent.clone(), table, recorder.clone(), links.clone());
            agents.push(host.clone());
            sim.host(agent_name(number), move || host.clone().run());
        }
        let caller = Caller::new(recorder.clone());
        let host = caller.clone();
        sim.host(CALLER, move || host.clone().run());
        Self {
            peers: Peers::new(plan.seed),
            plan,
            sim,
            recorder,
            agents,
            controller,
            caller,
            links,
            ends: Ends::default(),
            leaving: BTreeMap::new(),
            faults: BTreeMap::new(),
            next_deed: 0,
            steps: 0,
        }
    }

    /// Who knows what happened.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Carries out the plan, heals, and judges.
    pub fn run(mut self) -> Outcome {
        let trouble = Duration::from_millis(self.plan.trouble_ms);
        while self.sim.elapsed() < trouble && self.is_whole() {
            self.do_what_is_due();
            self.step();
        }
        if self.is_whole() {
            self.heal();
        }
        if self.plan.canary {
            self.recorder.fail("canary", "this seed fails by design".into());
        }
        Outcome {
            seed: self.plan.seed,
            broken: self.recorder.broken(),
            simulated_us: u64::try_from(self.sim.elapsed().as_micros()).unwrap_or(u64::MAX),
            faults: self.faults,
            marks: self.recorder.marks(),
            digest: self.recorder.digest(),
            timeless: self.recorder.timeless_digest(),
            wire: None,
        }
    }

    fn is_whole(&self) -> bool {
        self.recorder.broken().is_none()
    }

    /// One step of everything.
    fn step(&mut self) {
        self.restart_those_who_left();
        let now = self.sim.elapsed();
        self.recorder.set_now(now);
        for agent in &self.agents {
            agent.table(|table| table.run(now));
        }
        crate::interpose::set_now(now);
        if let Err(error) = self.sim.step() {
            self.recorder.fail("no host fails", error.to_string());
        }
        self.recorder.set_now(self.sim.elapsed());
        self.spring_triggers();
        self.schedule_sprung_links();
        self.note_hindrances();
        self.steps += 1;
        if self.steps.is_multiple_of(LOOK_EVERY) {
            if self.plan.peers_tell {
                self.let_peers_tell();
            }
            self.look();
        }
    }

    /// Workers whose peers have vanished tell the controller, if it is there and they reach it.
    fn let_peers_tell(&mut self) {
        let now = self.sim.elapsed();
        let peers = &mut self.peers;
        let senders = self.recorder.past(|past| {
            peers.look(past);
            peers.take_due(now, past)
        });
        for sender in senders {
            let reached =
                !self.links.is_troubled(sender.agent) && self.controller.mood() != Mood::Hung;
            if reached && self.controller.tell(Command::Unwell(sender.job)) {
                let fact = Fact::TasksFailed(sender.worker);
                self.recorder.note(Place::Agent(sender.agent), fact);
            }
        }
    }

    fn look(&self) {
        let views: Vec<_> = self.agents.iter().map(AgentHost::view).collect();
        let books = self.controller.books();
        let sight = Sight { now: self.sim.elapsed(), views: &views, books: books.as_ref() };
        self.recorder.look(&sight);
    }

    /// Whoever cannot be heard by the controller at this moment is not held to its heartbeats.
    fn note_hindrances(&self) {
        let now = self.sim.elapsed();
        let absent = self.controller.mood() != Mood::Fine
            || self.controller.is_behind(now.saturating_sub(Duration::from_millis(500)));
        for agent in &self.agents {
            let hindered = absent
                || self.links.is_troubled(agent.number)
                || agent.gate.is_closed()
                || !agent.is_running();
            if hindered {
                self.recorder.hinder(agent.number);
            }
        }
    }

    fn schedule_sprung_links(&mut self) {
        for number in 0..self.agents.len() {
            if let Some(ms) = self.links.take_sprung(number) {
                self.end_after(ms, End::Mend(number, links::Trouble::Deaf));
            }
        }
    }

    fn note(&self, fact: Fact) {
        self.recorder.note(Place::World, fact);
    }
}

fn network(plan: &Plan) -> turmoil::Sim<'static> {
    let (least, most) = plan.latency_ms;
    turmoil::Builder::new()
        .rng_seed(stream(plan.seed, Stream::Network).next_u64())
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
        .tick_duration(Duration::from_millis(plan.tick_ms))
        .simulation_duration(Duration::from_secs(86_400))
        .min_message_latency(Duration::from_millis(least))
        .max_message_latency(Duration::from_millis(most))
        .tcp_capacity(1_024)
        .enable_random_order()
        .build()
}
