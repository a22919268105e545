//! Workers whose end is reported are remembered for a while, for people and for late StopWorkers,
//! then forgotten: by age, and by number.

use super::{Machine, effect::Effect, record::Record, step::Step, timers::Timer};
use crate::ids::WorkerId;

impl Machine {
    /// From now on the worker is only a memory.
    pub(super) fn retire(&mut self, id: WorkerId, step: &mut Step) {
        self.retired.push_back((step.now.mono + self.config.retain_for, id));
        while self.retired.len() > self.config.retain_most {
            self.forget_oldest(step);
        }
        self.schedule_forgetting();
    }

    pub(super) fn forget_expired(&mut self, step: &mut Step) {
        while self.retired.front().is_some_and(|(until, _)| *until <= step.now.mono) {
            self.forget_oldest(step);
        }
        self.schedule_forgetting();
    }

    fn forget_oldest(&mut self, step: &mut Step) {
        if let Some((_, id)) = self.retired.pop_front() {
            self.forget(id, step);
        }
    }

    fn schedule_forgetting(&mut self) {
        match self.retired.front() {
            Some((until, _)) => self.timers.set(Timer::Forget, *until),
            None => self.timers.cancel(Timer::Forget),
        }
    }

    pub(super) fn forget(&mut self, id: WorkerId, step: &mut Step) {
        if let Some(worker) = self.roster.remove(id) {
            if !worker.is_live() {
                self.journal.remember_unreleased(id);
            }
            self.record(Record::Forget(id), step);
            step.effect(Effect::Discard(id));
        }
    }
}
