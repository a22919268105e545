//! P8: a forced stop leaves nothing of the tree alive after `kill_after` + 1 s, of time in which
//! the agent and the shim run.

use std::{collections::BTreeMap, time::Duration};

use arroyo_node::{
    ids::WorkerId,
    machine::{Ask, StopHow},
};

use super::{Oracle, Sight, Verdict};
use crate::{
    fact::{Entry, Fact, Place},
    past::Past,
};

const KILL_AFTER: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(1);
/// What the kernel may add to that: the first process of a tree, then those it started meanwhile.
const STUCK: Duration = Duration::from_secs(6);
/// What a machine needs to get on with things after something was not running on it.
const RECOVERY: Duration = Duration::from_secs(2);

/// Remembers who was to be stopped by force, and since when.
pub(super) struct ForcedStop {
    slack: Duration,
    since: BTreeMap<WorkerId, Duration>,
}

impl ForcedStop {
    /// For processes that die when they are killed, or for such that may be stuck in the kernel.
    pub(super) fn new(stuck: bool) -> Self {
        let slack = if stuck { SLACK + STUCK } else { SLACK };
        Self { slack, since: BTreeMap::new() }
    }
}

impl Oracle for ForcedStop {
    fn promise(&self) -> &'static str {
        "P8 a forced stop leaves nothing"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        match (entry.place, &entry.fact) {
            (Place::Agent(agent), Fact::Asked(Ask::Stop { worker, how: StopHow::Force })) => {
                let known = past.agents[agent].rows.contains_key(worker);
                if known && past.workers.get(worker).is_some_and(|worker| worker.is_live()) {
                    self.since.entry(*worker).or_insert(entry.at);
                }
            }
            (Place::Agent(agent), Fact::AgentBegan { .. }) => {
                // An agent that was killed before it could write the stop down has forgotten it.
                let rows = |id: &WorkerId| match &entry.fact {
                    Fact::AgentBegan { recovered, .. } => recovered
                        .workers
                        .iter()
                        .any(|row| row.id == *id && row.stop.is_some_and(|s| s.kill_at.is_some())),
                    _ => false,
                };
                let here = |id: &WorkerId| past.workers.get(id).is_some_and(|w| w.agent == agent);
                self.since.retain(|id, _| !here(id) || rows(id));
            }
            (Place::Agent(_), Fact::TreeGone(id, _)) => drop(self.since.remove(id)),
            _ => {}
        }
        Ok(())
    }

    fn look(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        for (id, since) in &self.since {
            let Some(worker) = past.workers.get(id).filter(|worker| worker.is_live()) else {
                continue;
            };
            let agent = &past.agents[worker.agent];
            let (Some(running), Some(shim)) = (agent.running_since, agent.shim_since) else {
                continue;
            };
            let deadline = (*since + KILL_AFTER).max(running + RECOVERY).max(shim + RECOVERY);
            if sight.now > deadline + self.slack {
                return Err(format!("worker {id} was to be stopped at {since:?}, and is alive"));
            }
        }
        Ok(())
    }
}
