//! Counts calls, in bins of a tenth of a second, and whatever else is counted.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use arroyo_node::machine::Mono;
use serde::Serialize;

use super::world::DAWN;

/// Bins in a second.
pub(super) const BINS: usize = 10;
const BIN: Duration = Duration::from_millis(1_000 / BINS as u64);

/// A kind of call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An agent connects, or tries to.
    Connect,
    /// RegisterNode reaches the controller.
    Register,
    /// HeartbeatNode reaches the controller.
    Heartbeat,
    /// WorkerFinished reaches the controller.
    Report,
    /// StartWorker reaches a node.
    Start,
    /// StopWorker reaches a node.
    Stop,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Self::Connect, Self::Register, Self::Heartbeat, Self::Report, Self::Start, Self::Stop];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connections",
            Self::Register => "registrations",
            Self::Heartbeat => "heartbeats",
            Self::Report => "reports",
            Self::Start => "starts",
            Self::Stop => "stops",
        }
    }
}

/// The counts so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    bins: Vec<[u32; Kind::ALL.len()]>,
    pub(super) happenings: u64,
    /// Events that machines handled.
    pub(super) machine_events: u64,
    /// Workers that crashed.
    pub(super) crashes: u64,
    /// Reports that left an agent.
    pub(super) reports_sent: u64,
    /// Reports whose acknowledgement an agent has.
    pub(super) acknowledged: u64,
    /// The longest that a call waited for the controller's lock, since this was last taken.
    pub(super) longest_queue: Duration,
}

impl Tally {
    /// A call of this kind is made now.
    pub(super) fn count(&mut self, now: Mono, kind: Kind) {
        let bin = bin(now);
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, [0; Kind::ALL.len()]);
        }
        self.bins[bin][kind as usize] += 1;
    }

    /// How many calls there were from bin to bin.
    pub(super) fn total(&self, kind: Kind, bins: Range<usize>) -> u64 {
        self.of(kind, bins).map(u64::from).sum()
    }

    /// The most calls in any second that lies in these bins.
    pub(super) fn peak(&self, kind: Kind, bins: Range<usize>) -> u64 {
        let counts: Vec<u64> = self.of(kind, bins).map(u64::from).collect();
        let seconds = counts.windows(BINS.min(counts.len()).max(1));
        seconds.map(|second| second.iter().sum()).max().unwrap_or(0)
    }

    /// The counts of every kind, bin by bin.
    pub(super) fn rates(&self) -> BTreeMap<Kind, Vec<u32>> {
        let all = 0..self.bins.len();
        Kind::ALL.into_iter().map(|kind| (kind, self.of(kind, all.clone()).collect())).collect()
    }

    fn of(&self, kind: Kind, bins: Range<usize>) -> impl Iterator<Item = u32> {
        let end = bins.end.min(self.bins.len());
        self.bins[bins.start.min(end)..end].iter().map(move |bin| bin[kind as usize])
    }
}

/// The bin of a time.
pub(super) fn bin(at: Mono) -> usize {
    usize::try_from(at.since(DAWN).as_nanos() / BIN.as_nanos()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_the_fullest_second_wherever_it_begins() {
        let mut tally = Tally::default();
        // Ten a second for three seconds, and twenty more around the end of the second.
        for tenth in 0..30_u32 {
            tally.count(DAWN + BIN * tenth, Kind::Register);
        }
        for tenth in [18, 21] {
            (0..10).for_each(|_| tally.count(DAWN + BIN * tenth, Kind::Register));
        }
        assert_eq!(tally.total(Kind::Register, 0..30), 50);
        assert_eq!(tally.peak(Kind::Register, 0..30), 30);
        assert_eq!(tally.peak(Kind::Register, 0..20), 20);
        assert_eq!(tally.peak(Kind::Heartbeat, 0..30), 0);
        assert_eq!(tally.total(Kind::Register, 29..400), 1);
    }
}
