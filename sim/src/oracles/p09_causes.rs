//! P9: losing the controller ends no worker and no agent. More generally: no worker is signalled
//! and no agent ends without a cause that came from outside. Only a controller that says that it has
//! forgotten them costs workers: at once if it restarted, else after a while, or for a start that
//! needs their room.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arroyo_node::{
    ids::{Generation, JobId, WorkerId},
    machine::{Ask, Reply, Shutdown, StartError, StopHow},
};

use super::{Oracle, Verdict, forgotten::Forgotten};
use crate::{
    fact::{Ending, Entry, Fact, Place},
    past::Past,
    world::STOP_ABANDONED_AFTER,
};

/// How exactly the time of abandoned workers is kept: clocks drift.
const SLACK: Duration = Duration::from_secs(1);

/// Remembers every cause.
pub(super) struct Causes {
    fencing: bool,
    stopped: BTreeSet<WorkerId>,
    started: BTreeSet<(usize, JobId, Generation)>,
    /// Those of them that were asked for again, without a name for the attempt: a retry may need
    /// the room of the first try.
    retried: BTreeSet<(usize, JobId, Generation)>,
    forgotten: Forgotten,
    /// When each agent was last asked for a start.
    start_asked: BTreeMap<usize, Duration>,
    /// Agents that were once told to end with their workers. The stops outlive them.
    ended: BTreeSet<usize>,
}

impl Causes {
    /// For agents that stop their workers when they lose the controller, or for such that do not.
    pub(super) fn new(fencing: bool) -> Self {
        Self {
            fencing,
            stopped: BTreeSet::new(),
            started: BTreeSet::new(),
            retried: BTreeSet::new(),
            forgotten: Forgotten::default(),
            start_asked: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    fn may_signal(&self, agent: usize, id: WorkerId, at: Duration, past: &Past) -> bool {
        let Some(worker) = past.workers.get(&id) else { return false };
        let (job, generation) = (&worker.spec.job, worker.spec.generation);
        let next = (agent, job.clone(), Generation(generation.0 + 1));
        let newer = self.started.range(next..).next();
        self.fencing
            || self.ended.contains(&agent)
            || self.stopped.contains(&id)
            || newer.is_some_and(|(on, of, _)| *on == agent && of == job)
            || self.retried.contains(&(agent, job.clone(), generation))
            || self.may_end_forgotten(agent, id, at, past)
    }
}

impl Causes {
    fn may_end_forgotten(&self, agent: usize, id: WorkerId, at: Duration, past: &Past) -> bool {
        let Some(told_at) = self.forgotten.told_at(agent, id, past) else { return false };
        let room_needed = self.start_asked.get(&agent).is_some_and(|asked| *asked >= told_at);
        let over = at + SLACK >= told_at + STOP_ABANDONED_AFTER;
        room_needed || over || self.forgotten.was_certain(agent, id, past)
    }
}

impl Oracle for Causes {
    fn promise(&self) -> &'static str {
        "P9 nothing ends without a cause"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        self.forgotten.see(entry, past);
        let Place::Agent(agent) = entry.place else { return Ok(()) };
        match &entry.fact {
            Fact::Asked(Ask::Stop { worker, how: StopHow::Gentle | StopHow::Force }) => {
                self.stopped.insert(*worker);
            }
            Fact::Asked(Ask::Start(start)) => {
                let asked = (agent, start.job.clone(), start.generation);
                if !self.started.insert(asked.clone()) && start.key.is_none() {
                    self.retried.insert(asked);
                }
                self.start_asked.insert(agent, entry.at);
            }
            // Whom that was about was not said, but nobody has heard of it since.
            Fact::Answered(Reply::Started(Err(StartError::NotRunning { .. }))) => {
                let unknown = past.workers.iter().filter(|(_, w)| w.agent == agent && !w.named);
                self.stopped.extend(unknown.map(|(id, _)| *id));
            }
            Fact::Told(Shutdown::StopWorkers) | Fact::Asked(Ask::Shutdown(_)) => {
                self.ended.insert(agent);
            }
            Fact::Signals(id, signal) if !self.may_signal(agent, *id, entry.at, past) => {
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
