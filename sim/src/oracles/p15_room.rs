//! P15: what the controller's books call free can be had. A start is refused for want of slots only
//! if workers hold them that the controller counts; and a node that was forgotten makes itself known
//! only once the workers that it kills for that are gone, or have not ended for two seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arroyo_node::{
    ids::WorkerId,
    machine::{Registration, Signal, Start},
};

use super::{Oracle, Verdict, forgotten::Forgotten};
use crate::{
    fact::{Entry, Fact, Place},
    past::{Past, WorkerPast},
};

/// What an agent may not have heard of yet.
const RECENT: Duration = Duration::from_secs(5);
/// How long the registration waits, less a step of the simulation.
const CLEARING: Duration = Duration::from_millis(1_950);

/// Holds refusals and registrations against what is alive.
#[derive(Default)]
pub(super) struct Room {
    forgotten: Forgotten,
    /// The forgotten workers that each agent has killed, and when the first of them was.
    clearing: BTreeMap<usize, (Duration, BTreeSet<WorkerId>)>,
}

impl Room {
    /// Whether a controller counts the worker's slots, or nobody can say that it does not.
    fn counts(&self, agent: usize, id: WorkerId, worker: &WorkerPast, start: &Start) -> bool {
        let spec = &worker.spec;
        let retried =
            start.key.is_none() && (&spec.job, spec.generation) == (&start.job, start.generation);
        !retried && !self.forgotten.is_noticed(agent, id)
    }

    fn refused(&self, agent: usize, start: &Start, at: Duration, past: &Past) -> Verdict {
        let entry = &past.agents[agent];
        let settled = entry.up_since.is_some_and(|up| up + RECENT < at);
        let tried = self.forgotten.noticed_at(agent).is_some_and(|noticed| noticed < at);
        if !settled || !tried {
            return Ok(());
        }
        let held = past.workers.iter().filter(|(id, worker)| {
            let gone = worker.gone.is_some_and(|(gone, _)| gone + RECENT < at);
            worker.agent == agent && !gone && self.counts(agent, **id, worker, start)
        });
        let held: u64 = held.map(|(_, worker)| worker.spec.slots.get()).sum();
        let (asked, slots) = (start.slots.get(), entry.slots);
        if asked + held > slots {
            return Ok(());
        }
        Err(format!(
            "no room for {asked} slots of job {}, though the controller counts {held} of {slots}",
            start.job
        ))
    }

    fn registers(&self, agent: usize, at: Duration, past: &Past) -> Verdict {
        let Some((since, killed)) = self.clearing.get(&agent) else { return Ok(()) };
        let live = |id: &&WorkerId| past.workers.get(id).is_some_and(WorkerPast::is_live);
        match killed.iter().find(live) {
            Some(id) if *since + CLEARING > at => {
                Err(format!("registers {:?} after it killed {id}, which lives", at - *since))
            }
            _ => Ok(()),
        }
    }
}

impl Oracle for Room {
    fn promise(&self) -> &'static str {
        "P15 what the books call free can be had"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        let verdict = match (entry.place, &entry.fact) {
            (Place::Agent(agent), Fact::FoundNoRoom(Some(start))) => {
                self.refused(agent, start, entry.at, past)
            }
            (Place::Agent(agent), Fact::Registers(Registration { reconnect: true, .. })) => {
                let verdict = self.registers(agent, entry.at, past);
                self.clearing.remove(&agent);
                verdict
            }
            _ => Ok(()),
        };
        match (entry.place, &entry.fact) {
            (Place::Agent(agent), Fact::Signals(id, Signal::Kill)) => {
                let told = self.forgotten.told_at(agent, *id, past);
                let fresh = self.forgotten.last_told_at(agent) > self.forgotten.noticed_at(agent);
                if told.is_some() && fresh && !self.forgotten.is_noticed(agent, *id) {
                    let fresh = || (entry.at, BTreeSet::new());
                    self.clearing.entry(agent).or_insert_with(fresh).1.insert(*id);
                }
            }
            (Place::Agent(agent), Fact::AgentGone(_)) => drop(self.clearing.remove(&agent)),
            _ => {}
        }
        self.forgotten.see(entry, past);
        verdict
    }
}
