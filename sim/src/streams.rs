//! Where a run's randomness comes from: one stream of the seed per consumer, so that a new use of
//! one does not shift what the others draw.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

/// Who draws.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Stream {
    /// Which kinds of trouble a run has at all.
    Swarm = 1,
    /// How many agents, how large, how fast the network.
    Shape = 2,
    /// Jobs and calls.
    Workload = 3,
    /// When which fault strikes.
    Faults = 4,
    /// The seeds of agents' machines.
    Machines = 5,
    /// The simulated network's own dice.
    Network = 6,
    /// What the operating system gives for entropy.
    Entropy = 7,
    /// How worker processes behave.
    Processes = 8,
    /// When workers tell that their peers have vanished.
    Peers = 9,
}

/// The stream of a consumer.
pub fn stream(seed: u64, consumer: Stream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(consumer as u64);
    rng
}

/// A stream for one of many things of the same kind, told apart by what it is rather than by when
/// it came about: dropping a fault from a plan leaves the fate of other things as it was.
pub fn stream_of(seed: u64, consumer: Stream, what: &[&dyn std::fmt::Display]) -> ChaCha8Rng {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in what {
        for byte in part.to_string().bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ hash);
    rng.set_stream(consumer as u64);
    rng
}

/// A number below `bound`; zero if that is zero.
pub fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    u64::try_from((u128::from(rng.next_u64()) * u128::from(bound)) >> 64).unwrap_or(0)
}

/// A number from `low` to `high`, both included.
pub fn between(rng: &mut ChaCha8Rng, low: u64, high: u64) -> u64 {
    low + below(rng, high.saturating_sub(low) + 1)
}

/// True this many times out of a hundred.
pub fn percent(rng: &mut ChaCha8Rng, chance: u64) -> bool {
    below(rng, 100) < chance
}
