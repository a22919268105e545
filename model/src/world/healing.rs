//! When faults stop: within a minute everything is in order (P11).

use std::time::Duration;

use super::{World, processes::State};

const HEALING: Duration = Duration::from_secs(60);

impl World {
    /// Ends every fault, lets a minute pass, and looks whether all is well.
    pub fn heal(&mut self) {
        self.journal.works = true;
        self.signals_work = true;
        self.doom = None;
        self.set_program(true);
        self.turn();
        let end = self.now.mono + HEALING;
        while self.now.mono < end && self.promises.broken.is_none() {
            self.calm_down();
            let next = self.machine.next_timeout().map_or(end, |(at, _)| at.min(end));
            self.pass(next.since(self.now.mono));
        }
        self.calm_down();
        self.all_is_well();
    }

    /// Everything submitted is answered, and well, at once.
    fn calm_down(&mut self) {
        while self.promises.broken.is_none() && !(self.pending.is_empty() && self.inbox.is_empty())
        {
            self.answer_all();
            self.turn();
        }
    }

    fn all_is_well(&mut self) {
        let view = self.machine.view();
        let promises = &mut self.promises;
        promises.expect(view.registered, || "P11: not registered".into());
        promises.expect(self.controller.knows_node, || "P11: the controller knows no node".into());
        let owed = view.reports_owed;
        promises.expect(owed == 0, || format!("P11: {owed} reports owed"));
        promises.expect(view.journal_error.is_none(), || "P11: the journal is down".into());
        promises.expect(self.journal.agrees_with(&view), || "P11: the journal is wrong".into());
        let unanswered = &self.callers;
        promises.expect(unanswered.is_empty(), || format!("P11: {unanswered:?} unanswered"));
        for (id, proc) in self.processes.iter() {
            let worker = view.workers.get(id);
            let known_alive = worker
                .is_some_and(|worker| worker.is_live() && worker.process == Some(proc.process));
            match proc.state {
                State::Alive => promises.expect(known_alive, || format!("P7: {id} left behind")),
                State::Gone(_) => {
                    let reported = self.controller.received.contains_key(&id);
                    promises.expect(reported, || format!("P4: the end of {id} is not reported"));
                    promises.expect(!known_alive, || format!("P11: {id} is gone"));
                    promises.expect(!proc.kept, || format!("the exit of {id} is kept for ever"));
                }
                State::Launching => promises.expect(false, || format!("P11: {id} hangs")),
            }
        }
        let alive = self.processes.alive().len();
        promises.expect(view.live_workers == alive, || {
            format!("P11: {} live workers, {alive} processes", view.live_workers)
        });
    }
}
