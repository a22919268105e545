//! StartWorker: who is let in, who is refused with which words, who waits for whom.

use std::collections::BTreeMap;

use arroyo_node::{
    ids::{MachineId, RequestId, WorkerId},
    machine::{
        AbandonedPolicy, Launch, Mono, Process, Reply, Signal, Start, StartError, StartKey,
        WorkerSpec, WrongMachine,
    },
};

use super::{Reference, Worker, reports::Telling, take};

/// A start that waits for the workers that are ended for it.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    start: Admitted,
    /// Those workers.
    ends: Vec<WorkerId>,
    /// Those of them whose slots it will have. Nobody else is promised them.
    takes: Vec<WorkerId>,
    pub(super) until: Mono,
}

/// A start that nothing stands against.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    spec: WorkerSpec,
    env: BTreeMap<String, String>,
    callers: Vec<RequestId>,
}

impl Reference {
    pub(super) fn is_meant(&self, asked: &MachineId) -> Result<(), WrongMachine> {
        let this = &self.config.machine;
        let wrong = WrongMachine { asked: asked.to_string(), this: this.to_string() };
        if asked == this { Ok(()) } else { Err(wrong) }
    }

    pub(super) fn asked_to_start(&mut self, request: RequestId, start: &Start) {
        if let Err(wrong) = self.is_meant(&start.machine) {
            return self.refuse(request, wrong.into());
        }
        let spec = WorkerSpec {
            name: start.name.clone(),
            job: start.job.clone(),
            pipeline: start.pipeline.clone(),
            generation: start.generation,
            slots: start.slots,
            dialect: start.dialect,
            key: start.key.clone(),
        };
        if let Some(key) = &spec.key
            && self.repeats(request, key, &spec)
        {
            return;
        }
        let room = match self.objection(&spec) {
            Some(error) => Err(error),
            None => self.room_for(&spec),
        };
        let (takes, again) = match room {
            Ok(found) => found,
            Err(error) => return self.refuse(request, error),
        };
        self.refuse_waiting(|_, waiting| {
            let first = &waiting.start.spec;
            let (job, asked, by) = (spec.job.clone(), first.generation, spec.generation);
            if is_older(first, &spec) {
                return Some(StartError::Superseded { job, asked, by });
            }
            let retried = again && is_retry(&spec, first);
            retried.then_some(StartError::Retried { job, generation: by })
        });
        let mut ends: Vec<_> = self.older_than(&spec).map(|worker| worker.id).collect();
        ends.extend(takes.iter().filter(|id| !ends.contains(id)).copied().collect::<Vec<_>>());
        let start = Admitted { spec, env: start.env.clone(), callers: vec![request] };
        if ends.is_empty() {
            return self.owed.spawns.push(start);
        }
        let until = self.now.mono + self.config.supersede_wait;
        self.waiting.push(Waiting { start, ends: ends.clone(), takes, until });
        for id in ends {
            self.tell_to_end(id, Some(self.now.mono));
        }
    }

    /// Whether the caller's own name for this start is known: then it shares what the first got.
    fn repeats(&mut self, request: RequestId, key: &StartKey, spec: &WorkerSpec) -> bool {
        let waiting = self.waiting.iter_mut().map(|waiting| &mut waiting.start);
        let waiting = waiting.map(|start| (&start.spec, &mut start.callers, None));
        let workers = self.workers.iter_mut().map(|worker| {
            let started = worker.process.is_some() || worker.end.is_some();
            (&worker.spec, &mut worker.callers, started.then_some(worker.id))
        });
        let Some((first, callers, started)) =
            waiting.chain(workers).find(|(known, ..)| known.key.as_ref() == Some(key))
        else {
            return false;
        };
        match (first == spec, started) {
            (false, _) => {
                let (key, job) = (key.clone(), first.job.clone());
                self.refuse(request, StartError::KeyReused { key, job });
            }
            (true, Some(id)) => self.named(request, id),
            (true, None) => callers.push(request),
        }
        true
    }

    fn objection(&self, spec: &WorkerSpec) -> Option<StartError> {
        if self.closing.is_some() {
            return Some(StartError::ShuttingDown);
        }
        if self.draining {
            return Some(StartError::Draining);
        }
        if let Some(trouble) = &self.journal {
            return Some(trouble.reason.clone().into());
        }
        let live = self.workers.iter().filter(|worker| worker.is_live()).map(|worker| &worker.spec);
        let all = live.chain(self.waiting.iter().map(|waiting| &waiting.start.spec));
        let newest = all.filter(|other| other.job == spec.job).map(|other| other.generation).max();
        if let Some(alive) = newest.filter(|alive| *alive > spec.generation) {
            let (job, asked) = (spec.job.clone(), spec.generation);
            return Some(StartError::StaleGeneration { job, asked, alive });
        }
        None
    }

    /// The workers whose slots the start will have, and whether what waits of an earlier try of it
    /// goes for that: only if there is no room beside it.
    fn room_for(&self, spec: &WorkerSpec) -> Result<(Vec<WorkerId>, bool), StartError> {
        let beside = self.room_without(spec, &|other| is_older(other, spec));
        let tried = |other: &WorkerSpec| is_older(other, spec) || is_retry(spec, other);
        if beside.is_ok() || !self.waiting.iter().any(|it| is_retry(spec, &it.start.spec)) {
            return Ok((beside?, false));
        }
        Ok((self.room_without(spec, &tried)?, true))
    }

    /// The workers without any of which the start would lack slots, where these waiting starts make
    /// way: first older generations of its job, then as many as it needs of those that it may end.
    fn room_without(
        &self,
        spec: &WorkerSpec,
        makes_way: &dyn Fn(&WorkerSpec) -> bool,
    ) -> Result<Vec<WorkerId>, StartError> {
        let staying: Vec<_> =
            self.waiting.iter().filter(|waiting| !makes_way(&waiting.start.spec)).collect();
        let unpromised = |id: &WorkerId| !staying.iter().any(|start| start.takes.contains(id));
        let older: Vec<_> = self.older_than(spec).map(|it| it.id).filter(unpromised).collect();
        let others: Vec<_> = self.expendable(spec).into_iter().filter(unpromised).collect();
        let promised: u64 = staying.iter().map(|waiting| self.shortfall(waiting)).sum();
        let with = |chosen: &[WorkerId]| {
            let gone = [&older, chosen].concat();
            let others = self.workers.iter().filter(|w| w.is_live() && !gone.contains(&w.id));
            let held: u64 = others.map(|worker| worker.spec.slots.get()).sum();
            self.config.task_slots.saturating_sub(held + promised)
        };
        let (asked, total) = (spec.slots.get(), self.config.task_slots);
        let enough = (0..=others.len()).find(|count| with(&others[..*count]) >= asked);
        let Some(count) = enough else {
            return Err(StartError::NotEnoughSlots { asked, free: with(&others), total });
        };
        let mut chosen = others[..count].to_vec();
        for id in others[..count].iter().rev() {
            let without: Vec<_> = chosen.iter().copied().filter(|other| other != id).collect();
            if with(&without) >= asked {
                chosen = without;
            }
        }
        Ok([older, chosen].concat())
    }

    /// What may be ended for a start that lacks slots: what an earlier try of the same attempt
    /// left, then what no controller counts; of each first what is dying, then the oldest.
    fn expendable(&self, spec: &WorkerSpec) -> Vec<WorkerId> {
        let keeps = self.config.abandoned == AbandonedPolicy::Keep;
        let mut found: Vec<_> = self
            .workers
            .iter()
            .filter(|worker| worker.is_live() && !is_older(&worker.spec, spec))
            .filter_map(|worker| {
                let retried = is_retry(spec, &worker.spec);
                let abandoned = worker.abandoned_at.is_some() && !keeps;
                let rank = if retried { 0 } else { 1 };
                let lives = worker.signalled != Some(Signal::Kill);
                let age = worker.process.map_or(u64::MAX, |process| process.start_time);
                (retried || abandoned).then_some((rank, lives, age, worker.id))
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(.., id)| id).collect()
    }

    /// The slots that anybody can have now.
    pub(super) fn free(&self) -> u64 {
        let live = self.workers.iter().filter(|worker| worker.is_live());
        let held: u64 = live.map(|worker| worker.spec.slots.get()).sum();
        let promised: u64 = self.waiting.iter().map(|waiting| self.shortfall(waiting)).sum();
        self.config.task_slots.saturating_sub(held + promised)
    }

    /// What a waiting start needs beyond what the workers that it takes still hold.
    fn shortfall(&self, waiting: &Waiting) -> u64 {
        let taken = self.workers.iter().filter(|w| w.is_live() && waiting.takes.contains(&w.id));
        let held: u64 = taken.map(|worker| worker.spec.slots.get()).sum();
        waiting.start.spec.slots.get().saturating_sub(held)
    }

    fn older_than(&self, spec: &WorkerSpec) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| worker.is_live() && is_older(&worker.spec, spec))
    }

    /// How many of the workers that are ended for a start are still there.
    fn left(&self, waiting: &Waiting) -> usize {
        self.workers.iter().filter(|w| w.is_live() && waiting.ends.contains(&w.id)).count()
    }

    /// A start waits no longer than for the last of them.
    pub(super) fn admit_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            if self.left(&waiting) > 0 {
                self.waiting.push(waiting);
            } else if let Some(trouble) = &self.journal {
                let error = StartError::from(trouble.reason.clone());
                self.refuse_all(waiting.start.callers, &error);
            } else {
                self.owed.spawns.push(waiting.start);
            }
        }
    }

    pub(super) fn abandon_late_starts(&mut self) {
        self.refuse_waiting(|this, waiting| {
            let spec = &waiting.start.spec;
            let (job, left) = (spec.job.clone(), this.left(waiting));
            let late = waiting.until <= this.now.mono;
            late.then_some(StartError::RoomNotFree { job, left })
        });
    }

    /// Whoever waits for a program to run does so for a bounded time.
    pub(super) fn bound_waits_for_spawns(&mut self) {
        let latest = self.now.mono + self.config.spawn_wait;
        for worker in &mut self.workers {
            let waited_for = !worker.callers.is_empty();
            worker.answer_by = waited_for.then(|| worker.answer_by.unwrap_or(latest));
        }
    }

    /// Nobody will know the worker of a start that was refused for taking too long.
    pub(super) fn abandon_late_spawns(&mut self) {
        let now = self.now.mono;
        let late = self.workers.iter().filter(|w| w.answer_by.is_some_and(|at| at <= now));
        for id in late.map(|worker| worker.id).collect::<Vec<_>>() {
            if let Some(index) = self.position(id) {
                let callers = std::mem::take(&mut self.workers[index].callers);
                self.workers[index].answer_by = None;
                let wait = self.config.spawn_wait;
                self.refuse_all(callers, &StartError::NotRunning { wait });
            }
            self.tell_to_end(id, Some(now));
        }
    }

    /// Refuses the waiting starts for which there is a reason.
    pub(super) fn refuse_waiting(
        &mut self,
        reason: impl Fn(&Self, &Waiting) -> Option<StartError>,
    ) {
        for waiting in std::mem::take(&mut self.waiting) {
            match reason(self, &waiting) {
                Some(error) => self.refuse_all(waiting.start.callers, &error),
                None => self.waiting.push(waiting),
            }
        }
    }

    /// What was admitted is spawned, under a name that nobody had.
    pub(super) fn sees_spawn(&mut self, launch: &Launch) -> Result<(), String> {
        let mut found = None;
        take(&mut self.owed.spawns, |start| {
            let meant = start.spec == *launch.spec && start.env == launch.env;
            if meant {
                found = Some(start.clone());
            }
            meant
        });
        let Some(start) = found else {
            return Err(format!("{launch:?} is not owed, but: {:?}", self.owed));
        };
        if launch.worker == WorkerId(0) || self.position(launch.worker).is_some() {
            return Err(format!("P3: a worker cannot be named {}", launch.worker));
        }
        self.workers.push(Worker {
            id: launch.worker,
            spec: start.spec,
            process: None,
            found: true,
            callers: start.callers,
            answer_by: None,
            stop: None,
            abandoned_at: None,
            signalled: None,
            kill_again_at: Mono::default(),
            end: None,
            telling: Telling::Nothing,
        });
        self.bound_waits_for_spawns();
        Ok(())
    }

    /// The worker's program runs.
    pub(super) fn runs(&mut self, id: WorkerId, process: Process) {
        let Some(index) = self.position(id).filter(|index| self.workers[*index].is_live()) else {
            return;
        };
        let worker = &mut self.workers[index];
        (worker.process, worker.found) = (Some(process), true);
        self.answer_callers(index);
        self.press(index);
    }

    /// Nothing of the worker exists, or ever did: it is as if it had not been admitted.
    pub(super) fn never_started(&mut self, id: WorkerId, error: &StartError) {
        let Some(index) = self.position(id) else { return };
        let worker = self.workers.remove(index);
        self.refuse_all(worker.callers, error);
        self.owed.discards.push(id);
    }

    pub(super) fn answer_callers(&mut self, index: usize) {
        let id = self.workers[index].id;
        for request in std::mem::take(&mut self.workers[index].callers) {
            self.named(request, id);
        }
    }

    /// Whoever is given a worker's name hears of its end only afterwards.
    fn named(&mut self, request: RequestId, id: WorkerId) {
        self.undelivered.push((request, id));
        self.owed.replies.push((request, Reply::Started(Ok(id))));
    }

    fn refuse(&mut self, request: RequestId, error: StartError) {
        self.owed.replies.push((request, Reply::Started(Err(error))));
    }

    fn refuse_all(&mut self, callers: Vec<RequestId>, error: &StartError) {
        for request in callers {
            self.refuse(request, error.clone());
        }
    }
}

/// Whether a start is the same as an earlier one again: nobody says that it is another.
fn is_retry(again: &WorkerSpec, first: &WorkerSpec) -> bool {
    again.key.is_none() && (&again.job, again.generation) == (&first.job, first.generation)
}

fn is_older(one: &WorkerSpec, other: &WorkerSpec) -> bool {
    one.job == other.job && one.generation < other.generation
}
