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

impl Machine {
    pub(super) fn handle_stop(
        &mut self,
        request: RequestId,
        id: WorkerId,
        how: StopHow,
        step: &mut Step,
    ) {
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
        self.stop_callers.insert((id, request));
        self.timers.set(Timer::AnswerStop(id, request), step.now.mono + self.config.reply_wait);
    }

    /// Tells a live worker to end: SIGTERM now, SIGKILL at `kill_at` if that is set.
    pub(super) fn begin_stop(&mut self, id: WorkerId, kill_at: Option<Mono>, step: &mut Step) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.is_live()) else { return };
        let earlier = worker.stop.and_then(|stop| stop.kill_at);
        let kill_at = earlier.into_iter().chain(kill_at).min();
        if worker.stop != Some(Stop { kill_at }) {
            self.amend(id, step, |worker| worker.stop = Some(Stop { kill_at }));
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
    }

    /// Answers everyone who waits for the worker's end.
    pub(super) fn answer_stops(&mut self, id: WorkerId, step: &mut Step) {
        for request in self.take_stop_callers(id) {
            step.reply(request, Reply::Stopped(StopStatus::Stopped));
        }
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
            let status = self.roster.get(id).map_or(StopStatus::Stopped, |worker| status(worker));
            step.reply(request, Reply::Stopped(status));
        }
    }
}

fn status(worker: &Worker) -> StopStatus {
    if worker.is_live() { StopStatus::Stopping } else { StopStatus::Stopped }
}
