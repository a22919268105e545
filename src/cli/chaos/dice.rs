//! What is left to chance, all of it from one seed: one stream per consumer, so that what one draws
//! does not shift the others.

use std::time::Duration;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

/// One consumer's stream.
#[derive(Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// One of the numbers below this one, which is not zero.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        let share = (u128::from(self.0.next_u64()) * u128::from(end)) >> 64;
        u64::try_from(share).expect("it is less than the end")
    }

    /// True this often of a hundred times.
    pub(super) fn percent(&mut self, often: u64) -> bool {
        self.below(100) < often
    }

    /// A time between these two numbers of milliseconds, the second not included.
    pub(super) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from) + Duration::from_micros(self.below((to - from) * 1_000))
    }

    /// One of these; of none, none.
    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = self.below(of.len().max(1) as u64);
        of.get(usize::try_from(index).ok()?)
    }

    /// One of these, each as often as its weight says.
    pub(super) fn weighted<T: Copy>(&mut self, of: &[(u64, T)]) -> T {
        let mut left = self.below(of.iter().map(|(weight, _)| weight).sum());
        for (weight, one) in of {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return *one,
            }
        }
        unreachable!("the number drawn is below the sum of the weights")
    }
}
