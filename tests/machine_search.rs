//! Every interleaving of small worlds, each with kills of the agent between any two effects. The
//! search and what it checks are in `model/src/search.rs`.
//!
//! The agent has eight slots; a worker takes four, or all. Small enough for every `cargo test` are
//! worlds with one fault besides a kill. Larger ones, with figures:
//!
//! ```sh
//! cargo test --release --test machine_search -- --ignored --nocapture
//! ```

use std::time::Instant;

use arroyo_node::machine::StopHow;
use arroyo_node_model::search::{Budget, Request, Small};

const HALF: u8 = 4;
const ALL: u8 = 8;

fn look(world: &str, small: &Small) {
    let start = Instant::now();
    match small.search() {
        Ok(seen) => println!("{world}: {seen} in {:.1?}", start.elapsed()),
        Err(broken) => panic!("{world}: {broken}"),
    }
}

const NOTHING: Budget = Budget::NONE;

/// Two workers; one is stopped, gently, by force, or both.
fn stops(budget: Budget) -> Small {
    let requests = vec![
        Request::Start { job: 1, generation: 1, slots: HALF },
        Request::Stop(0, StopHow::Gentle),
        Request::Stop(0, StopHow::Force),
        Request::Start { job: 2, generation: 1, slots: HALF },
    ];
    Small { requests, budget, late_responses: false, heal_all: false }
}

/// A newer generation of a job, and the same one again.
fn generations(budget: Budget) -> Small {
    let requests = vec![
        Request::Start { job: 1, generation: 1, slots: ALL },
        Request::Start { job: 1, generation: 1, slots: HALF },
        Request::Start { job: 1, generation: 2, slots: ALL },
    ];
    Small { requests, budget, late_responses: false, heal_all: false }
}

/// A start that its caller repeats, with answers that leave late.
fn repeats(budget: Budget) -> Small {
    let requests = vec![Request::Start { job: 1, generation: 1, slots: HALF }, Request::Repeat(0)];
    Small { requests, budget, late_responses: true, heal_all: true }
}

/// A worker that ends by itself, and its report.
fn ends(budget: Budget) -> Small {
    let requests = vec![Request::Start { job: 1, generation: 1, slots: ALL }, Request::Drain];
    Small { requests, budget, late_responses: false, heal_all: true }
}

#[test]
fn stops_with_a_kill() {
    let mut small = stops(Budget { crashes: 1, wakings: 2, ..NOTHING });
    small.requests.truncate(3);
    look("stops", &small);
}

#[test]
fn two_workers_with_a_kill_and_a_lost_answer() {
    let mut small = stops(Budget { crashes: 1, lost_answers: 1, ..NOTHING });
    small.requests.remove(1);
    look("two workers", &small);
}

#[test]
fn stops_whose_signals_fail() {
    let mut small = stops(Budget { failing_signals: 1, wakings: 3, ..NOTHING });
    small.requests.truncate(3);
    look("signals", &small);
}

#[test]
fn generations_with_a_kill() {
    look("generations", &generations(Budget { crashes: 1, wakings: 1, ..NOTHING }));
}

#[test]
fn repeats_with_a_kill_and_a_failed_spawn() {
    look("repeats", &repeats(Budget { crashes: 1, failures: 1, exits: 1, ..NOTHING }));
}

#[test]
fn ends_with_a_reboot_and_a_lost_answer() {
    let budget = Budget { crashes: 1, reboots: 1, lost_answers: 1, exits: 1, ..NOTHING };
    look("ends", &ends(budget));
}

#[test]
fn ends_with_a_kill_and_a_journal_that_fails() {
    let budget = Budget { crashes: 1, failing_commits: 1, exits: 1, wakings: 2, ..NOTHING };
    look("journal", &Small { heal_all: false, ..ends(budget) });
}

#[test]
fn heartbeats_to_a_controller_that_forgets() {
    let budget = Budget { lost_answers: 1, forgets: 1, exits: 1, wakings: 2, ..NOTHING };
    let mut small = ends(budget);
    small.requests.truncate(1);
    look("heartbeats", &small);
}

/// A worker, and a start of another job that needs its slots once the controller has forgotten it.
fn forgotten(budget: Budget) -> Small {
    let requests = vec![
        Request::Start { job: 1, generation: 1, slots: HALF },
        Request::Start { job: 2, generation: 1, slots: ALL },
    ];
    Small { requests, budget, late_responses: false, heal_all: false }
}

#[test]
fn a_controller_that_restarts_and_a_kill() {
    look("restarts", &forgotten(Budget { crashes: 1, restarts: 1, ..NOTHING }));
}

#[test]
fn a_controller_that_forgets_and_timers() {
    look("forgets", &forgotten(Budget { forgets: 1, wakings: 2, ..NOTHING }));
}

#[test]
fn a_controller_that_restarts_and_a_journal_that_fails() {
    let budget = Budget { restarts: 1, crashes: 1, failing_commits: 1, wakings: 1, ..NOTHING };
    let mut small = forgotten(budget);
    small.requests.truncate(1);
    look("restarts without a journal", &small);
}

#[test]
#[ignore = "minutes"]
fn large_stops() {
    let budget = Budget { crashes: 1, lost_answers: 1, wakings: 1, ..NOTHING };
    look("large stops", &stops(budget));
}

#[test]
#[ignore = "minutes"]
fn large_generations() {
    let budget = Budget { crashes: 1, lost_answers: 1, wakings: 1, exits: 1, ..NOTHING };
    look("large generations", &generations(budget));
}

#[test]
#[ignore = "minutes"]
fn large_ends_with_two_kills() {
    let budget = Budget {
        crashes: 2,
        reboots: 1,
        lost_answers: 1,
        failing_commits: 1,
        exits: 1,
        wakings: 2,
        ..NOTHING
    };
    look("large ends", &ends(budget));
}
