//! The machine tier: the node state machine beside a reference model, in a world small enough to
//! be tried millions of times.
//!
//! ```text
//!   proptest             libFuzzer              search
//!   tests/machine_       fuzz/src/machine.rs    tests/machine_search.rs
//!   properties           (bytes)                (every interleaving)
//!      └────── Scenario ──────┴───────┐            │
//!                                     ▼            ▼
//!                                   World: Machine ∥ Reference
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`mod@reference`] | what an agent owes, stated without the machine's data structures |
//! | [`world`] | callers, controller, processes, journal and clocks around the machine |
//! | [`scenario`] | what can happen, as data |
//! | [`search`] | every interleaving of small worlds |
//!
//! It is a crate of its own, so that the property tests of `arroyo-node`, its fuzz targets and
//! whoever else wants to can use the same code, and no part of it gets into the agent.

pub mod reference;
pub mod scenario;
pub mod search;
pub mod world;

use scenario::Scenario;
use world::{Trace, World};

/// Runs a scenario, heals the world, and looks at it all along.
///
/// # Errors
/// The first promise that was not kept, with the end of the trace that led to it.
pub fn run(scenario: &Scenario) -> Result<(), String> {
    match play(scenario, World::new(&scenario.settings)) {
        Ok(_) => Ok(()),
        // Once more, since nobody took notes.
        Err(broken) => Err(trace(scenario).err().unwrap_or(broken)),
    }
}

/// The same; returns all that went in and came out.
///
/// # Errors
/// As [`run`].
pub fn trace(scenario: &Scenario) -> Result<Trace, String> {
    play(scenario, World::traced(&scenario.settings)).map(World::into_trace)
}

fn play(scenario: &Scenario, mut world: World) -> Result<World, String> {
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
