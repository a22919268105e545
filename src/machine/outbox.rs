//! Owed reports: each is sent until it is acknowledged, oldest first, a bounded number at a time,
//! with a backoff of its own, so that one that is refused does not hold up the others. Once one has
//! failed they go one at a time, with a backoff that all share, until one is acknowledged: a
//! controller that refuses all of a thousand reports is not called a thousand times a second.
//!
//! ```text
//!            ┌────────────── failed: backoff ──────────────┐
//!            ▼                                             │
//!  owed ─▶ waiting ─▶ due, and in touch ───▶ in flight ────┴─▶ acknowledged: recorded, gone
//! ```
//!
//! A report does not leave before the StartWorker that named its worker has been answered; should
//! that answer hang, only for [`HOLD_MOST`].

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    time::Duration,
};

use super::{Machine, effect::Effect, event::CallError, step::Step, time::Mono, timers::Timer};
use crate::ids::{RequestId, WorkerId};

/// How long a report is held back for the answer of its StartWorker to be delivered.
const HOLD_MOST: Duration = Duration::from_secs(5);

/// How often a report may fail that each new connection is a reason to send.
const HURRIED_MOST: u32 = 3;

/// The order in which workers ended.
type Sequence = u64;

#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    owed: BTreeMap<WorkerId, Owed>,
    waiting: BTreeSet<(Mono, Sequence, WorkerId)>,
    in_flight: usize,
    next: Sequence,
    /// Failures since a report was last acknowledged, of whichever reports. While there are some,
    /// one report at a time is sent, and none before `paused_until`.
    refusals: u32,
    paused_until: Mono,
    /// How many pauses there have been.
    pauses: u64,
}

#[derive(Clone, Debug)]
struct Owed {
    sequence: Sequence,
    failures: u32,
    /// When it may be sent; `None`: it is on its way.
    due: Option<Mono>,
    /// How many pauses there had been when it was sent.
    sent_after: u64,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.owed.len()
    }

    pub(super) fn contains(&self, id: WorkerId) -> bool {
        self.owed.contains_key(&id)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The number of reports that wait to be sent.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// The number of reports that count as on their way, counted anew.
    pub(super) fn recount_in_flight(&self) -> usize {
        self.owed.values().filter(|owed| owed.due.is_none()).count()
    }

    fn insert(&mut self, id: WorkerId, due: Mono) {
        let sequence = self.next;
        self.next += 1;
        self.owed.insert(id, Owed { sequence, failures: 0, due: Some(due), sent_after: 0 });
        self.waiting.insert((due, sequence, id));
    }

    /// When the next report may go; `None`: none waits, or enough are under way.
    pub(super) fn next_due(&self, in_flight: NonZeroUsize) -> Option<Mono> {
        let most = if self.refusals > 0 { 1 } else { in_flight.get() };
        let (due, ..) = self.waiting.first()?;
        (self.in_flight < most).then(|| self.paused_until.max(*due))
    }

    fn send_next(&mut self) -> Option<WorkerId> {
        let (_, _, id) = self.waiting.pop_first()?;
        let owed = self.owed.get_mut(&id)?;
        (owed.due, owed.sent_after) = (None, self.pauses);
        self.in_flight += 1;
        Some(id)
    }

    /// Gives a waiting report another time.
    fn move_to(&mut self, id: WorkerId, due: Mono) {
        let Some(owed) = self.owed.get_mut(&id) else { return };
        let Some(before) = owed.due else { return };
        owed.due = Some(due);
        self.waiting.remove(&(before, owed.sequence, id));
        self.waiting.insert((due, owed.sequence, id));
    }

    /// Takes back a report that is on its way; returns how often it has failed by now.
    fn take_back(&mut self, id: WorkerId) -> Option<u32> {
        let owed = self.owed.get_mut(&id).filter(|owed| owed.due.is_none())?;
        self.in_flight -= 1;
        owed.failures = owed.failures.saturating_add(1);
        owed.due = Some(Mono(u64::MAX));
        self.waiting.insert((Mono(u64::MAX), owed.sequence, id));
        Some(owed.failures)
    }

    fn remove(&mut self, id: WorkerId) -> bool {
        let Some(owed) = self.owed.remove(&id) else { return false };
        match owed.due {
            Some(due) => {
                self.waiting.remove(&(due, owed.sequence, id));
            }
            None => self.in_flight -= 1,
        }
        true
    }

    /// Those that wait, and how often each has failed.
    fn waiting(&self) -> Vec<(WorkerId, u32)> {
        let failures = |id| self.owed.get(id).map_or(0, |owed| owed.failures);
        self.waiting.iter().map(|(_, _, id)| (*id, failures(id))).collect()
    }

    /// A report has failed: the next one waits for as long as `draw` says for this many failures
    /// in a row. Those that were under way together count once.
    fn pause(&mut self, id: WorkerId, now: Mono, draw: impl FnOnce(u32) -> Duration) {
        if self.owed.get(&id).is_some_and(|owed| owed.sent_after == self.pauses) {
            self.pauses += 1;
            self.refusals = self.refusals.saturating_add(1);
            self.paused_until = now + draw(self.refusals);
        }
    }

    /// The controller takes reports.
    fn resume(&mut self) {
        (self.refusals, self.paused_until) = (0, Mono::default());
    }

    fn forgive(&mut self, id: WorkerId) {
        if let Some(owed) = self.owed.get_mut(&id) {
            owed.failures = 0;
        }
    }
}

impl Machine {
    pub(super) fn owe_report(&mut self, id: WorkerId, step: &mut Step) {
        let held = self.undelivered.values().any(|worker| *worker == id);
        let hold = if held { HOLD_MOST } else { Duration::ZERO };
        self.outbox.insert(id, step.now.mono + hold);
        if let Some(report) = self.roster.get(id).and_then(|worker| self.report(worker)) {
            step.effect(Effect::Announce(report));
        }
        self.send_reports(step);
    }

    /// A reply has been delivered, or its caller has gone.
    pub(super) fn handle_delivered(&mut self, request: RequestId, step: &mut Step) {
        let Some(id) = self.undelivered.remove(&request) else { return };
        let held = self.undelivered.values().any(|worker| *worker == id);
        if !held {
            self.outbox.move_to(id, step.now.mono);
            self.send_reports(step);
        }
    }

    /// Sends what is due, if there is a controller to send it to.
    pub(super) fn send_reports(&mut self, step: &mut Step) {
        self.timers.cancel(Timer::Report);
        if !self.session.is_in_touch() {
            return;
        }
        while let Some(due) = self.outbox.next_due(self.config.reports_in_flight) {
            if due > step.now.mono {
                return self.timers.set(Timer::Report, due);
            }
            if !self.session.is_connected() {
                return self.probe(step);
            }
            let Some(id) = self.outbox.send_next() else { return };
            let report = self.roster.get(id).and_then(|worker| self.report(worker));
            if let Some(report) = report {
                step.effect(Effect::Report(report));
            }
        }
    }

    /// The controller is there: what waits for its backoff need not wait any longer. If it has just returned,
    /// that goes for all, and none has ever failed; else what has failed too often may be what
    /// costs each connection.
    pub(super) fn hurry_reports(&mut self, returns: bool, step: &mut Step) {
        if returns {
            self.outbox.resume();
        }
        for (id, failures) in self.outbox.waiting() {
            if self.undelivered.values().any(|worker| *worker == id) {
                continue;
            }
            if returns {
                self.outbox.forgive(id);
            }
            if returns || failures < HURRIED_MOST {
                self.outbox.move_to(id, step.now.mono);
            }
        }
        self.send_reports(step);
    }

    pub(super) fn handle_report_answered(
        &mut self,
        id: WorkerId,
        result: Result<(), CallError>,
        step: &mut Step,
    ) {
        match result {
            Ok(()) => self.settle_report(id, step),
            Err(_) => {
                if let Some(failures) = self.outbox.take_back(id) {
                    let (now, backoff) = (step.now.mono, self.config.backoff);
                    let wait = self.dice.report(backoff.bound(failures));
                    self.outbox.move_to(id, now + wait);
                    self.outbox.pause(id, now, |refusals| self.dice.pace(backoff.bound(refusals)));
                }
            }
        }
        self.send_reports(step);
    }

    fn settle_report(&mut self, id: WorkerId, step: &mut Step) {
        if !self.outbox.remove(id) {
            return;
        }
        self.outbox.resume();
        self.heard_controller(step);
        let at = step.now.wall;
        self.amend(id, step, |worker| worker.reported_at = Some(at));
        self.answer_stops(id, step);
        self.retire(id, step);
        self.finish_when_done(step);
    }
}
