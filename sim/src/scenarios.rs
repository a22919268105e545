//! Regressions as small plans of their own, each with its story. A seed that once failed draws
//! another plan as soon as the drawing changes; a scenario stays what it is.

use crate::plan::{AgentPlan, ControllerPlan, Deed, Fault, Plan, Temper, TimedDeed};

/// A name, and the plan that it stands for.
pub type Scenario = (&'static str, fn() -> Plan);

/// Every scenario.
pub const ALL: &[Scenario] = &[
    ("nothing-happens", nothing_happens),
    ("journal-lost-then-shim-lost", journal_lost_then_shim_lost),
];

/// The scenario of this name.
pub fn named(name: &str) -> Option<Plan> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, plan)| plan())
}

/// One agent and one job, in peace: what every other scenario starts from.
pub fn nothing_happens() -> Plan {
    Plan {
        seed: 1,
        tick_ms: 10,
        trouble_ms: 40_000,
        latency_ms: (1, 5),
        agents: vec![AgentPlan {
            slots: 4,
            shim: true,
            pids: 40,
            pids_at_once: false,
            checkpoint_every: 20,
            fence_after_ms: None,
            retain_ms: 600_000,
            drift_ppm: 0,
        }],
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
        kinds: Vec::new(),
        deeds: vec![TimedDeed {
            at_ms: 1_000,
            deed: Deed::Submit { job: "job".into(), slots: 2, old_dialect: false },
        }],
        canary: false,
    }
}

/// The journal is damaged while the agent is down, so the next agent begins with an empty one and
/// takes the worker over from the shim. Then the shim dies, and then the agent. The worker had no
/// row in the new journal, since nothing about it had changed, and the new shim had never heard of
/// it: it went on running, and nobody knew. Now a worker that only the shim knew is written down
/// first of all.
pub fn journal_lost_then_shim_lost() -> Plan {
    let mut plan = nothing_happens();
    let faults = [
        (5_000, Fault::Damage { agent: 0, ms: 500 }),
        (12_000, Fault::KillShim { agent: 0 }),
        (12_010, Fault::Kill { agent: 0, ms: 500 }),
    ];
    plan.deeds.extend(faults.map(|(at_ms, fault)| TimedDeed { at_ms, deed: Deed::Fault(fault) }));
    plan
}
