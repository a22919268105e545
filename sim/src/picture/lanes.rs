//! What in a trace has a beginning and an end: lives of agents, lives of workers, messages.

use std::collections::BTreeMap;

use arroyo_node::ids::WorkerId;

use crate::fact::{Arrival, Entry, Fact, Place};

/// Lives, by row.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) agents: Vec<AgentLife>,
    pub(super) workers: Vec<WorkerLife>,
}

/// One process of an agent.
#[derive(Debug)]
pub(super) struct AgentLife {
    pub(super) agent: usize,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// One worker.
#[derive(Debug)]
pub(super) struct WorkerLife {
    pub(super) agent: usize,
    /// Beside how many others it runs.
    pub(super) lane: usize,
    pub(super) name: String,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A call of an agent that reached the controller.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) agent: usize,
    pub(super) sent: usize,
    pub(super) arrived: usize,
    pub(super) is_report: bool,
}

impl Lanes {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut lanes = Self::default();
        let mut up: BTreeMap<usize, usize> = BTreeMap::new();
        let mut running: BTreeMap<WorkerId, (usize, usize, usize)> = BTreeMap::new();
        for (row, entry) in entries.iter().enumerate() {
            let Place::Agent(agent) = entry.place else { continue };
            match &entry.fact {
                Fact::AgentBegan { .. } => drop(up.insert(agent, row)),
                Fact::AgentGone(_) => {
                    if let Some(from) = up.remove(&agent) {
                        lanes.agents.push(AgentLife { agent, from, to: row });
                    }
                }
                Fact::Ran(id, _) => {
                    let taken: Vec<usize> = running
                        .values()
                        .filter(|(on, ..)| *on == agent)
                        .map(|(_, lane, _)| *lane)
                        .collect();
                    let lane = (0..).find(|lane| !taken.contains(lane)).unwrap_or(0);
                    running.insert(*id, (agent, lane, row));
                }
                Fact::TreeGone(id, _) => {
                    if let Some((agent, lane, from)) = running.remove(id) {
                        let name = id.to_string();
                        lanes.workers.push(WorkerLife { agent, lane, name, from, to: row });
                    }
                }
                _ => {}
            }
        }
        let end = entries.len();
        lanes.agents.extend(up.into_iter().map(|(agent, from)| AgentLife { agent, from, to: end }));
        lanes.workers.extend(running.into_iter().map(|(id, (agent, lane, from))| WorkerLife {
            agent,
            lane,
            name: id.to_string(),
            from,
            to: end,
        }));
        lanes
    }
}

/// Every call of an agent that reached the controller, from the row in which the latest of its kind
/// was sent.
pub(super) fn messages(entries: &[Entry]) -> Vec<Message> {
    let mut sent: BTreeMap<(usize, Option<WorkerId>, bool), usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (row, entry) in entries.iter().enumerate() {
        let Place::Agent(agent) = entry.place else { continue };
        let (key, is_arrival) = match &entry.fact {
            Fact::Registers(_) => ((agent, None, true), false),
            Fact::Heartbeats => ((agent, None, false), false),
            Fact::Reports(report) => ((agent, Some(report.worker), false), false),
            Fact::Arrived(Arrival::Register) => ((agent, None, true), true),
            Fact::Arrived(Arrival::Heartbeat) => ((agent, None, false), true),
            Fact::Arrived(Arrival::Finished(report)) => ((agent, Some(report.worker), false), true),
            _ => continue,
        };
        if !is_arrival {
            sent.insert(key, row);
        } else if let Some(sent) = sent.remove(&key) {
            found.push(Message { agent, sent, arrived: row, is_report: key.1.is_some() });
        }
    }
    found
}
