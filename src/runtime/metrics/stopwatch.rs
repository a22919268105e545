//! Times between two things that the driver shows separately. Tokio's clock is read, so that a
//! simulation's times are those of the simulation.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::ids::{RequestId, WorkerId};

/// What is being timed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Lap {
    /// A StartWorker, until its answer.
    Start(RequestId),
    /// A worker that was signalled, until its end.
    Stop(WorkerId),
    /// A registration.
    Register,
    /// A heartbeat.
    Heartbeat,
    /// A report.
    Report(WorkerId),
}

/// What has begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Stopwatch(BTreeMap<Lap, Instant>);

impl Stopwatch {
    /// Begins, unless it has begun before.
    pub(super) fn begin(&mut self, lap: Lap) {
        self.0.entry(lap).or_insert_with(Instant::now);
    }

    /// The time since the beginning, if there was one.
    pub(super) fn end(&mut self, lap: Lap) -> Option<Duration> {
        Some(self.0.remove(&lap)?.elapsed())
    }
}
