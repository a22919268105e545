//! WorkerFinished: owed from the end of a worker until it is acknowledged; then the worker is only
//! remembered for a while.

use std::time::Duration;

use arroyo_node::{
    ids::{RequestId, WorkerId},
    machine::{End, Exit, Mono, Report},
};

use super::{Reference, Window, Worker};

/// How long a report may be held back for the answer to its StartWorker to leave.
const HOLD_MOST: Duration = Duration::from_secs(5);

/// How far the controller has been told of a worker's end.
#[derive(Clone, Debug)]
pub(super) enum Telling {
    /// There is nothing to tell.
    Nothing,
    /// It is to be told, after so many failures, in this time.
    Due { failures: u32, window: Window },
    /// It is being told; this was the how manieth pause before it was sent.
    UnderWay { failures: u32, after: u64 },
    /// It knows.
    Acknowledged { forget_at: Mono },
}

/// How fast the controller is told, as long as it takes nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// Failures since it last took something; such as were under way together are one.
    refusals: u32,
    pauses: u64,
    /// Nothing is told before.
    until: Window,
}

impl Telling {
    pub(super) fn is_acknowledged(&self) -> bool {
        matches!(self, Telling::Acknowledged { .. })
    }

    fn is_due(&self) -> bool {
        matches!(self, Telling::Due { .. })
    }

    fn is_under_way(&self) -> bool {
        matches!(self, Telling::UnderWay { .. })
    }
}

impl Reference {
    /// The worker and everything it started is gone.
    pub(super) fn ended(&mut self, id: WorkerId, exit: Exit) {
        let Some(index) = self.position(id).filter(|index| self.workers[*index].is_live()) else {
            return;
        };
        self.ends += 1;
        let end = End { exit, at: self.now.wall, sequence: self.ends };
        self.workers[index].end = Some(end);
        // It was started, though it ended before that could be said.
        self.answer_callers(index);
        self.owe_report(index);
    }

    pub(super) fn owe_report(&mut self, index: usize) {
        let at = match self.is_held(self.workers[index].id) {
            true => self.now.mono + HOLD_MOST,
            false => self.now.mono,
        };
        self.workers[index].telling =
            Telling::Due { failures: 0, window: Window { from: at, by: at } };
        self.owed.announcements.extend(self.report(&self.workers[index]));
    }

    /// Whether an answer that names the worker has yet to leave.
    fn is_held(&self, id: WorkerId) -> bool {
        self.undelivered.iter().any(|(_, worker)| *worker == id)
    }

    pub(super) fn delivered(&mut self, request: RequestId) {
        let Some(index) = self.undelivered.iter().position(|(it, _)| *it == request) else {
            return;
        };
        let (_, id) = self.undelivered.remove(index);
        let now = Window { from: self.now.mono, by: self.now.mono };
        if let Some(index) = self.position(id).filter(|_| !self.is_held(id))
            && let Telling::Due { window, .. } = &mut self.workers[index].telling
        {
            *window = now;
        }
    }

    /// The controller is there: whatever waits only for a backoff can go. To one that has stayed, not what it
    /// has failed to take three times.
    pub(super) fn hurry_reports(&mut self, stayed: bool) {
        if !stayed {
            self.take_up_pace();
        }
        let window = Window { from: self.now.mono, by: self.now.mono };
        for index in 0..self.workers.len() {
            let free = !self.is_held(self.workers[index].id);
            match self.workers[index].telling {
                Telling::Due { .. } if free && !stayed => {
                    self.workers[index].telling = Telling::Due { failures: 0, window };
                }
                Telling::Due { failures: failures @ ..3, .. } if free => {
                    self.workers[index].telling = Telling::Due { failures, window };
                }
                _ => {}
            }
        }
    }

    pub(super) fn sees_report(&mut self, report: &Report) -> Result<(), String> {
        let room = self.has_room();
        let position = self.position(report.worker);
        let worker = position.map(|index| &self.workers[index]);
        let meant = worker.and_then(|worker| self.report(worker));
        let earlier = worker.and_then(|worker| self.older_report(worker));
        if let Some(earlier) = earlier {
            return Err(format!(
                "{} ended after {earlier}, which is to be told first",
                report.worker
            ));
        }
        let room = room && self.session.is_connected() && self.pace.until.from <= self.now.mono;
        match worker.map(|worker| &worker.telling) {
            Some(Telling::Due { failures, window })
                if room && window.from <= self.now.mono && meant.as_ref() == Some(report) =>
            {
                let telling = Telling::UnderWay { failures: *failures, after: self.pace.pauses };
                self.workers[position.expect("it is listed")].telling = telling;
                Ok(())
            }
            _ => Err(format!("P4, P5: {report:?} must not be sent; meant: {meant:?}, {worker:?}")),
        }
    }

    fn has_room(&self) -> bool {
        let under_way = self.workers.iter().filter(|worker| worker.telling.is_under_way()).count();
        let most = if self.pace.refusals > 0 { 1 } else { self.config.reports_in_flight.get() };
        self.session.is_in_touch() && under_way < most
    }

    /// Another worker whose end came earlier, and is to be told at the same time.
    fn older_report(&self, worker: &Worker) -> Option<WorkerId> {
        let exact = |worker: &Worker| match worker.telling {
            Telling::Due { window, .. } if window.from == window.by => Some(window.by),
            _ => None,
        };
        let order = |worker: &Worker| (exact(worker), worker.end.map(|end| end.sequence));
        exact(worker)?;
        let earlier = |other: &&Worker| exact(other).is_some() && order(other) < order(worker);
        self.workers.iter().find(earlier).map(|other| other.id)
    }

    /// Whether a report could be told now, if there were a connection.
    pub(super) fn could_report(&self) -> bool {
        let now = self.now.mono;
        let due = |worker: &Worker| match worker.telling {
            Telling::Due { window, .. } => window.from <= now,
            _ => false,
        };
        self.has_room() && self.pace.until.from <= now && self.workers.iter().any(due)
    }

    fn take_up_pace(&mut self) {
        self.pace = Pace { pauses: self.pace.pauses, ..Pace::default() };
    }

    pub(super) fn report_answered(&mut self, id: WorkerId, acknowledged: bool) {
        let Some(index) = self.position(id) else { return };
        match (&self.workers[index].telling, acknowledged) {
            (Telling::Due { .. } | Telling::UnderWay { .. }, true) => {
                self.take_up_pace();
                self.heard_controller();
                self.remember(index);
            }
            (Telling::UnderWay { failures, after }, false) => {
                let (failures, after) = (failures + 1, *after);
                let (from, by) = (self.now.mono, self.now.mono + self.backoff(failures));
                let window = Window { from, by };
                self.workers[index].telling = Telling::Due { failures, window };
                if after == self.pace.pauses {
                    let (refusals, pauses) = (self.pace.refusals + 1, after + 1);
                    let by = self.now.mono + self.backoff(refusals);
                    let until = Window { from: self.now.mono, by };
                    self.pace = Pace { refusals, pauses, until };
                }
            }
            _ => {}
        }
    }

    /// A report that could go and does not.
    pub(super) fn idle_report(&self) -> Option<WorkerId> {
        let now = self.now.mono;
        let due = |worker: &&Worker| match worker.telling {
            Telling::Due { window, .. } => window.by <= now,
            _ => false,
        };
        let free = self.has_room() && self.pace.until.by <= now && !self.over;
        self.workers.iter().find(due).filter(|_| free).map(|it| it.id)
    }

    pub(super) fn reports_due(&self) -> impl Iterator<Item = Mono> {
        let room = self.has_room();
        self.workers.iter().filter(move |_| room).filter_map(|worker| match worker.telling {
            Telling::Due { window, .. } => Some(window.by.max(self.pace.until.by)),
            _ => None,
        })
    }

    pub(super) fn reports_owed(&self) -> usize {
        let owed = |worker: &&Worker| worker.telling.is_due() || worker.telling.is_under_way();
        self.workers.iter().filter(owed).count()
    }

    fn report(&self, worker: &Worker) -> Option<Report> {
        let end = worker.end?;
        Some(Report {
            machine: self.config.machine.clone(),
            worker: worker.id,
            job: worker.spec.job.clone(),
            pipeline: worker.spec.pipeline.clone(),
            generation: worker.spec.generation,
            slots: worker.spec.slots.get(),
            exit: end.exit,
            ended_at: end.at,
            dialect: worker.spec.dialect,
        })
    }

    /// From now on the worker is only a memory.
    pub(super) fn remember(&mut self, index: usize) {
        let forget_at = self.now.mono + self.config.retain_for;
        self.workers[index].telling = Telling::Acknowledged { forget_at };
    }

    fn remembered(&self) -> impl Iterator<Item = (Mono, WorkerId)> {
        self.workers.iter().filter_map(|worker| match worker.telling {
            Telling::Acknowledged { forget_at } => Some((forget_at, worker.id)),
            _ => None,
        })
    }

    pub(super) fn forgetting_due(&self) -> Option<Mono> {
        let too_many = self.remembered().count() > self.config.retain_most;
        let first = self.remembered().map(|(at, _)| at).min();
        if too_many { Some(Mono(0)) } else { first }
    }

    /// What was never anything may go at once; a memory when its time has come, or when there are
    /// too many, the oldest first.
    pub(super) fn sees_discard(&mut self, id: WorkerId) -> Result<(), String> {
        if super::take(&mut self.owed.discards, |owed| *owed == id) {
            return Ok(());
        }
        let first = self.remembered().map(|(at, _)| at).min();
        let too_many = self.remembered().count() > self.config.retain_most;
        let at = self.remembered().find(|(_, known)| *known == id).map(|(at, _)| at);
        if at.is_none_or(|at| at > self.now.mono && !(too_many && Some(at) == first)) {
            return Err(format!("P4: {id} must not be forgotten"));
        }
        self.workers.retain(|worker| worker.id != id);
        Ok(())
    }
}
