//! Small plans of their own, each with its story: regressions, and what stock's controller does to
//! its nodes. A seed that once failed draws another plan as soon as the drawing changes; a scenario
//! stays what it is. It keeps every promise like any run, and its trace must tell its story: else it
//! shows nothing any more.

mod disk;
mod forgotten;
mod quirks;
mod regressions;
mod story;

use crate::{
    fact::Entry,
    plan::{AgentPlan, ControllerPlan, Deed, Plan, Temper, TimedDeed},
};
use story::Story;

/// A plan with a name.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name.
    pub name: &'static str,
    /// What happens.
    pub plan: fn() -> Plan,
    story: fn(Story<'_>) -> Result<(), String>,
}

/// Every scenario.
pub const ALL: &[Scenario] = &[
    Scenario { name: "nothing-happens", plan: nothing_happens, story: nothing_to_tell },
    regressions::JOURNAL_LOST_THEN_SHIM_LOST,
    regressions::OWED_REPORT_LOST_WITH_THE_JOURNAL,
    quirks::LOCK_HELD_DURING_START,
    quirks::STOPS_THAT_BAIL,
    quirks::REGISTRATION_THAT_CHANGES_NOTHING,
    forgotten::HEARTBEAT_NOT_FOUND,
    forgotten::EMPTY_BOOKS,
    forgotten::PAUSED,
    forgotten::ABANDONED_OVER_A_RESTART,
    forgotten::SAME_RUN_AGAIN,
    quirks::RESTART_BEFORE_EXPIRY,
    quirks::NEWER_GENERATION_ON_A_FULL_NODE,
    disk::DISK_HANGS,
];

/// The scenario of this name.
pub fn named(name: &str) -> Option<Scenario> {
    ALL.iter().find(|scenario| scenario.name == name).copied()
}

impl Scenario {
    /// Whether this trace tells its story.
    ///
    /// # Errors
    /// Something is missing from it: what.
    pub fn check(&self, trace: &[Entry]) -> Result<(), String> {
        (self.story)(Story::of(trace))
    }
}

fn nothing_to_tell(_: Story<'_>) -> Result<(), String> {
    Ok(())
}

/// One agent and one job, in peace: what every other scenario starts from.
pub fn nothing_happens() -> Plan {
    Plan {
        seed: 1,
        tick_ms: 10,
        trouble_ms: 40_000,
        latency_ms: (1, 5),
        agents: vec![agent(4)],
        controller: ControllerPlan { hold_lock: true, call_deadline_ms: None },
        temper: Temper {
            exec_fails: 0,
            exec_slow: 0,
            dies_at_once: 0,
            mortal: 0,
            life_ms: 0,
            stubborn: 0,
            parents: 0,
            escapes: 0,
            slow_death: 0,
        },
        peers_tell: false,
        kinds: Vec::new(),
        deeds: vec![at(1_000, submit("job", 2))],
        canary: false,
    }
}

fn agent(slots: u64) -> AgentPlan {
    AgentPlan {
        slots,
        shim: true,
        pids: 40,
        pids_at_once: false,
        checkpoint_every: 20,
        fence_after_ms: None,
        retain_ms: 600_000,
        drift_ppm: 0,
    }
}

fn at(at_ms: u64, deed: Deed) -> TimedDeed {
    TimedDeed { at_ms, deed }
}

fn submit(job: &str, slots: u64) -> Deed {
    Deed::Submit { job: job.into(), slots, old_dialect: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_story_is_told_by_an_empty_trace() {
        let idle: Vec<_> = ALL.iter().filter(|scenario| scenario.check(&[]).is_ok()).collect();
        let names: Vec<_> = idle.iter().map(|scenario| scenario.name).collect();
        // A regression without a story is told by its promises alone.
        let untold =
            ["nothing-happens", "journal-lost-then-shim-lost", "owed-report-lost-with-the-journal"];
        assert_eq!(names, untold);
    }
}
