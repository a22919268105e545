//! The production clock: the kernel's, and tokio's timer.

use std::{future::Future, pin::Pin, time::SystemTime};

use nix::time::{ClockId, clock_gettime};

use super::ports::Clock;
use crate::machine::{Mono, Now, Wall};

/// Reads `CLOCK_MONOTONIC`, whose zero is the machine's boot, so that a deadline in the journal
/// still means the same to the next agent.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { mono: monotonic(), wall: Wall(u64::try_from(wall.as_micros()).unwrap_or(u64::MAX)) }
    }

    fn sleep_until(&self, deadline: Mono) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(deadline.since(monotonic())))
    }
}

fn monotonic() -> Mono {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    let (seconds, nanos) = (time.tv_sec().unsigned_abs(), time.tv_nsec().unsigned_abs());
    Mono(seconds * 1_000_000_000 + nanos)
}
