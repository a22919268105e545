//! P16: nothing waits for a disk. While all that is wrong with an agent is that its disk does not
//! answer, its heartbeats keep their pace, it answers GetWorkers at once, and it carries out a
//! forced stop in time, counted from the caller's call.

use std::{collections::BTreeMap, time::Duration};

use arroyo_node::ids::WorkerId;

use super::{Oracle, Sight, Verdict};
use crate::{
    fact::{Entry, Fact, Place},
    past::Past,
    plan::{Deed, Fault, Plan},
    world::DISK_WORKS,
};

/// The longest time between two heartbeats: 5 s, the jitter, the wait for one commit, and a step.
const PACE: Duration = Duration::from_millis(5_000 + 500 + 250 + 250);
/// What it may take before that until heartbeats are regular, as P10 has it.
const RETURN: Duration = Duration::from_secs(22);
/// From the agent's hearing of a forced stop to the end of the worker.
const KILL: Duration = Duration::from_secs(5 + 1);
/// What the kernel may add to that, see P8.
const STUCK: Duration = Duration::from_secs(6);
/// What a machine needs to get on with things after something was not running on it.
const RECOVERY: Duration = Duration::from_secs(2);

/// Follows each disk that hangs, and who calls its agent meanwhile.
pub(super) struct NothingWaits {
    /// What a call takes at most, its connection included.
    call: Duration,
    kill: Duration,
    /// The agents whose disks hang, and since when.
    hangs: BTreeMap<usize, Duration>,
    /// When each agent last sent a heartbeat.
    sent: BTreeMap<usize, Duration>,
    /// GetWorkers that are not answered yet.
    lists: Vec<(usize, Duration)>,
    /// Who is to be stopped by force, and since when.
    stops: BTreeMap<WorkerId, (usize, Duration)>,
}

impl NothingWaits {
    /// For the latencies and processes of this plan.
    pub(super) fn new(plan: &Plan) -> Self {
        // Connecting, the preface, the call and its answer.
        let way = Duration::from_millis(plan.latency_ms.1 + 2 * plan.tick_ms);
        let call = 8 * way + Duration::from_millis(100);
        let stuck = if plan.temper.slow_death > 0 { STUCK } else { Duration::ZERO };
        Self {
            call,
            kill: KILL + call + stuck,
            hangs: BTreeMap::new(),
            sent: BTreeMap::new(),
            lists: Vec::new(),
            stops: BTreeMap::new(),
        }
    }

    /// Whether nothing but the disk has been in this agent's way since then.
    fn only_hangs(&self, agent: usize, since: Duration, past: &Past) -> bool {
        let agent_past = &past.agents[agent];
        let runs = |at: Option<Duration>| at.is_some_and(|at| at + RECOVERY <= since);
        self.hangs.get(&agent).is_some_and(|began| *began <= since)
            && runs(agent_past.running_since)
            && runs(agent_past.shim_since)
    }

    fn heartbeat_is_late(&self, agent: usize, now: Duration, past: &Past) -> bool {
        let Some(began) = self.hangs.get(&agent) else { return false };
        let agent_past = &past.agents[agent];
        let (Some(controller), Some(up)) = (past.controller_since, agent_past.running_since) else {
            return false;
        };
        let calm = agent_past.hindered_at.max(controller).max(up) + RETURN;
        let sent = self.sent.get(&agent).copied().unwrap_or_default();
        calm < now && sent.max(*began) + PACE < now
    }
}

impl Oracle for NothingWaits {
    fn promise(&self) -> &'static str {
        "P16 nothing waits for a disk"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        match (entry.place, &entry.fact) {
            (_, Fact::Deed(Deed::Fault(Fault::DiskHangs { agent, .. }))) => {
                self.hangs.entry(*agent).or_insert(entry.at);
            }
            // A disk that is full answers.
            (_, Fact::Deed(Deed::Fault(Fault::Disk { agent, .. }))) => {
                self.hangs.remove(agent);
            }
            (Place::Agent(agent), Fact::Over(what)) if *what == DISK_WORKS => {
                self.hangs.remove(&agent);
            }
            (Place::Agent(agent), Fact::Heartbeats { .. } | Fact::Registers(_)) => {
                self.sent.insert(agent, entry.at);
            }
            (_, Fact::Calls { agent, call, .. }) if call == "GetWorkers" => {
                self.lists.push((*agent, entry.at));
            }
            (_, Fact::Heard { agent, call, .. }) if call == "GetWorkers" => {
                // Which one was answered cannot be told, and they are as good as each other.
                let first = self.lists.iter().position(|(of, _)| of == agent);
                first.map(|first| self.lists.remove(first));
            }
            (_, Fact::Calls { agent, kills: Some(worker), .. }) => {
                let lives = past.workers.get(worker).is_some_and(|worker| worker.is_live());
                if lives {
                    self.stops.entry(*worker).or_insert((*agent, entry.at));
                }
            }
            (Place::Agent(_), Fact::TreeGone(worker, _)) => drop(self.stops.remove(worker)),
            _ => {}
        }
        Ok(())
    }

    fn look(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        let now = sight.now;
        for agent in 0..past.agents.len() {
            if self.heartbeat_is_late(agent, now, past) {
                let sent = self.sent.get(&agent);
                return Err(format!("agent {agent} sent its last heartbeat at {sent:?}"));
            }
        }
        for (agent, since) in &self.lists {
            if *since + self.call < now && self.only_hangs(*agent, *since, past) {
                return Err(format!("agent {agent} has not answered a GetWorkers of {since:?}"));
            }
        }
        for (worker, (agent, since)) in &self.stops {
            let lives = past.workers.get(worker).is_some_and(|worker| worker.is_live());
            if lives && *since + self.kill < now && self.only_hangs(*agent, *since, past) {
                return Err(format!("worker {worker} was to be stopped at {since:?}, and lives"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Writes, scenarios};

    const BEGAN: Duration = Duration::from_secs(100);

    fn at(seconds: u64) -> Duration {
        BEGAN + Duration::from_secs(seconds)
    }

    /// The oracle's verdict at this time, the disk having hung since [`BEGAN`].
    fn verdict(facts: Vec<(u64, Place, Fact)>, after: u64) -> Verdict {
        let mut oracle = NothingWaits::new(&scenarios::nothing_happens());
        let mut past = Past::new([4]);
        past.controller_since = Some(Duration::ZERO);
        past.agents[0].running_since = Some(Duration::ZERO);
        let fault = Fault::DiskHangs { agent: 0, ms: 60_000, writes: Writes::Last };
        let hangs = (0, Place::World, Fact::Deed(Deed::Fault(fault)));
        for (seconds, place, fact) in [hangs].into_iter().chain(facts) {
            oracle.see(&Entry { at: at(seconds), place, fact }, &past)?;
        }
        oracle.look(&Sight { now: at(after), views: &[None], books: None }, &past)
    }

    #[test]
    fn heartbeats_keep_their_pace() {
        let beat = |second| (second, Place::Agent(0), Fact::Heartbeats { probe: false });
        assert_eq!(verdict(vec![beat(4)], 9), Ok(()));
        verdict(vec![beat(4)], 11).unwrap_err();
        verdict(vec![], 7).unwrap_err();
        let over = (5, Place::Agent(0), Fact::Over(DISK_WORKS));
        assert_eq!(verdict(vec![over], 20), Ok(()), "another promise's business");
    }

    #[test]
    fn a_call_for_the_list_is_answered_at_once() {
        let beat = (1, Place::Agent(0), Fact::Heartbeats { probe: false });
        let call = String::from("GetWorkers");
        let calls = Fact::Calls { agent: 0, call: call.clone(), kills: None };
        let calls = (1, Place::Caller, calls);
        let heard = Fact::Heard { agent: 0, call, answer: Ok("0 workers".into()), wanted: None };
        verdict(vec![beat.clone(), calls.clone()], 3).unwrap_err();
        assert_eq!(verdict(vec![beat, calls, (2, Place::Caller, heard)], 3), Ok(()));
    }
}
