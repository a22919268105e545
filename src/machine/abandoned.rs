//! Workers that the controller has forgotten: abandoned, and what becomes of them.
//!
//! ```text
//!  NOT_FOUND to a heartbeat ─▶ every live worker is abandoned, recorded
//!      │
//!      ├─ the controller restarted, certainly ─▶ SIGKILL ─▶ all gone, or 2 s later ─▶ RegisterNode
//!      └─ perhaps not ──▶ RegisterNode; they stay for `stop-after`, or until a start needs room
//!
//!  StopWorker names one ─▶ abandoned no longer
//! ```
//!
//! The books of a controller that has forgotten this node call all its slots free, and a stock
//! controller never comes back to the workers it started before. Left alone they would hold slots
//! for ever, and what their failing tasks say is taken for the job's new generation.

use std::time::Duration;

use super::{
    AbandonedPolicy, Machine, event::StartError, session::State, step::Step, time::Mono,
    timers::Timer, worker::Worker,
};
use crate::ids::WorkerId;

/// How long a stock controller remembers a node that is silent (arroyo-compat: "Nodes unheard for
/// 30 s expire"). If it forgets one sooner, it has been restarted.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// How long the registration waits for killed workers to be gone.
const CLEARING_WAIT: Duration = Duration::from_secs(2);

impl Machine {
    /// The controller has forgotten this node: so it has every worker that is alive.
    pub(super) fn abandon_workers(&mut self, step: &mut Step) {
        // Whoever asked for these starts has gone, or does not count on this node any more.
        self.refuse_all_waiting(&StartError::Forgotten, step);
        let ends_now = match self.config.abandoned {
            AbandonedPolicy::StopAfter(_) => self.controller_restarted(step.now.mono),
            AbandonedPolicy::End => true,
            AbandonedPolicy::Keep => false,
        };
        let live: Vec<WorkerId> = self.roster.live().map(|worker| worker.id).collect();
        for id in live {
            self.abandon(id, step);
            if ends_now {
                self.begin_stop(id, Some(step.now.mono), step);
            }
        }
        if ends_now && self.roster.abandoned().next().is_some() {
            self.enter(State::Clearing);
            self.timers.set(Timer::Register, step.now.mono + CLEARING_WAIT);
        } else {
            self.introduce(step);
        }
    }

    /// Whether the controller's process has certainly been replaced by another. One that goes on
    /// forgets a node only after half a minute of silence, and closes no connections.
    fn controller_restarted(&self, now: Mono) -> bool {
        let known = self.session.known_at();
        self.session.saw_close() || known.is_some_and(|at| now.since(at) < REMEMBERED_FOR)
    }

    fn abandon(&mut self, id: WorkerId, step: &mut Step) {
        if self.roster.get(id).is_some_and(|worker| worker.abandoned_at.is_none()) {
            let at = step.now.mono;
            self.amend(id, step, |worker| worker.abandoned_at = Some(at));
        }
        self.schedule_stop_of_abandoned(id);
    }

    /// Sets the time at which an abandoned worker is stopped, unless it is to be killed already.
    pub(super) fn schedule_stop_of_abandoned(&mut self, id: WorkerId) {
        let Some(worker) = self.roster.get(id) else { return };
        if let Some(at) = self.abandoned_until(worker) {
            self.timers.set(Timer::StopAbandoned(id), at);
        }
    }

    /// When the worker is stopped for being abandoned, if it is going to be.
    pub(super) fn abandoned_until(&self, worker: &Worker) -> Option<Mono> {
        let since = worker.abandoned_at.filter(|_| worker.is_live())?;
        let killed = worker.stop.is_some_and(|stop| stop.kill_at.is_some());
        match self.config.abandoned {
            _ if killed => None,
            AbandonedPolicy::StopAfter(time) => Some(since + time),
            AbandonedPolicy::End => Some(since),
            AbandonedPolicy::Keep => None,
        }
    }

    pub(super) fn stop_abandoned(&mut self, id: WorkerId, step: &mut Step) {
        self.begin_stop(id, Some(step.now.mono + self.config.kill_after), step);
    }

    /// A caller has named the worker: somebody knows it.
    pub(super) fn reclaim(&mut self, id: WorkerId, step: &mut Step) {
        if self.roster.get(id).is_some_and(|worker| worker.is_abandoned()) {
            self.timers.cancel(Timer::StopAbandoned(id));
            self.amend(id, step, |worker| worker.abandoned_at = None);
            self.register_when_possible(step);
        }
    }

    /// Registers if what that waited for has come about.
    pub(super) fn register_when_possible(&mut self, step: &mut Step) {
        match self.session.state() {
            State::Clearing if self.roster.abandoned().next().is_none() => self.introduce(step),
            State::Withheld if self.may_register() => self.register(false, step),
            State::Registered if self.session.is_unannounced() && self.may_register() => {
                self.register(true, step);
            }
            _ => {}
        }
    }

    /// Makes this node known to a controller that does not know it, if it may be known.
    pub(super) fn introduce(&mut self, step: &mut Step) {
        if self.may_register() {
            self.register(false, step);
        } else {
            self.stay_in_touch(State::Withheld, step);
        }
    }

    /// A node registers if it can run workers, and if the next agent would know which of its
    /// workers the controller does not count.
    pub(super) fn may_register(&self) -> bool {
        let forgettable =
            self.journal.error().is_some() && self.roster.abandoned().next().is_some();
        self.program_error.is_none() && !forgettable
    }
}
