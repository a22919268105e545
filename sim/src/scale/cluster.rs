//! The cluster, and the only loop: takes what happens next and has it happen.

use std::time::Duration;

use arroyo_node::{
    ids::RequestId,
    machine::{Ask, Loss, Mono},
};

use super::{
    agenda::{Happening, NodeIndex},
    controller::{Controller, ToldBack},
    link::{Answer, Arrival, Knock, LinkEvent},
    node::{Node, Until},
    settings::Settings,
    tally::Kind,
    world::World,
};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Everything there is.
pub(super) struct Cluster {
    pub(super) world: World,
    pub(super) nodes: Vec<Node>,
    pub(super) controller: Controller,
    pub(super) settings: Settings,
}

impl Cluster {
    /// Computers, and a controller that nobody knows yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let node = |number| Node::new(NodeIndex(number), settings.slots);
        Self {
            world: World::new(settings),
            nodes: (0..settings.nodes).map(node).collect(),
            controller: Controller::new(settings),
            settings: settings.clone(),
        }
    }

    /// Lets so much time pass.
    pub(super) fn run_for(&mut self, duration: Duration) {
        let until = self.world.now + duration;
        while let Some(what) = self.world.pass(until) {
            self.happen(what);
        }
    }

    /// Lets time pass until the cluster is as wanted; for so long at most. Returns whether it is.
    pub(super) fn run_until(&mut self, patience: Duration, wanted: impl Fn(&Self) -> bool) -> bool {
        let end = self.world.now + patience;
        while self.world.now < end {
            self.run_for(LOOK);
            if wanted(self) {
                return true;
            }
        }
        false
    }

    /// The controller is killed. Who can be reached learns that its connection is gone.
    pub(super) fn kill_controller(&mut self) {
        self.controller.kill(self.world.now);
        for (number, node) in self.nodes.iter().enumerate() {
            let node_index = NodeIndex(number);
            if let Some(connection) = node.link().connection()
                && !self.world.network.is_cut(node_index)
            {
                let reset = LinkEvent::Reset(connection);
                self.world.after_legs(1, Happening::Link(node_index, reset));
            }
        }
    }

    /// From now on this is waited for at these nodes, and nothing at the others.
    pub(super) fn await_at(&mut self, until: Until, which: impl Fn(NodeIndex) -> bool) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.wait = None;
            if which(NodeIndex(number)) {
                node.await_from(self.world.now, until);
            }
        }
    }

    /// Whether nothing is waited for at any node.
    pub(super) fn all_back(&self) -> bool {
        self.nodes.iter().all(Node::is_back)
    }

    /// Whether, besides, every job is as wanted and nobody owes a report.
    pub(super) fn is_settled(&self) -> bool {
        self.controller.is_at_rest()
            && self.all_back()
            && self.nodes.iter().all(|node| node.rows().owed() == 0)
            && self.world.ledger.fault().is_none()
    }

    /// When the last node was back, and how long any had to wait at most.
    pub(super) fn waits(&self) -> (Option<Mono>, Duration) {
        let waits = || self.nodes.iter().filter_map(|node| node.wait);
        let over = waits().filter_map(|wait| wait.over).max();
        let long = waits().map(|wait| wait.over.unwrap_or(self.world.now).since(wait.since));
        (over, long.max().unwrap_or_default())
    }

    fn happen(&mut self, what: Happening) {
        let world = &mut self.world;
        match what {
            Happening::Boot(node) => self.nodes[node.0].boot(world),
            Happening::Detach(node) => self.nodes[node.0].detach(world),
            Happening::Wake(node) => self.nodes[node.0].wake(world),
            Happening::Process(node, worker, change) => {
                self.nodes[node.0].process(worker, change, world);
            }
            Happening::Crash(node) => {
                world.tally.crashes += u64::from(self.nodes[node.0].crash_one(world));
            }
            Happening::Knock(knock) => self.knock(knock),
            Happening::Arrival(arrival) => self.arrive(*arrival),
            Happening::Answer(answer) => self.answer(answer),
            Happening::Link(node, event) => self.link_changes(node, event),
            Happening::Ask(node, request, ask) => self.ask(node, request, *ask),
            Happening::Told(request, told) => self.controller.told(request, told, world),
            Happening::Again(life, what) => {
                if self.controller.accepts() == Some(life) {
                    self.controller.again(what, world);
                }
            }
        }
    }

    fn knock(&mut self, knock: Knock) {
        let Knock { node, connection, deadline } = knock;
        let world = &mut self.world;
        world.tally.count(world.now, Kind::Connect);
        if world.network.is_cut(node) {
            let failed = LinkEvent::Failed(connection, Loss::Broken);
            world.at(deadline, Happening::Link(node, failed));
            return;
        }
        let event = match self.controller.accepts() {
            Some(life) => LinkEvent::Accepted(connection, life),
            None => LinkEvent::Failed(connection, Loss::Closed),
        };
        world.after_legs(1, Happening::Link(node, event));
    }

    fn arrive(&mut self, arrival: Arrival) {
        let Arrival { node, connection, life, call, deadline, .. } = arrival;
        let world = &mut self.world;
        let expiry = |lost| Happening::Link(node, LinkEvent::Expired { call, lost });
        if world.network.is_cut(node) {
            return world.at(deadline, expiry(true));
        }
        if self.controller.accepts() != Some(life) {
            let reset = LinkEvent::Reset(connection);
            // Should the reset be lost, too.
            world.at(deadline, expiry(true));
            return world.after_legs(1, Happening::Link(node, reset));
        }
        let Some(verdict) = self.controller.receive(&arrival, world) else {
            return world.at(deadline, expiry(false));
        };
        let at = self.nodes[node.0].link_mut().expect(verdict.leaves, world);
        if at > deadline {
            return world.at(deadline, expiry(false));
        }
        let (result, from) = (verdict.result, (life, verdict.leaves));
        world.at(at, Happening::Answer(Answer { node, call, deadline, result, from }));
    }

    fn answer(&mut self, answer: Answer) {
        let node = answer.node;
        let (life, left) = answer.from;
        // The controller may have died before the answer left.
        if !self.controller.has_answered(life, left) || self.world.network.is_cut(node) {
            let expiry = LinkEvent::Expired { call: answer.call, lost: true };
            return self.world.at(answer.deadline, Happening::Link(node, expiry));
        }
        self.nodes[node.0].answered(answer, &mut self.world);
    }

    fn link_changes(&mut self, node: NodeIndex, event: LinkEvent) {
        let world = &mut self.world;
        match event {
            LinkEvent::Accepted(connection, life)
                if self.controller.accepts() != Some(life) || world.network.is_cut(node) =>
            {
                // Killed, or cut off, between accepting and saying so.
                let failed = LinkEvent::Failed(connection, Loss::Broken);
                self.nodes[node.0].link_changed(failed, world);
            }
            LinkEvent::Reset(_) if world.network.is_cut(node) => {}
            event => self.nodes[node.0].link_changed(event, world),
        }
    }

    fn ask(&mut self, node: NodeIndex, request: RequestId, ask: Ask) {
        let world = &mut self.world;
        if world.network.is_cut(node) {
            // Nothing comes back, ever: the caller has no deadline, as in stock.
            return;
        }
        match &ask {
            Ask::Start(_) => world.tally.count(world.now, Kind::Start),
            Ask::Stop { .. } => world.tally.count(world.now, Kind::Stop),
            Ask::Alive(_) | Ask::SetDraining(_) | Ask::Shutdown(_) => {}
        }
        if !self.nodes[node.0].ask(request, ask, world) {
            world.after_legs(1, Happening::Told(request, ToldBack::Refused));
        }
    }
}
