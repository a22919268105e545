//! StopWorker: gentle, forced, repeated, asked about; and the escalation from SIGTERM to SIGKILL.
//!
//! A stop is recorded with the time of its SIGKILL before the first signal leaves, so that an agent
//! that restarts goes on stopping by the same deadline. Of several deadlines the earliest wins.

use std::time::Duration;

use super::{
    Machine,
    effect::{Effect, Signal},
    event::{Reply, StopHow, StopStatus},
    step::Step,
    time::Mono,
    timers::Timer,
    worker::{Stop, Worker},
};
use crate::ids::{RequestId, WorkerId};

/// How long to wait before a SIGKILL that could not be sent is tried again.
const KILL_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How much longer than the SIGKILL takes to come a forced StopWorker waits for the end and its
/// acknowledgement. A stock controller holds no lock meanwhile, and counts its rounds of stops.
const FORCED_REPLY_MARGIN: Duration = Duration::from_secs(2);

impl Machine {
    pub(super) fn handle_stop(
        &mut self,
        request: RequestId,
        id: WorkerId,
        how: StopHow,
        step: &mut Step,
    ) {
        self.reclaim(id, step);
        let Some(worker) = self.roster.get(id) else {
            return step.reply(request, Reply::Stopped(StopStatus::NotFound));
        };
        let settled = worker.reported_at.is_some();
        if how == StopHow::Ask || settled {
            return step.reply(request, Reply::Stopped(status(worker)));
        }
        if worker.is_live() {
            let kill_at = (how == StopHow::Force).then(|| step.now.mono + self.config.kill_after);
            self.begin_stop(id, kill_at, step);
        }
        let wait = match how {
            StopHow::Force => self.config.kill_after + FORCED_REPLY_MARGIN,
            StopHow::Gentle | StopHow::Ask => self.config.reply_wait,
        };
        self.stop_callers.insert((id, request));
        self.timers.set(Timer::AnswerStop(id, request), step.now.mono + wait);
    }

    /// Tells a live worker to end: SIGTERM now, SIGKILL at `kill_at` if that is set.
    pub(super) fn begin_stop(&mut self, id: WorkerId, kill_at: Option<Mono>, step: &mut Step) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.is_live()) else { return };
        let earlier = worker.stop.and_then(|stop| stop.kill_at);
        let kill_at = earlier.into_iter().chain(kill_at).min();
        if worker.stop != Some(Stop { kill_at }) {
            self.amend(id, step, |worker| worker.stop = Some(Stop { kill_at }));
        }
        if kill_at.is_some() {
            self.timers.cancel(Timer::StopAbandoned(id));
        }
        self.resume_stop(id, step);
    }

    /// Does what the worker's recorded stop demands now. Safe to repeat.
    pub(super) fn resume_stop(&mut self, id: WorkerId, step: &mut Step) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.is_live()) else { return };
        let Some(Stop { kill_at }) = worker.stop else { return };
        if worker.process.is_none() || self.adopting.contains(&id) {
            // Starting, or not adopted yet: the signal follows when there is a process.
            return;
        }
        match kill_at {
            Some(at) if at <= step.now.mono => self.signal(id, Signal::Kill, step),
            Some(at) => {
                self.timers.set(Timer::Kill(id), at);
                self.signal(id, Signal::Terminate, step);
            }
            None => self.signal(id, Signal::Terminate, step),
        }
    }

    /// Whether it has been sent the signal that no process survives.
    pub(super) fn is_dying(&self, worker: &Worker) -> bool {
        self.signalled.get(&worker.id) == Some(&Signal::Kill)
    }

    /// Sends each signal once, unless it failed.
    fn signal(&mut self, id: WorkerId, signal: Signal, step: &mut Step) {
        if self.signalled.get(&id).is_some_and(|sent| *sent >= signal) {
            return;
        }
        self.signalled.insert(id, signal);
        if signal == Signal::Kill {
            self.timers.cancel(Timer::Kill(id));
        }
        step.effect(Effect::Signal { worker: id, signal });
    }

    pub(super) fn handle_signal_failed(&mut self, id: WorkerId, step: &mut Step) {
        if !self.roster.get(id).is_some_and(|worker| worker.is_live()) {
            // It ended before the signal came: its callers wait for the acknowledgement.
            return;
        }
        if self.signalled.remove(&id) == Some(Signal::Kill) {
            self.timers.set(Timer::Kill(id), step.now.mono + KILL_AGAIN_AFTER);
        }
        for request in self.take_stop_callers(id) {
            step.reply(request, Reply::Stopped(StopStatus::Failed));
        }
    }

    /// The worker is gone, or never was: nothing is left to signal.
    pub(super) fn settle_stop(&mut self, id: WorkerId) {
        self.signalled.remove(&id);
        self.timers.cancel(Timer::Kill(id));
        self.timers.cancel(Timer::StopAbandoned(id));
    }

    /// Answers everyone who waits for the worker's end.
    pub(super) fn answer_stops(&mut self, id: WorkerId, step: &mut Step) {
        let status = self.stop_status(id);
        for request in self.take_stop_callers(id) {
            step.reply(request, Reply::Stopped(status));
        }
    }

    /// Where the stop of a worker stands that once was known.
    fn stop_status(&self, id: WorkerId) -> StopStatus {
        let gone = StopStatus::Stopped { exit: None, acknowledged: true };
        self.roster.get(id).map_or(gone, |worker| status(worker))
    }

    fn take_stop_callers(&mut self, id: WorkerId) -> Vec<RequestId> {
        let range = (id, RequestId(0))..=(id, RequestId(u64::MAX));
        let callers: Vec<_> = self.stop_callers.range(range).copied().collect();
        for caller in &callers {
            self.stop_callers.remove(caller);
            self.timers.cancel(Timer::AnswerStop(caller.0, caller.1));
        }
        callers.into_iter().map(|(_, request)| request).collect()
    }

    /// The caller has waited long enough.
    pub(super) fn answer_stop_late(&mut self, id: WorkerId, request: RequestId, step: &mut Step) {
        if self.stop_callers.remove(&(id, request)) {
            let status = self.stop_status(id);
            step.reply(request, Reply::Stopped(status));
        }
    }
}

fn status(worker: &Worker) -> StopStatus {
    match worker.end {
        None => StopStatus::Stopping,
        Some(end) => {
            StopStatus::Stopped { exit: Some(end.exit), acknowledged: worker.reported_at.is_some() }
        }
    }
}
