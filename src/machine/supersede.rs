//! Generations: a newer one of a job ends the older ones here, and an older one is not let in.
//!
//! A controller that restarted knows no worker; it schedules its jobs anew, one generation up, while
//! the workers of before still hold their slots. They are killed to make room. The start that
//! supersedes them waits for their end, for a bounded time, and their slots are promised to it.

use std::collections::BTreeSet;

use super::{
    Machine,
    event::StartError,
    roster::Roster,
    start::Admission,
    step::Step,
    timers::Timer,
    worker::{Worker, WorkerSpec},
};
use crate::ids::{RequestId, WorkerId};

/// A start that waits for the workers it supersedes.
#[derive(Clone, Debug)]
pub(super) struct WaitingStart {
    pub(super) admission: Admission,
    /// The workers whose slots this start will use. Each is promised to one start only.
    pub(super) takes: BTreeSet<WorkerId>,
}

impl WaitingStart {
    /// The first caller: its name for timers.
    pub(super) fn request(&self) -> RequestId {
        self.admission.callers[0]
    }

    /// The slots that it needs beyond those that its superseded workers still hold.
    pub(super) fn promised_slots(&self, roster: &Roster) -> u64 {
        let held = self.takes.iter().filter_map(|id| roster.get(*id)).filter(|w| w.is_live());
        let held = held.map(|worker| worker.spec.slots.get()).fold(0, u64::saturating_add);
        self.admission.spec.slots.get().saturating_sub(held)
    }
}

impl Machine {
    /// The live workers of the same job and a lower generation.
    pub(super) fn live_older_than(&self, spec: &WorkerSpec) -> impl Iterator<Item = &Worker> {
        self.roster.live_before(&spec.job, spec.generation).map(AsRef::as_ref)
    }

    /// Those of them whose slots are not promised to an earlier start.
    fn reclaimable(&self, spec: &WorkerSpec) -> impl Iterator<Item = &Worker> {
        self.live_older_than(spec).filter(|worker| {
            // What is promised to a start that this one supersedes becomes free with it.
            let holder = self.waiting.iter().find(|start| start.takes.contains(&worker.id));
            holder.is_none_or(|start| start.admission.spec.generation < spec.generation)
        })
    }

    /// The slots that superseding would set free for this start.
    pub(super) fn reclaimable_slots(&self, spec: &WorkerSpec) -> u64 {
        let held = self.reclaimable(spec).map(|worker| worker.spec.slots.get());
        let promised = self
            .waiting
            .iter()
            .filter(|start| is_older(&start.admission.spec, spec))
            .map(|start| start.promised_slots(&self.roster));
        held.chain(promised).fold(0, u64::saturating_add)
    }

    pub(super) fn stale_generation(&self, spec: &WorkerSpec) -> Option<StartError> {
        let live = self.roster.latest_generation(&spec.job).into_iter();
        let waiting = self.waiting.iter().map(|start| &start.admission.spec);
        let waiting = waiting.filter(|other| other.job == spec.job).map(|other| other.generation);
        let alive = live.chain(waiting).max()?;
        (alive > spec.generation).then(|| StartError::StaleGeneration {
            job: spec.job.clone(),
            asked: spec.generation,
            alive,
        })
    }

    /// Refuses the starts of lower generations that still wait.
    pub(super) fn abandon_older_starts(&mut self, spec: &WorkerSpec, step: &mut Step) {
        let (older, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|start| is_older(&start.admission.spec, spec));
        self.waiting = rest;
        let older: Vec<WaitingStart> = older;
        for start in older {
            let error = StartError::Superseded {
                job: spec.job.clone(),
                asked: start.admission.spec.generation,
                by: spec.generation,
            };
            self.refuse_waiting(start, &error, step);
        }
    }

    pub(super) fn refuse_all_waiting(&mut self, error: &StartError, step: &mut Step) {
        for start in std::mem::take(&mut self.waiting) {
            self.refuse_waiting(start, error, step);
        }
    }

    fn refuse_waiting(&mut self, start: WaitingStart, error: &StartError, step: &mut Step) {
        self.timers.cancel(Timer::AbandonStart(start.request()));
        for request in start.admission.callers {
            step.refuse_start(request, error.clone());
        }
    }

    /// Kills the older generations and lets the start wait for their end.
    pub(super) fn supersede(&mut self, admission: Admission, step: &mut Step) {
        let takes: BTreeSet<_> = self.reclaimable(&admission.spec).map(|w| w.id).collect();
        let older: Vec<_> = self.live_older_than(&admission.spec).map(|w| w.id).collect();
        let start = WaitingStart { admission, takes };
        let deadline = step.now.mono + self.config.supersede_wait;
        self.timers.set(Timer::AbandonStart(start.request()), deadline);
        self.waiting.push(start);
        for id in older {
            self.begin_stop(id, Some(step.now.mono), step);
        }
    }

    /// Admits every waiting start whose older generations are gone, in order of arrival.
    pub(super) fn admit_waiting(&mut self, step: &mut Step) {
        let mut index = 0;
        while let Some(start) = self.waiting.get(index) {
            if self.live_older_than(&start.admission.spec).next().is_some() {
                index += 1;
                continue;
            }
            let start = self.waiting.remove(index);
            self.timers.cancel(Timer::AbandonStart(start.request()));
            self.admit(start.admission, step);
        }
    }

    pub(super) fn abandon_start(&mut self, request: RequestId, step: &mut Step) {
        let Some(index) = self.waiting.iter().position(|start| start.request() == request) else {
            return;
        };
        let start = self.waiting.remove(index);
        let spec = &start.admission.spec;
        let left = self.live_older_than(spec).count();
        let error = StartError::SupersededStillAlive { job: spec.job.clone(), left };
        self.refuse_waiting(start, &error, step);
    }
}

fn is_older(one: &WorkerSpec, other: &WorkerSpec) -> bool {
    one.job == other.job && one.generation < other.generation
}
