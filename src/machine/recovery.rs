//! The first event: what earlier agents left is looked after before anything new happens.

use std::sync::Arc;

use super::{
    Machine,
    effect::Effect,
    event::StartError,
    record::Record,
    step::Step,
    worker::{Exit, Process, Worker},
};
use crate::ids::WorkerId;

impl Machine {
    pub(super) fn handle_begin(&mut self, step: &mut Step) {
        self.postpone_fence(step);
        let recovered = self.roster.workers();
        let mut ended: Vec<_> = recovered.iter().filter(|worker| !worker.is_live()).collect();
        // What is owed goes out in the order in which it came about.
        ended.sort_by_key(|worker| worker.end.map(|end| end.sequence));
        for worker in ended {
            self.rewrite_if_lost(worker, step);
            self.resume_ended(worker, step);
        }
        for worker in recovered.iter().filter(|worker| worker.is_live()) {
            self.rewrite_if_lost(worker, step);
            if self.lost.contains(&worker.id) {
                self.handle_exited(worker.id, Exit::Lost, step);
            } else {
                self.adopting.insert(worker.id);
                self.schedule_stop_of_abandoned(worker.id);
                step.effect(Effect::Adopt { worker: worker.id, process: worker.process });
            }
        }
        self.lost.clear();
        self.begun = true;
        self.probe(step);
    }

    /// Records a worker that only the shim knows: that may die as well.
    fn rewrite_if_lost(&mut self, worker: &Arc<Worker>, step: &mut Step) {
        if self.unwritten.remove(&worker.id) {
            self.record(Record::Worker(worker.clone()), step);
        }
    }

    fn resume_ended(&mut self, worker: &Worker, step: &mut Step) {
        // The agent may have died between recording the end and releasing the exit status.
        step.effect(Effect::Release(worker.id));
        if worker.is_owed() {
            self.owe_report(worker.id, step);
        } else {
            self.retire(worker.id, step);
        }
    }

    pub(super) fn handle_adopted(&mut self, id: WorkerId, process: Process, step: &mut Step) {
        if !self.adopting.remove(&id) {
            return;
        }
        let known = self.roster.get(id).and_then(|worker| worker.process);
        if known != Some(process) {
            self.amend(id, step, |worker| worker.process = Some(process));
        }
        self.answer_callers(id, step);
        self.resume_stop(id, step);
    }

    pub(super) fn handle_never_ran(&mut self, id: WorkerId, step: &mut Step) {
        if self.adopting.remove(&id) {
            self.drop_unborn(id, StartError::NeverRan, step);
        }
    }
}
