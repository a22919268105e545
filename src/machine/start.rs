//! StartWorker: what is admitted, what is refused, and the way from admission to a running program.
//!
//! ```text
//!  asked ──▶ objection? no room? ──▶ refused
//!    │
//!    ├─ workers to be ended for it? ──▶ killed, waited for (room.rs) ───┐
//!    ▼                                                                  ▼
//!  admitted: recorded, Spawn ─┬▶ Spawned: recorded, answered      (or abandoned)
//!                             ├▶ SpawnFailed: forgotten, refused
//!                             └▶ neither, for too long: refused; killed once it runs
//! ```

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Machine,
    effect::{Effect, Launch},
    event::{Reply, SpawnError, Start, StartError, WrongMachine},
    record::Record,
    step::Step,
    timers::Timer,
    worker::{Process, Worker, WorkerSpec},
};
use crate::ids::{MachineId, RequestId, WorkerId};

/// A StartWorker that has passed every check but may still have to wait.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub(super) spec: Arc<WorkerSpec>,
    pub(super) env: BTreeMap<String, String>,
    /// Everyone who asked for this start: one, unless it was repeated under the same key.
    pub(super) callers: Vec<RequestId>,
}

impl Machine {
    pub(super) fn handle_start(&mut self, request: RequestId, start: Start, step: &mut Step) {
        if let Err(error) = self.check_machine(&start.machine) {
            return step.refuse_start(request, error.into());
        }
        let spec = Arc::new(WorkerSpec {
            name: start.name,
            job: start.job,
            pipeline: start.pipeline,
            generation: start.generation,
            slots: start.slots,
            dialect: start.dialect,
            key: start.key,
        });
        if self.join_repeat(request, &spec, step) {
            return;
        }
        let room = match self.objection(&spec).map_or_else(|| self.room_for(&spec), Err) {
            Ok(room) => room,
            Err(error) => return step.refuse_start(request, error),
        };
        let admission = Admission { spec, env: start.env, callers: vec![request] };
        self.clear_the_way(&admission.spec, room.retries, step);
        if room.ends.is_empty() {
            self.admit(admission, step);
        } else {
            self.wait_for_room(admission, room, step);
        }
    }

    /// Whether this machine is the one that was meant.
    pub(super) fn check_machine(&self, asked: &MachineId) -> Result<(), WrongMachine> {
        if *asked == self.config.machine {
            return Ok(());
        }
        Err(WrongMachine {
            asked: asked.as_str().into(),
            this: self.config.machine.as_str().into(),
        })
    }

    /// Answers a repeat with what the first attempt got, or lets it wait along.
    fn join_repeat(&mut self, request: RequestId, spec: &Arc<WorkerSpec>, step: &mut Step) -> bool {
        let Some(key) = &spec.key else { return false };
        let waiting = self
            .waiting
            .iter_mut()
            .map(|start| &mut start.admission)
            .find(|admission| admission.spec.key.as_ref() == Some(key));
        if let Some(admission) = waiting {
            match key_reused(&admission.spec, spec) {
                Some(error) => step.refuse_start(request, error),
                None => admission.callers.push(request),
            }
            return true;
        }
        let Some(worker) = self.roster.by_key(key) else { return false };
        let (id, unborn) = (worker.id, worker.is_live() && worker.process.is_none());
        if let Some(error) = key_reused(&worker.spec, spec) {
            step.refuse_start(request, error);
        } else if unborn {
            // Being spawned; or, after a restart, it is being found out whether it ever was.
            self.wait_for_spawn(id, vec![request], step);
        } else {
            self.answer_started(request, id, step);
        }
        true
    }

    fn objection(&self, spec: &WorkerSpec) -> Option<StartError> {
        if self.is_shutting_down() {
            return Some(StartError::ShuttingDown);
        }
        if self.draining {
            return Some(StartError::Draining);
        }
        if let Some(down) = self.journal.down() {
            return Some(down.into());
        }
        self.stale_generation(spec)
    }

    /// Gives the worker its name and its slots, and has it spawned.
    pub(super) fn admit(&mut self, admission: Admission, step: &mut Step) {
        if let Some(down) = self.journal.down() {
            // It failed while the start waited for room.
            for request in admission.callers {
                step.refuse_start(request, down.clone().into());
            }
            return;
        }
        let id = self.new_worker_id();
        let worker = Arc::new(Worker {
            id,
            spec: admission.spec.clone(),
            admitted_at: step.now.wall,
            process: None,
            stop: None,
            abandoned_at: None,
            end: None,
            reported_at: None,
        });
        self.roster.insert(worker.clone());
        self.record(Record::Worker(worker), step);
        self.wait_for_spawn(id, admission.callers, step);
        step.effect(Effect::Spawn(Launch {
            worker: id,
            spec: admission.spec,
            admitted_at: step.now.wall,
            env: admission.env,
        }));
    }

    /// Has these wait along for the program to run, for a bounded time.
    fn wait_for_spawn(&mut self, id: WorkerId, callers: Vec<RequestId>, step: &Step) {
        self.launching.entry(id).or_default().extend(callers);
        self.timers.set_earlier(Timer::AbandonSpawn(id), step.now.mono + self.config.spawn_wait);
    }

    fn new_worker_id(&mut self) -> WorkerId {
        loop {
            let id = self.dice.worker_id();
            if self.roster.get(id).is_none() {
                return id;
            }
        }
    }

    pub(super) fn handle_spawned(&mut self, id: WorkerId, process: Process, step: &mut Step) {
        let fresh = self.roster.get(id).is_some_and(|w| w.is_live() && w.process.is_none());
        if !fresh {
            return;
        }
        self.amend(id, step, |worker| worker.process = Some(process));
        self.answer_callers(id, step);
        self.resume_stop(id, step);
    }

    pub(super) fn answer_callers(&mut self, id: WorkerId, step: &mut Step) {
        for request in self.no_longer_launching(id) {
            self.answer_started(request, id, step);
        }
    }

    /// Who waits for this start, from now on for nothing.
    fn no_longer_launching(&mut self, id: WorkerId) -> Vec<RequestId> {
        self.timers.cancel(Timer::AbandonSpawn(id));
        self.launching.remove(&id).unwrap_or_default()
    }

    /// Whoever is to run the program hangs, or the program's disk does. The caller may hold a lock that
    /// others wait for; and nobody will know the worker, should it run after all.
    pub(super) fn abandon_spawn(&mut self, id: WorkerId, step: &mut Step) {
        let callers = self.launching.get_mut(&id).map(std::mem::take).unwrap_or_default();
        for request in callers {
            let wait = self.config.spawn_wait;
            step.refuse_start(request, StartError::NotRunning { wait });
        }
        self.begin_stop(id, Some(step.now.mono), step);
    }

    fn answer_started(&mut self, request: RequestId, id: WorkerId, step: &mut Step) {
        self.undelivered.insert(request, id);
        step.reply(request, Reply::Started(Ok(id)));
    }

    pub(super) fn handle_spawn_failed(&mut self, id: WorkerId, error: SpawnError, step: &mut Step) {
        self.undo_start(id, error.into(), step);
    }

    /// Nothing of the worker exists: it is as if it had never been admitted.
    pub(super) fn undo_start(&mut self, id: WorkerId, error: StartError, step: &mut Step) {
        if self.launching.contains_key(&id) {
            self.drop_unborn(id, error, step);
        }
    }

    /// Removes a worker that never had a process.
    pub(super) fn drop_unborn(&mut self, id: WorkerId, error: StartError, step: &mut Step) {
        for request in self.no_longer_launching(id) {
            step.refuse_start(request, error.clone());
        }
        self.settle_stop(id);
        self.forget(id, step);
        self.answer_stops(id, step);
        self.admit_waiting(step);
        self.register_when_possible(step);
        self.shorten_shutdown(step);
    }
}

fn key_reused(first: &WorkerSpec, repeat: &WorkerSpec) -> Option<StartError> {
    let key = first.key.clone()?;
    (first != repeat).then(|| StartError::KeyReused { key, job: first.job.clone() })
}
