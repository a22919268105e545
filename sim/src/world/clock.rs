//! The clocks of one simulated machine: a monotonic one that starts at its boot, and a wall clock
//! that drifts and can be made to jump.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use arroyo_node::{
    machine::{Mono, Now, Wall},
    runtime::ports::Clock,
};

/// When every wall clock would be right at the start: in microseconds since the Unix epoch.
const EPOCH: i64 = 1_700_000_000_000_000;
/// How long a machine has been up when it starts its agent: `Mono(0)` is never now.
const BOOT_TAKES: Duration = Duration::from_secs(5);

/// One machine's clocks. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct SimClock(Arc<State>);

#[derive(Debug)]
struct State {
    booted_at: AtomicU64,
    off_by_ms: AtomicI64,
    drift_ppm: i64,
}

impl SimClock {
    /// Clocks of a machine that boots at the start of the simulation.
    pub(super) fn new(drift_ppm: i64) -> Self {
        let (booted_at, off_by_ms) = (AtomicU64::new(0), AtomicI64::new(0));
        Self(Arc::new(State { booted_at, off_by_ms, drift_ppm }))
    }

    /// The wall clock jumps by so many milliseconds.
    pub(super) fn jump(&self, by_ms: i64) {
        self.0.off_by_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// The machine boots anew.
    pub(super) fn boot(&self, now: Duration) {
        self.0.booted_at.store(nanos(now), Ordering::Relaxed);
    }

    /// Both readings at this simulated time.
    pub(super) fn at(&self, now: Duration) -> Now {
        let up = nanos(now).saturating_sub(self.0.booted_at.load(Ordering::Relaxed));
        let mono = Mono(up) + BOOT_TAKES;
        let off_by_ms = self.0.off_by_ms.load(Ordering::Relaxed);
        Now { mono, wall: wall_clock_at(now, self.0.drift_ppm, off_by_ms) }
    }
}

/// What a wall clock shows at this simulated time, which drifts so much and has jumped by so much
/// in all.
pub(crate) fn wall_clock_at(now: Duration, drift_ppm: i64, off_by_ms: i64) -> Wall {
    let passed = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    let drift = passed / 1_000_000 * drift_ppm;
    Wall(u64::try_from(EPOCH + passed + drift + off_by_ms * 1_000).unwrap_or(0))
}

impl Clock for SimClock {
    fn now(&self) -> Now {
        self.at(turmoil::sim_elapsed().expect("agents and controllers run on simulated hosts"))
    }

    fn sleep_until(&self, deadline: Mono) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(deadline.since(self.now().mono)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
