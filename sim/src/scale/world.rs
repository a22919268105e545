//! What nodes and controller have in common: the time, the network, and who counts.

use std::time::Duration;

use arroyo_node::machine::{Mono, Now, Wall};
use rand_chacha::ChaCha8Rng;

use super::{
    agenda::{Agenda, Happening},
    ledger::Ledger,
    network::Network,
    settings::{Planted, Settings},
    tally::Tally,
};
use crate::streams::{Stream, between, stream};

/// When the simulation begins, on everybody's monotonic clock.
pub(super) const DAWN: Mono = Mono(1_000_000_000_000);
/// The same on everybody's wall clock, in microseconds.
const WALL: u64 = 1_750_000_000_000_000;

/// The surroundings of whatever happens.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) now: Mono,
    pub(super) network: Network,
    pub(super) tally: Tally,
    pub(super) ledger: Ledger,
    pub(super) planted: Option<Planted>,
    agenda: Agenda,
    processes: ChaCha8Rng,
}

impl World {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            seed: settings.seed,
            now: DAWN,
            network: Network::new(settings),
            tally: Tally::default(),
            ledger: Ledger::default(),
            planted: settings.planted,
            agenda: Agenda::default(),
            processes: stream(settings.seed, Stream::Processes),
        }
    }

    /// Both clocks.
    pub(super) fn reading(&self) -> Now {
        let passed = self.now.since(DAWN).as_micros();
        Now { mono: self.now, wall: Wall(WALL + u64::try_from(passed).unwrap_or(u64::MAX / 2)) }
    }

    /// This is going to happen.
    pub(super) fn at(&mut self, at: Mono, what: Happening) {
        self.agenda.enter(at.max(self.now), what);
    }

    /// This is going to happen after so long.
    pub(super) fn after(&mut self, wait: Duration, what: Happening) {
        self.agenda.enter(self.now + wait, what);
    }

    /// This is going to happen once so many messages have gone their way, one after the other.
    pub(super) fn after_legs(&mut self, legs: u32, what: Happening) {
        let wait = (0..legs).map(|_| self.network.leg()).sum();
        self.after(wait, what);
    }

    /// Time passes to what happens next, if that is no later than `until`; otherwise to `until`.
    pub(super) fn pass(&mut self, until: Mono) -> Option<Happening> {
        let Some((at, what)) = self.agenda.next(until) else {
            self.now = until;
            return None;
        };
        self.now = at;
        self.tally.happenings += 1;
        Some(what)
    }

    /// A time that a process takes for something.
    pub(super) fn process_takes(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        let micros = between(&mut self.processes, least_ms * 1_000, most_ms * 1_000);
        Duration::from_micros(micros)
    }
}
