//! Every interleaving of small worlds: two workers, or two generations of one, in two rooms of
//! four slots, with a crash between any two effects and a lost answer. The search is in `model/`.
//!
//! `cargo test --release --test machine_search -- --ignored --nocapture` looks at larger ones, and
//! says how many states they have.

use arroyo_node::machine::StopHow;
use arroyo_node_model::search::{Budget, Request, Seen, Small};

const HALF: u8 = 4;
const ALL: u8 = 8;

fn look(name: &str, small: &Small) -> Seen {
    let start = std::time::Instant::now();
    let seen = small.search().unwrap_or_else(|broken| panic!("{name}: {broken}"));
    println!("{name}: {seen:?} in {:?}", start.elapsed());
    seen
}

/// One worker that is stopped, gently and by force, and another one beside it.
fn stops() -> Small {
    Small {
        requests: vec![
            Request::Start { job: 1, generation: 1, slots: HALF },
            Request::Start { job: 2, generation: 1, slots: HALF },
            Request::Stop(0, StopHow::Gentle),
            Request::Stop(0, StopHow::Force),
        ],
        budget: Budget { crashes: 1, lost_answers: 1, wakings: 1, ..Budget::default() },
        late_responses: false,
        heal_all: false,
    }
}

#[test]
fn stops_with_a_crash_and_a_lost_answer() {
    look("stops", &stops());
}
