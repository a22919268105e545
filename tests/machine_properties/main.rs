//! The promises of an agent, checked from the outside on sequences of events that proptest makes up.
//!
//! ```text
//!  actions ─▶ world: callers, controller, processes, journal, clocks ─▶ events ─▶ machine
//!               ▲                                                                   │
//!               └──────────────── driver: commit, then effects ◀────────────────────┘
//!                                      │
//!                                promises: what must never happen, what must have happened
//! ```
//!
//! The world is pure and small: no tasks, no sockets, no files. Everything that can go wrong goes
//! wrong when an action says so: commits fail, the agent is killed between any two effects,
//! answers get lost after they took effect, programs do not start, signals do not arrive, clocks
//! jump. At the end all faults stop, and within a minute everything must be in order.
//!
//! `PROPTEST_CASES=100000 cargo test --release --test machine_properties` looks longer. What fails
//! is kept in `proptest-regressions/` and tried first from then on.

#![expect(unreachable_pub, reason = "here `pub` says what a file offers to the others")]

mod actions;
mod controller;
mod journal;
mod processes;
mod promises;
mod signalling;
mod trace;
mod world;

use actions::{Action, Scenario, scenarios};
use proptest::{
    prelude::*,
    test_runner::{Config as ProptestConfig, FileFailurePersistence},
};
use world::World;

fn cases(default: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = default;
    }
    config.failure_persistence =
        Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/machine.txt")));
    config.max_shrink_iters = 20_000;
    config
}

/// Runs a scenario, heals the world, and returns it for a look at its trace.
fn run(scenario: &Scenario) -> Result<World, TestCaseError> {
    let mut world = World::new(&scenario.settings);
    for step in &scenario.steps {
        world.act(&step.action);
        if step.turn {
            world.turn();
        }
        world.verdict()?;
    }
    world.heal();
    world.verdict()?;
    Ok(world)
}

proptest! {
    #![proptest_config(cases(1_200))]

    /// P1 to P5, P7 to P13 as far as a machine alone can break them, and its own invariants.
    #[test]
    fn promises_hold_whatever_happens(scenario in scenarios()) {
        run(&scenario)?;
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// P14: the same inputs give the same effects.
    #[test]
    fn the_same_inputs_give_the_same_effects(scenario in scenarios()) {
        prop_assert_eq!(run(&scenario)?.trace, run(&scenario)?.trace);
    }

    /// P13: what the wall clock does shows in reports, and nowhere else.
    #[test]
    fn wall_clock_jumps_change_nothing_but_times(mut scenario in scenarios()) {
        let jumping = run(&scenario)?.trace.without_wall_times();
        scenario.steps.iter_mut().for_each(|step| {
            if let Action::JumpWall(seconds) = &mut step.action {
                *seconds = 0;
            }
        });
        prop_assert_eq!(jumping, run(&scenario)?.trace.without_wall_times());
    }
}
