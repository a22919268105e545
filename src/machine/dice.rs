//! The machine's randomness: one stream per purpose, so that a new use does not shift the others.

use std::time::Duration;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use crate::ids::WorkerId;

/// Where all of a machine's randomness comes from. Fresh entropy in production, so that no worker
/// id of an earlier agent comes up again; a number in a simulation.
pub type Seed = [u8; 32];

#[derive(Clone, Debug)]
pub(super) struct Dice {
    ids: ChaCha8Rng,
    heartbeats: ChaCha8Rng,
    registrations: ChaCha8Rng,
    reports: ChaCha8Rng,
    paces: ChaCha8Rng,
}

impl Dice {
    pub(super) fn new(seed: Seed) -> Self {
        let stream = |number| {
            let mut rng = ChaCha8Rng::from_seed(seed);
            rng.set_stream(number);
            rng
        };
        Self {
            ids: stream(1),
            heartbeats: stream(2),
            registrations: stream(3),
            reports: stream(4),
            paces: stream(5),
        }
    }

    /// A worker id that is not zero, which on the wire means "none".
    pub(super) fn worker_id(&mut self) -> WorkerId {
        loop {
            let id = self.ids.next_u64();
            if id != 0 {
                return WorkerId(id);
            }
        }
    }

    /// A time between `every - jitter` and `every + jitter`.
    pub(super) fn heartbeat(&mut self, every: Duration, jitter: Duration) -> Duration {
        let least = every.saturating_sub(jitter);
        least.saturating_add(up_to(&mut self.heartbeats, jitter.saturating_mul(2)))
    }

    /// A time between nothing and `every`, for agents that would otherwise beat together.
    pub(super) fn scattered_heartbeat(&mut self, every: Duration) -> Duration {
        up_to(&mut self.heartbeats, every)
    }

    /// Full jitter: a time between nothing and `bound`.
    pub(super) fn registration(&mut self, bound: Duration) -> Duration {
        up_to(&mut self.registrations, bound)
    }

    /// Full jitter: a time between nothing and `bound`.
    pub(super) fn report(&mut self, bound: Duration) -> Duration {
        up_to(&mut self.reports, bound)
    }

    /// Full jitter: a time between nothing and `bound`.
    pub(super) fn pace(&mut self, bound: Duration) -> Duration {
        up_to(&mut self.paces, bound)
    }
}

fn up_to(rng: &mut ChaCha8Rng, bound: Duration) -> Duration {
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    // The high half of the product is uniform enough for jitter: its bias is below 2⁻²⁰.
    let share = (u128::from(rng.next_u64()) * u128::from(nanos)) >> 64;
    Duration::from_nanos(u64::try_from(share).unwrap_or(nanos))
}
