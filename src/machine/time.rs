//! Time as the machine sees it: two readings, handed in with every event.

use std::{
    fmt,
    ops::{Add, AddAssign},
    time::Duration,
};

/// A reading of the machine's (the computer's) monotonic clock: nanoseconds since it booted.
///
/// Only deadlines are made of it. It outlives the agent, not a reboot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// The time from `earlier` to this reading; zero if that lies in the future.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, duration: Duration) -> Mono {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Mono(self.0.saturating_add(nanos))
    }
}

impl AddAssign<Duration> for Mono {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl fmt::Debug for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

/// A reading of the wall clock: microseconds since the Unix epoch.
///
/// Only what people and controllers read is made of it: it may jump.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub u64);

impl Wall {
    /// Milliseconds since the Unix epoch, as heartbeats carry them.
    pub fn as_millis(self) -> u64 {
        self.0 / 1_000
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}µs", self.0)
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For deadlines.
    pub mono: Mono,
    /// For reports.
    pub wall: Wall,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_move_on_and_stop_at_their_end() {
        let mut at = Mono(1_500_000_000);
        at += Duration::from_millis(250);
        assert_eq!(at, Mono(1_750_000_000));
        assert_eq!(at.since(Mono(1_000_000_000)), Duration::from_millis(750));
        assert_eq!(Mono(1).since(at), Duration::ZERO);
        assert_eq!(at + Duration::MAX, Mono(u64::MAX));
        assert_eq!(Wall(2_999_999).as_millis(), 2_999);
    }

    #[test]
    fn readings_are_shown_with_their_units() {
        assert_eq!(format!("{:?}", Mono(1_750_000_000)), "1.75s");
        assert_eq!(format!("{:?}", Wall(17)), "17µs");
    }
}
