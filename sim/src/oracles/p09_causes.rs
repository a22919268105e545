//! P9: losing the controller ends no worker and no agent. More generally: no worker is signalled
//! and no agent ends without a cause that came from outside.

use std::collections::BTreeSet;

use arroyo_node::{
    ids::{Generation, JobId, WorkerId},
    machine::{Ask, Reply, Shutdown, StartError, StopHow},
};

use super::{Oracle, Verdict};
use crate::{
    fact::{Ending, Entry, Fact, Place},
    past::Past,
};

/// Remembers every cause.
pub(super) struct Causes {
    fencing: bool,
    stopped: BTreeSet<WorkerId>,
    started: BTreeSet<(usize, JobId, Generation)>,
    /// Agents that were once told to end with their workers. The stops outlive them.
    ended: BTreeSet<usize>,
}

impl Causes {
    /// For agents that stop their workers when they lose the controller, or for such that do not.
    pub(super) fn new(fencing: bool) -> Self {
        Self { fencing, stopped: BTreeSet::new(), started: BTreeSet::new(), ended: BTreeSet::new() }
    }

    fn may_signal(&self, agent: usize, id: WorkerId, past: &Past) -> bool {
        let Some(worker) = past.workers.get(&id) else { return false };
        let (job, generation) = (&worker.spec.job, worker.spec.generation);
        let next = (agent, job.clone(), Generation(generation.0 + 1));
        let newer = self.started.range(next..).next();
        self.fencing
            || self.ended.contains(&agent)
            || self.stopped.contains(&id)
            || newer.is_some_and(|(on, of, _)| *on == agent && of == job)
    }
}

impl Oracle for Causes {
    fn promise(&self) -> &'static str {
        "P9 nothing ends without a cause"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        let Place::Agent(agent) = entry.place else { return Ok(()) };
        match &entry.fact {
            Fact::Asked(Ask::Stop { worker, how: StopHow::Gentle | StopHow::Force }) => {
                self.stopped.insert(*worker);
            }
            Fact::Asked(Ask::Start(start)) => {
                self.started.insert((agent, start.job.clone(), start.generation));
            }
            // Whom that was about was not said, but nobody has heard of it since.
            Fact::Answered(Reply::Started(Err(StartError::NotRunning { .. }))) => {
                let unknown = past.workers.iter().filter(|(_, w)| w.agent == agent && !w.named);
                self.stopped.extend(unknown.map(|(id, _)| *id));
            }
            Fact::Told(Shutdown::StopWorkers) | Fact::Asked(Ask::Shutdown(_)) => {
                self.ended.insert(agent);
            }
            Fact::Signals(id, signal) if !self.may_signal(agent, *id, past) => {
                return Err(format!("{signal:?} for worker {id}, which nobody wanted stopped"));
            }
            Fact::AgentGone(Ending::Finished) if past.agents[agent].told_to_end.is_none() => {
                return Err(format!("agent {agent} ended, and nobody had told it to"));
            }
            _ => {}
        }
        Ok(())
    }
}
