//! How one worker's processes behave: drawn when it is started, from who it is.

use std::time::Duration;

use arroyo_node::machine::{Exit, WorkerSpec};
use rand_chacha::ChaCha8Rng;

use crate::{
    plan::Temper,
    streams::{Stream, between, percent, stream_of},
};

/// The fate of one worker, as far as nobody interferes.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Behaviour {
    /// From the request to the running program, or the failure to run it.
    pub exec_after: Duration,
    /// Why the program cannot be run, if so.
    pub exec_error: Option<&'static str>,
    /// From the running program to the agent's knowledge of it.
    pub answer_after: Duration,
    /// When it ends by itself, after it began to run, and how.
    pub end: Option<(Duration, Exit)>,
    /// Whether it heeds SIGTERM.
    pub obeys: bool,
    /// From a signal that ends it to its end.
    pub dying: Duration,
    /// When it starts further processes, and how long those live if they end by themselves.
    pub children: Vec<(Duration, Option<Duration>)>,
    /// Whether they leave its session.
    pub escape: bool,
}

impl Behaviour {
    /// Draws the fate of a worker.
    pub(super) fn draw(
        seed: u64,
        temper: &Temper,
        agent: usize,
        spec: &WorkerSpec,
        nth: usize,
    ) -> Self {
        let who: [&dyn std::fmt::Display; 4] = [&agent, &spec.job, &spec.generation, &nth];
        let mut rng = stream_of(seed, Stream::Processes, &who);
        let rng = &mut rng;
        let slow = percent(rng, temper.exec_slow);
        let exec_after = hang(millis(rng, 1, if slow { 6_000 } else { 30 }));
        let exec_error = percent(rng, temper.exec_fails).then_some("No such file or directory");
        let answer_after = millis(rng, 1, 40);
        let at_once = percent(rng, temper.dies_at_once);
        let end = match percent(rng, temper.mortal) || at_once {
            false => None,
            true if at_once => Some((millis(rng, 0, 30), draw_exit(rng))),
            true => Some((millis(rng, 50, temper.life_ms), draw_exit(rng))),
        };
        let children = match percent(rng, temper.parents) {
            false => Vec::new(),
            true => (0..between(rng, 1, 4)).map(|_| draw_child(rng)).collect(),
        };
        Self {
            exec_after,
            exec_error,
            answer_after,
            end,
            obeys: !percent(rng, temper.stubborn),
            dying: match percent(rng, temper.slow_death) {
                // Stuck in the kernel.
                true => millis(rng, 20, 3_000),
                false => millis(rng, 0, 8),
            },
            children,
            escape: percent(rng, temper.escapes),
        }
    }
}

/// The slowest of the slow wait for a disk that hangs: longer than any caller does.
fn hang(exec_after: Duration) -> Duration {
    let factor = if exec_after > Duration::from_millis(5_500) { 4 } else { 1 };
    exec_after * factor
}

fn draw_child(rng: &mut ChaCha8Rng) -> (Duration, Option<Duration>) {
    let after = millis(rng, 0, 5_000);
    (after, percent(rng, 50).then(|| millis(rng, 10, 8_000)))
}

fn draw_exit(rng: &mut ChaCha8Rng) -> Exit {
    match between(rng, 0, 9) {
        0..5 => Exit::Code(0),
        5..8 => Exit::Code(1),
        _ => Exit::Signal(11),
    }
}

fn millis(rng: &mut ChaCha8Rng, low: u64, high: u64) -> Duration {
    Duration::from_millis(between(rng, low, high.max(low)))
}
