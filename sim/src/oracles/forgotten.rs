//! Who the controller has forgotten, and how: what P9 and P15 both judge by.
//!
//! A worker is forgotten if it was asked for before its node heard NOT_FOUND from the controller,
//! until somebody names it again. An agent has noticed that once it registers as unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arroyo_node::{
    controller::ControllerEvent,
    ids::WorkerId,
    machine::{Ask, Registration},
};

use crate::{
    fact::{Entry, Fact, Place},
    past::Past,
    world::agent_number,
};

/// Follows what every agent was told, and what it has made of it.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    agents: BTreeMap<usize, AgentMemory>,
    /// Workers that were named by a StopWorker, and when.
    named: BTreeMap<WorkerId, Duration>,
    /// When the controller that is there now began.
    controller_since: Duration,
}

#[derive(Debug, Default)]
struct AgentMemory {
    /// When it was told that the controller does not know this node, and whether that was certainly
    /// another one than had known it last, or one that was made to forget it.
    told: Vec<(Duration, bool)>,
    /// When a controller last knew it.
    known_at: Duration,
    /// When the node was last forgotten on purpose.
    dropped_at: Option<Duration>,
    /// The workers that were alive when the agent last registered as unknown.
    noticed: BTreeSet<WorkerId>,
    /// When that was.
    noticed_at: Option<Duration>,
}

impl Forgotten {
    /// Something happened; `past` does not know of it yet.
    pub(super) fn see(&mut self, entry: &Entry, past: &Past) {
        match (entry.place, &entry.fact) {
            (_, Fact::ControllerBegan(_)) => self.controller_since = entry.at,
            (Place::Agent(agent), Fact::ToldForgotten) => {
                let since = self.controller_since;
                let memory = self.agents.entry(agent).or_default();
                let dropped = memory.dropped_at.is_some_and(|at| at >= memory.known_at);
                memory.told.push((entry.at, since >= memory.known_at || dropped));
            }
            (
                _,
                Fact::Controller(
                    ControllerEvent::Heartbeat { node, known: true }
                    | ControllerEvent::NodeRegistered { node, .. },
                ),
            ) => {
                if let Some(agent) = agent_number(node.as_str()) {
                    self.agents.entry(agent).or_default().known_at = entry.at;
                }
            }
            (_, Fact::Controller(ControllerEvent::NodeForgotten { node })) => {
                if let Some(agent) = agent_number(node.as_str()) {
                    self.agents.entry(agent).or_default().dropped_at = Some(entry.at);
                }
            }
            (Place::Agent(agent), Fact::Registers(Registration { reconnect: true, .. })) => {
                let live = past.live_on(agent).map(|(id, _)| id);
                let memory = self.agents.entry(agent).or_default();
                memory.noticed.extend(live);
                memory.noticed_at = Some(entry.at);
            }
            (Place::Agent(_), Fact::Asked(Ask::Stop { worker, .. })) => {
                self.named.insert(*worker, entry.at);
                for memory in self.agents.values_mut() {
                    memory.noticed.remove(worker);
                }
            }
            // The marks went with the journal, or the workers with the power.
            (
                Place::Agent(agent),
                Fact::AgentBegan { set_aside: true, .. } | Fact::AgentGone(_),
            ) => {
                let power_lost = entry.fact == Fact::AgentGone(crate::fact::Ending::PowerLost);
                let set_aside = matches!(entry.fact, Fact::AgentBegan { .. });
                if let Some(memory) = self.agents.get_mut(&agent)
                    && (power_lost || set_aside)
                {
                    memory.noticed.clear();
                }
            }
            _ => {}
        }
    }

    /// When the controller first told this agent that it has forgotten the worker, since the worker
    /// was asked for or last named; if it has.
    pub(super) fn told_at(&self, agent: usize, id: WorkerId, past: &Past) -> Option<Duration> {
        self.told(agent, id, past).map(|(at, _)| at).next()
    }

    /// Whether it was certain on one of these occasions that its memory was lost at once.
    pub(super) fn was_certain(&self, agent: usize, id: WorkerId, past: &Past) -> bool {
        self.told(agent, id, past).any(|(_, certain)| certain)
    }

    fn told(
        &self,
        agent: usize,
        id: WorkerId,
        past: &Past,
    ) -> impl Iterator<Item = (Duration, bool)> {
        let named_at = self.named.get(&id).copied().unwrap_or_default();
        let known_at = past.workers.get(&id).map(|worker| worker.asked_at.max(named_at));
        let told = self.agents.get(&agent).into_iter().flat_map(|memory| &memory.told);
        told.copied().filter(move |(at, _)| known_at.is_some_and(|known| *at >= known))
    }

    /// When it last told it anything of the kind.
    pub(super) fn last_told_at(&self, agent: usize) -> Option<Duration> {
        self.agents.get(&agent)?.told.last().map(|(at, _)| *at)
    }

    /// Whether the agent has registered since it was told, as a node that was forgotten with this
    /// worker.
    pub(super) fn is_noticed(&self, agent: usize, id: WorkerId) -> bool {
        self.agents.get(&agent).is_some_and(|memory| memory.noticed.contains(&id))
    }

    /// When it last did.
    pub(super) fn noticed_at(&self, agent: usize) -> Option<Duration> {
        self.agents.get(&agent)?.noticed_at
    }
}
