//! What the machine waits for, as an enum, and the table that says until when.

use std::collections::{BTreeMap, BTreeSet};

use super::time::Mono;
use crate::ids::{RequestId, WorkerId};

/// Everything that happens by itself when its time comes. At most one of each is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// A worker that was told to end, by force, is killed.
    Kill(WorkerId),
    /// A StopWorker is answered, whatever has been reached.
    AnswerStop(WorkerId, RequestId),
    /// A StartWorker that waits for superseded workers gives up.
    AbandonStart(RequestId),
    /// A StartWorker whose program does not run gives up.
    AbandonSpawn(WorkerId),
    /// The next attempt to reach the controller.
    Probe,
    /// RegisterNode waits no longer for abandoned workers to end.
    Register,
    /// An abandoned worker is stopped.
    StopAbandoned(WorkerId),
    /// The next heartbeat.
    Heartbeat,
    /// The first owed report whose backoff is over.
    Report,
    /// No controller for too long.
    Fence,
    /// The oldest reported worker is forgotten.
    Forget,
    /// The next attempt to write the journal.
    Rewrite,
    /// A shutdown ends, whatever has been reached.
    GiveUp,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    set: BTreeMap<Timer, Mono>,
    order: BTreeSet<(Mono, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Mono) {
        self.cancel(timer);
        self.set.insert(timer, at);
        self.order.insert((at, timer));
    }

    /// Sets it unless it is already set to an earlier time.
    pub(super) fn set_earlier(&mut self, timer: Timer, at: Mono) {
        if self.get(timer).is_none_or(|set| at < set) {
            self.set(timer, at);
        }
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.set.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Mono> {
        self.set.get(&timer).copied()
    }

    /// Everything that is set, in no particular order of time.
    pub(super) fn iter(&self) -> impl Iterator<Item = Timer> {
        self.set.keys().copied()
    }

    pub(super) fn next(&self) -> Option<(Mono, Timer)> {
        self.order.first().copied()
    }

    /// Takes out the first timer whose time has come.
    pub(super) fn expire(&mut self, now: Mono) -> Option<Timer> {
        let (at, timer) = self.next()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}
