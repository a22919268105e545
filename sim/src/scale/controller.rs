//! The controller's computer: the real books behind one lock, which each call holds for a moment,
//! first come, first served. A call whose caller has gone by the time its turn comes costs nothing.
//!
//! What it asks of nodes is in [`calls`].

mod calls;

use std::{collections::BTreeMap, time::Duration};

use arroyo_node::{
    controller::{Books, FinishedReport, Violation},
    ids::{MachineId, RequestId},
    machine::{CallError, Mono, Report},
};

use super::{
    link::{Arrival, Request},
    settings::Settings,
    tally::Kind,
    world::World,
};
pub(super) use calls::{Again, ToldBack};
use calls::{Asked, Job};

/// Which controller process, counted from one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Life(u32);

/// A controller that may be restarted, and what survives that: the jobs that are to run.
pub(super) struct Controller {
    life: Life,
    up: bool,
    killed_at: Mono,
    books: Books,
    /// When the lock is free, as far as is known.
    free_at: Mono,
    service: Duration,
    jobs: Vec<Job>,
    asked: BTreeMap<RequestId, Asked>,
    last_request: u64,
    /// What nodes did and must never do, in the books of this controller and of earlier ones.
    violations: Vec<Violation>,
}

/// What a call comes to.
pub(super) struct Verdict {
    pub(super) result: Result<(), CallError>,
    /// When the answer sets out.
    pub(super) leaves: Mono,
}

impl Controller {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            life: Life(1),
            up: true,
            killed_at: Mono::default(),
            books: Books::default(),
            free_at: Mono::default(),
            service: settings.service,
            jobs: calls::jobs(settings),
            asked: BTreeMap::new(),
            last_request: 0,
            violations: Vec::new(),
        }
    }

    /// The controller that takes connections now, if one does.
    pub(super) fn accepts(&self) -> Option<Life> {
        self.up.then_some(self.life)
    }

    /// The process is killed; its memory is gone.
    pub(super) fn kill(&mut self, now: Mono) {
        self.up = false;
        self.killed_at = now;
        self.violations.extend(std::mem::take(&mut self.books).snapshot().violations);
        self.asked.clear();
        self.jobs.iter_mut().for_each(Job::halt);
    }

    /// Another process is there, with nothing in its books.
    pub(super) fn rise(&mut self, now: Mono) {
        self.life = Life(self.life.0 + 1);
        self.up = true;
        self.free_at = now;
    }

    /// Whether an answer that set out at this time did so before its controller was killed.
    pub(super) fn has_answered(&self, life: Life, at: Mono) -> bool {
        self.accepts() == Some(life) || at <= self.killed_at
    }

    pub(super) fn books(&self) -> &Books {
        &self.books
    }

    /// What nodes did and must never do.
    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut all = self.violations.clone();
        all.extend(self.books.snapshot().violations);
        all
    }

    /// A call gets in line for the lock. `None`: its caller will have gone when its turn comes.
    pub(super) fn receive(&mut self, arrival: &Arrival, world: &mut World) -> Option<Verdict> {
        let turn = self.free_at.max(world.now);
        world.tally.count(world.now, kind(&arrival.request));
        let queued = turn.since(world.now).min(arrival.deadline.since(world.now));
        world.tally.longest_queue = world.tally.longest_queue.max(queued);
        if turn > arrival.deadline {
            return None;
        }
        self.free_at = turn + self.service;
        let machine = super::node::machine_id(arrival.node);
        let result = self.answer(turn, machine, &arrival.request, world);
        self.books.take_events();
        Some(Verdict { result, leaves: self.free_at })
    }

    fn answer(
        &mut self,
        now: Mono,
        machine: MachineId,
        request: &Request,
        world: &mut World,
    ) -> Result<(), CallError> {
        match request {
            Request::Register(offer) => {
                self.books.register(now, machine, offer.task_slots, offer.address.clone());
                Ok(())
            }
            Request::Heartbeat(_) if self.books.heartbeat(now, machine) => Ok(()),
            Request::Heartbeat(_) => Err(CallError::NotFound),
            Request::Report(report) => {
                self.books
                    .finished(finished(report))
                    .map_err(|wrong| CallError::Failed(wrong.to_string().into()))?;
                world.ledger.told(report.worker);
                Ok(())
            }
        }
    }
}

fn kind(request: &Request) -> Kind {
    match request {
        Request::Register(_) => Kind::Register,
        Request::Heartbeat(_) => Kind::Heartbeat,
        Request::Report(_) => Kind::Report,
    }
}

/// What is left of a report once it has gone over the wire.
fn finished(report: &Report) -> FinishedReport {
    FinishedReport {
        worker: report.worker,
        node: report.machine.clone(),
        job: report.job.clone(),
        generation: report.generation,
        pipeline: report.pipeline.clone(),
        slots: report.slots,
        ended_at: Some(report.ended_at),
        dialect: report.dialect,
    }
}
