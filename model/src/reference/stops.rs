//! StopWorker, and every other reason for which a worker is told to end.

use std::time::Duration;

use arroyo_node::{
    ids::{RequestId, WorkerId},
    machine::{AbandonedPolicy, Mono, Reply, Signal, Stop, StopHow, StopStatus},
};

use super::{Reference, Worker};

/// How long after a SIGKILL that could not be sent the next one comes.
const KILL_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How much longer than for the SIGKILL a forced stop waits for its outcome.
const FORCED_MARGIN: Duration = Duration::from_secs(2);

/// Who waits for a worker's end and its acknowledgement.
#[derive(Clone, Debug)]
pub(super) struct StopCaller {
    request: RequestId,
    worker: WorkerId,
    pub(super) until: Mono,
}

impl Reference {
    pub(super) fn asked_to_stop(&mut self, request: RequestId, id: WorkerId, how: StopHow) {
        if let Some(index) = self.position(id).filter(|index| self.workers[*index].is_live()) {
            // Somebody knows it.
            self.workers[index].abandoned_at = None;
        }
        let known = self.position(id).map(|index| &self.workers[index]);
        let reply = match known {
            None => Some(StopStatus::NotFound),
            Some(worker) if how == StopHow::Ask || worker.telling.is_acknowledged() => {
                Some(status(worker))
            }
            Some(_) => None,
        };
        if let Some(reply) = reply {
            return self.owed.replies.push((request, Reply::Stopped(reply)));
        }
        let kill_at = (how == StopHow::Force).then(|| self.now.mono + self.config.kill_after);
        self.tell_to_end(id, kill_at);
        let wait = match how {
            StopHow::Force => self.config.kill_after + FORCED_MARGIN,
            StopHow::Gentle | StopHow::Ask => self.config.reply_wait,
        };
        let until = self.now.mono + wait;
        self.stop_callers.push(StopCaller { request, worker: id, until });
    }

    /// The only way to a signal. Of several times to kill it, the earliest stands.
    pub(super) fn tell_to_end(&mut self, id: WorkerId, kill_at: Option<Mono>) {
        let Some(index) = self.position(id).filter(|index| self.workers[*index].is_live()) else {
            return;
        };
        let before = self.workers[index].stop.and_then(|stop| stop.kill_at);
        let kill_at = before.into_iter().chain(kill_at).min();
        self.workers[index].stop = Some(Stop { kill_at });
        self.press(index);
    }

    /// When an abandoned worker is told to end, unless it is to be killed anyway.
    pub(super) fn abandoned_until(&self, worker: &Worker) -> Option<Mono> {
        let since = worker.abandoned_at.filter(|_| worker.is_live())?;
        match self.config.abandoned {
            _ if worker.stop.is_some_and(|stop| stop.kill_at.is_some()) => None,
            AbandonedPolicy::StopAfter(time) => Some(since + time),
            AbandonedPolicy::End => Some(since),
            AbandonedPolicy::Keep => None,
        }
    }

    pub(super) fn stop_abandoned(&mut self) {
        let now = self.now.mono;
        let over = |worker: &&Worker| self.abandoned_until(worker).is_some_and(|at| at <= now);
        let over: Vec<_> = self.workers.iter().filter(over).map(|worker| worker.id).collect();
        for id in over {
            self.tell_to_end(id, Some(now + self.config.kill_after));
        }
    }

    pub(super) fn tell_all_to_end(&mut self, kill_at: Mono) {
        let live: Vec<_> = self.workers.iter().filter(|w| w.is_live()).map(|w| w.id).collect();
        for id in live {
            self.tell_to_end(id, Some(kill_at));
        }
    }

    /// Sends what the worker's stop demands by now, unless that has been sent.
    pub(super) fn press(&mut self, index: usize) {
        let (now, worker) = (self.now.mono, &mut self.workers[index]);
        let Some(stop) = worker.stop.filter(|_| worker.is_live()) else { return };
        if worker.process.is_none() || !worker.found {
            return;
        }
        let due = stop.kill_at.is_some_and(|at| at <= now);
        let signal = if due { Signal::Kill } else { Signal::Terminate };
        if worker.signalled < Some(signal) {
            worker.signalled = Some(signal);
            self.owed.signals.push((worker.id, signal));
        }
    }

    pub(super) fn kill_what_is_due(&mut self) {
        for index in 0..self.workers.len() {
            if self.workers[index].kill_due().is_some_and(|at| at <= self.now.mono) {
                self.press(index);
            }
        }
    }

    pub(super) fn signal_failed(&mut self, id: WorkerId) {
        let Some(index) = self.position(id).filter(|index| self.workers[*index].is_live()) else {
            return;
        };
        let worker = &mut self.workers[index];
        if worker.signalled.take() == Some(Signal::Kill) {
            worker.kill_again_at = self.now.mono + KILL_AGAIN_AFTER;
        }
        self.answer_stops(|caller| (caller.worker == id).then_some(StopStatus::Failed));
    }

    /// Whose worker is gone, and the controller knows; or never was.
    pub(super) fn answer_settled_stops(&mut self) {
        let waited_for = |worker: &Worker| !worker.telling.is_acknowledged();
        let waited_for = self.workers.iter().filter(|worker| waited_for(worker));
        let waited_for: Vec<_> = waited_for.map(|worker| worker.id).collect();
        let workers = self.workers.clone();
        self.answer_stops(|caller| {
            (!waited_for.contains(&caller.worker)).then(|| outcome(&workers, caller.worker))
        });
    }

    pub(super) fn answer_late_stops(&mut self) {
        let (now, workers) = (self.now.mono, self.workers.clone());
        self.answer_stops(|caller| (caller.until <= now).then(|| outcome(&workers, caller.worker)));
    }

    fn answer_stops(&mut self, answer: impl Fn(&StopCaller) -> Option<StopStatus>) {
        for caller in std::mem::take(&mut self.stop_callers) {
            match answer(&caller) {
                Some(status) => {
                    self.owed.replies.push((caller.request, Reply::Stopped(status)));
                }
                None => self.stop_callers.push(caller),
            }
        }
    }
}

impl Worker {
    /// When this worker must be sent SIGKILL, if it must and can be.
    pub(super) fn kill_due(&self) -> Option<Mono> {
        let at = self.stop?.kill_at?.max(self.kill_again_at);
        let can_be = self.is_live() && self.process.is_some() && self.found;
        (can_be && self.signalled < Some(Signal::Kill)).then_some(at)
    }
}

fn status(worker: &Worker) -> StopStatus {
    match worker.end {
        None => StopStatus::Stopping,
        Some(end) => StopStatus::Stopped {
            exit: Some(end.exit),
            acknowledged: worker.telling.is_acknowledged(),
        },
    }
}

/// Where the stop of a worker stands that may never have come to be one.
fn outcome(workers: &[Worker], id: WorkerId) -> StopStatus {
    let gone = StopStatus::Stopped { exit: None, acknowledged: true };
    workers.iter().find(|worker| worker.id == id).map_or(gone, status)
}
