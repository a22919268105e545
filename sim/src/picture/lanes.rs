//! What in a trace has a beginning and an end: lives of agents, lives of workers, messages, faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arroyo_node::{
    controller::ControllerEvent,
    ids::WorkerId,
    machine::{Registration, Reply},
};

use crate::{
    fact::{Arrival, Entry, Fact, Place},
    plan::{Deed, Fault},
};

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
    pub(super) worker: WorkerId,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// Something that one host said to another.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) agent: usize,
    pub(super) sent: usize,
    /// `None`: it was lost.
    pub(super) arrived: Option<usize>,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Register,
    Heartbeat,
    Report(WorkerId),
    /// The answer to a StartWorker.
    Started(WorkerId),
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
                    let on = running.values().filter(|(on, ..)| *on == agent);
                    let taken: BTreeSet<usize> = on.map(|(_, lane, _)| *lane).collect();
                    let lane = (0..).find(|lane| !taken.contains(lane)).unwrap_or(0);
                    running.insert(*id, (agent, lane, row));
                }
                Fact::TreeGone(id, _) => {
                    if let Some((agent, lane, from)) = running.remove(id) {
                        lanes.workers.push(WorkerLife { agent, lane, worker: *id, from, to: row });
                    }
                }
                _ => {}
            }
        }
        let end = entries.len();
        lanes.agents.extend(up.into_iter().map(|(agent, from)| AgentLife { agent, from, to: end }));
        lanes.workers.extend(running.into_iter().map(|(worker, (agent, lane, from))| WorkerLife {
            agent,
            lane,
            worker,
            from,
            to: end,
        }));
        lanes
    }

    /// How many lifelines of workers each agent has beside each other.
    pub(super) fn widths(&self, agents: usize) -> Vec<usize> {
        let of = |agent| self.workers.iter().filter(move |worker| worker.agent == agent);
        (0..agents).map(|agent| of(agent).map(|w| w.lane + 1).max().unwrap_or(0)).collect()
    }
}

/// Every call of an agent, and every answer to a StartWorker, with its arrival at the controller: of
/// several that were sent, the latest.
pub(super) fn messages(entries: &[Entry]) -> Vec<Message> {
    let mut open: BTreeMap<(usize, Kind), usize> = BTreeMap::new();
    let mut found = Vec::new();
    let lost = |(agent, kind), sent| Message { agent, sent, arrived: None, kind };
    for (row, entry) in entries.iter().enumerate() {
        let Some((agent, kind, is_arrival)) = part_of_message(entry) else { continue };
        let key = (agent, kind);
        let sent = if is_arrival { open.remove(&key) } else { open.insert(key, row) };
        match sent {
            Some(sent) if is_arrival => {
                found.push(Message { agent, sent, arrived: Some(row), kind });
            }
            Some(sent) => found.push(lost(key, sent)),
            None => {}
        }
    }
    // A StartWorker of somebody else is not answered to the controller.
    open.retain(|(_, kind), _| !matches!(kind, Kind::Started(_)));
    found.extend(open.into_iter().map(|(key, sent)| lost(key, sent)));
    found
}

fn part_of_message(entry: &Entry) -> Option<(usize, Kind, bool)> {
    let agent = match (entry.place, &entry.fact) {
        (
            Place::Controller,
            Fact::Controller(ControllerEvent::WorkerStarted { node, worker, .. }),
        ) => {
            let agent = crate::world::agent_number(node.as_str())?;
            return Some((agent, Kind::Started(*worker), true));
        }
        (Place::Agent(agent), _) => agent,
        _ => return None,
    };
    let (kind, is_arrival) = match &entry.fact {
        Fact::Registers(Registration { .. }) => (Kind::Register, false),
        Fact::Heartbeats { .. } => (Kind::Heartbeat, false),
        Fact::Reports(report) => (Kind::Report(report.worker), false),
        Fact::Answered(Reply::Started(Ok(worker))) => (Kind::Started(*worker), false),
        Fact::Arrived(Arrival::Register) => (Kind::Register, true),
        Fact::Arrived(Arrival::Heartbeat) => (Kind::Heartbeat, true),
        Fact::Arrived(Arrival::Finished(report)) => (Kind::Report(report.worker), true),
        _ => return None,
    };
    Some((agent, kind, is_arrival))
}

/// Faults that struck: whom (`None`: the controller), from when to when.
pub(super) fn faults(entries: &[Entry]) -> Vec<(&Fault, Option<usize>, Duration, Duration)> {
    let healing = entries.iter().find(|entry| entry.fact == Fact::Healing);
    let end = healing.or(entries.last()).map_or(Duration::ZERO, |entry| entry.at);
    let mut found = Vec::new();
    for (row, entry) in entries.iter().enumerate() {
        let Fact::Deed(Deed::Fault(fault)) = &entry.fact else { continue };
        let next = entries.get(row + 1).map(|next| &next.fact);
        if !matches!(next, Some(Fact::Skipped(_))) {
            let ms = Duration::from_millis(fault.ms().unwrap_or(0));
            found.push((fault, fault.agent(), entry.at, (entry.at + ms).min(end)));
        }
    }
    found
}
