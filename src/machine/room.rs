//! Room for a start: which workers are ended for it.
//!
//! | in this order | how many |
//! |---|---|
//! | older generations of its job | all, whether it lacks slots or not |
//! | the same generation of its job, if the start does not name its attempt: it is a retry | as needed |
//! | abandoned workers of any job, the oldest first | as needed |
//!
//! So what the controller's books call free can be had (P15). It is decided once, when the start
//! arrives. If all of that is not enough, the start is refused and nothing is ended. Otherwise the
//! workers are killed, their slots are promised to the start, and it waits for their end, for a
//! bounded time.

use std::collections::BTreeSet;

use super::{
    AbandonedPolicy, Machine,
    event::StartError,
    roster::Roster,
    start::Admission,
    step::Step,
    timers::Timer,
    worker::{Worker, WorkerSpec},
};
use crate::ids::{RequestId, WorkerId};

/// What is ended for a start.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// Every worker that the start waits for.
    pub(super) ends: BTreeSet<WorkerId>,
    /// Those of them whose slots it will use. Each is promised to one start only.
    pub(super) takes: BTreeSet<WorkerId>,
    /// Whether waiting starts of the same attempt make way for it.
    pub(super) retries: bool,
}

/// Whether a waiting start makes way for this one.
fn makes_way(start: &WaitingStart, spec: &WorkerSpec, retries: bool) -> bool {
    let waiting = &start.admission.spec;
    waiting.is_older_than(spec) || retries && spec.is_retry_of(waiting)
}

/// A start that waits for the workers that it ends.
#[derive(Clone, Debug)]
pub(super) struct WaitingStart {
    pub(super) admission: Admission,
    pub(super) room: Room,
}

impl WaitingStart {
    /// The first caller: its name for timers.
    pub(super) fn request(&self) -> RequestId {
        self.admission.callers[0]
    }

    /// The slots that it needs beyond those that the workers it takes still hold.
    pub(super) fn promised_slots(&self, roster: &Roster) -> u64 {
        let held = self.room.takes.iter().filter_map(|id| roster.get(*id));
        let held = held.filter(|worker| worker.is_live()).map(|worker| worker.spec.slots.get());
        self.admission.spec.slots.get().saturating_sub(held.fold(0, u64::saturating_add))
    }
}

impl Machine {
    /// Decides which workers are ended for a start, and which waiting starts make way for it.
    pub(super) fn room_for(&self, spec: &WorkerSpec) -> Result<Room, StartError> {
        let first = self.room_beside(spec, false);
        let retried = |start: &WaitingStart| spec.is_retry_of(&start.admission.spec);
        if first.is_ok() || !self.waiting.iter().any(retried) {
            return first;
        }
        // Whoever asks again has given up the first try, which still waits.
        self.room_beside(spec, true)
    }

    /// The same, with or without the waiting starts of which this one is a retry.
    fn room_beside(&self, spec: &WorkerSpec, retries: bool) -> Result<Room, StartError> {
        let older: BTreeSet<_> = self.live_older_than(spec).map(|worker| worker.id).collect();
        let is_promised = |id: WorkerId| {
            let holder = self.waiting.iter().find(|start| start.room.takes.contains(&id));
            holder.is_some_and(|start| !makes_way(start, spec, retries))
        };
        let mut takes: BTreeSet<_> = older.iter().copied().filter(|id| !is_promised(*id)).collect();
        let slots = |id: &WorkerId| self.roster.get(*id).map_or(0, |w| w.spec.slots.get());
        let held = takes.iter().map(slots).fold(0, u64::saturating_add);
        let ways = self.waiting.iter().filter(|start| makes_way(start, spec, retries));
        let promised = ways.map(|start| start.promised_slots(&self.roster));
        let mut freed = promised.fold(held, u64::saturating_add);

        let asked = spec.slots.get();
        let mut chosen = Vec::new();
        for worker in self.expendable(spec).into_iter().filter(|worker| !is_promised(worker.id)) {
            if asked <= self.free_slots_after(freed) {
                break;
            }
            freed = freed.saturating_add(worker.spec.slots.get());
            chosen.push(worker);
        }
        let (free, total) = (self.free_slots_after(freed), self.config.task_slots);
        if asked > free {
            return Err(StartError::NotEnoughSlots { asked, free, total });
        }
        // A later one may be large enough to spare an earlier one.
        for worker in chosen.iter().rev() {
            let without = freed.saturating_sub(worker.spec.slots.get());
            if asked <= self.free_slots_after(without) {
                freed = without;
            } else {
                takes.insert(worker.id);
            }
        }
        Ok(Room { ends: older.union(&takes).copied().collect(), takes, retries })
    }

    /// The workers that a start may end if it needs their slots, in the order in which it does.
    fn expendable(&self, spec: &WorkerSpec) -> Vec<&Worker> {
        // A stock controller starts one worker per node and attempt: another is a retry, and the
        // first counts for nothing in its books.
        let retried = self.roster.live_in(&spec.job, spec.generation);
        let retried =
            retried.filter(|worker| spec.is_retry_of(&worker.spec)).map(|worker| (0, worker));
        let abandoned = self.roster.abandoned().map(|worker| (1, worker));
        let abandoned = abandoned.filter(|_| self.config.abandoned != AbandonedPolicy::Keep);
        let mut all: Vec<(u8, &Worker)> = retried
            .chain(abandoned)
            .map(|(rank, worker)| (rank, worker.as_ref()))
            .filter(|(_, worker)| !worker.spec.is_older_than(spec))
            .collect();
        all.sort_by_key(|(rank, worker)| {
            // What is dying anyway costs nothing.
            (*rank, !self.is_dying(worker), worker.age())
        });
        let mut seen = BTreeSet::new();
        all.retain(|(_, worker)| seen.insert(worker.id));
        all.into_iter().map(|(_, worker)| worker).collect()
    }

    /// Ends the workers that make room, and lets the start wait for that.
    pub(super) fn wait_for_room(&mut self, admission: Admission, room: Room, step: &mut Step) {
        let ends = room.ends.clone();
        let start = WaitingStart { admission, room };
        let deadline = step.now.mono + self.config.supersede_wait;
        self.timers.set(Timer::AbandonStart(start.request()), deadline);
        self.waiting.push(start);
        for id in ends {
            self.begin_stop(id, Some(step.now.mono), step);
        }
    }

    /// Admits every waiting start for which there is room now, in order of arrival.
    pub(super) fn admit_waiting(&mut self, step: &mut Step) {
        let mut index = 0;
        while let Some(start) = self.waiting.get(index) {
            if self.waits_for(start) > 0 {
                index += 1;
                continue;
            }
            let start = self.waiting.remove(index);
            self.timers.cancel(Timer::AbandonStart(start.request()));
            self.admit(start.admission, step);
        }
    }

    /// How many of the workers that a start ends are still alive.
    pub(super) fn waits_for(&self, start: &WaitingStart) -> usize {
        let live = |id: &&WorkerId| self.roster.get(**id).is_some_and(|worker| worker.is_live());
        start.room.ends.iter().filter(live).count()
    }

    /// Refuses the waiting starts that make way for this one.
    pub(super) fn clear_the_way(&mut self, spec: &WorkerSpec, retries: bool, step: &mut Step) {
        let (gone, rest): (Vec<WaitingStart>, _) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|start| makes_way(start, spec, retries));
        self.waiting = rest;
        for start in gone {
            let (job, asked) = (spec.job.clone(), start.admission.spec.generation);
            let error = match asked == spec.generation {
                true => StartError::Retried { job, generation: asked },
                false => StartError::Superseded { job, asked, by: spec.generation },
            };
            self.refuse_waiting(start, &error, step);
        }
    }

    pub(super) fn abandon_start(&mut self, request: RequestId, step: &mut Step) {
        let Some(index) = self.waiting.iter().position(|start| start.request() == request) else {
            return;
        };
        let start = self.waiting.remove(index);
        let left = self.waits_for(&start);
        let error = StartError::RoomNotFree { job: start.admission.spec.job.clone(), left };
        self.refuse_waiting(start, &error, step);
    }

    pub(super) fn refuse_all_waiting(&mut self, error: &StartError, step: &mut Step) {
        for start in std::mem::take(&mut self.waiting) {
            self.refuse_waiting(start, error, step);
        }
    }

    pub(super) fn refuse_waiting(
        &mut self,
        start: WaitingStart,
        error: &StartError,
        step: &mut Step,
    ) {
        self.timers.cancel(Timer::AbandonStart(start.request()));
        for request in start.admission.callers {
            step.refuse_start(request, error.clone());
        }
    }
}
