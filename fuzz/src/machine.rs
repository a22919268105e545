//! Any bytes, as a scenario: what happens to an agent, and in which order. The machine and the
//! reference model agree on all that comes of it, and every promise is kept.

use arroyo_node_model::{run, scenario::Scenario};

/// Reads `bytes` as a scenario and runs it.
pub fn machine(bytes: &[u8]) {
    let scenario = Scenario::read(bytes);
    if let Err(broken) = run(&scenario) {
        panic!("{broken}\n{scenario:?}");
    }
}
