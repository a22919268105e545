//! P13: a jump of the wall clock changes nothing but the times in reports. Within one run that
//! means: what is told is the clock's reading, jumps included, and what waits, waits by time that
//! passes. (That the rest of a run stays the same, fact by fact, only a second run without the jumps
//! can show: `check-determinism`.)
//!
//! Deadlines that come late after a jump are seen by P8 (kills) and P10 (heartbeats); here it is
//! those that come too early, and the memory of reported workers.

use std::{collections::BTreeMap, mem, time::Duration};

use arroyo_node::{
    controller::ControllerEvent,
    ids::WorkerId,
    machine::{Record, Wall},
};

use super::{Oracle, Verdict};
use crate::{
    fact::{Entry, Fact, Place},
    past::{Past, Rows},
    plan::{AgentPlan, Deed, Fault},
    world::{agent_number, wall_clock_at},
};

/// Heartbeats of one life of an agent are no closer than this: 5 s less the jitter, less a step. But
/// the second one after a registration may come at any time: agents that come back to a controller
/// together are not to beat together.
const PACE: Duration = Duration::from_millis(4_450);
/// How exact everything else is: a few steps of the simulation, and what clocks drift.
const SLACK: Duration = Duration::from_secs(1);

/// Follows each machine's clock by what is done to it.
pub(super) struct WallClock {
    agents: Vec<Clock>,
    /// When the journal learned that the worker's report was acknowledged.
    reported: BTreeMap<WorkerId, Duration>,
}

struct Clock {
    drift_ppm: i64,
    off_by_ms: i64,
    retain: Duration,
    heartbeat: Option<Duration>,
    /// Whether it has registered, or was told to, since that.
    registered: bool,
    /// Whether the next heartbeat may come at any time.
    scattering: bool,
}

impl WallClock {
    /// For agents like these.
    pub(super) fn new(agents: &[AgentPlan]) -> Self {
        let clock = |plan: &AgentPlan| Clock {
            drift_ppm: plan.drift_ppm,
            off_by_ms: 0,
            retain: Duration::from_millis(plan.retain_ms),
            heartbeat: None,
            registered: false,
            scattering: false,
        };
        Self { agents: agents.iter().map(clock).collect(), reported: BTreeMap::new() }
    }

    fn of_agent(&mut self, agent: usize, entry: &Entry, past: &Past) -> Verdict {
        let clock = &mut self.agents[agent];
        match &entry.fact {
            Fact::AgentBegan { .. } => clock.heartbeat = None,
            Fact::Registers(_) => clock.registered = true,
            // It comes when a connection is wanted, and the next heartbeat may come at any time.
            Fact::Heartbeats { probe: true } => clock.heartbeat = None,
            Fact::Heartbeats { probe: false } => {
                let registered = mem::take(&mut clock.registered);
                let scattering = mem::replace(&mut clock.scattering, registered);
                if let Some(before) = clock.heartbeat.replace(entry.at)
                    && !scattering
                    && entry.at < before + PACE
                {
                    return Err(format!("agent {agent} sent heartbeats at {before:?} and now"));
                }
            }
            Fact::Spawns(launch) => {
                let what = format!("the admission of worker {}", launch.worker);
                return clock.told(launch.admitted_at, entry.at, &what);
            }
            // Written anew, a journal holds times of long ago.
            Fact::Committed(commit) if !commit.rewrite => {
                let rows = &past.agents[agent].rows;
                let mut records = commit.records.iter();
                return records.try_for_each(|record| self.recorded(agent, record, entry.at, rows));
            }
            _ => {}
        }
        Ok(())
    }
}

impl WallClock {
    fn recorded(&mut self, agent: usize, record: &Record, at: Duration, rows: &Rows) -> Verdict {
        let clock = &self.agents[agent];
        match record {
            Record::Worker(now) => {
                let before = rows.get(&now.id);
                if let (Some(end), None) = (now.end, before.and_then(|row| row.end)) {
                    clock.told(end.at, at, &format!("worker {}'s end", now.id))?;
                }
                if let (Some(told), None) = (now.reported_at, before.and_then(|r| r.reported_at)) {
                    clock.told(told, at, &format!("worker {}'s acknowledgement", now.id))?;
                    self.reported.insert(now.id, at);
                }
                Ok(())
            }
            Record::Forget(id) => match self.reported.remove(id) {
                Some(since) if at + SLACK < since + clock.retain => Err(format!(
                    "worker {id} is forgotten, which was to be remembered from {since:?} on for {:?}",
                    clock.retain
                )),
                _ => Ok(()),
            },
            Record::Draining(_) | Record::KnownAt(_) => Ok(()),
        }
    }
}

impl Clock {
    /// Whether a time that was told is what this clock shows.
    fn told(&self, told: Wall, now: Duration, what: &str) -> Verdict {
        let shows = wall_clock_at(now, self.drift_ppm, self.off_by_ms);
        if told.0.abs_diff(shows.0) > u64::try_from(SLACK.as_micros()).unwrap_or(u64::MAX) {
            return Err(format!("the time of {what} is {told:?} where the clock shows {shows:?}"));
        }
        Ok(())
    }
}

impl Oracle for WallClock {
    fn promise(&self) -> &'static str {
        "P13 clock jumps move no deadline"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        match (entry.place, &entry.fact) {
            (_, Fact::Deed(Deed::Fault(Fault::ClockJump { agent, by_ms }))) => {
                self.agents[*agent].off_by_ms += by_ms;
                Ok(())
            }
            // It scatters heartbeats as a registration does, which may have to wait.
            (_, Fact::Controller(ControllerEvent::Heartbeat { node, known: false })) => {
                if let Some(agent) = agent_number(node.as_str()) {
                    self.agents[agent].registered = true;
                }
                Ok(())
            }
            (Place::Agent(agent), _) => self.of_agent(agent, entry, past),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use arroyo_node::{
        ids::MachineId,
        machine::{Launch, Registration, WorkerSpec},
    };

    use super::*;
    use crate::scenarios;

    const HOUR_MS: i64 = 3_600_000;

    /// The oracle after these facts of the only agent, and what it says of the last.
    fn after(facts: Vec<(u64, Place, Fact)>) -> Verdict {
        let mut oracle = WallClock::new(&scenarios::nothing_happens().agents);
        let mut verdict = Ok(());
        for (second, place, fact) in facts {
            assert_eq!(verdict, Ok(()), "before the last fact");
            let entry = Entry { at: Duration::from_secs(second), place, fact };
            verdict = oracle.see(&entry, &Past::new([4]));
        }
        verdict
    }

    fn jump() -> Fact {
        Fact::Deed(Deed::Fault(Fault::ClockJump { agent: 0, by_ms: HOUR_MS }))
    }

    fn spawn(admitted_at: Wall) -> Fact {
        let spec = WorkerSpec {
            name: "job".into(),
            job: "job".into(),
            pipeline: None,
            generation: arroyo_node::ids::Generation(1),
            slots: std::num::NonZeroU64::MIN,
            dialect: arroyo_node::machine::Dialect::V0_15,
            key: None,
        };
        let env = std::collections::BTreeMap::new();
        Fact::Spawns(Launch { worker: WorkerId(7), spec: spec.into(), admitted_at, env })
    }

    fn registers() -> Fact {
        let machine = MachineId::new("agent-1");
        Fact::Registers(Registration {
            machine,
            task_slots: 4,
            address: "agent-1:5118".into(),
            reconnect: true,
        })
    }

    #[test]
    fn what_is_told_is_what_the_clock_shows() {
        let ten = Duration::from_secs(10);
        let (steady, jumped) = (wall_clock_at(ten, 0, 0), wall_clock_at(ten, 0, HOUR_MS));
        let agent = Place::Agent(0);
        assert_eq!(after(vec![(10, agent, spawn(steady))]), Ok(()));
        assert_eq!(after(vec![(9, Place::World, jump()), (10, agent, spawn(jumped))]), Ok(()));
        let stale = after(vec![(9, Place::World, jump()), (10, agent, spawn(steady))]);
        assert!(stale.is_err_and(|said| said.contains("admission of worker 7")));
    }

    #[test]
    fn a_jump_hurries_no_heartbeat() {
        let beat = |second| (second, Place::Agent(0), Fact::Heartbeats { probe: false });
        assert_eq!(after(vec![beat(5), (6, Place::World, jump()), beat(10)]), Ok(()));
        let hurried = after(vec![beat(5), (6, Place::World, jump()), beat(7)]);
        assert!(hurried.is_err_and(|said| said.contains("heartbeats at 5s and now")));
        let back = vec![beat(5), (6, Place::Agent(0), registers()), beat(10), beat(11), beat(16)];
        assert_eq!(after(back.clone()), Ok(()));
        let hurried = after(back.into_iter().chain([beat(18)]).collect());
        assert!(hurried.is_err_and(|said| said.contains("heartbeats at 16s and now")));
    }
}
