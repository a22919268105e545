//! What must never be seen from outside, whatever machine and reference model agree on: here they
//! are held against processes, rows and the controller as these really are. Each method is told of
//! something that was seen, and complains.

use std::collections::BTreeSet;

use arroyo_node::{
    ids::WorkerId,
    machine::{Ask, Config, Exit, Launch, Reply, Report, StopStatus, View},
};

use super::{
    journal::Journal,
    processes::{Proc, Processes, State},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Promises {
    pub(super) broken: Option<String>,
    spawned: BTreeSet<WorkerId>,
    /// Acknowledgements that the agent was told of, and those of them that are in the journal.
    acknowledged: BTreeSet<WorkerId>,
    settled: BTreeSet<WorkerId>,
    /// Workers that ran, or were about to, when the controller lost its memory, and that nobody has
    /// named since.
    forgotten: BTreeSet<WorkerId>,
    pub(super) rebooted: bool,
}

impl Promises {
    pub(super) fn expect(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.broken.get_or_insert_with(complaint);
        }
    }

    /// What was promised, and held or not.
    pub(super) fn hold(&mut self, result: Result<(), String>) {
        if let Err(complaint) = result {
            self.broken.get_or_insert(complaint);
        }
    }

    pub(super) fn sees_spawn(
        &mut self,
        launch: &Launch,
        config: &Config,
        processes: &Processes,
        journal: &Journal,
    ) {
        let id = launch.worker;
        self.expect(!self.spawned.contains(&id), || format!("P3: {id} is spawned twice"));
        self.spawned.insert(id);
        let durable = journal.rows.get(&id).is_some_and(|row| row.is_live());
        self.expect(durable, || format!("P2: {id} is spawned and not in the journal"));
        let (used, asked) = (processes.slots_in_use(), launch.spec.slots.get());
        let total = config.task_slots;
        self.expect(used + asked <= total, || format!("P1: {used} + {asked} slots of {total}"));
    }

    /// The agent says that a worker ended: to the controller, or to whoever listens.
    pub(super) fn sees_report(&mut self, report: &Report, proc: Option<&Proc>) {
        let id = report.worker;
        self.expect(!self.settled.contains(&id), || format!("P5: {id} is reported again"));
        let lost = report.exit == Exit::Lost && self.rebooted;
        let Some(proc) = proc else {
            // After a reboot nobody can tell a worker that ended from one that never ran.
            return self.expect(lost, || format!("P4: {id} is reported and never ran"));
        };
        let State::Gone(exit) = proc.state else {
            return self.expect(false, || format!("P4: {id} is reported and {:?}", proc.state));
        };
        self.expect(report.exit == exit || lost, || {
            format!("P4: {id} ended with {exit} and is reported with {}", report.exit)
        });
        let spec = &proc.launch.spec;
        let said = (&report.job, &report.pipeline, report.generation, report.dialect);
        let meant = (&spec.job, &spec.pipeline, spec.generation, spec.dialect);
        self.expect(said == meant, || format!("P4: {id} is reported as another: {report:?}"));
        let (said, meant) = (report.slots, spec.slots.get());
        self.expect(said == meant, || {
            format!("P4: {id} is reported with {said} slots, not {meant}")
        });
    }

    pub(super) fn sees_acknowledgement(&mut self, id: WorkerId) {
        self.acknowledged.insert(id);
    }

    /// The journal holds all that the agent was told.
    pub(super) fn sees_durable(&mut self) {
        self.settled.extend(&self.acknowledged);
    }

    pub(super) fn sees_release(&mut self, id: WorkerId, journal: &Journal) {
        let durable = journal.rows.get(&id).is_none_or(|row| row.end.is_some());
        self.expect(durable, || format!("P4: the exit status of {id} goes before it is durable"));
    }

    pub(super) fn sees_discard(&mut self, id: WorkerId, ran: bool) {
        let over = self.acknowledged.contains(&id) || !ran;
        self.expect(over, || format!("P4: {id} is forgotten and its end not acknowledged"));
    }

    pub(super) fn sees_reply(
        &mut self,
        ask: &Ask,
        reply: &Reply,
        processes: &Processes,
        journal: &Journal,
    ) {
        match (ask, reply) {
            (Ask::Start(_), Reply::Started(Ok(id))) => {
                self.expect(journal.rows.contains_key(id), || format!("P2: {id} has no row"));
                let ran = processes.get(*id).is_some();
                self.expect(ran || self.rebooted, || format!("{id} is named and never ran"));
            }
            (
                Ask::Stop { worker, .. },
                Reply::Stopped(StopStatus::Stopped { .. } | StopStatus::NotFound),
            ) => {
                let gone = processes.get(*worker).is_none_or(Proc::is_gone);
                self.expect(gone, || format!("{worker} is said to be gone: {reply:?}"));
            }
            (Ask::Start(_), Reply::Started(Err(_)))
            | (Ask::Stop { .. }, Reply::Stopped(StopStatus::Stopping | StopStatus::Failed))
            | (Ask::SetDraining(_), Reply::Draining(_))
            | (Ask::Alive(_), Reply::Alive(_))
            | (Ask::Shutdown(_), Reply::ShuttingDown) => {}
            (ask, reply) => self.expect(false, || format!("{ask:?} is answered {reply:?}")),
        }
    }

    /// The controller calls the slots of all these free from now on.
    pub(super) fn sees_forgetting(&mut self, all: impl Iterator<Item = WorkerId>) {
        self.forgotten.extend(all);
    }

    pub(super) fn sees_named(&mut self, id: WorkerId) {
        self.forgotten.remove(&id);
    }

    /// Whether a start of so many slots fits into the books of a controller that counts every worker
    /// but those that it has forgotten.
    pub(super) fn fits_books(&self, asked: u64, view: &View) -> bool {
        let counted = view.workers.iter().filter(|worker| worker.is_live());
        let counted = counted.filter(|worker| !self.forgotten.contains(&worker.id));
        let held: u64 = counted.map(|worker| worker.spec.slots.get()).sum();
        asked + held <= view.task_slots
    }

    pub(super) fn agent_lost(&mut self) {
        // An acknowledgement that was not durable by now will be asked for again.
        self.acknowledged = self.settled.clone();
    }
}
