//! The end of a worker: recorded, its slots free, its report owed.

use super::{
    Machine,
    effect::{Effect, Report},
    step::Step,
    worker::{End, Exit, Worker},
};
use crate::ids::WorkerId;

impl Machine {
    pub(super) fn handle_exited(&mut self, id: WorkerId, exit: Exit, step: &mut Step) {
        if !self.roster.get(id).is_some_and(|worker| worker.is_live()) {
            return;
        }
        self.adopting.remove(&id);
        self.ends += 1;
        let end = End { exit, at: step.now.wall, sequence: self.ends };
        self.amend(id, step, |worker| worker.end = Some(end));
        // A worker that ends before its start is answered was started all the same.
        self.answer_callers(id, step);
        self.settle_stop(id);
        self.register_when_possible(step);
        if self.journal.error().is_none() {
            step.effect(Effect::Release(id));
        }
        self.owe_report(id, step);
        self.admit_waiting(step);
        self.shorten_shutdown(step);
    }

    /// What the controller is told of a worker that ended.
    pub(super) fn report(&self, worker: &Worker) -> Option<Report> {
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
}
